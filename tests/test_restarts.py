"""Restarted schedules, what is read between the ends of their cycles, and what the study makes of it."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from nonconvex import config, schedules
from nonconvex.beds import bed_of
from nonconvex.contrasts import restarts as contrasts
from nonconvex.drawings import restarts as drawings
from nonconvex.evaluation import recomputed
from nonconvex.measure.barriers import Profile
from nonconvex.measure.predictions import disagreement, log_probabilities
from nonconvex.models.stacked import stack
from nonconvex.observations.restarts import CycledRun, CycleLine, CycleLinePoint, CycleLook
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.strategies.restarts import Restarts as Strategy
from nonconvex.studies import cycles
from nonconvex.studies import restarts as study
from nonconvex.studies.cycle_readings import Cell
from nonconvex.studies.draws import OTHER
from nonconvex.studies.training import with_shuffled_labels
from nonconvex.study_settings.restarts import Restarts

ROOT = Path(__file__).resolve().parents[1]
SMOKE = config.read(ROOT / "profiles/smoke/params.yaml")
SETTINGS = SMOKE.strategies.restarts


def rates(factory, total: int) -> list[float]:
    schedule = factory(total)
    return [schedule(step) for step in range(total)]


class TestCycles:
    @pytest.mark.parametrize(("total", "count", "growth"), [(70, 3, 2), (420, 3, 1), (41, 3, 3), (7, 3, 2)])
    def test_cycles_end_where_the_rate_is_at_its_peak_again(self, total, count, growth):
        found = rates(schedules.restarted(schedules.cosine, count, growth), total)
        again = [step for step in range(1, total) if found[step] == 1]
        assert cycles.cycle_ends(total, count, growth) == [*again, total]

    def test_height_one_is_the_strategy_and_torch(self):
        own = rates(cycles.restarted_at(1.0, 3, 2), 70)
        assert own == rates(Strategy().wrap(schedules.cosine), 70)
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        other = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=2)
        for value in own:
            assert optimizer.param_groups[0]["lr"] == pytest.approx(value, abs=1e-12)
            optimizer.step()
            other.step()

    def test_later_cycles_begin_at_the_height(self):
        full, low = rates(cycles.restarted_at(1.0, 3, 2), 70), rates(cycles.restarted_at(0.3, 3, 2), 70)
        assert low[:10] == full[:10]
        assert low[10] == low[30] == 0.3
        assert low[10:] == pytest.approx([0.3 * value for value in full[10:]], rel=1e-15)

    def test_arms_are_what_their_names_say(self):
        assert rates(cycles.arm_factory("constant", 1.0, 3, 2), 5) == [1.0] * 5
        assert rates(cycles.arm_factory("cosine", 0.5, 3, 2), 8) == rates(schedules.cosine, 8)
        assert rates(cycles.arm_factory("wsd", 1.0, 3, 2), 40) == rates(schedules.wsd, 40)
        equal = rates(cycles.arm_factory("equal", 0.5, 3, 2), 30)
        assert equal == rates(schedules.cosine, 10) * 3
        assert cycles.arm_ends("equal", 30, 3, 2) == [10, 20, 30]
        assert cycles.arm_ends("constant", 70, 3, 2) == cycles.arm_ends("restarts", 70, 3, 2) == [10, 30, 70]
        with pytest.raises(ValueError, match="unknown arm 'linear'; known: restarts, equal, cosine, wsd, constant"):
            cycles.arm_factory("linear", 1.0, 3, 2)

    def test_looks_hold_both_ends_of_the_run_and_of_every_cycle(self):
        assert cycles.look_steps(42, 3, 3, 2) == [0, 6, 14, 18, 21, 28, 42]


class TestPredictions:
    def test_disagreement_counts_examples_and_positions(self):
        a = torch.tensor([[[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]], [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]]).log_softmax(-1)
        b = torch.tensor([[[0.1, 0.0], [1.0, 0.0], [0.0, 9.0]], [[2.0, 0.0], [5.0, 0.0], [1.0, 0.9]]]).log_softmax(-1)
        assert disagreement(a, b).tolist() == pytest.approx([2 / 3, 0.0])
        positions = torch.stack([a, b], 2)  # (E, N, 2 positions, classes)
        assert disagreement(positions, positions.flip(2)).tolist() == pytest.approx([2 / 3, 0.0])

    def test_log_probabilities_are_one_networks_own(self, monkeypatch):
        """Chunked and stacked against one network at a time in evaluation mode; three examples a chunk."""
        monkeypatch.setattr("nonconvex.measure.predictions.CHUNK", 3)
        bed = bed_of(SMOKE, "resnet")
        network, params = stack(bed.build, [3, 4])
        inputs, x = bed.data.train.examples(40)[0], bed.data.test.examples(7)[0]
        found = log_probabilities(network, params, inputs, x)
        assert found.shape == (2, 7, 10) and found.exp().sum(-1) == pytest.approx(torch.ones(2, 7), abs=1e-5)
        statistics = recomputed(network, params, inputs)
        for i in range(2):
            one = bed.build().eval()
            one.load_state_dict({name: value[i] for name, value in {**params, **statistics}.items()})
            with torch.no_grad():
                assert found[i].exp() == pytest.approx(one(x).softmax(-1), abs=1e-5)


def own_run(bed, how, seed: int, peaks: list[float], at: list[int]) -> dict[int, dict[str, torch.Tensor]]:
    """One MLP under torch's own optimizer, its rate set by hand; its weights after the numbers `at` of updates."""
    torch.manual_seed(seed)
    network, kept = bed.build(), {}
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
    for step, peak in enumerate(peaks):
        optimizer.param_groups[0]["lr"] = peak
        optimizer.zero_grad()
        x, y = bed.data.train.batch([seed], step, how.batch_size)
        torch.nn.functional.cross_entropy(network(x[0]), y[0]).backward()
        optimizer.step()
        if step + 1 in at:
            kept[step + 1] = {name: value.detach().clone() for name, value in network.state_dict().items()}
    return kept


