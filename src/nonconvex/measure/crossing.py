"""Weights where the training loss of a run is nearest to a level, around where it first meets it.

`measure.matched` takes the first state at or below the level. Under minibatch noise the loss falls in jumps, and that
state lies well below; the nearer of it and the state looked at before is on either side.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.measure.objective import Objective
from nonconvex.tensors import Params, per_member


@dataclass(frozen=True)
class Nearest:
    """Per member: weights, updates done (-1 where the level was not met; weights are then the last ones looked at)."""

    params: Params  # (E, *shape)
    losses: Tensor  # (E,)
    steps: Tensor  # (E,)
    met: Tensor  # (E,) bool


def nearest_crossing(
    cohort: train.Cohort, params: Params, objective: Objective, level: float, stride: int
) -> tuple[train.State, Nearest]:
    """Train from `params` to the end; the last state, and of every member the state nearest to the level.

    The objective's loss is looked at every `stride` updates, the start among them, until every member has met the
    level. Nearest in ratio, of the first state at or below the level and the one before.
    """
    state = begin = train.start(cohort, params)
    nothing = Nearest(
        params, torch.full_like(state.losses, torch.inf), state.diverged, torch.zeros_like(state.diverged) > 0
    )
    found = _updated(nothing, objective.losses(params), state, level)
    for state in train.train(cohort, begin):
        if state.step % stride == 0 and not found.met.all():
            found = _updated(found, objective.losses(state.params), state, level)
    return state, replace(found, steps=torch.where(found.met, found.steps, -1))


def _updated(found: Nearest, losses: Tensor, state: train.State, level: float) -> Nearest:
    """With this look: it replaces the one before unless the level was met already, or is met now and that is nearer."""
    distance = lambda values: (values / level).log().abs()  # noqa: E731
    below = losses <= level
    taken = ~found.met & (state.diverged < 0) & ~(below & (distance(found.losses) < distance(losses)))
    pick = lambda new, old: torch.where(per_member(taken, new).bool(), new, old)  # noqa: E731
    return Nearest(
        {name: pick(value, found.params[name]) for name, value in state.params.items()},
        torch.where(taken, losses, found.losses),
        torch.where(taken, state.step, found.steps),
        found.met | (below & (state.diverged < 0)),
    )
