"""Sharpness by perturbation against closed forms and invariances, and the contract that every number comes with."""

import math
from dataclasses import astuple, fields

import pytest
import torch
from curvature_oracles import Linear, assert_same, doubled, quadratic, rotation
from torch import nn

from nonconvex.config import FlatnessSettings
from nonconvex.losses import cross_entropy
from nonconvex.measure.contract import FULL, LEVELS, Measurement, flatness
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.measure.sharpness import average_sharpness, keskar_sharpness, worst_sharpness
from nonconvex.measure.spectrum import extreme_eigenvalues
from nonconvex.models.normalisation import BatchNorm
from nonconvex.models.stacked import Stacked, select

H = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
FAST = FlatnessSettings(lanczos_iterations=12, probes=3, noise_pairs=2, keskar_iterations=3, members_at_once=2)


def points(members=2, size=5, scale=1.0, seed=0):
    return scale * torch.randn(members, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Relu(nn.Module):
    """Two layers without biases: multiplying the first by c and dividing the second by it changes nothing."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6, bias=False), nn.Linear(6, 3, bias=False)

    def forward(self, x):
        return self.second(self.first(x).relu())


class Normed(nn.Module):
    """As `Relu`, with biases and batch norm between the layers."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(4, 6), BatchNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.second(self.norm(self.first(x)).relu())


def bed(build=Relu, members=2):
    network, params = doubled(build, members)
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(12, 4, dtype=torch.float64, generator=generator)
    statistics = network.statistics(params, [x.expand(members, *x.shape)])
    data = shared(x, torch.randint(3, (12,), generator=generator), 5)
    return Objective(network, cross_entropy, data, statistics), params


def changed(settings, **changes):
    return settings.model_copy(update=changes)


# --- worst case -------------------------------------------------------------------------------------------------------


def test_one_step_is_sam():
    """ρ‖g‖ + ½ρ² gᵀHg / ‖g‖² on a quadratic. Would miss: an ascent that is wrong on curved losses only."""
    w, rho = points(), 0.3
    g = H * w
    expected = rho * g.norm(dim=1) + 0.5 * rho**2 * (H * g**2).sum(1) / g.norm(dim=1) ** 2
    assert_same(worst_sharpness(*quadratic(H, w), rho).value, expected)


def test_one_adaptive_step_is_asam():
    """e = ρ w² g / ‖w g‖ (Kwon et al. 2021, eq. 8). Would miss: what SAM's test would."""
    w, rho = points(), 0.3
    e = rho * w**2 * (H * w) / (w * H * w).norm(dim=1, keepdim=True)
    expected = 0.5 * (H * (w + e) ** 2).sum(1) - 0.5 * (H * w**2).sum(1)
    assert_same(worst_sharpness(*quadratic(H, w), rho, adaptive=True).value, expected)
    assert_same((e / w).norm(dim=1), torch.full((2,), rho, dtype=torch.float64))


def test_more_steps_reach_the_top_of_the_ball():
    """½ρ² λ_max beside the minimum, in a rotated basis, where one step finds less. Would miss: a ball of wrong shape
    that
    agrees along the top eigenvector."""
    w, rho = points(scale=1e-6), 0.3
    problem = quadratic(H, w, rotation(5))
    found = worst_sharpness(*problem, rho, steps=60).value
    assert_same(found, torch.full((2,), 0.5 * rho**2 * 4, dtype=torch.float64), 1e-4)
    rises = torch.stack([worst_sharpness(*problem, rho, steps).value for steps in (1, 2, 5, 60)])
    assert (rises.diff(dim=0) >= 0).all() and (rises[0] < 0.95 * rises[3]).any()


def test_worst_case_is_never_negative():
    """At a maximum every step descends; the centre is the worst point. Would miss: a zero for every other point."""
    assert worst_sharpness(*quadratic(-H, points(scale=0.01)), 0.5, steps=3).value.tolist() == [0.0, 0.0]
    assert worst_sharpness(*quadratic(H, points(scale=0.0)), 0.5, steps=3).value.tolist() == [0.0, 0.0]
    assert worst_sharpness(*quadratic(H, points()), 0.0, steps=3).value.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_rescaling_changes_curvature_and_not_adaptive_sharpness(factor):
    """Dinh et al. 2017: the same function, another λ_max and SAM sharpness. Would miss: an invariance to any change."""
    objective, params = bed()
    scaled = {"first.weight": factor * params["first.weight"], "second.weight": params["second.weight"] / factor}
    assert_same(objective.losses(scaled), objective.losses(params))
    for steps in (1, 4):
        before, after = (worst_sharpness(objective, p, 0.2, steps, adaptive=True).value for p in (params, scaled))
        assert_same(after, before)
        assert (before > 0.01).all()
        plain = [worst_sharpness(objective, p, 0.2, steps).value for p in (params, scaled)]
        assert ((plain[1] / plain[0]).log().abs() > 0.2).all()
    ends = [extreme_eigenvalues(Hessian(objective, p)).largest.value for p in (params, scaled)]
    assert ((ends[1] / ends[0]).log().abs() > 0.5).all()


# --- average case -----------------------------------------------------------------------------------------------------


def test_average_is_half_the_trace():
    """½σ² tr H exactly in expectation on a quadratic. Would miss: a factor below three standard errors."""
    found = average_sharpness(*quadratic(H, points(), rotation(5)), 0.2, pairs=400)
    expected = 0.5 * 0.2**2 * H.sum()
    assert ((found.value - expected).abs() < 3 * found.standard_error).all()
    assert (found.standard_error < 0.1 * expected).all()


def test_pairs_cancel_the_gradient():
    """Far from the minimum the gradient term is 1000 times the curvature's; unpaired draws would drown it."""
    near, far = (average_sharpness(*quadratic(H, points(scale=scale)), 0.01, pairs=20) for scale in (1.0, 100.0))
    assert_same(far.value, near.value, 1e-6)
    assert_same(far.standard_error, near.standard_error, 1e-6)


# --- Keskar -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [1e-3, 5e-4])
def test_keskar_of_a_quadratic_at_its_minimum(box):
    """φ = 50 ε² tr H for diagonal H at 0, where the gradient vanishes. Would miss: trying the corners only."""
    found = keskar_sharpness(*quadratic(H, torch.zeros(2, 5, dtype=torch.float64)), box)
    assert_same(found.value, torch.full((2,), 50 * box**2 * H.sum()).double(), 1e-6)


def test_keskar_of_a_linear_loss():
    """The box is ε(|wᵢ| + 1) and the rise is divided by 1 + f: φ = 100 ε Σ |gᵢ| (|wᵢ| + 1) / (1 + f). Would miss:
    nothing of the definition."""
    w, g = points(), points(1, seed=9)[0]

    def linear(logits, targets):
        return logits[..., 0] + targets

    objective = Objective(Stacked(Linear(5)), linear, shared(g[None], torch.full((1,), 7.0).double()))
    expected = 100 * 1e-3 * (g.abs() * (w.abs() + 1)).sum(1) / (1 + 7 + w @ g)
    assert_same(keskar_sharpness(objective, {"w": w}).value, expected, 1e-6)


def test_keskar_reaches_the_corner_of_a_large_box():
    """200 slopes over two orders of magnitude, all bounds reached within 10 iterations, for any unit of the loss. Would
    miss: a loss that is still steep where the budget ends."""
    slopes = torch.logspace(-2, 0, 200, dtype=torch.float64)

    def scaled(logits, unit):
        return unit * logits[..., 0]

    for unit in (1e-6, 1.0, 1e6):
        objective = Objective(Stacked(Linear(200)), scaled, shared(slopes[None], torch.tensor([unit])))
        found = keskar_sharpness(objective, {"w": torch.zeros(1, 200, dtype=torch.float64)}).value
        assert_same(found, (100 * 1e-3 * unit * slopes.sum())[None], 1e-2)


def test_keskar_finds_a_maximum_inside_the_box():
    """Concave: the maximum is at 0, where f is 0, well inside the box around w. Would miss: what corners hide."""
    w = points(scale=3e-4)
    found = keskar_sharpness(*quadratic(-H, w), box=1e-2)
    start = -0.5 * (H * w**2).sum(1)
    assert_same(found.value, -100 * start / (1 + start), 1e-2)
    assert (keskar_sharpness(*quadratic(-H, 0 * w)).value >= 0).all()  # at the maximum itself


def test_keskar_beats_the_sign_of_the_gradient():
    """In a rotated basis the best corner is not the first one. Would miss: a maximum that is still too low."""
    w = points(scale=1e-3)
    objective, params = quadratic(H, w, rotation(5))
    corner = objective.at(params, w + 1e-3 * (w.abs() + 1) * objective.gradients(params).sign())
    start = objective.losses(params)
    assert (keskar_sharpness(objective, params).value >= 100 * (objective.losses(corner) - start) / (1 + start)).all()


# --- contract ---------------------------------------------------------------------------------------------------------


def test_flatness_reports_every_quantity_with_its_context():
    """Values equal those of the single functions; ragged batches of 5, 5 and 2. Would miss: an error in those."""
    objective, params = bed(Normed, 3)
    rows = flatness(objective, params, FAST, "full")
    assert [[row.quantity for row in member] for member in rows] == [list(FULL)] * 3
    row = {row.quantity: row for row in rows[1]}
    ends = extreme_eigenvalues(Hessian(objective, params), FAST.lanczos_iterations, FAST.tolerance)
    assert row["lambda_max"].value == pytest.approx(ends.largest.value[1].item())
    assert row["lambda_min"].value == pytest.approx(ends.smallest.value[1].item())
    assert row["lambda_min"].residual == pytest.approx(ends.smallest.residual[1].item(), rel=1e-4)
    size = objective.flat(params).shape[1]
    assert row["condition_number"].value == pytest.approx(size * row["lambda_max"].value / row["trace"].value)
    assert row["worst_sharpness"].value >= row["sam_sharpness"].value > 0
    assert row["gauss_newton_max"].value > 0 and row["keskar_sharpness"].value > 0
    adaptive = worst_sharpness(objective, params, FAST.adaptive_radius, FAST.ascent_steps, adaptive=True)
    assert row["adaptive_sharpness"].value == pytest.approx(adaptive.value[1].item())
    context = {"loss": "cross_entropy", "reduction": "mean", "examples": 12, "normalisation": "recomputed"}
    context |= {"parameters": "all", "dtype": "float64", "examples_sha256": objective.fingerprint()}
    for measurement in row.values():
        assert context.items() <= vars(measurement).items()
        assert math.isfinite(measurement.value) and measurement.iterations >= 1
    blank = {name: (row[name].standard_error is None, row[name].residual is None) for name in row}
    assert blank["lambda_max"] == (True, False) and blank["trace"] == (False, True)
    assert blank["keskar_sharpness"] == (True, True) and blank["average_sharpness"] == (False, True)


@pytest.mark.parametrize("level", LEVELS)
def test_a_diverged_member_is_nan_and_its_neighbours_do_not_notice(level):
    """NaN weights, weights so large that the loss overflows, and healthy ones. Would miss: a NaN in everyone's weights
    (the next test)."""
    objective, params = bed(Normed, 3)
    healthy = flatness(objective, params, FAST, level)
    broken = {name: value.clone() for name, value in params.items()}
    broken["second.bias"][0, 0] = torch.nan
    broken["second.weight"][2] = 1e308
    rows = flatness(objective, broken, FAST, level)
    for row, expected in zip(rows[1], healthy[1], strict=True):
        assert row.value == pytest.approx(expected.value, rel=1e-6) and row.method == expected.method
    assert all(math.isnan(row.value) for row in rows[0])
    assert all(math.isnan(row.value) for row in rows[2] if row.quantity in ("lambda_max", "lambda_min", "trace"))
    assert not any(math.isinf(row.value) for row in rows[2])


def test_a_cohort_that_diverged_as_a_whole():
    """No member left to measure. Would miss: nothing."""
    objective, params = bed(Normed, 1)
    rows = flatness(objective, {name: value * torch.nan for name, value in params.items()}, FAST)
    assert all(math.isnan(row.value) and row.iterations is None for row in rows[0])


def test_members_at_once_does_not_matter():
    """Alone, in pairs, or all together. Would miss: a dependence on the order of members."""
    objective, params = bed(Normed, 3)
    together = flatness(objective, params, changed(FAST, members_at_once=3), "full")
    apart = flatness(objective, params, changed(FAST, members_at_once=1), "full")
    alone = flatness(objective.select([2]), select(params, [2]), FAST, "full")
    for rows in (apart[2], alone[0]):
        for one, other in zip(rows, together[2], strict=True):
            assert (one.value, one.iterations) == (pytest.approx(other.value, rel=1e-6), other.iterations)
            assert astuple(one)[5:] == astuple(other)[5:]


def test_frozen_parameters_do_not_move():
    """With the first layer frozen the rest is a convex problem: λ_min ≥ 0, and φ falls. Would miss: a wrong block."""
    objective, params = bed()
    part = Objective(objective.network, cross_entropy, objective.batches, {}, free=["second.weight"])
    whole, head = (flatness(one, params, FAST, "full") for one in (objective, part))
    for before, after in zip(whole, head, strict=True):
        values = {row.quantity: row.value for row in before}, {row.quantity: row.value for row in after}
        assert values[0]["lambda_min"] < -1e-3 < values[1]["lambda_min"]
        assert values[1]["keskar_sharpness"] < values[0]["keskar_sharpness"]
        assert values[1]["lambda_max"] <= values[0]["lambda_max"]
        assert after[0].parameters == "second.weight"


def test_settings_reach_what_they_name():
    """Every setting changes some quantity, or only the cost. Would miss: two settings that are swapped."""
    objective, params = bed()
    base = FlatnessSettings(lanczos_iterations=3, tolerance=1e-9, probes=3, noise_pairs=3)
    before = flatness(objective, params, base, "full")
    changes = {
        "lanczos_iterations": 5,
        "tolerance": 10.0,
        "probes": 4,
        "sam_radius": 0.1,
        "adaptive_radius": 0.2,
        "ascent_steps": 1,
        "noise": 0.02,
        "noise_pairs": 4,
        "keskar_box": 1e-2,
        "seed": 1,
    }
    unmoved = {"examples", "members_at_once", "keskar_iterations"}  # the caller's, the cost, and enough at one
    assert set(changes) | unmoved == set(FlatnessSettings.model_fields)
    for name, value in changes.items():
        assert flatness(objective, params, changed(base, **{name: value}), "full") != before, name


def test_an_unknown_level_is_refused():
    """Would miss: nothing."""
    with pytest.raises(ValueError, match="unknown level 'all'; known: spectrum, full"):
        flatness(*bed(), FAST, "all")


def test_measurements_have_the_columns_of_their_record():
    """The record adds who was measured. Would miss: a column of the right name with another meaning."""
    from nonconvex.records import MeasurementRow

    names = [field.name for field in fields(MeasurementRow)]
    assert names[names.index("quantity") :] == [field.name for field in fields(Measurement)]
