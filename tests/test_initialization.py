"""Signals through random networks against closed forms, gains in one cohort, and every contrast on planted records."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from nonconvex import config, records
from nonconvex.contrasts import initialization as contrasts
from nonconvex.data.splits import FOLDER
from nonconvex.drawings import initialization as drawings
from nonconvex.losses import cross_entropy
from nonconvex.measure.propagation import drawn, scaled, signals
from nonconvex.models.mlp import Mlp
from nonconvex.models.normalised_mlp import NormalisedMlp
from nonconvex.models.stacked import select, stack
from nonconvex.observations import initialization as rows
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.studies import gains
from nonconvex.studies import initialization as study
from nonconvex.study_settings.initialization import GAINS

SMOKE = FOLDER.parent / "profiles" / "smoke" / "params.yaml"
TYPES = {
    "arms": rows.Arm,
    "tuning": TuningTrial,
    "tuned": TunedArm,
    "runs": rows.Run,
    "signals": rows.Signal,
    "gradients": rows.Gradient,
    "curvature": rows.Curvature,
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(direction):
    return lambda logits: (direction * logits).sum(-1)


class TestPropagation:
    """The oracle for values is torch's own modules; for means over networks, He's and Hanin's closed forms."""

    def network(self):
        params = drawn(2, (5, 4, 4, 4, 3), 1.3, generator())
        params = {name: value.double() for name, value in params.items()}
        params["hidden.1.bias"] += 0.3
        x = torch.randn(6, 5, generator=generator(1), dtype=torch.float64)
        return params, x

    def by_hand(self, params, x, y, e):
        """Activations with gradients of one member, through nn.Linear layers."""
        h, states, layers = x, [], []
        for name in ("hidden.0", "hidden.1", "hidden.2", "head"):
            weight = params[f"{name}.weight"][e]
            layer = nn.Linear(*weight.shape[::-1], dtype=torch.float64)
            layer.weight.data, layer.bias.data = weight.clone(), params[f"{name}.bias"][e].clone()
            layers.append(layer)
            h = layer(h) if name == "head" else torch.relu(layer(h))
            h.retain_grad()
            states.append(h)
        nn.functional.cross_entropy(h, y, reduction="sum").backward()
        return states[:-1], layers[:-1]

    def test_squares_are_those_of_the_module_layer_by_layer(self):
        params, x = self.network()
        y = torch.tensor([0, 1, 2, 0, 1, 2])
        found = signals(params, x, torch.relu, lambda z: cross_entropy(z, y.expand(2, 6)))
        assert found.forward.shape == found.backward.shape == (2, 3, 6) and found.weights.shape == (2, 3)
        for e in range(2):
            states, layers = self.by_hand(params, x, y, e)
            for layer, (state, module) in enumerate(zip(states, layers, strict=True)):
                torch.testing.assert_close(found.forward[e, layer], state.detach().square().mean(1))
                torch.testing.assert_close(found.backward[e, layer], state.grad.square().mean(1))
                torch.testing.assert_close(found.weights[e, layer], module.weight.grad.square().sum())

    @pytest.mark.parametrize("gain", [0.7, math.sqrt(2), 2.0])
    def test_the_mean_over_networks_grows_by_half_the_squared_gain_at_any_width(self, gain):
        """Width 6, four layers, 25,000 networks: an error of the mean of about 1.5 %, an order of magnitude below
        what taking the mean of ln, or the gain instead of its square, would change."""
        count, sizes = 25_000, (3, 6, 6, 6, 6, 2)
        source = generator(3)
        params, x = drawn(count, sizes, gain, source), torch.tensor([[1.0, -2.0, 0.5]])
        found = signals(params, x, torch.relu, linear(torch.randn(count, 1, 2, generator=source)))
        forward, backward = found.forward.mean((0, 2)), found.backward.mean((0, 2))
        factor = gain**2 / 2
        # the first layer: E relu(z)² = g² ‖x‖² / (2 fan-in); the last: E (∂φ/∂h)² = 2 classes of variance g² / 6
        expected = [factor * x.square().mean().item() * factor**k for k in range(4)]
        assert forward.tolist() == pytest.approx(expected, rel=0.06)
        assert backward.flip(0).tolist() == pytest.approx([2 * gain**2 / 6 * factor**k for k in range(4)], rel=0.06)

    def test_the_typical_logarithm_drifts_by_five_over_twice_the_width(self):
        """To leading order in 1/width; at width 50 the next order is below a tenth of it."""
        params = drawn(1500, (50, *[50] * 6, 2), math.sqrt(2), generator(4))
        found = signals(params, torch.randn(1, 50, generator=generator(5)), torch.relu, linear(torch.ones(2)))
        ln = found.forward.log().mean((0, 2))
        assert ((ln[-1] - ln[0]) / 5).item() == pytest.approx(-5 / 100, abs=0.006)

    def test_tanh_follows_the_map_of_wide_networks(self):
        """q' = E tanh(√(g² q) z)², by Gauss-Hermite quadrature (Poole et al. 2016); backwards g² E tanh'²."""
        points, weights = np.polynomial.hermite_e.hermegauss(60)
        mean = lambda values: float(values @ weights / weights.sum())  # noqa: E731
        x = torch.randn(1, 300, generator=generator(6))
        variances, q = [], x.square().mean().item()
        for _ in range(4):
            variances.append(q)
            q = mean(np.tanh(np.sqrt(q) * points) ** 2)
        found = signals(drawn(20, (300, *[300] * 4, 10), 1.0, generator(7)), x, torch.tanh, linear(torch.ones(10)))
        ends = [*variances[1:], q]
        assert found.forward.mean((0, 2)).tolist() == pytest.approx(ends, rel=0.03)
        slopes = [mean((1 - np.tanh(np.sqrt(v) * points) ** 2) ** 2) for v in variances[1:]]
        ratios = found.backward.mean((0, 2))
        assert (ratios[:-1] / ratios[1:]).tolist() == pytest.approx(slopes, rel=0.05)

    def test_scaled_weights_are_those_that_the_gain_itself_draws(self):
        build = lambda gain: lambda: Mlp(classes=3, inputs=5, widths=(4, 4), skip=False, gain=gain)  # noqa: E731
        _, unit = stack(build(1.0), [3, 4])
        found = scaled(unit, torch.tensor([0.35, 4.0]))
        for e, gain in enumerate((0.35, 4.0)):
            _, own = stack(build(gain), [3 + e])
            for name, value in own.items():
                torch.testing.assert_close(found[name][e : e + 1], value)
        assert unit["head.weight"].std() < 1  # the draw itself is left alone

    def test_scaling_leaves_norms_and_biases_alone(self):
        _, params = stack(lambda: NormalisedMlp(classes=3, inputs=5, widths=(4, 4), skip=False, gain=1.0), [0])
        found = scaled(params, torch.tensor([4.0]))
        changed = {name for name, value in params.items() if not torch.equal(value, found[name])}
        assert changed == {"hidden.0.weight", "hidden.1.weight", "head.weight"}


