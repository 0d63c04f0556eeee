"""Intervals and tests against scipy, closed forms, enumeration and coverage. Simulations are seeded."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nonconvex import statistics

SAMPLES = st.lists(st.floats(-100, 100), min_size=2, max_size=7)


def test_mean_is_students_interval():
    x = np.random.default_rng(0).normal(3, 2, 11)
    found = statistics.mean(x)
    low, high = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert (found.estimate, found.low, found.high) == pytest.approx((x.mean(), low, high), rel=1e-12)
    assert found.n == 11


def test_small_samples_have_no_interval():
    one, none = statistics.mean([2.0]), statistics.mean([])
    assert (one.estimate, one.n, none.n) == (2.0, 1, 0)
    assert np.isnan([one.low, one.high, none.estimate, none.low]).all()
    same = statistics.mean([2.0, 2.0, 2.0])
    assert (same.low, same.high) == (2.0, 2.0)


def test_geometric_mean_is_the_mean_of_logarithms():
    x = np.random.default_rng(2).lognormal(0.3, 0.5, 9)
    found, of_logs = statistics.geometric_mean(x), statistics.mean(np.log(x))
    limits = np.exp([of_logs.estimate, of_logs.low, of_logs.high])
    assert (found.estimate, found.low, found.high) == pytest.approx(tuple(limits), rel=1e-12)
    assert found.estimate == pytest.approx(stats.gmean(x), rel=1e-12) and found.n == 9
    assert statistics.geometric_mean([]).n == 0


@pytest.mark.parametrize("n", range(1, 13))
def test_median_is_enclosed_as_the_enumeration_says(n):
    """Each value lies on either side of the true median with probability one half: all 2^n ways to lie are counted."""
    found = statistics.median(np.arange(1.0, n + 1))
    assert (found.estimate, found.n) == ((n + 1) / 2, n)
    ways = [sum(below) for below in itertools.product((0, 1), repeat=n)]

    def covered(k: int) -> float:
        """Share of the ways in which x_(k) <= median <= x_(n - k + 1)."""
        return np.mean([k <= below <= n - k for below in ways])

    best = max((k for k in range(1, n // 2 + 1) if covered(k) >= 0.95), default=None)
    assert np.isnan(found.low) if best is None else (found.low, found.high) == (best, n + 1 - best)


def test_median_stands_what_a_mean_does_not():
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1e9]
    found = statistics.median(values[::-1])
    assert (found.estimate, found.low, found.high) == (5.5, 2.0, 9.0)
    assert np.isnan([statistics.median([]).estimate, statistics.median([1.0] * 5).low]).all()


def test_paired_is_the_interval_of_the_differences():
    a, b = np.random.default_rng(1).normal(size=(2, 8))
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    found = statistics.paired(a, b)
    assert (found.estimate, found.low, found.high) == pytest.approx((np.mean(a - b), low, high), rel=1e-12)


@pytest.mark.parametrize("values", [[1.0, np.nan], [np.inf], [[1.0, 2.0]]])
def test_what_is_not_finite_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        statistics.mean(values)


@given(SAMPLES)
def test_sign_flip_is_the_enumeration(x):
    flips = [abs(np.dot(signs, x)) for signs in itertools.product((1, -1), repeat=len(x))]
    reached = sum(flip >= abs(sum(x)) - 1e-12 * np.abs(x).sum() for flip in flips)
    assert statistics.sign_flip(x) == pytest.approx(reached / len(flips))


def test_sign_flip_against_scipy_and_by_monte_carlo():
    x = np.random.default_rng(2).normal(0.4, 1, 12)
    reference = stats.permutation_test(
        (x,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=False
    ).pvalue
    assert statistics.sign_flip(x) == pytest.approx(reference, abs=1e-12)
    y = np.append(x, 0.1)
    exact = np.mean([abs(np.dot(s, y)) >= abs(y.sum()) for s in itertools.product((1, -1), repeat=13)])
    draws = 20_000
    found = statistics.sign_flip(y, np.random.default_rng(0), draws)
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact / draws))
    assert statistics.sign_flip(np.full(20, 1.0), np.random.default_rng(0), 99) == pytest.approx(1 / 100)
    with pytest.raises(ValueError, match="13 differences need a Generator"):
        statistics.sign_flip(y)


@given(SAMPLES, st.floats(0.01, 50))
def test_tost_agrees_with_the_interval(x, margin):
    if np.std(x) < 1e-6:
        return
    found, interval = statistics.tost(x, margin), statistics.mean(x)
    if abs(found - 0.025) > 1e-9:
        assert (found < 0.025) == (-margin < interval.low and interval.high < margin)


def test_tost_against_scipy():
    x = np.random.default_rng(3).normal(0.1, 1, 15)
    above = stats.ttest_1samp(x, -1.0, alternative="greater").pvalue
    below = stats.ttest_1samp(x, 1.0, alternative="less").pvalue
    assert statistics.tost(x, 1.0) == pytest.approx(max(above, below), rel=1e-12)
    assert statistics.tost([0.0, 0.0], 1.0) == 0
    assert np.isnan(statistics.tost([1.0], 1.0))


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == pytest.approx([1, 1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_as_the_step_down_procedure_does(p):
    order, m = np.argsort(p, kind="stable"), len(p)
    rejected = np.zeros(m, bool)
    for rank, i in enumerate(order):
        if p[i] > 0.05 / (m - rank):
            break
        rejected[i] = True
    adjusted = statistics.holm(p)
    clear = abs(adjusted - 0.05) > 1e-12
    assert ((adjusted <= 0.05) == rejected)[clear].all()


@pytest.mark.parametrize(("n", "pairs"), [(3, 3), (4, 4), (5, 4), (10, 10)])
@pytest.mark.parametrize(("of_run", "of_pair"), [(1, 0), (1, 1), (0, 1)])
def test_pairs_that_share_runs_are_covered(n, pairs, of_run, of_pair):
    """A ring of all its pairs, or with a gap; effects of the runs alone, of both, of the pairs alone."""
    rng, trials = np.random.default_rng(0), 1000
    first, second = np.arange(pairs), (np.arange(pairs) + 1) % n
    hits = plain = 0
    for runs, noise in zip(
        of_run * rng.normal(size=(trials, n)), of_pair * rng.normal(size=(trials, pairs)), strict=True
    ):
        values = runs[first] + runs[second] + noise
        hits += covers(statistics.pairs_of_runs(values, first, second))
        plain += covers(statistics.mean(values))
    error = np.sqrt(0.95 * 0.05 / trials)
    assert 0.95 - 3 * error < hits / trials < 0.996
    assert of_pair or plain / trials < 0.90  # what taking the pairs for a sample would have given


def covers(found: statistics.Interval, truth: float = 0.0) -> bool:
    return found.low <= truth <= found.high


def test_ring_variance_by_hand():
    values = np.array([1.0, 4.0, 2.0, 8.0])
    left = [np.mean([4, 2]), np.mean([2, 8]), np.mean([8, 1]), np.mean([1, 4])]  # without run 0, 1, 2, 3
    error = np.sqrt(2 / 3 * 3 / 4 * np.sum(np.square(np.array(left) - 3.75)))
    found = statistics.pairs_of_runs(values, [0, 1, 2, 3], [1, 2, 3, 0])
    assert found.high - found.estimate == pytest.approx(stats.t.ppf(0.975, 3 / 2) * error)
    assert (found.estimate, found.n) == (3.75, 4)


def test_pairs_without_a_common_run_are_independent():
    x = np.array([1.0, 4.0, 2.0, 8.0])
    assert statistics.pairs_of_runs(x, [0, 2, 4, 6], [1, 3, 5, 7]) == statistics.mean(x)
    assert statistics.pairs_of_runs(x, [0, 1, 2, 3], [0, 1, 2, 3]) == statistics.mean(x)  # siblings of one parent


def test_t_interval_covers():
    rng, trials = np.random.default_rng(5), 1000
    found = [statistics.mean(x) for x in rng.normal(1, 1, (trials, 5))]
    hits = np.mean([covers(interval, 1.0) for interval in found])
    assert hits == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / trials))


def test_bootstrap_of_a_mean_and_of_strata():
    rng = np.random.default_rng(6)
    x = rng.normal(size=200)
    found = statistics.bootstrap([x], np.mean, rng, draws=1000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * x.std() / np.sqrt(200), rel=0.1)
    apart = statistics.bootstrap([np.zeros(5), np.ones(5)], np.mean, rng, draws=50)
    assert (apart.low, apart.high, apart.n) == (0.5, 0.5, 10)  # strata never mix
    again = [statistics.bootstrap([x], np.mean, np.random.default_rng(1), draws=20) for _ in range(2)]
    assert again[0] == again[1]


def test_robust_summaries_by_hand():
    assert statistics.iqm([0, 1, 2, 3, 4, 5, 6, 1000]) == 3.5
    assert statistics.probability_of_improvement([1, 2, 3], [0, 2]) == pytest.approx(4.5 / 6)
