"""Branches of a run under WSD, what is measured where phases end, and what the claims make of it."""

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy as torch_cross_entropy

from nonconvex import config
from nonconvex.beds import bed_of
from nonconvex.contrasts import phase_frames as reading
from nonconvex.contrasts import three_phases as contrasts
from nonconvex.drawings import three_phases as drawings
from nonconvex.losses import squared_error
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.models.stacked import flatten, select, stack, unflatten
from nonconvex.observations import three_phases as rows
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.schedules import constant, wsd
from nonconvex.statistics import Interval
from nonconvex.studies import phase_branches as branching
from nonconvex.studies import three_phases as study
from nonconvex.studies import training
from nonconvex.studies.forks import OTHER_ORDER
from nonconvex.studies.phase_branches import Phases, crossing, gathered, grow, matched
from nonconvex.studies.training import Recipe
from nonconvex.study_settings.three_phases import ThreePhases

SMOKE = config.read(Path(__file__).resolve().parents[1] / "profiles/smoke/params.yaml")
PHASES = Phases(end=20, warmup=0.2, decay=0.3)  # T_w = 4, T_d = 14
SEEDS, RATE = (600, 601), 0.05


def small(optimizer: str = "mlp"):
    """A tiny network on forty examples, with the optimizer of another bed."""
    bed = training.with_architecture(training.with_examples(bed_of(SMOKE, "mlp"), 40), widths=[5])
    options = {"optimizer": SMOKE.train[optimizer].optimizer, "batch_size": 8}
    return replace(bed, training=bed.training.model_copy(update=options))


def uninterrupted(bed, schedule, seeds=SEEDS, order=None, steps=20, until=None):
    _, params, made = training.cohort(bed, Recipe(steps, schedule=schedule), seeds, [RATE] * len(seeds), order)
    return next(iter(training.snapshots(made, params, [until or steps]))).params


def same(found, expected, rows_=slice(None)):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value[rows_], rtol=1e-5, atol=1e-7)


class TestBranches:
    def test_boundaries_are_the_schedules_own(self):
        rates = [PHASES.decaying(20)(step) for step in range(20)]
        assert [round(rate, 9) for rate in rates[:4]] == [0.25, 0.5, 0.75, 1.0]
        assert (PHASES.warm, PHASES.fork) == (4, 14)
        assert set(rates[PHASES.warm : PHASES.fork + 1]) == {1.0}  # a cosine starts flat: its first value is the peak
        assert all(a > b for a, b in pairwise(rates[14:]))
        assert rates[17] == pytest.approx((1 + math.cos(math.pi / 2)) / 2)
        assert [PHASES.staying(20)(step) for step in range(20)] == [*rates[:14], *[1.0] * 6]

    @pytest.mark.parametrize("optimizer", ["mlp", "transformer"])
    def test_branches_are_uninterrupted_runs(self, optimizer):
        """As if every branch had been trained from its own start: minibatches, rates, the optimizer's memory."""
        bed = small(optimizer)
        runs = grow(bed, PHASES, SEEDS, RATE, [9], [17])
        decaying, staying = partial(wsd, warmup=0.2, decay=0.3), PHASES.staying
        same(runs.branches["decay"][20], uninterrupted(bed, decaying))
        same(runs.branches["stay"][20], uninterrupted(bed, staying))
        same(runs.branches["stay"][17], uninterrupted(bed, staying, until=17))
        other = uninterrupted(bed, staying, order=lambda step: [s + OTHER_ORDER * (step >= 14) for s in SEEDS])
        same(runs.branches["other_order"][20], other)
        same(runs.trunk[9], uninterrupted(bed, decaying, until=9))
        same(runs.cold, uninterrupted(bed, constant, until=4))
        assert set(runs.trunk) == {0, 4, 9, 14} and set(runs.branches["decay"]) == {17, 20}

    def test_first_update_after_the_fork_is_shared_by_the_same_minibatches_alone(self):
        runs = grow(small(), PHASES, SEEDS, RATE, [], [15, 16])
        decay, stay, other = (flatten(runs.branches[arm][15]) for arm in ("decay", "stay", "other_order"))
        assert torch.equal(decay, stay) and not torch.equal(stay, other)
        assert not torch.equal(*(flatten(runs.branches[arm][16]) for arm in ("decay", "stay")))

    def test_a_diverged_branch_costs_its_seed_and_a_diverged_run_without_warmup_does_not(self, monkeypatch):
        made = branching.cohort

        def cohort(bed, recipe, seeds, rates, order=None, schedules=None):
            network, params, one = made(bed, recipe, seeds, rates, order, schedules)
            rates = one.rates.clone()
            if len(seeds) == 6:
                rates[15, 3] = math.inf  # the second seed of the branch that stays
            elif recipe.schedule == "constant":
                rates[1, 0] = math.inf
            return network, params, replace(one, rates=rates)

        monkeypatch.setattr(branching, "cohort", cohort)
        runs = grow(small(), PHASES, SEEDS, RATE, [], [])
        assert (runs.finished, runs.cold_finished) == ([0], [1])