class TestNormalisedMlp:
    def test_equals_torchs_modules_in_training_and_evaluation(self):
        network, params = stack(lambda: NormalisedMlp(classes=3, inputs=5, widths=(4, 6), skip=False), [1])
        one = {name: value[0] for name, value in params.items()}
        blocks = [(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU()), (nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())]
        torchs = nn.Sequential(*blocks[0], *blocks[1], nn.Linear(6, 3))
        names = [f"{kind}.{i}.{part}" for i in (0, 1) for kind in ("hidden", "norms") for part in ("weight", "bias")]
        names += ["head.weight", "head.bias"]
        own = dict(zip(dict(torchs.named_parameters()), [one[name] for name in names], strict=True))
        torchs.load_state_dict({**torchs.state_dict(), **own})
        x = torch.randn(7, 5, generator=generator())
        for norm in (torchs[1], torchs[4]):
            norm.momentum = 1.0
        torch.testing.assert_close(network(params, x[None])[0], torchs(x))
        statistics = network.statistics(params, [x[None]])
        for i, norm in enumerate((torchs[1], torchs[4])):
            norm.running_var *= 6 / 7  # torch keeps the unbiased one
            torch.testing.assert_close(statistics[f"norms.{i}.mean"][0], norm.running_mean)
        torch.testing.assert_close(network(params, x[None], statistics)[0], torchs.eval()(x))

    def test_the_scale_of_hidden_weights_drops_out(self):
        network, params = stack(lambda: NormalisedMlp(classes=3, inputs=5, widths=(8, 8), skip=False), [1])
        hidden = {name: value * (5 if "hidden" in name else 1) for name, value in params.items()}
        x = torch.randn(1, 50, 5, generator=generator())
        torch.testing.assert_close(network(params, x), network(hidden, x), rtol=1e-3, atol=1e-3)

    def test_draws_the_weights_of_the_network_without_norm(self):
        _, plain = stack(lambda: Mlp(widths=(6, 6), skip=False), [2])
        _, normed = stack(lambda: NormalisedMlp(widths=(6, 6), skip=False), [2])
        assert all(torch.equal(value, normed[name]) for name, value in plain.items())

    def test_skips_are_refused(self):
        with pytest.raises(ValueError, match="skip"):
            NormalisedMlp(widths=(6, 6), skip=True)


