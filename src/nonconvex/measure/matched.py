"""Weights where the training loss first meets a level: curvature compared there is not compared across losses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.measure.objective import Objective
from nonconvex.tensors import Params, per_member


@dataclass(frozen=True)
class Crossing:
    """The first state, among those looked at, whose loss was at most `level`; a member that never was has step -1.

    `params` then holds its initial weights and `losses` NaN.
    """

    level: float
    params: Params  # (E, *shape)
    steps: Tensor  # (E,) updates done
    losses: Tensor  # (E,)

    @property
    def reached(self) -> list[int]:
        return (self.steps >= 0).nonzero()[:, 0].tolist()

    def updated(self, state: train.State, losses: Tensor) -> "Crossing":
        """With the members that meet the level for the first time at `state`."""
        new = (losses <= self.level) & (self.steps < 0) & (state.diverged < 0)
        params = {n: torch.where(per_member(new, p).bool(), p, self.params[n]) for n, p in state.params.items()}
        steps = torch.where(new, state.step, self.steps)
        return replace(self, params=params, steps=steps, losses=torch.where(new, losses, self.losses))


def first_crossings(
    cohort: train.Cohort, params: Params, objective: Objective, levels: Sequence[float], stride: int
) -> tuple[train.State, list[Crossing]]:
    """Train from `params` to the end; the last state, and the crossing of every level.

    The objective's loss is looked at every `stride` updates, until every member has met every level.
    """
    state = begin = train.start(cohort, params)
    never = torch.full_like(begin.diverged, -1)
    crossings = [Crossing(level, params, never, torch.full_like(begin.losses, torch.nan)) for level in levels]
    for state in train.train(cohort, begin):
        if state.step % stride == 0 and any((crossing.steps < 0).any() for crossing in crossings):
            losses = objective.losses(state.params)
            crossings = [crossing.updated(state, losses) for crossing in crossings]
    return state, crossings
