"""Exact saddles of the linear network, noise at them and away from sharp solutions, and what is read from the runs."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from nonconvex import config, records, train
from nonconvex.beds import bed_of
from nonconvex.contrasts import escapes as readers
from nonconvex.contrasts import sgd_noise as contrasts
from nonconvex.contrasts.escapes import Frames
from nonconvex.data.splits import FOLDER, Arrays
from nonconvex.drawings import sgd_noise as drawings
from nonconvex.losses import cross_entropy
from nonconvex.measure import linear_saddles as linear
from nonconvex.measure.crossing import nearest_crossing
from nonconvex.measure.escape import Walk, escapes, expected_steps, noise_variance
from nonconvex.measure.objective import Objective, shared
from nonconvex.models.mlp import Mlp
from nonconvex.models.stacked import flatten, stack
from nonconvex.observations import sgd_noise as rows
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.optimizers import Sgd
from nonconvex.strategies.base import Strategy, value_and_gradient
from nonconvex.studies import saddle_escape, sharp_escape
from nonconvex.studies.matched_noise import MatchedNoise, isotropic
from nonconvex.studies.saddle_escape import idle_weights, problem, saddle_runs
from nonconvex.study_settings.base import Lanczos
from nonconvex.study_settings.sgd_noise import Saddles, Scratch

HIDDEN = 3
VALUES = (1.0, 0.7, 0.5, 0.2)
IDLE, ACTIVE = ("1000", "1100"), ("1101", "1011")


def made(noise: float = 0.5) -> linear.Regression:
    return linear.regression(VALUES, 32, noise, np.random.default_rng(3))


def chosen(modes: str) -> tuple[bool, ...]:
    return tuple(digit == "1" for digit in modes)


def at(modes: str, data: linear.Regression | None = None) -> linear.Saddle:
    return linear.saddle(data or made(), chosen(modes), HIDDEN)


def anywhere(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2 * HIDDEN * len(VALUES), dtype=torch.float64, generator=generator)


class TestRegression:
    def test_all_examples_together_are_the_catalogue_up_to_a_constant(self):
        """The oracle is the regression as the module's docstring writes it, by autograd, at random weights."""
        data, points = made(), anywhere(3)
        assert torch.allclose(data.x.mT @ data.x / 32, torch.eye(4, dtype=torch.float64), atol=1e-12)
        values, slopes = [], []
        for point in points:
            weights = point.clone().requires_grad_()
            first, second = weights[:12].view(3, 4), weights[12:].view(4, 3)
            loss = sum((second @ first @ x - y).square().sum() for x, y in zip(data.x, data.y, strict=True)) / 64
            slopes.append(torch.autograd.grad(loss, weights)[0])
            values.append(loss.item())
        exact = linear.losses(points, data.target.expand(3, 4, 4), HIDDEN)
        assert np.ptp(np.array(values) - exact.numpy()) < 1e-10
        torch.testing.assert_close(linear.gradients(points, data.target.expand(3, 4, 4), HIDDEN), torch.stack(slopes))
        every = data.x.expand(3, 32, 4), data.y.expand(3, 32, 4)
        torch.testing.assert_close(linear.minibatch_gradients(points, *every, HIDDEN), torch.stack(slopes))

    def test_gradients_of_examples_are_their_own(self):
        data, point = made(), anywhere(1)[0]
        found = linear.example_gradients(point, data, HIDDEN)
        for i in (0, 7):
            weights = point.clone().requires_grad_()
            residual = weights[12:].view(4, 3) @ weights[:12].view(3, 4) @ data.x[i] - data.y[i]
            torch.testing.assert_close(found[i], torch.autograd.grad(residual.square().sum() / 2, weights)[0])

    def test_too_few_examples_are_refused(self):
        with pytest.raises(ValueError, match="8 or more"):
            linear.regression(VALUES, 7, 0.1, np.random.default_rng(0))