@pytest.fixture(scope="module")
def settings():
    read = config.read(SMOKE)
    return read.model_copy(update={"compute": read.compute.model_copy(update={"workers": 1})})


def with_study(settings, **changes):
    s = settings.factors.initialization.model_copy(update=changes)
    return settings.model_copy(update={"factors": settings.factors.model_copy(update={"initialization": s})})


@pytest.fixture(scope="module")
def observed(settings):
    return study.observe(settings)


class TestSettings:
    def values(self, settings) -> dict:
        return settings.factors.initialization.model_dump()

    def built(self, values: dict):
        return type(config.read(SMOKE).factors.initialization)(**values)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda v: v["families"]["deep"]["lowest"].pop("large"), "families.deep.lowest must hold large"),
            (lambda v: v["families"].pop("tanh"), "families.tanh.lowest must hold"),
            (lambda v: v["families"]["middle"].update(depth=9), "must rise in depth"),
            (lambda v: v["families"]["normalised"].update(depth=3), "as deep as deep"),
            (lambda v: v.update(factor=4.0), "factor"),
            (lambda v: v.update(trials=2), "trials"),
        ],
    )
    def test_what_cannot_be_compared_is_refused(self, settings, change, message):
        values = self.values(settings)
        self.built(values)
        change(values)
        with pytest.raises(ValueError, match=message):
            self.built(values)

    def test_grids_rise_by_the_factor_from_the_lowest_rate(self, settings):
        made = with_study(settings, trials=5).factors.initialization.grid("deep", "he")
        assert made == pytest.approx([0.01 * 10 ** (k / 2) for k in range(5)], rel=0.01)


