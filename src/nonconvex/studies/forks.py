"""Runs that part from one another: branches of the same starts, each with its own order of data, in one cohort."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed
from nonconvex.models.stacked import Params, Stacked, select
from nonconvex.schedules import SCHEDULES, Schedule
from nonconvex.studies.training import PLAIN, Recipe, cohort, snapshots

OTHER_ORDER = 1 << 21  # added to a seed of data order; above every seed in use and every sibling of the grid


@dataclass(frozen=True)
class Branch:
    """A run per seed, each from the initialisation under its seed.

    `rate(step)` is the rate itself, `offset(step)` what is added to the seeds of data order: 0 is a parent's order,
    and at a fork it jumps.
    """

    name: str
    seeds: Sequence[int]
    bed: Bed
    rate: Schedule
    offset: Callable[[int], int]


@dataclass(frozen=True)
class Grown:
    """Branches after training: weights by number of steps and name, and whether each member stayed finite."""

    network: Stacked
    states: Mapping[int, Mapping[str, Params]]
    finished: Mapping[str, Tensor]  # name -> (E,) bool


def parting(at: int, number: int = 1) -> Callable[[int], int]:
    """The offset of a child that sees its parent's first `at` minibatches, then those of its order `number`."""
    return lambda step: number * OTHER_ORDER if step >= at else 0


def scheduled(name: str, peak: float, steps: int) -> Schedule:
    """The rate of a run of `steps` steps, and after them zero: the weights stay where they are."""
    schedule = SCHEDULES[name](steps)
    return lambda step: peak * schedule(step) if step < steps else 0.0


def stretched(name: str, peak: float, steps: int, at: int) -> Schedule:
    """The rate of a run that at step `at` has all its `steps` steps still before it.

    What is left of the schedule then takes them all; nothing jumps, and the optimizer keeps its memory.
    """
    schedule = scheduled(name, peak, steps)
    # eta(t) = schedule(k + (t - k)(T - k)/T) for k <= t < k + T
    return lambda step: schedule(step if step < at else at + (step - at) * (steps - at) / steps)


def grown(branches: Sequence[Branch], steps: int, wanted: Sequence[int]) -> Grown:
    """Train all branches in lockstep for `steps` steps and keep the weights at `wanted` ones and at the end.

    They share architecture, optimizer and batch size, those of the first one's bed.
    """
    seeds = [seed for branch in branches for seed in branch.seeds]
    rates = [branch.rate for branch in branches for _ in branch.seeds]
    order = lambda step: [seed + branch.offset(step) for branch in branches for seed in branch.seeds]  # noqa: E731
    network, params, made = cohort(branches[0].bed, Recipe(steps), seeds, [0.0] * len(seeds), order)
    table = train.rate_table([lambda _, rate=rate: rate for rate in rates], [1.0] * len(seeds), steps, PLAIN)
    made = replace(made, rates=table.to(made.rates), batch=partial(_batch, branches))
    kept = list(snapshots(made, params, [*wanted, steps]))
    finished = _by_branch(branches, {"": kept[-1].diverged < 0})
    return Grown(
        network,
        {state.step: _by_branch(branches, state.params) for state in kept},
        {name: value[""] for name, value in finished.items()},
    )


def _batch(branches: Sequence[Branch], order: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
    """Each branch's own minibatches, one after the other along the member axis."""
    parts, rest = [], list(order)
    for branch in branches:
        own, rest = rest[: len(branch.seeds)], rest[len(branch.seeds) :]
        parts.append(branch.bed.data.train.batch(own, step, branch.bed.training.batch_size))
    x, y = zip(*parts, strict=True)
    return torch.cat(x), torch.cat(y)


def _by_branch(branches: Sequence[Branch], values: Params) -> dict[str, Params]:
    parts, first = {}, 0
    for branch in branches:
        end = first + len(branch.seeds)
        parts[branch.name], first = select(values, slice(first, end)), end
    return parts
