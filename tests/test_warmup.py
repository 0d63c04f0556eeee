"""The study of warm-up: variants of Adam, arms, curvature, the spread of second moments, and what is read from them."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from nonconvex import config, train
from nonconvex.beds import bed_of
from nonconvex.contrasts import warmup as contrasts
from nonconvex.drawings import warmup as drawings
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.observations.warmup import EarlyPoint, FirstUpdate, MatchedPoint, MomentSpread, WarmedRun
from nonconvex.optimizers import AdamW, Sgd
from nonconvex.studies import moment_spread, warmed_arms, warmed_curvature
from nonconvex.studies import warmup as study
from nonconvex.studies.adam_variants import VariantAdamW, accumulated, initial_squares, rectification
from nonconvex.studies.warmed_arms import Cell, begun
from nonconvex.study_settings.warmup import WarmedBed, Warmup

ROOT = Path(__file__).resolve().parents[1]
SMOKE = config.read(ROOT / "profiles/smoke/params.yaml")
SETTINGS = SMOKE.strategies.warmup
MLP = SETTINGS.beds["mlp"]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steps_of(optimizer, steps: int, state=None, rates=(0.1, 0.02), shift: int = 0):
    """Weights after each of some updates by gradients drawn in advance, two members at different rates."""
    params, found = {"w": draw(2, 3, 4, seed=1)}, []
    state = optimizer.init(params) if state is None else state
    for step in range(steps):
        grads = {"w": draw(2, 3, 4, seed=10 + step + shift)}
        params, state = optimizer.update(params, grads, state, torch.tensor(rates, dtype=torch.float64), step)
        found.append(params["w"])
    return found


def by_torch(kind, steps: int, **options) -> list[torch.Tensor]:
    """The same updates by an optimizer of torch, member by member."""
    start, ends = draw(2, 3, 4, seed=1), [[], []]
    for member, rate in enumerate((0.1, 0.02)):
        weight = start[member].clone().requires_grad_()
        optimizer = kind([weight], lr=rate, **options)
        for step in range(steps):
            weight.grad = draw(2, 3, 4, seed=10 + step)[member].clone()
            optimizer.step()
            ends[member].append(weight.detach().clone())
    return [torch.stack(pair) for pair in zip(*ends, strict=True)]


class TestVariants:
    def test_switched_off_it_is_adamw_bit_for_bit(self):
        plain, variant = AdamW(0.8, 0.95, 1e-6, 0.1), VariantAdamW(0.8, 0.95, 1e-6, 0.1)
        for ours, theirs in zip(steps_of(variant, 8), steps_of(plain, 8), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-15)

    @pytest.mark.parametrize("betas", [(0.9, 0.98), (0.8, 0.999), (0.9, 0.6)])
    def test_rectified_is_torchs_radam(self, betas):
        """Through the updates without second moments into those with; with 0.6 they are never divided by."""
        ours = steps_of(VariantAdamW(*betas, weight_decay=0.0, rectified=True), 12)
        for mine, theirs in zip(ours, by_torch(torch.optim.RAdam, 12, betas=betas), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)
        decayed = steps_of(VariantAdamW(*betas, weight_decay=0.1, rectified=True), 12)
        options = {"betas": betas, "weight_decay": 0.1, "decoupled_weight_decay": True}
        torch.testing.assert_close(decayed[-1], by_torch(torch.optim.RAdam, 12, **options)[-1], rtol=1e-6, atol=1e-8)

    def test_rectification_grows_to_one(self):
        values = [rectification(0.98, count) for count in range(1, 2000)]
        assert values[:5] == [None] * 5 and values[5] is not None  # rho_n is about n here, and 5 are too few
        assert all(a < b for a, b in pairwise(values[5:200]))
        assert values[-1] == pytest.approx(1.0, abs=1e-9)

    def test_second_moments_seen_beforehand_are_corrected_for_all_of_them(self):
        """By hand: K equal squares beforehand make the first update divide by their weighted mean with the new one."""
        beta2, seen = 0.9, 4
        before = (1 - beta2**seen) * 4.0  # K gradients of size 2, from zero
        state = {"first": {"w": torch.zeros(1, 1)}, "second": {"w": torch.full((1, 1), before)}}
        optimizer = VariantAdamW(0.5, beta2, 0.0, 0.0, seen=seen)
        params = {"w": torch.zeros(1, 1)}
        grads = {"w": torch.full((1, 1), 6.0)}
        found, _ = optimizer.update(params, grads, state, torch.tensor([0.1]), 0)
        second = (beta2 * before + (1 - beta2) * 36.0) / (1 - beta2**5)
        assert found["w"].item() == pytest.approx(-0.1 * 6.0 / math.sqrt(second), rel=1e-6)

    def test_restarted_it_is_a_new_adam(self):
        long = steps_of(VariantAdamW(0.9, 0.98, weight_decay=0.0, restart_at=5), 9)
        assert torch.equal(long[4], steps_of(VariantAdamW(0.9, 0.98, weight_decay=0.0), 5)[4])
        fresh = steps_of(AdamW(0.9, 0.98, weight_decay=0.0), 4, shift=5)
        start = draw(2, 3, 4, seed=1)
        for i in range(4):
            torch.testing.assert_close(long[5 + i] - long[4], fresh[i] - start, rtol=1e-10, atol=1e-12)

    def test_arguments_are_left_alone(self):
        params = {"w": torch.ones(2, 3)}
        for optimizer in (VariantAdamW(rectified=True), VariantAdamW(restart_at=0)):
            state = optimizer.init(params)
            optimizer.update(params, {"w": torch.ones(2, 3)}, state, torch.tensor([0.1, 0.1]), 0)
            assert torch.equal(params["w"], torch.ones(2, 3))
            assert all(not part["w"].any() for part in state.values())


def cell(arm: str = "none", seed: int = 3, rate: float = 0.03, draw: str = "own", bed: str = "mlp") -> Cell:
    return Cell(bed, arm, "true", draw, seed, rate)


def rates_of(arm: str, rate: float = 0.03) -> list[float]:
    return begun(bed_of(SMOKE, "mlp"), MLP, [cell(arm, rate=rate)]).made.rates[:, 0].tolist()


class TestArms:
    def test_a_warm_up_rises_in_a_line_and_then_changes_nothing(self):
        plain, warm = rates_of("none"), rates_of("warm20")
        assert plain == pytest.approx([0.03 * (1 + math.cos(math.pi * t / 20)) / 2 for t in range(20)])
        assert warm[4:] == plain[4:]
        assert warm[:4] == pytest.approx([plain[t] * (t + 1) / 4 for t in range(4)])
        assert rates_of("restarted") == warm
        assert rates_of("preaccumulated") == rates_of("rectified") == plain

    def test_names_and_rates(self):
        assert list(warmed_arms.arms_of(MLP)) == ["none", "warm5", "warm20"]
        assert warmed_arms.arm_name(0.01) == "warm1"
        grid = MLP.model_copy(update={"rates": (0.01, 0.0173, 0.03, 0.052)})
        assert warmed_arms.high_rate(grid, 0.01, 3.0) == 0.03
        assert warmed_arms.high_rate(grid, 0.0173, 3.0) == 0.052
        assert warmed_arms.high_rate(grid, 0.03, 3.0) == 0.052  # the grid ends
        assert warmed_arms.compared_rates(grid, [0.03, 0.0173]) == [0.0173, 0.03, 0.052]
        assert (warmed_arms.early_steps(MLP), warmed_arms.longest(MLP)) == (2, 4)
        assert isinstance(warmed_arms.optimizer_of(SETTINGS.beds["mlp_sgd"]), Sgd)

    def test_second_moments_come_from_other_minibatches_than_the_runs_own(self):
        """By hand, one network at a time: gradients of torch at the initial weights."""
        bed = bed_of(SMOKE, "mlp")
        found = {arm: begun(bed, MLP, [cell(arm)]).state for arm in ("preaccumulated", "gradient_initialised")}
        torch.manual_seed(3)
        network = bed.build()
        squares = []
        for step in range(4):
            x, y = bed.data.train.batch([3 + warmed_arms.OTHER], step, MLP.batch_size)
            loss = torch.nn.functional.cross_entropy(network(x[0]), y[0])
            squares.append([g.square() for g in torch.autograd.grad(loss, list(network.parameters()))])
        for i, (name, _) in enumerate(network.named_parameters()):
            first = found["gradient_initialised"].optimizer["second"][name][0]
            torch.testing.assert_close(first, squares[0][i], rtol=1e-4, atol=1e-9)
            weighted = sum(0.02 * 0.98 ** (3 - k) * squares[k][i] for k in range(4))
            second = found["preaccumulated"].optimizer["second"][name][0]
            torch.testing.assert_close(second, weighted, rtol=1e-4, atol=1e-9)
            assert not found["preaccumulated"].optimizer["first"][name].any()

    def test_variants_have_their_switches(self):
        of = lambda arm: warmed_arms.variant_of(MLP, arm)  # noqa: E731
        assert of("preaccumulated").seen == 4 and not of("preaccumulated").rectified
        assert of("rectified") == VariantAdamW(0.9, 0.98, weight_decay=0.0, rectified=True)
        assert of("restarted").restart_at == 4
        assert of("gradient_initialised").counts(0) == (1, 1)  # corrected as if from zero
        assert of("preaccumulated").counts(2) == (3, 7)
        assert of(None) == AdamW(0.9, 0.98, weight_decay=0.0)

    def test_accumulation_estimates_the_mean_square(self):
        """A linear loss has the same gradient everywhere: corrected, any number of minibatches gives its square."""
        network = type("Slope", (), {"gradients": staticmethod(lambda w, f: (None, {"w": torch.full((1, 3), 2.0)}))})
        made = type("Made", (), {"batch": staticmethod(lambda o, s: (None, None)), "strategy": network, "loss": None})
        second = accumulated(made, {"w": torch.zeros(1, 3)}, 0.9, [0], 5)["w"] / (1 - 0.9**5)
        torch.testing.assert_close(second, torch.full((1, 3), 4.0))
        torch.testing.assert_close(initial_squares(made, {"w": torch.zeros(1, 3)}, [0])["w"], torch.full((1, 3), 4.0))


class TestStudy:
    def test_every_warm_up_is_tuned_equally(self):
        jobs = study.tuning_jobs(SMOKE)
        members = [(job.args[1], *member) for job in jobs for member in job.args[2]]
        assert len(members) == len(set(members)) == 27
        assert set(pd.Series([m[:2] for m in members]).value_counts()) == {3}
        assert {m[3] for m in members} == {1000}

    def test_every_run_is_made_once_at_the_rates_that_were_chosen(self):
        tuned = {("mlp", "none"): 0.0173, ("mlp", "warm5"): 0.0173, ("mlp", "warm20"): 0.03}
        cells = study.reported_cells(SMOKE, "mlp", tuned)
        assert len(cells) == len(set(cells))
        own = [c for c in cells if (c.labels, c.draw) == ("true", "own") and c.arm in warmed_arms.arms_of(MLP)]
        assert len(own) == 3 * 2 * 2 and {c.rate for c in own} == {0.0173, 0.03}
        other = [c for c in cells if c.draw == "other"]
        assert {(c.arm, c.start - c.seed) for c in other} == {("none", warmed_arms.OTHER)} and len(other) == 4
        assert {(c.arm, c.rate) for c in cells if c.arm in warmed_arms.VARIANTS} == {
            (arm, 0.03) for arm in warmed_arms.VARIANTS
        }
        shuffled = {(c.arm, c.rate) for c in cells if c.labels == "shuffled"}
        assert shuffled == {(arm, rate) for arm, rate in {**{a: 0.03 for _, a in tuned}}.items()} | {
            ("none", 0.0173),
            ("warm5", 0.0173),
        }

    def test_cohorts_share_labels_and_optimizer(self):
        tuned = {(name, arm): how.rates[1] for name, how in SETTINGS.beds.items() for arm in warmed_arms.arms_of(how)}
        jobs = [job for job in study.reported_jobs(SMOKE, tuned) if job.func is study.run]
        for cells in (job.args[1] for job in jobs):
            assert len({(c.bed, c.labels, c.arm if c.arm in warmed_arms.VARIANTS else "") for c in cells}) == 1
            assert len({c.seed for c in cells}) == 1 or cells[0].labels == "true"
        cells = [c for job in jobs for c in job.args[1]]
        assert sorted(cells, key=str) == sorted(
            (c for name in SETTINGS.beds for c in study.reported_cells(SMOKE, name, tuned)), key=str
        )

    def test_a_run_is_torchs_and_its_spike_the_largest_rise(self):
        """Adam of torch, one network, its rate set by hand; minibatch losses of the first tenth (two updates)."""
        bed = bed_of(SMOKE, "mlp")
        row, other = study.run(SMOKE, [cell("warm20"), cell("none", seed=4)])["runs"]
        torch.manual_seed(3)
        network = bed.build()
        adam = torch.optim.Adam(network.parameters(), betas=(0.9, 0.98))
        losses = []
        for step, rate in enumerate(rates_of("warm20")):
            adam.param_groups[0]["lr"] = rate
            adam.zero_grad()
            x, y = bed.data.train.batch([3], step, MLP.batch_size)
            loss = torch.nn.functional.cross_entropy(network(x[0]), y[0])
            losses.append(loss.item())
            loss.backward()
            adam.step()
        x, y = bed.data.test.examples(MLP.tested)
        with torch.no_grad():
            expected = torch.nn.functional.cross_entropy(network(x), y).item()
        assert row.test_loss == pytest.approx(expected, rel=1e-3)
        assert row.spike == pytest.approx(max(0.0, losses[1] - losses[0]), rel=1e-3, abs=1e-6)
        assert (other.seed, other.arm, other.diverged_step) == (4, "none", None)

    def test_the_spike_is_the_largest_rise_over_any_loss_before(self):
        begin = begun(bed_of(SMOKE, "mlp"), MLP, [cell(rate=0.3)])
        losses = [state.losses[0].item() for state in train.train(begin.made, begin.state)]
        rises = [b - a for i, b in enumerate(losses) for a in losses[:i]]
        assert study.to_the_end(begin, MLP.steps)[1].item() == pytest.approx(max(0.0, *rises))
        early = [b - a for i, b in enumerate(losses[:5]) for a in losses[:i]]
        assert study.to_the_end(begin, 5)[1].item() == pytest.approx(max(0.0, *early))

    def test_a_diverged_run_has_its_step_and_no_scores(self):
        (row,) = study.run(SMOKE, [cell(bed="mlp_sgd", rate=1e30)])["runs"]
        assert row.diverged_step is not None
        assert row.test_error is row.test_loss is row.train_loss is row.spike is None


class TestCurvature:
    def test_looks_are_spread_in_ratio_over_the_first_tenth(self):
        how = MLP.model_copy(update={"steps": 320, "followed": MLP.followed.model_copy(update={"looks": 6})})
        assert warmed_curvature.looks(how) == [1, 2, 4, 8, 16, 32]

    def test_early_readings_against_dense_matrices(self):
        """λ_max of the dense Hessian of a small network, plain and in Adam's metric, after the first update."""
        data = SMOKE.model_dump(mode="json")
        data["train"]["mlp"]["architecture"]["widths"] = [4]
        data["strategies"]["warmup"]["lanczos"] = {"iterations": 40, "tolerance": 1e-4}
        small = config.Settings.model_validate(data)
        (row, *_) = warmed_curvature.early_points(small, [cell("warm20", rate=0.02)])["early"]
        begin = begun(bed_of(small, "mlp"), MLP, [cell("warm20", rate=0.02)])
        state = next(train.train(begin.made, begin.state))
        names = list(state.params)
        x, y = bed_of(small, "mlp").data.train.examples(MLP.followed.examples)
        sizes = [state.params[n][0].numel() for n in names]

        def loss(flat):
            parts = {n: p.view(state.params[n][0].shape) for n, p in zip(names, flat.split(sizes), strict=True)}
            logits = torch.func.functional_call(begin.network.module.double(), parts, (x.double(),))
            return torch.nn.functional.cross_entropy(logits, y)

        flat = torch.cat([state.params[n][0].flatten() for n in names]).double()
        hessian = torch.autograd.functional.hessian(loss, flat)
        second = torch.cat([state.optimizer["second"][n][0].flatten() for n in names]).double()
        scale = 0.1 * ((second / 0.02).sqrt() + 1e-8)  # 1 - beta1 = 0.1, 1 - beta2 = 0.02
        preconditioned = hessian / (scale[:, None] * scale).sqrt()
        assert row.step == 1
        assert row.sharpness == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=2e-3)
        largest = torch.linalg.eigvalsh(preconditioned)[-1].item()
        assert row.preconditioned == pytest.approx(largest, rel=2e-3)
        # heavy ball in Adam's metric: 38 / η, and η is a quarter of the peak in the first of four updates
        assert row.stability == pytest.approx(largest * 0.02 / 4 / 38, rel=2e-3)

    def test_sgd_is_held_against_its_own_threshold(self):
        rows = warmed_curvature.early_points(SMOKE, [cell("none", bed="mlp_sgd", rate=0.1)])["early"]
        assert all(row.preconditioned is None for row in rows)
        assert rows[0].stability == pytest.approx(rows[0].sharpness * 0.1 / 3.8, rel=1e-2)

    def test_matched_points_are_near_their_level_or_blank(self):
        rows = warmed_curvature.matched_points(SMOKE, [cell(seed=0), cell(seed=1, rate=1e-9)])["matched"]
        assert rows[0].step > 0 and rows[0].train_loss == pytest.approx(2.2, abs=0.3) and rows[0].sharpness > 0
        assert rows[1].step is None and rows[1].train_loss is None and rows[1].sharpness is None