class TestSaddles:
    @pytest.mark.parametrize("modes", [*IDLE, *ACTIVE, "0111", "0011"])
    def test_gradient_vanishes_and_negative_eigenvalues_are_those_of_the_formula(self, modes):
        saddle, data = at(modes), made()
        assert linear.gradients(saddle.point[None], data.target[None], HIDDEN).abs().max() < 1e-14
        expected = saddle.expected_negative(VALUES, HIDDEN)
        assert saddle.negative.shape[1] == len(expected)
        torch.testing.assert_close(saddle.eigenvalues[: len(expected)], expected)
        assert saddle.strength == pytest.approx(-expected[0].item())
        if saddle.chosen[0]:
            assert saddle.sharpness == pytest.approx(2.0)  # 2 σ of the largest mode

    def test_the_next_level_is_where_the_fastest_way_out_leads(self):
        """Counted by hand: half the squares of the values that are left out."""
        levels = {"1000": (0.49, 0.25, 0.04), "1101": (0.25,), "1011": (0.49,)}
        for modes, left in levels.items():
            assert at(modes).loss == pytest.approx(sum(left) / 2)
        assert at("1000").next_loss == pytest.approx((0.25 + 0.04) / 2)
        assert at("1101").next_loss == pytest.approx(0.04 / 2)
        assert at("1011").next_loss == pytest.approx(0.04 / 2)  # 0.7 takes the unit of 0.2

    def test_a_minimum_is_refused(self):
        with pytest.raises(ValueError, match="no saddle"):
            at("1110")
        with pytest.raises(ValueError, match="hidden units"):
            linear.balanced(made(), chosen("1111"), HIDDEN)

    @pytest.mark.parametrize("modes", [*IDLE, *ACTIVE])
    def test_inside_is_a_projector_that_descent_respects_and_that_holds_no_way_out(self, modes):
        saddle, data = at(modes), made()
        torch.testing.assert_close(saddle.inside @ saddle.inside, saddle.inside)
        assert (saddle.inside @ saddle.negative).abs().max() < 1e-12
        assert int(saddle.inside.trace().round()) == 2 * HIDDEN * modes.count("1")
        near = saddle.point + anywhere(1)[0] @ saddle.inside
        slope = linear.gradients(near[None], data.target[None], HIDDEN)
        assert slope.abs().max() > 0.1
        torch.testing.assert_close(slope @ saddle.inside, slope)

    def test_fastest_directions_are_as_many_as_idle_units(self):
        assert (
            at("1000").fastest.shape[1] == 2 and at("1100").fastest.shape[1] == 1 and at("1011").fastest.shape[1] == 1
        )


class TestNoise:
    @pytest.mark.parametrize("modes", IDLE)
    @pytest.mark.parametrize("noise", [0.5, 1e-9])
    def test_examples_have_exactly_no_gradient_at_idle_units_whatever_the_labels(self, modes, noise):
        data = made(noise)
        saddle = at(modes, data)
        idle = idle_weights(saddle, HIDDEN).bool()
        each = linear.example_gradients(saddle.point, data, HIDDEN)
        assert idle.sum() == 2 * 4 * (HIDDEN - modes.count("1"))
        assert each[:, idle].abs().max().item() == 0.0
        assert each[:, ~idle].abs().max() > 0.01
        trace, escaping = noise_variance(saddle, data, 4, HIDDEN)
        assert escaping < 1e-25 * trace

    @pytest.mark.parametrize("modes", ACTIVE)
    def test_examples_have_gradients_along_the_way_out_of_active_saddles(self, modes):
        data = made(0.5)
        trace, escaping = noise_variance(at(modes, data), data, 4, HIDDEN)
        assert 0.005 * trace < escaping < trace

    def test_variance_is_that_of_drawn_minibatches(self):
        data, saddle = made(), at("1011")
        index = torch.from_numpy(np.random.default_rng(0).integers(0, 32, (20_000, 4)))
        drawn = linear.minibatch_gradients(saddle.point.expand(20_000, -1), data.x[index], data.y[index], HIDDEN)
        trace, escaping = noise_variance(saddle, data, 4, HIDDEN)
        assert drawn.var(0).sum().item() == pytest.approx(trace, rel=0.03)
        assert (drawn @ saddle.negative).var(0).sum().item() == pytest.approx(escaping, rel=0.05)


def walk(modes: str, noise: str = "none", away: float = 1e-6, **changes) -> Walk:
    data = made()
    saddle = at(modes, data)
    start = saddle.point + away * saddle.fastest[:, 0]
    trace, _ = noise_variance(saddle, data, 4, HIDDEN)
    eye = torch.eye(len(start), dtype=torch.float64)
    return replace(Walk(data, saddle, start, noise, eye, (trace / len(start)) ** 0.5, 0.05, 4000, 1), **changes)


def run(*walks: Walk, share: float = 0.5):
    return escapes(walks, 4, HIDDEN, share, torch.stack([idle_weights(one.saddle, HIDDEN) for one in walks]))


