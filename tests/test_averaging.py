"""Averages of one trajectory, and the study that compares them with iterates and with decayed runs."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nonconvex import config
from nonconvex.beds import bed_of
from nonconvex.contrasts import averaging as contrasts
from nonconvex.contrasts import averaging_geometry as geometry
from nonconvex.drawings import averaging as drawings
from nonconvex.measure import averaged_variance as theory
from nonconvex.observations.averaging import AveragedCurvature, AveragedEnd, VarianceFactor
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.strategies.clipping import Clipping
from nonconvex.strategies.ema import Ema
from nonconvex.strategies.swa import Swa
from nonconvex.studies import averaged_flatness as flatness
from nonconvex.studies import averaging as study
from nonconvex.studies.averages import Alongside
from nonconvex.studies.training import with_shuffled_labels
from nonconvex.study_settings.averaging import Averaging

ROOT = Path(__file__).resolve().parents[1]
SMOKE = config.read(ROOT / "profiles/smoke/params.yaml")
SETTINGS = SMOKE.strategies.averaging


class TestVariance:
    @pytest.mark.parametrize(("decay", "expected"), [(0.9, 0.3233), (0.99, 0.04329)])
    def test_moving_average_at_the_reference_values(self, decay, expected):
        assert theory.ema_factor(decay, 0.8) == pytest.approx(expected, rel=2e-4)

    def test_plain_average_at_the_reference_value(self):
        assert theory.swa_factor(50, 0.8) == pytest.approx(0.1640, rel=2e-4)

    @pytest.mark.parametrize("a", [0.98, 0.3, 0.0, -0.8])
    def test_both_ways_against_the_sum_of_autocovariances(self, a):
        """Weights w on lags 0, 1, ...: variance sum_ij w_i w_j a^|i-j|."""
        decay = 0.9
        lags = np.arange(400)
        weights = (1 - decay) * decay**lags
        expected = weights @ (a ** np.abs(lags[:, None] - lags)) @ weights
        assert theory.ema_factor(decay, a) == pytest.approx(expected, rel=1e-9)
        assert theory.exact_ema_factor(decay, a) == pytest.approx(expected, rel=1e-9)
        expected = (a ** np.abs(lags[:7, None] - lags[:7])).mean()
        assert theory.swa_factor(7, a) == pytest.approx(expected, rel=1e-12)
        assert theory.exact_swa_factor(7, a) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("a", [0.8, -0.6])
    def test_simulation_of_the_strategies(self, a):
        found = theory.simulated_factor(Ema(0.8), a, 40, 40_000, 1)
        assert found == pytest.approx(theory.ema_factor(0.8, a), rel=0.03)
        found = theory.simulated_factor(Swa(0.0, 1), a, 12, 40_000, 1)
        assert found == pytest.approx(theory.swa_factor(12, a), rel=0.03)

    def test_the_last_iterate_is_stationary(self):
        assert theory.simulated_factor(Alongside({}), 0.9, 3, 40_000, 2) == pytest.approx(1, rel=0.03)

    def test_records_of_the_study(self):
        rows = study.factors(SETTINGS)
        assert [(r.average, r.horizon, r.product) for r in rows[:2]] == [("ema", 0.9, 0.2), ("swa", 10, 0.2)]
        assert rows[0].closed_form == pytest.approx(0.323308, rel=1e-5)
        assert all(abs(r.deviation) < 1e-12 for r in rows)
        assert all(0.5 < r.simulated / r.closed_form < 2 for r in rows)


class TestAlongside:
    def test_averages_are_those_of_torch_and_do_not_meet(self):
        """Two moving averages and a plain one, each against torch's AveragedModel fed the same weights."""
        steps, model = 12, torch.nn.Linear(3, 1, bias=False).double()
        parts = Alongside({"last": Swa(0.99, 1), "swa": Swa(0.5, 2), "fast": Ema(0.5), "slow": Ema(0.9)}).bind(steps)
        theirs = {
            "swa": AveragedModel(model),
            "fast": AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5)),
            "slow": AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
        }
        generator, state = torch.Generator().manual_seed(0), {}
        for step in range(steps):
            model.weight.data = torch.randn(1, 3, dtype=torch.float64, generator=generator)
            state = parts.after_step(state, step, {"w": model.weight.data.clone()})
            for name, one in theirs.items():
                if name != "swa" or step in (6, 8, 10):
                    one.update_parameters(model)
        found = parts.averages(state, {"w": model.weight.data})
        for name, one in theirs.items():
            torch.testing.assert_close(found[name]["w"], one.module.weight.data, rtol=1e-12, atol=0)

    def test_a_strategy_that_changes_the_run_is_refused(self):
        with pytest.raises(ValueError, match="Clipping changes the run"):
            Alongside({"clipped": Clipping()})


