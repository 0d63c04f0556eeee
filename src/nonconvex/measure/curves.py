"""Paths in weight space: straight lines, and quadratic Bezier curves whose middle is trained to stay low.

Garipov et al. 2018 (Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs, section 3): the curve
phi(t) = (1 - t)^2 a + 2 t (1 - t) c + t^2 b keeps the endpoints a and b fixed and moves the control point c
to lower the expected loss at t ~ U(0, 1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from nonconvex.data.splits import draws
from nonconvex.models.stacked import Params, members, select
from nonconvex.optimizers import AdamW
from nonconvex.schedules import cosine
from nonconvex.tensors import per_member

GOLDEN = (5**0.5 - 1) / 2
PLACES = 7  # stream of random numbers, apart from those of the data


@dataclass(frozen=True)
class Path:
    """A Bezier curve of any degree through stacked parameters; its first and last points are its ends."""

    points: tuple[Params, ...]

    def __call__(self, t: Tensor) -> Params:
        """The stacked parameters at t (E,), each member at its own place."""
        level = self.points
        # de Casteljau: lerp neighbours until one is left; exact at both ends and where all points are equal
        while len(level) > 1:
            level = tuple(_lerp(p, q, t) for p, q in pairwise(level))
        return level[0]

    @property
    def members(self) -> int:
        """E, the number of paths."""
        return members(self.points[0])

    def select(self, index: Tensor | Sequence[int]) -> "Path":
        """The paths of the chosen members, in that order."""
        return Path(tuple(select(point, index) for point in self.points))


def linear(a: Params, b: Params) -> Path:
    """(1 - t) a + t b."""
    return Path((a, b))


def bezier(a: Params, control: Params, b: Params) -> Path:
    """(1 - t)^2 a + 2 t (1 - t) c + t^2 b."""
    return Path((a, control, b))


def middle(a: Params, b: Params) -> Params:
    """(a + b) / 2, the control point for which the Bezier curve is the straight line."""
    return {name: torch.lerp(a[name], b[name], 0.5) for name in a}


def train_curve(
    losses: Callable[[Params, int], Tensor], a: Params, b: Params, seeds: Sequence[int], steps: int, rate: float
) -> Path:
    """The Bezier curve from `a` to `b` after `steps` Adam updates of its control point, begun in the middle.

    `losses(params, step)` gives the (E,) minibatch losses of the networks on the curve; member e draws their
    places under `seeds[e]`. The rate falls along a cosine. One step costs one gradient.
    """
    # with so few steps, Adam's averages over about 5 and 20 gradients end lower than its customary 10 and 1000
    optimizer, schedule, control = AdamW(0.8, 0.95, weight_decay=0.0), cosine(steps), middle(a, b)
    state, device = optimizer.init(control), next(iter(a.values())).device
    peak = torch.full((members(a),), rate, dtype=torch.float64, device=device)
    for step in range(steps):
        leaves = {name: value.detach().requires_grad_() for name, value in control.items()}
        found = losses(bezier(a, leaves, b)(places(seeds, step)), step)
        grads = dict(zip(leaves, torch.autograd.grad(found.sum(), list(leaves.values())), strict=True))
        control, state = optimizer.update(control, grads, state, peak * schedule(step), step)
    return bezier(a, control, b)


def places(seeds: Sequence[int], step: int) -> Tensor:
    """(E,) in float64, t ~ U(0, 1): a uniform draw per seed, moved on by the golden ratio at every step.

    At any one step t is uniform, and over successive steps it covers [0, 1] evenly (a Kronecker sequence),
    so that the mean over steps is less noisy than with independent draws.
    """
    starts = [int(draws(1, seed, 0, PLACES)[0]) / 2**64 for seed in seeds]
    return torch.tensor([(start + step * GOLDEN) % 1.0 for start in starts], dtype=torch.float64)


def _lerp(p: Params, q: Params, t: Tensor) -> Params:
    return {name: torch.lerp(p[name], q[name], per_member(t.to(p[name].device), p[name])) for name in p}