def logits(bed, weights, x):
    with torch.no_grad():
        return torch.func.functional_call(bed.build(), weights, (x,))


@pytest.fixture(scope="module")
def small():
    """A cohort of the MLP: restarts at height 0.5, equal cycles, and the two draws of the single cosine."""
    names = [("restarts", 0.5, "own"), ("equal", 1.0, "own"), ("cosine", 1.0, "own"), ("cosine", 1.0, "other")]
    cells = [Cell(arm, height, "true", draw, 3, 0.1) for arm, height, draw in names]
    return cells, study.run(SMOKE, "mlp", cells)


BED, HOW = bed_of(SMOKE, "mlp"), SETTINGS.beds["mlp"]


@pytest.fixture(scope="module")
def weights():
    """What the cohort's restarted run should have at the ends of its cycles."""
    full = rates(Strategy().wrap(schedules.cosine), 14)
    return own_run(
        BED, HOW, 3, [0.1 * (1.0 if step < 2 else 0.5) * value for step, value in enumerate(full)], [2, 6, 14]
    )


class TestReadings:
    def test_a_run_and_its_ensemble(self, small, weights):
        """Against torch's own optimizer, one network at a time."""
        row = next(row for row in small[1]["runs"] if row.arm == "restarts")
        x, y = BED.data.test.examples(HOW.test_examples)
        each = [logits(BED, weights[step], x).softmax(-1) for step in (2, 6, 14)]
        picked = torch.arange(len(y)), y
        assert row.test_loss == pytest.approx(-each[-1][picked].log().mean().item(), rel=1e-4)
        together = sum(each) / 3
        assert row.ensemble_loss == pytest.approx(-together[picked].log().mean().item(), rel=1e-4)
        assert row.ensemble_error == pytest.approx((together.argmax(-1) != y).double().mean().item(), abs=2e-3)
        assert row.test_error == pytest.approx((each[-1].argmax(-1) != y).double().mean().item(), abs=2e-3)
        assert (row.seed, row.rate, row.height, row.steps, row.diverged_step) == (3, 0.1, 0.5, 14, None)

    def test_lines_join_the_ends_of_cycles(self, small, weights):
        """Losses along the line, barrier, distance and disagreement of the same networks, by hand."""
        found = {row.line: row for row in small[1]["lines"] if row.arm == "restarts"}
        assert {line: (row.begin, row.end) for line, row in found.items()} == {1: (2, 6), 2: (6, 14)}
        x, y = BED.data.train.examples(HOW.line_examples)
        test = BED.data.test.examples(HOW.test_examples)[0]
        for line, (begin, end) in {1: (2, 6), 2: (6, 14)}.items():
            a, b = weights[begin], weights[end]
            flat = [torch.cat([value.flatten() for value in one.values()]) for one in (a, b)]
            losses = []
            for i in range(5):
                middle = {name: a[name] + i / 4 * (b[name] - a[name]) for name in a}
                losses.append(torch.nn.functional.cross_entropy(logits(BED, middle, x), y).item())
            chord = np.linspace(losses[0], losses[-1], 5)
            row = found[line]
            assert (row.loss_begin, row.loss_end) == pytest.approx((losses[0], losses[-1]), rel=1e-4)
            assert row.barrier == pytest.approx(max(np.array(losses) - chord), abs=1e-4)
            assert row.rise == pytest.approx(max(losses) - max(losses[0], losses[-1]), abs=1e-4)
            assert row.displacement == pytest.approx(((flat[1] - flat[0]).norm() / flat[0].norm()).item(), rel=1e-3)
            differ = logits(BED, a, test).argmax(-1) != logits(BED, b, test).argmax(-1)
            assert row.disagreement == pytest.approx(differ.double().mean().item(), abs=3e-3)
            points = [p for p in small[1]["points"] if (p.arm, p.line) == ("restarts", line)]
            assert [p.t for p in points] == [0, 0.25, 0.5, 0.75, 1]
            assert [p.train_loss for p in points] == pytest.approx(losses, rel=1e-3)

    def test_what_is_read_off_a_line(self, monkeypatch):
        """Of a planted profile: the chord's middle is at 1.5 nats, 0.5, 2.0; errors and test losses have their own."""

        def flat(*values: float) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64).expand(2, 3)

        parts = (flat(2.0, 1.9, 1.0), flat(0.6, 0.7, 0.4), flat(2.5, 2.6, 1.5), flat(0.9, 0.9, 0.9))
        planted = Profile(torch.tensor([0, 0.5, 1], dtype=torch.float64), *parts)
        monkeypatch.setattr("nonconvex.studies.cycle_readings.profile", lambda *rest: planted)
        found = study.run(SMOKE, "mlp", [Cell("wsd", 1.0, "true", "own", 3, 0.1)])
        for row in found["lines"]:
            assert (row.loss_begin, row.loss_end, row.rise) == (2.0, 1.0, 0.0)
            heights = (row.barrier, row.error_barrier, row.test_barrier)
            assert heights == pytest.approx((1.9 - 1.5, 0.7 - 0.5, 2.6 - 2.0))
        assert [(p.t, p.train_loss, p.train_error) for p in found["points"][:2]] == [(0, 2.0, 0.6), (0.5, 1.9, 0.7)]

    def test_every_seed_has_its_own_shuffled_labels(self):
        """At a rate of nothing a run ends at its initial loss, on the labels that it was given."""
        for seed in (3, 4):
            found = study.run(SMOKE, "mlp", [Cell("cosine", 1.0, "shuffled", "own", seed, 1e-12)])
            torch.manual_seed(seed)
            x, y = with_shuffled_labels(BED, seed).data.train.examples(HOW.train_examples)
            with torch.no_grad():
                expected = torch.nn.functional.cross_entropy(BED.build()(x), y).item()
            assert found["runs"][0].train_loss == pytest.approx(expected, rel=1e-5)
            assert found["lines"] == found["points"] == found["looks"] == []

    def test_every_arm_is_read_where_its_cycles_end(self, small):
        found = {(row.arm, row.draw, row.line): (row.begin, row.end) for row in small[1]["lines"]}
        assert found["equal", "own", 1] == (5, 9) and found["equal", "own", 2] == (9, 14)
        assert found["cosine", "other", 1] == found["cosine", "own", 1] == (2, 6)
        assert found["independent", "own", 1] == (14, 14)
        assert len(found) == 4 * 2 + 1

    def test_the_line_between_draws_joins_their_ends(self, small):
        """Two networks from other weights: each end has the loss of its own run, and they are far apart."""
        lines = {(row.arm, row.draw, row.line): row for row in small[1]["lines"]}
        between = lines["independent", "own", 1]
        assert between.loss_begin == pytest.approx(lines["cosine", "own", 2].loss_end, rel=1e-6)
        assert between.loss_end == pytest.approx(lines["cosine", "other", 2].loss_end, rel=1e-6)
        # independent weights of one length are sqrt(2) of it apart
        assert between.displacement == pytest.approx(math.sqrt(2), abs=0.1)

    def test_looks(self, small):
        rows = small[1]["looks"]
        assert {row.arm for row in rows} == {"equal", "cosine"}  # height 0.5 and the second draw are not shown
        of_arm = [row for row in rows if row.arm == "equal"]
        assert [row.step for row in of_arm] == cycles.look_steps(14, HOW.looks, 3, 2)
        at = {row.step: row.rate for row in of_arm}
        assert at[0] == at[5] == at[9] == 0.1 and at[14] == 0
        torch.manual_seed(3)
        x, y = BED.data.test.examples(HOW.looked)
        with torch.no_grad():
            expected = torch.nn.functional.cross_entropy(BED.build()(x), y).item()
        assert of_arm[0].test_loss == pytest.approx(expected, rel=1e-3)

    def test_a_diverged_run_has_its_step_and_no_numbers(self):
        cells = [Cell("cosine", 1.0, "true", "own", 3, 1e30), Cell("cosine", 1.0, "true", "other", 3, 0.1)]
        found = study.run(SMOKE, "mlp", cells)
        broken, sound = found["runs"]
        assert broken.diverged_step is not None and broken.test_loss is None and broken.ensemble_error is None
        assert sound.diverged_step is None and sound.test_loss is not None
        by_name = {(row.arm, row.draw, row.line): row for row in found["lines"]}
        assert by_name["cosine", "own", 1].barrier is None and by_name["independent", "own", 1].barrier is None
        assert by_name["cosine", "other", 1].barrier is not None
        assert {row.draw for row in found["points"]} == {"other"}
        assert {row.test_error for row in found["looks"]} == {None}


