"""A run up to where its rate begins to fall, and what goes on from that checkpoint: decay, and two that stay.

What the branches share is computed once, so that it is the same bit for bit, optimizer memory and all.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed
from nonconvex.models.stacked import Params, Stacked, select
from nonconvex.schedules import Factory, constant, warmed, warmup_steps, wsd
from nonconvex.studies.forks import parting
from nonconvex.studies.training import Recipe, cohort
from nonconvex.studies.trajectories import branched

ORDERS = {"decay": 0, "stay": 0, "other_order": 1}  # branch -> number of its order of data; 0 is the trunk's


@dataclass(frozen=True)
class Phases:
    """A run's length and the shares of it that are warm-up and decay; `warm`, `fork`, `end` count updates."""

    end: int  # T
    warmup: float
    decay: float

    @property
    def warm(self) -> int:
        """T_w."""
        return warmup_steps(self.end, self.warmup)

    @property
    def fork(self) -> int:
        """T_d."""
        return round((1 - self.decay) * self.end)

    @property
    def decaying(self) -> Factory:
        """The text's schedule: linear warm-up, constant, cosine decay to zero."""
        return partial(wsd, warmup=self.warmup, decay=self.decay)

    @property
    def staying(self) -> Factory:
        """The same without the decay."""
        return warmed(constant, self.warmup)


@dataclass(frozen=True)
class Runs:
    """Weights (E, ...) by number of updates, of the trunk and of every branch; the trunk's last are at the fork.

    `cold` are the weights after as many updates as the warm-up has, at the peak rate from the first of them on, and
    `cold_finished` the places of the seeds of which these stayed finite; `finished` those of which all else did.
    """

    network: Stacked
    seeds: Sequence[int]
    trunk: Mapping[int, Params]
    branches: Mapping[str, Mapping[int, Params]]
    cold: Params
    cold_finished: Sequence[int]
    finished: Sequence[int]


def grow(
    bed: Bed,
    phases: Phases,
    seeds: Sequence[int],
    rate: float,
    trunk: Collection[int],
    looks: Collection[int],
    branches: Sequence[str] = tuple(ORDERS),
) -> Runs:
    """Train a run per seed to the fork and all `branches` from there, and keep the weights at the given steps."""
    peaks, recipe = [rate] * len(seeds), Recipe(phases.end, schedule=phases.staying)
    network, params, made = cohort(bed, recipe, seeds, peaks)
    before = passed(made, train.start(made, params), {*trunk, 0, phases.warm, phases.fork})
    after = _branches(bed, phases, seeds, rate, before[phases.fork], {*looks, phases.end}, branches)
    _, params, made = cohort(bed, Recipe(phases.end), seeds, peaks)
    cold = passed(made, train.start(made, params), {phases.warm})[phases.warm]
    lost = torch.stack(after[phases.end].diverged.chunk(len(branches))).amax(0)
    return Runs(
        network,
        seeds,
        {step: state.params for step, state in before.items()},
        {
            name: {step: _part(state.params, i, len(seeds)) for step, state in after.items()}
            for i, name in enumerate(branches)
        },
        cold.params,
        *((steps < 0).nonzero()[:, 0].tolist() for steps in (cold.diverged, lost)),
    )


def _branches(
    bed: Bed,
    phases: Phases,
    seeds: Sequence[int],
    rate: float,
    fork: train.State,
    wanted: set[int],
    names: Sequence[str],
) -> dict[int, train.State]:
    """States of all branches of all seeds in one cohort: branch after branch, seeds within."""
    schedules = [phases.decaying if name == "decay" else phases.staying for name in names for _ in seeds]
    offsets = [parting(phases.fork, ORDERS[name]) for name in names]
    order = lambda step: [seed + offset(step) for offset in offsets for seed in seeds]  # noqa: E731
    every = [*seeds] * len(names)
    _, _, made = cohort(bed, Recipe(phases.end), every, [rate] * len(every), order, schedules)
    return passed(made, branched(fork, len(names)), wanted)


def passed(made: train.Cohort, begin: train.State, wanted: Collection[int]) -> dict[int, train.State]:
    """The states after the numbers `wanted` of updates, from `begin` on and no further than the last of them."""
    states = itertools.chain([begin], train.train(made, begin, max(wanted)))
    return {state.step: state for state in states if state.step in wanted}


def matched(stay: Tensor, decay: Tensor, other: Tensor) -> list[list[int]]:
    """Places along the looks (E, L) at which each member's branches have equal training losses, branch by branch.

    The level is the lowest loss that `stay` and `decay` both meet. `decay` is taken where it falls below it for good,
    the others where they are nearest to it.
    """
    levels = torch.maximum(stay.amin(1), decay.amin(1))
    pairs = list(zip(decay.tolist(), levels.tolist(), strict=True))
    return [
        nearest(stay, levels),
        [crossing(losses, level, near) for (losses, level), near in zip(pairs, nearest(decay, levels), strict=True)],
        nearest(other, levels),
    ]


def nearest(losses: Tensor, levels: Tensor) -> list[int]:
    """The place (E) along looks (E, L) of the loss nearest in ratio to each member's level."""
    return (losses / levels[:, None]).log().abs().argmin(1).tolist()


def crossing(losses: Sequence[float], level: float, otherwise: int) -> int:
    """Of the last loss above `level` and the one after it, the place of the nearer in ratio.

    `otherwise` where the last loss of all is above; 0 where none is.
    """
    above = max((i for i, loss in enumerate(losses) if loss > level), default=-1)
    if above == len(losses) - 1:
        return otherwise
    return min((max(above, 0), above + 1), key=lambda i: abs(math.log(losses[i] / level)))


def gathered(states: Mapping[int, Params], steps: Sequence[int]) -> Params:
    """The weights of every member after its own one of `steps` (E) updates."""
    chosen = [select(states[step], [e]) for e, step in enumerate(steps)]
    return {name: torch.cat([one[name] for one in chosen]) for name in chosen[0]}


def _part(params: Params, place: int, width: int) -> Params:
    return select(params, slice(place * width, (place + 1) * width))