class TestEscape:
    def test_gradient_descent_takes_the_logistic_time_of_a_single_mode(self):
        """An idle unit grows as s' = 2 s (σ - s), s = a²/2: from a to s = σ(1 - 1/√2) where half of σ²/2 is gone."""
        found = run(walk("1100"), walk("1100", away=1e-8)).steps.tolist()
        for away, steps in zip((1e-6, 1e-8), found, strict=True):
            strength = away**2 / 2
            odds = (1 / (1 - math.sqrt(0.5)) - 1) ** -1 / (strength / (0.5 - strength))
            assert steps == pytest.approx(math.log(odds) / (2 * math.log1p(0.05 * 0.5)), rel=0.02)

    def test_updates_are_counted_as_a_plain_loop_counts_them(self):
        one = walk("1100", away=1e-2)
        point, target = one.start[None], one.data.target[None]
        level, count = (one.saddle.loss + one.saddle.next_loss) / 2, 0
        while linear.losses(point, target, HIDDEN) > level:
            point, count = point - one.rate * linear.gradients(point, target, HIDDEN), count + 1
        walks = [replace(one, steps=count + more) for more in (1, 0, -1)]
        assert run(*walks).steps.tolist() == [count, count, -1]

    def test_theory(self):
        assert expected_steps(1e-8, 0.1, 1.0) == pytest.approx(math.log(1e8) / math.log(1.1))

    def test_sgd_started_exactly_at_an_idle_saddle_never_touches_the_idle_units(self):
        found = run(walk("1100", "minibatch", 0.0, steps=400), walk("1000", "minibatch", 0.0, steps=400))
        assert found.steps.tolist() == [-1, -1]
        assert found.watched.tolist() == [0.0, 0.0]

    def test_sgd_leaves_active_saddles_sooner_and_idle_ones_no_sooner(self):
        walks = [walk(modes, noise) for modes in ("1100", "1011") for noise in ("none", "minibatch", "isotropic")]
        idle, noisy, pushed, active, sgd, gaussian = run(*walks).steps.tolist()
        assert noisy > 0.8 * idle and pushed < 0.5 * idle
        assert sgd < 0.5 * active and gaussian < 0.5 * active

    def test_noise_among_chosen_modes_drives_nothing_out(self):
        """Started exactly there, only rounding is left outside; noise in all directions leaves at once."""
        saddle = at("1011")
        within = walk("1011", "isotropic", 0.0, projection=saddle.inside, steps=600)
        found = run(within, walk("1011", "isotropic", 0.0, steps=600))
        assert found.steps[0] == -1 and found.steps[1] > 0

    def test_noise_off_the_negative_directions_still_drives_out_to_second_order(self):
        saddle = at("1011")
        eye = torch.eye(len(saddle.point), dtype=torch.float64)
        rest = eye - saddle.negative @ saddle.negative.mT
        found = run(walk("1011", "isotropic", 0.0, projection=rest, steps=600))
        assert found.steps[0] > 0

    def test_isotropic_noise_has_the_trace_of_the_minibatches(self):
        """One step from the saddle, where the gradient vanishes: θ - θ* = -η ξ."""
        one = walk("1011", "isotropic", 0.0, steps=1)
        lengths = []
        for seed in range(200):
            drawn = np.random.Generator(np.random.Philox(key=[seed, 12])).standard_normal((1, 24))[0]
            end = escapes([replace(one, seed=seed)], 4, HIDDEN, 0.5, torch.ones(1, 24, dtype=torch.float64))
            moved = torch.from_numpy(one.saddle.point.numpy() - one.rate * one.deviation * drawn)
            assert end.watched.item() == pytest.approx(moved.abs().max().item())
            lengths.append(one.deviation**2 * (drawn**2).sum())
        trace, _ = noise_variance(one.saddle, one.data, 4, HIDDEN)
        assert np.mean(lengths) == pytest.approx(trace, rel=0.06)

    def test_a_walk_does_not_depend_on_its_neighbours_and_stops_at_its_length(self):
        walks = [walk("1011", "minibatch"), walk("1100", "none", steps=5), walk("1100", "isotropic", seed=2)]
        together = run(*walks).steps.tolist()
        assert together == [run(one).steps.item() for one in walks]
        assert together[1] == -1


class TestSaddleStudy:
    def test_records_are_what_the_walks_found(self):
        settings = Saddles(displacement=1e-3, stability=0.4)
        points, runs = saddle_runs(settings, (7,))
        assert [(p.saddle, p.kind, p.index) for p in points] == [
            ("1000", "idle", 6),
            ("1100", "idle", 2),
            ("1101", "active", 1),
            ("1011", "active", 2),
        ]
        assert all(p.eigenvalue_error < 1e-12 for p in points)
        assert len(runs) == 4 * 9
        times = {(r.saddle, r.start, r.arm): r.escaped for r in runs}
        assert times["1100", "exact", "sgd"] is None and times["1000", "exact", "gd"] is None
        data, offset = problem(settings, 7)
        saddle = linear.saddle(data, chosen("1100"), HIDDEN)
        assert points[1].expected_projected == pytest.approx(
            expected_steps((saddle.fastest.mT @ offset).norm().item(), points[1].rate, data.values[2]), rel=1e-6
        )
        assert points[1].rate * points[1].sharpness == pytest.approx(0.4)

    def test_arms_differ_in_noise_and_in_what_is_taken_out_of_it(self):
        settings = Saddles()
        data, offset = problem(settings, 7)
        saddle = linear.saddle(data, chosen("1011"), HIDDEN)
        found = saddle_escape.described(settings, 7, "1011", data, saddle, offset)
        walks = {arm: saddle_escape.walk(found, data, saddle, saddle.point, arm) for arm in saddle_escape.ARMS}
        assert [walks[arm].noise for arm in ("gd", "sgd", "isotropic")] == ["none", "minibatch", "isotropic"]
        probe = anywhere(5)
        for noise in ("sgd", "isotropic"):
            assert torch.equal(walks[noise].projection, torch.eye(24, dtype=torch.float64))
            off = probe @ walks[f"{noise}_directions"].projection
            assert (off @ saddle.negative).abs().max() < 1e-12
            torch.testing.assert_close(
                off.norm(dim=1) ** 2, probe.norm(dim=1) ** 2 - (probe @ saddle.negative).norm(dim=1) ** 2
            )
            assert torch.equal(walks[f"{noise}_modes"].projection, saddle.inside)
            # as many coordinates as weights: the trace is that of the minibatches
            assert 24 * walks[noise].deviation ** 2 == pytest.approx(noise_variance(saddle, data, 16, HIDDEN)[0])
        assert found.steps == int(1.8 * found.expected) + 1

    def test_settings_refuse_what_is_no_saddle_of_its_kind(self):
        for wrong in ({"idle": ("1110",)}, {"active": ("0100",)}, {"idle": ("100",)}, {"values": (1.0, 2.0, 0.5, 0.2)}):
            with pytest.raises(ValueError):
                Saddles(**wrong)
        with pytest.raises(ValueError, match="one length"):
            Scratch(steps=3, rates={"small": (0.1, 0.2, 0.3), "full": (0.1, 0.2, 0.3), "noise": (0.1, 0.2, 0.3, 0.4)})


