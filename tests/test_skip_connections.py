"""Delta-orthogonal weights, shattered gradients, runs in groups, and the study of skip connections around them."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from nonconvex import claims, config, train
from nonconvex.beds import bed_of
from nonconvex.contrasts import skip_connections as contrasts
from nonconvex.data.splits import FOLDER
from nonconvex.drawings import skip_connections as drawings
from nonconvex.losses import squared_error
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.shattering import gradient_correlations, input_gradients
from nonconvex.models.delta_orthogonal import centre, delta_orthogonal
from nonconvex.models.mlp import Mlp
from nonconvex.models.resnet import Convolution, ResNet
from nonconvex.models.stacked import Stacked, stack
from nonconvex.studies import residual_arms
from nonconvex.studies import skip_connections as study
from nonconvex.studies.training import Recipe, cohort, trained

SETTINGS = config.read(FOLDER.parent / "params.yaml")
INPUTS = {"examples": 2, "statistics_examples": 2}
TOY = config.read(FOLDER.parent / "profiles" / "smoke" / "params.yaml")


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


class TestDeltaOrthogonal:
    @pytest.mark.parametrize(
        ("channels", "out", "kernel", "dimensions"), [(4, 4, 3, 1), (1, 4, 3, 1), (4, 8, 3, 2), (3, 5, 1, 1)]
    )
    def test_a_layer_multiplies_the_norm_of_every_place_by_the_gain(self, channels, out, kernel, dimensions):
        layer = Convolution(channels, out, kernel, dimensions=dimensions, gain=1.0)
        x = drawn(2, channels, *[7] * dimensions, dtype=torch.float32)
        for gain in (1.0, math.sqrt(2)):
            y = delta_orthogonal(layer, gain)(x)
            torch.testing.assert_close(y.norm(dim=1), gain * x.norm(dim=1))

    def test_a_relu_after_it_gives_back_the_norm_where_the_input_comes_with_both_signs(self):
        layer = delta_orthogonal(Convolution(6, 6, dimensions=1, gain=1.0))
        x = drawn(3, 6, 9, dtype=torch.float32)
        # |relu(v)|² + |relu(-v)|² = |v|² and |v|² = 2 |x|²
        both = layer(x).relu().square().sum() + layer(-x).relu().square().sum()
        assert both.item() == pytest.approx(2 * x.square().sum().item(), rel=1e-5)

    def test_only_the_central_taps_of_convolutions_are_drawn(self):
        def build():
            return ResNet(dimensions=1, depth=8, width=4, skip=False, norm="none")

        torch.manual_seed(3)
        before = build()
        torch.manual_seed(3)
        network = delta_orthogonal(build())
        torch.testing.assert_close(network.head.weight, before.head.weight, rtol=0, atol=0)
        for name, layer in network.named_modules():
            if isinstance(layer, Convolution):
                tap = centre(layer)
                torch.testing.assert_close(tap.mT @ tap, 2 * torch.eye(tap.shape[1]), rtol=1e-5, atol=1e-5)
                assert layer.weight.square().sum() == tap.square().sum(), name
        assert not torch.equal(centre(network.blocks[0].conv1), centre(network.blocks[0].conv2))

    def test_fewer_channels_out_than_in_are_refused(self):
        with pytest.raises(ValueError, match="4 channels to 2"):
            delta_orthogonal(nn.Sequential(Convolution(4, 2, dimensions=1, gain=1.0)))

    def test_the_bed_draws_them_from_each_members_seed(self):
        bed = residual_arms.bed_for(TOY, "orthogonal_none", 8)
        _, both = stack(bed.build, [5, 6])
        _, alone = stack(bed.build, [6])
        torch.testing.assert_close(both["stem.weight"][1:], alone["stem.weight"], rtol=0, atol=0)
        assert not both["stem.weight"][..., [0, 2]].any() and not torch.equal(*both["stem.weight"])


def network_of(build, e: int = 1) -> tuple[Stacked, dict]:
    made, params = stack(build, range(e))
    made.module.double()
    return made, {name: value.double() for name, value in params.items()}


class Square(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x


class TestShattering:
    def test_gradients_of_a_linear_network_are_perfectly_correlated(self):
        made, params = network_of(lambda: nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)), 3)
        found = gradient_correlations(made, params, {}, drawn(4, 6), (0.01, 0.5, 3.0))
        torch.testing.assert_close(found, torch.ones(3, 3, dtype=torch.float64))

    def test_it_does_not_depend_on_how_long_the_gradients_are(self):
        """One input and an output w x²: both gradients lie on one line, g(x') = (1 ± r) g(x)."""
        made, params = network_of(lambda: nn.Sequential(Square(), nn.Linear(1, 3)), 2)
        found = gradient_correlations(made, params, {}, drawn(1, 1), (0.1, 0.5))
        torch.testing.assert_close(found, torch.ones(2, 2, dtype=torch.float64))

    def test_a_network_that_ignores_its_input_has_none(self):
        made, params = network_of(lambda: Mlp(classes=3, inputs=6, widths=(4,), skip=False))
        params = {name: value * (name != "hidden.0.weight") for name, value in params.items()}
        assert gradient_correlations(made, params, {}, drawn(4, 6), (0.1,)).isnan().all()

    @pytest.mark.parametrize("layers", [1, 3])
    def test_wide_relu_networks_lose_it_as_the_arc_cosine_kernel_says(self, layers):
        """rho = Π_l (1 - θ_l / π), cos θ_(l+1) = (sin θ_l + (π - θ_l) cos θ_l) / π, at infinite width (Cho 2009)."""
        made, params = network_of(lambda: Mlp(classes=8, inputs=150, widths=(700,) * layers, skip=False), 6)
        x, radius = drawn(20, 150, seed=4), 0.6
        found = gradient_correlations(made, params, {}, x, (radius,), seed=2).mean().item()
        # the direction of the step is uniform: angles by brute force
        step = drawn(20, 200, 150, seed=5)
        there = x[:, None] + radius * x.norm(dim=1)[:, None, None] * step / step.norm(dim=2, keepdim=True)
        angle = torch.nn.functional.cosine_similarity(x[:, None], there, dim=2).arccos()
        expected = torch.ones_like(angle)
        for _ in range(layers):
            expected = expected * (1 - angle / math.pi)
            angle = ((angle.sin() + (math.pi - angle) * angle.cos()) / math.pi).arccos()
        assert found == pytest.approx(expected.mean().item(), abs=0.02)

    def test_gradients_and_their_correlation_are_those_of_autograd_one_by_one(self):
        made, params = network_of(lambda: ResNet(classes=3, dimensions=1, depth=8, width=2), 2)
        x = drawn(3, 12, seed=6)
        statistics = made.statistics(params, [drawn(2, 9, 12, seed=7)])
        found = input_gradients(made, params, statistics, x, seed=1)
        alone = input_gradients(made, params, statistics, x[1:2], seed=1)
        torch.testing.assert_close(found[:, 1:2], alone)  # no example sees another
        made.module.eval()
        mixture = []
        for e in range(2):
            state = {**{n: v[e] for n, v in params.items()}, **{n: v[e] for n, v in statistics.items()}}
            jacobian = torch.autograd.functional.jacobian(
                lambda one, state=state: torch.func.functional_call(made.module, state, (one,)), x
            )  # (3, classes, 3, 12)
            of_example = torch.stack([jacobian[i, :, i] for i in range(3)])
            mixture.append(torch.linalg.lstsq(of_example.transpose(0, 1).flatten(1).mT, found[e].flatten()).solution)
            rebuilt = torch.einsum("c,icf->if", mixture[e], of_example)
            torch.testing.assert_close(rebuilt, found[e], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(*mixture, rtol=1e-6, atol=1e-8)  # the same for all members

    def test_correlation_is_pooled_over_inputs_and_falls_with_distance(self):
        made, params = network_of(lambda: Mlp(classes=3, inputs=5, widths=(30, 30), skip=False), 4)
        x = drawn(16, 5, seed=8)
        found = gradient_correlations(made, params, {}, x, (1e-6, 0.1, 1.0))
        assert (found[:, 0] > 1 - 1e-4).all() and (found[:, 2] < found[:, 1]).all()
        # inputs that count more by their gradients count more: twice the same inputs change nothing
        assert gradient_correlations(made, params, {}, x[:1], (0.0,))[0, 0].item() == pytest.approx(1)


class TestRuns:
    def test_members_of_a_group_train_as_they_would_alone_and_shuffled_ones_on_other_labels(self):
        arm = residual_arms.Arm("skip_batch", "deep")
        bed = residual_arms.bed_for(TOY, arm.kind, 8)
        parts = residual_arms.groups(arm, bed, (3, 4), 1)
        assert [(part.arm, tuple(part.seeds), tuple(part.drawn)) for part in parts] == [
            ("deep_skip_batch", (3, 4), (3, 4)),
            ("deep_skip_batch_twin", (3,), (5003,)),
            ("deep_skip_batch_shuffled", (3,), (3,)),
        ]
        recipe = Recipe(5, 8, "cosine")
        runs = study.trained_groups(TOY, bed, parts, recipe, 0.05)
        alone = trained(bed, recipe, [3, 4, 5003], [0.05] * 3)
        for name, value in alone.params.items():
            torch.testing.assert_close(runs.end.params[name][:3], value, rtol=1e-3, atol=1e-5)
        assert not torch.allclose(runs.end.params["head.weight"][3], runs.end.params["head.weight"][0], atol=1e-4)
        x, y = residual_arms.batches(parts, 8)([], 2)
        torch.testing.assert_close(x[0], x[3], rtol=0, atol=0)  # the same signals in the same order
        assert not torch.equal(y[0], y[3])

    def test_states_of_equal_loss_are_the_first_that_are_seen_below_it(self):
        """Members of a linear model on squared error, watched or not, followed by hand."""
        x, y = drawn(12, 4, seed=1), torch.arange(12) % 3
        network, params = network_of(lambda: nn.Linear(4, 3), 3)
        rates = train.rate_table([lambda steps: lambda step: 1.0] * 3, [0.02, 0.05, 0.1], 20, study.Recipe(1).strategy)
        bed = bed_of(TOY, "resnet")
        _, _, made = cohort(bed, Recipe(20), [0, 1, 2], [1.0] * 3)
        made = replace(
            made,
            loss=lambda params, x, y: squared_error(network(params, x), y).mean(1),
            batch=lambda seeds, step: (x.expand(3, 12, 4), y.expand(3, 12)),
            rates=rates,
        )
        objective = Objective(network, squared_error, shared(x, y))
        states = [train.start(made, params), *train.train(made, train.start(made, params))]
        exact = torch.stack([objective.losses(state.params) for state in states])  # (21, 3)
        level = exact[9].mean().item()
        watched = torch.tensor([True, False, True])
        end, crossing, losses = study.followed(made, params, objective, level, 2, watched)
        for e in range(3):
            below = [i for i in range(2, 21, 2) if exact[i, e] <= level]
            assert crossing.steps[e].item() == (below[0] if below and watched[e] else -1)
        assert (crossing.steps >= 0).sum() == 2
        torch.testing.assert_close(losses, exact[:-1])
        torch.testing.assert_close(end.params["weight"], states[-1].params["weight"])

    def test_windows_end_with_the_run_and_have_one_length(self):
        losses = torch.arange(14.0)[:, None].repeat(1, 2)
        assert study.averaged(losses, 3)[:, 0].tolist() == [3.5, 7.5, 11.5]
        assert study.averaged(losses, 99).shape == (14, 2)

    def test_arms_are_those_that_claims_compare(self):
        arms = residual_arms.arms()
        names = {arm.name for arm in arms} | {f"{arm.name}_{v}" for arm in arms for v in arm.variants}
        runs = [one for one in contrasts.CLAIMS.values() if one.quantity != "correlation"]
        assert {arm for one in runs for arm in (*one.weights, *one.same_arm, *one.shuffled_labels)} <= names
        kinds = {name.partition("_")[2].removesuffix("_twin") for name in names}
        inputs = [one for one in contrasts.CLAIMS.values() if one.quantity == "correlation"]
        assert {arm.partition("_")[2].removesuffix("_twin") for one in inputs for arm in one.weights} <= kinds
        assert residual_arms.LEVELS == contrasts.LEVELS
        assert set(SETTINGS.factors.skip_connections.rates) == set(study.KINDS) == set(drawings.KINDS)

    def test_kinds_differ_in_what_their_names_say(self):
        assert residual_arms.options("scaled_none", 26) == {"skip": True, "norm": "none", "branch_scale": 12**-0.5}
        assert residual_arms.options("skip_none", 26) == {"skip": True, "norm": "none", "branch_scale": 1.0}
        assert residual_arms.options("plain_batch", 26) == {"skip": False, "norm": "batch", "branch_scale": 1.0}
        assert residual_arms.options("orthogonal_none", 8) == residual_arms.options("plain_none", 8)
        records = {
            kind: residual_arms.record(residual_arms.Arm(kind, "deep"), residual_arms.bed_for(TOY, kind, 14))
            for kind in study.KINDS
        }
        assert {kind for kind, one in records.items() if one.initialisation != "he"} == {"orthogonal_none"}
        assert {one.depth for one in records.values()} == {14}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"depths": [8, 26, 14]}, "depths must rise"),
            ({"controls": 11}, "controls is 11"),
            ({"rates": {"skip_batch": [0.1, 0.2, 0.4]}}, "found none for plain_batch"),
            ({"shattering": INPUTS | {"depths": [8, 14]}}, r"must hold \[8, 26\]"),
            ({"shattering": INPUTS | {"depths": [8, 26], "radius": 0.2}}, "radius is 0.2"),
        ],
    )
    def test_settings_that_cannot_be_are_refused(self, change, message):
        s = SETTINGS.factors.skip_connections
        with pytest.raises(ValueError, match=message):
            type(s).model_validate(s.model_dump() | change)

    def test_grids_of_several_lengths_are_refused(self):
        s = SETTINGS.factors.skip_connections
        with pytest.raises(ValueError, match="one length"):
            type(s).model_validate(s.model_dump() | {"rates": s.rates | {"skip_none": (0.1, 0.2, 0.4)}})