class TestMatching:
    @pytest.mark.parametrize(
        ("losses", "level", "place"),
        [
            ([4.0, 3.0, 2.0, 1.0], 2.9, 1),  # falls below between 3 and 2, and 3 is nearer
            ([4.0, 3.0, 2.0, 1.0], 2.1, 2),
            ([4.0, 1.9, 3.0, 1.0, 0.9], 2.0, 2),  # the last crossing, not the first; ln 3/2 < ln 2
            ([4.0, 1.9, 3.0, 1.0, 0.9], 1.2, 3),
            ([1.0, 0.5], 2.0, 0),  # never above
            ([0.5, 1.0], 2.0, 0),
            ([4.0, 3.0, 1.0, 3.0], 2.0, 7),  # ends above: whatever is given for that
            ([4.0, 2.0, 1.0], 1.0, 2),  # the end is the level
        ],
    )
    def test_crossing(self, losses, level, place):
        assert crossing(losses, level, 7) == place

    def test_the_level_is_the_lowest_that_both_branches_meet(self):
        stay = torch.tensor([[5.0, 2.0, 4.0], [5.0, 1.0, 1.9]])
        decay = torch.tensor([[5.0, 2.1, 1.0], [4.0, 3.0, 2.0]])
        other = torch.tensor([[1.9, 3.0, 4.0], [9.0, 8.0, 2.5]])
        # levels 2 (that of stay) and 2 (that of decay, which ends there: stay is taken where it is nearest)
        assert matched(stay, decay, other) == [[1, 2], [1, 2], [0, 2]]

    def test_gathered_takes_each_member_from_its_own_step(self):
        states = {3: {"w": torch.tensor([[1.0], [2.0]])}, 5: {"w": torch.tensor([[3.0], [4.0]])}}
        assert gathered(states, [5, 3])["w"].tolist() == [[3.0], [2.0]]


@pytest.fixture(scope="module")
def family():
    bed = small()
    how = SMOKE.rates.three_phases.beds["mlp"]
    how = how.model_copy(update={"looks": 4, "trunk_looks": 4, "points": 5, "scored": 30, "tested": 50, "examples": 20})
    runs = grow(bed, PHASES, SEEDS, RATE, study.trunk_looks(how, PHASES), study.looks(how, PHASES))
    return study.Family("mlp", bed, how, PHASES, runs)


def plain_loss(family, params, split, count, member):
    """Mean cross-entropy by torch itself, one member, one example after another."""
    x, y = getattr(family.bed.data, split).examples(count)
    one = {name: value[member] for name, value in params.items()}
    logits = torch.func.functional_call(family.bed.build(), one, (x,))
    return torch_cross_entropy(logits, y).item(), (logits.argmax(1) != y).float().mean().item()


