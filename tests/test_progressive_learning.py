"""The orders of learning rates, and the study that compares them."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from nonconvex import config, schedules
from nonconvex.beds import bed_of
from nonconvex.contrasts import progressive_learning as contrasts
from nonconvex.drawings import progressive_learning as drawings
from nonconvex.observations.progressive_learning import CurvaturePoint, OrderedRun
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.studies import orders
from nonconvex.studies import progressive_learning as study
from nonconvex.studies.draws import OTHER
from nonconvex.studies.training import with_shuffled_labels
from nonconvex.study_settings.progressive_learning import ProgressiveLearning

ROOT = Path(__file__).resolve().parents[1]
SMOKE = config.read(ROOT / "profiles/smoke/params.yaml")
SETTINGS = SMOKE.factors.progressive_learning


def rates(factory, total: int) -> list[float]:
    schedule = factory(total)
    return [schedule(step) for step in range(total)]


class TestOrders:
    @pytest.mark.parametrize("total", [5, 40, 101])
    @pytest.mark.parametrize("shape", list(schedules.SCHEDULES))
    def test_other_orders_have_the_same_rates_to_the_last_bit(self, shape, total):
        own = rates(schedules.SCHEDULES[shape], total)
        back = rates(orders.reversed_in_time(schedules.SCHEDULES[shape]), total)
        mixed = rates(orders.shuffled(schedules.SCHEDULES[shape], 3), total)
        assert back == own[::-1]
        assert sorted(mixed) == sorted(own)

    def test_the_mean_has_the_same_sum(self):
        for shape in ("wsd", "warmup_cosine", "linear"):
            mean = rates(orders.at_mean(schedules.SCHEDULES[shape]), 80)
            assert len(set(mean)) == 1
            assert math.fsum(mean) == pytest.approx(math.fsum(rates(schedules.SCHEDULES[shape], 80)), rel=1e-14)
        # a straight line from 1 to 1/T has mean (1 + 1/T) / 2
        assert rates(orders.at_mean(schedules.linear), 80)[0] == pytest.approx((1 + 1 / 80) / 2)

    def test_a_random_order_depends_on_its_seed_and_nothing_else(self):
        line = schedules.linear
        assert rates(orders.shuffled(line, 3), 50) == rates(orders.shuffled(line, 3), 50)
        assert rates(orders.shuffled(line, 3), 50) != rates(orders.shuffled(line, 4), 50)
        found = np.array([rates(orders.shuffled(line, seed), 50) for seed in range(400)])
        # each place of a random order holds each rate equally often: mean (1 + 1/50) / 2, standard deviation 1/sqrt(12)
        assert abs(found.mean(0) - 0.51).max() < 4.5 * 0.2886 / 20

    def test_arms_are_what_their_names_say(self):
        total = 100
        of = {arm: rates(orders.arm_factory(arm, 7), total) for arm in drawings.ARMS}
        assert of["constant"] == [1.0] * total
        assert of["wsd"][:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
        assert of["wsd"][90] == pytest.approx(0.5)
        assert of["wsd_decay_only"] == pytest.approx([1.0] * 5 + of["wsd"][5:])
        assert of["warmup_only"] == pytest.approx(of["wsd"][:5] + [1.0] * 95)
        assert of["wsd_reversed"] == of["wsd"][::-1]
        assert of["wsd_mean"] == pytest.approx([np.mean(of["wsd"])] * total)
        assert of["warmup_cosine_decay_only"] == rates(schedules.cosine, total)
        assert of["rising"] == sorted(of["warmup_cosine_decay_only"])
        assert sorted(of["warmup_cosine_shuffled"]) == sorted(of["warmup_cosine"])
        assert of["wsd_shuffled"] != rates(orders.arm_factory("wsd_shuffled", 8), total)

    @pytest.mark.parametrize("name", ["wsd_backwards", "cosine", "_reversed", "constant_reversed"])
    def test_unknown_arms_are_refused(self, name):
        with pytest.raises(ValueError, match=f"unknown arm '{name}'; known: wsd, warmup_cosine, wsd_shuffled"):
            orders.arm_factory(name, 0)

    def test_phases_and_looks_are_those_of_the_text(self):
        assert [orders.phase(step, 100) for step in (0, 4, 5, 80, 81, 100)] == ["warmup"] * 2 + ["stable"] * 2 + [
            "decay"
        ] * 2
        assert orders.looks(100) == [0, 2, 5, 30, 55, 80, 90, 100]
        assert orders.looks(4)[0] == 0 and orders.looks(4)[-1] == 4


class TestStudy:
    def test_every_arm_is_tuned_equally_and_in_no_more_than_a_cohort(self):
        jobs = study.tuning_jobs(SMOKE)
        members = [(job.args[1], *member) for job in jobs for member in job.args[2]]
        assert len(members) == len(set(members))
        counts = pd.Series([m[:2] for m in members]).value_counts()
        assert set(counts) == {3} and len(counts) == 11 + 4 + 6
        assert max(len(job.args[2]) for job in jobs) <= SETTINGS.cohort
        assert {m[3] for m in members} == {1000}

    def test_reported_runs(self):
        tuned = {("mlp", arm): 0.1 + i for i, arm in enumerate(study.names_of(SETTINGS.beds["mlp"]))}
        cells = study.reported_cells(SMOKE, "mlp", tuned)
        assert len(cells) == len(set(cells)) == (11 + 4) * 2 * 2 + 2 * 2
        common = [c for c in cells if c.accounting == "common"]
        assert {c.rate for c in common} == {tuned["mlp", "wsd"]}
        assert {c.arm for c in common} == {"wsd_reversed", "wsd_shuffled", "wsd_mean", "constant"}
        assert all(c.rate == tuned["mlp", c.arm] for c in cells if c.accounting == "tuned")
        assert {c.arm for c in cells if c.draw == "other"} == {"wsd", "warmup_cosine"}
        assert {c.start - c.seed for c in cells if c.draw == "other"} == {OTHER}
        followed = {(c.arm, c.accounting, c.labels, c.draw) for c in cells if c.followed}
        assert followed == {(arm, "tuned", "true", "own") for arm in ("constant", "wsd", "wsd_reversed")}

    def test_a_cohort_shares_its_labels(self):
        tuned = {(model, arm): 0.1 for model, how in SETTINGS.beds.items() for arm in study.names_of(how)}
        jobs = [job.args[1] for job in study.reported_jobs(SMOKE, tuned)]
        assert all(len({(c.model, c.labels, c.followed) for c in cells}) == 1 for cells in jobs)
        assert all(len({c.seed for c in cells}) == 1 for cells in jobs if cells[0].labels == "shuffled")
        assert sum(map(len, jobs)) == sum(len(study.reported_cells(SMOKE, model, tuned)) for model in SETTINGS.beds)

    def test_a_run_takes_its_rates_in_its_arms_order(self):
        """Against torch's own optimizer, one network at a time, its rate set by hand before each update."""
        bed, how = bed_of(SMOKE, "mlp"), SETTINGS.beds["mlp"]
        forth = [schedules.wsd(how.steps)(step) for step in range(how.steps)]
        arms = {3: ("wsd_reversed", forth[::-1]), 4: ("wsd", forth)}
        cells = [study.Cell("mlp", "tuned", arm, "true", "own", seed, 0.3) for seed, (arm, _) in arms.items()]
        rows, points = study.run(SMOKE, cells)
        for (seed, (_, peaks)), row in zip(arms.items(), rows, strict=True):
            torch.manual_seed(seed)
            network = bed.build()
            optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
            for step, peak in enumerate(peaks):
                optimizer.param_groups[0]["lr"] = 0.3 * peak
                optimizer.zero_grad()
                x, y = bed.data.train.batch([seed], step, how.batch_size)
                torch.nn.functional.cross_entropy(network(x[0]), y[0]).backward()
                optimizer.step()
            x, y = bed.data.test.examples(how.test_examples)
            with torch.no_grad():
                expected = torch.nn.functional.cross_entropy(network(x), y).item()
            assert row.test_loss == pytest.approx(expected, rel=1e-4)
            assert (row.seed, row.rate, row.diverged_step) == (seed, 0.3, None)
            of_seed = [p for p in points if p.seed == seed]
            assert [p.step for p in of_seed] == orders.looks(how.steps)
            for point in of_seed:
                assert point.rate == pytest.approx(0.3 * peaks[min(point.step, how.steps - 1)], abs=1e-6)

    def test_a_diverged_run_has_its_step_and_no_scores(self):
        (row,), _ = study.run(SMOKE, [study.Cell("mlp", "common", "constant", "true", "own", 3, 1e30)])
        assert row.diverged_step is not None and row.test_loss is None and row.train_error is None

    def test_every_seed_has_its_own_shuffled_labels(self):
        """At a rate of nothing a run ends at its initial loss, on the labels that it was given."""
        bed, count = bed_of(SMOKE, "mlp"), SETTINGS.beds["mlp"].train_examples
        for seed in (3, 4):
            (row,), _ = study.run(SMOKE, [study.Cell("mlp", "common", "constant", "shuffled", "own", seed, 1e-12)])
            torch.manual_seed(seed)
            x, y = with_shuffled_labels(bed, seed).data.train.examples(count)
            with torch.no_grad():
                expected = torch.nn.functional.cross_entropy(bed.build()(x), y).item()
            assert row.train_loss == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tuning": [0, 1000]}, "tuning seeds must not be reported"),
            ({"replicates": 3}, "shuffled <= replicates <= 2"),
            ({"rates": [0.1, 0.05, 0.2]}, "rates must rise"),
            ({"tuning_seeds": 3}, "at most 2 tuning_seeds"),
            ({"shapes": ["wsd", "wsd"]}, "more than once"),
        ],
    )
    def test_settings_that_cannot_be_are_refused(self, change, message):
        content = SETTINGS.model_dump(mode="json")
        (content if "tuning" in change else content["beds"]["mlp"]).update(change)
        with pytest.raises(ValidationError, match=message):
            ProgressiveLearning.model_validate(content)