def by_hand(model: str, rate: float, seed: int, shuffled=False, shape="constant") -> list[dict[str, torch.Tensor]]:
    """The weights after every update of a run, by torch's own optimizer, one network."""
    bed, how = bed_of(SMOKE, model), SETTINGS.beds[model]
    bed = with_shuffled_labels(bed, seed) if shuffled else bed
    torch.manual_seed(seed)
    network, weights = bed.build(), []
    decay = bed.training.optimizer.weight_decay
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    for step in range(how.steps):
        share = (1 + math.cos(math.pi * step / how.steps)) / 2 if shape == "cosine" else 1
        optimizer.param_groups[0]["lr"] = rate * share
        optimizer.zero_grad()
        x, y = bed.data.train.batch([seed], step, how.batch_size)
        torch.nn.functional.cross_entropy(network(x[0]), y[0]).backward()
        optimizer.step()
        weights.append({name: value.detach().clone() for name, value in network.named_parameters()})
    return weights


def loss_at(model: str, weights: dict[str, torch.Tensor], statistics_of=None) -> float:
    """Test loss with batch norm over the training examples in one batch."""
    bed, how = bed_of(SMOKE, model), SETTINGS.beds[model]
    network = bed.build()
    norms = [m for m in network.modules() if hasattr(m, "collecting")]
    network.load_state_dict({**network.state_dict(), **(statistics_of or weights)})
    for norm in norms:
        norm.collecting = True
    with torch.no_grad():
        network.train()(bed.data.train.examples(how.statistics_examples)[0])
        for norm in norms:
            norm.collecting, (norm.mean, norm.variance) = False, norm.batch
        network.load_state_dict({**network.state_dict(), **weights})
        x, y = bed.data.test.examples(how.test_examples)
        return torch.nn.functional.cross_entropy(network.eval()(x), y).item()


def mean_of(weights):
    return {name: torch.stack([one[name] for one in weights]).mean(0) for name in weights[0]}


