"""One trunk for several horizons, and the study that compares it with runs planned for each."""

import math
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from nonconvex import config, schedules
from nonconvex.contrasts import wsd as contrasts
from nonconvex.drawings import wsd as drawings
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.observations.wsd import HorizonRun, LossWindow
from nonconvex.studies import horizons as trunks
from nonconvex.studies import wsd as study
from nonconvex.studies.forks import OTHER_ORDER
from nonconvex.studies.training import Recipe, trained, with_shuffled_labels
from nonconvex.study_settings.wsd import Wsd

ROOT = Path(__file__).resolve().parents[1]
SMOKE = config.read(ROOT / "profiles/smoke/params.yaml")
SETTINGS = SMOKE.schedules.wsd
MLP = SETTINGS.beds["mlp"]
PEAKS = {f"{arm}_{name}": 0.05 for name in trunks.horizons(2) for arm in study.arms_for(MLP, name)}


def rates(factory, total: int) -> list[float]:
    schedule = factory(total)
    return [schedule(step) for step in range(total)]


class TestSchedules:
    @pytest.mark.parametrize("shape", trunks.SHAPES)
    @pytest.mark.parametrize(("horizon", "share"), [(100, 0.2), (300, 0.4), (160, 0.05)])
    def test_a_decay_from_the_trunk_is_wsd_where_their_warmups_agree(self, horizon, share, shape):
        own = rates(lambda total: schedules.wsd(total, decay=share, shape=shape), horizon)
        assert rates(trunks.decayed(round(0.05 * horizon), share, shape), horizon) == own

    def test_golden_values(self):
        """Of science's table for WSD 5/75/20 on 100 steps: computed elsewhere, from torch's LambdaLR."""
        cosine, sqrt = (rates(trunks.decayed(5, 0.2, shape), 100) for shape in ("cosine", "sqrt"))
        assert [*cosine[:5], cosine[80]] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
        assert [cosine[t] for t in (85, 90, 95, 99)] == pytest.approx([0.853553391, 0.5, 0.146446609, 0.00615583])
        assert [sqrt[t] for t in (85, 90, 95, 99)] == pytest.approx([0.5, 0.292893219, 0.133974596, 0.025320566])

    def test_a_trunk_depends_on_no_horizon(self):
        for total in (50, 100, 400):
            assert rates(trunks.risen(5), total)[:50] == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1.0] * 46)
        for horizon, share in ((100, 0.1), (400, 0.4)):
            fork = trunks.fork(horizon, share)
            assert rates(trunks.decayed(5, share, "sqrt"), horizon)[:fork] == rates(trunks.risen(5), horizon)[:fork]

    def test_forks_leave_the_share_and_at_least_a_step(self):
        assert [trunks.fork(100, share) for share in (0.025, 0.2, 0.4)] == [98, 80, 60]
        assert trunks.fork(10, 0.001) == 9

    def test_restarted_is_two_cosines_and_linear_falls_in_a_line(self):
        again = rates(trunks.restarted(100), 200)
        assert again[:100] == rates(schedules.warmup_cosine, 100)
        assert again[100] == 1.0 and again[150] == pytest.approx(0.5)
        line = rates(trunks.warmup_linear, 100)
        assert line[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
        assert np.diff(line[5:]) == pytest.approx([-1 / 95] * 94)

    def test_other_warmups(self):
        none, long = (rates(trunks.own_schedule(arm, 0.1), 100) for arm in ("no_warmup", "long_warmup"))
        assert none[:80] == [1.0] * 80
        assert long[:11] == pytest.approx([*np.arange(1, 11) / 10, 1.0])
        assert none[80:] == long[80:] == rates(schedules.wsd, 100)[80:]


class TestBranches:
    @pytest.mark.parametrize("model", ["mlp", "resnet", "transformer"])
    def test_a_decay_from_a_checkpoint_is_the_run_that_never_stopped(self, model):
        """WSD of 20 steps, once from the start and once from the trunk of another horizon, optimizer memory and all."""
        bed, how = study.scored_bed(SMOKE, model)
        of = [trunks.Decay(20, 0.2, shape, order) for shape, order in (("cosine", "own"), ("cosine", "other"))]
        plan = trunks.Plan("trunk", 20, 0.05, trunks.risen(1), (16, 24))
        grown = trunks.grow(bed, [plan], [500, 501], 24, how.batch_size, False)
        end, losses = trunks.decays(grown.states[0, 16], grown.made, 1, 0.05, [500, 501], of)
        alone = trained(bed, Recipe(20, how.batch_size, schedule="wsd"), [500, 501], [0.05] * 2)
        for name, value in alone.params.items():
            assert torch.allclose(end.params[name][:2], value, rtol=1e-4, atol=1e-6), name
        assert any(not torch.allclose(end.params[n][2:], value, rtol=1e-2) for n, value in alone.params.items())
        assert losses.shape == (4, 4) and end.step == 20
        # both orders of data start from the same weights and part with their first minibatch
        assert not torch.equal(losses[0, :2], losses[0, 2:])

    def test_the_other_order_is_its_own_and_begins_at_the_fork(self):
        of = [trunks.Decay(20, 0.2, "cosine", order) for order in ("own", "other")]
        seen = []
        bed, _ = study.scored_bed(SMOKE, "mlp")
        grown = trunks.grow(bed, [trunks.Plan("trunk", 20, 0.05, trunks.risen(1), (16,))], [7], 16, 16, False)
        batch = grown.made.batch
        spied = trunks.replace(
            grown.made, batch=lambda order, step: seen.append((step, list(order))) or batch(order, step)
        )
        trunks.decays(grown.states[0, 16], spied, 1, 0.05, [7], of)
        assert seen == [(step, [7, 7 + OTHER_ORDER]) for step in range(16, 20)]

    def test_every_seed_has_its_own_shuffled_labels(self):
        bed, _ = study.scored_bed(SMOKE, "mlp")
        x, y = trunks.labels_of_their_own(bed, [3, 4], 32)([3, 4, 3], 5)
        true_x, true_y = bed.data.train.batch([3, 4, 3], 5, 32)
        assert torch.equal(x, true_x) and torch.equal(y[0], y[2])
        for place, seed in enumerate((3, 4)):
            expected = with_shuffled_labels(bed, seed).data.train.batch([seed], 5, 32)[1][0]
            assert torch.equal(y[place], expected)
            assert (y[place] != true_y[place]).float().mean() > 0.5

    def test_windows_are_means_and_the_last_may_be_short(self):
        losses = torch.arange(10.0).reshape(5, 2)
        assert trunks.windows(losses, 2).tolist() == [[1.0, 2.0], [5.0, 6.0], [8.0, 9.0]]


class TestStudy:
    def test_every_arm_is_tuned_equally(self):
        jobs = study.tuning_jobs(SMOKE)
        assert {job.args[1:] for job in jobs} == {(m, n) for m in SETTINGS.beds for n in contrasts.NAMES}
        assert study.arms_for(MLP, "middle") == ["wsd", "warmup_cosine", "warmup_linear", "no_warmup", "long_warmup"]
        assert study.arms_for(SETTINGS.beds["resnet"], "long") == ["warmup_cosine"]
        (job,) = [job for job in jobs if job.args[1:] == ("mlp", "short")]
        trials = job()
        counts = pd.Series([t.arm for t in trials]).value_counts()
        assert set(counts) == {3} and set(counts.index) == {"wsd_short", "warmup_cosine_short", "warmup_linear_short"}
        assert {t.seed for t in trials} == {1000}

    def test_a_tuning_run_is_that_of_its_schedule_and_horizon(self):
        """Against torch's own optimizer, one network, its rate set by hand before each update."""
        trials = study.tune(SMOKE, "mlp", "long")
        bed, how = study.scored_bed(SMOKE, "mlp")
        (found,) = [t for t in trials if (t.arm, t.rate) == ("warmup_linear_long", 0.1)]
        torch.manual_seed(1000)
        network = bed.build()
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
        for step in range(20):
            optimizer.param_groups[0]["lr"] = 0.1 * (1.0 if step == 0 else 1 - (step - 1) / 19)
            optimizer.zero_grad()
            x, y = bed.data.train.batch([1000], step, how.batch_size)
            torch.nn.functional.cross_entropy(network(x[0]), y[0]).backward()
            optimizer.step()
        x, y = bed.data.validation.examples(how.validation_examples)
        with torch.no_grad():
            expected = torch.nn.functional.cross_entropy(network(x), y).item()
        assert found.validation_loss == pytest.approx(expected, rel=1e-4)

    def test_plans(self):
        found = study.plans(MLP, {**PEAKS, "wsd_short": 0.1, "wsd_long": 0.025}, 0.1, True)
        arms = {steps: sorted(plan.arm for plan in of) for steps, of in found.items()}
        assert list(arms) == [20, 10, 5]
        assert arms[20] == ["restarted", "trunk", "warmup_cosine", "warmup_linear", "wsd"]
        # WSD for the middle horizon is a branch; the two rates that were not chosen are tried too
        expected = ["long_warmup", "no_warmup", "other_peak", "other_peak", "warmup_cosine", "warmup_linear"]
        assert arms[10] == expected
        assert arms[5] == ["warmup_cosine", "warmup_linear", "wsd"]
        reads = {(p.arm, p.planned): p.reads for of in found.values() for p in of}
        assert reads["warmup_cosine", 20] == (10, 20) and reads["warmup_cosine", 10] == (5, 10)
        assert reads["warmup_cosine", 5] == (5,) and reads["restarted", 10] == (20,)
        assert {4, 8, 12, 16, 5, 10, 20} <= set(reads["trunk", 10])
        assert {p.rate for p in found[10] if p.arm == "other_peak"} == {0.025, 0.1}
        at = {(p.arm, p.planned): p.rate for of in found.values() for p in of if p.arm in ("wsd", "trunk")}
        assert at == {("wsd", 5): 0.1, ("trunk", 10): 0.05, ("wsd", 20): 0.025}

    def test_branches_of_a_full_bed_and_of_a_narrow_one(self):
        full = study.branches(MLP, True)
        assert len(full) == len(set(full)) == 4 * 3 + 4 + 2 * (4 + 2 + 1)
        assert sum(d.textual for d in full) == 3
        narrow = study.branches(SETTINGS.beds["resnet"], True)
        assert sorted((d.horizon, d.share, d.shape, d.order) for d in narrow) == sorted(
            [(steps, 0.2, "cosine", order) for steps in (4, 8, 16) for order in ("own", "other")]
            + [(8, 0.2, "linear", "own"), (8, 0.2, "sqrt", "own"), (8, 0.025, "cosine", "own")]
        )

    def test_runs_on_shuffled_labels_are_those_that_the_claims_need(self):
        rows = study.family(SMOKE, "mlp", [0, 1], PEAKS, "shuffled")
        assert rows["windows"] == []
        frames = {"runs": pd.DataFrame(rows["runs"] + family_of_rows()), "tuned": pd.DataFrame(tuned_rows())}
        for contrast in contrasts.CONTRASTS:
            if contrast.shuffled:
                assert contrast.value(frames, "mlp", "shuffled").notna().sum() == 2, contrast.name

    def test_rows_of_a_family(self):
        bed, how = study.scored_bed(SMOKE, "resnet")
        found = study.family(SMOKE, "resnet", [3, 4], dict.fromkeys(PEAKS, 0.1), "true")
        frame = pd.DataFrame(found["runs"])
        assert not frame.duplicated(list(HorizonRun.KEY)).any()
        counts = frame.groupby("arm").size().to_dict()
        assert counts == {"branch": 2 * 9, "trunk": 2 * 3, "warmup_cosine": 2 * 5}
        assert set(frame[frame.arm == "warmup_cosine"][["planned", "at"]].itertuples(index=False, name=None)) == {
            (4, 4),
            (8, 4),
            (8, 8),
            (16, 8),
            (16, 16),
        }
        windows = pd.DataFrame(found["windows"])
        assert not windows.duplicated(list(LossWindow.KEY)).any()
        ends = {key: sorted(set(part)) for key, part in windows.groupby(["arm", "planned"]).step}
        assert ends["trunk", 8] == [4, 8, 12, 16] and ends["warmup_cosine", 8] == [4, 8]
        assert ends["branch", 16] == [16]  # its decay is three steps long, a window four
        shaped = Recipe(8, how.batch_size, schedule=lambda total: schedules.wsd(total, shape="sqrt"))
        end = trained(bed, shaped, [3, 4], [0.1] * 2)
        losses, _ = study.scores(bed, end.network, end.params, "test", how.test_examples)
        branch = frame[(frame.arm == "branch") & (frame.planned == 8) & (frame["shape"] == "sqrt")]
        assert branch.test_loss.to_list() == pytest.approx(losses.tolist(), rel=1e-4)
        # a stopped cosine run is the longer one at that step: as it stands after a training that ends there
        end = trained(bed, Recipe(4, how.batch_size, schedule=lambda _: schedules.warmup_cosine(8)), [3, 4], [0.1] * 2)
        losses, _ = study.scores(bed, end.network, end.params, "test", how.test_examples)
        stopped = frame[(frame.arm == "warmup_cosine") & (frame.planned == 8) & (frame["at"] == 4)]
        assert stopped.test_loss.to_list() == pytest.approx(losses.tolist(), rel=1e-4)

    def test_a_diverged_run_has_its_step_and_no_scores(self):
        rows = study.family(SMOKE, "transformer", [3, 4], dict.fromkeys(PEAKS, 1e30), "true")["runs"]
        trunk = [row for row in rows if row.arm == "trunk"]
        assert all(row.diverged_step is not None and row.test_loss is None for row in trunk)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tuning": [0, 1000]}, "tuning seeds must not be reported"),
            ({"replicates": 3}, "shuffled <= replicates <= 2"),
            ({"rates": [0.1, 0.05, 0.2]}, "rates must rise"),
            ({"lengths": [0.1, 0.4]}, "lengths must hold 0.2"),
            ({"windows": 3}, "windows must divide 20"),
            ({"planned": 9}, "multiple of 2"),
            ({"tuning_seeds": 3}, "at most 2 tuning_seeds"),
        ],
    )
    def test_settings_that_cannot_be_are_refused(self, change, message):
        content = SETTINGS.model_dump(mode="json")
        (content if "tuning" in change else content["beds"]["mlp"]).update(change)
        with pytest.raises(ValidationError, match=message):
            Wsd.model_validate(content)