TUNED = {(model, arm): 0.1 + i for model, how in SETTINGS.beds.items() for i, arm in enumerate(how.arms)}


class TestStudy:
    def test_every_arm_is_tuned_equally(self):
        jobs = study.tuning_jobs(SMOKE)
        found = [(job.args[1], trial) for job in jobs for trial in job.args[2]]
        assert len(found) == len(set(found))
        counts = pd.Series([(model, trial.arm) for model, trial in found]).value_counts()
        assert set(counts) == {3} and len(counts) == 3 + 2
        assert {trial.seed for _, trial in found} == {1000}

    def test_reported_runs(self):
        jobs = study.reported_jobs(SMOKE, TUNED)
        found = [(job.args[1], cell) for job in jobs for cell in job.args[2]]
        assert len(found) == len(set(found)) == 2 * (3 + 2 + 3) + 2 * 3 + 2 * (2 + 2 + 1)
        peak = {model: TUNED[model, "restarts"] for model in SETTINGS.beds}
        for model, cell in found:
            tuned = cell.arm in SETTINGS.beds[model].arms
            assert cell.rate == (TUNED[model, cell.arm] if tuned else peak[model])
        assert {(cell.arm, cell.start - cell.seed) for _, cell in found if cell.draw == "other"} == {("cosine", OTHER)}
        assert {cell.height for _, cell in found if cell.arm == "restarts"} == {0.1, 1.0, 1.5}
        for job in jobs:  # shuffled labels are a seed's own, and both draws of a seed meet in one cohort
            cells = job.args[2]
            assert len({c.labels for c in cells}) == 1
            assert cells[0].labels == "true" or len({c.seed for c in cells}) == 1
            both = {(c.seed, c.draw) for c in cells if c.arm == "cosine" and c.labels == "true"}
            assert {seed for seed, draw in both if draw == "own"} == {seed for seed, draw in both if draw == "other"}

    def test_variants_are_for_some_seeds(self):
        how = SETTINGS.beds["mlp"].model_copy(update={"variants": 1})
        cells = study.cells_of(how, {"restarts": 0.1, "cosine": 0.2, "wsd": 0.3}, (5, 7), (7,))
        assert {cell.seed for cell in cells if cell.arm == "equal" or cell.height != 1} == {7}
        assert {cell.seed for cell in cells if cell.arm == "restarts" and cell.height == 1} == {5, 7}
        assert sum(cell.seed == 5 for cell in cells) == 5

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tuning": [0, 1000]}, "tuning seeds must not be reported"),
            ({"cycles": 2}, "greater than or equal to 3"),
            ({"beds": {"replicates": 3}}, "variants, shuffled <= replicates <= 2"),
            ({"beds": {"variants": 3}}, "variants, shuffled <= replicates <= 2"),
            ({"beds": {"shuffled": 3}}, "variants, shuffled <= replicates <= 2"),
            ({"beds": {"rates": [0.1, 0.05, 0.2]}}, "rates must rise"),
            ({"beds": {"tuning_seeds": 3}}, "at most 2 tuning_seeds"),
            ({"beds": {"heights": [1.0]}}, "heights holds 1.0 more than once"),
            ({"beds": {"arms": ["restarts", "wsd"]}}, "arms must name cosine"),
            ({"beds": {"steps": 6}}, "at least 7"),
        ],
    )
    def test_settings_that_cannot_be_are_refused(self, change, message):
        content = SETTINGS.model_dump(mode="json")
        content["beds"]["mlp"].update(change.get("beds", {}))
        content.update({name: value for name, value in change.items() if name != "beds"})
        with pytest.raises(ValidationError, match=message):
            Restarts.model_validate(content)