class TestStudy:
    def test_a_run_is_the_same_whatever_gains_share_its_cohort(self, settings):
        runs = [gains.Run("deep", gain, "tuned", seed, 0.05) for gain in ("tiny", "he", "large") for seed in (7, 8)]
        together, alone = gains.trained(settings, runs), gains.trained(settings, runs[2:3])
        assert alone[0].train_loss == pytest.approx(together[2].train_loss, rel=1e-4)
        assert len({outcome.train_loss for outcome in together}) == 6

    def test_runs_start_from_their_gain_and_seed(self, settings):
        """The initial loss is that of torch's own forward pass from weights drawn at the gain itself."""
        bed = gains.family_bed(settings, "tanh")
        (outcome,) = gains.trained(settings, [gains.Run("tanh", "huge", "twin", 3, 1e-9)])
        widths = bed.training.architecture["widths"]
        build = lambda: Mlp(classes=10, widths=widths, skip=False, activation="tanh", gain=4.0)  # noqa: E731
        network, params = stack(build, [3 + gains.TWIN])
        x, y = bed.data.train.examples(min(gains.SCORED, len(bed.data.train)))
        expected = nn.functional.cross_entropy(network(params, x[None])[0], y).item()
        assert outcome.initial_loss == pytest.approx(expected, rel=1e-4)
        assert outcome.train_loss == pytest.approx(expected, rel=0.05)

    def test_outcomes_come_in_the_order_of_the_runs(self, settings):
        runs = [gains.Run(f, "he", "tuned", seed, 0.01) for seed in (1, 2, 3) for f in ("shallow", "deep")]
        found = gains.outcomes(with_study(settings, cohort=2), runs)
        assert [outcome.run for outcome in found] == runs

    def test_cohorts_hold_one_family_and_are_of_nearly_equal_size(self):
        runs = [gains.Run(f, "he", "tuned", seed, 0.01) for f in ("shallow", "deep") for seed in range(7)]
        parts = list(gains.in_cohorts(runs, 3))
        assert all(len({run.family for run in part}) == 1 for part in parts)
        assert sorted(map(len, parts)) == [2, 2, 2, 2, 3, 3]
        assert {run for part in parts for run in part} == set(runs)

    def test_a_diverged_run_has_its_step_and_no_loss(self, settings):
        (outcome,) = gains.trained(settings, [gains.Run("deep", "huge", "tuned", 3, 1e12)])
        assert outcome.diverged_step is not None
        assert study.record(outcome).train_loss is None and gains.trial(outcome).train_loss is None

    def test_every_arm_is_tuned_on_tuning_seeds_with_equal_trials(self, settings, observed):
        s = settings.factors.initialization
        assert {trial.seed for trial in observed["tuning"]} == set(s.tuning)
        assert {arm.trials for arm in observed["tuned"]} == {s.trials * len(s.tuning)}
        assert {arm.criterion for arm in observed["tuned"]} == {"train_loss"}
        assert {arm.arm for arm in observed["tuned"]} == {arm.arm for arm in observed["arms"]}

    def test_phases_have_their_seeds_and_rates(self, settings, observed):
        s, rate = settings.factors.initialization, {arm.arm: arm.rate for arm in observed["tuned"]}
        runs = observed["runs"]
        assert {(r.arm, r.seed) for r in runs if r.phase == "tuned"} == set(product(rate, s.seeds))
        assert all(r.rate == rate[r.arm] for r in runs if r.phase != "fixed")
        fixed = [r for r in runs if r.phase == "fixed"]
        assert {r.rate for r in fixed} == {rate["shallow_he"]}
        assert {r.arm for r in fixed} == {f"shallow_{gain}" for gain in GAINS if gain != "he"}
        twins = {r.arm for r in runs if r.phase == "twin"}
        assert twins == {"shallow_he", "deep_he", "normalised_he", "tanh_xavier"}
        losses = {(r.arm, r.seed, r.phase): r.train_loss for r in runs}
        assert all(losses[arm, 0, "twin"] != losses[arm, 0, "tuned"] for arm in twins)

    def test_signals_are_logs_of_means_over_networks_and_means_of_logs(self, settings):
        """Small enough to be drawn again by hand; the draw of an arm depends on its place and the seed."""
        s = settings.factors.initialization
        found = [row for row in study.propagation(settings, "deep", "small") if row.seed == 1]
        source = generator(1 * len(study.FOLLOWED) + study.FOLLOWED.index(("deep", "small")))
        params = drawn(s.draws, [40, *[s.width] * 4, 10], 0.7, source)
        direction = torch.randn(s.draws, 1, 10, generator=source)
        x, _ = gains.family_bed(settings, "deep").data.train.examples(s.inputs)
        h, squares = x.expand(s.draws, -1, -1), []
        for layer in range(4):
            h = torch.relu(h @ params[f"hidden.{layer}.weight"].mT)
            squares.append(h.square().mean(-1))
        assert [row.layer for row in found] == [1, 2, 3, 4]
        assert [row.forward for row in found] == pytest.approx([q.mean().log().item() for q in squares], abs=1e-4)
        typical = [q.log().mean().item() for q in squares]
        assert [row.typical_forward for row in found] == pytest.approx(typical, abs=1e-4)
        last = (direction @ params["head.weight"]).square().mean().log().item()
        assert found[-1].backward == pytest.approx(last, abs=1e-4)

    def test_gradients_are_norms_of_the_loss_of_the_network_that_is_trained(self, settings, observed):
        """The oracle is a module of torch's, one network at a time, its mean loss differentiated at once."""
        s, bed = settings.factors.initialization, gains.family_bed(settings, "deep")
        x, y = bed.data.train.examples(s.gradient_examples)
        module = Mlp(classes=10, widths=bed.training.architecture["widths"], skip=False)
        _, params = gains.beginning(bed, [gains.Run("deep", "large", "tuned", 1, 0.0)])
        module.load_state_dict({name: value[0] for name, value in select(params, [0]).items()})
        h, states = x, []
        for layer in module.hidden:
            h = torch.relu(layer(h))
            h.retain_grad()
            states.append(h)
        nn.functional.cross_entropy(module.head(h), y).backward()
        found = [row for row in observed["gradients"] if (row.arm, row.seed) == ("deep_large", 1)]
        for row, state, layer in zip(found, states, module.hidden, strict=True):
            each = (state.grad * len(y)).square().sum(1).mean().sqrt()
            assert row.activations == pytest.approx(each.log().item(), abs=1e-4)
            assert row.weights == pytest.approx(layer.weight.grad.norm().log().item(), abs=1e-4)

    def test_records_can_be_written_and_read(self, observed, tmp_path):
        for name, kind in TYPES.items():
            records.write(tmp_path / f"{name}.csv", observed[name], kind)
            assert len(records.read(tmp_path / f"{name}.csv", kind)) == len(observed[name]) > 0

    def test_curvature_has_a_residual_and_rises_with_the_gain(self, observed):
        of = {row.arm: row for row in observed["curvature"] if row.seed == 0}
        assert of["deep_tiny"].lambda_max < of["deep_he"].lambda_max < of["deep_huge"].lambda_max
        assert all(row.residual is not None for row in of.values())


