"""The exact theory of schedules, runs under planned schedules, and what the comparison of all schedules says."""

import math
from decimal import Decimal, getcontext
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from nonconvex import config, schedules
from nonconvex.contrasts import schedule_frames as view
from nonconvex.contrasts import tournament as contrasts
from nonconvex.drawings import tournament as drawings
from nonconvex.measure import schedule_oracle as oracle
from nonconvex.observations.tournament import ScheduledRun, TheoryColumn, TheoryResponse
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.records import CurvePoint, Run
from nonconvex.studies import schedule_arms, shifted
from nonconvex.studies import schedule_runs as runs
from nonconvex.studies import tournament as study
from nonconvex.studies.schedule_tuning import tune
from nonconvex.study_settings.tournament import Tournament, VariantName

ROOT = Path(__file__).resolve().parents[1]
SMOKE = config.read(ROOT / "profiles/smoke/params.yaml")
SETTINGS = SMOKE.schedules.tournament
DEFAULT = config.read(ROOT / "params.yaml").schedules.tournament.theory
PROBLEM = oracle.NoisyQuadratic(oracle.spectrum(50))


# of the project's science notes, which found them with code of their own: expected loss, and some of the peaks
REFERENCE = {
    "cosine": (0.05338, 0.198),
    "warmup_cosine": (0.05456, None),
    "linear": (0.05679, None),
    "one_cycle": (0.06209, None),
    "step": (0.06330, None),
    "wsd_sqrt": (0.07107, 0.083),
    "wsd": (0.08200, 0.067),
    "inverse_sqrt": (0.08902, None),
    "constant": (0.11253, 0.031),
}


class TestTheory:
    @pytest.mark.parametrize("name", study.THEORY)
    def test_reference_values_recur_to_their_printed_digits(self, name):
        peaks = np.geomspace(DEFAULT.lowest, DEFAULT.highest, DEFAULT.peaks)
        assert DEFAULT.lowest == pytest.approx(10**-2.5)
        shape = oracle.table(study.THEORY[name], DEFAULT.steps)
        best = oracle.tuned(oracle.expected_losses(PROBLEM, shape, peaks), peaks)
        loss, peak = REFERENCE[name]
        assert round(best.loss, 5) == loss
        assert best.interior
        assert peak is None or round(best.peak, 3) == peak

    @pytest.mark.parametrize("name", study.THEORY)
    def test_recursion_and_closed_form_agree_with_forty_digits(self, name):
        """An explicit product and sum in decimal arithmetic, written out term by term."""
        getcontext().prec = 40
        shape, peak = oracle.table(study.THEORY[name], 120), 0.3
        rates = [Decimal(peak * float(multiple)) for multiple in shape]
        total = Decimal(0)
        for h in map(Decimal, oracle.spectrum(7).tolist()):
            mean_square = math.prod((1 - rate * h) ** 2 for rate in rates)
            for t, rate in enumerate(rates):
                mean_square += rate**2 * h * math.prod((1 - later * h) ** 2 for later in rates[t + 1 :])
            total += h * mean_square / 2
        problem = oracle.NoisyQuadratic(oracle.spectrum(7))
        assert oracle.expected_losses(problem, shape, [peak])[0] == pytest.approx(float(total), rel=1e-13)
        assert oracle.closed_form(problem, shape, peak) == pytest.approx(float(total), rel=1e-13)

    def test_two_steps_by_hand(self):
        problem = oracle.NoisyQuadratic(np.array([0.5]), start=3.0, noise=0.25)
        shape = np.array([1.0, 0.5])
        eta, h = Fraction(1, 2), Fraction(1, 2)
        m = (1 - eta * h) ** 2 * 3 + eta**2 * h / 4
        m = (1 - eta / 2 * h) ** 2 * m + (eta / 2) ** 2 * h / 4
        assert oracle.expected_losses(problem, shape, [0.5])[0] == pytest.approx(float(h * m / 2), rel=1e-15)
        assert oracle.closed_form(problem, shape, 0.5) == pytest.approx(float(h * m / 2), rel=1e-15)

    def test_constant_rate_settles_at_the_stationary_variance(self):
        # eta c / (B (2 - eta h)) for noise c h / B (science notes 1.4, with c -> c h)
        problem = oracle.NoisyQuadratic(np.array([1.0]), noise=0.5)
        (loss,) = oracle.expected_losses(problem, np.ones(400), [0.2])
        assert loss == pytest.approx(0.5 * 0.2 * 0.5 / (2 - 0.2), rel=1e-12)

    def test_simulated_sgd_has_the_expected_loss(self):
        generator = np.random.Generator(np.random.Philox(5))
        problem, shape = oracle.NoisyQuadratic(oracle.spectrum(4, 1.0), noise=0.3), oracle.table(schedules.cosine, 30)
        x = np.sqrt(problem.start) * generator.choice([-1.0, 1.0], (40_000, 4))
        for multiple in shape:
            noise = np.sqrt(problem.noise * problem.eigenvalues) * generator.standard_normal(x.shape)
            x -= 0.4 * multiple * (problem.eigenvalues * x + noise)
        losses = 0.5 * (problem.eigenvalues * x**2).sum(1)
        (expected,) = oracle.expected_losses(problem, shape, [0.4])
        assert abs(losses.mean() - expected) < 4 * losses.std() / 200

    def test_peaks_at_the_edge_are_not_interior(self):
        assert oracle.tuned(np.array([1.0, 2.0, 3.0]), [0.1, 0.2, 0.3]) == oracle.TunedPeak(0.1, 1.0, False)
        assert oracle.tuned(np.array([2.0, 1.0, 1.0]), [0.1, 0.2, 0.3]) == oracle.TunedPeak(0.2, 1.0, True)

    def test_records(self):
        rows = {row.schedule: row for row in study.theory(SMOKE)}
        assert list(rows) == [*schedules.SCHEDULES, "wsd_sqrt"]
        assert all(abs(row.deviation) < 1e-12 for row in rows.values())
        assert rows["linear"].mean_rate == pytest.approx((1 + 1 / SETTINGS.theory.steps) / 2)
        by_name = pd.DataFrame(study.responses(SMOKE)).groupby("schedule")
        assert by_name.rate.count().eq(SETTINGS.theory.peaks).all()
        assert by_name.loss.min()["wsd"] == rows["wsd"].loss