class TestStudy:
    def test_ends_of_the_mlp_are_those_of_a_run_by_hand(self):
        shapes = {3: "constant", 4: "cosine"}
        cells = [study.Cell("mlp", shape, 0.2, seed) for seed, shape in shapes.items()]
        rows = {(row.seed, row.average): row for row in study.run(SMOKE, cells)}
        assert len(rows) == 2 * 4
        for seed in (3, 4):
            weights = by_hand("mlp", 0.2, seed, shape=shapes[seed])
            # from the share 0.75 of 12 steps on, every 2: updates 10 and 12
            expected = {"last": weights[-1], "swa": mean_of([weights[9], weights[11]])}
            for name, at in expected.items():
                assert rows[seed, name].test_loss == pytest.approx(loss_at("mlp", at), rel=1e-4)
                assert rows[seed, name].statistics == "recomputed"

    def test_statistics_belong_to_the_average_or_in_the_control_to_the_last_iterate(self):
        rows = {(r.average, r.statistics): r for r in study.run(SMOKE, [study.Cell("resnet", "constant", 0.1, 3)])}
        assert set(rows) == {("last", "recomputed")} | {
            (name, kind) for name in ("swa", "ema_0.99") for kind in ("recomputed", "last")
        }
        weights = by_hand("resnet", 0.1, 3)
        average = mean_of([weights[6]])  # 8 steps, from 6 on, every 2: update 7 alone
        assert rows["swa", "recomputed"].test_loss == pytest.approx(loss_at("resnet", average), rel=1e-3)
        stale = loss_at("resnet", average, weights[-1])
        assert rows["swa", "last"].test_loss == pytest.approx(stale, rel=1e-3)
        assert rows["swa", "last"].test_loss != rows["swa", "recomputed"].test_loss

    def test_a_second_draw_differs_and_shuffled_labels_are_a_seeds_own(self):
        (own, *_), (other, *_) = (
            study.run(SMOKE, [study.Cell("mlp", "constant", 0.2, 3, draw=draw)]) for draw in ("own", "other")
        )
        assert own.test_loss != other.test_loss and other.seed == 3
        row, *_ = study.run(SMOKE, [study.Cell("mlp", "constant", 0.2, 3, "shuffled")])
        assert row.test_loss == pytest.approx(loss_at("mlp", by_hand("mlp", 0.2, 3, shuffled=True)[-1]), rel=1e-4)

    def test_a_diverged_run_has_its_step_and_no_scores(self):
        rows = study.run(SMOKE, [study.Cell("mlp", "constant", 1e30, 3)])
        assert all(row.diverged_step is not None and row.test_loss is None for row in rows)
        trials = study.tune(SMOKE, [study.Cell("mlp", "constant", 1e30, 1000)])
        assert all(trial.diverged_step is not None and trial.validation_loss is None for trial in trials)

    def test_every_arm_has_as_many_trials(self):
        cells = [cell for job in study.tuning_jobs(SMOKE) for cell in job.args[1] if cell.model == "mlp"]
        assert len(cells) == len(set(cells)) == 3 * 3 * 1
        assert {cell.seed for cell in cells} == {1000}
        trials = study.tune(SMOKE, [cell for cell in cells if cell.rate == 0.2])
        assert sorted(t.arm for t in trials) == sorted(
            f"{s} {a}" for s in ("constant", "cosine", "linear") for a in ("last", "swa", "ema_0.9", "ema_0.99")
        )

    def test_what_is_run_covers_every_tuned_peak(self):
        rates = {
            (model, schedule, average): (0.8 if (schedule, average) == ("cosine", "swa") else 0.2)
            for model in SETTINGS.beds
            for schedule in ("constant", "cosine", "linear")
            for average in ("last", "swa", "ema_0.9", "ema_0.99")
        }
        cells = study.reported_cells(SETTINGS, "mlp", rates)
        assert len(cells) == len(set(cells))
        own = {(c.schedule, c.rate, c.seed) for c in cells if (c.labels, c.draw) == ("true", "own")}
        assert own == {("constant", rate, seed) for rate in (0.05, 0.2, 0.8) for seed in (0, 1)} | {
            (s, rate, seed) for s, rate in (("cosine", 0.2), ("cosine", 0.8), ("linear", 0.2)) for seed in (0, 1)
        }
        assert {(c.schedule, c.rate) for c in cells if c.draw == "other"} == {("constant", 0.2)}
        jobs = study.reported_jobs(SMOKE, rates)
        assert all(len({c.seed for c in job.args[1]}) == 1 for job in jobs if job.args[1][0].labels == "shuffled")

    def test_the_baseline_is_the_best_decayed_schedule_of_the_tuning_seeds(self):
        def arm(model, name, losses):
            trials = [
                TuningTrial(model, name, 1000, r, None, None, v, 0.1) for r, v in zip((1, 2, 3), losses, strict=True)
            ]
            return study.chosen(trials)

        arms = [arm(m, "constant last", (9, 0, 9)) for m in SETTINGS.beds]
        arms += [arm(m, "cosine last", (9, 2, 9)) for m in SETTINGS.beds] + [arm("mlp", "linear last", (9, 1, 9))]
        assert study.baselines(SETTINGS, arms) == {"mlp": "linear", "resnet": "cosine", "transformer": "cosine"}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tuning": [0, 1000]}, "tuning seeds must not be reported"),
            ({"decay": 0.5}, "decays must hold 0.5"),
            ({"replicates": 3}, "shuffled <= replicates <= 2"),
            ({"schedules": ["cosine", "constant"]}, "must start with constant"),
            ({"rates": [0.2, 0.1, 0.4]}, "rates must rise"),
            ({"tuning_seeds": 2}, "at most 1 tuning_seeds"),
            ({"decays": [0.99, 0.99]}, "more than once"),
        ],
    )
    def test_settings_that_cannot_be_are_refused(self, change, message):
        content = SETTINGS.model_dump(mode="json")
        (content if set(change) & {"tuning", "decay"} else content["beds"]["mlp"]).update(change)
        with pytest.raises(ValidationError, match=message):
            Averaging.model_validate(content)