def small_problem():
    network, params = stack(lambda: Mlp(classes=3, inputs=4, widths=(5,), skip=False), [1, 2])
    generator = torch.Generator().manual_seed(0)
    split = Arrays(torch.randn(12, 4, generator=generator), torch.arange(12) % 3)
    loss = lambda params, x, y: cross_entropy(network(params, x), y).mean(1)  # noqa: E731
    every = lambda params: loss(params, split.x.expand(2, 12, 4), split.y.expand(2, 12))  # noqa: E731
    return network, params, split, loss, every


class TestMatchedNoise:
    def test_noise_is_as_long_as_the_minibatch_deviation_and_random_in_direction(self):
        _, params, split, loss, every = small_problem()
        strategy = MatchedNoise(split, loss, 4)
        losses, full = strategy.gradients(params, every)
        torch.testing.assert_close(losses, every(params).detach())
        for step in (0, 5):
            noisy = flatten(strategy.before_step(full, [3, 4], step)) - flatten(full)
            x, y = split.batch([3, 4], step, 4)
            deviation = flatten(value_and_gradient(params, lambda p, x=x, y=y: loss(p, x, y))[1]) - flatten(full)
            torch.testing.assert_close(noisy.norm(dim=1), deviation.norm(dim=1))
            assert (torch.cosine_similarity(noisy, deviation).abs() < 0.6).all()

    def test_full_batches_have_no_deviation_and_get_no_noise(self):
        _, params, split, loss, every = small_problem()
        strategy = MatchedNoise(split, loss, 12)
        full = strategy.gradients(params, every)[1]
        noisy = flatten(strategy.before_step(full, [3, 4], 0))
        torch.testing.assert_close(noisy, flatten(full), atol=1e-6, rtol=0)

    def test_directions_are_standard_normal_and_depend_on_seed_and_step_alone(self):
        like = {"a": torch.zeros(2, 4000), "b": torch.zeros(2, 10, 100)}
        drawn = flatten(isotropic(like, [1, 2], 3))
        assert drawn.mean().abs() < 0.03 and abs(drawn.std() - 1) < 0.03
        alone = flatten(isotropic({name: value[:1] for name, value in like.items()}, [2], 3))
        assert torch.equal(drawn[1], alone[0])
        assert not torch.equal(flatten(isotropic(like, [1, 2], 4)), drawn)


class TestNearestCrossing:
    @staticmethod
    def objective_and_cohort(losses):
        """A run whose one weight is the number of updates, and an objective that reads the planted losses there."""
        params = {"w": torch.zeros(len(losses), 1)}
        cohort = train.Cohort(
            loss=lambda params, x, y: -params["w"][:, 0],
            batch=lambda order, step: (torch.zeros(()), torch.zeros(())),
            rates=torch.ones(len(losses[0]) - 1, len(losses), dtype=torch.float64),
            order=lambda step: [0] * len(losses),
            optimizer=Sgd(),
            strategy=Strategy(),
        )
        planted = torch.tensor(losses)

        class Planted:
            @staticmethod
            def losses(params):
                return planted.gather(1, params["w"].long())[:, 0]

        return cohort, params, Planted()

    def test_the_nearer_of_the_two_looks_is_taken(self):
        losses = [[3.0, 2.0, 1.1, 0.5, 0.9], [3.0, 2.0, 1.5, 0.9, 0.1], [3.0, 2.9, 2.8, 2.7, 2.6]]
        cohort, params, objective = self.objective_and_cohort(losses)
        state, found = nearest_crossing(cohort, params, objective, 1.0, 1)
        assert found.steps.tolist() == [2, 3, -1] and found.met.tolist() == [True, True, False]
        assert found.params["w"][:2, 0].tolist() == [2.0, 3.0]
        torch.testing.assert_close(found.losses[:2], torch.tensor([1.1, 0.9]))
        assert state.step == 4

    def test_only_every_stride_is_looked_at_and_a_start_below_counts(self):
        cohort, params, objective = self.objective_and_cohort([[3.0, 0.9, 2.0, 1.5, 0.2], [0.5, 3.0, 3.0, 3.0, 3.0]])
        _, found = nearest_crossing(cohort, params, objective, 1.0, 2)
        assert found.steps.tolist() == [2, 0]  # ln 2 is less than ln 5


