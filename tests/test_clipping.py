"""Gradient clipping: the recurrent network, cohorts with thresholds of their own, and the study's contrasts."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from pydantic import ValidationError

from nonconvex import config
from nonconvex.contrasts import clipping as contrasts
from nonconvex.data.splits import Arrays
from nonconvex.drawings import clipping as drawings
from nonconvex.measure.clipped_quadratic import Quadratics
from nonconvex.measure.gradient_norms import Recorded
from nonconvex.models.gru import Gru
from nonconvex.models.stacked import stack
from nonconvex.observations import clipping as rows
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.optimizers import Sgd
from nonconvex.studies import clipped_runs
from nonconvex.studies import clipping as study
from nonconvex.studies.draws import OTHER
from nonconvex.studies.training import Recipe, trained
from nonconvex.study_settings.clipping import ClippedBed, Clipping

ROOT = Path(__file__).resolve().parents[1]
SMOKE = config.read(ROOT / "profiles/smoke/params.yaml")
INF = math.inf


def as_cell(net: Gru) -> torch.nn.GRUCell:
    """torch's own cell with the network's weights."""
    cell = torch.nn.GRUCell(1, net.hidden)
    pairs = ((cell.weight_ih, net.input.weight), (cell.weight_hh, net.recurrent.weight))
    pairs += ((cell.bias_ih, net.input.bias), (cell.bias_hh, net.recurrent.bias))
    with torch.no_grad():
        for there, here in pairs:
            there.copy_(here)
    return cell.double()


class TestGru:
    @pytest.mark.parametrize("read", ["last", "all"])
    def test_equals_torchs_cell(self, read):
        torch.manual_seed(0)
        net = Gru(classes=3, hidden=5, length=7, read=read).double()
        cell, x = as_cell(net), torch.randn(4, 7, dtype=torch.float64)
        h, states = torch.zeros(4, 5, dtype=torch.float64), []
        for at in range(7):
            h = cell(x[:, at : at + 1], h)
            states.append(h)
        assert torch.allclose(torch.stack(net.states(x)), torch.stack(states), rtol=0, atol=1e-12)
        read_out = h if read == "last" else torch.stack(states, 1).flatten(1)
        assert torch.allclose(net(x), read_out @ net.head.weight.T + net.head.bias, rtol=0, atol=1e-12)

    def test_stacked_members_are_single_networks(self):
        network, params = stack(lambda: Gru(classes=3, hidden=4, length=6, read="all"), [1, 2])
        x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
        together = network(params, x)
        for member, seed in enumerate((1, 2)):
            torch.manual_seed(seed)
            alone = Gru(classes=3, hidden=4, length=6, read="all")
            assert torch.allclose(together[member], alone(x[member]), rtol=0, atol=1e-5)

    def test_parameters_of_the_baseline(self):
        # MNIST-1D's has both directions, two bias vectors each, and a head on 40 x 12 states: 5,134
        count = sum(p.numel() for p in Gru(hidden=6, read="all").parameters())
        one_direction = 3 * 6 * (1 + 6 + 2)
        assert count == one_direction + 240 * 10 + 10
        assert 2 * one_direction + 480 * 10 + 10 == 5134

    def test_unknown_reads_are_refused(self):
        with pytest.raises(ValueError, match="unknown read 'first'; known: last, all"):
            Gru(read="first")


@pytest.fixture(scope="module")
def gru():
    return clipped_runs.clipped_bed(SMOKE, "gru_sgd")


class TestRuns:
    def test_each_member_is_clipped_at_its_own_threshold_as_torch_does(self):
        grads = {"w": torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]])}
        recorded = Recorded(torch.tensor([1.0, INF, 20.0]))
        found = recorded.before_step(grads, (0, 1, 2), 0)["w"]
        leaf = torch.nn.Parameter(torch.zeros(2))
        leaf.grad = torch.tensor([3.0, 4.0])
        torch.nn.utils.clip_grad_norm_([leaf], 1.0)
        assert torch.allclose(found[0], leaf.grad)
        assert torch.equal(found[1:], grads["w"][1:])
        assert recorded.factors()[0].tolist() == pytest.approx([0.2, 1.0, 1.0])
        assert recorded.medians().tolist() == [5.0] * 3

    def test_an_infinite_threshold_is_plain_training_to_the_last_bit(self, gru):
        bed, optimizer = gru
        both = clipped_runs.watched(bed, optimizer, (5, 8), (1, 1, 1), (0.3,) * 3, (INF, 1e6, 0.01))
        plain = trained(bed, Recipe(5, 8, optimizer=optimizer), (1, 1, 1), (0.3,) * 3)
        for name, value in plain.params.items():
            assert torch.equal(value[:2], both.end.params[name][:2])
        assert not torch.equal(plain.params["head.bias"][2], both.end.params["head.bias"][2])

    def test_a_clipped_update_is_as_long_as_rate_times_threshold(self, gru):
        bed, _ = gru
        run = clipped_runs.watched(bed, Sgd(), (1, 8), (1,), (0.5,), (0.01,))
        _, before = stack(bed.build, (1,))
        moved = sum(float((run.end.params[n] - v).square().sum()) for n, v in before.items()) ** 0.5
        assert moved == pytest.approx(0.005, rel=1e-3)

    def test_spikes_are_counted_against_the_twenty_losses_before(self, gru):
        bed, optimizer = gru
        run = clipped_runs.watched(bed, optimizer, (2, 8), (1, 2, 3), (0.1,) * 3, (INF,) * 3)
        losses = torch.ones(40, 3)
        losses[5, 0] = 9.0  # too early to be one
        losses[30, 0], losses[31, 0] = 2.5, 2.01  # the mean before the second is 1.075
        losses[30, 1], losses[35, 1] = 2.05, 1.99  # a loss is no part of the mean that it is held against
        found = replace(run, losses=losses, end=replace(run.end, diverged=torch.tensor([-1, -1, 7])))
        assert found.spikes.tolist() == [1, 1, 1]
        short = replace(found, losses=losses[:20])
        assert short.spikes.tolist() == [0, 0, 1]

    def test_every_seed_has_its_own_shuffled_labels(self):
        split = clipped_runs.OwnLabels(torch.arange(60.0)[:, None], torch.arange(60))
        x, y = split.batch((3, 4), 0, 60)
        plain, _ = Arrays(split.x, split.y).batch((3, 4), 0, 60)
        assert torch.equal(x, plain)
        assert torch.equal(y.sort(1).values, torch.arange(60).expand(2, 60))
        label_of = [dict(zip(x[e, :, 0].tolist(), y[e].tolist(), strict=True)) for e in range(2)]
        assert label_of[0] != label_of[1]
        assert sum(label == int(value) for value, label in label_of[0].items()) < 10
        later_x, later_y = split.batch((3, 4), 1, 60)  # the next epoch deals the order anew, not the labels
        assert dict(zip(later_x[0, :, 0].tolist(), later_y[0].tolist(), strict=True)) == label_of[0]


class TestSmoothness:
    def test_equals_differences_of_torchs_own_gradients(self, gru):
        bed, _ = gru
        steps, read = clipped_runs.local_smoothness(bed, Sgd(), (4, 8), ((5,), (0.2,)), 2, 12)
        assert steps == [0, 3]
        torch.manual_seed(5)
        net = bed.build().double()
        x, y = bed.data.train.examples(12)
        batch_x, batch_y = bed.data.train.batch((5,), 0, 8)

        def gradient(a, b):
            net.zero_grad()
            torch.nn.functional.cross_entropy(net(a.double()), b).backward()
            return torch.cat([p.grad.flatten() for p in net.parameters()]).clone()

        g, update = gradient(x, y), -0.2 * gradient(batch_x[0], batch_y[0])
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(
                torch.nn.utils.parameters_to_vector(net.parameters()) + update, net.parameters()
            )
        h = gradient(x, y)
        expected = [g.norm(), (h - g).norm() / update.norm(), update.norm()]
        assert read[0, :, 0].tolist() == pytest.approx([float(v) for v in expected], rel=2e-3)


class TestQuadratic:
    def test_edges_without_clipping_are_the_closed_form(self):
        for momentum in (0.0, 0.5, 0.9):
            made = Quadratics(range(3), 4, 10.0, momentum)
            assert made.edge == pytest.approx(2 * (1 + momentum))
            rates = made.edge * torch.tensor([0.9, 0.97, 1.03, 1.1], dtype=torch.float64)
            assert made.edges(rates, made.never, 500, 1e-6) == pytest.approx([0.97 * made.edge] * 3)

    def test_ends_are_those_of_torchs_optimiser_with_torchs_clipping(self):
        made = Quadratics([3], 4, 10.0, 0.5)
        w = torch.nn.Parameter(made.starts[0].clone())
        optimizer = torch.optim.SGD([w], lr=0.7, momentum=0.5)
        first = None
        for _ in range(15):
            loss = 0.5 * (made.curvatures * w.square()).sum()
            first = float(loss.detach()) if first is None else first
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([w], 0.3)
            optimizer.step()
        end = float(0.5 * (made.curvatures * w.detach().square()).sum()) / first
        thresholds = torch.tensor([0.3], dtype=torch.float64)
        found = made.ends(torch.tensor([0.7, 0.1], dtype=torch.float64), thresholds, 15)
        assert float(found[0, 0]) == pytest.approx(end, rel=1e-9)

    def test_beyond_the_edge_clipping_bounds_the_swing_and_does_not_end_it(self):
        made = Quadratics([0, 1], 3, 5.0, 0.0)
        rates = torch.tensor([1.9, 2.2], dtype=torch.float64)
        clipped = made.ends(rates, torch.full((2,), 0.2, dtype=torch.float64), 600)
        plain = made.ends(rates, made.never, 600)
        assert (clipped[:, 0] < 1e-6).all()
        assert ((clipped[:, 1] > 1e-6) & (clipped[:, 1] < 1)).all()
        assert not (plain[:, 1] < 1).any()

    def test_an_edge_outside_the_grid_is_not_known(self):
        made = Quadratics([0], 3, 5.0, 0.0)
        for rates in ([0.5, 1.0], [2.5, 3.0]):
            assert made.edges(torch.tensor(rates, dtype=torch.float64), made.never, 300, 1e-6) == [None]


class TestStudy:
    def test_cells_are_unique_and_what_the_settings_ask_for(self):
        settings = config.read(ROOT / "params.yaml")
        rates = {"none": 0.12, "loose": 0.12, "median": 0.24, "hard": 0.96}
        at = study.Choice(rates, {"none": INF, "loose": 11.0, "median": 1.1, "hard": 0.11}, "median")
        cells = study.reported_cells(settings, "gru_sgd", at)
        assert len({tuple(vars(c).values()) for c in cells}) == len(cells)
        count = lambda **want: sum(all(getattr(c, k) == v for k, v in want.items()) for c in cells)  # noqa: E731
        own = {"labels": "true", "draw": "own"}
        how = settings.strategies.clipping.beds["gru_sgd"]
        assert count(arm="none", **own) == 10 * (len(how.edge_rates) + 1)  # and the one for spikes
        assert count(arm="median", **own) == 10 * (len(how.edge_rates) + 1)
        assert count(arm="hard", **own) == 20
        assert count(labels="shuffled") == 4 * how.shuffled
        assert count(draw="other", rate=0.12) == 10
        assert count(draw="other", rate=0.48) == how.edge_twins
        scored = {(c.arm, c.rate) for c in cells if study.tested(c, at)}
        assert scored == {("none", 0.12), ("median", 0.24), ("hard", 0.96), ("hard", 0.12)}
        assert {c.start - c.seed for c in cells if c.draw == "other"} == {OTHER}

    def test_no_clipping_has_as_many_trials_as_all_thresholds(self):
        part = SMOKE.strategies.clipping.beds["mlp"].model_copy(update={"steps": 2, "rates": (0.1, 0.2, 0.4)})
        own = SMOKE.strategies.clipping.model_copy(update={"beds": {"mlp": part}})
        settings = SMOKE.model_copy(update={"strategies": SMOKE.strategies.model_copy(update={"clipping": own})})
        tuned, thresholds = study.tuned_arms(settings)
        by_arm = {arm.arm.arm: arm.arm for arm in tuned}
        best = next(t.arm for t in thresholds if t.chosen)
        whole = study.best_arm(tuned, "mlp", best)
        assert whole.trials == by_arm["none"].trials == 9
        assert whole.rate == by_arm[best].rate
        assert sum(t.chosen for t in thresholds) == 1
        assert [t.threshold / t.median_norm for t in thresholds] == pytest.approx([10, 1, 0.1])
        losses = {arm.arm.arm: study.criterion(arm) for arm in tuned if arm.arm.arm != "none"}
        assert best == min(losses, key=losses.get)

    def test_settings_that_cannot_be_are_refused(self):
        content = yaml.safe_load((ROOT / "profiles/smoke/params.yaml").read_text())["strategies"]["clipping"]
        bed = content["beds"]["mlp"]
        cases = [
            ({**content, "tuning": [0, 1000, 1001]}, r"must not be reported: \[0\]"),
            ({**content, "tuning": [1000]}, "at most 0 tuning_seeds allowed"),
            ({**content, "multiples": {"median": 1.0}}, "missing: hard, loose"),
            ({**content, "beds": {"mlp": {**bed, "rates": [0.1, 0.3, 0.6]}}}, "factor of at most 2.5"),
            ({**content, "beds": {"mlp": {**bed, "rates": [0.2, 0.1, 0.3]}}}, "must rise"),
            ({**content, "beds": {"mlp": {**bed, "edge_rates": []}}}, "both or neither"),
            ({**content, "beds": {"mlp": {**bed, "points": 22}}}, "points: 2 to 21"),
            ({**content, "beds": {"mlp": {**bed, "edge_twins": 3}}}, "edge_twins <= edge_seeds"),
        ]
        for broken, message in cases:
            with pytest.raises(ValidationError, match=message):
                Clipping.model_validate(broken)
        assert ClippedBed.model_validate(bed).points == 4


# Planted outcomes: everything a claim reads, with effects that are known

EDGES = {"gru_sgd": (0.12, 0.48), "gru_adam": (0.15, 0.15), "mlp": (0.16, 0.08)}  # largest stable: none, median
GRIDS = {"gru_sgd": (0.06, 0.12, 0.24, 0.48, 0.96), "gru_adam": (0.075, 0.15, 0.3), "mlp": (0.04, 0.08, 0.16, 0.32)}
TUNED = {"gru_sgd": (0.12, 0.24), "gru_adam": (0.03, 0.03), "mlp": (0.04, 0.04), "transformer": (0.005, 0.005)}
GAIN = {"gru_sgd": 0.05, "gru_adam": 0.0, "mlp": 0.02, "transformer": 0.01}  # of clipping in test error, twice in loss
SLOPES = {"gru_sgd": 0.8, "mlp": 0.1, "transformer": 0.4}
FAR = 0.36
HARD = 0.96


def made_run(model, arm, seed, rate, labels="true", draw="own"):
    stable = int(model in EDGES and rate <= EDGES[model][arm != "none"] * (0.5 if draw == "other" else 1))
    spikes = {("none", FAR): 3, ("none", 0.12): int(seed < 1)}.get((arm, rate), 0) * (model == "gru_sgd")
    spikes *= draw == "own"
    error = 0.5 + 0.01 * seed + (0.004 if draw == "other" else 0.0)
    if arm == "hard":
        error += 0.2 if rate == 0.12 else 0.03
    elif arm != "none" and rate == TUNED[model][1]:
        error -= GAIN[model] * (0.1 if labels == "shuffled" else 1)
    factor = 0.5 if arm == "median" else 1.0
    values = (1.5, 2 * error, error)
    return rows.ClippedRun(model, arm, labels, draw, seed, rate, 200, None, spikes, 0.5, factor, stable, *values)


def planted(seeds=4) -> dict[str, pd.DataFrame]:
    tuning, tuned, thresholds, found, points = [], [], [], {}, []

    def add(*key):
        run = made_run(*key)
        found[tuple(getattr(run, name) for name in run.KEY)] = run

    for model, (none, best) in TUNED.items():
        for arm, rate, count in (
            ("none", none, 9),
            ("loose", none, 3),
            ("median", best, 3),
            ("hard", HARD, 3),
            ("clipped", best, 9),
        ):
            tuned.append(TunedArm(model, arm, "validation_loss", rate, 1, count))
            if arm != "clipped":
                tuning += [TuningTrial(model, arm, 1000, r, None, None, 1.0, 0.5) for r in (rate / 2, rate, rate * 2)]
        for arm, multiple in (("loose", 10.0), ("median", 1.0), ("hard", 0.1)):
            thresholds.append(rows.ClippingThreshold(model, arm, multiple, 2.0, 2 * multiple, int(arm == "median")))
        for seed in range(seeds):
            for labels in ("true", "shuffled"):
                add(model, "none", seed, none, labels)
                add(model, "median", seed, best, labels)
            add(model, "none", seed, none, "true", "other")
            for rate in GRIDS.get(model, ()):
                add(model, "none", seed, rate)
                add(model, "median", seed, rate)
                if seed < 2 and model != "gru_adam":
                    add(model, "none", seed, rate, "true", "other")
    for seed in range(seeds):
        for rate in (0.12, FAR):
            add("gru_sgd", "none", seed, rate)
            add("gru_sgd", "median", seed, rate)
            add("gru_sgd", "none", seed, rate, "true", "other")
        for rate in (0.12, HARD):
            for labels in ("true", "shuffled"):
                add("gru_sgd", "hard", seed, rate, labels)
        for model, slope in SLOPES.items():
            for step, norm in enumerate((0.5, 1.0, 2.0, 3.0)):
                points.append(rows.SmoothnessPoint(model, seed, step, norm, (1 + seed) * norm**slope, 0.1))
    curves = [
        rows.CurveLoss("gru_sgd", a, 0, FAR, s, 2.0 + (a == "none")) for a in ("none", "median") for s in range(5)
    ]
    edges = [("gradient_descent", "none", 0.99), ("gradient_descent", "median", 0.99)]
    edges += [("heavy_ball", "none", 0.99), ("heavy_ball", "median", 0.9)]
    quadratic = [rows.QuadraticEdge(o, arm, seed, 0.1, share) for o, arm, share in edges for seed in range(seeds)]
    parts = {"tuning": tuning, "tuned": tuned, "thresholds": thresholds, "runs": list(found.values())}
    parts |= {"smoothness": points, "curves": curves, "quadratic": quadratic}
    return {name: pd.DataFrame(values) for name, values in parts.items()}


BASE = planted()
CLAIMS = contrasts.contrasts(BASE)


def changed(frames, name, where: dict, **values):
    frame = frames[name].copy()
    chosen = np.logical_and.reduce([frame[key] == value for key, value in where.items()])
    assert chosen.any()
    frame.loc[chosen, list(values)] = list(values.values())
    return {**frames, name: frame}


def gate(frames, claim):
    return contrasts.claim_gates(frames, claim)


TWICE = math.log10(2)


class TestContrasts:
    @pytest.mark.parametrize(
        ("claim", "expected"),
        [
            ("smoothness_slope.gru_sgd", 0.8),
            ("smoothness_slope.mlp", 0.1),
            ("smoothness_slope.transformer", 0.4),
            ("edge.gru_sgd", 2 * TWICE),
            ("effective_edge.gru_sgd", TWICE),  # the run's gradients were halved
            ("edge.gru_adam", 0.0),
            ("edge.mlp", -TWICE),
            ("edge.quadratic_gradient_descent", 0.0),
            ("edge.quadratic_heavy_ball", math.log10(0.9 / 0.99)),
            ("spikes_far.gru_sgd", 1.0),
            ("hard_same_rate.gru_sgd", 0.2),
            ("hard_tuned.gru_sgd", 0.03),
            ("accuracy.gru_sgd", 0.05),
            ("loss.gru_sgd", 0.1),
            ("accuracy.gru_adam", 0.0),
            ("loss.transformer", 0.02),
            ("accuracy.mlp", 0.02),
            ("more_accuracy.gru_sgd", 0.03),
            ("more_edge.gru_sgd", 3 * TWICE),
            ("more_loss.transformer", -0.02),
        ],
    )
    def test_every_contrast_recovers_what_was_planted(self, claim, expected):
        assert CLAIMS[claim]["claim"].tolist() == pytest.approx([expected] * 4)

    def test_spikes_are_shares_of_runs_not_of_updates(self):
        assert CLAIMS["spikes_tuned.gru_sgd"]["claim"].tolist() == [1, 0, 0, 0]

    def test_controls(self):
        assert CLAIMS["edge.gru_sgd"]["same_arm"].dropna().tolist() == pytest.approx([TWICE] * 2)
        assert CLAIMS["edge.mlp"]["same_arm"].dropna().tolist() == pytest.approx([TWICE] * 2)
        assert "same_arm" not in CLAIMS["edge.gru_adam"]
        assert CLAIMS["more_edge.gru_sgd"]["same_arm"].tolist() == pytest.approx([0.0] * 2)
        assert CLAIMS["spikes_far.gru_sgd"]["same_arm"].tolist() == [1] * 4
        assert CLAIMS["accuracy.gru_sgd"]["same_arm"].tolist() == pytest.approx([0.004] * 4)
        assert CLAIMS["loss.transformer"]["same_arm"].tolist() == pytest.approx([0.008] * 4)
        assert CLAIMS["hard_tuned.gru_sgd"]["same_arm"].tolist() == pytest.approx([-0.004] * 4)
        assert CLAIMS["accuracy.gru_sgd"]["shuffled_labels"].tolist() == pytest.approx([0.005] * 4)
        assert CLAIMS["more_accuracy.gru_sgd"]["shuffled_labels"].tolist() == pytest.approx([0.003] * 4)
        assert "shuffled_labels" not in CLAIMS["loss.gru_sgd"]

    def test_the_rate_for_spikes_is_no_part_of_the_search_for_the_edge(self):
        where = {"model": "gru_sgd", "rate": FAR}
        found = contrasts.contrasts(changed(BASE, "runs", where, stable=1))
        assert found["edge.gru_sgd"]["claim"].tolist() == pytest.approx([2 * TWICE] * 4)

    def test_an_edge_that_is_not_between_two_rates_fails_its_gate(self):
        assert gate(BASE, "edge.gru_sgd") == {"rate_interior": 1.0, "edge_found": 1.0}
        where = {"model": "gru_sgd", "arm": "median", "seed": 2, "labels": "true"}
        open_end = changed(BASE, "runs", where, stable=1)
        assert gate(open_end, "edge.gru_sgd")["edge_found"] == pytest.approx(7 / 8)
        assert gate(open_end, "effective_edge.gru_sgd")["edge_found"] == pytest.approx(7 / 8)
        assert gate(open_end, "more_edge.gru_sgd")["edge_found"] == pytest.approx(7 / 8)
        assert gate(open_end, "edge.mlp")["edge_found"] == 1.0
        never = changed(BASE, "runs", where, stable=0)
        assert gate(never, "edge.gru_sgd")["edge_found"] == pytest.approx(7 / 8)
        assert list(contrasts.wider(never, "gru_sgd").dropna().index) == [0, 1, 3]

    def test_gates_of_tuning(self):
        assert gate(BASE, "accuracy.gru_sgd") == {"rate_interior": 1.0, "equal_tuning": 1.0}
        edge = changed(BASE, "tuned", {"model": "mlp", "arm": "clipped"}, interior=0)
        assert gate(edge, "accuracy.mlp")["rate_interior"] == 0.0
        assert gate(edge, "more_accuracy.gru_sgd")["rate_interior"] == 0.0
        assert gate(edge, "accuracy.gru_sgd")["rate_interior"] == 1.0
        assert gate(edge, "edge.mlp")["rate_interior"] == 1.0
        hard = changed(BASE, "tuned", {"model": "gru_sgd", "arm": "hard"}, interior=0)
        assert gate(hard, "hard_tuned.gru_sgd") == {"rate_interior": 0.0}
        assert gate(hard, "hard_same_rate.gru_sgd") == {"rate_interior": 1.0}
        fewer = changed(BASE, "tuned", {"model": "transformer", "arm": "none"}, trials=3)
        assert gate(fewer, "loss.transformer")["equal_tuning"] == 0.0
        assert gate(fewer, "more_loss.transformer")["equal_tuning"] == 0.0

    def test_a_gradient_of_one_length_has_no_slope(self):
        spread = float(np.std(np.log([0.5, 1, 2, 3]), ddof=1))
        assert gate(BASE, "smoothness_slope.mlp")["clipping_spread"] == pytest.approx(spread)
        narrow = changed(BASE, "smoothness", {"model": "mlp", "seed": 1, "step": 3}, gradient_norm=1.0)
        assert gate(narrow, "smoothness_slope.mlp")["clipping_spread"] < spread

    def test_a_diverged_run_leaves_its_seed_out(self):
        where = {"model": "gru_sgd", "arm": "none", "seed": 1, "rate": 0.12, "draw": "own"}
        found = contrasts.contrasts(changed(BASE, "runs", where, test_error=np.nan, test_loss=np.nan))
        assert list(found["accuracy.gru_sgd"]["claim"].dropna().index) == [0, 2, 3]
        assert list(found["more_accuracy.gru_sgd"]["claim"].index) == [0, 2, 3]

    def test_findings_have_unique_names_and_beds_that_were_not_run_have_no_claims(self):
        found = contrasts.findings(BASE)
        assert len({(f.model, f.quantity) for f in found}) == len(found)
        assert {f.table for f in found} == {"strategies"}
        part = {n: f[f.model != "transformer"] if "model" in f else f for n, f in BASE.items()}
        assert not any("transformer" in e.claim for e in contrasts.effects(part))
        names = {e.claim for e in contrasts.effects(BASE)}
        assert names == {f"clipping.{name}" for name in CLAIMS}
        assert {g.claim for g in contrasts.gates(BASE)} == {name for name in names if "quadratic" not in name}


class TestDrawings:
    def test_figures_say_what_is_averaged(self):
        for figure in (
            drawings.responses(BASE),
            drawings.edges(BASE),
            drawings.smoothness(BASE),
            drawings.changes(BASE),
        ):
            assert any(word in figure.get_suptitle() for word in ("mean", "median"))
        assert [
            panel.get_title(loc="left") for panel in drawings.edges(BASE).axes if panel.axison and panel.get_visible()
        ] == [
            "GRU, SGD",
            "GRU, Adam",
            "MLP, SGD",
        ]
        assert "0.36" in drawings.spikes(BASE).get_suptitle()

    def test_lines_follow_the_planted_slope(self):
        panel = next(p for p in drawings.smoothness(BASE).axes if p.get_title(loc="left").startswith("GRU"))
        for line in panel.lines:
            x, y = np.log(line.get_xdata()), np.log(line.get_ydata())
            assert (y[1] - y[0]) / (x[1] - x[0]) == pytest.approx(0.8)

    def test_the_response_is_that_of_seeds_which_all_arms_share(self):
        extra = pd.DataFrame([TuningTrial("mlp", "none", 1001, 0.04, None, None, 50.0, 0.5)])
        frames = {**BASE, "tuning": pd.concat([BASE["tuning"], extra], ignore_index=True)}
        assert set(drawings.shared_trials(frames, "mlp").seed) == {1000}

    def test_changes_are_drawn_at_their_means(self):
        panel = drawings.changes(BASE).axes[1]
        names = [label.get_text() for label in panel.get_yticklabels()]
        at = {float(line.get_ydata()[0]): line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"}
        assert at[names.index("GRU, SGD")] == pytest.approx(5)
        assert at[names.index("GRU, SGD minus MLP")] == pytest.approx(3)

    def test_missing_runs_leave_gaps_and_no_errors(self):
        frames = changed(planted(2), "runs", {"model": "gru_sgd"}, stable=0, test_error=np.nan, train_loss=np.nan)
        for draw in (drawings.edges, drawings.changes):
            assert draw(frames).axes