class TestArms:
    def test_a_planned_schedule_ignores_the_length_and_keeps_its_last_rate(self):
        rate = schedule_arms.planned(schedules.cosine, 10)(25)
        assert [rate(t) for t in range(10)] == [schedules.cosine(10)(t) for t in range(10)]
        assert {rate(t) for t in range(10, 25)} == {schedules.cosine(10)(9)}

    def test_a_natural_schedule_reads_its_formula_on(self):
        rate = schedule_arms.natural(schedules.inverse_sqrt, 100)(400)
        assert rate(4) == 1.0  # the warm-up is that of the planned length
        assert rate(399) == pytest.approx(math.sqrt(5 / 400))

    def test_variants_are_what_their_names_say(self):
        of = {arm: [factory(100)(t) for t in range(100)] for arm, factory in schedule_arms.VARIANTS.items()}
        assert min(of["cosine_floor"]) == pytest.approx(0.1, abs=1e-3) and of["cosine_floor"][0] == 1
        assert sorted(set(of["step_half"]), reverse=True) == [1, 0.5, 0.25, 0.125]
        assert [of["step_twice"][t] for t in (49, 50, 74, 75)] == pytest.approx([1, 0.1, 0.1, 0.01])
        assert of["warmup_cosine_brief"][0] == 1 and of["warmup_cosine_long"][:20] == pytest.approx(
            [(t + 1) / 20 for t in range(20)]
        )
        assert of["inverse_sqrt_long"][19] == 1 and of["inverse_sqrt_long"][79] == pytest.approx(0.5)
        assert set(VariantName.__args__) < set(schedule_arms.VARIANTS)


class TestShifted:
    def test_signals_are_those_of_the_generator_and_global_randomness_is_kept(self):
        from mnist1d.data import get_dataset_args, make_dataset

        bed = runs.bed_for(SMOKE, "mlp")
        state = np.random.get_state()[1].copy()
        found = shifted.shifted(bed, SETTINGS.fine_tuning)
        assert (np.random.get_state()[1] == state).all()
        arguments = get_dataset_args()
        changes = {"num_samples": 300, "train_split": 1 / 3, "seed": 45, "shear_scale": 1.0, "corr_noise_scale": 0.4}
        vars(arguments).update(changes)
        expected = make_dataset(arguments)
        assert torch.equal(found.data.train.x, torch.from_numpy(expected["x"].astype("<f4")))
        assert torch.equal(found.data.test.y, torch.from_numpy(expected["y_test"][100:]))
        assert found.training == bed.training
        assert not torch.equal(found.data.train.x[:50], bed.data.train.x[:50])

    def test_unequal_classes_are_refused(self):
        with pytest.raises(ValueError, match="303 examples in all"):
            shifted.drawn(SETTINGS.fine_tuning.model_copy(update={"test": 103}))