@pytest.mark.skipif(not (FOLDER / "mnist1d.npz").exists(), reason="data/mnist1d.npz is not there")
class TestContinuation:
    def test_arms_go_on_from_the_start_and_differ_as_their_names_say(self):
        settings = config.read(FOLDER.parent / "profiles/smoke/params.yaml")
        found = sharp_escape.continued(settings, "squared_error", "true", (5, 6))
        frame = pd.DataFrame([vars(row) for row in found])
        start = frame[frame["at"] == "start"].set_index("seed")
        assert (start.distance == 0).all() and (start.barrier == 0).all()
        ends = frame[frame["at"] == "end"].pivot(index="seed", columns="arm", values="train_loss")
        assert not np.isclose(ends.small, ends.small_twin).any() and not np.isclose(ends.full, ends.noise).any()
        # the oracle: torch's own optimiser from initial weights, full batches, first at one rate and then at another
        bed = sharp_escape.noise_bed(settings, "squared_error")
        how = settings.factors.sgd_noise.continuations["squared_error"]
        x, y = bed.data.train.examples()
        for arm, rate in (("full", how.new_rate), ("full_old", how.rate)):
            torch.manual_seed(6)
            model = bed.build()
            for steps, lr in ((how.before, how.rate), (how.after, rate)):
                optimizer = torch.optim.SGD(model.parameters(), lr=lr)
                for _ in range(steps):
                    optimizer.zero_grad()
                    loss = bed.loss(model(x)[None], y[None]).mean()
                    loss.backward()
                    optimizer.step()
            assert bed.loss(model(x)[None], y[None]).mean().item() == pytest.approx(ends[arm][6], rel=1e-3)

    def test_curvature_is_the_dense_hessians(self):
        settings = config.read(FOLDER.parent / "profiles/smoke/params.yaml")
        bed = sharp_escape.noise_bed(settings, "cross_entropy")
        network, params = stack(bed.build, [3])
        study = settings.factors.sgd_noise.model_copy(update={"lanczos": Lanczos(iterations=40, tolerance=1e-4)})
        factors = settings.factors.model_copy(update={"sgd_noise": study})
        scorer = sharp_escape.Scorer(settings.model_copy(update={"factors": factors}), bed, network, params)
        ((*_, value, _, height, length),) = scorer.measured(params, [0], False)
        x, y = bed.data.train.examples()
        objective = Objective(network, bed.loss, shared(x, y))
        flat = flatten(params)[0]

        def loss(point):
            shapes = [(name, part[0].shape) for name, part in params.items()]
            parts = point.split([math.prod(shape) for _, shape in shapes])
            weights = {name: part.view(shape) for (name, shape), part in zip(shapes, parts, strict=True)}
            return bed.loss(torch.func.functional_call(network.module, weights, (x,))[None], y[None]).mean()

        assert objective.losses(params).item() == pytest.approx(loss(flat).item(), rel=1e-5)
        top = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))[-1].item()
        assert value == pytest.approx(top, rel=2e-3) and (height, length) == (0.0, 0.0)

    def test_the_bed_is_the_settings_one(self):
        settings = config.read(FOLDER.parent / "profiles/smoke/params.yaml")
        bed = sharp_escape.noise_bed(settings, "cross_entropy", "shuffled")
        true = sharp_escape.noise_bed(settings, "cross_entropy")
        assert len(true.data.train) == 40 and len(bed_of(settings, "mlp").data.train) == 4000
        assert torch.equal(bed.data.train.x, true.data.train.x)
        assert not torch.equal(bed.data.train.y, true.data.train.y)
        assert torch.equal(bed.data.train.y.sort()[0], true.data.train.y.sort()[0])


SEEDS = range(4)
TIMES = {  # updates as a share of the theory's, per kind
    "gd": (1.05, 1.02),
    "sgd": (0.2, 1.02),
    "sgd_directions": (0.5, 1.02),
    "sgd_modes": (1.05, 1.02),
    "isotropic": (0.25, 0.2),
    "isotropic_directions": (0.4, 0.3),
    "isotropic_modes": (1.05, 1.02),
}
LAMBDA = {"small": 2.0, "small_twin": 2.2, "large": 3.0, "full": 5.0, "full_old": 9.0, "noise": 4.0}
ERROR = {"small": 0.60, "small_twin": 0.605, "large": 0.62, "full": 0.63, "full_old": 0.65, "noise": 0.62}