class TestMeasured:
    def test_points_are_losses_at_the_boundaries(self, family):
        found = {(r.arm, r.place, r.seed): r for r in family.points()}
        assert len(found) == 2 * 7
        where = {
            ("trunk", "start"): (0, family.runs.trunk[0]),
            ("trunk", "warm"): (4, family.runs.trunk[4]),
            ("trunk", "fork"): (14, family.runs.trunk[14]),
            ("decay", "end"): (20, family.runs.branches["decay"][20]),
            ("stay", "end"): (20, family.runs.branches["stay"][20]),
            ("other_order", "end"): (20, family.runs.branches["other_order"][20]),
            ("no_warmup", "warm"): (4, family.runs.cold),
        }
        for (arm, place), (step, params) in where.items():
            for member, seed in enumerate(SEEDS):
                row = found[arm, place, seed]
                assert row.step == step
                assert row.train_loss == pytest.approx(plain_loss(family, params, "train", 30, member)[0], rel=1e-4)
                tests = plain_loss(family, params, "test", 50, member)
                assert (row.test_loss, row.test_error) == pytest.approx(tests, rel=1e-4)
                length = math.sqrt(sum(v[member].square().sum().item() for v in params.values()))
                assert row.weight_norm == pytest.approx(length, rel=1e-4)

    def test_looks_cover_trunk_and_branches(self, family):
        found = pd.DataFrame(family.look_records())
        steps = {arm: sorted(set(part.step)) for arm, part in found.groupby("arm")}
        assert steps == {"trunk": [0, 4, 7, 11, 14], **{arm: [16, 18, 20] for arm in branching.ORDERS}}
        last = found[(found.arm == "decay") & (found.step == 20) & (found.seed == 601)].train_loss.item()
        expected = plain_loss(family, family.runs.branches["decay"][20], "train", 30, 1)[0]
        assert last == pytest.approx(expected, rel=1e-4)

    def test_lines_join_the_ends_of_phases(self, family):
        lines, points = family.lines()
        runs = family.runs
        ends = {
            "warmup": (4, runs.trunk[0], runs.trunk[4]),
            "stable": (10, runs.trunk[4], runs.trunk[14]),
            **{arm: (6, runs.trunk[14], runs.branches[arm][20]) for arm in ("decay", "stay", "other_order")},
        }
        along = {
            (r.phase, r.seed): [p.train_loss for p in points if (p.phase, p.seed) == (r.phase, r.seed)] for r in lines
        }
        for row in lines:
            steps, a, b = ends[row.phase]
            member = SEEDS.index(row.seed)
            u, v = (flatten(select(one, [member]))[0].double() for one in (a, b))
            assert row.steps == steps
            assert row.distance == pytest.approx((v - u).norm().item(), rel=1e-4)
            assert row.relative == pytest.approx(((v - u).norm() / u.norm()).item(), rel=1e-4)
            middle = {name: 0.25 * b[name] + 0.75 * a[name] for name in a}
            losses = along[row.phase, row.seed]
            assert losses[1] == pytest.approx(plain_loss(family, middle, "train", 30, member)[0], rel=1e-4)
            over = [
                loss - ((1 - t) * losses[0] + t * losses[-1])
                for t, loss in zip((0, 0.25, 0.5, 0.75, 1), losses, strict=True)
            ]
            assert row.barrier == pytest.approx(max(over), abs=1e-5)
            assert row.over_mean == pytest.approx(max(losses) - (losses[0] + losses[-1]) / 2, abs=1e-5)
            assert row.over_start == pytest.approx(max(losses) - losses[0], abs=1e-5)
            assert (row.curvature is None) == (row.phase in ("warmup", "stable"))

    def test_curvature_is_taken_at_the_fork_the_ends_and_equal_losses(self, family):
        found = pd.DataFrame(family.curvature())
        assert len(found) == 2 * 7
        looks = pd.DataFrame(family.look_records()).set_index(["arm", "seed", "step"]).train_loss.sort_index()
        for row in found.itertuples():
            assert row.train_loss == pytest.approx(looks[row.arm, row.seed, row.step], rel=1e-4)
            assert row.examples == 20
        at = found.set_index(["arm", "at", "seed"]).step.sort_index()
        assert set(at.xs("end", level="at")) == {20} and set(at.xs("fork", level="at")) == {14}
        for seed in SEEDS:
            stay, decay = (looks[arm, seed] for arm in ("stay", "decay"))
            level = max(stay.min(), decay.min())
            assert at["stay", "matched", seed] == (np.log(stay / level)).abs().idxmin()

    def test_every_member_is_measured_at_its_own_step(self, family):
        apart = family.sharpness("stay", "matched", [16, 20], family.runs.branches["stay"])
        ends = family.sharpness("stay", "end", [20, 20], family.runs.branches["stay"])
        early = family.sharpness("stay", "end", [16, 16], family.runs.branches["stay"])
        for measure in ("lambda_max", "train_loss", "adaptive_sharpness"):
            values = [getattr(row, measure) for row in apart]
            assert values == pytest.approx([getattr(early[0], measure), getattr(ends[1], measure)], rel=1e-3)
            assert getattr(early[1], measure) != pytest.approx(values[1], rel=1e-3)

    def test_sharpness_is_that_of_the_dense_hessian(self, family):
        row = next(r for r in family.curvature() if (r.arm, r.at, r.seed) == ("decay", "end", 601))
        params = select(family.runs.branches["decay"][20], [1])
        x, y = family.bed.data.train.examples(20)

        def loss(flat):
            one = {name: value[0] for name, value in unflatten(flat[None], params).items()}
            return torch_cross_entropy(torch.func.functional_call(family.bed.build().double(), one, (x.double(),)), y)

        dense = torch.autograd.functional.hessian(loss, flatten(params)[0].double())
        assert row.lambda_max == pytest.approx(torch.linalg.eigvalsh(dense)[-1].item(), rel=1e-3)
        assert abs(row.trace - dense.trace().item()) < 5 * row.trace_error + 1e-3

    def test_rayleigh_quotient_of_a_displacement(self):
        network, params = stack(lambda: torch.nn.Linear(3, 2, dtype=torch.float64), [0, 1])
        x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        objective = Objective(network, squared_error, shared(x, torch.tensor([0, 1, 1, 0, 1])))
        step = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        found = study.rayleigh(Hessian(objective, params), step)
        inputs = torch.cat([x, torch.ones(5, 1, dtype=torch.float64)], 1)
        second = inputs.T @ inputs / 5  # of each output's weights and bias
        for e in range(2):
            blocks = torch.cat([step[e, :6].view(2, 3), step[e, 6:, None]], 1)
            expected = sum(block @ second @ block for block in blocks) / step[e].square().sum()
            assert found[e].item() == pytest.approx(expected.item())

    def test_a_bed_has_its_own_loss_and_seeds(self):
        bed, how, phases = study.phased_bed(SMOKE, "mlp_squared_error")
        assert (bed.training.loss, how.model, phases.end) == ("squared_error", "mlp", 20)
        assert study.phased_bed(SMOKE, "mlp")[0].training.loss == "cross_entropy"
        assert {name for name, _ in study.families(SMOKE)} == set(contrasts.BEDS) == set(drawings.BEDS)
        assert sorted(seed for name, group in study.families(SMOKE) if name == "resnet" for seed in group) == [0, 1]

    def test_shuffled_runs_learn_from_shuffled_labels(self):
        found = study.shuffled_records(SMOKE, "mlp", 0.05)["points"]
        assert {(r.labels, r.arm, r.place, r.train_loss) for r in found} == {
            ("shuffled", arm, "end", None) for arm in ("decay", "stay")
        }
        true = study.phased_bed(SMOKE, "mlp")
        runs = study.grown(*true, [0], 0.05)
        end = training.scores(true[0], runs.network, runs.branches["decay"][20], "test", 100)
        row = next(r for r in found if (r.arm, r.seed) == ("decay", 0))
        assert row.test_loss != pytest.approx(end[0].item(), rel=1e-3)