# What is planted: test error and barriers (over the first and the last restart) of every arm and height
ERROR = {
    ("restarts", 1.0): 0.30,
    ("restarts", 0.1): 0.42,
    ("restarts", 1.5): 0.37,
    ("equal", 1.0): 0.31,
    ("cosine", 1.0): 0.33,
    ("wsd", 1.0): 0.35,
    ("constant", 1.0): 0.50,
}
BARRIER = {
    ("restarts", 1.0): (0.7, 0.3),
    ("restarts", 0.1): (0.1, 0.02),
    ("restarts", 1.5): (0.9, 1.3),
    ("equal", 1.0): (0.4, 0.2),
    ("cosine", 1.0): (0.06, 0.02),
    ("wsd", 1.0): (0.03, 0.01),
    ("constant", 1.0): (0.2, 0.1),
}
ENSEMBLE, OTHER_DRAW, SHUFFLED = 0.7, 0.004, 0.1  # shares of an error, and what the second draw adds
ON_RESNET = (("restarts", 1.0), ("restarts", 0.1), ("cosine", 1.0), ("constant", 1.0))


def run_row(model, arm, height, seed, labels="true", draw="own"):
    """One run; seeds shift every arm alike, so that only paired differences are exact."""
    error = ERROR[arm, height] * (SHUFFLED if labels == "shuffled" else 1)
    error += OTHER_DRAW * (draw == "other") + seed / 100
    scores = (3 * error, error / 2, 2 * error, error, error, ENSEMBLE * error)
    return CycledRun(model, arm, height, labels, draw, seed, 0.1, 70, None, *scores)