# What each arm is worth, planted: a test error at the middle horizon; others differ by HORIZON
HORIZON = {5: 0.2, 10: 0.0, 20: -0.1}
OWN = {"wsd": 0.31, "warmup_cosine": 0.34, "warmup_linear": 0.32, "no_warmup": 0.35, "long_warmup": 0.305}
SHARES = {0.025: 0.36, 0.1: 0.33, 0.2: 0.30, 0.4: 0.308}
SHAPES = {"cosine": 0.0, "linear": -0.004, "sqrt": 0.013}
OTHER_PEAKS = {0.0125: 0.5, 0.025: 0.37, 0.1: 0.42}
UNDECAYED, STOPPED, RESTARTED, OTHER, SHUFFLED = 0.39, 0.07, 0.33, 0.006, 0.1


def row(model, arm, planned, at, decay, shape, order, rate, seed, error, labels):
    """Seeds shift every arm alike, so that only paired differences are exact; on shuffled labels little is left."""
    error = (SHUFFLED * error if labels == "shuffled" else error) + seed / 100
    return HorizonRun(model, labels, arm, planned, at, decay, shape, order, rate, seed, None, 2 * error, error)


def rows_of_seed(model, seed, labels):
    make = lambda arm, planned, at, error, decay=None, shape="cosine", order="own", rate=0.05: row(  # noqa: E731
        model, arm, planned, at, decay, shape, order, rate, seed, error, labels
    )
    found = [make("restarted", 10, 20, RESTARTED + HORIZON[20]), make("no_warmup", 10, 10, OWN["no_warmup"], 0.2)]
    found.append(make("long_warmup", 10, 10, OWN["long_warmup"], 0.2))
    for steps, shift in HORIZON.items():
        found.append(make("trunk", 10, steps, UNDECAYED + shift, 0.0, "none"))
        for arm in ("wsd", "warmup_cosine", "warmup_linear"):
            if (arm, steps) != ("wsd", 10):
                found.append(make(arm, steps, steps, OWN[arm] + shift))
        if steps < 20:
            found.append(make("warmup_cosine", 2 * steps, steps, OWN["warmup_cosine"] + shift + STOPPED * (steps / 10)))
        for share, error in SHARES.items():
            found += [make("branch", steps, steps, error + shift + by, share, s) for s, by in SHAPES.items()]
            stretched = OTHER * (1 + share)  # other minibatches also spread the lengths
            found.append(make("branch", steps, steps, error + shift + stretched, share, order="other"))
    return found + [make("other_peak", 10, 10, error, 0.2, rate=rate) for rate, error in OTHER_PEAKS.items()]


