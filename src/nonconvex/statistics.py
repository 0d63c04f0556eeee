"""Intervals and tests for runs that are paired by seed. Every random draw comes from an explicit Generator.

Values are one-dimensional and finite: a diverged run has no loss, and it is the caller's to count it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95
EXACT = 12  # up to 2^12 sign patterns are enumerated


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence limits from `n` units; from one unit there are no limits (NaN)."""

    estimate: float
    low: float
    high: float
    n: int


def mean(values: ArrayLike, level: float = LEVEL) -> Interval:
    """The mean with Student's t interval."""
    x = _finite(values)
    n = len(x)
    if n < 2:
        return Interval(float(x.mean()) if n else np.nan, np.nan, np.nan, n)
    return _interval(float(x.mean()), float(x.std(ddof=1)) / np.sqrt(n), n, n - 1, level)


def geometric_mean(values: ArrayLike, level: float = LEVEL) -> Interval:
    """The geometric mean of positive values with the t interval of their logarithms."""
    found = mean(np.log(values), level)
    return Interval(*map(float, np.exp([found.estimate, found.low, found.high])), found.n)


def median(values: ArrayLike, level: float = LEVEL) -> Interval:
    """The median between two order statistics that enclose it with at least that probability, for any distribution.

    The number of values below the true median is binomial with one half (Thompson 1936). At 95 % it takes six values to
    have limits: five enclose the median in 94 %.
    """
    x = np.sort(_finite(values))
    n = len(x)
    # P(x_(k) <= median <= x_(n-k+1)) = 1 - 2 P(Bin(n, 1/2) < k)
    k = int(stats.binom.ppf((1 - level) / 2, n, 0.5)) if n else 0
    low, high = (float(x[k - 1]), float(x[n - k])) if k else (np.nan, np.nan)
    return Interval(float(np.median(x)) if n else np.nan, low, high, n)


def paired(a: ArrayLike, b: ArrayLike, level: float = LEVEL) -> Interval:
    """The mean of a - b, pair by pair, with the paired-t interval."""
    return mean(np.subtract(_finite(a), _finite(b)), level)


def pairs_of_runs(values: ArrayLike, first: Sequence[int], second: Sequence[int], level: float = LEVEL) -> Interval:
    """The mean over pairs of runs; `n` counts the pairs, pair i being runs (first[i], second[i]).

    Pairs that share no run are independent: Student's t interval. Otherwise the pairs are no sample, and
    the variance is that of the delete-one-run jackknife (all pairs of a run leave together). Over all pairs
    of n runs, hence in a ring of three, that is enough (Arvesen 1969), with n - 1 degrees of freedom. In a
    longer ring, pair i = (run i, run i+1 mod n), every pair leaves twice, and the jackknife estimates (2 g0
    + 2 g1) / n, g0 being the variance of a pair and g1 the covariance of neighbours, where the mean has (g0
    + 2 g1) / n. As g1 <= g0 / 2 (Hoeffding 1948), two thirds of it is exact when the pairs only add up
    their runs and at most a third too large otherwise; neighbouring deletions overlap, which leaves about
    (n - 1) / 2 degrees of freedom. By simulation all of these cover 95 to 99 %, rings with gaps too
    (tests/test_statistics.py).
    """
    x = _finite(values)
    runs = np.unique([*first, *second])
    contains = (np.asarray(first) == runs[:, None]) | (np.asarray(second) == runs[:, None])  # (runs, pairs)
    if len(x) < 3 or contains.sum(1).max() == 1:
        return mean(x, level)
    left, n = np.array([x[~of_run].mean() for of_run in contains]), len(runs)
    share, freedom = (1, n - 1) if len(x) == n * (n - 1) / 2 else (2 / 3, (n - 1) / 2)
    # var = c (n-1)/n sum_i (m_(-i) - m_(.))^2
    error = np.sqrt(share * (n - 1) / n * np.square(left - left.mean()).sum())
    return _interval(float(x.mean()), float(error), len(x), freedom, level)


def sign_flip(differences: ArrayLike, generator: np.random.Generator | None = None, draws: int = 20_000) -> float:
    """Two-sided p that the differences are symmetric about zero, by flipping their signs (Fisher 1935).

    Exact up to twelve differences; beyond, a Monte Carlo estimate that counts the observed signs as one draw.
    NaN without differences; ValueError where a Generator is needed and missing.
    """
    x = _finite(differences)
    n = len(x)
    if n == 0:
        return np.nan
    if n > EXACT and generator is None:
        raise ValueError(f"sign_flip: {n} differences need a Generator; up to {EXACT} are enumerated")
    if n <= EXACT:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:
        signs = np.vstack([np.ones(n, int), generator.choice([-1, 1], size=(draws, n))])
    observed = abs(x.sum())
    return float(np.mean(abs(signs @ x) >= observed - 1e-12 * abs(x).sum()))


