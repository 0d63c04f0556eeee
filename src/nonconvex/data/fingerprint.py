"""A digest of the examples behind a model, on which the pipeline makes training depend.

    python -m nonconvex.data.fingerprint MODEL DESTINATION --params FILE

A loader may be rewritten, moved or documented; training is out of date only when the digest changes. It
holds, for every split, the number and shape of the examples, the sha256 of all of them in order, and the sha256
of a few drawn batches, which also covers what happens to an example on the way into a batch.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from nonconvex import config
from nonconvex.data import load_dataset
from nonconvex.data.splits import Dataset, Split

SEEDS, STEPS, SIZE = (0, 1), (0, 1, 1000), 8  # of the drawn batches


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Digest of the examples behind a model.")
    parser.add_argument("model", help="whose data set it is, as in the settings' `train` section")
    parser.add_argument("destination", type=Path, help="JSON file to write")
    parser.add_argument("--params", required=True, help="settings of the profile")
    options = parser.parse_args(arguments)
    training = config.read(options.params).train
    if options.model not in training:
        parser.error(f"{options.params} trains no model {options.model}; it trains: {', '.join(training)}")
    bed = training[options.model]
    found = fingerprint(load_dataset(bed.dataset, bed.architecture.get("context")))
    options.destination.parent.mkdir(parents=True, exist_ok=True)
    options.destination.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """What training can see of a data set; equal exactly when that is."""
    splits = {name: _split(getattr(dataset, name)) for name in ("train", "validation", "test")}
    return {"dataset": dataset.name, "classes": dataset.classes, **splits}


def _split(split: Split) -> dict[str, Any]:
    x, y = split.examples()
    size = min(SIZE, len(split))
    batches = (tensor for step in STEPS for tensor in split.batch(SEEDS, step, size))
    return {
        "examples": len(split),
        "shape": list(x.shape[1:]),
        "examples_sha256": _sha256([x, y]),
        "batches_sha256": _sha256(batches),
    }


def _sha256(tensors: Iterable[Tensor]) -> str:
    """Digest of the tensors' types, shapes and little-endian bytes, one after the other."""
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.cpu().contiguous().numpy()
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{array.dtype.name}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