class TestMoments:
    def test_variation_is_a_median_over_living_parameters(self):
        second = torch.tensor([[1.0, 0.0, 2.0, 4.0], [3.0, 0.0, 2.0, 8.0]], dtype=torch.float64)
        # deviation over mean: sqrt 2 / 2, dead, 0, sqrt 8 / 6
        assert moment_spread.variation(second) == pytest.approx(math.sqrt(8) / 6)

    def test_held_weights_give_means_of_squares_of_different_orders(self):
        bed = bed_of(SMOKE, "mlp")
        found = dict(moment_spread.seconds(bed, MLP, 5, 2, 0.0, (1, 3)))
        assert list(found) == [1, 3] and not torch.equal(found[1][0], found[1][1])
        torch.manual_seed(5)
        network, squares = bed.build(), []
        for step in range(3):
            x, y = bed.data.train.batch([5 + warmed_arms.OTHER], step, MLP.batch_size)
            loss = torch.nn.functional.cross_entropy(network(x[0]), y[0])
            grads = torch.autograd.grad(loss, list(network.parameters()))
            squares.append(torch.cat([g.flatten() for g in grads]).double().square())
        torch.testing.assert_close(found[1][1], squares[0], rtol=1e-3, atol=1e-9)
        weighted = (0.98**2 * squares[0] + 0.98 * squares[1] + squares[2]) / (1 + 0.98 + 0.98**2)
        torch.testing.assert_close(found[3][1], weighted, rtol=1e-3, atol=1e-9)
        moved = dict(moment_spread.seconds(bed, MLP, 5, 2, 0.05, (1, 3)))
        torch.testing.assert_close(moved[1], found[1])
        assert not torch.allclose(moved[3], found[3])

    def test_adams_first_update_is_a_sign(self):
        rows = moment_spread.first_updates(bed_of(SMOKE, "mlp"), MLP, [0, 1], 0.02)
        lengths = {(row.arm, row.seed): row.length for row in rows}
        assert len(lengths) == 6
        assert 0.5 < lengths["none", 0] <= 1.0001  # less than one only for parameters without a gradient
        # GI-Adam divides g by sqrt((0.98 g0² + 0.02 g²) / 0.02)
        assert lengths["gradient_initialised", 0] < lengths["none", 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": [0.01, 0.03, 0.02]}, "rates must rise"),
        ({"rates": [0.01, 0.03, 0.04]}, "factor of 2"),
        ({"shares": [0.05, 0.2]}, "begin with 0"),
        ({"shares": [0.0, 0.2, 0.2]}, "shares must rise"),
        ({"optimizer": "sgd"}, "variants are those of adamw"),
        ({"twins": 3}, "at most 2 twins"),
        ({"shuffled": 3}, "at most 2 twins"),
        ({"followed": {"shares": [0.0, 0.1], "looks": 2, "examples": 3}}, "must be among"),
        ({"speed": 1}, "speed"),
    ],
)
def test_beds_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        WarmedBed.model_validate(MLP.model_dump(mode="json") | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tuning": [0]}, "tuning seeds must not be reported"),
        ({"seeds": [0]}, "at most 1 replicates"),
        ({"tuning": [1000], "beds": {"mlp": MLP.model_dump() | {"tuning_seeds": 2}}}, "1 tuning_seeds"),
        ({"beds": {"transformer": SETTINGS.beds["transformer"].model_dump()}}, "must name mlp"),
        ({"times": 1.0}, "times"),
    ],
)
def test_studies_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        Warmup.model_validate(SETTINGS.model_dump() | change)