# What each arm is worth, planted: its test error, and with it both losses
ERROR = {
    "wsd": 0.30,
    "wsd_reversed": 0.33,
    "wsd_shuffled": 0.36,
    "wsd_decay_only": 0.31,
    "wsd_mean": 0.38,
    "warmup_cosine": 0.32,
    "warmup_cosine_reversed": 0.45,
    "warmup_cosine_shuffled": 0.41,
    "warmup_cosine_decay_only": 0.34,
    "constant": 0.37,
    "warmup_only": 0.35,
    "rising": 0.50,
}
COMMON_OFFSET, SHUFFLED_SHARE, OTHER_DRAW = 0.02, 0.1, 0.004
BEDS = {
    "mlp": [arm for arm in ERROR if arm != "wsd_mean"],
    "resnet": ["wsd", "wsd_reversed", "wsd_shuffled", "constant"],
    "transformer": ["wsd", "wsd_reversed", "wsd_shuffled", "constant", "wsd_decay_only", "warmup_only"],
}
SHARP = {"warmup": 0.7, "stable": 0.1, "decay": 0.4}  # ln of the curvature along a constant rate, by phase


def run_row(model, accounting, arm, seed, labels="true", draw="own"):
    """One run; seeds shift every arm alike, so that only paired differences are exact."""
    value = ERROR[arm] + COMMON_OFFSET * (accounting == "common")
    value = SHUFFLED_SHARE * value if labels == "shuffled" else value
    value += OTHER_DRAW * (draw == "other") + seed / 100
    scores = (2 * value, value / 2, 3 * value, value)
    return OrderedRun(model, accounting, arm, labels, draw, seed, 0.1, 10, None, *scores)


