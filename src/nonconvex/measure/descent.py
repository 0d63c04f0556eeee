"""Loss and gradient along the direction of steepest descent (after Santurkar et al. 2018).

Lengths are multiples of the norm of all parameters, so that networks of different size, or that differ in a common
factor which normalisation removes, take comparable steps; Santurkar et al. step by multiples of the learning rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nonconvex.measure.objective import Objective
from nonconvex.models.stacked import Params


@dataclass(frozen=True)
class Descent:
    """E members at T places: `lengths` (T,) in units of |θ|; `start` and both norms (E,); the rest (E, T)."""

    lengths: tuple[float, ...]
    start: Tensor  # L(θ)
    gradient_norm: Tensor  # |g|
    weight_norm: Tensor  # |θ|
    losses: Tensor  # L(θ')
    change: Tensor  # |g' - g| / |g|, zero for a linear loss
    cosine: Tensor  # of the angle between g' and g


def along_gradient(objective: Objective, params: Params, lengths: Sequence[float]) -> Descent:
    """Losses and gradients g' at θ' = θ - t |θ| g / |g| for every t of `lengths`."""
    centre = objective.flat(params)
    start, g = objective.losses_and_gradients(params)
    size, slope = centre.norm(dim=1), g.norm(dim=1)
    losses, changes, cosines = [], [], []
    for t in lengths:
        moved = centre - t * (size / slope)[:, None] * g
        loss, other = objective.losses_and_gradients(objective.at(params, moved))
        losses.append(loss)
        changes.append((other - g).norm(dim=1) / slope)
        cosines.append((other * g).sum(1) / (other.norm(dim=1) * slope))
    return Descent(tuple(lengths), start, slope, size, *(torch.stack(part, 1) for part in (losses, changes, cosines)))
