"""How many updates it takes to leave a saddle of the linear network, under each kind of gradient noise.

Near a saddle with a most negative eigenvalue -σ, gradient descent multiplies the displacement along its direction by
1 + ησ at every step: from δ it needs about ln(1/δ) / ln(1 + ησ) of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, log1p

import numpy as np
import torch
from torch import Tensor

from nonconvex.data.splits import draws
from nonconvex.measure.linear_saddles import (
    Regression,
    Saddle,
    example_gradients,
    gradients,
    losses,
    minibatch_gradients,
)

BATCHES, GAUSSIAN = 11, 12  # streams of random numbers


@dataclass(frozen=True)
class Walk:
    """A run from a saddle: gradient + projected noise at a constant `rate`, for `steps` updates at most.

    `noise` is "none", "minibatch" (the deviation of a minibatch's gradient) or "isotropic" (Gaussian, of standard
    deviation `deviation` per coordinate); `projection` (P, P) is applied to it.
    """

    data: Regression
    saddle: Saddle
    start: Tensor  # (P,)
    noise: str
    projection: Tensor
    deviation: float
    rate: float
    steps: int
    seed: int


@dataclass(frozen=True)
class Escapes:
    """Of every walk: the first update after which the loss had fallen far enough (-1: none), and the largest weight in
    the `watched` coordinates there or at the end."""

    steps: Tensor  # (E,) int64
    watched: Tensor  # (E,)


def expected_steps(displacement: float, rate: float, strength: float) -> float:
    """ln(1/δ) / ln(1 + ησ) for δ = `displacement`, η = `rate`, σ = `strength`."""
    return -log(displacement) / log1p(rate * strength)


def noise_variance(saddle: Saddle, data: Regression, batch: int, hidden: int) -> tuple[float, float]:
    """Trace of the covariance of a minibatch gradient (drawn with replacement) at the saddle, and its part along the
    negative eigenvectors."""
    each = example_gradients(saddle.point, data, hidden)
    # the mean over examples is the gradient at a critical point: zero
    along = each @ saddle.negative
    return tuple(part.square().sum(1).mean().item() / batch for part in (each, along))


def escapes(walks: Sequence[Walk], batch: int, hidden: int, share: float, watched: Tensor) -> Escapes:
    """Walk until the loss has fallen by `share` of the gap to the next critical level, all walks in lockstep.

    `watched` (E, P) marks coordinates. Noise depends on the walk's seed and the step alone: equal seeds meet equal
    minibatches and equal Gaussian draws.
    """
    points, fixed = torch.stack([walk.start for walk in walks]), _Fixed(walks, batch, share)
    found = torch.full((len(walks),), -1)
    for step in range(max(walk.steps for walk in walks)):
        going = (found < 0) & (step < fixed.steps)
        if not going.any():
            break
        slope = gradients(points, fixed.targets, hidden)
        noise = torch.einsum("ep,epq->eq", fixed.noise(points, slope, step, hidden), fixed.projections)
        # θ <- θ - η (∇L + Q ξ)
        points = torch.where(going[:, None], points - fixed.rates * (slope + noise), points)
        out = going & (losses(points, fixed.targets, hidden) <= fixed.levels)
        found = torch.where(out, step + 1, found)
    return Escapes(found, (points.abs() * watched).amax(1))


class _Fixed:
    """What the walks are made of, stacked, and the noise of every step."""

    def __init__(self, walks: Sequence[Walk], batch: int, share: float):
        saddles = [walk.saddle for walk in walks]
        self.seeds = sorted({walk.seed for walk in walks})
        self.place = torch.tensor([self.seeds.index(walk.seed) for walk in walks])
        data = {walk.seed: walk.data for walk in walks}
        self.x, self.y = (torch.stack([getattr(data[seed], part) for seed in self.seeds]) for part in "xy")
        self.targets = torch.stack([walk.data.target for walk in walks])
        self.projections = torch.stack([walk.projection for walk in walks])
        numbers = lambda values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
        self.rates = numbers([walk.rate for walk in walks])[:, None]
        self.levels = numbers([one.loss - share * (one.loss - one.next_loss) for one in saddles])
        self.steps = torch.tensor([walk.steps for walk in walks])
        self.minibatch = numbers([float(walk.noise == "minibatch") for walk in walks])[:, None]
        self.deviations = numbers([walk.deviation * (walk.noise == "isotropic") for walk in walks])[:, None]
        longest, size = int(self.steps.max()), self.projections.shape[1]
        self.order = np.stack([_batches(seed, longest, batch, self.x.shape[1]) for seed in self.seeds])
        self.gaussian = np.stack([_gaussian(seed, longest, size) for seed in self.seeds])

    def noise(self, points: Tensor, slope: Tensor, step: int, hidden: int) -> Tensor:
        index = torch.from_numpy(self.order[:, step])[..., None].expand(-1, -1, self.x.shape[2])
        x, y = (part.gather(1, index)[self.place] for part in (self.x, self.y))
        deviation = minibatch_gradients(points, x, y, hidden) - slope
        isotropic = torch.from_numpy(self.gaussian[:, step])[self.place]
        return self.minibatch * deviation + self.deviations * isotropic


def _batches(seed: int, steps: int, batch: int, examples: int) -> np.ndarray:
    """(steps, batch) examples, drawn with replacement."""
    return (draws(steps * batch, seed, 0, BATCHES) % np.uint64(examples)).astype(np.int64).reshape(steps, batch)


def _gaussian(seed: int, steps: int, size: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, GAUSSIAN])).standard_normal((steps, size))