def planted(seeds: int = 4) -> dict[str, pd.DataFrame]:
    tuning, tuned, runs, curvature = [], [], [], []
    for model, arms in BEDS.items():
        for arm in arms:
            # on the tuning seeds shuffled rates are the best control, and warm-up + cosine the best schedule
            swapped = {"warmup_cosine": 0.2, "wsd_shuffled": 0.325}.get(arm, ERROR[arm])
            for rate, worse in ((0.05, 0.5), (0.1, 0.0), (0.2, 0.7)):
                tuning += [TuningTrial(model, arm, s, rate, None, None, swapped + worse, 0.5) for s in (1000, 1001)]
            tuned.append(TunedArm(model, arm, "validation_loss", 0.1, 1, 6))
            runs += [run_row(model, "tuned", arm, seed) for seed in range(seeds)]
            if model == "mlp":
                runs += [run_row(model, "tuned", arm, seed, labels="shuffled") for seed in range(2)]
            if arm in ("wsd", "warmup_cosine"):
                runs += [run_row(model, "tuned", arm, seed, draw="other") for seed in range(seeds)]
    for arm in contrasts.COMMON.values():
        runs += [run_row("mlp", "common", arm, seed) for seed in range(seeds)]
        runs += [run_row("mlp", "common", arm, seed, labels="shuffled") for seed in range(2)]
    for arm in ("constant", "wsd", "wsd_reversed"):
        for seed in range(seeds):
            for step in orders.looks(100):
                phase = orders.phase(step, 100)
                height = math.exp(SHARP[phase] + (1.0 + seed if step == 0 else 0) - (0.5 if step == 2 else 0))
                curvature.append(CurvaturePoint(arm, seed, step, phase, 0.1, height, 0.01, 1.0))
    parts = {"tuning": tuning, "tuned": tuned, "runs": runs, "curvature": curvature}
    return {name: pd.DataFrame(rows) for name, rows in parts.items()}


