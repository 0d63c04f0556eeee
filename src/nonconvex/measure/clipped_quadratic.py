"""Where gradient descent and heavy ball stop to be stable on a convex quadratic, with and without clipping.

Near the minimum every gradient is short and clipping does nothing, so no rate above 2 (1 + beta) / lambda_max (Polyak
1964; beta = 0: gradient descent) comes to rest with it either: it swings at a bounded height instead of diverging.
Below that rate a run may still fail to come near the minimum: with momentum, cut gradients can keep a swing alive.
"""

from collections import deque
from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.measure.gradient_norms import Recorded
from nonconvex.optimizers import Sgd
from nonconvex.strategies.base import Strategy
from nonconvex.strategies.clipping import Clipping
from nonconvex.tensors import Params


class Quadratics:
    """E quadratics 1/2 sum_i a_i w_i^2 in `dimension` axes, a_i from 1 / condition to 1, each with its start."""

    def __init__(self, seeds: Sequence[int], dimension: int, condition: float, momentum: float):
        exponents = -torch.linspace(1, 0, dimension, dtype=torch.float64)
        self.curvatures = condition**exponents
        self.momentum = momentum
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.starts = torch.stack([torch.randn(dimension, generator=g, dtype=torch.float64) for g in generators])

    @property
    def edge(self) -> float:
        """2 (1 + beta) / lambda_max, and lambda_max is 1."""
        return 2 * (1 + self.momentum)

    def losses(self, params: Params) -> Tensor:
        return 0.5 * (self.curvatures * params["w"].square()).sum(1)

    def ends(self, rates: Tensor, thresholds: Tensor, steps: int) -> Tensor:
        """(E, R) final loss over initial loss at rates (R,) with thresholds (E,); NaN if not finite."""
        e, r = len(self.starts), len(rates)
        begin = {"w": self.starts.repeat_interleave(r, 0)}
        strategy = Clipping(thresholds.repeat_interleave(r))
        end = self._run(begin, rates.repeat(e), strategy, steps)
        found = self.losses(end.params) / self.losses(begin)
        return found.masked_fill(~torch.isfinite(found) | (end.diverged >= 0), torch.nan).view(e, r)

    def median_norms(self, rate: float, steps: int) -> Tensor:
        """(E,) median gradient norm along `steps` unclipped updates."""
        recorded = Recorded(self.never)
        self._run({"w": self.starts}, torch.full_like(self.never, rate), recorded, steps)
        return recorded.medians()

    @property
    def never(self) -> Tensor:
        """(E,) thresholds that no gradient reaches."""
        return torch.full((len(self.starts),), inf, dtype=torch.float64)

    def edges(self, rates: Tensor, thresholds: Tensor, steps: int, level: float) -> list[float | None]:
        """The largest of the rising rates at which the loss falls to `level` of the initial one, by quadratic.

        None where every rate is stable or none is, hence the edge not between two of them.
        """
        stable = self.ends(rates, thresholds, steps) < level
        return [float(rates[row].max()) if row.any() and not row.all() else None for row in stable]

    def _run(self, begin: Params, rates: Tensor, strategy: Strategy, steps: int) -> train.State:
        members = len(rates)
        cohort = train.Cohort(
            loss=lambda params, x, y: self.losses(params),
            batch=lambda seeds, step: (rates, rates),
            rates=rates.expand(steps, members),
            order=lambda step: range(members),
            optimizer=Sgd(momentum=self.momentum),
            strategy=strategy,
        )
        (end,) = deque(train.train(cohort, train.start(cohort, begin)), maxlen=1)
        return end