@cache
def planted() -> Frames:
    """Records whose contrasts are known; every seed shifts all arms alike."""
    saddles, runs, continued, scratch = [], [], [], []
    for seed in SEEDS:
        for kind, names in (("idle", IDLE), ("active", ACTIVE)):
            for name in names:
                heard = (0.0, 0.0) if kind == "idle" else (0.05, 0.0)
                saddles.append(
                    rows.SaddlePoint(seed, name, kind, 2, 0.5, 2.0, 1e-15, 1.0, *heard, 0.05, 1800, 1000.0, 1050.0)
                )
                for arm, share in TIMES.items():
                    time = round(1000 * share[kind == "idle"])
                    runs.append(rows.SaddleRun(seed, name, "displaced", arm, time, 0.0))
                runs.append(rows.SaddleRun(seed, name, "exact", "gd", None, 0.0))
                runs.append(rows.SaddleRun(seed, name, "exact", "sgd", 200 if kind == "active" else None, 0.0))
        for loss in ("cross_entropy", "squared_error"):
            for labels in ("true", "shuffled"):
                key = (loss, labels)
                start = (0.2, 400, 0, 0.3, 0.02, 0.65, 9.0, 0.01, 0.0, 0.0, 1)
                continued.append(rows.ContinuedRun(*key, "start", seed, "start", *start))
                for arm in LAMBDA:
                    test = ERROR[arm] + seed / 100 if labels == "true" else 0.9
                    top = LAMBDA[arm] * (1 + seed)
                    height = {"small": 0.3, "small_twin": 0.28}.get(arm, 0.05)
                    level = (0.3, 16, 90, 0.1, 0.01, None, 2 * top, 0.01, 0.0, 1.0, None)
                    end = (0.3, 16, 500, 0.01, 0.0, test, top, 0.02, height, 3.0, None)
                    continued.append(rows.ContinuedRun(*key, arm, seed, "level", *level))
                    continued.append(rows.ContinuedRun(*key, arm, seed, "end", *end))
        for arm, error in (("small", 0.60), ("full", 0.63), ("noise", 0.62)):
            scratch.append(rows.ScratchRun(arm, "true", "own", seed, 0.1, 10, None, 0.01, 0.0, error + seed / 100, 1))
            scratch.append(rows.ScratchRun(arm, "shuffled", "own", seed, 0.1, 10, None, 0.01, 0.0, 0.9, 1))
        scratch.append(rows.ScratchRun("small", "true", "other", seed, 0.1, 10, None, 0.01, 0.0, 0.604 + seed / 100, 1))
    tuned = [TunedArm("mlp", arm, "validation_error", 0.3, 1, 10) for arm in ("full", "noise", "small")]
    trials = [
        TuningTrial("mlp", arm, 1000, rate, None, 0.1, 2.0, 0.6 + abs(math.log(rate / 0.3)) / 10)
        for arm in ("full", "noise", "small")
        for rate in (0.1, 0.3, 0.9)
    ]
    kinds = (rows.SaddlePoint, rows.SaddleRun, rows.ContinuedRun, rows.ScratchRun, TuningTrial, TunedArm)
    parts = (saddles, runs, continued, scratch, trials, tuned)
    return Frames(*(frame_of(kind, part) for kind, part in zip(kinds, parts, strict=True)))


def frame_of(kind: type, part: list) -> pd.DataFrame:
    """The rows as they are read from a file: types by column."""
    empty = records.empty(kind)
    return pd.DataFrame([vars(row) for row in part], columns=empty.columns).astype(empty.dtypes)


def changed(frames: Frames, name: str, where: dict, **values) -> Frames:
    frame = getattr(frames, name).copy()
    rows_ = np.logical_and.reduce([frame[column] == value for column, value in where.items()])
    assert rows_.any()
    for column, value in values.items():
        frame.loc[rows_, column] = value
    return replace(frames, **{name: frame})


def found_in(frames: Frames, claim: str) -> contrasts.Contrast:
    about = contrasts.about_accuracy(frames)
    if claim.startswith("saddle"):
        about = contrasts.about_saddles(frames, claim.rpartition(".")[2])
    elif claim.startswith("sharp"):
        about = contrasts.about_sharpness(frames, claim.rpartition(".")[2])
    return next(one for one in about if one.claim == f"sgd_noise.{claim}")


def of(frames: Frames, claim: str, role: str = "claim") -> list[float]:
    one = found_in(frames, claim)
    return (one.values if role == "claim" else one.controls[role]).dropna().tolist()


def gates_of(frames: Frames, claim: str) -> dict[str, float]:
    return dict(found_in(frames, claim).gates)