def changed(frames, name, where: dict, **values):
    frame = frames[name].copy()
    rows = np.logical_and.reduce([frame[key] == value for key, value in where.items()])
    frame.loc[rows, list(values)] = list(values.values())
    return {**frames, name: frame}


def of_claim(frames, claim, role="claim"):
    name = f"{contrasts.ROW}.{claim}"
    return [e.value for e in evidence_of(frames) if (e.claim, e.role) == (name, role)]


def evidence_of(frames):
    """The effects of the frames, made once."""
    if id(frames) not in KEPT:
        KEPT[id(frames)] = frames, contrasts.effects(frames)
    return KEPT[id(frames)][1]


KEPT = {}
BASE = planted()


def gate(frames, claim):
    return {g.gate: g.value for g in contrasts.gates(frames) if g.claim == f"{contrasts.ROW}.{claim}"}


class TestContrasts:
    @pytest.mark.parametrize(
        ("claim", "expected"),
        [
            ("best_accuracy.mlp", 0.36 - 0.32),  # as the tuning seeds chose, though others ended better
            ("best_loss.mlp", 3 * (0.36 - 0.32)),
            ("best_train_loss.mlp", 2 * (0.36 - 0.32)),
            ("best_accuracy.resnet", 0.36 - 0.30),
            ("best_loss.transformer", 3 * (0.36 - 0.30)),
            ("constant_accuracy.mlp", 0.37 - 0.30),
            ("reversed_train_loss.mlp", 2 * (0.33 - 0.30)),
            ("shuffled_accuracy.resnet", 0.36 - 0.30),
            ("cosine_reversed_accuracy.mlp", 0.45 - 0.32),
            ("cosine_shuffled_accuracy.mlp", 0.41 - 0.32),
            ("rising_accuracy.mlp", 0.50 - 0.34),
            ("warmup_adds_accuracy.mlp", 0.31 - 0.30),
            ("decay_adds_loss.transformer", 3 * (0.35 - 0.30)),
            ("common_constant_accuracy.mlp", 0.39 - 0.30),
            ("common_mean_accuracy.mlp", 0.40 - 0.30),
            ("common_reversed_accuracy.mlp", 0.35 - 0.30),
            ("common_shuffled_accuracy.mlp", 0.38 - 0.30),
        ],
    )
    def test_every_contrast_recovers_what_was_planted(self, claim, expected):
        assert of_claim(BASE, claim) == pytest.approx([expected] * 4)

    def test_controls(self):
        frames = BASE
        assert of_claim(frames, "reversed_accuracy.mlp", "same_arm") == pytest.approx([OTHER_DRAW] * 4)
        assert of_claim(frames, "best_loss.transformer", "same_arm") == pytest.approx([3 * OTHER_DRAW] * 4)
        assert of_claim(frames, "rising_accuracy.mlp", "same_arm") == pytest.approx([OTHER_DRAW] * 4)
        assert of_claim(frames, "constant_accuracy.mlp", "shuffled_labels") == pytest.approx([0.1 * 0.07] * 2)
        assert of_claim(frames, "common_mean_accuracy.mlp", "shuffled_labels") == pytest.approx([0.1 * 0.1] * 2)
        assert of_claim(frames, "best_loss.mlp", "shuffled_labels") == []
        assert of_claim(frames, "best_accuracy.resnet", "shuffled_labels") == []

    def test_a_rate_at_which_a_tuning_seed_diverged_is_not_best(self):
        where = {"model": "mlp", "arm": "wsd_shuffled", "rate": 0.1, "seed": 1000}
        frames = changed(BASE, "tuning", where, validation_loss=np.nan)
        assert contrasts.best_pair(frames, "mlp") == ("warmup_cosine", "wsd_reversed")
        assert contrasts.best_pair(frames, "resnet") == ("wsd", "wsd_shuffled")

    def test_a_diverged_run_leaves_its_seed_out(self):
        where = {"model": "mlp", "arm": "constant", "accounting": "tuned", "seed": 2, "labels": "true"}
        frames = changed(BASE, "runs", where, test_error=np.nan, test_loss=np.nan, train_loss=np.nan)
        assert len(of_claim(frames, "constant_accuracy.mlp")) == 3
        assert len(of_claim(frames, "common_constant_accuracy.mlp")) == 4

    def test_geometry(self):
        frames = BASE
        # beginning: mean of ln λ at 0 (0.7 + 1 + seed) and 2 (0.7 - 0.5), minus 0.1; end: 0.4 - 0.1
        begin = [(1.7 + seed + 0.2) / 2 - 0.1 for seed in range(4)]
        assert of_claim(frames, "geometry_match.mlp") == pytest.approx([min(b, 0.3) for b in begin])
        assert of_claim(frames, "late_sharpness.mlp") == pytest.approx([0.3] * 4)
        assert of_claim(frames, "early_sharpness.mlp") == pytest.approx([1.6 + seed for seed in range(4)])
        flat = changed(frames, "curvature", {"arm": "constant", "phase": "warmup"}, sharpness=math.exp(0.2))
        assert of_claim(flat, "geometry_match.mlp") == pytest.approx([0.1] * 4)
        gone = changed(frames, "curvature", {"arm": "constant", "step": 90, "seed": 1}, sharpness=-1.0)
        assert len(of_claim(gone, "geometry_match.mlp")) == len(of_claim(gone, "late_sharpness.mlp")) == 3

    def test_gates_see_what_they_are_for(self):
        frames = BASE
        assert gate(frames, "reversed_accuracy.mlp") == {"rate_interior": 1.0, "equal_tuning": 1.0}
        edge = changed(frames, "tuned", {"model": "mlp", "arm": "wsd_reversed"}, interior=0)
        assert gate(edge, "reversed_accuracy.mlp")["rate_interior"] == 0.0
        assert gate(edge, "shuffled_accuracy.mlp")["rate_interior"] == 1.0
        assert gate(edge, "reversed_accuracy.resnet")["rate_interior"] == 1.0
        assert gate(edge, "common_reversed_accuracy.mlp") == {"rate_interior": 1.0}
        fewer = changed(frames, "tuned", {"model": "mlp", "arm": "wsd_shuffled"}, trials=3)
        assert gate(fewer, "best_accuracy.mlp")["equal_tuning"] == 0.0
        loose = changed(frames, "curvature", {"arm": "wsd", "step": 0, "seed": 3}, residual=0.2)
        assert gate(loose, "early_sharpness.mlp") == {"rate_interior": 1.0, "residual": 0.2}
        assert gate(loose, "late_sharpness.mlp")["residual"] == 0.01

    def test_findings_have_unique_names_and_the_planted_means(self):
        found = contrasts.findings(BASE)
        assert len({(f.model, f.quantity) for f in found}) == len(found)
        assert {f.table for f in found} == {"factors"}
        by_name = {(f.model, f.quantity): f for f in found}
        assert by_name["mlp", "test_error of wsd_mean, common peak"].mean == pytest.approx(0.38 + 0.02 + 0.015)
        assert by_name["mlp", "mean ln lambda_max, decay phase, constant"].mean == pytest.approx(0.4)

    def test_a_bed_that_was_not_run_has_no_claims(self):
        frames = BASE
        part = {name: f[f.model != "transformer"] if "model" in f else f for name, f in frames.items()}
        assert not any("transformer" in e.claim for e in contrasts.effects(part))

    def test_stability_is_the_largest_share_of_the_threshold(self):
        found = contrasts.stability(BASE, 0.9)
        assert found["wsd", 1] == pytest.approx(0.1 * math.exp(0.7 + 2) / 3.8)


