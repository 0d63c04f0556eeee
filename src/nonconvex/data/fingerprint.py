"""A digest of the examples behind a model, on which the pipeline makes training depend.

    python -m nonconvex.data.fingerprint MODEL DESTINATION --params FILE

A loader may be rewritten, moved or documented; training is out of date only when the digest changes. It
holds, for every split, the number and shape of the examples, the sha256 of all of them in order, and the sha256
of a few drawn batches, which also covers what happens to an example on the way into a batch. Data that cannot be
trained on are refused here, before anything is.
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
from nonconvex.data.splits import Dataset
from nonconvex.paths import replaced

SPLITS = ("train", "validation", "test")
SEEDS, STEPS, SIZE = (0, 1), (0, 1, 1000), 8  # of the drawn batches


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Digest of the examples behind a model.")
    parser.add_argument("model", help="whose data set it is, as in the settings' `train` section")
    parser.add_argument("destination", type=Path, help="JSON file to write")
    parser.add_argument("--params", required=True, help="settings of the profile")
    options = parser.parse_args(arguments)
    try:
        training = config.read(options.params).train
    except config.ConfigError as error:
        parser.error(str(error))
    if options.model not in training:
        parser.error(f"{options.params} trains no model {options.model}; it trains: {', '.join(training)}")
    bed = training[options.model]
    try:
        found = fingerprint(load_dataset(bed.dataset, bed.architecture.get("context")))
        with replaced(options.destination) as destination:
            destination.write_text(json.dumps(found, indent=1) + "\n")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """What training can see of a data set; equal exactly when that is. Raises ValueError for one not to be used."""
    splits = {name: _split(dataset, name) for name in SPLITS}
    return {"dataset": dataset.name, "classes": dataset.classes, **splits}


def refuse_damage(what: str, x: Tensor, y: Tensor, classes: int) -> None:
    """Raise ValueError unless x (N, *features) is finite everywhere and y (N, *positions) holds classes only."""
    bad = (~x.isfinite()).flatten(1).any(1).nonzero().flatten()
    if len(bad):
        raise ValueError(f"{what}: NaN or infinity found in {len(bad)} of {len(x)}, the first number {int(bad[0])}")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise ValueError(f"{what}: targets {low} to {high} found; allowed: 0 to {classes - 1}")


def _split(dataset: Dataset, name: str) -> dict[str, Any]:
    split = getattr(dataset, name)
    x, y = split.examples()
    refuse_damage(f"{dataset.name}, {name} examples", x, y, dataset.classes)
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