class TestContrasts:
    @pytest.mark.parametrize(
        ("claim", "expected"),
        [
            ("saddle_sgd.active", math.log(1.05 / 0.2)),
            ("saddle_sgd.idle", 0.0),
            ("saddle_isotropic.active", math.log(1.05 / 0.25)),
            ("saddle_isotropic.idle", math.log(1.02 / 0.2)),
            ("saddle_isotropic_directions.idle", math.log(1.02 / 0.3)),
            ("saddle_isotropic_modes.active", 0.0),
            ("saddle_sgd_directions.active", math.log(1.05 / 0.5)),
            ("saddle_sgd_modes.active", 0.0),
            ("saddle_exact.active", 1.0),
            ("saddle_exact.idle", 0.0),
            ("saddle_theory.active", 0.05),
            ("saddle_theory_projected.idle", 1020 / 1050 - 1),
            ("sharp_lambda.cross_entropy", math.log(5 / 2)),
            ("sharp_lambda_matched.squared_error", math.log(5 / 2)),
            ("sharp_lambda_large.cross_entropy", math.log(5 / 3)),
            ("sharp_lambda_noise_matched.cross_entropy", math.log(5 / 4)),
            ("sharp_barrier.cross_entropy", 0.3),
            ("sharp_barrier_noise.squared_error", 0.25),
            ("continued_accuracy.cross_entropy", 0.03),
            ("continued_accuracy_old.cross_entropy", 0.05),
            ("continued_accuracy_noise.cross_entropy", 0.01),
            ("scratch_accuracy.cross_entropy", 0.03),
            ("scratch_accuracy_noise.cross_entropy", 0.01),
            ("scratch_accuracy_direction.cross_entropy", 0.02),
        ],
    )
    def test_planted_numbers_come_out_with_the_text_on_the_positive_side(self, claim, expected):
        assert of(planted(), claim) == pytest.approx([expected] * 4)

    def test_controls_are_between_twins_and_on_shuffled_labels(self):
        frames = planted()
        assert of(frames, "sharp_lambda.cross_entropy", "same_arm") == pytest.approx([math.log(2.2 / 2.0)] * 4)
        assert of(frames, "sharp_barrier_noise.cross_entropy", "same_arm") == pytest.approx([0.02] * 4)
        assert of(frames, "continued_accuracy.cross_entropy", "same_arm") == pytest.approx([0.005] * 4)
        assert of(frames, "continued_accuracy_old.cross_entropy", "shuffled_labels") == pytest.approx([0.0] * 4)
        assert of(frames, "scratch_accuracy.cross_entropy", "same_arm") == pytest.approx([0.004] * 4)
        assert of(frames, "scratch_accuracy_noise.cross_entropy", "shuffled_labels") == pytest.approx([0.0] * 4)
        worse = changed(frames, "scratch", {"labels": "shuffled", "arm": "full"}, test_error=0.95)
        assert of(worse, "scratch_accuracy.cross_entropy", "shuffled_labels") == pytest.approx([0.05] * 4)
        assert of(worse, "scratch_accuracy.cross_entropy") == pytest.approx([0.03] * 4)

    def test_a_run_that_stays_counts_with_its_length_and_fails_the_gate_if_it_is_gradient_descents(self):
        stays = {"seed": 1, "saddle": "1011", "start": "displaced"}
        slow = changed(planted(), "saddle_runs", stays | {"arm": "sgd"}, escaped=pd.NA)
        values = of(slow, "saddle_sgd.active")
        assert values[1] == pytest.approx((math.log(1.05 / 0.2) + math.log(1050 / 1800)) / 2)
        assert gates_of(slow, "saddle_sgd.active")["sgd_noise_left"] == 1
        never = changed(planted(), "saddle_runs", stays | {"arm": "gd"}, escaped=pd.NA)
        assert gates_of(never, "saddle_sgd.active")["sgd_noise_left"] == 7 / 8
        assert gates_of(never, "saddle_sgd.idle")["sgd_noise_left"] == 1

    def test_gates_of_saddles_look_at_their_own_kind(self):
        good = planted()
        assert gates_of(good, "saddle_theory.active") == {
            "sgd_noise_catalogue": 1e-15,
            "sgd_noise_left": 1.0,
            "sgd_noise_heard": 0.05,
        }
        loud = changed(good, "saddles", {"saddle": "1100", "seed": 2}, idle_gradient=1e-3)
        assert gates_of(loud, "saddle_sgd.idle")["sgd_noise_silent"] == 1e-3
        assert gates_of(good, "saddle_sgd.idle")["sgd_noise_silent"] == 0
        quiet = changed(good, "saddles", {"saddle": "1011", "seed": 2}, noise_escaping=0.001)
        assert gates_of(quiet, "saddle_sgd.active")["sgd_noise_heard"] == 0.001
        wrong = changed(good, "saddles", {"saddle": "1000", "seed": 0}, eigenvalue_error=0.1)
        assert gates_of(wrong, "saddle_sgd.idle")["sgd_noise_catalogue"] == 0.1

    def test_gates_of_sharp_solutions(self):
        good = gates_of(planted(), "sharp_lambda_matched.cross_entropy")
        assert good == pytest.approx({"trained": 1, "sgd_noise_sharp": 0.9, "residual": 0.01, "matched_loss": 0})
        here = {"loss": "cross_entropy", "labels": "true", "seed": 3}
        off = changed(planted(), "continued", here | {"arm": "small", "at": "level"}, train_loss=0.2)
        assert gates_of(off, "sharp_lambda_matched.cross_entropy")["matched_loss"] == pytest.approx(math.log(2) / 4)
        assert gates_of(off, "sharp_lambda_large_matched.cross_entropy")["matched_loss"] == pytest.approx(0)
        unsolved = changed(planted(), "continued", here | {"arm": "start"}, solved=0)
        assert gates_of(unsolved, "continued_accuracy.cross_entropy")["trained"] == 0.75
        assert gates_of(unsolved, "sharp_barrier.squared_error")["trained"] == 1
        loose = changed(planted(), "continued", here | {"arm": "full", "at": "end"}, residual=0.2)
        assert gates_of(loose, "sharp_lambda_noise.cross_entropy")["residual"] == 0.2
        assert gates_of(loose, "sharp_lambda_noise_matched.cross_entropy")["residual"] == 0.01

    def test_gates_from_scratch(self):
        assert gates_of(planted(), "scratch_accuracy.cross_entropy") == {
            "rate_interior": 1.0,
            "equal_tuning": 1.0,
            "trained": 1.0,
        }
        edge = changed(planted(), "tuned", {"arm": "noise"}, interior=0)
        assert gates_of(edge, "scratch_accuracy_noise.cross_entropy")["rate_interior"] == 0
        assert gates_of(edge, "scratch_accuracy.cross_entropy")["rate_interior"] == 1
        unfitted = changed(planted(), "scratch", {"arm": "small", "labels": "true", "draw": "own", "seed": 0}, fitted=0)
        assert gates_of(unfitted, "scratch_accuracy.cross_entropy")["trained"] == 7 / 8

    def test_runs_without_numbers_leave_their_seed_out(self):
        here = {"loss": "cross_entropy", "labels": "true", "seed": 2, "arm": "small"}
        unmet = changed(planted(), "continued", here | {"at": "level"}, sharpness=np.nan, train_loss=np.nan)
        assert len(of(unmet, "sharp_lambda_matched.cross_entropy")) == 3
        negative = changed(planted(), "continued", here | {"at": "end"}, sharpness=-1.0)
        assert len(of(negative, "sharp_lambda.cross_entropy")) == 3
        diverged = changed(planted(), "scratch", {"arm": "full", "labels": "true", "seed": 1}, test_error=np.nan)
        assert len(of(diverged, "scratch_accuracy.cross_entropy")) == 3

    def test_effects_and_gates_are_those_of_the_contrasts(self):
        frames, every = planted(), list(contrasts.contrasts(planted()))
        assert len(every) == 38 and len({one.claim for one in every}) == 38
        written = {(e.claim, e.role): [] for e in contrasts.effects(frames)}
        assert set(written) == {(c.claim, role) for c in every for role in ("claim", *c.controls)}
        assert [e.value for e in contrasts.effects(frames)][:4] == pytest.approx([math.log(1.05 / 0.2)] * 4)
        assert len(contrasts.gates(frames)) == sum(len(one.gates) for one in every)

    def test_findings_have_unique_names_and_planted_means(self):
        found = contrasts.findings(planted())
        assert len({(one.model, one.quantity) for one in found}) == len(found)
        assert {one.table for one in found} == {"factors"}
        (rate,) = [one for one in found if one.quantity.endswith("full batches, cross_entropy, end")]
        assert rate.mean == pytest.approx(math.log(9 / 5)) and rate.n == 4