def line_rows(model, arm, height, seed, draw="own"):
    """Both lines of a run; every column is another multiple of the barrier."""
    ends = ((10, 30), (30, 70))
    for line, (value, (begin, end)) in enumerate(zip(BARRIER[arm, height], ends, strict=True), 1):
        value += (draw == "other") * OTHER_DRAW + seed / 100
        numbers = (2.0 / line, 1.0 / line, value, value / 2, value / 4, value / 5, value / 3, value)
        yield CycleLine(model, arm, height, draw, seed, line, begin, end, *numbers)


def planted(seeds: int = 4) -> dict[str, pd.DataFrame]:
    found = {name: [] for name in ("tuning", "tuned", "runs", "lines", "points", "looks")}
    for model, names in {"mlp": tuple(ERROR), "resnet": ON_RESNET}.items():
        for arm in ("restarts", "cosine", "wsd")[: 3 if model == "mlp" else 2]:
            losses = ((0.05, 0.9), (0.1, 0.5), (0.2, 0.7))
            found["tuning"] += [TuningTrial(model, arm, 1000, rate, None, None, loss, loss) for rate, loss in losses]
            found["tuned"].append(TunedArm(model, arm, "validation_loss", 0.1, 1, 3))
        for seed in range(seeds):
            found["runs"] += [run_row(model, *name, seed) for name in names]
            found["runs"].append(run_row(model, "cosine", 1.0, seed, draw="other"))
            found["lines"] += [row for name in names for row in line_rows(model, *name, seed)]
            found["lines"] += line_rows(model, "cosine", 1.0, seed, "other")
            numbers = (0.5, 0.6, 2.0, 1.9, 0.5, 0.4, 0.3, 1.4)
            found["lines"].append(CycleLine(model, "independent", 1.0, "own", seed, 1, 70, 70, *numbers))
            if model == "mlp" and seed < 2:
                found["runs"] += [run_row(model, arm, 1.0, seed, "shuffled") for arm in ("restarts", "cosine", "wsd")]
            for arm, height in names:
                places = [(line, t / 4) for line in (1, 2) for t in range(5)]
                key = (model, arm, height, "own", seed)
                found["points"] += [CycleLinePoint(*key, line, t, 2.0 - line * t, 0.5) for line, t in places]
                looks = [(step, 0.9 - step / 100) for step in (0, 10, 30, 70)] if height == 1 else []
                found["looks"] += [CycleLook(model, arm, seed, step, 0.1, 1.0, error) for step, error in looks]
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


