"""Clipping at a threshold of every member's own, which keeps the norms of the gradients that it saw."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nonconvex.strategies.base import Strategy
from nonconvex.strategies.clipping import Clipping
from nonconvex.tensors import Params, member_norm


class Recorded(Strategy):
    """Clips member e at `thresholds[e]`, infinity being no clipping. What it keeps serves reading only: no memory."""

    def __init__(self, thresholds: Tensor):
        self.thresholds = thresholds
        self.clipping = Clipping(thresholds)  # a norm for every member, where Clipping asks for one for all
        self.norms: list[Tensor] = []

    def before_step(self, grads: Params, seeds: Sequence[int], step: int) -> Params:
        self.norms.append(member_norm(grads))
        return self.clipping.before_step(grads, seeds, step)

    def seen(self) -> Tensor:
        """(steps, E) norms before clipping."""
        return torch.stack(self.norms)

    def factors(self) -> Tensor:
        """(steps, E) what every gradient was multiplied by, min(1, c / |g|); 1 where that is no number."""
        return (self.thresholds / self.seen()).clamp(max=1.0).nan_to_num(nan=1.0)

    def medians(self) -> Tensor:
        """(E,) median norm; NaN where one was not finite."""
        return self.seen().quantile(0.5, dim=0)