PEAKS = {"swa": 0.2, "swa_other": 0.2, "decayed": 0.1}
SHAPES = {"swa": "constant", "swa_other": "constant", "decayed": "cosine"}


class TestFlatness:
    def test_an_earlier_average_is_that_of_a_shorter_run(self):
        iterates = {at: {"w": torch.tensor([float(at)])} for at in range(1, 13)}
        # 12 steps from 9 on, every 2: updates 10 and 12; 8 steps from 6 on: update 7
        assert flatness.averaged(Swa(0.75, 2), iterates, 12)["w"].item() == 11
        assert flatness.averaged(Swa(0.75, 2), iterates, 8)["w"].item() == 7
        assert list(flatness.window(Swa(0.75, 2), 12)) == [10, 12]

    @pytest.mark.parametrize(
        ("level", "expected"), [(1.0, -3), (1.4, -3), (1.6, -4), (5.0, -5), (0.25, -1), (0.1, -1), (0.45, -2)]
    )
    def test_the_nearest_look_around_the_first_crossing(self, level, expected):
        assert flatness.nearest(torch.tensor([3.0, 2.0, 1.0, 0.5, 0.25]), level) == expected

    def test_the_higher_end_is_kept_and_the_other_taken_earlier(self):
        steps = {4: {}, 8: {}, 12: {}}
        paths = {
            "swa": flatness.Path(steps, torch.tensor([[3.0, 3.0], [1.0, 2.0], [0.5, 1.5]])),
            "last": flatness.Path(steps, torch.tensor([[3.0, 3.0], [2.0, 1.5], [1.0, 0.7]])),
        }
        assert flatness.matched(paths, ("swa", "last"), 0) == {"last": -1, "swa": -2}
        assert flatness.matched(paths, ("swa", "last"), 1) == {"swa": -1, "last": -2}

    def test_curvature_is_that_of_the_networks_by_hand(self):
        """Against a dense Hessian's products by torch on a single network: λ_max by power iteration in float64."""
        rows = flatness.curvatures(SMOKE, "mlp", SHAPES, PEAKS, (3,))
        of = {(row.match, row.network): row for row in rows}
        assert set(of) == {("end", n) for n in ("swa", "last", "decayed", "swa_other")} | {
            (other, n) for other in ("last", "decayed") for n in ("swa", other)
        }
        bed, how = bed_of(SMOKE, "mlp"), SETTINGS.beds["mlp"].flatness
        weights = by_hand("mlp", 0.2, 3)
        for name, at in (("last", weights[-1]), ("swa", mean_of([weights[9], weights[11]]))):
            network = bed.build().double()
            network.load_state_dict(at)
            x, y = bed.data.train.examples(how.examples)
            parameters = list(network.parameters())
            grads = torch.autograd.grad(
                torch.nn.functional.cross_entropy(network(x.double()), y), parameters, create_graph=True
            )
            vector = [torch.ones_like(p) + 0.1 * torch.arange(p.numel()).view_as(p) / p.numel() for p in parameters]
            for _ in range(60):
                size = math.sqrt(sum(float((v * v).sum()) for v in vector))
                vector = [v / size for v in vector]
                product = torch.autograd.grad(grads, parameters, vector, retain_graph=True)
                value = sum(float((p * v).sum()) for p, v in zip(product, vector, strict=True))
                vector = product
            row = of["end", name]
            assert row.lambda_max == pytest.approx(value, rel=0.02)
            assert (row.step, row.rate, row.seed) == (12, 0.2, 3)
            x, y = bed.data.train.examples(how.loss_examples)
            loss = torch.nn.functional.cross_entropy(network(x.double()), y).item()
            assert row.train_loss == pytest.approx(loss, rel=1e-4)
        assert of["end", "decayed"].rate == 0.1
        assert of["end", "swa_other"].lambda_max != of["end", "swa"].lambda_max

    def test_a_seed_of_which_a_run_diverged_has_no_numbers(self):
        rows = flatness.curvatures(SMOKE, "mlp", SHAPES, {**PEAKS, "decayed": 1e30}, (3,))
        assert all(row.step is None and row.trace is None for row in rows)