def tost(differences: ArrayLike, margin: float) -> float:
    """p against "the mean is outside ±margin": the larger of two one-sided t tests (Schuirmann 1987).

    At most 0.025 exactly where the 95 % interval lies inside the margins. NaN for fewer than two differences.
    """
    x = _finite(differences)
    if len(x) < 2:
        return np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (margin - abs(x.mean())) / (x.std(ddof=1) / np.sqrt(len(x)))
    return float(stats.t.sf(t, len(x) - 1))


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's step-down adjusted p, in the order given."""
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    # p~_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))
    adjusted = np.maximum.accumulate(np.minimum(1, np.arange(len(p), 0, -1) * p[order]))
    return adjusted[np.argsort(order, kind="stable")]


def partial_kendall(x: ArrayLike, y: ArrayLike, given: Sequence[ArrayLike] = ()) -> float:
    """Kendall's tau-b of x and y with those of the `given` variables held fixed (Kendall 1942).

    Each tau-b is the correlation of two lists of signs, one sign per pair of observations, and the partial one is the
    partial correlation of these lists: (t_xy - t_xz t_yz) / sqrt((1 - t_xz²)(1 - t_yz²)) for one given z. NaN where
    a variable is constant, or x or y determined by the given ones.
    """
    variables = [_finite(values) for values in (x, y, *given)]
    first, second = np.triu_indices(len(variables[0]), 1)
    signs = np.array([np.sign(values[first] - values[second]) for values in variables])
    lengths = np.linalg.norm(signs, axis=1)
    if not (lengths > 0).all():
        return np.nan
    taus = signs @ signs.T / np.outer(lengths, lengths)
    # S = T_ab - T_az T_zz^-1 T_za for a, b in {x, y};  t_xy.z = S_xy / sqrt(S_xx S_yy)
    rest = taus[:2, :2] - taus[:2, 2:] @ np.linalg.pinv(taus[2:, 2:], hermitian=True) @ taus[2:, :2]
    if min(rest[0, 0], rest[1, 1]) < 1e-9:
        return np.nan
    return float(rest[0, 1] / np.sqrt(rest[0, 0] * rest[1, 1]))


def pseudo_values(units: ArrayLike, statistic: Callable[[np.ndarray], float]) -> dict[int, float]:
    """Jackknife pseudo-values n T - (n - 1) T_(-i) by unit i (Tukey 1958); they are replicates of T.

    `units` names the unit of every observation and `statistic` takes the mask of the observations that stay. Where
    the statistic is a mean over units of equal size the pseudo-values are the units' own means.
    """
    units = np.asarray(units)
    names = np.unique(units)
    n, whole = len(names), statistic(np.ones(len(units), bool))
    return {int(name): n * whole - (n - 1) * statistic(units != name) for name in names}


def iqm(values: ArrayLike) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter (Agarwal et al. 2021)."""
    return float(stats.trim_mean(_finite(values), 0.25))


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """P(X > Y) + P(X = Y) / 2 over all pairs of the two samples (Agarwal et al. 2021)."""
    x, y = _finite(x)[:, None], _finite(y)[None, :]
    return float(np.mean((x > y) + 0.5 * (x == y)))


def bootstrap(
    strata: Sequence[ArrayLike],
    statistic: Callable[[np.ndarray], float],
    generator: np.random.Generator,
    draws: int = 2_000,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of `statistic` on the pooled values, each stratum resampled within itself."""
    strata = [_finite(values) for values in strata]
    found = [
        statistic(np.concatenate([generator.choice(values, len(values)) for values in strata])) for _ in range(draws)
    ]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    pooled = np.concatenate(strata)
    return Interval(float(statistic(pooled)), float(low), float(high), len(pooled))


def _interval(estimate: float, error: float, n: int, freedom: float, level: float) -> Interval:
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return Interval(estimate, estimate - reach, estimate + reach, n)


def _finite(values: ArrayLike) -> np.ndarray:
    x = np.asarray(values, float)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError(f"one dimension of finite values allowed, found shape {x.shape}: {x}")
    return x
