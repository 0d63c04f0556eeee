"""MNIST-1D (Greydanus & Kobak 2024): ten digits as signals of 40 points, made by a published generator.

`python -m nonconvex.data.mnist1d data/mnist1d.npz` writes the file that the repository ships: upstream's
frozen draw (seed 42: 4,000 training examples and 1,000 for the published baselines) and two draws of our own
from the same generator, 2,000 examples for validation and 20,000 for the test, where 1,000 would be too few
to tell arms apart.
"""

import argparse
import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from nonconvex.data.splits import FOLDER, Arrays, Dataset
from nonconvex.paths import replaced

FILE = FOLDER / "mnist1d.npz"
SEED = 42  # of the frozen draw
ROUNDING = 1e-4  # how far another machine's generator may be off in float32, for values of order one
VALIDATION = {"seed": 43, "num_samples": 2_000, "train_split": 1.0}
TEST = {"seed": 44, "num_samples": 20_000, "train_split": 1.0}

# sha256 of the little-endian bytes; x is float32 (N, 40), y is int64 (N,). "train" and "frozen" are
# upstream's mnist1d_data.pkl rounded to float32; a generator on a machine with another libm may differ in a
# last bit
SHA256 = {
    "train_x": "d53506bddd12d3b72c7153b1ae7f34807724b1dd078a7273809bf9d0792319f6",
    "train_y": "d97dc7aecec8ad6b5d8f143ba3e9c4bd7e25c420d7dfc2eb990591cfc0ed3e15",
    "frozen_x": "30addc43827c82aafa5db8bc97cea63349ca687e87db2f201cc4f5415d9a4ebd",
    "frozen_y": "8de99be3ff9dab15ae0dc072c3d6ced7cf6b33d365888ce4a386fc944489452c",
    "validation_x": "8cdb3d76001734c597cbdd1ed47147267b148f7fd71eda58ef2e3f3f84d313e6",
    "validation_y": "675898089e1ac9a32037bfdc7f61e0c10d59196c28468228798aac86dd694d2e",
    "test_x": "5970a87265fc9cdf44695a1b9cfda2213e3a0964ec763aaf015771e9574f287d",
    "test_y": "337da473359a53ad0a43f33fea5e2c967513f5cb52974285f712b73f91a54041",
}


def load(path: str | Path = FILE) -> Dataset:
    """4,000 training, 2,000 validation and 20,000 test examples: x (N, 40) float32, y (N,) of ten classes.

    Raises FileNotFoundError, or ValueError naming the file, the array, the sha256 expected and the one found.
    """
    found = read(path)
    parts = {name: _split(found, name) for name in ("train", "validation", "test")}
    return Dataset("mnist1d", **parts, classes=10)


def frozen_test(path: str | Path = FILE) -> Arrays:
    """Upstream's own 1,000 test examples, which the published baselines are measured on."""
    return _split(read(path), "frozen")


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The verified arrays of the file, by the names in SHA256. Raises as `load` does."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} is missing; make it with: python -m nonconvex.data.mnist1d {path}")
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:  # numpy leaves a bad file open
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # numpy, zipfile and zlib each raise their own
        raise ValueError(f"{path}: not a readable npz file ({error})") from None
    verify(arrays, path)
    return arrays


def verify(arrays: dict[str, np.ndarray], path: str | Path) -> None:
    """Raise ValueError unless `arrays` are exactly the ones that SHA256 lists."""
    if set(arrays) != set(SHA256):
        raise ValueError(f"{path}: arrays {', '.join(SHA256)} expected, {', '.join(arrays) or 'none'} found")
    for name, expected in SHA256.items():
        found = hashlib.sha256(np.ascontiguousarray(arrays[name]).tobytes()).hexdigest()
        if found != expected:
            raise ValueError(f"{path}: array {name} has sha256 {found}, expected {expected}")


def generate() -> dict[str, np.ndarray]:
    """All arrays, drawn anew by the generator of the package mnist1d (about ten seconds)."""
    frozen, validation, test = _draw({"seed": SEED}), _draw(VALIDATION), _draw(TEST)
    parts = {
        "train": (frozen["x"], frozen["y"]),
        "frozen": (frozen["x_test"], frozen["y_test"]),
        "validation": (validation["x"], validation["y"]),
        "test": (test["x"], test["y"]),
    }
    arrays = {}
    for name, (x, y) in parts.items():
        arrays |= {f"{name}_x": x.astype("<f4"), f"{name}_y": y.astype("<i8")}
    return arrays


def write(path: str | Path) -> None:
    """Generate, verify and save; equal arrays give equal bytes.

    A machine whose mathematical library rounds differently generates other last bits. A verified file that is already
    there is then kept, as the reference that every result was computed from. Raises ValueError where there is none.
    """
    path, arrays = Path(path), generate()
    try:
        verify(arrays, path)
    except ValueError:
        kept = read(path) if path.exists() else {}
        if not kept or not all(np.allclose(arrays[name], kept[name], atol=ROUNDING) for name in SHA256):
            raise
        print(f"{path}: generated values differ here by rounding (up to {ROUNDING:g}); the shipped file is kept")
        return
    with replaced(path) as partial, partial.open("wb") as file:  # given a name, savez would add .npz to it
        np.savez(file, **{name: arrays[name] for name in SHA256})


def _split(arrays: dict[str, np.ndarray], name: str) -> Arrays:
    return Arrays(torch.from_numpy(arrays[f"{name}_x"]), torch.from_numpy(arrays[f"{name}_y"]))


def _draw(options: dict[str, float]) -> dict[str, np.ndarray]:
    try:
        from mnist1d.data import get_dataset_args, make_dataset  # takes a second, and only this needs it
    except ModuleNotFoundError:
        remedy = "install it with: python -m pip install mnist1d"
        raise FileNotFoundError(f"generating MNIST-1D needs the package mnist1d; {remedy}") from None
    arguments = get_dataset_args()
    vars(arguments).update(options)
    with _global_randomness_kept():
        return make_dataset(arguments)


@contextmanager
def _global_randomness_kept() -> Iterator[None]:
    """The generator seeds the global state of numpy and random; put both back."""
    kept = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(kept[0])
        random.setstate(kept[1])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nonconvex.data.mnist1d", description="Write the data set.")
    parser.add_argument("path", nargs="?", default=FILE, help="where to (default: %(default)s)")
    try:
        write(parser.parse_args(arguments).path)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