def planted(**changes) -> reading.Frames:
    """Frames of two seeds of every bed, whose every contrast has a known value; `changes` by record type."""
    points, lines, curvature, looks, places = [], [], [], [], []
    losses = {"start": 8.0, "warm": 4.0, "fork": 1.0, "decay": 0.25, "stay": 0.5, "other_order": 0.45, "cold": 6.0}
    errors = {"start": 0.9, "warm": 0.8, "fork": 0.3, "decay": 0.2, "stay": 0.25, "other_order": 0.26, "cold": 0.85}
    losses |= changes.get("losses", {})
    errors |= changes.get("errors", {})
    distance = {"warmup": 1.0, "stable": 6.0, "decay": 2.0, "stay": 3.0, "other_order": 3.3} | changes.get(
        "distance", {}
    )
    sharp = {"decay": 2.0, "stay": 3.0, "other_order": 3.2, "trunk": 4.0} | changes.get("sharp", {})
    where = {"start": ("trunk", "start", 0), "warm": ("trunk", "warm", 10), "fork": ("trunk", "fork", 160),
             "decay": ("decay", "end", 200), "stay": ("stay", "end", 200), "other_order": ("other_order", "end", 200),
             "cold": ("no_warmup", "warm", 10)}  # fmt: skip
    for bed in contrasts.BEDS:
        for seed in (0, 1):
            for key, (arm, place, step) in where.items():
                values = (losses[key] * (1 + seed), 2 * losses[key] * (1 + seed), errors[key], 5.0)
                points.append(rows.PhasePoint(bed, "true", arm, place, seed, step, *values))
                looks.append(rows.Look(bed, "trunk" if arm == "no_warmup" else arm, seed, step + seed, losses[key]))
            for arm, error in (("decay", 0.9), ("stay", 0.88)):
                points.append(rows.PhasePoint(bed, "shuffled", arm, "end", seed, 200, None, 2.3, error, None))
            for phase, length in distance.items():
                steps = {"warmup": 10, "stable": 150}.get(phase, 40)
                barrier = changes.get("barrier", 0.3) if phase == "stable" else 0.0
                lines.append(rows.PhaseLine(bed, phase, seed, steps, length, 0.1, barrier, 0.0, 0.0, 0.5))
                places += [rows.PhaseLinePoint(bed, phase, seed, t, 1.0 + t) for t in (0.0, 1.0)]
            for arm, value in sharp.items():
                for at in ("fork",) if arm == "trunk" else ("end", "matched"):
                    scale = {"end": 1.0, "matched": 2.0, "fork": 1.0}[at] ** (arm == "decay")
                    loss = {"decay": 0.52, "stay": 0.5, "other_order": 0.5, "trunk": 1.0}[arm]
                    numbers = (value * scale, 0.01 * value, 10 * value * scale, 1.0, 0.1 * value * scale)
                    curvature.append(rows.PhaseCurvature(bed, arm, at, seed, 190, 10, loss, *numbers))
    tuned = [TunedArm("mlp", bed, "validation_loss", 0.1, int(bed != "mlp"), 3) for bed in contrasts.BEDS]
    trials = [
        TuningTrial("mlp", bed, 1000, rate, None, 1.0, rate, 0.5) for bed in contrasts.BEDS for rate in (0.05, 0.1, 0.2)
    ]
    records = (points, looks, lines, places, curvature, trials, tuned)
    return reading.Frames(*(pd.DataFrame(part) for part in records))


