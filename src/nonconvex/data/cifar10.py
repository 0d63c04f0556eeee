"""CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32 x 32 pixels in ten classes.

The binary archive is read in memory, by the exact names of its six members: nothing is unpacked to disk and
no pickle is ever loaded. Where data/downloads/ holds a JPEG re-encoding instead of the archive, that is read,
and every record says so in the name of the data set.
"""

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nonconvex.data.download import fetch, verify
from nonconvex.data.splits import AUGMENTATION, FOLDER, Arrays, Dataset, draws

DOWNLOADS = FOLDER / "downloads"
ARCHIVE, JPEG = "cifar-10-binary.tar.gz", "cifar10-jpeg.npz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # as printed on the data set's page, cs.toronto.edu/~kriz/cifar.html
JPEG_SHA256 = "232989bb084af450283d74e3a062bc2ad986ace65b8dc4bfb5e9a0a6151621a6"
MEMBERS = {
    "train": [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)],
    "test": ["cifar-10-batches-bin/test_batch.bin"],
}
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the planes red, green, blue
VALIDATION = 5_000  # the last training images
PADDING = 4  # pixels on each side, He et al. 2016, section 4.2

# mean and standard deviation of every channel over the 50,000 training images, for pixels in [0, 1]
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def load(folder: str | Path = DOWNLOADS) -> Dataset:
    """45,000 training, 5,000 validation and 10,000 test images: x (N, 3, 32, 32) float32, standardised; y
    (N,).

    The archive is downloaded to `folder` unless it or the JPEG re-encoding is there. Raises ValueError for a
    file that is not the one it should be, ConnectionError when the download fails.
    """
    archive, jpeg = Path(folder) / ARCHIVE, Path(folder) / JPEG
    if jpeg.exists() and not archive.exists():
        verify(jpeg, sha256=JPEG_SHA256)
        return dataset("cifar10 (JPEG q75)", *(from_jpeg(jpeg, name) for name in ("train", "test")))
    fetch(URL, archive, md5=MD5)
    return dataset("cifar10", *(from_archive(archive, name) for name in ("train", "test")))


def dataset(name: str, train: Arrays, test: Arrays, held_out: int = VALIDATION) -> Dataset:
    """The three splits; the last `held_out` training images validate, and only training is augmented."""
    cut = len(train) - held_out
    if cut <= 0:
        raise ValueError(f"{name}: {held_out} validation images wanted, only {len(train)} training images found")
    return Dataset(
        name,
        train=Images(train.x[:cut], train.y[:cut], augmented=True),
        validation=Images(train.x[cut:], train.y[cut:]),
        test=Images(test.x, test.y),
        classes=10,
    )


@dataclass(frozen=True)
class Images(Arrays):
    """Images kept as bytes x (N, 3, H, W), standardised when read; batches are augmented if `augmented`."""

    augmented: bool = False

    def batch(self, seeds: Sequence[int], step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        x, y = super().batch(seeds, step, batch_size)
        x = standardised(x)
        return (augment(x, seeds, step) if self.augmented else x), y

    def examples(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        x, y = super().examples(count)
        return standardised(x), y


def standardised(x: Tensor) -> Tensor:
    """Bytes (..., 3, H, W) as float32 with mean 0 and variance 1 in every channel of the training images."""
    mean, deviation = _moments(x.device)
    return (x / 255 - mean) / deviation


@lru_cache
def _moments(device: torch.device) -> tuple[Tensor, Tensor]:
    """Both (3, 1, 1), made once: making them anew would make a GPU wait at every batch."""
    mean, deviation = (torch.tensor(v, device=device).view(3, 1, 1) for v in (MEAN, DEVIATION))
    return mean, deviation


def augment(x: Tensor, seeds: Sequence[int], step: int) -> Tensor:
    """Shift each image of (E, B, 3, H, W) by up to 4 pixels and mirror half of them, keyed by (seed, step).

    The same as padding with 4 zeros, here the mean colour, cropping at random and flipping at random.
    """
    e, b, _, height, width = x.shape
    random = np.stack([draws(3 * b, seed, step, AUGMENTATION).reshape(3, b) for seed in seeds], axis=1)
    down, right = (torch.from_numpy((part % (2 * PADDING + 1)).astype(np.int64)) for part in random[:2])
    mirror = torch.from_numpy(random[2] % 2 == 1)[..., None]
    rows = down[..., None] + torch.arange(height)  # (E, B, H)
    columns = torch.where(mirror, torch.arange(width).flip(0), torch.arange(width)) + right[..., None]
    padded = F.pad(x, [PADDING] * 4).flatten(0, 1)
    rows, columns = (index.flatten(0, 1).to(x.device, non_blocking=True) for index in (rows, columns))
    image = torch.arange(e * b, device=x.device)[:, None, None]
    picked = padded[image, :, rows[:, :, None], columns[:, None, :]]  # (E * B, H, W, 3)
    return picked.movedim(-1, 1).reshape(x.shape)


def from_archive(path: str | Path, name: str) -> Arrays:
    """The images and labels of "train" or "test" as bytes. Raises ValueError naming archive and member."""
    parts = []
    with tarfile.open(path, "r:gz") as archive:
        for member in MEMBERS[name]:
            content = _content(archive, member, path)
            if not content or len(content) % RECORD:
                raise ValueError(f"{path}: {member} has {len(content)} bytes, not a multiple of {RECORD}")
            parts.append(np.frombuffer(content, np.uint8).reshape(-1, RECORD))
    records = np.concatenate(parts)
    return _arrays(records[:, 1:].reshape(-1, *SHAPE), records[:, 0], path)


def _content(archive: tarfile.TarFile, member: str, path: str | Path) -> bytes:
    try:
        file = archive.extractfile(member)
    except KeyError:
        file = None
    if file is None:  # absent, or a folder or device by that name
        raise ValueError(f"{path}: file {member} expected, not found")
    return file.read()


def from_jpeg(path: str | Path, name: str) -> Arrays:
    """The same from the JPEG re-encoding: the files of a split end to end, with their offsets and labels."""
    from PIL import Image  # only this needs it

    with np.load(path, allow_pickle=False) as file:
        content, offsets, labels = (file[f"{name}_{part}"] for part in ("jpeg", "offsets", "labels"))
    images = [
        np.asarray(Image.open(io.BytesIO(content[start:end].tobytes())).convert("RGB"))
        for start, end in pairwise(offsets)
    ]
    return _arrays(np.stack(images).transpose(0, 3, 1, 2), labels, path)


def _arrays(images: np.ndarray, labels: np.ndarray, path: str | Path) -> Arrays:
    if labels.max() > 9:
        raise ValueError(f"{path}: label {labels.max()} found; allowed: 0 to 9")
    return Arrays(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64)))