class TestStudy:
    def test_lengths_and_looks(self):
        cell = partial(runs.Cell, "mlp", arm="cosine", seed=0, rate=0.1)
        steps = {use: runs.planned_steps(SMOKE, "mlp", use) for use in ("whole", "half", "double", "fast", "short")}
        assert steps == {"whole": 20, "half": 10, "double": 40, "fast": 4, "short": 1}
        horizons = {5: "quarter", 10: "half", 15: "three_quarters", 20: "end"}
        assert runs.looks_of(SMOKE, cell(use="whole")) == horizons
        assert runs.looks_of(SMOKE, cell(use="whole", goes_on=True)) == horizons | {40: "double"}
        assert runs.looks_of(SMOKE, cell(use="whole", labels="shuffled")) == {20: "end"}
        assert runs.looks_of(SMOKE, cell(use="common")) == {20: "end"}
        assert runs.looks_of(SMOKE, cell(use="double")) == {40: "end"}
        assert runs.looks_of(SMOKE, cell(use="natural")) == {40: "double"}
        assert runs.looks_of(SMOKE, cell(use="fine_tuning")) == {0: "start", 2: "end"}
        variant = runs.Cell("transformer", "whole", "warmup_cosine_long", 0, 0.1)
        assert runs.looks_of(SMOKE, variant) == {SMOKE.train["transformer"].steps: "end"}

    def test_every_arm_of_a_use_is_tuned_equally(self):
        cells = [cell for job in study.tuning_jobs(SMOKE) for cell in job.args[1]]
        assert len(cells) == len(set(cells))
        assert {cell.seed for cell in cells if cell.model == "mlp"} == set(SETTINGS.tuning)
        assert {cell.seed for cell in cells if cell.model == "transformer"} == set(SMOKE.seeds.tuning)
        counts = pd.Series([(cell.model, cell.use, cell.arm) for cell in cells]).value_counts()
        assert set(counts[[key for key in counts.index if key[0] == "mlp"]]) == {3 * 2}
        assert all(len({(c.model, c.use) for c in job.args[1]}) == 1 for job in study.tuning_jobs(SMOKE))

    def test_reported_cells(self):
        rates = {key: 0.1 + i for i, key in enumerate((m, u, a) for m, u, arms in study.uses(SMOKE) for a in arms)}
        cells = study.reported_cells(SMOKE, rates)
        keys = {(c.model, c.use, c.arm, c.labels, c.draw, c.seed) for c in cells}
        assert len(keys) == len(cells)
        assert {c.rate for c in cells if c.use == "common"} == {SETTINGS.common}
        assert all(c.rate == rates[c.model, c.use, c.arm] for c in cells if c.use in ("whole", "half", "short"))
        assert {c.rate for c in cells if c.use == "double"} == {rates["mlp", "whole", a] for a in study.PLANNED}
        assert {c.arm for c in cells if c.goes_on} == set(schedules.SCHEDULES)
        assert {c.seed for c in cells if c.goes_on or c.labels == "shuffled"} == {0}
        assert {(c.use, c.arm) for c in cells if c.draw == "other"} == {("whole", "cosine"), ("fast", "cosine")}
        assert {c.seed for c in cells if c.model == "transformer"} == set(SMOKE.seeds.reported)
        jobs = [job.args[1] for job in study.reported_jobs(SMOKE, rates)]
        assert sum(map(len, jobs)) == len(cells)
        assert all(len({(c.model, runs.length(SMOKE, c)) for c in job}) == 1 for job in jobs)

    def test_cells_of_one_cohort_keep_their_own_schedules_labels_and_looks(self):
        """Against torch's own optimizer, one network at a time, its rate set by hand before each update."""
        cells = [
            runs.Cell("mlp", "common", "cosine", 3, 0.1, "shuffled"),
            runs.Cell("mlp", "whole", "linear", 4, 0.2),
            runs.Cell("mlp", "whole", "cosine", 3, 0.1, draw="other"),
        ]
        assert [cell.start - cell.seed for cell in cells] == [0, 0, 1 << 20]
        rows = runs.run(SMOKE, cells)
        assert [(r.step, r.arm, r.draw) for r in rows if r.step < 20] == [(s, "linear", "own") for s in (5, 10, 15)]
        found = {(row.arm, row.labels): row for row in rows if row.look == "end"}
        assert found["cosine", "shuffled"].train_loss is None
        for cell in cells:
            expected = self.by_hand(cell, lambda t, arm=cell.arm: schedules.SCHEDULES[arm](20)(t), 20)
            assert found[cell.arm, cell.labels].test_loss == pytest.approx(expected, rel=1e-4)

    def by_hand(self, cell, shape, steps):
        bed = runs.bed_for(SMOKE, "mlp")
        torch.manual_seed(cell.start)
        network = bed.build()
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
        data = runs.labelled(bed, cell.own_labels).data.train
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = cell.rate * shape(step)
            optimizer.zero_grad()
            x, y = data.batch([cell.start], step, SETTINGS.batch_size)
            torch.nn.functional.cross_entropy(network(x[0]), y[0]).backward()
            optimizer.step()
        x, y = bed.data.test.examples(SETTINGS.test_examples)
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(network(x), y).item()

    def test_runs_go_on_at_their_last_rate_or_along_their_formula(self):
        cells = [
            runs.Cell("mlp", "whole", "step", 5, 0.1, goes_on=True),
            runs.Cell("mlp", "natural", "inverse_sqrt", 5, 0.1),
        ]
        found = {row.use: row for row in runs.run(SMOKE, cells) if row.look == "double"}
        last = schedules.step_decay(20)
        on = schedules.inverse_sqrt(20)
        assert found["whole"].test_loss == pytest.approx(
            self.by_hand(cells[0], lambda t: last(min(t, 19)), 40), rel=1e-4
        )
        assert found["natural"].test_loss == pytest.approx(self.by_hand(cells[1], on, 40), rel=1e-4)

    def test_a_diverged_run_has_its_step_and_no_scores(self):
        rows = runs.run(
            SMOKE, [runs.Cell("mlp", "short", "constant", 5, 1e30), runs.Cell("mlp", "short", "cosine", 5, 0.1)]
        )
        assert [row.diverged_step for row in rows] == [None, None]  # one step: the loss that would show it is not taken
        rows = runs.run(
            SMOKE, [runs.Cell("mlp", "fast", "constant", 5, 1e30), runs.Cell("mlp", "fast", "cosine", 5, 0.1)]
        )
        assert rows[0].diverged_step is not None and rows[0].test_loss is None
        assert rows[1].diverged_step is None and rows[1].test_loss > 0
        (trial, _) = tune(
            SMOKE, [runs.Cell("mlp", "fast", "constant", 5, 1e30), runs.Cell("mlp", "fast", "cosine", 5, 0.1)]
        )
        assert trial.diverged_step is not None and trial.validation_loss is None and trial.arm == "constant@fast"

    def test_fine_tuning_starts_from_pretrained_weights(self):
        settings = SETTINGS.model_copy(update={"tuning": (1000,), "seeds": (0, 1)})
        changed = SMOKE.model_copy(update={"schedules": SMOKE.schedules.model_copy(update={"tournament": settings})})
        arms, rows = study.fine_tuned(changed, 0.05)
        assert [arm.arm.arm for arm in arms] == ["constant@fine_tuning", "cosine@fine_tuning"]
        assert [arm.arm.trials for arm in arms] == [3, 3]
        start = {(row.arm, row.seed): row for row in rows if row.look == "start"}
        target = shifted.shifted(runs.bed_for(SMOKE, "mlp"), SETTINGS.fine_tuning)
        (end,) = [r for r in runs.run(changed, [runs.Cell("mlp", "whole", "cosine", 1, 0.05)]) if r.look == "end"]
        assert start["constant", 1].test_loss == start["cosine", 1].test_loss != start["cosine", 0].test_loss
        network = self.trained_by_hand(runs.Cell("mlp", "whole", "cosine", 1, 0.05))
        with torch.no_grad():
            expected = torch.nn.functional.cross_entropy(network(target.data.test.x), target.data.test.y).item()
        assert start["cosine", 1].test_loss == pytest.approx(expected, rel=1e-4)
        assert end.test_loss != start["cosine", 1].test_loss

    def trained_by_hand(self, cell):
        bed = runs.bed_for(SMOKE, "mlp")
        torch.manual_seed(cell.seed)
        network = bed.build()
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
        for step in range(20):
            optimizer.param_groups[0]["lr"] = cell.rate * schedules.cosine(20)(step)
            optimizer.zero_grad()
            x, y = bed.data.train.batch([cell.seed], step, SETTINGS.batch_size)
            torch.nn.functional.cross_entropy(network(x[0]), y[0]).backward()
            optimizer.step()
        return network

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tuning": [0, 1000]}, "tuning seeds must not be reported"),
            ({"extended": 3}, "at most 2, the number of seeds"),
            ({"shuffled": 3}, "at most 2, the number of seeds"),
            ({"rates": [0.1, 0.05, 0.2]}, "rates must rise"),
            ({"short_rates": [0.01, 0.02, 0.04, 0.08]}, "as many of either"),
            ({"common": 1.0}, "common must not exceed"),
            ({"short": 0.01}, "a short run must have a step"),
            ({"variants": {"resnet": ["step_half", "step_half"]}}, "more than once"),
        ],
    )
    def test_settings_that_cannot_be_are_refused(self, change, message):
        with pytest.raises(ValidationError, match=message):
            Tournament.model_validate({**SETTINGS.model_dump(mode="json"), **change})

    def test_peaks_of_the_theory_must_rise(self):
        content = SETTINGS.theory.model_dump() | {"lowest": 2.0}
        with pytest.raises(ValidationError, match="lowest must be below highest"):
            type(SETTINGS.theory).model_validate(content)