LN = math.log
# claim -> effect, control, by hand from the planted numbers
EXPECTED = {
    "warmup_drop": (LN((4 / 10) / (3 / 150)), None),
    "warmup_cause": (LN(4 / 2), None),
    "stable_accuracy": (0.5 / 0.7 - 0.1 / 0.7, None),
    "stable_loss": ((3 - 4) / 7.75, None),
    "stable_log_loss": ((LN(4) - LN(4)) / LN(32), None),
    "stable_distance": (LN(6 / 2), None),
    "stable_barrier": (0.3, None),
    "stay_distance": (LN(3 / 2), LN(3 / 3.3)),
    "decay_slow": (LN((LN(4) / 40) / (LN(4) / 150)), None),
    "decay_slow_stay": (LN(0.5 / 0.25), LN(0.5 / 0.45)),
    "decay_accuracy": (0.05, -0.01),
    "decay_flat_matched": (LN(4 / 3), LN(3.2 / 3)),
    "decay_flat_end": (LN(2 / 3), LN(3.2 / 3)),
    "decay_flat_start": (LN(2 / 4), None),
    "decay_trace_matched": (LN(4 / 3), LN(3.2 / 3)),
    "decay_adaptive_matched": (LN(4 / 3), LN(3.2 / 3)),
}