def family_of_rows(seeds: int = 4, models=("mlp",), labels="true"):
    return [one for model in models for seed in range(seeds) for one in rows_of_seed(model, seed, labels)]


def tuned_rows(models=("mlp",)):
    arms = [f"{arm}_{name}" for name in contrasts.NAMES for arm in study.arms_for(MLP, name)]
    return [TunedArm(model, arm, "validation_loss", 0.05, 1, 6) for model in models for arm in arms]


def planted(seeds: int = 4, models=("mlp", "resnet", "transformer")) -> dict[str, pd.DataFrame]:
    tuned = tuned_rows(models)
    tuning = [
        TuningTrial(arm.model, arm.arm, 1000, rate, None, None, 1 + abs(math.log(rate / 0.05)), 0.5)
        for arm in tuned
        for rate in (0.025, 0.05, 0.1)
    ]
    runs = family_of_rows(seeds, models) + family_of_rows(3, ("mlp",), "shuffled")
    kinds = [("trunk", 10, range(2, 21, 2)), ("branch", 20, (18, 20)), ("warmup_cosine", 5, (2, 4, 5))]
    windows = [
        LossWindow(model, arm, steps, seed, end, 2 - 0.05 * end + 0.01 * seed)
        for model in models
        for arm, steps, ends in kinds
        for seed in range(seeds)
        for end in ends
    ]
    parts = {"tuning": tuning, "tuned": tuned, "runs": runs, "windows": windows}
    return {name: pd.DataFrame(rows) for name, rows in parts.items()}