# Planted: what each arm's test error is worth; losses follow from it
ERROR = {"last": 0.40, "swa": 0.33, "ema_0.9": 0.36, "ema_0.97": 0.34, "ema_0.999": 0.60}
SHAPE = {"constant": 1.0, "cosine": 0.9, "linear": 0.8}
RATES = (0.05, 0.1, 0.2, 0.4)
OTHER_DRAW, SHUFFLED_SHARE, STALE = 0.004, 0.1, 0.2
BEDS = {"mlp": tuple(SHAPE), "resnet": ("constant", "cosine"), "transformer": ("constant", "cosine")}
LN = {"swa": 1.0, "last": 1.5, "decayed": 1.2, "swa_other": 1.07}
EMA = "ema_0.97"


def error(schedule, average, rate=0.1):
    """A decayed run gains nothing from averaging; per octave off the tuned rate iterates lose 0.1, averages 0.03."""
    gained = ERROR[average] if schedule == "constant" or average == "ema_0.999" else ERROR["last"]
    return gained * SHAPE[schedule] + (0.1 if average == "last" else 0.03) * abs(math.log2(rate / 0.1))


def run_rows(model, schedule, rate, seed, labels="true", draw="own"):
    for average in ERROR:
        for statistics in ("recomputed",) if average == "last" or model != "resnet" else ("recomputed", "last"):
            value = error(schedule, average, rate) * (SHUFFLED_SHARE if labels == "shuffled" else 1)
            value += OTHER_DRAW * (draw == "other") + STALE * (statistics == "last") + seed / 100
            scores = (value, value / 2, 3 * value, value)
            yield AveragedEnd(model, schedule, rate, labels, draw, seed, average, statistics, None, *scores)