class TestContrasts:
    @pytest.mark.parametrize("short", EXPECTED)
    def test_effects_by_hand(self, short):
        frames, claim, (effect, control) = planted(), contrasts.CLAIMS[short], EXPECTED[short]
        for bed in claim.beds:
            assert claim.effect(frames, bed).tolist() == pytest.approx([effect, effect])
            if control is not None:
                assert claim.control(frames, bed).tolist() == pytest.approx([control, control])
        assert (claim.control is None) == (control is None)

    def test_test_losses_are_differences_and_grow_with_the_seeds_own(self):
        frames, claims = planted(), contrasts.CLAIMS
        assert claims["decay_test_loss"].effect(frames, "mlp").tolist() == pytest.approx([-0.5, -1.0])
        assert claims["decay_test_loss"].control(frames, "mlp").tolist() == pytest.approx([-0.1, -0.2])
        assert claims["decay_gap"].effect(frames, "resnet").tolist() == pytest.approx([-0.25, -0.5])
        assert claims["decay_gap"].control(frames, "resnet").tolist() == pytest.approx([-0.05, -0.1])
        assert set(EXPECTED) | {"decay_test_loss", "decay_gap"} == set(claims)

    def test_shuffled_control_reads_shuffled_runs(self):
        found = [e for e in contrasts.effects(planted()) if e.role == "shuffled_labels"]
        assert [e.value for e in found] == pytest.approx([-0.02] * len(found))
        assert {e.claim for e in found} == {f"three_phases.decay_accuracy.{b}" for b in ("resnet", *contrasts.SMALL)}

    def test_a_missing_replicate_is_left_out(self):
        frames = planted()
        frames.points.loc[(frames.points.seed == 1) & (frames.points.arm == "decay"), "train_loss"] = np.nan
        found = [e for e in contrasts.effects(frames) if e.claim == "three_phases.decay_slow.resnet"]
        assert [e.replicate for e in found] == [0]

    def test_a_phase_that_loses_ground_has_no_rate(self):
        frames = planted(losses={"decay": 1.5})
        assert contrasts.CLAIMS["decay_slow"].effect(frames, "resnet").isna().all()
        assert contrasts.CLAIMS["decay_slow_stay"].effect(frames, "resnet").tolist() == pytest.approx([LN(1 / 3)] * 2)

    def test_gates_by_hand(self):
        found = {(g.claim, g.gate): g.value for g in contrasts.gates(planted())}
        assert found["three_phases.decay_flat_matched.resnet", "matched_loss"] == pytest.approx(LN(0.52 / 0.5))
        assert found["three_phases.decay_flat_end.resnet", "residual"] == pytest.approx(0.01)
        assert found["three_phases.decay_flat_matched.resnet", "residual"] == pytest.approx(0.01)
        assert found["three_phases.warmup_drop.mlp", "rate_interior"] == 0
        assert found["three_phases.warmup_drop.resnet", "rate_interior"] == 1
        assert found["three_phases.warmup_drop.resnet", "trained"] == 1
        lost = {(g.claim, g.gate): g.value for g in contrasts.gates(planted(losses={"decay": 3.1}))}
        assert lost["three_phases.warmup_drop.resnet", "trained"] == 0
        wild = planted()
        wild.curvature.loc[wild.curvature["at"] == "fork", "residual"] = 1.0
        gates = {(g.claim, g.gate): g.value for g in contrasts.gates(wild)}
        assert gates["three_phases.decay_flat_start.resnet", "residual"] == pytest.approx(1 / 4)
        assert gates["three_phases.decay_flat_end.resnet", "residual"] == pytest.approx(0.01)

    def test_margins_in_units_of_the_loss_scale_with_that_of_a_guess(self):
        """Half a one-hot vector minus its mean squared: ½ (0.9² + 9 · 0.1²) = 0.45; ln 10 under cross-entropy."""
        barrier = contrasts.CLAIMS["stable_barrier"]
        assert barrier.margin_of("mlp") == 0.1
        assert barrier.margin_of("mlp_squared_error") == pytest.approx(0.1 * 0.45 / LN(10))
        assert contrasts.CLAIMS["decay_flat_end"].margin_of("mlp_squared_error") == 0.2

    @pytest.mark.parametrize(
        ("interval", "sign"),
        [
            (Interval(0.5, 0.1, 0.9, 5), 1),
            (Interval(-0.5, -0.9, -0.1, 5), -1),
            (Interval(0.1, 0.05, 0.15, 5), 0),
            (Interval(0.5, -0.1, 1.1, 5), None),
            (Interval(0.15, 0.05, 0.25, 5), None),
            (Interval(0.0, 0.0, 0.0, 5), 0),
            (Interval(math.nan, math.nan, math.nan, 0), None),
        ],
    )
    def test_sign_of_an_interval(self, interval, sign):
        assert contrasts.sign(interval, 0.2) == sign

    def test_predictions_name_who_is_right(self):
        table = contrasts.predictions(planted()).set_index(["claim", "bed"])
        taken = table["the data take"]
        assert taken["decay_flat_matched", "resnet"] == "the literature"
        assert taken["decay_flat_end", "resnet"] == "the text"
        assert taken["stable_barrier", "resnet"] == "the text"
        assert taken["warmup_drop", "resnet"] == "the text and the literature"
        assert taken["stable_loss", "resnet"] == "neither"
        river = contrasts.predictions(planted(barrier=0.0)).set_index(["claim", "bed"])
        assert river["the data take"]["stable_barrier", "resnet"] == "the literature"

    def test_findings_have_one_row_per_quantity(self):
        found = contrasts.findings(planted())
        keys = [(f.row, f.model, f.quantity) for f in found]
        assert len(set(keys)) == len(keys) and {f.table for f in found} == {"prose"}
        shares = {f.quantity: f.mean for f in found if f.model == "resnet" and f.quantity.startswith("share of loss")}
        assert sum(shares.values()) == pytest.approx(1)
        assert shares["share of loss: warmup"] == pytest.approx(4 / 7.75)


