"""One trunk with a decay branching off for every horizon, and runs that are planned for one horizon each.

A trunk warms up and stays at its peak; its warm-up and peak are made for one horizon, so that nothing in it depends on
another. What branches share with it is computed once, so that it is the same bit for bit, optimizer memory and all.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed
from nonconvex.models.stacked import Stacked, select
from nonconvex.schedules import (
    DECAYS,
    WARMUP,
    Factory,
    Schedule,
    constant,
    cosine,
    join,
    linear,
    ramp,
    warmup_cosine,
    warmup_steps,
    wsd,
)
from nonconvex.studies.forks import parting
from nonconvex.studies.training import PLAIN, Recipe, cohort, with_shuffled_labels
from nonconvex.studies.trajectories import branched
from nonconvex.study_settings.wsd import DECAY
from nonconvex.tensors import Params

SHAPES = ("cosine", "linear", "sqrt")  # of a decay; the first is the text's
ORDERS = {"own": 0, "other": 1}  # number of the order of data that a decay sees; 0 is the trunk's


def horizons(planned: int) -> dict[str, int]:
    """The horizon that the trunk is made for, half of it and twice of it, in steps."""
    return {"short": planned // 2, "middle": planned, "long": 2 * planned}


# Schedules


def risen(warm: int) -> Factory:
    """Linear warm-up over `warm` steps, then constant, however long."""
    return lambda total: join([ramp(warm), constant(total)], [warm])


def fork(horizon: int, decay: float) -> int:
    """T_d: the step at which a decay over the share `decay` of `horizon` begins, one before its end at the latest."""
    return min(round((1 - decay) * horizon), horizon - 1)


def decayed(warm: int, decay: float, shape: str) -> Factory:
    """A trunk's warm-up over `warm` steps, its constant rate, and a decay to zero over the run's last share `decay`."""

    def build(total: int) -> Schedule:
        start, fall = fork(total, decay), DECAYS[shape]
        # s(u), u = (t - T_d) / (T - T_d)
        return join([ramp(warm), constant(total), lambda step: fall(step / (total - start))], [warm, start])

    return build


def warmup_linear(total: int) -> Schedule:
    """Linear warm-up over the share WARMUP of the run, then a straight line to zero."""
    rise = warmup_steps(total, WARMUP)
    return join([ramp(rise), linear(total - rise)], [rise])


def restarted(planned: int) -> Factory:
    """Warm-up + cosine over `planned` steps, and from there a cosine from the peak over all that is left."""
    return lambda total: join([warmup_cosine(planned), cosine(total - planned)], [planned])


def own_schedule(arm: str, long_warmup: float) -> Factory:
    """The schedule of an arm that knows its horizon. KeyError for an unknown one."""
    known = {
        "wsd": wsd,
        "other_peak": wsd,
        "warmup_cosine": warmup_cosine,
        "warmup_linear": warmup_linear,
        "no_warmup": partial(wsd, warmup=0.0),
        "long_warmup": partial(wsd, warmup=long_warmup),
    }
    return known[arm]


# Runs


@dataclass(frozen=True)
class Plan:
    """A run per seed from the initial weights, kept after `reads` steps; its schedule was made for `planned` ones."""

    arm: str
    planned: int
    rate: float
    factory: Factory
    reads: tuple[int, ...]


@dataclass(frozen=True)
class Decay:
    """A branch: its horizon, the share of it over which the rate falls, along which shape, on which order of data."""

    horizon: int
    share: float
    shape: str
    order: str

    @property
    def fork(self) -> int:
        return fork(self.horizon, self.share)

    @property
    def textual(self) -> bool:
        """Whether it is the text's decay on the trunk's order of data."""
        return (self.share, self.shape, self.order) == (DECAY, SHAPES[0], "own")


@dataclass(frozen=True)
class Grown:
    """Runs of some plans: states after the steps that were asked for, and minibatch losses (steps, E) of every plan."""

    network: Stacked
    made: train.Cohort
    states: dict[tuple[int, int], train.State]  # (place of the plan, steps done) -> its members
    losses: list[Tensor]


def grow(bed: Bed, plans: Sequence[Plan], seeds: Sequence[int], steps: int, size: int, own_labels: bool) -> Grown:
    """Train all plans for `steps` steps in lockstep, the seeds of one after those of the other."""
    every, rates = [*seeds] * len(plans), [plan.rate for plan in plans for _ in seeds]
    schedules = [plan.factory for plan in plans for _ in seeds]
    network, params, made = cohort(bed, Recipe(steps, size), every, rates, schedules=schedules)
    if own_labels:
        made = replace(made, batch=labels_of_their_own(bed, seeds, size))
    parts = [slice(i * len(seeds), (i + 1) * len(seeds)) for i in range(len(plans))]
    states, losses = {}, []
    for state in train.train(made, train.start(made, params)):
        losses.append(state.losses)
        for i, plan in enumerate(plans):
            if state.step in plan.reads:
                states[i, state.step] = part_of(state, parts[i])
    kept = torch.stack(losses)
    return Grown(network, made, states, [kept[:, part] for part in parts])


def decays(
    trunk: train.State, made: train.Cohort, warm: int, peak: float, seeds: Sequence[int], branches: Sequence[Decay]
) -> tuple[train.State, Tensor]:
    """The end of branches that leave the trunk at one fork for one horizon, seeds within branches; losses (steps, E).

    `made` is the cohort that the trunk was trained in, whose loss and minibatches go on.
    """
    horizon = branches[0].horizon
    every = [seed for _ in branches for seed in seeds]
    offsets = [parting(trunk.step, ORDERS[branch.order]) for branch in branches]
    factories = [decayed(warm, branch.share, branch.shape) for branch in branches for _ in seeds]
    table = train.rate_table(factories, [peak] * len(every), horizon, PLAIN)
    order = lambda step: [seed + offset(step) for offset in offsets for seed in seeds]  # noqa: E731
    made, losses = replace(made, rates=table.to(made.rates), order=order), []
    for state in train.train(made, branched(trunk, len(branches))):
        end = state
        losses.append(state.losses)
    return end, torch.stack(losses)


def labels_of_their_own(bed: Bed, seeds: Iterable[int], size: int) -> Callable:
    """Minibatches whose labels are dealt out at random, anew for each seed."""
    splits = {seed: with_shuffled_labels(bed, seed).data.train for seed in seeds}

    def batch(order: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
        x, y = zip(*(splits[seed].batch([seed], step, size) for seed in order), strict=True)
        return torch.cat(x), torch.cat(y)

    return batch


def part_of(state: train.State, members: slice) -> train.State:
    """Some members of a state, before any memory of a strategy."""
    moments = {kind: select(part, members) for kind, part in state.optimizer.items()}
    params: Params = select(state.params, members)
    return train.State(state.step, params, moments, {}, state.diverged[members], state.losses[members])


def windows(losses: Tensor, size: int) -> Tensor:
    """Means (W, E) over stretches of `size` steps of losses (steps, E); the last may be shorter."""
    return torch.stack([part.mean(0) for part in losses.split(size)])