# What each arm is worth, planted: its test error; losses are three times that
ERROR = {
    "constant": 0.40,
    "step": 0.38,
    "cosine": 0.30,
    "warmup_cosine": 0.31,
    "wsd": 0.33,
    "one_cycle": 0.34,
    "inverse_sqrt": 0.36,
    "linear": 0.28,
    "cosine_floor": 0.27,
    "step_half": 0.35,
    "step_twice": 0.39,
    "warmup_cosine_brief": 0.32,
    "warmup_cosine_long": 0.29,
    "inverse_sqrt_long": 0.37,
}
COMMON = {arm: 0.60 for arm in view.NAMES} | {"constant": 0.45, "cosine": 0.55}
OTHER_DRAW, SHUFFLED, STOPPED, RUN_ON = 0.004, 0.1, 0.05, 0.02
WIDTH = {"constant": 0.5, "one_cycle": 0.2}  # of the error's valley, in decades either side; others 0.25
UPPER = {"one_cycle": 0.6}  # its upper side
CENTRE = -1.5
RATES = tuple(10 ** (CENTRE + step) for step in (-1.2, -0.8, -0.4, 0.0, 0.4, 0.8, 1.2))
BED_OFFSET = {"mlp": 0.0, "resnet": 0.01, "transformer": 0.02}