BASE = planted()
KEPT = {}


def evidence_of(frames):
    """The effects of the frames, made once."""
    if id(frames) not in KEPT:
        KEPT[id(frames)] = frames, contrasts.effects(frames)
    return KEPT[id(frames)][1]


def of_claim(frames, claim, role="claim"):
    return [e.value for e in evidence_of(frames) if (e.claim, e.role) == (f"restarts.{claim}", role)]


def gate(frames, claim):
    return {g.gate: g.value for g in contrasts.gates(frames) if g.claim == f"restarts.{claim}"}


def changed(frames, name, where: dict, **values):
    frame = frames[name].copy()
    rows = np.logical_and.reduce([frame[key] == value for key, value in where.items()])
    frame.loc[rows, list(values)] = list(values.values())
    return {**frames, name: frame}


SEEDS = np.arange(4) / 100  # what a seed adds to errors and barriers


class TestContrasts:
    @pytest.mark.parametrize(
        ("claim", "expected"),
        [
            ("barrier.mlp", 0.5 + SEEDS),
            ("barrier.resnet", 0.5 + SEEDS),
            ("barrier_rise.mlp", (0.5 + SEEDS) / 2),
            ("barrier_error.mlp", (0.5 + SEEDS) / 4),
            ("barrier_control.mlp", 0.5 - 0.15),
            ("barrier_control.resnet", 0.5 - 0.15),
            ("barrier_cosine.mlp", 0.5 - 0.04),
            ("barrier_early.mlp", 0.7 - 0.3),
            ("barrier_height.mlp", 0.5 - 0.06),
            ("barrier_height.resnet", 0.5 - 0.06),
            ("barrier_above.mlp", 1.1 + SEEDS),
            ("barrier_equal.mlp", 0.3 + SEEDS),
            ("disagreement.mlp", (0.5 - 0.15) / 3),
            ("accuracy.mlp", 0.33 - 0.30),
            ("accuracy.resnet", 0.33 - 0.30),
            ("accuracy_wsd.mlp", 0.35 - 0.30),
            ("ensemble_last.mlp", 0.3 * (0.30 + SEEDS)),
            ("ensemble_last.resnet", 0.3 * (0.30 + SEEDS)),
            ("ensemble_cosine.mlp", (0.33 + SEEDS) - 0.7 * (0.30 + SEEDS)),
            ("ensemble_cosine.resnet", (0.33 + SEEDS) - 0.7 * (0.30 + SEEDS)),
        ],
    )
    def test_every_contrast_recovers_what_was_planted(self, claim, expected):
        assert of_claim(BASE, claim) == pytest.approx(np.broadcast_to(expected, 4))

    def test_no_other_claims_have_evidence(self):
        assert len({e.claim for e in evidence_of(BASE)}) == len({g.claim for g in contrasts.gates(BASE)}) == 20

    def test_controls(self):
        for claim in ("accuracy.mlp", "accuracy_wsd.mlp", "ensemble_last.mlp", "ensemble_cosine.resnet"):
            assert of_claim(BASE, claim, "same_arm") == pytest.approx([OTHER_DRAW] * 4)
        for claim in ("barrier_control.mlp", "barrier_cosine.mlp", "barrier_height.resnet"):
            assert of_claim(BASE, claim, "same_arm") == pytest.approx([-OTHER_DRAW] * 4)
        assert of_claim(BASE, "disagreement.mlp", "same_arm") == pytest.approx([-OTHER_DRAW / 3] * 4)
        assert of_claim(BASE, "barrier.mlp", "same_arm") == []
        assert of_claim(BASE, "accuracy.mlp", "shuffled_labels") == pytest.approx([0.1 * 0.03] * 2)
        assert of_claim(BASE, "accuracy_wsd.mlp", "shuffled_labels") == pytest.approx([0.1 * 0.05] * 2)
        own = 0.03 + SEEDS[:2]
        assert of_claim(BASE, "ensemble_last.mlp", "shuffled_labels") == pytest.approx(0.3 * own)
        assert of_claim(BASE, "ensemble_cosine.mlp", "shuffled_labels") == pytest.approx(0.003 + 0.3 * own)
        assert of_claim(BASE, "accuracy.resnet", "shuffled_labels") == []

    def test_a_diverged_run_leaves_its_seed_out(self):
        where = {"model": "mlp", "arm": "cosine", "draw": "own", "seed": 2, "labels": "true"}
        frames = changed(BASE, "runs", where, test_error=np.nan, ensemble_error=np.nan)
        assert [len(of_claim(frames, f"{name}.mlp")) for name in ("accuracy", "ensemble_last")] == [3, 4]
        where = {"model": "mlp", "arm": "restarts", "height": 1.0, "seed": 1, "line": 2}
        frames = changed(BASE, "lines", where, barrier=np.nan)
        assert len(of_claim(frames, "barrier.mlp")) == len(of_claim(frames, "barrier_early.mlp")) == 3
        assert len(of_claim(frames, "barrier_above.mlp")) == 4

    def test_variants_of_fewer_seeds_are_paired_with_theirs(self):
        rows = BASE["lines"]
        frames = {**BASE, "lines": rows[(rows.height == 1) | (rows.seed > 1)]}
        assert of_claim(frames, "barrier_height.mlp") == pytest.approx([0.44] * 2)
        assert len(of_claim(frames, "barrier.mlp")) == 4

    def test_gates_see_what_they_are_for(self):
        assert gate(BASE, "barrier.mlp") == {"rate_interior": 1.0, "restarts_visible": 2.0}
        assert gate(BASE, "accuracy.mlp") == {"rate_interior": 1.0, "equal_tuning": 1.0}
        assert gate(BASE, "ensemble_last.resnet") == gate(BASE, "disagreement.mlp") == {"rate_interior": 1.0}
        edge = changed(BASE, "tuned", {"model": "mlp", "arm": "cosine"}, interior=0)
        assert gate(edge, "accuracy.mlp")["rate_interior"] == gate(edge, "barrier_cosine.mlp")["rate_interior"] == 0
        assert (
            gate(edge, "accuracy_wsd.mlp")["rate_interior"] == gate(edge, "barrier_control.mlp")["rate_interior"] == 1
        )
        assert gate(edge, "accuracy.resnet")["rate_interior"] == 1
        fewer = changed(BASE, "tuned", {"model": "mlp", "arm": "wsd"}, trials=2)
        assert gate(fewer, "accuracy_wsd.mlp")["equal_tuning"] == 0 and gate(fewer, "accuracy.mlp")["equal_tuning"] == 1
        blind = changed(BASE, "lines", {"model": "resnet", "arm": "independent"}, barrier=0.01)
        assert gate(blind, "barrier.resnet")["restarts_visible"] == pytest.approx(0.01)
        assert gate(blind, "barrier.mlp")["restarts_visible"] == 2.0

    def test_findings_have_unique_names_and_the_planted_means(self):
        found = contrasts.findings(BASE)
        assert len({(f.model, f.quantity) for f in found}) == len(found)
        assert {(f.table, f.row) for f in found} == {("strategies", "restarts")}
        by_name = {(f.model, f.quantity): f for f in found}
        assert by_name["mlp", "train-loss barrier of restarts at height 1.5, line 2"].mean == pytest.approx(1.315)
        assert by_name["resnet", "disagreement of constant, line 1"].mean == pytest.approx(0.215 / 3)
        assert by_name["mlp", "ensemble_error of equal"].mean == pytest.approx(0.7 * 0.325)
        assert by_name["mlp", "test_error of cosine"].mean == pytest.approx(0.345)

    def test_a_bed_that_was_not_run_has_no_claims(self):
        part = {name: f[f.model != "resnet"] for name, f in BASE.items()}
        assert not any("resnet" in e.claim for e in contrasts.effects(part))


