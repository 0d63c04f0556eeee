"""Isotropic noise on a full-batch gradient, as long as a minibatch's own would be at the same weights."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from nonconvex.data.splits import Split
from nonconvex.strategies.base import Loss, Strategy, value_and_gradient
from nonconvex.tensors import Params, member_norm, per_member

DIRECTIONS = 13  # stream of random numbers


class MatchedNoise(Strategy):
    """g <- g + ‖g_B - g‖ ξ / ‖ξ‖, ξ ~ N(0, I): in expectation the trace of the minibatch gradient's covariance.

    g_B is the gradient at the same weights of the minibatch that plain training would see at that step. Costs B more
    examples a step. What it leaves out is the direction of minibatch noise, its alignment with curvature.
    """

    def __init__(self, split: Split, loss: Callable[[Params, Tensor, Tensor], Tensor], batch_size: int):
        self.split, self.loss, self.batch_size = split, loss, batch_size
        self.at: Params = {}  # weights of the step in progress; nothing is carried from step to step

    def gradients(self, params: Params, loss: Loss) -> tuple[Tensor, Params]:
        self.at = params
        return value_and_gradient(params, loss)

    def before_step(self, grads: Params, seeds: Sequence[int], step: int) -> Params:
        x, y = self.split.batch(seeds, step, self.batch_size)
        _, own = value_and_gradient(self.at, lambda params: self.loss(params, x, y))
        length = member_norm({name: own[name] - grad for name, grad in grads.items()})
        noise = isotropic(grads, seeds, step)
        scale = length / member_norm(noise)
        return {name: grad + per_member(scale, grad) * noise[name] for name, grad in grads.items()}


def isotropic(like: Params, seeds: Sequence[int], step: int) -> Params:
    """Standard normal numbers shaped like `like`, a pure function of each member's seed and the step."""
    sizes = [value[0].numel() for value in like.values()]
    drawn = torch.from_numpy(np.stack([_normal(seed, step, sum(sizes)) for seed in seeds]))
    parts = drawn.split(sizes, dim=1)
    return {name: part.view_as(value).to(value) for (name, value), part in zip(like.items(), parts, strict=True)}


def _normal(seed: int, step: int, count: int) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, DIRECTIONS]))
    return generator.standard_normal(count, dtype=np.float32)