# Planted records

LOSS = {"tiny": 2.3, "small": 2.2, "xavier": 1.9, "he": 1.0, "large": 2.1, "huge": 9.0}
FAMILY = {"shallow": 0.1, "middle": 0.5, "deep": 1.0, "normalised": 0.2, "tanh": 0.6}  # share of it that a family sees
LAYERS, SEEDS = 5, range(4)


def good(family: str) -> str:
    return "xavier" if family == "tanh" else "he"


def planted(wobble: float = 0.0) -> dict[str, pd.DataFrame]:
    """Losses 1 + share x (LOSS - 1) + seed; slopes ln(g²/2) + 0.01 forwards, - 0.02 backwards, and so on."""
    noise = np.random.Generator(np.random.Philox(1)).standard_normal
    parts: dict[str, list] = {name: [] for name in TYPES}
    arms = [(f, g) for f in FAMILY for g in (GAINS if f in ("shallow", "deep") else ("tiny", "xavier", "he", "huge"))]
    for family, gain in arms:
        arm, scale = f"{family}_{gain}", GAINS[gain]
        parts["arms"].append(rows.Arm(arm, family, gain, scale, LAYERS, 50, "relu", "none", 9))
        parts["tuned"].append(TunedArm("mlp", arm, "train_loss", 0.1, 1, 3))
        for rate in (0.01, 0.1, 1.0):
            parts["tuning"].append(TuningTrial("mlp", arm, 1000, rate, None, 1.0 + rate, 1.0, 0.5))
        for seed in SEEDS:
            loss = 1 + FAMILY[family] * (LOSS[gain] - 1) + seed + wobble * noise()
            parts["runs"].append(rows.Run(arm, "tuned", seed, 0.1, None, 5.0, loss))
            if gain == good(family):
                parts["runs"].append(rows.Run(arm, "twin", seed, 0.1, None, 5.0, loss + 0.25 * FAMILY[family]))
            if family == "shallow" and gain != "he":
                parts["runs"].append(rows.Run(arm, "fixed", seed, 0.1, None, 5.0, loss + 0.5))
            for layer in range(1, LAYERS + 1) if family in ("deep", "tanh") else ():
                up, down = np.log(scale**2 / 2) + 0.01, np.log(scale**2 / 2) - 0.02
                back = (LAYERS - layer) * down
                numbers = (layer * up, back, layer * (up - 0.05), back - (LAYERS - layer) * 0.03)
                parts["signals"].append(rows.Signal(arm, seed, layer, 9, *(seed + n for n in numbers)))
            for layer in range(1, LAYERS + 1) if family == "deep" else ():
                activations = (LAYERS - layer) * np.log(scale / np.sqrt(2)) + seed
                weights = 7 * np.log(scale / np.sqrt(2)) - 0.1 * layer + seed
                parts["gradients"].append(rows.Gradient(arm, seed, layer, activations, weights))
            if family == "deep":
                parts["curvature"].append(rows.Curvature(arm, seed, 9, scale**2, 0.01))
    return {name: pd.DataFrame(values) for name, values in parts.items()}


