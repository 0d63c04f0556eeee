"""Saddles: the exact probability, the catalogue, the search and its audit; and the sign of every contrast."""

from decimal import Decimal
from math import exp, log, pi, sqrt

import numpy as np
import pandas as pd
import pytest
import torch
from torch.func import grad, jacrev, vmap

from nonconvex.contrasts import critical_points as contrasts
from nonconvex.measure import catalogue, critical, ensembles
from nonconvex.measure.critical import LinearNetwork, TanhNetwork
from nonconvex.studies import critical_points as study
from nonconvex.study_settings.properties import CriticalPoints

CLOSED = {  # science of the project: found at 60 digits, N = 2 and 3 agree with the literature
    1: 1 / 2,
    2: (2 - sqrt(2)) / 4,
    3: (pi - 2 * sqrt(2)) / (4 * pi),
    4: 1 / 4 - sqrt(2) / 16 - 1 / (2 * pi),
    5: 1 / 8 - (8 + sqrt(2)) / (24 * pi),
    6: (48 - 21 * sqrt(2) - (148 - 64 * sqrt(2)) / pi) / 384,
}
HIGH = {7: 8.80461280633e-8, 8: 9.69454674931e-10, 10: 2.26565315811e-14, 12: 5.89241265838e-20}


def philox(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def double(*shape, seed=0):
    return torch.from_numpy(philox(seed).standard_normal(shape))


@pytest.mark.parametrize("dimension", CLOSED)
def test_probability_equals_closed_forms(dimension):
    assert exp(ensembles.log_probability_positive(dimension)) == pytest.approx(CLOSED[dimension], rel=1e-9)


@pytest.mark.parametrize("dimension", HIGH)
def test_probability_in_higher_dimensions(dimension):
    assert exp(ensembles.log_probability_positive(dimension)) == pytest.approx(HIGH[dimension], rel=1e-10)


def test_pfaffian_squared_is_the_determinant():
    """An odd permutation of rows shows whether pivoting keeps the sign."""
    upper = np.triu(philox(3).standard_normal((6, 6)), 1)
    matrix = upper - upper.T
    matrix[0, 1] = matrix[1, 0] = 0.0
    value = float(ensembles._pfaffian([[Decimal(entry) for entry in row] for row in matrix.tolist()]))
    expanded = sum(
        (-1) ** (k + 1) * matrix[0, k] * _pfaffian_of_four(np.delete(np.delete(matrix, [0, k], 0), [0, k], 1))
        for k in range(1, 6)
    )
    assert value == pytest.approx(expanded)
    assert value**2 == pytest.approx(np.linalg.det(matrix))


def _pfaffian_of_four(a):
    return a[0, 1] * a[2, 3] - a[0, 2] * a[1, 3] + a[0, 3] * a[1, 2]


@pytest.mark.parametrize("dimension", [1, 2, 5, 20])
def test_index_is_distributed_as_that_of_dense_matrices(dimension):
    """Dense matrices share neither the tridiagonal form nor the counting; misses errors of a few standard errors."""
    draws = 4000
    a = philox(1).standard_normal((draws, dimension, dimension))
    dense = (np.linalg.eigvalsh(a + a.transpose(0, 2, 1)) < 0).sum(1)
    found = ensembles.negative_eigenvalues(dimension, draws, philox(2))
    variance = dense.var() + found.var()
    assert abs(dense.mean() - found.mean()) < 4 * sqrt(variance / draws)
    assert found.var() == pytest.approx(dense.var(), rel=0.12)
    p, q = (dense == 0).mean(), (found == 0).mean()
    assert abs(p - q) <= 4 * sqrt((p + q) / draws)


def tanh_network(decay=0.1):
    return TanhNetwork(double(7, 2, seed=1), double(7, seed=2), 3, decay)


def slow_loss(surface, point):
    """The formula of the docstring, unit by unit."""
    d, k = surface.x.shape[1], surface.hidden
    output = point[-1]
    for unit in range(k):
        own = point[unit * (d + 1) : (unit + 1) * (d + 1)]
        output = output + point[k * (d + 1) + unit] * torch.tanh(surface.x @ own[:d] + own[d])
    return (output - surface.y).square().sum() / (2 * len(surface.y)) + surface.decay / 2 * point.square().sum()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_closed_derivatives_equal_automatic_ones(decay):
    surface = tanh_network(decay)
    points = double(4, surface.parameters)
    loss = lambda point: slow_loss(surface, point)  # noqa: E731
    torch.testing.assert_close(surface.losses(points), vmap(loss)(points))
    torch.testing.assert_close(surface.gradients(points), vmap(grad(loss))(points))
    torch.testing.assert_close(surface.hessians(points), vmap(jacrev(grad(loss)))(points))


def test_search_finds_saddles_and_does_not_depend_on_neighbours():
    surface = tanh_network()
    starts = double(40, surface.parameters, seed=5)
    ends = critical.search(surface, starts, 200, 1e-11)
    found = ends.slopes <= 1e-11
    assert found.sum() >= 5
    slopes = vmap(grad(lambda point: slow_loss(surface, point)))(ends.points[found])
    assert slopes.norm(dim=1).max() < 1e-10
    assert (critical.spectra(ends.hessians[found], 1e-6).negative > 0).any()
    torch.testing.assert_close(ends.hessians, surface.hessians(ends.points))
    alone = critical.search(surface, starts[3:4], 200, 1e-11)
    torch.testing.assert_close(alone.points[0], ends.points[3], rtol=1e-6, atol=1e-6)


class Quadratic:
    """½ (θ - c)ᵀA(θ - c), or with a cubic whose gradient never vanishes."""

    def __init__(self, matrix, centre):
        self.matrix, self.centre = matrix, centre

    def gradients(self, points):
        return (points - self.centre) @ self.matrix

    def hessians(self, points):
        return self.matrix.repeat(len(points), 1, 1)


def test_search_goes_to_the_saddle_of_a_quadratic():
    matrix, centre = torch.diag(torch.tensor([3.0, -2.0, 0.5]).double()), double(3, seed=8)
    ends = critical.search(Quadratic(matrix, centre), double(6, 3), 60, 1e-12)
    torch.testing.assert_close(ends.points, centre.expand(6, -1))


def test_signs_are_counted_with_the_cutoff():
    spectrum = torch.tensor([-4.0, -1e-3, -1e-9, 0.0, 1e-9, 2.0]).double()
    basis = torch.linalg.qr(double(6, 6))[0]
    found = critical.spectra((basis @ torch.diag(spectrum) @ basis.T)[None], 1e-6)
    assert (found.negative.item(), found.near_zero.item()) == (2, 3)
    assert critical.spectra(torch.diag(spectrum)[None], 1e-3).negative.item() == 1


def test_audit_tells_a_kernel_from_a_slope():
    hessians = torch.diag(torch.tensor([2.0, -1.0, 1e-7]).double()).expand(3, -1, -1)
    gradients = torch.tensor([[1.0, 1, 0], [0, 0, 1], [3, 0, 4]]).double()
    residuals = critical.outside_range(gradients, hessians, (1e-9, 1e-6))
    torch.testing.assert_close(residuals, torch.tensor([[0, 0], [0, 1.0], [0, 0.8]]).double())
    steps = critical.newton_steps(gradients, hessians, 1e-6)
    torch.testing.assert_close(steps, torch.tensor([sqrt(1.25), 0, 1.5]).double())


@pytest.mark.parametrize(("hidden", "values"), [(4, (3.0, 2.0, 1.0)), (3, (2.5, 1.5, 0.4)), (5, (2.0, 1.0))])
def test_catalogue_equals_automatic_differentiation(hidden, values):
    size = len(values)
    left, right = (torch.linalg.qr(double(size, size, seed=seed))[0] for seed in (1, 2))
    surface = LinearNetwork(left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right.T, hidden)
    mixing = torch.linalg.qr(double(hidden, hidden, seed=3))[0] * torch.linspace(0.5, 2, hidden).double()
    minima = 0
    for chosen in catalogue.subsets(size):
        point = catalogue.representative(chosen, left, values, right, mixing)
        assert grad(surface.loss)(point).norm() < 1e-12
        assert surface.loss(point).item() == pytest.approx(catalogue.loss_of(chosen, values))
        eigenvalues = torch.linalg.eigvalsh(jacrev(grad(surface.loss))(point))
        index = catalogue.index_of(chosen, values, hidden)
        assert index == (eigenvalues < -1e-8).sum().item()
        minima += index == 0
    assert minima == 1


def test_catalogue_by_hand():
    """h = 4, σ = (3, 2, 1): worked out on paper."""
    indices = {"000": 12, "100": 6, "010": 7, "001": 8, "110": 2, "101": 3, "011": 4, "111": 0}
    for name, index in indices.items():
        chosen = tuple(digit == "1" for digit in name)
        assert catalogue.index_of(chosen, (3, 2, 1), 4) == index
    assert catalogue.loss_of((True, False, True), (3, 2, 1)) == 2


def small(**changes):
    options = {"seeds": (0,), "drawn": {3: 50}, "starts": 12, "iterations": 60, "known_starts": 3}
    options |= {"hidden": 2, "examples": 20, "descent_steps": 20, "decays": (0.01,)}
    return CriticalPoints(**options | changes)


def test_trajectory_starts_are_states_of_gradient_descent():
    surface = tanh_network()
    points = double(3, surface.parameters)
    found = study.states(surface, points, 0.1, (0, 1, 3))
    by_hand = points.clone()
    for e, steps in enumerate((0, 1, 3)):
        for _ in range(steps):
            by_hand[e] -= 0.1 * grad(lambda point: slow_loss(surface, point))(by_hand[e])
    torch.testing.assert_close(found, by_hand)


def test_points_that_differ_by_a_symmetry_count_once():
    chosen = small()
    surface = TanhNetwork(*study.teacher(chosen, 0), chosen.hidden, 0.01)
    starts, near = study.beginnings(chosen, surface, 0)
    ends = critical.search(surface, starts, 300, 1e-11)
    point = ends.points[ends.slopes <= 1e-11][:1]
    width = surface.x.shape[1] + 1
    swapped = point.clone()
    swapped[:, :width], swapped[:, width : 2 * width] = point[:, width : 2 * width], point[:, :width]
    swapped[:, 2 * width], swapped[:, 2 * width + 1] = point[:, 2 * width + 1], point[:, 2 * width]
    flipped = point.clone()
    flipped[:, :width] *= -1
    flipped[:, 2 * width] *= -1
    copies = torch.cat([point, swapped, flipped])
    ends = critical.Search(copies, surface.gradients(copies), surface.hessians(copies), torch.zeros(3))
    rows = list(study.distinct(chosen, surface, 0, ends, torch.tensor([True, False, True])))
    assert [(row.found, row.found_on_trajectories) for row in rows] == [(3, 2)]
    assert near.sum() == 6


def test_study_is_deterministic_and_counts_add_up():
    chosen = small()
    rows = study.of_seed(chosen, 4)
    assert rows == study.of_seed(chosen, 4)
    assert sum(row.searches for row in rows["searches"]) == chosen.starts
    assert sum(row.converged for row in rows["searches"]) == sum(row.found for row in rows["points"])
    assert rows["stalled"][0].stalled == chosen.starts - sum(row.converged for row in rows["searches"])
    assert all(row.index == row.index_measured for row in rows["catalogue"])
    assert rows["known"][0].matched == rows["known"][0].converged


def points(index, seed=0, decay=0.003, size=20, loss=None):
    columns = {"index": index, "loss": loss or list(range(len(index))), "near_zero": 0, "newton_step": 1e-9}
    return pd.DataFrame(columns | {"seed": seed, "decay": decay, "parameters": size})


def test_index_variance_is_zero_for_coins():
    coins = [int(k) for k in philox(4).binomial(20, 0.5, 4000)]
    biased = [int(k) for k in philox(5).binomial(20, 0.2, 4000)]
    assert contrasts.index_variance(points(coins))[0] == pytest.approx(0, abs=0.08)
    assert contrasts.index_variance(points(biased))[0] == pytest.approx(0.2 * 0.8 / 0.25 - 1, abs=0.08)
    assert contrasts.index_variance(points(biased), fitted=True)[0] == pytest.approx(0, abs=0.08)
    assert contrasts.index_variance(points([5, 5, 5, 5]))[0] == -1


def test_shares_and_order_have_the_text_s_sign():
    found = points([0, 1, 2, 3])
    assert contrasts.share_of_saddles(found)[0] == 0.75
    assert contrasts.minima_beyond_coins(found)[0] == pytest.approx(0.25 - 0.5**20)
    assert contrasts.minima_beyond_coins(points([1, 2, 3])).isna().all()
    assert contrasts.loss_against_index(found)[0] == 1
    assert contrasts.loss_against_index(points([3, 2, 1, 0]))[0] == -1


def drawn(shares, draws=1000):
    """Two replicates with the given share of positive matrices by dimension, and index variance 3."""
    rows = [(seed, n, draws, round(share * draws), n / 2, 3.0) for seed in (0, 1) for n, share in shares.items()]
    columns = ["seed", "dimension", "draws", "positive", "index_mean", "index_variance"]
    return pd.DataFrame(rows, columns=columns)


def test_random_matrices_against_coins():
    coins = drawn({2: 1 / 4, 3: 1 / 8, 4: 1 / 16, 100: 0}, draws=16000)
    np.testing.assert_allclose(contrasts.bits_per_eigenvalue(coins), 1)
    np.testing.assert_allclose(contrasts.quadratic_coefficient(coins), 0, atol=1e-12)
    np.testing.assert_allclose(contrasts.random_index_variance(coins), 3 / 25 - 1)
    square = drawn({n: 2.0 ** -(n**2) for n in (2, 3, 4)}, draws=2**20)
    np.testing.assert_allclose(contrasts.quadratic_coefficient(square), log(2))
    assert contrasts.bits_per_eigenvalue(drawn({2: 0.2, 3: 0.1, 4: 0})).isna().all()


def test_drawn_matrices_are_held_against_the_exact_probability():
    exact = pd.DataFrame({"dimension": [2, 3, 4], "log_probability": np.log([CLOSED[n] for n in (2, 3, 4)])})
    near = drawn({n: CLOSED[n] for n in (2, 3, 4)}, draws=100_000)
    assert contrasts.largest_z({"exact": exact, "drawn": near}) < 0.1
    far = drawn({2: 0.25, 3: 0.125, 4: 0.0625})
    assert contrasts.largest_z({"exact": exact, "drawn": far}) > 4


def test_catalogue_is_counted():
    entries = {"seed": 0, "parameters": 24, "index": [3, 1, 2, 0], "index_measured": [3, 1, 2, 0]}
    found = pd.DataFrame(entries | {"loss": [1.0, 2, 3, 0], "loss_measured": [1.0, 2, 3, 1e-31]})
    assert contrasts.bits_per_parameter(found)[0] == pytest.approx(2 / 24)
    assert contrasts.catalogue_match(found) == 1
    assert contrasts.catalogue_match(found.assign(index_measured=[3, 1, 1, 0])) == 0.75
    assert contrasts.catalogue_match(found.assign(loss_measured=[1.0, 2, 3.001, 0])) == 0.75


def frames_of_a_study():
    chosen = small(seeds=(0, 1), drawn={2: 400, 3: 2000, 4: 9000, 10: 50}, decays=(0.0, 0.01))
    parts = [study.of_seed(chosen, seed) for seed in chosen.seeds]
    frames = {name: pd.DataFrame([row for part in parts for row in part[name]]) for name in parts[0]}
    exact = [(n, ensembles.log_probability_positive(n)) for n in range(1, 9)]
    return frames | {"exact": pd.DataFrame(exact, columns=["dimension", "log_probability"])}


def test_every_claim_has_effects_gates_and_a_finding():
    frames = frames_of_a_study()
    effects, gates = contrasts.effects(frames), contrasts.gates(frames)
    assert {row.claim for row in gates} == {row.claim for row in effects} | {row.claim for row in gates}
    assert {row.claim for row in effects} >= {"saddles.majority.linear", "saddles.minima.linear"}
    values = {(row.claim, row.gate): row.value for row in gates}
    assert values["saddles.minima.linear", "catalogue_match"] == 1
    assert values["saddles.index_variance.goe", "drawn_exact"] < 4
    (linear,) = {row.value for row in effects if row.claim == "saddles.majority.linear"}
    assert linear == pytest.approx(7 / 8 - 1 / 2)
    exponent = next(row for row in contrasts.findings(frames) if row.quantity.startswith("coefficient"))
    assert exponent.mean == pytest.approx(contrasts.QUADRATIC, rel=0.05)
    assert contrasts.fewest(frames, frames["points"].iloc[:0]) == 0