def trial(model, arm, seed, rate, level):
    """Errors that rise by one point at the valley's half-width and in proportion."""
    distance = math.log10(rate) - CENTRE
    half = UPPER.get(arm, WIDTH.get(arm, 0.25)) if distance > 0 else WIDTH.get(arm, 0.25)
    error = level + 0.01 * abs(distance) / half
    return error, 3 * error


def row(model, use, arm, seed, look, value, labels="true", draw="own"):
    value = value + seed / 100  # seeds shift every arm alike, so that only paired differences are exact
    scores = (2 * value, value / 2, 3 * value, value)
    return ScheduledRun(model, use, arm, labels, draw, seed, look, 0.03, 10, None, *scores)


def own_frames(seeds):
    tuning, tuned, found = [], [], []
    arms = [(arm, "whole") for arm in (*view.NAMES, "cosine_floor")]
    arms += [(arm, use) for use in view.HORIZONS for arm in ("cosine", "linear")]
    arms += [("cosine", "fast"), ("one_cycle", "fast"), ("constant", "short"), ("cosine", "short")]
    arms += [("constant", "fine_tuning"), ("cosine", "fine_tuning")]
    variants = {"resnet": ("step_half", "step_twice")}
    variants["transformer"] = ("warmup_cosine_brief", "warmup_cosine_long", "inverse_sqrt_long")
    names = [("mlp", arm, use) for arm, use in arms] + [(m, arm, "whole") for m, own in variants.items() for arm in own]
    for model, arm, use in names:
        for seed in (1000, 1001, 1002)[: 3 if model == "mlp" else 1]:
            for rate in RATES:
                error, loss = trial(model, arm, seed, rate, ERROR[arm])
                tuning.append(TuningTrial(model, view.tuning_name(arm, use), seed, rate, None, None, loss, error))
        count = len(RATES) * (3 if model == "mlp" else 1)
        tuned.append(TunedArm(model, view.tuning_name(arm, use), "validation_loss", RATES[3], 1, count))
    for seed in range(seeds):
        for model, own in variants.items():
            found += [row(model, "whole", arm, seed, "end", ERROR[arm] + BED_OFFSET[model]) for arm in own]
        for i, arm in enumerate(view.NAMES):
            found.append(row("mlp", "whole", arm, seed, "end", ERROR[arm]))
            parts = {"quarter": 3, "half": 2, "three_quarters": 1}
            found += [row("mlp", "whole", arm, seed, p, ERROR[arm] + k * STOPPED + i / 1000) for p, k in parts.items()]
            found.append(row("mlp", "whole", arm, seed, "double", ERROR[arm] - RUN_ON))
            found.append(row("mlp", "common", arm, seed, "end", COMMON[arm]))
        found.append(row("mlp", "whole", "cosine_floor", seed, "end", ERROR["cosine_floor"]))
        for arm in view.PLANNED:
            planned = {"quarter": 0.14, "half": 0.09, "three_quarters": 0.04, "double": -0.06}
            found += [row("mlp", use, arm, seed, "end", ERROR[arm] + more) for use, more in planned.items()]
        found.append(row("mlp", "natural", "inverse_sqrt", seed, "double", 0.33))
        pairs = {"fast": {"cosine": 0.5, "one_cycle": 0.48}, "short": {"constant": 0.7, "cosine": 0.703}}
        pairs["fine_tuning"] = {"constant": 0.6, "cosine": 0.606}
        found += [row("mlp", use, arm, seed, "end", v) for use, pair in pairs.items() for arm, v in pair.items()]
        found += [row("mlp", "fine_tuning", arm, seed, "start", 0.65) for arm in pairs["fine_tuning"]]
        found.append(row("mlp", "whole", "cosine", seed, "end", ERROR["cosine"] + OTHER_DRAW, draw="other"))
        found.append(row("mlp", "fast", "cosine", seed, "end", 0.5 + 2 * OTHER_DRAW, draw="other"))
    for seed in range(2):
        levels = {("whole", arm): ERROR[arm] for arm in study.SHUFFLED["whole"]}
        levels |= {("common", arm): COMMON[arm] for arm in study.SHUFFLED["common"]}
        levels |= {("fast", arm): v for arm, v in {"cosine": 0.5, "one_cycle": 0.48}.items()}
        found += [row("mlp", use, arm, seed, "end", SHUFFLED * v, "shuffled") for (use, arm), v in levels.items()]
    return tuning, tuned, found