SEEDS = range(10)
LOSS = {  # planted, by arm; the last digit of everything below tells arms and quantities apart
    "shallow_skip_batch": 0.80,
    "shallow_plain_batch": 0.83,
    "middle_skip_batch": 0.75,
    "middle_plain_batch": 0.95,
    "deep_skip_batch": 0.90,
    "deep_plain_batch": 1.65,
    "deep_skip_none": 2.25,
    "deep_scaled_none": 1.10,
    "deep_plain_none": 2.20,
    "deep_orthogonal_none": 1.90,
    "deep_skip_batch_twin": 0.90,
    "deep_scaled_none_twin": 1.10,
    "deep_skip_batch_shuffled": 2.33,
    "deep_plain_batch_shuffled": 2.32,
    "deep_plain_batch_longer": 1.20,
}
TUNED = [arm for arm in LOSS if contrasts.tuned_arm(arm) == arm]
STEEP = {"deep_skip_batch": 0.5, "deep_plain_batch": 1.5, "deep_skip_batch_twin": 0.5}  # of the change of the gradient
RANGE = {"deep_skip_batch": 0.2, "deep_plain_batch": 0.3, "deep_skip_batch_twin": 0.2}
DECAY = {"skip_batch": 30, "plain_batch": 8, "scaled_none": 400, "plain_none": 40, "orthogonal_none": 900}
DECAY |= {"skip_none": 90, "skip_batch_twin": 30}  # depth over which a correlation falls by e, at distance 0.03
DEPTHS = {"shallow": 8, "middle": 14, "deep": 26}
EXPECTED = {
    "deep_loss": 0.75,
    "depth_loss": 0.72,
    "longer_loss": 0.30,
    "plain_depth": 0.82,
    "residual_depth": 0.10,
    "unscaled_loss": -0.05,
    "scaled_loss": 1.10,
    "orthogonal_gap": 0.80,
    "orthogonal_gain": 0.30,
    "accuracy": 0.30,  # an error is 0.4 of a loss
    "gradient_change": math.log(3),
    "gradient_range": math.log(1.5),
    "shattering": math.exp(-26 / 30) - math.exp(-26 / 8),
    "shattering_depth": math.exp(-1) - math.exp(-26 / 8) - math.exp(-8 / 30) + math.exp(-26 / 30),
    "residual_shattering": math.exp(-8 / 30) - math.exp(-26 / 30),
    "scaled_shattering": math.exp(-8 / 400) - math.exp(-26 / 400),
}