# What is planted: test error (or loss) by bed, arm and rate, the same for every seed but for an offset
RATES = (0.01, 0.02, 0.04, 0.08)  # the high rate is the third
ERRORS = {
    ("mlp", "none"): (0.40, 0.41, 0.52, 0.70),
    ("mlp", "warm1"): (0.40, 0.40, 0.50, 0.69),
    ("mlp", "warm5"): (0.41, 0.39, 0.49, 0.68),
    ("mlp", "warm20"): (0.43, 0.38, 0.40, 0.66),
    ("mlp_sgd", "none"): (0.40, 0.41, 0.50, 0.90),
    ("mlp_sgd", "warm5"): (0.41, 0.40, 0.50, 0.90),
    ("mlp_sgd", "warm20"): (0.42, 0.40, 0.46, 0.90),
    ("transformer", "none"): (2.00, 2.03, 2.20, 2.60),
    ("transformer", "warm5"): (2.01, 1.98, 2.10, 2.50),
    ("transformer", "warm20"): (2.02, 1.99, 2.02, 2.40),
}
TUNED = {"none": 0.01, "warm1": 0.02, "warm5": 0.02, "warm20": 0.02}
VARIANTS = {"preaccumulated": 0.50, "gradient_initialised": 0.45, "rectified": 0.42, "restarted": 0.51}
TWIN, SHUFFLED = 0.004, 0.9
EARLY = {"none": 1.5, "warm5": 1.1, "warm20": 0.8}  # ln of the largest curvature