def grid_frames(seeds):
    runs_, curves = [], []
    for model in ("resnet", "transformer"):
        for arm in view.NAMES:
            for rate in RATES:
                error, loss = trial(model, arm, 1000, rate, ERROR[arm])
                runs_.append(
                    Run(model, "none", arm, "tuning", 1000, rate, 9, 9, None, None, None, loss, error, None, None)
                )
            for seed in range(seeds):
                value = ERROR[arm] + BED_OFFSET[model] + seed / 100
                value = value if model == "resnet" or arm != "step" else value + 0.08
                scores = (2 * value, value / 2, 3 * value, value, 3 * value, value)
                runs_.append(Run(model, "none", arm, "reported", seed, RATES[3], 9, 9, None, *scores))
                for step in range(9, 100, 10):
                    curves.append(CurvePoint(model, "none", arm, seed, step, 0.1, 3 * value + (99 - step) / 100))
                if seed < 3:
                    again = (None, None, 3 * (value + OTHER_DRAW), value + OTHER_DRAW, None, None)
                    runs_.append(Run(model, "none", arm, "sibling", seed, RATES[3], 9, 9, None, *again))
    return runs_, curves


def planted(seeds: int = 4) -> dict[str, pd.DataFrame]:
    tuning, tuned, found = own_frames(seeds)
    grid, curves = grid_frames(seeds)
    order = sorted(ERROR, key=ERROR.__getitem__)
    theory = [
        TheoryColumn(a, 0.1, 1, 0.05 + 0.01 * order.index(a), 0.3, 1e-15, 0.5)
        for a in (*view.NAMES, "wsd_sqrt")
        if a in ERROR
    ]
    theory.append(TheoryColumn("wsd_sqrt", 0.1, 1, 0.07, 0.2, 2e-15, 0.5))
    responses = [TheoryResponse(a, rate, 0.1 + abs(math.log10(rate))) for a in view.NAMES for rate in (0.1, 1.0, 10.0)]
    parts = {"tuning": tuning, "tuned": tuned, "runs": found, "theory": theory, "responses": responses}
    frames = {name: pd.DataFrame(rows) for name, rows in (parts | {"grid": grid, "curves": curves}).items()}
    return {**frames, "grid": frames["grid"].astype({n: float for n in ("train_loss", "test_loss", "test_error")})}


BASE = planted()


def changed(frames, name, where: dict, **values):
    frame = frames[name].copy()
    chosen = np.logical_and.reduce([frame[key] == value for key, value in where.items()])
    assert chosen.any()
    frame.loc[chosen, list(values)] = list(values.values())
    return {**frames, name: frame}


READERS = {reader(BASE).claim: reader for reader in contrasts.CLAIMS}
EFFECTS = contrasts.effects(BASE)


def of_claim(frames, claim):
    return list(READERS[claim](frames).values.dropna())


def of_base(claim, role="claim"):
    return [e.value for e in EFFECTS if (e.claim, e.role) == (claim, role)]


def gate(frames, claim):
    return READERS[claim](frames).gates


STANDARD = {
    m: np.std([3 * (ERROR[a] + (0.08 if (m, a) == ("transformer", "step") else 0)) for a in view.NAMES], ddof=1)
    for m in view.MODELS
}