def planted(seeds: int = 4) -> dict[str, pd.DataFrame]:
    tuning, tuned, runs, curvature, quadratic = [], [], [], [], []
    for model, shapes in BEDS.items():
        for shape in shapes:
            for average in ERROR:
                arm = f"{shape} {average}"
                tuning += [
                    TuningTrial(model, arm, s, rate, None, None, error(shape, average, rate), 0.5)
                    for rate in RATES
                    for s in (1000, 1001)
                ]
                tuned.append(TunedArm(model, arm, "validation_loss", 0.1, 1, 8))
            every = RATES if (model, shape) == ("mlp", "constant") else (0.1,)
            runs += [row for rate in every for seed in range(seeds) for row in run_rows(model, shape, rate, seed)]
            runs += [row for s in range(2) for row in run_rows("mlp", shape, 0.1, s, "shuffled") if model == "mlp"]
        runs += [row for s in range(seeds) for row in run_rows(model, "constant", 0.1, s, draw="other")]
        for match, networks in (("end", LN), ("last", ("swa", "last")), ("decayed", ("swa", "decayed"))):
            for network in networks if model != "transformer" else ():
                for seed in range(seeds):
                    height = math.exp(LN[network] * (1 if match == "end" else 2) + seed)
                    values = (10, math.exp(0.01 * LN[network]), height, 0.01, height**2, 0.1, height**3)
                    curvature.append(AveragedCurvature(model, match, network, seed, 0.1, *values))
    for average in ("ema", "swa"):
        for product in (0.1, 0.2, 0.4):
            quadratic += [
                VarianceFactor(average, 1.0, product, 0.5, -2e-12, 0.51, 10),
                VarianceFactor(average, 2.0, product, 0.5, 1e-12, 0.48, 10),
            ]
    parts = {"tuning": tuning, "tuned": tuned, "runs": runs, "curvature": curvature, "quadratic": quadratic}
    return {name: pd.DataFrame(rows) for name, rows in parts.items()}


BASE = planted()
FOUND = {row: contrasts.effects(BASE, row, EMA) for row in ("swa", "ema")}


def changed(frames, name, where: dict, **values):
    frame = frames[name].copy()
    rows = np.logical_and.reduce([frame[key] == value for key, value in where.items()])
    frame.loc[rows, list(values)] = list(values.values())
    return {**frames, name: frame}


def of_claim(claim, role="claim", frames=None):
    row = claim.split(".")[0]
    found = FOUND[row] if frames is None else contrasts.effects(frames, row, EMA)
    return [e.value for e in found if (e.claim, e.role) == (claim, role)]


def gate(frames, claim):
    return {g.gate: g.value for g in contrasts.gates(frames, claim.split(".")[0], EMA) if g.claim == claim}