BASE = planted()
EFFECTS = contrasts.effects(BASE)


def of_claim(claim, role="claim", effects=None):
    return [e.value for e in effects or EFFECTS if (e.claim, e.role) == (claim, role)]


def changed(frames, name, where: dict, **values):
    frame = frames[name].copy()
    rows = np.logical_and.reduce([frame[key] == value for key, value in where.items()])
    frame.loc[rows, list(values)] = list(values.values())
    return {**frames, name: frame}


class TestContrasts:
    @pytest.mark.parametrize(
        ("claim", "expected"),
        [
            ("wsd.equal_short.mlp", 0.34 - 0.30),
            ("wsd.equal_long.resnet", 0.34 - 0.30),
            ("wsd.equal_long.transformer", 2 * (0.34 - 0.30)),
            ("wsd.not_worse.mlp", 0.34 - 0.30 + 0.01),
            ("wsd.not_worse.transformer", 2 * (0.34 - 0.30) + 0.02),
            ("wsd.equal_linear.mlp", 0.32 - 0.30),
            ("horizon.flexible_short.mlp", 0.31 - 0.30),
            ("horizon.flexible_long.transformer", 2 * (0.31 - 0.30)),
            ("horizon.stopped.mlp", 0.34 - 0.30 + STOPPED * 0.75),  # mean of half and full
            ("horizon.stopped.transformer", 2 * (0.34 - 0.30 + STOPPED * 0.75)),
            ("horizon.extended.mlp", 0.33 - 0.30),
            ("horizon.decay_40.mlp", 0.308 - 0.30),
            ("horizon.decay_10.mlp", 0.33 - 0.30),
            ("horizon.decay_2.resnet", 0.36 - 0.30),
            ("horizon.no_warmup.mlp", 0.35 - 0.30),
            ("horizon.long_warmup.mlp", 0.305 - 0.30),
            ("horizon.sqrt.mlp", -0.013),
            ("horizon.sqrt.transformer", -0.026),
            ("horizon.linear.mlp", 0.004),
            # the reach over lengths, 0.36 - 0.30, minus that over peaks, 0.5 - 0.30; near: 0.33 and 0.42
            ("wsd.boundary_over_peak.mlp", 0.06 - 0.2),
            ("wsd.boundary_over_peak_near.mlp", 0.03 - 0.12),
        ],
    )
    def test_every_contrast_recovers_what_was_planted(self, claim, expected):
        assert of_claim(claim) == pytest.approx([expected] * 4)

    def test_controls(self):
        assert of_claim("horizon.decay_2.mlp", "same_arm") == pytest.approx([OTHER * 1.2] * 4)
        assert of_claim("horizon.sqrt.transformer", "same_arm") == pytest.approx([2 * OTHER * 1.2] * 4)
        assert of_claim("horizon.stopped.resnet", "same_arm") == pytest.approx([OTHER * 1.2] * 4)
        # reach over lengths 0.06 on either order, but the other's levels are spread by OTHER times the share
        assert of_claim("wsd.boundary_over_peak.mlp", "same_arm") == pytest.approx([OTHER * (0.2 - 0.025)] * 4)
        shuffled = of_claim("horizon.stopped.mlp", "shuffled_labels")
        assert shuffled == pytest.approx([SHUFFLED * (0.04 + STOPPED * 0.75)] * 3)
        assert of_claim("wsd.equal_short.mlp", "same_arm") == []
        assert not [e for e in EFFECTS if e.role == "shuffled_labels" and not e.claim.endswith(".mlp")]

    def test_a_missing_run_costs_its_seed_and_no_other(self):
        where = {"model": "mlp", "arm": "warmup_cosine", "planned": 5, "seed": 2, "labels": "true"}
        found = contrasts.effects(changed(BASE, "runs", where, test_error=np.nan))
        assert len(of_claim("wsd.equal_short.mlp", effects=found)) == 3
        assert len(of_claim("wsd.not_worse.mlp", effects=found)) == 3
        assert len(of_claim("wsd.equal_long.mlp", effects=found)) == 4

    def test_reaches_leave_out_a_level_at_which_a_seed_diverged(self):
        where = {"model": "mlp", "arm": "other_peak", "rate": 0.0125, "seed": 2}
        found = contrasts.effects(changed(BASE, "runs", where, test_error=np.nan))
        assert of_claim("wsd.boundary_over_peak.mlp", effects=found) == pytest.approx([0.06 - 0.12] * 4)

    def test_a_reach_is_one_of_means_and_its_replicates_are_pseudo_values(self):
        """Seed by seed every level would be best once; the means do not differ."""
        square = pd.DataFrame(np.eye(3), columns=[1, 2, 3])
        flat = pd.DataFrame({1: [0.0, 0, 0], 2: [0.3, 0.6, 0.9]})
        assert contrasts.reach(square) == 0
        # n T - (n - 1) T_(-i): T = 0.6 for the second, 0 for the first, which has 0.5 without any one seed
        expected = [-3 * 0.6 + 2 * (mean - 0.5) for mean in (0.75, 0.6, 0.45)]
        assert contrasts.gap(square, flat).tolist() == pytest.approx(expected)
        assert contrasts.gap(square, flat[[1]]).empty and contrasts.gap(square.iloc[:1], flat).empty

    def test_gates(self):
        find = lambda frames, claim: {g.gate: g.value for g in contrasts.gates(frames) if g.claim == claim}  # noqa: E731
        assert find(BASE, "wsd.equal_long.mlp") == {"rate_interior": 1.0, "equal_tuning": 1.0}
        assert find(BASE, "horizon.sqrt.mlp") == {"rate_interior": 1.0}
        edge = changed(BASE, "tuned", {"model": "mlp", "arm": "warmup_cosine_long"}, interior=0)
        assert find(edge, "wsd.equal_long.mlp")["rate_interior"] == 0.0
        assert find(edge, "horizon.stopped.mlp")["rate_interior"] == 0.0
        assert find(edge, "wsd.equal_long.resnet")["rate_interior"] == 1.0
        assert find(edge, "wsd.equal_short.mlp")["rate_interior"] == 1.0
        fewer = changed(BASE, "tuned", {"model": "mlp", "arm": "wsd_long"}, trials=3)
        assert find(fewer, "horizon.flexible_long.mlp")["equal_tuning"] == 0.0
        assert find(fewer, "horizon.flexible_short.mlp")["equal_tuning"] == 1.0

    def test_costs(self):
        """A trunk to step 16 of 20 and decays of 1, 2 and 4 steps, against 5 + 10 + 20; tuning six trials each."""
        found = contrasts.costs(BASE, "mlp")
        assert found.tolist() == [16 + 1 + 2 + 4, 35, 6 * 10, 6 * 35]
        # in the limit 1.6 T + 0.2 (1/2 + 1 + 2) T of 3.5 T
        assert contrasts.trunk_cost({"a": 5000, "b": 10_000, "c": 20_000}) == 23_000

    def test_findings_have_unique_names_and_the_planted_means(self):
        found = contrasts.findings(BASE)
        assert len({(f.row, f.model, f.quantity) for f in found}) == len(found)
        assert {(f.table, f.row) for f in found} == {("schedules", "wsd"), ("prose", "horizon")}
        by_name = {(f.model, f.quantity): f.mean for f in found}
        assert by_name["mlp", "test_error of WSD from the trunk, long horizon"] == pytest.approx(0.30 - 0.1 + 0.015)
        worse = "accuracy, better by: decay over 20 % of the run than none"
        assert by_name["resnet", worse] == pytest.approx(UNDECAYED - 0.30)

    def test_beds_without_an_arm_have_no_effect_and_no_error(self):
        runs = BASE["runs"]
        rare = runs.arm.isin(["other_peak", "restarted", "warmup_linear", "no_warmup", "long_warmup", "wsd"])
        frames = {**BASE, "runs": runs[~rare]}
        found = contrasts.findings(frames)
        assert not any("range" in f.quantity or "planned for the" in f.quantity for f in found)
        assert of_claim("wsd.boundary_over_peak.mlp", effects=contrasts.effects(frames)) == []

    def test_a_bed_that_was_not_run_has_no_claims(self):
        frames = planted(2, ("mlp",))
        assert not any("transformer" in e.claim for e in contrasts.effects(frames))

    def test_every_registered_kind_of_claim_is_reached(self):
        names = {c.claim(model) for c, model in contrasts.claimed(BASE)}
        assert len(names) == 26 and {e.claim for e in EFFECTS} == names == {g.claim for g in contrasts.gates(BASE)}