class TestDrawings:
    def test_figures_say_what_is_shown(self):
        frames = planted()
        for draw in (drawings.escapes, drawings.sharpness, drawings.barriers):
            figure = draw(frames)
            assert "seeds" in figure.get_suptitle() and len(figure.axes) == 2

    def test_a_run_that_stayed_is_a_cross(self):
        stays = {"seed": 1, "saddle": "1011", "start": "displaced", "arm": "sgd"}
        panel = drawings.escapes(changed(planted(), "saddle_runs", stays, escaped=pd.NA)).axes[0]
        crosses = [line for line in panel.lines if line.get_marker() == "x" and len(line.get_xdata())]
        assert [list(line.get_xdata()) for line in crosses] == [[1.8]]

    def test_means_are_where_they_were_planted(self):
        panel = drawings.sharpness(planted()).axes[0]
        (small,) = [line for line in panel.lines if line.get_label() == "Small batch"]
        assert small.get_ydata()[-1] == pytest.approx(2.0 * (24 ** (1 / 4)))
        assert small.get_xdata().tolist() == pytest.approx([0.3, 0.1, 0.01])

    def test_gains_are_in_points(self):
        values = readers.scratch_accuracy(planted(), "small", "full")
        panel = drawings.gains({"True labels": {"small - full": values}}).axes[0]
        means = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "D"]
        assert means == pytest.approx([3.0])
