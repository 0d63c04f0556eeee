"""What a study reads off a cohort on its way: curvature, loss and error, and on how many updates the loss rose."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.measure.estimate import gaussian
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.stability import sharpness
from nonconvex.models.stacked import Stacked, flatten, members, unflatten
from nonconvex.optimizers import AdamW, Sgd
from nonconvex.studies.training import with_architecture, with_examples, with_loss
from nonconvex.study_settings.base import Lanczos
from nonconvex.tensors import Params

DIGITS = 4  # significant ones that a trajectory's records keep: what is read from them needs no more
FEWER = 2  # for a residual and a share of updates


@dataclass(frozen=True)
class Reading:
    """A cohort at one step; every tensor (E,), NaN where a member has no number (any more).

    `sharpness` is λ_max of the Hessian, preconditioned for Adam; `residual` that of its eigenpair, relative to it;
    `rises` the share of the updates since the last reading that raised the training loss.
    """

    step: int
    sharpness: Tensor
    residual: Tensor
    losses: Tensor
    errors: Tensor
    rises: Tensor

    def cells(self, member: int) -> dict[str, float | None]:
        """A member's numbers, rounded, by the names that records give them."""
        exact = {"sharpness": self.sharpness, "train_loss": self.losses, "train_error": self.errors}
        rough = {"residual": self.residual, "rises": self.rises}
        found = {name: rounded(values[member]) for name, values in exact.items()}
        return found | {name: rounded(values[member], FEWER) for name, values in rough.items()}


@dataclass(frozen=True)
class Probe:
    """How readings are taken: curvature on `examples` training examples, loss and error on `scored` of them."""

    bed: Bed
    network: Stacked
    optimizer: Sgd | AdamW
    lanczos: Lanczos
    examples: int | None = None  # None: all
    scored: int | None = None

    def read(self, state: train.State, rises: Tensor) -> Reading:
        """The reading at `state`; a frozen member's numbers are NaN."""
        data, params = self.bed.data.train, state.params
        statistics = recomputed(self.network, params, self.bed.statistics_inputs())
        objective = Objective(self.network, self.bed.loss, shared(*data.examples(self.examples)), statistics)
        found = sharpness(objective, self.optimizer, state, self.lanczos.iterations, self.lanczos.tolerance)
        scores = evaluate(self.network, params, statistics, data.examples(self.scored), self.bed.loss)
        values = (found.value, found.residual / found.value.abs(), *scores, rises)
        frozen = (state.diverged >= 0).cpu()
        return Reading(state.step, *(value.double().cpu().masked_fill(frozen, math.nan) for value in values))


def readings(
    probe: Probe, made: train.Cohort, begin: train.State, at: Sequence[int]
) -> Iterator[tuple[train.State, Reading]]:
    """States and their readings after the numbers `at` of updates, in order, from the state `begin` on."""
    wanted, last = set(at), None
    rises = updates = torch.zeros(len(begin.diverged))
    for state in itertools.chain([begin], train.train(made, begin, max(at))):
        if last is not None and state.step > begin.step:
            # `state.losses` is the loss that the update started from: one step behind `state.params`
            rises, updates = rises + (state.losses > last).cpu(), updates + 1
        last = state.losses if state.step > begin.step else None
        if state.step in wanted:
            yield state, probe.read(state, rises / updates)
            rises = updates = torch.zeros_like(rises)


def evenly(steps: int, count: int, start: int = 0) -> list[int]:
    """`count` steps from `start` to `start + steps`, both among them."""
    return sorted({start + round(i * steps / (count - 1)) for i in range(count)})


def smooth_bed(bed: Bed, loss: str, examples: int, widths: Sequence[int]) -> Bed:
    """A tanh network with PyTorch's own initial weights on few examples, under a loss: the bed of gradient descent.

    The initial weights are smaller than He's, so that the curvature starts far below where training takes it.
    """
    bed = with_architecture(bed, activation="tanh", gain=None, skip=False, widths=tuple(widths))
    return with_loss(with_examples(bed, examples), loss)


def jostled(params: Params, size: float, seed: int = 0) -> Params:
    """Every member's weights moved by `size` times their length, in one random direction."""
    flat = flatten(params)
    direction = gaussian(flat, seed, "jostle")
    # w + s ‖w‖ z / ‖z‖
    moved = flat + size * flat.norm(dim=1, keepdim=True) * direction / direction.norm(dim=1, keepdim=True)
    return unflatten(moved, params)


def pushed(params: Params, place: int, width: int, size: float) -> Params:
    """The members of the arm at `place` (arms of `width` members each) moved by `size` of their length."""
    part = slice(place * width, (place + 1) * width)
    moved = jostled({name: value[part] for name, value in params.items()}, size)
    return {name: torch.cat([value[: part.start], moved[name], value[part.stop :]]) for name, value in params.items()}


def repeated(params: Params, times: int) -> Params:
    """All members `times` over: member i + k E is member i again."""
    return {name: value.repeat(times, *[1] * (value.dim() - 1)) for name, value in params.items()}


def branched(state: train.State, times: int) -> train.State:
    """The state with all its members `times` over, before any memory of a strategy."""
    moments = {kind: repeated(part, times) for kind, part in state.optimizer.items()}
    once = (state.diverged.repeat(times), state.losses.repeat(times))
    return train.State(state.step, repeated(state.params, times), moments, {}, *once)


def initial_sharpness(bed: Bed, network: Stacked, params: Params, lanczos: Lanczos) -> Tensor:
    """λ_max (E,) of the Hessian at weights that no update has touched."""
    begin = train.State(0, params, {}, {}, torch.full((members(params),), -1), torch.zeros(members(params)))
    return Probe(bed, network, Sgd(), lanczos).read(begin, torch.zeros(members(params))).sharpness


def rounded(value: Tensor | float, digits: int = DIGITS) -> float | None:
    """A number with so many significant digits; None for one that is not finite."""
    number = float(value)
    return float(f"{number:.{digits}g}") if math.isfinite(number) else None
