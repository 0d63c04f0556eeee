"""Data sets and their splits; every training batch is a pure function of (seed, step).

Randomness is raw Philox output keyed by (seed, step), whose stream numpy guarantees from release to release,
unlike what its Generator makes of it. So a batch depends on nothing that happened before, nor on other runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[3] / "data"  # of the repository, wherever a notebook is opened
ORDER, OFFSETS, AUGMENTATION = 1, 2, 3  # streams: draws for different purposes never share numbers


class Split(Protocol):
    """Examples that can be drawn in stacked batches or read in a fixed order."""

    def __len__(self) -> int: ...

    def batch(self, seeds: Sequence[int], step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Training batches x (E, B, *features), y (E, B, *positions), one per seed."""

    def examples(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """A fixed, evenly spaced selection: x (N, *features), y (N, *positions)."""

    def to(self, device: str | torch.device) -> Self: ...


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits; rates are tuned on `validation`, and `test` is only reported."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int

    def to(self, device: str | torch.device) -> "Dataset":
        parts = {name: getattr(self, name).to(device) for name in ("train", "validation", "test")}
        return replace(self, **parts)


@dataclass(frozen=True)
class Arrays:
    """Examples x (N, *features) with targets y (N, *positions).

    An epoch is a permutation keyed by (seed, epoch), cut into N // batch_size batches; a ragged rest is
    dropped.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, seeds: Sequence[int], step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Batch number `step` of each seed. Raises ValueError for more examples than there are."""
        if not 0 < batch_size <= len(self):
            raise ValueError(f"batch_size is {batch_size}; allowed: 1 to {len(self)}, the number of examples")
        epoch, position = divmod(step, len(self) // batch_size)
        part = slice(position * batch_size, (position + 1) * batch_size)
        index = np.stack([permutation(len(self), seed, epoch)[part] for seed in seeds])
        index = torch.from_numpy(index).to(self.x.device, non_blocking=True)  # a GPU need not be waited for
        return self.x[index], self.y[index]

    def examples(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """All examples, or the first of each of `count` equal stretches; ValueError if there are fewer."""
        if count is None:
            return self.x, self.y
        index = spaced(count, len(self)).to(self.x.device)
        return self.x[index], self.y[index]

    def to(self, device: str | torch.device) -> Self:
        return replace(self, x=self.x.to(device), y=self.y.to(device))


@dataclass(frozen=True)
class Windows:
    """Stretches of T = `context` tokens from a text (N,), and the same one token later as their targets.

    Example i is tokens[i : i + T] -> tokens[i + 1 : i + T + 1], i < N - T. A batch draws i with replacement.
    """

    tokens: Tensor
    context: int

    def __post_init__(self):
        if not 0 < self.context < len(self.tokens):
            longest = len(self.tokens) - 1
            raise ValueError(f"context is {self.context}; allowed: 1 to {longest}, one less than the text")

    def __len__(self) -> int:
        return len(self.tokens) - self.context

    def batch(self, seeds: Sequence[int], step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """x and y (E, B, T); the offsets are keyed by (seed, step)."""
        count = np.uint64(len(self))
        offsets = np.stack([draws(batch_size, seed, step, OFFSETS) % count for seed in seeds])
        return self._at(torch.from_numpy(offsets.astype(np.int64)))

    def examples(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """x and y (N, T): `count` windows, or as many as cover the text without overlap."""
        if count is None:
            return self._at(torch.arange(0, len(self), self.context))
        return self._at(spaced(count, len(self)))

    def to(self, device: str | torch.device) -> Self:
        return replace(self, tokens=self.tokens.to(device))

    def _at(self, offsets: Tensor) -> tuple[Tensor, Tensor]:
        index = offsets[..., None] + torch.arange(self.context + 1)
        index = index.to(self.tokens.device, non_blocking=True)
        window = self.tokens[index].long()
        return window[..., :-1], window[..., 1:]


def draws(count: int, seed: int, step: int, stream: int) -> np.ndarray:
    """(count,) independent uniform 64-bit integers that depend on nothing but (seed, step, stream)."""
    return np.random.Philox(key=[seed, step], counter=[0, 0, 0, stream]).random_raw(count)


@lru_cache(maxsize=256)  # a cohort asks for the same permutations at every step of an epoch
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """(count,) a permutation of 0, ..., count - 1 keyed by (seed, epoch)."""
    order = draws(count, seed, epoch, ORDER).argsort(kind="stable")
    order.setflags(write=False)
    return order


def spaced(count: int, available: int) -> Tensor:
    """(count,) evenly spaced places among `available`, starting at 0."""
    if not 0 < count <= available:
        raise ValueError(f"{count} examples wanted; allowed: 1 to {available}, the number there is")
    return torch.arange(count) * available // count