class TestContrasts:
    @pytest.mark.parametrize(
        ("claim", "expected"),
        [
            ("swa.own_last_accuracy.mlp", 0.07),
            ("swa.own_last_accuracy.resnet", 0.07),
            ("swa.own_last_loss.transformer", 3 * 0.07),
            ("swa.decayed_accuracy.mlp", 0.8 * 0.40 - 0.33),  # linear is best on the tuning seeds
            ("swa.decayed_loss.mlp", 3 * (0.8 * 0.40 - 0.33)),
            ("swa.decayed_accuracy.resnet", 0.9 * 0.40 - 0.33),
            ("swa.decayed_loss.transformer", 3 * (0.9 * 0.40 - 0.33)),
            ("swa.like_decay_accuracy.mlp", 0.8 * 0.40 - 0.33),
            ("ema.own_last_accuracy.mlp", 0.06),
            ("ema.own_last_accuracy.resnet", 0.06),
            ("ema.own_last_loss.transformer", 3 * 0.06),
            ("ema.like_swa_accuracy.mlp", -0.01),
            ("ema.long_horizon_accuracy.mlp", 0.26),
            ("ema.interaction_accuracy.mlp", 0.06),
        ],
    )
    def test_every_contrast_recovers_what_was_planted(self, claim, expected):
        assert of_claim(claim) == pytest.approx([expected] * 4)

    def test_the_interaction_is_the_difference_of_two_gains(self):
        where = {"model": "mlp", "schedule": "cosine", "average": EMA, "labels": "true"}
        frames = changed(BASE, "runs", where, test_error=0.2)
        expected = [0.06 - (0.36 + seed / 100 - 0.2) for seed in range(4)]
        assert of_claim("ema.interaction_accuracy.mlp", frames=frames) == pytest.approx(expected)

    def test_flatness_is_positive_where_the_average_is_flatter(self):
        # λ = exp(2 LN), trace its square, at the matched loss
        assert of_claim("swa.flat_lambda_last.mlp") == pytest.approx([2 * 0.5] * 4)
        assert of_claim("swa.flat_lambda_decayed.mlp") == pytest.approx([2 * 0.2] * 4)
        assert of_claim("swa.flat_trace_last.resnet") == pytest.approx([4 * 0.5] * 4)
        assert of_claim("swa.flat_trace_decayed.mlp") == pytest.approx([4 * 0.2] * 4)
        # the control compares ends
        assert of_claim("swa.flat_lambda_last.mlp", "same_arm") == pytest.approx([0.07] * 4)
        assert of_claim("swa.flat_trace_decayed.resnet", "same_arm") == pytest.approx([2 * 0.07] * 4)
        gone = changed(BASE, "curvature", {"network": "swa", "seed": 1, "model": "mlp"}, trace=-1.0)
        assert len(of_claim("swa.flat_trace_last.mlp", frames=gone)) == 3

    def test_controls(self):
        for claim in ("swa.own_last_accuracy.mlp", "swa.decayed_accuracy.resnet", "ema.interaction_accuracy.mlp"):
            assert of_claim(claim, "same_arm") == pytest.approx([OTHER_DRAW] * 4)
        assert of_claim("ema.own_last_loss.transformer", "same_arm") == pytest.approx([3 * OTHER_DRAW] * 4)
        assert of_claim("swa.own_last_accuracy.mlp", "shuffled_labels") == pytest.approx([0.1 * 0.07] * 2)
        assert of_claim("ema.interaction_accuracy.mlp", "shuffled_labels") == pytest.approx([0.1 * 0.06] * 2)
        for claim in ("swa.like_decay_accuracy.mlp", "ema.like_swa_accuracy.mlp"):
            assert of_claim(claim, "same_arm") == of_claim(claim, "shuffled_labels") == []
        assert of_claim("swa.decayed_loss.mlp", "shuffled_labels") == []

    def test_usable_rates(self):
        # last iterate: 0.40 at 0.1 and 0.1 more per factor of 2, usable up to 0.42; average: 0.34 + 0.03 per factor
        octave = math.log10(2)
        assert list(geometry.width(BASE, "last")) == pytest.approx([2 * 0.2 * octave] * 4)
        # 0.05 is the lowest rate of the grid; 0.4 is at 0.40, usable: the grid ends the range on both sides
        assert list(geometry.width(BASE, EMA)) == pytest.approx([3 * octave] * 4)
        assert of_claim("ema.rate_range.mlp") == pytest.approx([2.6 * octave] * 4)
        assert gate(BASE, "ema.rate_range.mlp") == {"averaging_range_inside": 0.5}

    def test_a_diverged_rate_ends_the_range_and_no_usable_rate_is_no_range(self):
        where = {"model": "mlp", "schedule": "constant", "average": EMA, "rate": 0.2, "seed": 1}
        frames = changed(BASE, "runs", where, test_error=np.nan)
        assert geometry.width(frames, EMA)[1] == pytest.approx(math.log10(2))
        frames = changed(BASE, "runs", {"average": EMA, "seed": 2}, test_error=0.9)
        assert geometry.width(frames, EMA)[2] == 0

    def test_theory_takes_the_largest_deviation_with_its_sign(self):
        assert of_claim("swa.variance_exact") == pytest.approx([-2e-12] * 3)
        assert of_claim("ema.variance_simulated") == pytest.approx([-0.04] * 3)

    def test_a_diverged_run_leaves_its_seed_out(self):
        where = {"model": "mlp", "schedule": "constant", "average": "swa", "seed": 2, "labels": "true"}
        frames = changed(BASE, "runs", where, test_error=np.nan, test_loss=np.nan)
        assert len(of_claim("swa.own_last_accuracy.mlp", frames=frames)) == 3

    def test_a_rate_at_which_a_tuning_seed_diverged_is_not_best(self):
        where = {"model": "mlp", "arm": "linear last", "rate": 0.1, "seed": 1000}
        frames = changed(BASE, "tuning", where, validation_loss=np.nan)
        assert contrasts.best_decayed(frames, "mlp") == "cosine"
        assert contrasts.best_decayed(BASE, "mlp") == "linear"

    def test_gates_see_what_they_are_for(self):
        assert gate(BASE, "swa.decayed_accuracy.mlp") == {"rate_interior": 1.0, "equal_tuning": 1.0}
        edge = changed(BASE, "tuned", {"model": "mlp", "arm": "linear last"}, interior=0)
        for claim in ("decayed_accuracy", "flat_trace_decayed"):
            assert gate(edge, f"swa.{claim}.mlp")["rate_interior"] == 0.0
        assert gate(edge, "swa.flat_trace_last.mlp")["rate_interior"] == 1.0
        assert gate(edge, "swa.own_last_accuracy.mlp")["rate_interior"] == 1.0
        fewer = changed(BASE, "tuned", {"model": "mlp", "arm": f"cosine {EMA}"}, trials=3)
        assert gate(fewer, "ema.interaction_accuracy.mlp")["equal_tuning"] == 0.0
        assert gate(BASE, "swa.flat_lambda_last.mlp")["matched_loss"] == pytest.approx(0.005)
        loose = changed(BASE, "curvature", {"model": "mlp", "match": "last", "seed": 0}, residual=0.3)
        assert gate(loose, "swa.flat_lambda_last.mlp")["residual"] == 0.3
        assert gate(loose, "swa.flat_lambda_decayed.mlp")["residual"] == 0.01

    def test_findings(self):
        for row in ("swa", "ema"):
            found = contrasts.findings(BASE, row, EMA)
            assert len({(f.model, f.quantity) for f in found}) == len(found)
            assert {(f.table, f.row, f.notebook) for f in found} == {("strategies", row, f"strategy_{row}")}
        by_name = {(f.model, f.quantity): f.mean for f in contrasts.findings(BASE, "swa", EMA)}
        quantity = "accuracy, better by: statistics recomputed than those of the last iterate, swa"
        assert by_name["resnet", quantity] == pytest.approx(STALE)
        assert by_name["mlp", "test_error of constant swa, own peak"] == pytest.approx(0.33 + 0.015)
        assert by_name["mlp", "ln trace, last minus swa, ends"] == pytest.approx(2 * 0.5)