def row_of(bed, arm, rate, seed, value, labels="true", draw="own"):
    error = min(value, 1.0) + seed / 100
    loss = value + seed / 100
    spike = 2.0 - EARLY.get(arm, 0) - 0.5 * (draw == "other")
    return WarmedRun(bed, arm, labels, draw, seed, rate, None, loss / 2, loss, min(error, 1.0), spike)


def planted(seeds: int = 4) -> dict[str, pd.DataFrame]:
    tuning, tuned, runs, early, matched, moments, updates = ([] for _ in range(7))
    for (bed, arm), values in ERRORS.items():
        criterion = "validation_loss" if bed == "transformer" else "validation_error"
        for rate, value in zip(RATES, values, strict=True):
            tuning += [TuningTrial(bed, arm, s, rate, None, None, value, min(value, 1.0)) for s in (1000, 1001)]
            runs += [row_of(bed, arm, rate, seed, value) for seed in range(seeds)]
            if arm == "none":
                runs += [row_of(bed, arm, rate, s, value + TWIN, draw="other") for s in range(seeds)]
            if bed == "mlp" and rate in (TUNED[arm], 0.04):
                runs += [row_of(bed, arm, rate, s, SHUFFLED - 0.1 * value, "shuffled") for s in range(seeds)]
        tuned.append(TunedArm(bed, arm, criterion, TUNED[arm], 1, 8))
        if arm != "warm1" and (bed, arm) != ("transformer", "warm20"):
            for seed in range(seeds):
                for step, fall in ((1, 0.3), (2, 0.0), (4, 0.9)):
                    top = math.exp(EARLY[arm] + seed - fall)
                    met = (None, None) if bed == "mlp_sgd" else (top**2, 0.02)
                    early.append(EarlyPoint(bed, arm, seed, 0.04, step, 2.0, top, 0.01, *met, 1.0))
    for bed in ("mlp", "transformer"):
        base = 0.0 if bed == "mlp" else 1.7
        for arm, value in VARIANTS.items():
            runs += [row_of(bed, arm, 0.04, seed, base + value) for seed in range(seeds)]
    for seed in range(seeds):
        for arm, sharp, loss in (("none", 2.0, 1.0), ("warm5", 1.7, 1.01)):
            matched.append(
                MatchedPoint("mlp", arm, seed, 0.01, 1.0, 9, loss * (1 + seed), math.exp(sharp + seed), 0.03)
            )
        for weights, last in (("frozen", 0.2), ("trained", 0.7)):
            moments += [
                MomentSpread("mlp", weights, seed, step, 5, value + seed / 10)
                for step, value in ((1, 1.2), (10, 0.9), (60, last))
            ]
        for arm, length in (("none", 1.0), ("preaccumulated", 0.8), ("gradient_initialised", 0.1)):
            updates.append(FirstUpdate("mlp", arm, seed, length * math.exp(seed)))
    parts = {"tuning": tuning, "tuned": tuned, "runs": runs, "early": early, "matched": matched}
    return {name: pd.DataFrame(rows) for name, rows in (parts | {"moments": moments, "updates": updates}).items()}


