"""Mode connectivity: pairs of trained networks, the paths between them, and the records of both.

A pair is one member of stacked parameters: `a` and `b` are two dictionaries whose member axis runs over pairs.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from nonconvex.config import ConnectivitySettings
from nonconvex.data.splits import Dataset
from nonconvex.measure.alignment import align
from nonconvex.measure.barriers import Loss, Profile, over_line, profile
from nonconvex.measure.curves import Path, linear, train_curve
from nonconvex.measure.permutation import Spec
from nonconvex.models.stacked import Params, Stacked
from nonconvex.records import Barrier, PathPoint

SPLITS, METRICS = ("train", "test"), ("loss", "error")


@dataclass(frozen=True)
class Pair:
    """Whose ends a path joins."""

    model: str
    strategy: str
    schedule: str
    seed_a: int
    seed_b: int

    @property
    def seed(self) -> int:
        """The seed of everything that is drawn for this pair, different from both of its ends'."""
        return int(np.random.SeedSequence((self.seed_a, self.seed_b)).generate_state(1)[0])


@dataclass(frozen=True)
class Problem:
    """What the pairs have in common: architecture and its symmetries, the loss it was trained on, the data."""

    network: Stacked
    spec: Spec
    loss: Loss
    data: Dataset
    settings: ConnectivitySettings


def straight(problem: Problem, a: Params, b: Params, seeds: Sequence[int]) -> Path:
    """The straight line."""
    return linear(a, b)


def aligned(problem: Problem, a: Params, b: Params, seeds: Sequence[int]) -> Path:
    """The straight line to `b` with its units renumbered."""
    return linear(a, align(a, b, problem.spec, torch.Generator().manual_seed(0)))


def curve(problem: Problem, a: Params, b: Params, seeds: Sequence[int]) -> Path:
    """The Bezier curve, trained on the training split with minibatch normalisation statistics."""
    s = problem.settings

    def losses(params: Params, step: int) -> Tensor:
        x, y = problem.data.train.batch(seeds, step, s.batch_size)
        return problem.loss(problem.network(params, x), y).mean(1)

    return train_curve(losses, a, b, seeds, s.curve_steps, s.curve_rate)


KINDS: dict[str, Callable[[Problem, Params, Params, Sequence[int]], Path]] = {
    "linear": straight,
    "aligned": aligned,
    "curve": curve,
    "siblings": straight,  # what sets siblings apart is their ends, two children of one checkpoint
}


@dataclass(frozen=True)
class Connection:
    """E paths of one kind and what was found along them."""

    kind: str
    pairs: tuple[Pair, ...]
    profile: Profile

    def barrier(self, split: str, metric: str) -> Tensor:
        """(E,) by `over_line`."""
        return over_line(getattr(self.profile, f"{split}_{metric}"), self.profile.t)

    def barriers(self) -> Iterator[Barrier]:
        """One record per pair, split and metric."""
        for split, metric in itertools.product(SPLITS, METRICS):
            for pair, height in zip(self.pairs, self.barrier(split, metric).tolist(), strict=True):
                yield Barrier(**asdict(pair), kind=self.kind, split=split, metric=metric, barrier=height)

    def points(self) -> Iterator[PathPoint]:
        """One record per pair and place."""
        columns = [f"{split}_{metric}" for split, metric in itertools.product(SPLITS, METRICS)]
        table = torch.stack([getattr(self.profile, column) for column in columns], dim=-1).tolist()
        for pair, rows in zip(self.pairs, table, strict=True):
            for t, values in zip(self.profile.t.tolist(), rows, strict=True):
                yield PathPoint(**asdict(pair), kind=self.kind, t=t, **dict(zip(columns, values, strict=True)))


def connect(problem: Problem, a: Params, b: Params, pairs: Sequence[Pair], kinds: Sequence[str]) -> list[Connection]:
    """Measure every pair, `a` (E, ...) to `b` (E, ...), along every kind of path (keys of KINDS)."""
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"unknown kinds of path: {', '.join(unknown)}; known: {', '.join(KINDS)}")
    s, seeds, connections = problem.settings, [pair.seed for pair in pairs], []
    train, test = problem.data.train.examples(s.train_examples), problem.data.test.examples(s.test_examples)
    for kind in kinds:
        path = KINDS[kind](problem, a, b, seeds)
        along = profile(problem.network, problem.loss, path, train, test, s.points, s.at_once)
        connections.append(Connection(kind, tuple(pairs), along))
    return connections