def planted(spread: float = 0.0, seeds: range = SEEDS) -> contrasts.Frames:
    """Records that say what is planted: a part of the seed's own that contrasts cancel, and noise if asked for."""
    noise = np.random.Generator(np.random.Philox(5))
    parts: dict[str, list] = {name: [] for name in ("arms", "tuning", "tuned", "runs", "curves", "gradient", "inputs")}
    for arm in TUNED:
        level, _, kind = arm.partition("_")
        parts["arms"].append({"arm": arm, "kind": kind, "depth": DEPTHS[level]})
        parts["tuned"].append({"model": "resnet", "arm": arm, "criterion": "validation_loss", "rate": 0.09})
        for rate in (0.03, 0.09, 0.27):
            loss = LOSS[arm] + abs(math.log(rate / 0.09)) / 5
            parts["tuning"].append({"model": "resnet", "arm": arm, "seed": 1000, "rate": rate, "validation_loss": loss})
    for (arm, loss), seed in ((one, seed) for one in LOSS.items() for seed in seeds):
        name, own = {"arm": arm, "seed": seed}, seed / 50 + spread * noise.normal()
        matched = 1.8 * (1 + seed / 100) if arm in STEEP else np.nan
        ends = {"train_loss": loss + own, "test_error": 0.4 * loss + own / 10}
        parts["runs"].append(name | ends | {"matched_loss": matched, "matched_step": 20 if arm in STEEP else None})
        steps = 640 if arm.endswith("longer") else 160
        for step in range(steps // 16, steps + 1, steps // 16):
            parts["curves"].append(name | {"step": step, "loss": 2.3 - (2.3 - loss) * (step / steps) ** 0.5 + own})
        for length in (0.01, 0.03) if arm in STEEP else ():
            start, slope, size = 1.8, 2.0 + seed, 10.0
            fall = RANGE[arm] * slope * size * 0.03 * (1 if length > 0.02 else 0.25) * math.exp(own)
            numbers = {"start_loss": start, "gradient_norm": slope, "weight_norm": size, "loss": start - fall}
            change = STEEP[arm] * length / 0.02 * math.exp(own)
            row = {"model": "resnet", **name, "length": length, **numbers}
            parts["gradient"].append(row | {"change": change, "cosine": 0.5})
    for (arm, decay), seed in ((one, seed) for one in DECAY.items() for seed in seeds):
        for depth, radius in ((d, r) for d in (8, 14, 26, 50) for r in (0.03, 0.1)):
            rho = math.exp(-depth / decay * radius / 0.03) + 0.2 * spread * noise.normal()
            parts["inputs"].append({"arm": arm, "depth": depth, "seed": seed, "radius": radius, "correlation": rho})
    frames = {name: pd.DataFrame(rows) for name, rows in parts.items()}
    frames["tuned"] = frames["tuned"].assign(interior=1, trials=3)
    return contrasts.Frames(**frames, radius=0.03)


def changed(frames: contrasts.Frames, name: str, **columns) -> contrasts.Frames:
    """The frames with columns of one of them replaced where `arm` and `seed` say so."""
    frame = getattr(frames, name).copy()
    where = pd.Series(True, frame.index)
    for key in ("arm", "seed"):
        if key in columns:
            where &= frame[key] == columns.pop(key)
    for column, value in columns.items():
        frame.loc[where, column] = value
    return replace(frames, **{name: frame})


def gate(frames: contrasts.Frames, short: str) -> dict[str, float | None]:
    return {g.gate: g.value for g in contrasts.gates(frames) if g.claim == contrasts.claim(short)}


def values_of(frames: contrasts.Frames, short: str, role: str = "claim") -> list[float]:
    found = contrasts.effects(frames)
    return [one.value for one in found if one.claim == contrasts.claim(short) and one.role == role]


class TestContrasts:
    def test_every_claim_recovers_what_was_planted_in_every_seed(self):
        frames = planted()
        assert set(EXPECTED) == set(contrasts.CLAIMS)
        for short, expected in EXPECTED.items():
            assert values_of(frames, short) == pytest.approx([expected] * 10), short

    def test_a_better_residual_network_moves_every_claim_in_its_own_direction(self):
        """Its loss down, its error down, its gradients steadier, its correlation up: what the text says of it."""
        before, after = planted(), planted()
        runs = after.runs.assign(train_loss=after.runs.train_loss - 0.1 * (after.runs.arm == "deep_skip_batch"))
        runs = runs.assign(test_error=runs.test_error - 0.1 * (runs.arm == "deep_skip_batch"))
        gradient = after.gradient.copy()
        gradient.loc[gradient.arm == "deep_skip_batch", "change"] /= 2
        inputs = after.inputs.copy()
        inputs.loc[(inputs.arm == "skip_batch") & (inputs.depth == 26), "correlation"] += 0.1
        after = replace(after, runs=runs, gradient=gradient, inputs=inputs)
        moved = {s: values_of(after, s)[0] - values_of(before, s)[0] for s in contrasts.CLAIMS}
        up = {"deep_loss": 0.1, "depth_loss": 0.1, "longer_loss": 0.1, "accuracy": 0.1, "gradient_change": math.log(2)}
        up |= {"shattering": 0.1, "shattering_depth": 0.1, "residual_depth": -0.1, "residual_shattering": -0.1}
        assert moved == pytest.approx({short: up.get(short, 0.0) for short in moved}, abs=1e-9)

    def test_twins_differ_by_nothing_and_shuffled_labels_by_what_is_planted(self):
        frames = planted()
        with_twin = [short for short, one in contrasts.CLAIMS.items() if one.same_arm]
        assert len(with_twin) == 14
        for short in with_twin:
            assert values_of(frames, short, "same_arm") == pytest.approx([0.0] * 10, abs=1e-12), short
        assert values_of(frames, "accuracy", "shuffled_labels") == pytest.approx([0.4 * -0.01] * 10)
        other = changed(frames, "runs", arm="deep_skip_batch_twin", train_loss=0.0)
        assert values_of(other, "deep_loss", "same_arm")[0] == pytest.approx(-LOSS["deep_skip_batch"])

    def test_claims_read_their_own_distance_and_findings_all(self):
        frames = replace(planted(), radius=0.1)
        assert values_of(frames, "shattering")[0] == pytest.approx(
            math.exp(-26 / 30 / 0.3) - math.exp(-26 / 8 / 0.3), rel=1e-6
        )
        found = {one.quantity: one for one in contrasts.findings(frames)}
        assert found["correlation at 0.03, scaled_none, depth 50"].mean == pytest.approx(math.exp(-50 / 400))
        assert (found["loss of deep_plain_none"].mean, found["loss of deep_plain_none"].n) == (pytest.approx(2.29), 10)
        assert {one.table for one in found.values()} == {"factors"}
        assert len(found) == len(contrasts.findings(frames))

    def test_a_run_that_diverged_leaves_its_seed_out(self):
        frames = changed(planted(), "runs", arm="deep_plain_none", seed=3, train_loss=np.nan)
        assert len(values_of(frames, "scaled_loss")) == 9 and len(values_of(frames, "deep_loss")) == 10

    def test_gates_see_what_they_are_for(self):
        frames = planted()
        good = {"rate_interior": 1.0, "equal_tuning": 1.0}
        assert gate(frames, "deep_loss") == gate(frames, "longer_loss") == good
        assert gate(frames, "gradient_change") == {
            "rate_interior": 1.0,
            "trained": 1.0,
            "matched_loss": pytest.approx(0, abs=1e-12),
        }
        edge = changed(frames, "tuned", arm="shallow_plain_batch", interior=0)
        assert gate(edge, "depth_loss")["rate_interior"] == 0.0 and gate(edge, "deep_loss") == good
        # the longer runs take the rate of the shorter ones
        edge = changed(frames, "tuned", arm="deep_plain_batch", interior=0)
        assert gate(edge, "longer_loss")["rate_interior"] == 0.0
        fewer = changed(frames, "tuned", arm="deep_orthogonal_none", trials=2)
        assert gate(fewer, "orthogonal_gap")["equal_tuning"] == 0.0 and gate(fewer, "scaled_loss") == good
        lost = changed(frames, "runs", arm="deep_plain_batch", seed=3, matched_loss=np.nan)
        assert gate(lost, "gradient_range")["trained"] == 0.95
        lower = changed(frames, "runs", arm="deep_skip_batch", matched_loss=1.8)
        own = np.mean([math.log(1 + seed / 100) for seed in SEEDS])
        assert gate(lower, "gradient_change")["matched_loss"] == pytest.approx(own)

    def test_every_registered_claim_is_measured_and_the_other_way_round(self):
        """Gates too; the ledger is the repository's own."""
        ledger = claims.read(FOLDER.parent / "claims.yaml")
        registered = {one.name: one for one in ledger.claims if one.row == contrasts.ROW}
        assert set(registered) == {contrasts.claim(short) for short in contrasts.CLAIMS}
        for short, one in contrasts.CLAIMS.items():
            controls = {role for role in ("same_arm", "shuffled_labels") if getattr(one, role)}
            assert {*one.gates, *controls} == set(registered[contrasts.claim(short)].gates), short

    def test_nothing_matched_gives_no_effects_and_failing_gates(self):
        frames = planted()
        frames = replace(frames, gradient=frames.gradient.iloc[:0], runs=frames.runs.assign(matched_loss=np.nan))
        assert values_of(frames, "gradient_change") == []
        assert gate(frames, "gradient_range") == {"rate_interior": 1.0, "trained": 0.0, "matched_loss": None}
        contrasts.findings(frames)


class TestDrawings:
    @pytest.mark.parametrize("draw", [drawings.losses, drawings.curves, drawings.along_gradient, drawings.shattering])
    def test_figures_say_how_many_seeds_are_behind_them(self, draw):
        assert "n = 10" in " ".join(draw(planted(0.1)).get_suptitle().split())

    def test_lines_go_through_the_means(self):
        by_depth, by_kind = drawings.losses(planted()).axes
        lines = {line.get_label(): line.get_ydata() for line in by_depth.lines}
        own = np.mean(SEEDS) / 50
        expected = [LOSS[f"{level}_plain_batch"] + own for level in DEPTHS]
        assert list(lines["Plain, batch norm"]) == pytest.approx(expected)
        rows = {text.get_text(): place for place, text in enumerate(by_kind.get_yticklabels())}
        means = {line.get_ydata()[0]: line.get_xdata()[0] for line in by_kind.lines if line.get_markersize() == 7}
        for label, arm in {
            "Plain, batch norm, more steps": "deep_plain_batch_longer",
            "Residual, no norm": "deep_skip_none",
            "Residual, scaled branches, no norm": "deep_scaled_none",
        }.items():
            assert means[rows[label]] == pytest.approx(LOSS[arm] + own), label

    def test_shattering_has_a_panel_per_distance_and_a_line_per_kind(self):
        panels = drawings.shattering(planted()).axes
        assert [panel.get_title(loc="left") for panel in panels] == [
            "Inputs 0.03 of a norm apart",
            "Inputs 0.1 of a norm apart",
        ]
        lines = {line.get_label(): line.get_ydata() for line in panels[0].lines}
        assert list(lines["Plain, batch norm"]) == pytest.approx([math.exp(-d / 8) for d in (8, 14, 26, 50)])

    def test_missing_runs_leave_gaps_and_no_errors(self):
        frames = changed(planted(), "runs", arm="deep_skip_none", train_loss=np.nan)
        frames = replace(frames, gradient=frames.gradient.iloc[:0])
        frames = changed(frames, "inputs", arm="plain_none", correlation=np.nan)
        for draw in (drawings.losses, drawings.curves, drawings.along_gradient, drawings.shattering):
            draw(frames)