def changed(frames, name, where: dict, **values):
    frame = frames[name].copy()
    at = np.logical_and.reduce([frame[key] == value for key, value in where.items()])
    assert at.any()
    frame.loc[at, list(values)] = list(values.values())
    return {**frames, name: frame}


def of_claim(frames, claim, role="claim"):
    """Effects of a claim or one of its controls, as the study writes them."""
    one = evidence_of(frames)[claim]
    values = {"claim": one.values, "same_arm": one.same_arm, "shuffled_labels": one.shuffled}[role]
    return [] if values is None else values.dropna().tolist()


def gate(frames, claim):
    return dict(evidence_of(frames)[claim].gates)


def evidence_of(frames):
    """Everything on the claims that the frames say, made once."""
    if id(frames) not in KEPT:
        KEPT[id(frames)] = {one.claim: one for one in contrasts.claimed(frames)}, frames
    return KEPT[id(frames)][0]


KEPT = {}
BASE = planted()
STEP = math.log10(2)
# where straight lines in log rate leave the level: no warm-up's error at 0.01 plus 2 points
NONE_EDGE = math.log10(0.02) + (0.42 - 0.41) / (0.52 - 0.41) * STEP


class TestContrasts:
    @pytest.mark.parametrize(
        ("claim", "expected"),
        [
            ("warmup.tuned_score.mlp", 0.40 - 0.39),
            ("warmup.tuned_score_sgd.mlp", 0.0),
            ("warmup.tuned_score.transformer", 2.00 - 1.98),
            ("warmup.high_rate.mlp", 0.52 - 0.40),
            ("warmup.high_rate.transformer", 2.20 - 2.02),
            ("warmup.usable_rate.mlp", math.log10(0.02) + (0.42 - 0.39) / 0.10 * STEP - NONE_EDGE),
            ("warmup.usable_rate_long.mlp", math.log10(0.04) + (0.42 - 0.40) / 0.26 * STEP - NONE_EDGE),
            ("warmup.usable_rate_long.transformer", (1 + 0.03 / 0.38 - 0.02 / 0.17) * STEP),
            ("warmup.usable_rate_long_sgd.mlp", (0.02 / 0.06 - 0.01 / 0.09) * STEP),
            ("warmup.early_sharpness.mlp", 1.5 - 1.1),
            ("warmup.early_sharpness_long.mlp", 1.5 - 0.8),
            ("warmup.early_sharpness_sgd.mlp", 1.5 - 1.1),
            ("warmup.early_sharpness.transformer", 1.5 - 1.1),
            ("warmup.spike.mlp", 1.1 - 1.5),
            ("warmup.end_sharpness.mlp", 2.0 - 1.7),
            ("second_moments.variation.mlp", 1.2 - 0.7),
            ("second_moments.first_update.mlp", math.log(1 / 0.8)),
            ("second_moments.preaccumulated.mlp", (0.52 - 0.50) - 0.12 / 2),
            ("second_moments.preaccumulated.transformer", (2.20 - 2.20) - 0.18 / 2),
            ("second_moments.rectified.mlp", (0.52 - 0.42) - 0.12 / 2),
            ("second_moments.gradient_initialised.mlp", (0.52 - 0.45) - 0.12 / 2),
            ("second_moments.restarted.mlp", 0.12 / 2 - (0.52 - 0.51)),
        ],
    )
    def test_every_contrast_recovers_what_was_planted(self, claim, expected):
        assert of_claim(BASE, claim) == pytest.approx([expected] * 4)

    def test_preconditioned_curvature(self):
        # twice the ln of the plain one, of which seeds are a part
        found = of_claim(BASE, "warmup.early_preconditioned.mlp")
        assert found == pytest.approx([2 * 0.4] * 4)

    def test_adam_minus_sgd(self):
        adam, sgd = (of_claim(BASE, f"warmup.usable_rate_long{name}.mlp")[0] for name in ("", "_sgd"))
        assert of_claim(BASE, "second_moments.adam_over_sgd.mlp") == pytest.approx([adam - sgd] * 4)

    def test_controls(self):
        assert of_claim(BASE, "warmup.tuned_score.mlp", "same_arm") == pytest.approx([-TWIN] * 4)
        assert of_claim(BASE, "second_moments.rectified.mlp", "same_arm") == pytest.approx([-TWIN] * 4)
        assert of_claim(BASE, "warmup.usable_rate.mlp", "same_arm") == pytest.approx([0.0] * 4)
        assert of_claim(BASE, "warmup.spike.mlp", "same_arm") == pytest.approx([-0.5] * 4)
        # seeds are one apart in ln of curvature
        assert of_claim(BASE, "warmup.early_sharpness.mlp", "same_arm") == pytest.approx([1.0] * 2)
        assert of_claim(BASE, "warmup.end_sharpness.mlp", "same_arm") == pytest.approx([1.0] * 2)
        assert of_claim(BASE, "second_moments.variation.mlp", "same_arm") == pytest.approx([0.1] * 2)
        assert of_claim(BASE, "warmup.tuned_score.mlp", "shuffled_labels") == pytest.approx([0.1 * (0.39 - 0.40)] * 4)
        assert of_claim(BASE, "warmup.high_rate.mlp", "shuffled_labels") == pytest.approx([0.1 * (0.40 - 0.52)] * 4)
        assert of_claim(BASE, "warmup.tuned_score.transformer", "shuffled_labels") == []

    def test_last_rate_within(self):
        scores = pd.Series([-0.5, -0.3, -0.4, -0.3, -0.5], index=[0.01, 0.1, 1.0, 10.0, 100.0])
        assert contrasts.last_within(scores, -0.3) == (pytest.approx(1.0), True)
        assert contrasts.last_within(scores, -0.45) == (pytest.approx(1.75), True)
        assert contrasts.last_within(scores, -0.6) == (pytest.approx(2.0), False)
        edge, found = contrasts.last_within(scores, -0.1)
        assert np.isnan(edge) and not found
        diverged = pd.Series([-0.3, np.nan], index=[0.01, 0.1])
        assert contrasts.last_within(diverged, -0.4) == (pytest.approx(-2.0), True)

    def test_missing_runs_leave_their_seed_out(self):
        gone = {"bed": "mlp", "labels": "true", "draw": "own"}
        frames = changed(BASE, "runs", gone | {"arm": "warm5", "seed": 2, "rate": 0.02}, test_error=np.nan)
        frames = changed(frames, "runs", gone | {"arm": "none", "seed": 3, "rate": 0.01}, test_error=np.nan)
        frames = changed(frames, "early", {"bed": "mlp", "arm": "none", "seed": 1, "step": 4}, sharpness=np.nan)
        frames = changed(frames, "matched", {"arm": "warm5", "seed": 0}, sharpness=np.nan, train_loss=np.nan)
        assert len(of_claim(frames, "warmup.tuned_score.mlp")) == 2
        # a rate at which a run diverged is none that it could use; without a score to compare with nothing is
        assert of_claim(frames, "warmup.usable_rate.mlp")[2] == pytest.approx(-2 - NONE_EDGE)
        assert len(of_claim(frames, "warmup.usable_rate.mlp")) == 3
        assert len(of_claim(frames, "warmup.early_sharpness.mlp")) == 3
        assert len(of_claim(frames, "warmup.end_sharpness.mlp")) == 3
        assert len([e for e in contrasts.effects(frames) if e.claim == "warmup.end_sharpness.mlp"]) == 3 + 2

    def test_gates_see_what_they_are_for(self):
        assert gate(BASE, "warmup.usable_rate.mlp") == {"rate_interior": 1, "equal_tuning": 1, "edge_found": 1}
        assert gate(BASE, "second_moments.rectified.mlp")["warmup_gain"] == pytest.approx(0.12 / 0.02)
        assert gate(BASE, "second_moments.preaccumulated.transformer")["warmup_gain"] == pytest.approx(0.18 / 0.05)
        assert gate(BASE, "warmup.end_sharpness.mlp") == {
            "residual": pytest.approx(0.03),
            "matched_loss": pytest.approx(math.log(1.01)),
        }
        frames = changed(BASE, "runs", {"bed": "mlp", "arm": "warm5", "seed": 1, "rate": 0.08}, test_error=0.1)
        frames = changed(frames, "tuned", {"model": "mlp", "arm": "warm5"}, interior=0)
        frames = changed(frames, "tuned", {"model": "mlp_sgd", "arm": "warm20"}, trials=7, interior=0)
        frames = changed(frames, "early", {"bed": "mlp", "arm": "warm5", "seed": 3, "step": 1}, residual=0.2)
        assert gate(frames, "warmup.usable_rate.mlp")["edge_found"] == pytest.approx(7 / 8)
        assert gate(frames, "warmup.usable_rate_long.mlp")["edge_found"] == 1
        assert gate(frames, "warmup.tuned_score.mlp")["rate_interior"] == 0
        assert gate(frames, "second_moments.preaccumulated.mlp")["rate_interior"] == 1
        assert gate(frames, "second_moments.adam_over_sgd.mlp") == {
            "rate_interior": 0,
            "equal_tuning": 0,
            "edge_found": 1,
        }
        assert gate(frames, "warmup.early_sharpness.mlp") == {"residual": 0.2}
        assert gate(frames, "warmup.early_preconditioned.mlp") == {"residual": pytest.approx(0.02)}

    def test_what_is_not_claimed_is_a_finding_alone(self):
        names = {e.claim for e in contrasts.effects(BASE)}
        assert len(names) == 25 and "warmup.spike.transformer" not in names
        assert {g.claim for g in contrasts.gates(BASE)} <= names
        found = contrasts.findings(BASE)
        assert len({(f.table, f.row, f.model, f.quantity) for f in found}) == len(found)
        by_name = {(f.table, f.model, f.quantity): f for f in found}
        assert ("strategies", "transformer", "spike: effect as in the claim") in by_name
        held = by_name["prose", "mlp", "step 60: variation of second moments, frozen weights"]
        assert held.mean == pytest.approx(0.2 + 0.15)
        high = by_name["strategies", "mlp", "warm20: test_error at the high rate, SGD"]
        assert high.mean == pytest.approx(0.46 + 0.015)

    def test_a_bed_that_was_not_run_has_no_claims(self):
        part = {name: f[f["bed" if "bed" in f else "model"] != "transformer"] for name, f in BASE.items()}
        assert not any("transformer" in claim for claim in evidence_of(part))


