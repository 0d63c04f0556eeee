"""The study of flat and sharp minima: statistics against brute force, numerics against closed forms, contrasts against
planted effects.

Not covered: whether the tuned rates are good, and whether the networks of the study behave as the text says.
"""

import itertools
import json
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from nonconvex import statistics, train
from nonconvex.contrasts import flat_vs_sharp as contrasts
from nonconvex.contrasts import flat_zoo
from nonconvex.losses import cross_entropy
from nonconvex.measure.matched import first_crossings
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.rescaling import difference, noisy_errors, rescaled
from nonconvex.measure.selection import MEASURES, measures
from nonconvex.models.mlp import Mlp
from nonconvex.models.stacked import Stacked, select, stack
from nonconvex.observations.flat_vs_sharp import Arm, Endpoint, Rescaling, Sharpness, Trial
from nonconvex.optimizers import Sgd
from nonconvex.strategies.base import Strategy
from nonconvex.studies import batch_arms
from nonconvex.studies.flat_vs_sharp import random_factor
from nonconvex.study_settings.properties import FlatVsSharp

SIZES = {"mlp": (16, 64, 1024), "resnet": (32, 256)}


# --- statistics


def test_partial_kendall_is_kendalls_formula_and_counts_pairs():
    draws = np.random.Generator(np.random.Philox(0))
    z = draws.integers(0, 4, 30)
    x, y = z + draws.integers(0, 4, 30), draws.integers(0, 5, 30) - z
    tau = lambda a, b: stats.kendalltau(a, b).statistic  # noqa: E731
    assert statistics.partial_kendall(x, y) == pytest.approx(tau(x, y))
    # Kendall 1942
    expected = (tau(x, y) - tau(x, z) * tau(y, z)) / np.sqrt((1 - tau(x, z) ** 2) * (1 - tau(y, z) ** 2))
    assert statistics.partial_kendall(x, y, [z]) == pytest.approx(expected)
    assert abs(expected - tau(x, y)) > 0.1


def test_partial_kendall_given_two_is_the_correlation_of_residual_signs():
    """By least squares on the signs of all ordered pairs."""
    draws = np.random.Generator(np.random.Philox(1))
    a, b = draws.normal(size=(2, 25))
    x, y = a + 0.5 * draws.normal(size=25), b - a + 0.5 * draws.normal(size=25)
    sx, sy, sa, sb = (np.sign(np.subtract.outer(v, v)).ravel() for v in (x, y, a, b))
    given = np.stack([sa, sb], 1)
    rx, ry = (s - given @ np.linalg.lstsq(given, s, rcond=None)[0] for s in (sx, sy))
    assert statistics.partial_kendall(x, y, [a, b]) == pytest.approx(rx @ ry / np.sqrt((rx @ rx) * (ry @ ry)))


def test_partial_kendall_without_variation_is_not_a_number():
    x = np.arange(5.0)
    assert np.isnan(statistics.partial_kendall(x, np.ones(5)))
    assert np.isnan(statistics.partial_kendall(x, -x, [x]))
    assert statistics.partial_kendall(x, -x, [[0, 1, 0, 1, 0]]) == pytest.approx(-1)


def test_pseudo_values_of_a_mean_are_the_units_and_of_a_variance_unbiased():
    values, units = np.array([1.0, 3.0, 4.0, 9.0]), np.array([7, 2, 5, 3])
    found = statistics.pseudo_values(units, lambda stay: values[stay].mean())
    assert found == pytest.approx({7: 1.0, 2: 3.0, 5: 4.0, 3: 9.0})
    # the jackknife turns the biased variance into the unbiased one exactly
    biased = statistics.pseudo_values(units, lambda stay: values[stay].var())
    assert np.mean(list(biased.values())) == pytest.approx(values.var(ddof=1))


# --- numerics


def network(members=2, double=True):
    net, params = stack(lambda: Mlp(3, 4, (6, 5), skip=False), range(members))
    draws = torch.Generator().manual_seed(3)
    params = {k: v + 0.1 * torch.randn(v.shape, generator=draws) for k, v in params.items()}  # biases are not zero
    x, y = torch.randn(20, 4, generator=draws), torch.randint(3, (20,), generator=draws)
    if double:
        net.module.double()
        params, x = {k: v.double() for k, v in params.items()}, x.double()
    return net, params, Objective(net, cross_entropy, shared(x, y)), (x, y)