class TestContrasts:
    @pytest.mark.parametrize(
        ("claim", "expected"),
        [
            ("constant.short_run.mlp", 0.703 - 0.7),
            ("constant.fine_tuning.mlp", 0.606 - 0.6),
            ("constant.common_peak.mlp", 0.55 - 0.45),
            ("step.cosine_accuracy.resnet", 0.30 - 0.38),
            ("step.factor_accuracy.resnet", 0.38 - 0.35),
            ("step.milestones_accuracy.resnet", 0.39 - 0.38),
            ("cosine.constant_accuracy.mlp", 0.40 - 0.30),
            ("cosine.linear_accuracy.mlp", 0.28 - 0.30),
            ("cosine.linear_loss.transformer", 3 * (0.28 - 0.30)),
            ("cosine.floor_accuracy.mlp", 0.30 - 0.27),
            ("cosine.horizon_loss.mlp", 3 * (2 * STOPPED + 0.002 - 0.09)),
            ("warmup_cosine.loss.transformer", 3 * (0.30 - 0.31)),
            ("warmup_cosine.steps_loss.transformer", 3 * (0.32 - 0.29)),
            ("wsd.as_cosine_accuracy.mlp", 0.31 - 0.33),
            ("wsd.as_cosine_loss.transformer", 3 * (0.31 - 0.33)),
            ("one_cycle.fast_accuracy.mlp", 0.5 - 0.48),
            ("inverse_sqrt.loss.transformer", 3 * (0.31 - 0.36)),
            ("inverse_sqrt.anytime_loss.mlp", 3 * (0.31 - 0.36 - 0.003)),
            ("inverse_sqrt.steps_loss.transformer", 3 * (0.37 - 0.36)),
            ("linear.theory_ranking.mlp", 1.0),
        ],
    )
    def test_every_contrast_recovers_what_was_planted(self, claim, expected):
        # variants of the grid's beds and its own schedules end at the same offset, which no difference sees
        assert of_base(claim) == pytest.approx([expected] * 4)

    def test_standing_of_step_decay_on_both_beds(self):
        expected = 3 * (0.30 - 0.38) / STANDARD["resnet"] - 3 * (0.30 - 0.46) / STANDARD["transformer"]
        assert of_base("step.cnn.both") == pytest.approx([expected] * 4)
        control = 3 * OTHER_DRAW / STANDARD["resnet"] - 3 * OTHER_DRAW / STANDARD["transformer"]
        assert of_base("step.cnn.both", "same_arm") == pytest.approx([control] * 3)

    def test_usable_rates(self):
        found = view.usable(BASE, "mlp", "cosine")
        assert found.width.to_numpy() == pytest.approx([0.5] * 3) and (found.inside == 1).all()
        upper = np.log10(view.usable(BASE, "mlp", "one_cycle").high.to_numpy()) - CENTRE
        assert upper == pytest.approx([0.6] * 3)
        # four schedules are half a decade wide and 1-cycle 0.8, constant a whole one
        assert of_base("constant.rate_range.mlp") == pytest.approx([(4 * 0.5 + 0.8) / 5 - 1.0] * 3)
        assert of_base("one_cycle.peak.mlp") == pytest.approx([0.6 - 0.25] * 3)
        # in nats: the valley is three points of loss deep at its half-width
        assert view.usable(BASE, "transformer", "cosine").width.iloc[0] == pytest.approx(2 * 0.25 * 2 / 3)

    def test_usable_rates_end_at_the_grid_and_where_runs_diverge(self):
        narrow = {**BASE, "tuning": BASE["tuning"][BASE["tuning"].rate.between(RATES[3] * 0.99, RATES[-1])]}
        found = view.usable(narrow, "mlp", "cosine")
        assert found.width.to_numpy() == pytest.approx([0.25] * 3) and (found.inside == 0).all()
        where = {"model": "mlp", "arm": "cosine", "rate": RATES[4]}
        gone = changed(BASE, "tuning", where, validation_error=np.nan)
        found = view.usable(gone, "mlp", "cosine")
        assert found.width.to_numpy() == pytest.approx([0.25] * 3) and (found.inside == 1).all()

    def test_controls(self):
        assert of_base("cosine.constant_accuracy.mlp", "same_arm") == pytest.approx([OTHER_DRAW] * 4)
        assert of_base("one_cycle.fast_accuracy.mlp", "same_arm") == pytest.approx([2 * OTHER_DRAW] * 4)
        assert of_base("warmup_cosine.steps_loss.transformer", "same_arm") == pytest.approx([3 * OTHER_DRAW] * 3)
        assert of_base("cosine.horizon_loss.mlp", "same_arm") == pytest.approx([3 * OTHER_DRAW] * 4)
        for claim, value in {
            "cosine.constant_accuracy": 0.1,
            "cosine.floor_accuracy": 0.03,
            "constant.common_peak": 0.1,
        }.items():
            assert of_base(f"{claim}.mlp", "shuffled_labels") == pytest.approx([SHUFFLED * value] * 2)
        assert of_base("one_cycle.fast_accuracy.mlp", "shuffled_labels") == pytest.approx([SHUFFLED * 0.02] * 2)
        assert of_base("constant.short_run.mlp", "same_arm") == []

    def test_variants_are_ranked_by_the_tuning_seeds_alone(self):
        frames = changed(BASE, "runs", {"arm": "cosine_floor"}, test_error=0.9)
        assert of_claim(frames, "cosine.floor_accuracy.mlp")[0] == pytest.approx(0.30 - 0.9)
        worse = changed(BASE, "tuning", {"arm": "cosine_floor"}, validation_loss=9.0)
        assert of_claim(worse, "cosine.floor_accuracy.mlp") == pytest.approx([0.27 - 0.30] * 4)

    def test_gates_see_what_they_are_for(self):
        assert gate(BASE, "cosine.constant_accuracy.mlp") == {"rate_interior": 1.0, "equal_tuning": 1.0}
        edge = changed(BASE, "tuned", {"model": "mlp", "arm": "constant@short"}, interior=0)
        assert gate(edge, "constant.short_run.mlp")["rate_interior"] == 0.0
        assert gate(edge, "cosine.constant_accuracy.mlp")["rate_interior"] == 1.0
        low = {"model": "transformer", "schedule": "step", "rate": RATES[0]}
        lowest = changed(BASE, "grid", low, validation_loss=0.1)
        assert gate(lowest, "step.cnn.both")["rate_interior"] == 0.0
        assert gate(lowest, "linear.theory_ranking.transformer")["rate_interior"] == 0.0
        assert gate(lowest, "cosine.linear_loss.transformer")["rate_interior"] == 1.0
        fewer = changed(BASE, "tuned", {"arm": "warmup_cosine_long"}, trials=3)
        assert gate(fewer, "warmup_cosine.steps_loss.transformer")["equal_tuning"] == 0.0
        assert gate(BASE, "constant.rate_range.mlp") == {"tournament_ranges_inside": 1.0}
        cut = {**BASE, "tuning": BASE["tuning"][BASE["tuning"].rate > RATES[2]]}
        assert gate(cut, "one_cycle.peak.mlp")["tournament_ranges_inside"] == 0.0

    def test_arms_that_were_not_run_leave_gates_unmeasured_and_claims_without_effects(self):
        grid = BASE["grid"][BASE["grid"].schedule.isin(["constant", "cosine"])]
        frames = {**BASE, "grid": grid, "curves": BASE["curves"][BASE["curves"].schedule == "cosine"]}
        assert gate(frames, "step.cnn.both") == {"rate_interior": None, "equal_tuning": None}
        for claim in ("step.cnn.both", "warmup_cosine.loss.transformer", "linear.theory_ranking.transformer"):
            assert of_claim(frames, claim) == []
        written = {(g.claim, g.gate) for g in contrasts.gates(frames)}
        assert written == {(claim, name) for claim in READERS for name in gate(BASE, claim)}

    def test_a_diverged_run_leaves_its_seed_out(self):
        where = {"model": "mlp", "arm": "constant", "use": "whole", "look": "end", "seed": 2, "labels": "true"}
        frames = changed(BASE, "runs", where, test_error=np.nan, test_loss=np.nan)
        assert len(of_claim(frames, "cosine.constant_accuracy.mlp")) == 3
        assert len(of_claim(frames, "linear.theory_ranking.mlp")) == 3
        assert len(of_claim(frames, "constant.common_peak.mlp")) == 4

    def test_regret_and_extension_are_against_planned_runs(self):
        assert view.reference(BASE, "half") == view.reference(BASE, "double") == "linear"
        expected = 3 * (ERROR["wsd"] + 2 * STOPPED + 0.004 - ERROR["linear"] - 0.09)
        assert view.regret(BASE, "wsd", "half").to_numpy() == pytest.approx([expected] * 4)
        assert view.regret(BASE, "wsd", "end").to_numpy() == pytest.approx([3 * (0.33 - 0.28)] * 4)
        expected = 3 * (ERROR["wsd"] - RUN_ON - ERROR["linear"] + 0.06)
        assert view.extension(BASE, "wsd").to_numpy() == pytest.approx([expected] * 4)
        natural = view.extension(BASE, "inverse_sqrt", natural=True)
        assert natural.to_numpy() == pytest.approx([3 * (0.33 - 0.22)] * 4)
        behind = view.behind(BASE, "resnet", 0.5)
        assert behind.linear.mean() == pytest.approx(0) and behind.constant.mean() == pytest.approx(3 * 0.12)

    def test_agreement_counts_pairs(self):
        swapped = changed(BASE, "theory", {"schedule": "constant"}, loss=0.0)
        assert view.agreement(swapped, "resnet").to_numpy() == pytest.approx([1 - 2 * 7 / 28] * 4)

    def test_findings_have_unique_names_and_the_planted_means(self):
        found = contrasts.findings(BASE)
        assert len({(f.row, f.model, f.quantity) for f in found}) == len(found)
        assert {f.table for f in found} == {"schedules"}
        by_name = {(f.row, f.model, f.quantity): f for f in found}
        assert by_name["wsd", "resnet", "test_error, tuned peak"].mean == pytest.approx(0.33 + 0.01 + 0.015)
        assert by_name["constant", "mlp", "test_error before fine-tuning"].mean == pytest.approx(0.65 + 0.015)

    def test_the_summary_has_a_row_per_schedule(self):
        for model in view.MODELS:
            table = view.summary(BASE, model)
            assert list(table.index) == list(view.NAMES) and table.notna().all(axis=None)

    def test_every_claim_has_a_reader_of_its_own(self):
        assert len(READERS) == len(contrasts.CLAIMS) == 25
        assert {e.claim for e in EFFECTS} == set(READERS)