class TestSettings:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"warmup": 0.5, "decay": 0.5}, "stable phase"),
            ({"seeds": [0]}, "2 replicates wanted, 1 seeds"),
            ({"decay": 0.05}, "looks do not fit"),
        ],
    )
    def test_what_cannot_be_is_refused(self, change, message):
        content = SMOKE.rates.three_phases.model_dump()
        with pytest.raises(ValidationError, match=message):
            ThreePhases.model_validate(content | change)

    def test_rates_rise(self):
        how = SMOKE.rates.three_phases.beds["mlp"]
        with pytest.raises(ValidationError, match="rise"):
            type(how).model_validate(how.model_dump() | {"rates": (0.3, 0.1, 0.2)})


class TestDrawings:
    def test_lines_and_effects_are_those_of_the_frames(self):
        frames = planted()
        top = drawings.losses(frames).axes[0]
        assert {line.get_label() for line in top.get_lines()} >= set(drawings.ARMS.values())
        panels = drawings.decays(frames).axes
        assert [len(panel.get_xticks()) for panel in panels] == [4, 3, 4]
        bars = [bar for bar in panels[1].containers if bar.get_label() == "Decay against stay"]
        means = [bar[0].get_ydata()[0] for bar in bars]
        assert means == pytest.approx([0.05] * 3)
        for draw in (drawings.learned, drawings.lines, drawings.sharpness):
            assert draw(frames).get_suptitle()

    def test_every_bed_has_a_name(self):
        assert set(drawings.BEDS) == set(contrasts.BEDS)
