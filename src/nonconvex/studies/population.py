"""Training draws from a population that is known to the last example: the uniform distribution over a finite pool.

The pool are all examples that the repository ships from the generator of MNIST-1D, with the first five digits against
the last five. Draws are independent, with replacement, so every theorem about i.i.d. samples holds for them exactly,
and the true risk is a mean over the pool.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nonconvex.beds import Bed
from nonconvex.data.splits import draws, permutation
from nonconvex.evaluation import shared
from nonconvex.models.stacked import Stacked, members
from nonconvex.tensors import Params

SAMPLE, LABELS = 8, 9  # streams of the draws, apart from those of the splits
FIRST_LAST = 5  # digits below it are one class
CHUNK = 1000


def pooled(bed: Bed) -> tuple[Bed, Tensor, Tensor]:
    """The bed with two classes, and the pool x (N, 40), y (N,)."""
    parts = [getattr(bed.data, split).examples() for split in ("train", "validation", "test")]
    x, y = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return replace(bed, data=replace(bed.data, classes=2)), x, (y >= FIRST_LAST).long()


@dataclass(frozen=True)
class Draws:
    """E training draws x (E, n, 40), y (E, n), minibatches keyed by each member's seed."""

    x: Tensor
    y: Tensor

    def part(self, start: int, stop: int | None = None) -> "Draws":
        return Draws(self.x[:, start:stop], self.y[:, start:stop])

    def batch(self, seeds: Sequence[int], step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """As `splits.Arrays.batch`, every member from its own draw."""
        count = self.y.shape[1]
        epoch, position = divmod(step, count // batch_size)
        part = slice(position * batch_size, (position + 1) * batch_size)
        index = torch.from_numpy(np.stack([permutation(count, seed, epoch)[part] for seed in seeds])).to(self.y.device)
        member = torch.arange(len(index), device=index.device)[:, None]
        return self.x[member, index], self.y[member, index]

    def examples(self, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` of every draw."""
        return self.x[:, :count], self.y[:, :count]


def drawn(x: Tensor, y: Tensor, keys: Sequence[tuple[int, int]], examples: int, shuffled: bool = False) -> Draws:
    """One draw for every key (seed, number); equal keys give equal draws. Shuffled labels are coin flips."""
    index = np.stack([draws(examples, *key, SAMPLE) % np.uint64(len(y)) for key in keys]).astype(np.int64)
    labels = y[index]
    if shuffled:
        coins = np.stack([draws(examples, *key, LABELS) % np.uint64(2) for key in keys]).astype(np.int64)
        labels = torch.from_numpy(coins).to(y.device)
    return Draws(x[index], labels)


@torch.no_grad()
def answers(network: Stacked, params: Params, x: Tensor) -> Tensor:
    """(E, N) classes that the networks give to inputs x (N, 40) that they share."""
    e = members(params)
    return torch.cat([network(params, shared(part, e)).argmax(-1) for part in x.split(CHUNK)], 1)


@torch.no_grad()
def losses_and_errors(network: Stacked, params: Params, data: Draws, loss) -> tuple[Tensor, Tensor]:
    """(E,) mean loss and (E,) error on every member's own draw."""
    logits = network(params, data.x)
    return loss(logits, data.y).mean(1), (logits.argmax(-1) != data.y).double().mean(1)