class TestDrawings:
    FIGURES = (drawings.responses, drawings.reversal, drawings.ranking, drawings.stopping)

    def test_figures_say_what_is_averaged(self):
        for draw in self.FIGURES:
            figure = draw(BASE)
            assert "mean" in figure.get_suptitle().lower()
            assert all(panel.get_title(loc="left") and panel.get_xticks().size for panel in figure.axes)

    def test_points_are_drawn_where_they_were_planted(self):
        panel = drawings.ranking(BASE).axes[0]
        places = sorted(round(line.get_ydata()[0], 9) for line in panel.lines if line.get_marker() in "os^vDPX*")
        assert places == pytest.approx(sorted(3 * (ERROR[a] + 0.015) for a in view.NAMES))
        assert "mean tau 1.00, n = 4" in panel.get_title(loc="left")

    def test_missing_runs_leave_gaps_and_no_errors(self):
        frames = planted(2)
        grid = frames["grid"][frames["grid"].schedule.isin(["constant", "cosine"])]
        runs_ = frames["runs"][frames["runs"].look != "double"]
        frames = changed(
            {**frames, "grid": grid, "runs": runs_}, "runs", {"arm": "wsd"}, test_loss=np.nan, test_error=np.nan
        )
        frames = changed(frames, "tuning", {"arm": "wsd", "model": "mlp"}, validation_loss=np.nan)
        for draw in self.FIGURES:
            assert draw(frames).axes