def changed(frames, name: str, where: dict, **values):
    frame = frames[name].copy()
    mask = np.logical_and.reduce([frame[key] == value for key, value in where.items()])
    for column, value in values.items():
        frame.loc[mask, column] = value
    return {**frames, name: frame}


def ln(a: float, b: float) -> float:
    return math.log(GAINS[a] / GAINS[b])


EXPECTED = {
    "deep_loss": 1.3,
    "near_loss": 1.1,
    "he_over_xavier": 0.9,
    "xavier_loss": 0.4,
    "xavier_tanh": 0.6 * 0.4,
    "shallow_loss": 0.13,
    "shallow_fixed_rate": 0.13 + 0.5,
    "norm_moderates": 0.8 * 1.3,
    "depth_moderates": 0.9 * 1.3,
    "he_slopes": 0.02,
    "he_forward_slope": 0.01,
    "he_backward_slope": -0.02,
    "he_typical_slope": -0.04,
    "tanh_slopes": math.log(2) + 0.02,
    "closed_form_forward": 0.01,
    "closed_form_backward": 0.02,
    "vanishing": 4 * ln("he", "small"),
    "exploding": 4 * ln("large", "he"),
    "he_gradients": 0.0,
    "xavier_gradients": 4 * ln("he", "xavier"),
    "weight_profile": -0.3,
    "weight_scale": 7 * ln("large", "he"),
}
SAME = {
    **dict.fromkeys(("deep_loss", "near_loss", "he_over_xavier", "xavier_loss"), 0.25),
    "xavier_tanh": 0.25 * 0.6,
    "shallow_loss": 0.025,
    "shallow_fixed_rate": 0.025,
    "norm_moderates": 0.25 * 0.8,
    "depth_moderates": 0.25 * 0.9,
}