class TestDrawings:
    @pytest.mark.parametrize("name", ["tuning", "responses", "early", "second_moments", "mechanisms"])
    def test_figures_say_what_is_averaged_over_how_many(self, name):
        title = getattr(drawings, name)(BASE).get_suptitle().replace("\n", " ")
        assert "mean" in title and f"n = {2 if name == 'tuning' else 4}" in title

    def test_gains_are_drawn_at_their_means(self):
        panel = drawings.mechanisms(BASE).axes[0]
        rows = [label.get_text() for label in panel.get_yticklabels()]
        at = {round(line.get_ydata()[0], 3): line.get_xdata()[0] for line in panel.lines if line.get_marker() in "os"}
        assert at[rows.index("Warm-up over 20 %")] == pytest.approx(12)
        assert at[rows.index("Second moments beforehand")] == pytest.approx(2)
        assert any(line.get_linestyle() == ":" and line.get_xdata()[0] == pytest.approx(6) for line in panel.lines)

    def test_two_seeds_and_missing_values_leave_gaps_and_no_errors(self):
        frames = changed(planted(2), "runs", {"arm": "warm5"}, test_error=np.nan, test_loss=np.nan)
        frames = changed(frames, "early", {"arm": "warm5"}, sharpness=np.nan, stability=np.nan)
        for draw_one in (drawings.responses, drawings.early, drawings.mechanisms):
            assert draw_one(frames).axes