def dense(net, params, x, y):
    """Hessian of one member by automatic differentiation of the plain module."""
    names, sizes = list(params), [v[0].numel() for v in params.values()]

    def loss(flat):
        parts = {n: f.view_as(params[n][0]) for n, f in zip(names, flat.split(sizes), strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(net.module, parts, (x,)), y)

    return torch.autograd.functional.hessian(loss, torch.cat([v[0].flatten() for v in params.values()]))


def test_rescaling_keeps_the_function_and_transforms_the_hessian_as_dinh_says():
    net, params, objective, (x, y) = network(members=1)
    factor = 10.0
    other = rescaled(params, "hidden.0", "hidden.1", torch.tensor([factor]))
    assert difference(objective, params, other).item() < 1e-12
    # H -> D^-1 H D^-1, D the factors that the weights are multiplied by
    scale = torch.cat([(other[n] / params[n])[0].flatten() for n in params])
    expected = torch.linalg.eigvalsh(dense(net, params, x, y) / torch.outer(scale, scale))[-1]
    before, after = (measures(objective, p, ("lambda_max", "adaptive_sharpness")) for p in (params, other))
    assert after["lambda_max"].value.item() == pytest.approx(expected.item(), rel=1e-4)
    assert after["lambda_max"].value.item() > 5 * before["lambda_max"].value.item()
    assert after["adaptive_sharpness"].value.item() == pytest.approx(before["adaptive_sharpness"].value.item())


def test_rescaling_uses_each_members_factor_and_notices_a_changed_function():
    _, params, objective, _ = network()
    other = rescaled(params, "hidden.0", "hidden.1", torch.tensor([1.0, 3.0]))
    for name, ratio in (
        ("hidden.0.weight", 3.0),
        ("hidden.0.bias", 3.0),
        ("hidden.1.weight", 1 / 3),
        ("head.bias", 1.0),
    ):
        assert torch.allclose(other[name][1], ratio * params[name][1])
        assert torch.equal(other[name][0], params[name][0])
    broken = {**other, "hidden.0.bias": params["hidden.0.bias"]}
    changes = difference(objective, params, broken)
    assert changes[0] == 0 and changes[1] > 1e-3
    with pytest.raises(ValueError, match="parameters hidden"):
        rescaled(params, "hidden.9", "hidden.1", torch.ones(2))
    with pytest.raises(ValueError, match="positive"):
        rescaled(params, "hidden.0", "hidden.1", torch.tensor([1.0, 0.0]))


def test_noisy_errors_are_those_of_the_moved_weights():
    """A linear classifier of one input: the label flips exactly where w + e changes sign."""

    class Sign(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return torch.stack([-self.w * x[:, 0], self.w * x[:, 0]], 1)

    examples = torch.ones(4, 1), torch.ones(4, dtype=torch.int64)
    run = lambda w, deviation: noisy_errors(  # noqa: E731
        Stacked(Sign()), {"w": torch.tensor([[w]])}, {}, examples, cross_entropy, deviation, 5
    ).item()
    assert run(1.0, 1e-3) == 0 and run(-1.0, 1e-3) == 1
    assert run(1e-6, 1.0) == 0.5  # of e and -e one is wrong


def test_measures_equal_dense_answers_in_every_chunk_and_keep_their_names():
    net, params, objective, (x, y) = network(members=5)
    found = measures(objective, params, MEASURES)
    assert list(found) == list(MEASURES)
    for e in (0, 4):
        values = torch.linalg.eigvalsh(dense(net, select(params, [e]), x, y))
        assert found["lambda_max"].value[e].item() == pytest.approx(values[-1].item(), rel=1e-2)
        assert abs(found["trace"].value[e] - values.sum()) < 5 * found["trace"].standard_error[e] + 1e-3
    assert found["sam_sharpness"].value.shape == (5,) and found["trace"].residual is None
    with pytest.raises(ValueError, match="sharpnes"):
        measures(objective, params, ("sharpnes",))


def test_first_crossings_on_a_quadratic_are_where_the_closed_form_says():
    """Gradient descent on w²/2 (one output w x, target 0): loss w0² (1 - rate)^(2t) / 2."""
    net = Stacked(nn.Linear(1, 1, bias=False).double())
    params = {"weight": torch.tensor([[[4.0]], [[4.0]], [[1.0]]], dtype=torch.float64)}
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)

    loss = lambda logits, targets: 0.5 * logits[..., 0] ** 2  # noqa: E731
    rates = torch.tensor([0.1, 0.0, 0.1], dtype=torch.float64)
    cohort = train.Cohort(
        loss=lambda p, x, y: loss(net(p, x), y).mean(1),
        batch=lambda seeds, step: (x.expand(3, 1, 1), y.expand(3, 1)),
        rates=rates.expand(40, 3),
        order=lambda step: (0, 1, 2),
        optimizer=Sgd(),
        strategy=Strategy(),
    )
    objective = Objective(net, loss, shared(x, y))
    end, crossings = first_crossings(cohort, params, objective, (2.0, 0.5, 1e-9), stride=2)
    assert end.step == 40
    assert end.params["weight"].flatten().tolist() == pytest.approx([4 * 0.9**40, 4, 0.9**40])
    for crossing in crossings:
        for member, start in ((0, 4.0), (2, 1.0)):
            steps = [t for t in range(2, 41, 2) if start**2 * 0.81**t / 2 <= crossing.level]
            first = steps[0] if steps else -1
            assert crossing.steps[member] == first
            assert crossing.params["weight"][member].item() == pytest.approx(start * 0.9 ** max(first, 0))
            if steps:
                assert crossing.losses[member].item() == pytest.approx(start**2 * 0.81**first / 2)
        assert crossing.steps[1] == -1 and torch.isnan(crossing.losses[1])
    assert crossings[0].reached == [0, 2] and crossings[2].reached == []


# --- which runs


def study(**changes) -> FlatVsSharp:
    bed = {
        "batch_sizes": [16, 64, 256], "small": 16, "large": 256, "steps": 50, "epochs": 2, "zoo": [16],
        "rates": [[0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5], [0.3, 0.4, 0.5, 0.6]],
        "accountings": ["tuned_steps", "tuned_epochs", "same_rate_epochs"],
        "measures": ["lambda_max"], "levels": [1.0, 0.5], "looks": 5, "examples": 10,
    }  # fmt: skip
    content = {
        "seeds": [0, 1, 2], "tuning": [9], "beds": {"mlp": {**bed, **changes}}, "controls": 2, "rescaling": 10.0,
        "noise": 0.1, "noise_pairs": 2, "noise_examples": 5,
    }  # fmt: skip
    return FlatVsSharp.model_validate_json(json.dumps(content))


def trials(study, best):
    """Trials whose error is smallest at the rate of place `best[size]`."""
    grids = dict(zip(study.beds["mlp"].batch_sizes, study.beds["mlp"].rates, strict=True))
    return [
        Trial("mlp", budget, size, rate, 9, 1.0, 0.1 + 0.1 * abs(i - best[size]))
        for budget in ("steps", "epochs")
        for size, grid in grids.items()
        for i, rate in enumerate(grid)
    ]


def test_arms_take_the_best_rate_and_know_whether_it_is_inside():
    arms = batch_arms.arms_of(study(), "mlp", trials(study(), {16: 1, 64: 0, 256: 2}), 640)
    found = {(a.accounting, a.batch_size): a for a in arms}
    assert len(found) == 9
    assert [found["tuned_steps", size].rate for size in (16, 64, 256)] == [0.2, 0.2, 0.5]
    assert [found["tuned_steps", size].interior for size in (16, 64, 256)] == [1, 0, 1]
    assert [found["tuned_epochs", size].steps for size in (16, 64, 256)] == [80, 20, 4]
    assert {found["tuned_steps", size].steps for size in (16, 64, 256)} == {50}
    assert {found["same_rate_epochs", size].rate for size in (16, 64, 256)} == {0.2}
    assert [found["tuned_steps", size].role for size in (16, 64, 256)] == ["small", "other", "large"]


def test_a_rate_that_diverged_once_is_not_chosen():
    rows = [
        Trial("mlp", "steps", 16, r, s, None, e)
        for r, s, e in ((0.1, 0, 0.3), (0.1, 1, 0.5), (0.2, 0, 0.1), (0.2, 1, None))
    ]
    assert batch_arms.best_rate((0.1, 0.2), rows) == 0.1
    assert batch_arms.best_rate((0.2,), rows) == 0.2


def test_reported_cells_hold_the_zoo_and_the_controls_once():
    arms = batch_arms.arms_of(study(), "mlp", trials(study(), {16: 1, 64: 1, 256: 1}), 640)
    cells = batch_arms.reported_cells(study(), arms)
    assert len(cells) == len(set(cells))
    count = lambda **want: sum(all(getattr(c, k) == v for k, v in want.items()) for c in cells)  # noqa: E731
    steps = {"budget": "steps", "labels": "true", "draw": "own"}
    assert {c.rate for c in cells if c.budget == "steps" and c.batch_size == 16} == {0.2, 0.3}  # inside the grid
    assert count(**steps, batch_size=16) == 6 and count(**steps, batch_size=64) == 3
    assert count(draw="other", budget="steps") == 2 and count(draw="other", batch_size=64) == 0
    assert count(labels="shuffled", budget="steps") == 4
    # batch 16 at equal epochs is both the tuned and the same-rate arm: trained once
    assert count(budget="epochs", labels="true", draw="own", batch_size=16) == 3
    assert count(budget="epochs", labels="true", draw="own", batch_size=256) == 6


def test_a_second_run_differs_in_its_seed_and_a_factor_in_every_cell():
    one = batch_arms.Cell("mlp", "steps", 16, 0.2, "true", "own", 3)
    other = batch_arms.Cell("mlp", "steps", 16, 0.2, "true", "other", 3)
    assert one.start == 3 and other.start != 3
    cells = [
        batch_arms.Cell("mlp", "steps", b, r, "true", "own", s)
        for b, r, s in itertools.product((16, 64), (0.1, 0.2), range(50))
    ]
    factors = np.array([random_factor(cell, 10.0) for cell in cells])
    assert len(set(factors)) == len(cells) and 0.1 <= factors.min() < 0.15 and 7 < factors.max() <= 10
    assert abs(np.log10(factors).mean()) < 0.15


def test_impossible_settings_are_refused():
    for changes, message in (
        ({"small": 17}, "among batch_sizes"),
        ({"rates": [[0.1, 0.2, 0.3]]}, "one grid per batch size"),
        ({"levels": [0.5, 1.0]}, "fall"),
        ({"epochs": None}, "need epochs"),
        ({"accountings": ["same_rate_epochs"]}, "tuned_epochs"),
    ):
        with pytest.raises(ValueError, match=message):
            study(**changes)


# --- contrasts


def frame(kind, rows):
    return pd.DataFrame([{field.name: row.get(field.name) for field in fields(kind)} for row in rows])


ARMS = (("mlp", "tuned_steps"), ("mlp", "tuned_epochs"), ("mlp", "same_rate_epochs"), ("resnet", "tuned_epochs"))
END, MET = {"large": 5.0}, {"large": 10.0}  # curvature of the large batch, at the end and at the last level
LEVELS = (None, 1.0, 0.5)


def planted() -> dict[str, pd.DataFrame]:
    """Small batches: 3 points more accurate (shuffled: none); at matched loss ten times flatter, at the end sharper."""
    arms = [arm for model, accounting in ARMS for arm in arms_of(model, accounting)]
    runs = [(arm, run) for arm in arms for run in runs_of(arm)]
    true = [(arm, run) for arm, run in runs if run["labels"] == "true"]
    zoo = [(a, r) for a, r in true if (a["accounting"], r["draw"]) == ("tuned_steps", "own") and a["role"] != "large"]
    rows = {
        Trial: [],
        Arm: arms,
        Endpoint: [endpoint(arm, run) for arm, run in runs],
        Sharpness: [row for arm, run in true for row in sharpness(arm, run)],
        Rescaling: [
            {**run, "kind": kind, "factor": 10.0, "difference": 1e-7, "residual": 0.02}
            | {"lambda_max": 100 * curvature(arm, run, None), "adaptive_sharpness": adaptive(run)}
            for arm, run in zoo
            for kind in ("random", "fixed")
            if kind == "random" or (arm["role"] == "small" and arm["rate"] == run["rate"])
        ],
    }
    names = ("trials", "arms", "endpoints", "sharpness", "rescalings")
    tables = [frame(kind, part).drop_duplicates(list(kind.KEY), ignore_index=True) for kind, part in rows.items()]
    return dict(zip(names, tables, strict=True))


def arms_of(model, accounting):
    sizes = SIZES[model]
    for at, size in enumerate(sizes):
        yield {
            "model": model,
            "accounting": accounting,
            "budget": accounting.rpartition("_")[2],
            "batch_size": size,
            "role": {sizes[-2]: "small", sizes[-1]: "large"}.get(size, "other"),
            "steps": 10,
            "rate": 0.01 if accounting == "same_rate_epochs" else 0.1 * (at + 1),
            "interior": 1,
            "trials": 5,
        }


def runs_of(arm):
    rates = [arm["rate"]] + [arm["rate"] / 2] * (arm["accounting"] == "tuned_steps" and arm["role"] != "large")
    for rate, labels, draw, seed in itertools.product(rates, ("true", "shuffled"), ("own", "other"), range(4)):
        shared_part = {name: arm[name] for name in ("model", "budget", "batch_size")}
        yield {**shared_part, "rate": rate, "labels": labels, "draw": draw, "seed": seed}


def endpoint(arm, run):
    accuracy = 0.5 + 0.01 * run["seed"] + 0.03 * (arm["role"] == "small" and run["labels"] == "true")
    loss = 0.2 + 0.01 * run["seed"] * (1 if arm["role"] == "small" else -1)
    noisy = 1 - accuracy + 0.01 * (1 + run["seed"])
    errors = {"test_error": 1 - accuracy, "clean_test_error": 1 - accuracy, "noisy_test_error": noisy}
    return {**run, **errors, "steps": 10, "train_loss": loss}


def curvature(arm, run, level):
    base = {None: END.get(arm["role"], 20.0), 1.0: 3.0, 0.5: MET.get(arm["role"], 1.0)}[level]
    return base * (1 + 0.1 * run["seed"]) * (1 + 0.001 * (run["rate"] == arm["rate"]))


def adaptive(run):
    return 0.3 / (1 + 0.1 * run["seed"])


def sharpness(arm, run):
    for level, quantity in itertools.product(LEVELS, ("lambda_max", "gauss_newton_max")):
        value = {"quantity": quantity, "value": curvature(arm, run, level), "residual": 0.01}
        yield {**run, **value, "level": level, "step": 5, "loss": level or 0.2}
    yield {**run, "step": 5, "loss": 0.2, "quantity": "adaptive_sharpness", "value": adaptive(run)}


@pytest.fixture(scope="module")
def seen():
    frames = planted()
    rows = pd.DataFrame(contrasts.effects(frames))
    gates = pd.DataFrame(contrasts.gates(frames)).set_index(["claim", "gate"]).value
    return SimpleNamespace(frames=frames, values=rows.groupby(["claim", "role"]).value, gates=gates)


def mean(seen, name, role="claim"):
    values = seen.values.get_group((f"flat_minima.{name}", role))
    assert len(values) == 4
    return values.mean()


def test_accuracy_is_small_minus_large_and_its_controls_vanish(seen):
    for name in contrasts.ACCURACY:
        assert mean(seen, name) == pytest.approx(0.03)
        assert mean(seen, name, "same_arm") == pytest.approx(0)
        assert mean(seen, name, "shuffled_labels") == pytest.approx(0)


def test_curvature_is_large_over_small_in_decades_at_the_last_level_and_at_the_end(seen):
    for model in ("mlp", "resnet"):
        for short in ("lambda_matched", "gauss_newton_matched"):
            assert mean(seen, f"{short}.{model}") == pytest.approx(1.0)
        assert mean(seen, f"lambda_end.{model}") == pytest.approx(np.log10(5 / 20))
        assert mean(seen, f"lambda_end.{model}", "same_arm") == pytest.approx(0)
    assert mean(seen, "lambda_end_same_rate.mlp") == pytest.approx(np.log10(5 / 20))


def test_rescaling_compares_the_same_run(seen):
    assert mean(seen, "rescaling_lambda.mlp") == pytest.approx(2)
    assert mean(seen, "rescaling_adaptive.mlp") == pytest.approx(0)


def test_correlations_are_positive_where_the_flatter_is_the_more_accurate(seen):
    """Sharpness by lambda_max rises with accuracy here, the adaptive one falls, in every arm; noise costs more too."""
    assert mean(seen, "correlation_lambda_max.mlp") < -0.5
    assert mean(seen, "correlation_adaptive_sharpness.mlp") > 0.3
    assert mean(seen, "robustness.mlp") > 0.5
    models = flat_zoo.zoo(seen.frames)
    assert len(models) == 16 and set(models.batch_size) == {16, 64}
    assert flat_zoo.within(models, "lambda_max") == -1 and flat_zoo.within(models, "adaptive_sharpness") == 1
    assert "flat_minima.correlation_trace.mlp" not in {claim for claim, _ in seen.values.groups}


def test_gates_say_what_was_measured(seen):
    gate = lambda name, gate: seen.gates[f"flat_minima.{name}", gate]  # noqa: E731
    assert gate("lambda_matched.mlp", "residual") == 0.01 and gate("lambda_matched.mlp", "trained") == 1
    assert gate("lambda_matched.mlp", "matched") == pytest.approx(0)
    assert gate("correlation_lambda_max.mlp", "models") == 16 and gate("correlation_rescaled.mlp", "residual") == 0.02
    assert gate("rescaling_adaptive.mlp", "same_outputs") == 1e-7
    assert gate("batch_accuracy.mlp", "rate_interior") == 1 and gate("batch_accuracy.mlp", "equal_tuning") == 1


def test_gates_fail_for_an_edge_rate_an_unequal_tuning_and_a_level_that_was_missed():
    frames = planted()
    arms = frames["arms"]
    arms.loc[(arms.role == "large") & (arms.accounting == "tuned_steps"), ["interior", "trials"]] = 0, 3
    sharp = frames["sharpness"]
    missed = (sharp.level == 0.5) & (sharp.seed == 0) & (sharp.batch_size == 64)
    sharp.loc[missed, ["step", "loss", "value", "residual"]] = np.nan
    gates = pd.DataFrame(contrasts.gates(frames)).set_index(["claim", "gate"]).value
    assert gates["flat_minima.batch_accuracy.mlp", "rate_interior"] == 0
    assert gates["flat_minima.batch_accuracy.mlp", "equal_tuning"] == 0
    assert gates["flat_minima.batch_accuracy.resnet", "rate_interior"] == 1
    assert gates["flat_minima.lambda_matched.mlp", "trained"] == pytest.approx(7 / 8)
    left = [e for e in contrasts.effects(frames) if (e.claim, e.role) == ("flat_minima.lambda_matched.mlp", "claim")]
    assert [e.replicate for e in left] == [1, 2, 3]


def test_a_diverged_run_is_left_out(seen):
    frames = planted()
    ends = frames["endpoints"]
    ends.loc[(ends.seed == 2) & (ends.batch_size == 1024), "test_error"] = np.nan
    found = [
        e.replicate
        for e in contrasts.accuracies(frames)
        if (e.claim, e.role) == ("flat_minima.batch_accuracy.mlp", "claim")
    ]
    assert found == [0, 1, 3]


def test_findings_have_their_numbers(seen):
    found = {(f.model, f.quantity): f for f in contrasts.findings(seen.frames)}
    assert found["mlp", "test accuracy, batch 64, tuned steps"].mean == pytest.approx(0.545)
    assert all(f.n for f in found.values())