def by_claim(frames, role: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in contrasts.effects(frames):
        if one.role == role:
            found.setdefault(one.claim.split(".")[1], []).append(one.value)
    return found


class TestContrasts:
    def test_every_claim_recovers_what_was_planted_in_every_seed(self):
        found = by_claim(planted(), "claim")
        assert set(found) == set(EXPECTED) == set(contrasts.CLAIMS)
        for name, expected in EXPECTED.items():
            assert found[name] == pytest.approx([expected] * len(SEEDS)), name

    def test_twins_are_compared_within_the_family_of_the_claim(self):
        found = by_claim(planted(), "same_arm")
        assert {name: pytest.approx([value] * len(SEEDS)) for name, value in SAME.items()} == found

    def test_fewer_twins_than_runs_give_fewer_controls(self):
        frames = planted()
        runs = frames["runs"]
        frames["runs"] = runs[(runs.phase != "twin") | (runs.seed < 2)]
        assert {len(values) for values in by_claim(frames, "same_arm").values()} == {2}

    def test_the_better_bad_gain_counts_seed_by_seed(self):
        frames = changed(planted(), "runs", {"arm": "deep_huge", "seed": 2}, train_loss=3.5)
        assert by_claim(frames, "claim")["deep_loss"] == pytest.approx([1.3, 1.3, 0.5, 1.3])

    def test_a_diverged_bad_run_is_worse_than_any_and_a_diverged_good_one_is_missing(self):
        frames = changed(planted(), "runs", {"arm": "deep_huge"}, train_loss=np.nan, diverged_step=3)
        assert by_claim(frames, "claim")["deep_loss"] == pytest.approx([1.3] * 4)
        both = changed(frames, "runs", {"arm": "deep_tiny", "seed": 1}, train_loss=np.nan, diverged_step=3)
        assert len(by_claim(both, "claim")["deep_loss"]) == 3
        hes = changed(planted(), "runs", {"arm": "deep_he", "seed": 1}, train_loss=np.nan, diverged_step=3)
        found = by_claim(hes, "claim")
        assert [len(found[name]) for name in ("deep_loss", "norm_moderates", "shallow_loss")] == [3, 3, 4]

    def test_a_loss_that_was_never_measured_is_no_infinite_one(self):
        frames = planted()
        frames["runs"] = frames["runs"].drop(
            frames["runs"].index[(frames["runs"].arm == "deep_tiny") & (frames["runs"].seed == 1)]
        )
        assert len(by_claim(frames, "claim")["deep_loss"]) == 3

    def test_gates_see_the_tuning_of_every_arm_behind_a_claim(self):
        gate = lambda frames: {(g.claim.split(".")[1], g.gate): g.value for g in contrasts.gates(frames)}  # noqa: E731
        fine = gate(planted())
        assert set(fine.values()) == {1.0} and {name for name, _ in fine} == set(SAME)
        edge = gate(changed(planted(), "tuned", {"arm": "normalised_tiny"}, interior=0))
        assert [name for (name, kind), value in edge.items() if value == 0] == ["norm_moderates"]
        edge = gate(changed(planted(), "tuned", {"arm": "shallow_he"}, interior=0))
        failed = {name for (name, kind), value in edge.items() if value == 0}
        assert failed == {"shallow_loss", "shallow_fixed_rate", "depth_moderates"}
        fewer = gate(changed(planted(), "tuned", {"arm": "deep_xavier"}, trials=2))
        unequal = {name for (name, kind), value in fewer.items() if kind == "equal_tuning" and value == 0}
        assert unequal == {"he_over_xavier", "xavier_loss"}

    def test_findings_have_unique_names_and_the_planted_means(self):
        found = {f.quantity: f for f in contrasts.findings(planted())}
        assert len(found) == len(contrasts.findings(planted()))
        assert found["deep_loss"].mean == pytest.approx(1.3) and found["deep_loss"].table == "factors"
        assert found["middle_loss"].mean == pytest.approx(0.65)
        assert found["ln λmax at the start of deep_huge"].mean == pytest.approx(math.log(16))
        assert found["typical_backward slope of deep_he"].mean == pytest.approx(-0.05)

    def test_a_signal_that_died_leaves_its_seed_out(self):
        frames = changed(planted(), "signals", {"arm": "deep_he", "seed": 3, "layer": LAYERS}, typical_forward=np.nan)
        found = by_claim(frames, "claim")
        assert len(found["he_typical_slope"]) == 3 and len(found["he_slopes"]) == 4


class TestDrawings:
    @pytest.mark.parametrize("name", ["signals", "gradients", "losses", "responses"])
    def test_figures_say_what_is_shown(self, name):
        figure = getattr(drawings, name)(planted(0.1))
        assert "n = 4" in figure.get_suptitle() or "1 tuning seed" in figure.get_suptitle()
        shown = [panel for panel in figure.axes if panel.get_visible()]
        assert all(panel.get_title(loc="left") and panel.get_xlabel() for panel in shown)

    def test_losses_too_high_to_draw_and_diverged_runs_lie_at_the_top(self):
        frames = changed(planted(), "runs", {"arm": "deep_he", "seed": 0}, train_loss=np.nan, diverged_step=3)
        panel = drawings.losses(frames).axes[0]
        points = [line for line in panel.lines if line.get_marker() == drawings.MARKERS[2]]
        (deep,) = [line for line in points if line.get_linestyle() == "None"]
        assert max(deep.get_ydata()) == drawings.CEILING and len(deep.get_ydata()) == 6 * len(SEEDS)
        assert sum(deep.get_ydata()[deep.get_xdata() == GAINS["he"]] == drawings.CEILING) == 3  # diverged, 3 and 4

    def test_rings_are_drawn_at_the_chosen_rates(self):
        figure = drawings.responses(planted())
        rings = [line for panel in figure.axes for line in panel.lines if line.get_markersize() == 10]
        assert len(rings) == 24 and {line.get_xdata()[0] for line in rings} == {0.1}

    def test_missing_arms_leave_gaps_and_no_errors(self):
        frames = planted()
        without = {name: frame[~frame.arm.str.startswith("middle")] for name, frame in frames.items()}
        for draw in (drawings.losses, drawings.responses):
            draw(without)
