"""The exact expected loss of a schedule on a noisy quadratic: what theory alone says about every schedule.

Plain SGD on 1/2 sum_i h_i x_i^2 whose gradient has covariance (c / B) diag(h), from E[x_i^2] = m_0. The variance of
every coordinate then follows a recursion without randomness, and the expected loss is 1/2 sum_i h_i m_i.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nonconvex.schedules import Factory


@dataclass(frozen=True)
class NoisyQuadratic:
    """Eigenvalues h (N,), mean square m_0 of every coordinate at the start, and c / B of the gradient's noise."""

    eigenvalues: np.ndarray
    start: float = 1.0
    noise: float = 1.0


@dataclass(frozen=True)
class TunedPeak:
    """The best of the peaks that were tried, its expected loss, and whether it lies strictly inside their range."""

    peak: float
    loss: float
    interior: bool


def spectrum(count: int, decades: float = 3.0) -> np.ndarray:
    """(count,) eigenvalues, evenly spaced in the logarithm from 1 down to 10^-decades."""
    return np.logspace(0.0, -decades, count)


def table(factory: Factory, steps: int) -> np.ndarray:
    """(steps,) the schedule's multiples of the peak rate."""
    schedule = factory(steps)
    return np.array([schedule(step) for step in range(steps)])


def expected_losses(problem: NoisyQuadratic, shape: np.ndarray, peaks: Sequence[float]) -> np.ndarray:
    """(K,) expected loss after the updates of a schedule (T,), for each of K peak rates; by the recursion."""
    h, rates = problem.eigenvalues, np.asarray(peaks, float)[:, None]
    m = np.full((len(rates), len(h)), problem.start)
    for multiple in shape:
        eta = multiple * rates
        # m_(t+1) = (1 - eta_t h)^2 m_t + eta_t^2 c h / B
        m = (1 - eta * h) ** 2 * m + eta**2 * problem.noise * h
    return 0.5 * (m * h).sum(1)


def closed_form(problem: NoisyQuadratic, shape: np.ndarray, peak: float) -> float:
    """The same for one peak, as the recursion's explicit solution: a product and a sum per eigenvalue.

    The products run backwards in time and the sums are exact, so that no intermediate number is the recursion's.
    """
    rates = peak * shape
    return 0.5 * math.fsum(h * _mean_square(float(h), rates, problem) for h in problem.eigenvalues)


def _mean_square(h: float, rates: np.ndarray, problem: NoisyQuadratic) -> float:
    kept = np.append(np.cumprod(((1 - rates * h) ** 2)[::-1])[::-1], 1.0)  # (T + 1,) from step t on
    # m_T = m_0 prod_t (1 - eta_t h)^2 + (c h / B) sum_t eta_t^2 prod_(s > t) (1 - eta_s h)^2
    return float(kept[0]) * problem.start + problem.noise * h * math.fsum(rates**2 * kept[1:])


def tuned(losses: np.ndarray, peaks: Sequence[float]) -> TunedPeak:
    """The peak of least expected loss; of equals the smallest. `peaks` rise."""
    at = int(np.argmin(losses))
    return TunedPeak(float(peaks[at]), float(losses[at]), 0 < at < len(peaks) - 1)