@cache
def figure_of(name: str):
    return getattr(drawings, name)(BASE)


class TestDrawings:
    @pytest.mark.parametrize("name", ["responses", "losses", "at_horizons", "lengths", "keys"])
    def test_figures_say_what_is_averaged(self, name):
        figure = figure_of(name)
        assert "mean" in figure.get_suptitle()
        assert all(panel.get_title(loc="left") for panel in figure.axes if panel.get_visible())

    def test_gains_are_drawn_at_their_means(self):
        panel = figure_of("at_horizons").axes[0]
        at = {
            round(float(line.get_xdata()[0]), 2): line.get_ydata()[0]
            for line in panel.lines
            if line.get_marker() in "os"
        }
        # WSD from the trunk at the short horizon, and planned for the long one, over cosine, in points
        assert at[-0.3] == pytest.approx(4) and at[1.85] == pytest.approx(3)
        panel = figure_of("lengths").axes[1]
        (cosine,) = [line for line in panel.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 5]
        assert cosine.get_ydata() == pytest.approx([-9, -6, -3, 0, -0.8])

    def test_factors_are_relative_to_the_text_and_to_the_tuned_peak(self):
        panel = figure_of("keys").axes[0]
        lines = [line for line in panel.lines if line.get_marker() == "None" and len(line.get_xdata()) == 4]
        found = [dict(zip(line.get_xdata().round(6), line.get_ydata().round(6), strict=True)) for line in lines]
        assert {-3.0: -6.0, -1.0: -3.0, 0.0: 0.0, 1.0: -0.8} in found
        assert {-2.0: -20.0, -1.0: -7.0, 0.0: 0.0, 1.0: -12.0} in found

    def test_missing_runs_leave_gaps_and_no_errors(self):
        frames = changed(planted(2, ("mlp",)), "runs", {"arm": "warmup_cosine"}, test_error=np.nan, test_loss=np.nan)
        frames = changed(frames, "windows", {"arm": "trunk"}, loss=np.nan)
        for name in ("losses", "at_horizons", "lengths", "keys"):
            assert getattr(drawings, name)(frames).axes
