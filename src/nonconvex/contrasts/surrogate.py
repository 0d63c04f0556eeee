"""A Gaussian process through the runs of a design, and the shares of its variance that each factor has. No torch.

The process has a product of one-dimensional kernels, a constant mean and noise (Rasmussen & Williams 2006, ch. 5); its
posterior mean f is integrated over independent factors exactly up to a quadrature in one dimension (Oakley & O'Hagan
2004), so that no sampling comes between a fit and its Sobol indices.

Where noise outweighs the signal a likelihood gives idle factors shares too: look at how well a fit predicts, and give
it an idle factor to fail on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

NODES = 48  # of the quadrature over a continuous factor
LENGTHS = (0.05, 30.0)  # in units of a factor's range: beyond the last, a factor does nothing
VARIANCES, NOISES = (1e-3, 30.0), (1e-5, 2.0)  # in units of the response's variance
STARTS = ((1.0, 0.5, 0.1), (1.0, 2.0, 0.1))  # variance, every length, noise
FACTR = 1e9  # of L-BFGS-B: stop where the likelihood's relative change is 2e-7, far below what an index can feel


@dataclass(frozen=True)
class Dimension:
    """A factor. Continuous ones (`levels` 0) are uniform on [0, 1]; others take so many values, equally likely.

    Levels are the numbers 0, 1, ...; those that are `ordered` lie evenly on [0, 1], and of those that are not each is
    as far from one other as from any.
    """

    levels: int = 0
    ordered: bool = True

    @cached_property
    def quadrature(self) -> tuple[np.ndarray, np.ndarray]:
        """Points and weights that average over the factor."""
        if self.levels:
            return np.arange(self.levels, dtype=float), np.full(self.levels, 1 / self.levels)
        points, weights = leggauss(NODES)
        return (points + 1) / 2, weights / 2

    def distances(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """(len(a), len(b)) distances of values of the factor."""
        if self.levels and not self.ordered:
            return (a[:, None] != b[None, :]).astype(float)
        return np.abs(a[:, None] - b[None, :]) / max(self.levels - 1, 1)


def matern(distances: np.ndarray, length: float) -> np.ndarray:
    """Matérn kernel of smoothness 5/2."""
    # (1 + r + r²/3) exp(-r),  r = sqrt(5) d / l
    r = np.sqrt(5) * distances / length
    return (1 + r + r * r / 3) * np.exp(-r)


def matern_slope(distances: np.ndarray, length: float) -> np.ndarray:
    """d ln k / d ln l."""
    # dk/dr = -r (1 + r) exp(-r) / 3;  dr / d ln l = -r
    r = np.sqrt(5) * distances / length
    return r * r * (1 + r) / 3 / (1 + r + r * r / 3)


@dataclass(frozen=True)
class Surrogate:
    """f(x) = mean + scale Σ_i weights_i Π_d k_d(x_d, x_id), through the runs `x` (n, d)."""

    axes: tuple[Dimension, ...]
    x: np.ndarray
    theta: np.ndarray  # logs of variance, lengths, noise
    weights: np.ndarray
    mean: float
    scale: float

    @property
    def lengths(self) -> np.ndarray:
        return np.exp(self.theta[1:-1])

    def predict(self, x: np.ndarray) -> np.ndarray:
        """f at the rows of x (m, d)."""
        parts = (matern(a.distances(x[:, d], self.x[:, d]), self.lengths[d]) for d, a in enumerate(self.axes))
        return self.mean + self.scale * reduce(np.multiply, parts) @ self.weights

    @cached_property
    def _integrals(self) -> tuple[np.ndarray, np.ndarray]:
        """Per factor, averages over it: (d, n, n) of m m^T, and (d, n, n) of k(., x_i) k(., x_j)."""
        once, twice = [], []
        for d, axis in enumerate(self.axes):
            points, share = axis.quadrature
            k = matern(axis.distances(self.x[:, d], points), self.lengths[d])
            m = k @ share
            once.append(np.outer(m, m))
            twice.append((k * share) @ k.T)
        return np.array(once), np.array(twice)

    def _second_moment(self, known: Sequence[int]) -> float:
        """E[E[f - mean | the known factors]²] / scale²."""
        once, twice = self._integrals
        # a^T (o_(d known) B_d  o_(d other) m_d m_d^T) a
        parts = (twice[d] if d in known else once[d] for d in range(len(self.axes)))
        return float(self.weights @ reduce(np.multiply, parts) @ self.weights)

    @cached_property
    def variance(self) -> float:
        """Var f over all factors."""
        return self.scale**2 * (self._second_moment(range(len(self.axes))) - self._second_moment(()))

    def _share(self, known: Sequence[int]) -> float:
        """Var E[f | the known factors] / Var f."""
        of_all = self._second_moment(range(len(self.axes))) - self._second_moment(())
        return (self._second_moment(known) - self._second_moment(())) / of_all if of_all > 1e-9 else 0.0

    def first_order(self) -> np.ndarray:
        """(d,) S_d = Var E[f | x_d] / Var f; zero where f is flat."""
        return np.array([self._share([d]) for d in range(len(self.axes))])

    def total_order(self) -> np.ndarray:
        """(d,) T_d = 1 - Var E[f | all but x_d] / Var f: what is lost when factor d is not known."""
        everything = range(len(self.axes))
        flat = self._share(everything) == 0.0
        return np.array([0.0 if flat else 1 - self._share([e for e in everything if e != d]) for d in everything])

    def main_effect(self, d: int, points: np.ndarray) -> np.ndarray:
        """E[f | x_d] at the points (m,) of factor d."""
        k = matern(self.axes[d].distances(points, self.x[:, d]), self.lengths[d])
        others = [self._average(e) for e in range(len(self.axes)) if e != d]
        return self.mean + self.scale * k @ (self.weights * reduce(np.multiply, others, np.ones(len(self.x))))

    def _average(self, d: int) -> np.ndarray:
        points, share = self.axes[d].quadrature
        return matern(self.axes[d].distances(self.x[:, d], points), self.lengths[d]) @ share


def fitted(
    axes: Sequence[Dimension], x: np.ndarray, y: np.ndarray, start: np.ndarray | None = None, iterations: int = 200
) -> Surrogate:
    """The process of largest marginal likelihood through y (n,) at the rows of x (n, d), searched from `start`.

    Without one the search starts from short and from long lengths. Where y is constant, or there is none, it is flat.
    """
    axes, mean = tuple(axes), float(y.mean()) if len(y) else 0.0
    starts = [np.log([v, *[length] * len(axes), noise]) for v, length, noise in STARTS] if start is None else [start]
    if len(y) == 0 or np.ptp(y) == 0:
        return Surrogate(axes, x, starts[0], np.zeros(len(y)), mean, 1.0)
    scale = float(y.std())
    problem = _Likelihood(axes, x, (y - mean) / scale)
    bounds = np.log([VARIANCES, *[LENGTHS] * len(axes), NOISES])
    how = {"maxiter": iterations, "ftol": FACTR * np.finfo(float).eps}
    search = partial(minimize, problem.value, jac=True, method="L-BFGS-B", bounds=bounds, options=how)
    theta = min((search(np.clip(at, *bounds.T)) for at in starts), key=lambda end: end.fun).x
    return Surrogate(axes, x, theta, problem.weights(theta), mean, scale)


class _Likelihood:
    """-ln p(y | x, theta) with its gradient; the distances are kept between evaluations."""

    def __init__(self, axes: tuple[Dimension, ...], x: np.ndarray, y: np.ndarray):
        self.y = y
        self.distances = [axis.distances(x[:, d], x[:, d]) for d, axis in enumerate(axes)]

    def signal(self, theta: np.ndarray) -> np.ndarray:
        parts = [matern(d, length) for d, length in zip(self.distances, np.exp(theta[1:-1]), strict=True)]
        return np.exp(theta[0]) * reduce(np.multiply, parts)

    def value(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        signal, noise, n = self.signal(theta), np.exp(theta[-1]), len(self.y)
        factor = cho_factor(signal + noise * np.eye(n), lower=True)
        solved, inverse = cho_solve(factor, self.y), cho_solve(factor, np.eye(n))
        # -ln p = (y^T K^-1 y + ln det K + n ln 2 pi) / 2
        value = 0.5 * (self.y @ solved + n * np.log(2 * np.pi)) + np.log(np.diag(factor[0])).sum()
        # -d ln p / d theta = tr[(K^-1 - a a^T) dK/d theta] / 2,  a = K^-1 y
        outer = inverse - np.outer(solved, solved)
        common = outer * signal
        slopes = [np.vdot(common, matern_slope(d, length)) for d, length in self._lengths(theta)]
        return float(value), 0.5 * np.array([common.sum(), *slopes, noise * np.trace(outer)])

    def _lengths(self, theta: np.ndarray):
        return zip(self.distances, np.exp(theta[1:-1]), strict=True)

    def weights(self, theta: np.ndarray) -> np.ndarray:
        """The signal's variance times K^-1 y."""
        factor = cho_factor(self.signal(theta) + np.exp(theta[-1]) * np.eye(len(self.y)), lower=True)
        return np.exp(theta[0]) * cho_solve(factor, self.y)


def explained(y: np.ndarray, predicted: np.ndarray) -> float:
    """R² = 1 - Σ (y - ŷ)² / Σ (y - mean y)²; NaN where y is constant."""
    total = np.square(y - y.mean()).sum()
    return float(1 - np.square(y - predicted).sum() / total) if total > 0 else np.nan