class TestDrawings:
    def test_figures_say_what_is_averaged(self):
        for figure in (
            drawings.responses(BASE, "ema", EMA),
            drawings.scores(BASE, "ema"),
            drawings.rates(BASE, ["last", EMA]),
            drawings.flatness(BASE),
        ):
            assert "mean" in figure.get_suptitle() and figure.axes
        assert "simulated" in drawings.theory(BASE, "swa").get_suptitle()

    def test_the_longest_horizon_has_a_table_of_its_own(self):
        assert drawings.averages_of(BASE, "ema") == ["last", "ema_0.9", EMA]
        assert drawings.averages_of(BASE, "swa") == ["last", "swa"]

    def test_gains_are_drawn_at_their_means(self):
        panel = drawings.gains(BASE, "swa", EMA).axes[0]
        rows = [text.get_text() for text in panel.get_yticklabels()]
        at = {float(line.get_ydata()[0]): line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"}
        assert at[rows.index("SWA, constant rate over last iterate, constant rate")] == pytest.approx(7)
        assert at[rows.index("SWA, constant rate over last iterate, linear decay")] == pytest.approx(-1)

    def test_missing_runs_leave_gaps_and_no_errors(self):
        frames = changed(planted(2), "runs", {"average": "swa"}, test_error=np.nan, test_loss=np.nan)
        frames = changed(frames, "curvature", {"network": "swa"}, trace=np.nan, lambda_max=np.nan)
        for figure in (drawings.gains(frames, "swa", EMA), drawings.rates(frames, ["swa"]), drawings.flatness(frames)):
            assert figure.axes
        assert contrasts.findings(frames, "swa", EMA)