class TestDrawings:
    def test_figures_say_what_is_averaged(self):
        for draw in (drawings.responses, drawings.lines, drawings.barriers, drawings.scores, drawings.on_the_way):
            figure = draw(BASE)
            assert "mean" in figure.get_suptitle()
            assert draw is drawings.responses or "n = 4" in figure.get_suptitle()

    def test_barriers_are_drawn_at_their_means(self):
        panel = drawings.barriers(BASE).axes[0]
        rows = [label.get_text() for label in panel.get_yticklabels()]
        single = [line for line in panel.lines if line.get_marker() in ("o", "s", "^")]
        means = {round(float(line.get_ydata()[0]), 2): line.get_xdata()[0] for line in single}
        first, last = (means[round(rows.index("Restarts at 1.5 of the peak") + side, 2)] for side in (-0.12, 0.12))
        assert (first, last) == pytest.approx((0.915, 1.315))
        assert means[round(rows.index("Two draws of one cosine") - 0.12, 2)] == pytest.approx(2.0)

    def test_lines_walk_from_end_to_end(self):
        figure = drawings.lines(BASE)
        titles = [panel.get_title(loc="left") for panel in figure.axes]
        panel = figure.axes[titles.index("Restarts,\ngrowing cycles")]
        thick = [line for line in panel.lines if line.get_linewidth() == 1.6]
        assert [list(line.get_xdata()) for line in thick] == [[1, 1.25, 1.5, 1.75, 2], [2, 2.25, 2.5, 2.75, 3]]
        assert list(thick[1].get_ydata()) == [2, 1.5, 1, 0.5, 0]

    def test_missing_runs_leave_gaps_and_no_errors(self):
        frames = changed(planted(2), "runs", {"arm": "constant"}, test_error=np.nan, ensemble_error=np.nan)
        frames = changed(frames, "lines", {"arm": "cosine"}, barrier=np.nan)
        frames = changed(frames, "looks", {"arm": "wsd"}, test_error=np.nan)
        frames = {**frames, "points": frames["points"][frames["points"].arm != "constant"]}
        for draw in (drawings.lines, drawings.barriers, drawings.scores, drawings.on_the_way):
            assert draw(frames).axes