class TestDrawings:
    def test_figures_say_what_is_averaged(self):
        frames = BASE
        for figure in (
            drawings.responses(frames),
            drawings.scores(frames),
            drawings.advantages(frames),
            drawings.curvature(frames, 0.9),
        ):
            assert "mean" in figure.get_suptitle()
            assert all(panel.get_title(loc="left") or panel.get_ylabel() for panel in figure.axes if panel.axison)

    def test_an_arm_looks_the_same_in_every_panel(self):
        figure = drawings.responses(BASE)
        lines = {(line.get_label(), line.get_color()) for panel in figure.axes for line in panel.lines}
        names = [label for label, _ in lines if not label.startswith("_")]
        assert len(names) == len(set(names)) == 7
        assert [panel.get_title(loc="left") for panel in figure.axes] == [
            "MLP, WSD 5/75/20",
            "MLP, Warm-up + cosine",
            "ResNet, WSD 5/75/20",
            "Transformer, WSD 5/75/20",
        ]

    def test_gains_are_drawn_at_their_means(self):
        panel = drawings.advantages(BASE).axes[0]
        rows = [label.get_text() for label in panel.get_yticklabels()]
        at = {float(line.get_ydata()[0]): line.get_xdata()[0] for line in panel.lines if line.get_marker() in "os"}
        assert at[rows.index("WSD 5/75/20 over constant")] == pytest.approx(7)
        assert at[rows.index("WSD 5/75/20 over constant at WSD's mean, common peak")] == pytest.approx(10)

    def test_missing_runs_leave_gaps_and_no_errors(self):
        frames = changed(planted(2), "runs", {"arm": "constant"}, test_error=np.nan, test_loss=np.nan)
        frames = changed(frames, "curvature", {"arm": "wsd"}, sharpness=np.nan)
        for figure in (drawings.scores(frames), drawings.advantages(frames), drawings.curvature(frames, 0.9)):
            assert figure.axes
