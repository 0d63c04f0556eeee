"""Altered batch norms, their noise, the shift of layer inputs, and the study that compares normalisations."""

import math
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from nonconvex import config
from nonconvex.contrasts import normalization as contrasts
from nonconvex.contrasts.normalization import CONTRASTS, QUANTITIES, Frames, values_of
from nonconvex.data.splits import FOLDER
from nonconvex.drawings import normalization as drawings
from nonconvex.measure.shift import moments, shift
from nonconvex.models.altered import FrozenBatchNorm, NoisyBatchNorm, altered
from nonconvex.models.mlp import Mlp
from nonconvex.models.normalisation import BatchNorm
from nonconvex.models.resnet import ResNet
from nonconvex.models.stacked import Stacked, stack
from nonconvex.observations.normalization import ShortRun
from nonconvex.records import Effect
from nonconvex.studies import norm_noise
from nonconvex.studies.norm_arms import ARMS, Arm
from nonconvex.studies.normalization import followed, noisy_loss, observe_runs, shifts
from nonconvex.studies.training import Recipe, snapshots
from nonconvex.study_settings.normalization import Noise, Normalization
from nonconvex.train import start, train

ROOT = FOLDER.parent
HOW = Noise()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def small(norm: str = "batch") -> ResNet:
    return ResNet(classes=3, dimensions=1, depth=8, width=4, norm=norm)


def stacked(build, e: int = 2):
    network, params = stack(build, range(e))
    network.module.double()
    return network, {name: value.double() for name, value in params.items()}


def noisy(e: int = 2):
    return stacked(lambda: altered(small(), "noisy"), e)


class TestAltered:
    def test_without_noise_it_is_batch_norm_bit_for_bit(self):
        x = drawn(2, 5, 12)
        plain, params = stacked(small)
        other, same = noisy()
        assert all(torch.equal(params[name], same[name]) for name in {**params, **same})
        assert torch.equal(plain(params, x), other(same, x))
        statistics = plain.statistics(params, [x])
        assert torch.equal(plain(params, x, statistics), other(same, x, other.statistics(same, [x])))

    def test_noise_multiplies_and_shifts_what_batch_norm_puts_out(self):
        layer = NoisyBatchNorm(3).double()
        with torch.no_grad():
            layer.weight.copy_(drawn(3, seed=1)), layer.bias.copy_(drawn(3, seed=2))
        params = {name: value[None].repeat(2, 1) for name, value in layer.named_parameters()}
        x, gain, move = drawn(2, 6, 3, 4), drawn(2, 6, 3, seed=3), drawn(2, 6, 3, seed=4)
        found = Stacked(layer)({**params, "gain": gain, "shift": move}, x)
        for e in range(2):
            normal = F.batch_norm(x[e], None, None, layer.weight, layer.bias, training=True, eps=layer.eps)
            torch.testing.assert_close(found[e], gain[e][:, :, None] * normal + move[e][:, :, None])

    def test_frozen_statistics_are_those_of_evaluation_in_training_too(self):
        layer = FrozenBatchNorm(3).double()
        x, mean, variance, weight, bias = drawn(6, 3, 4), *(drawn(3, seed=i) for i in (1, 2, 3, 4))
        variance = variance.exp()
        given = {"mean": mean, "variance": variance, "weight": weight, "bias": bias}
        for mode in (True, False):
            found = torch.func.functional_call(layer.train(mode), given, (x,))
            expected = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=layer.eps)
            torch.testing.assert_close(found, expected)

    def test_every_batch_norm_is_replaced_and_keeps_its_parameters(self):
        module = small()
        module.blocks[0].norm1.weight.data.fill_(3.0)
        names = [name for name, _ in module.named_parameters()]
        altered(module, "frozen")
        kinds = {type(layer) for layer in module.modules()}
        assert FrozenBatchNorm in kinds and BatchNorm not in kinds
        assert [name for name, _ in module.named_parameters()] == names
        assert module.blocks[0].norm1.weight.eq(3).all()

    def test_what_cannot_be_altered_is_refused(self):
        with pytest.raises(ValueError, match="'quiet'; known: frozen, noisy"):
            altered(small(), "quiet")
        with pytest.raises(ValueError, match="ResNet has no batch norm that could be noisy"):
            altered(small("layer"), "noisy")


class TestNoise:
    def test_it_depends_on_seed_step_and_layer_and_on_no_other_member(self):
        network, _ = noisy()
        both = norm_noise.drawn(HOW, network, [3, 4], 7, 5)
        alone = norm_noise.drawn(HOW, network, [4], 7, 5)
        for name, value in both.items():
            assert torch.equal(value[1:], alone[name])
            assert not torch.allclose(value[0], value[1])
        later = norm_noise.drawn(HOW, network, [4], 8, 5)
        assert not any(torch.allclose(alone[name], later[name]) for name in alone)
        first, second = alone["norm.shift"], alone["blocks.0.norm1.shift"]
        assert first.shape == second.shape == (1, 5, 4) and not torch.allclose(first, second)
        assert len(alone) == 2 * sum(isinstance(m, NoisyBatchNorm) for m in network.module.modules()) == 18

    def test_distributions_are_those_of_the_settings(self):
        """Centres by step and channel, deviations by example; moments of uniform distributions in closed form."""
        network = Stacked(NoisyBatchNorm(50))
        seeds = list(range(40))
        steps = [norm_noise.drawn(HOW, network, seeds, step, 100) for step in range(5)]
        moves, gains = (torch.stack([step[f".{kind}"] for step in steps]).double() for kind in ("shift", "gain"))
        centres, scales = moves.mean(2), gains.mean(2)
        assert moves.abs().max() <= 0.6 and moves.abs().max() > 0.58
        assert centres.std().item() == pytest.approx(0.5 / math.sqrt(3), rel=0.02)
        assert centres.mean().item() == pytest.approx(0, abs=0.01)
        assert (moves - centres[:, :, None]).std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.02)
        assert (gains - scales[:, :, None]).std().item() == pytest.approx(0.1, rel=0.02)
        assert scales.std().item() == pytest.approx(0.25 / math.sqrt(12), rel=0.02)
        rest = norm_noise.mean(HOW, network, 2)
        assert rest[".gain"].tolist() == [1.125] * 2 and rest[".shift"].tolist() == [0, 0]
        assert gains.mean().item() == pytest.approx(1.125, abs=0.005)


class TestShift:
    def test_moments_are_those_of_what_a_layer_puts_out(self):
        network, params = stacked(lambda: small("none"))
        x = drawn(2, 7, 12)
        mean, deviation = moments(network, params, x)["norm"]
        for e in range(2):
            kernel = params["stem.weight"][e]
            out = F.conv1d(x[e][:, None], kernel, padding=1) + params["norm.bias"][e][None, :, None]
            torch.testing.assert_close(mean[e], out.mean((0, 2)))
            torch.testing.assert_close(deviation[e], out.transpose(0, 1).flatten(1).std(1, correction=0))

    @pytest.mark.parametrize("norm", ["batch", "layer", "group", "none"])
    def test_every_normalisation_is_seen(self, norm):
        network, params = stacked(lambda: small(norm))
        assert len(moments(network, params, drawn(2, 4, 12))) == 9

    def test_altered_batch_norms_are_seen_with_what_goes_along(self):
        network, params = noisy()
        x = drawn(2, 4, 12)
        quiet = moments(network, params, x)["norm"]
        loud = moments(network, {**params, "norm.gain": torch.tensor([2.0, 3.0]), "norm.shift": torch.ones(2)}, x)
        torch.testing.assert_close(loud["norm"][0], torch.tensor([[2.0], [3.0]]) * quiet[0] + 1)
        torch.testing.assert_close(loud["norm"][1], torch.tensor([[2.0], [3.0]]) * quiet[1])
        frozen, params = stacked(lambda: altered(small(), "frozen"))
        assert len(moments(frozen, params, x)) == 9

    def test_shift_is_the_distance_of_gaussians_over_their_deviation(self):
        before = {
            "a": (torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 4.0]])),
            "b": (torch.zeros(1, 1), torch.ones(1, 1)),
        }
        after = {
            "a": (torch.tensor([[2.0, 1.0]]), torch.tensor([[3.0, 5.5]])),
            "b": (torch.zeros(1, 1), torch.ones(1, 1)),
        }
        assert shift(before, after).tolist() == pytest.approx([(2.5 / 5 + 0) / 2])
        assert shift(before, before).tolist() == [0]

    def test_a_network_without_such_layers_is_refused(self):
        network, params = stack(lambda: Mlp(classes=3, inputs=4, widths=(5,)), [0])
        with pytest.raises(ValueError, match="Mlp has no normalisation layer of BatchNorm, FrozenBatchNorm"):
            moments(network, params, torch.zeros(1, 2, 4))


@cache
def settings(**changes) -> config.Settings:
    """The smoke profile with the study's seeds out of the way of those reported."""
    made = config.read(ROOT / "profiles" / "smoke" / "params.yaml")
    study = made.factors.normalization.model_copy(update={"seeds": (700, 701), **changes})
    return made.model_copy(update={"factors": made.factors.model_copy(update={"normalization": study})})


def arm(name: str, model: str = "resnet", **changes) -> Arm:
    (one,) = [one for one in ARMS if (one.model, one.arm) == (model, name)]
    return Arm(settings(**changes), one)


def after(made: Arm, seeds, steps: int = 3, rate: float = 0.05):
    runs = made.cohort(seeds, [rate] * len(seeds), Recipe(steps))
    return runs, list(train(runs.made, start(runs.made, runs.params)))[-1]


class TestArms:
    def test_arms_are_those_that_the_claims_compare(self):
        known = {(one.model, one.arm) for one in ARMS}
        assert {(one.model, name) for one in CONTRASTS for name in one.arms} | {("resnet", "twin")} == known

    def test_all_start_from_the_same_weights_and_the_twin_from_others(self):
        starts = {
            name: arm(name).cohort([700], [0.1], Recipe(1)).params for name in ("batch", "frozen", "none", "twin")
        }
        for name in ("stem.weight", "blocks.2.conv2.weight", "head.weight"):
            assert torch.equal(starts["batch"][name], starts["none"][name])
            assert torch.equal(starts["batch"][name], starts["frozen"][name])
            assert not torch.allclose(starts["none"][name], starts["twin"][name])
        assert starts["twin"].keys() == starts["none"].keys()

    def test_only_the_arms_without_norm_have_scaled_branches(self):
        scales = {name: arm(name).record().branch_scale for name in ("batch", "layer", "frozen", "none", "twin")}
        assert scales == {"batch": 1, "layer": 1, "frozen": 1, "none": 3**-0.5, "twin": 3**-0.5}

    def test_frozen_statistics_start_as_batch_norm(self):
        """On the examples of the statistics; batch norm itself is the oracle."""
        frozen, batch = (arm(name).cohort([700, 701], [0.1] * 2, Recipe(1)) for name in ("frozen", "batch"))
        losses = [
            arm(name).objective(runs.network, 32).losses({**runs.params, **runs.buffers})
            for name, runs in (("frozen", frozen), ("batch", batch))
        ]
        torch.testing.assert_close(*losses)

    def test_what_goes_along_is_not_trained_nor_moved_by_a_measurement(self):
        for name in ("frozen", "noisy"):
            made = arm(name)
            runs, end = after(made, [700, 701])
            assert runs.buffers and not set(runs.buffers) & set(end.params)
            assert not torch.equal(end.params["norm.weight"], runs.params["norm.weight"])
            objective = made.objective(runs.network, 8)
            assert objective.flat(runs.at(end)).shape[1] == sum(p[0].numel() for p in end.params.values())

    def test_noise_that_is_nothing_trains_as_batch_norm(self):
        nothing = Noise(shift=1e-30, gain=1 + 1e-12, shift_spread=1e-30, gain_spread=1e-30)
        _, quiet = after(arm("noisy", noise=nothing), [700, 701])
        _, plain = after(arm("batch"), [700, 701])
        _, loud = after(arm("noisy"), [700, 701])
        for name, value in plain.params.items():
            assert torch.equal(value, quiet.params[name])
        assert not torch.allclose(plain.params["stem.weight"], loud.params["stem.weight"], atol=1e-4)

    def test_a_noisy_member_does_not_depend_on_the_others_and_can_be_repeated(self):
        _, both = after(arm("noisy"), [700, 701])
        _, again = after(arm("noisy"), [700, 701])
        _, alone = after(arm("noisy"), [701])
        for name, value in both.params.items():
            assert torch.equal(value, again.params[name])
            torch.testing.assert_close(value[1:], alone.params[name], rtol=1e-3, atol=1e-5)

    def test_frozen_training_is_that_of_an_affine_layer(self):
        """One step by autograd on a network whose norms are torch's own, in evaluation mode at the same statistics."""
        made = arm("frozen")
        runs, end = after(made, [700], steps=1)
        x, y = made.bed.data.train.batch([700], 0, made.bed.training.batch_size)
        plain = replace(made.bed, altered="").build().eval()
        leaves = {name: value[0].clone().requires_grad_() for name, value in runs.params.items()}
        given = {**leaves, **{name: value[0] for name, value in runs.buffers.items()}}
        F.cross_entropy(torch.func.functional_call(plain, given, (x[0],)), y[0]).backward()
        decay = made.bed.training.optimizer.weight_decay
        for name, leaf in leaves.items():
            moved = leaf.detach() - 0.05 * (leaf.grad + decay * leaf.detach())
            torch.testing.assert_close(end.params[name][0], moved, rtol=1e-4, atol=1e-6)

    def test_a_short_run_knows_the_norm_of_its_matrices(self):
        made = arm("batch")
        (one,) = made.trials("reported", [(700, 0.05)])
        _, end = after(made, [700], steps=made.how.steps)
        matrices = [v for name, v in end.params.items() if "conv" in name or "stem" in name or name == "head.weight"]
        matrices += [v for name, v in end.params.items() if name.endswith("shortcut.0.weight")]
        assert one.weight_norm == pytest.approx(math.sqrt(sum(v.square().sum().item() for v in matrices)))

    def test_a_diverged_run_has_no_numbers(self):
        (one,) = arm("none").trials("reported", [(700, 1e30)])
        assert one.diverged_step is not None and one.train_loss is None and one.weight_norm is None


class TestRuns:
    def test_losses_are_followed_until_all_runs_are_below_the_level(self):
        made = arm("batch")
        runs = made.cohort((700, 701), [0.05] * 2, Recipe(6))
        states = {state.step: state for state in snapshots(runs.made, runs.params, [0, 3, 6])}
        made.matched_at = 100.0
        assert followed(made, runs, 0.05, states).losses.shape == (2, 1)
        made.matched_at = 0.0
        never = followed(made, runs, 0.05, states)
        assert never.losses.shape == (2, 3) and never.matched == [None, None]
        expected = made.objective(runs.network, 32).losses(states[6].params)
        torch.testing.assert_close(never.losses[:, 2].float(), expected)
        made.matched_at = never.losses[:, 0].mean().item()  # one run is below it at the start
        assert followed(made, runs, 0.05, states).losses.shape[1] > 1

    def test_a_shift_is_that_of_the_weights_between_two_states(self):
        made = arm("none")
        runs = made.cohort((700, 701), [0.05] * 2, Recipe(1))
        before, later = snapshots(runs.made, runs.params, [0, 1])
        x = made.bed.data.train.examples(32)[0].expand(2, 32, 40)
        expected = shift(*(moments(runs.network, state.params, x) for state in (before, later)))
        found = shifts(made, runs, before, later)
        assert [row.shift for row in found] == expected.tolist() and min(expected) > 0

    def test_noise_in_the_loss_is_the_mean_over_draws_of_later_steps(self):
        made = arm("noisy")
        runs = made.cohort((700, 701), [0.05] * 2, Recipe(1))
        rest = {**runs.params, **runs.buffers}
        draws = [norm_noise.drawn(made.s.noise, runs.network, [700, 701], step, 32) for step in (6, 7)]
        losses = [made.objective(runs.network, 32).losses({**runs.params, **draw}) for draw in draws]
        torch.testing.assert_close(noisy_loss(made, runs, rest), (losses[0] + losses[1]) / 2)
        assert noisy_loss(arm("batch"), runs, rest) is None

    def test_records_of_every_kind_come_from_every_seed(self):
        made = arm("noisy", controls=1)
        made.matched_at = 100.0
        found = observe_runs(made, 0.05)
        assert [(row.seed, row.matched_step) for row in found["runs"]] == [(700, 0), (701, 0)]
        assert all(row.noisy_loss and row.test_error <= 1 for row in found["runs"])
        assert [(row.step, row.seed) for row in found["shifts"]] == [(0, 700), (0, 701), (3, 700), (3, 701)]
        assert len(found["gradient"]) == 4
        assert Arm(settings(controls=1), ARMS[-3]).s.seeds == (700,)  # the twin is a control


class Scripted(Arm):
    """An arm whose runs train exactly up to a rate of their seed's own, found without training."""

    def __init__(self, edges: dict[int, float]):
        self.s = settings().factors.normalization.model_copy(update={"seeds": tuple(edges), "halvings": 2})
        self.edges, self.trained_below = edges, 1.5

    def trials(self, phase, pairs):
        return [short(rate, 1.0 if rate <= self.edges[seed] else 2.0, seed) for seed, rate in pairs]


def short(rate: float, loss: float | None, seed: int = 0) -> ShortRun:
    return ShortRun("resnet", "batch", "reported", seed, rate, None if loss is not None else 3, loss, 1.0)


class TestSearch:
    def test_the_bracket_of_every_seed_is_halved_in_ratio(self):
        made = Scripted({0: 0.35, 1: 0.8, 2: 9.0})
        found = made.refined(made.trials("reported", [(seed, rate) for seed in (0, 1, 2) for rate in (0.1, 1.6)]))
        rates = {seed: [t.rate for t in found if t.seed == seed][2:] for seed in (0, 1, 2)}
        assert rates == {0: pytest.approx([0.4, 0.2]), 1: pytest.approx([0.4, 0.8]), 2: []}

    def test_the_edge_is_the_largest_rate_that_trained_in_tuning(self):
        made = arm("batch")
        made.trained_below = 1.5
        assert made.edge([short(0.1, 1.0), short(0.2, 1.4), short(0.4, None)]) == 0.2
        assert made.edge([short(0.1, 1.6), short(0.2, None)]) == min(made.how.rates)


NUMBERS = {  # arm -> exponent of the largest rate, |w|, range over linear, change, final loss, error, shift
    "batch": (5, 20.0, 0.5, 0.5, 0.3, 0.10, 0.01),
    "layer": (3, 10.0, 2.0, 2.0, 0.9, 0.30, 0.05),
    "group": (4, 10.0, 1.0, 1.0, 0.7, 0.25, 0.05),
    "none": (2, 10.0, 1.5, 1.5, 1.0, 0.40, 0.10),
    "twin": (2, 10.0, 1.5, 1.5, 1.0, 0.40, 0.10),
    "frozen": (1, 10.0, 3.0, 4.0, 0.8, 0.30, 0.10),
    "noisy": (None, 10.0, 0.5, 0.5, 0.4, 0.15, 0.40),
}
TRANSFORMERS = {"layer": (None, 10.0, 1.0, 1.0, 2.0, 0.5, 0.0), "none": (None, 10.0, 0.5, 3.0, 2.2, 0.5, 0.0)}
LENGTHS = (0.01, 0.02)
EXPECTED = {  # positive is what the claim says of its first arm, by the numbers above
    "batch_rate.resnet": 3 * math.log10(2),
    "batch_rate_tenfold.resnet": 3 * math.log10(2),
    "batch_effective_rate.resnet": 3 * math.log10(2) - 2 * math.log10(2),
    "batch_range.resnet": math.log(3),
    "batch_change.resnet": math.log(3),
    "batch_beta.resnet": math.log(3),
    "layer_rate.resnet": math.log10(2),
    "layer_rate_tenfold.resnet": math.log10(2),
    "layer_effective_rate.resnet": math.log10(2),
    "layer_range.resnet": -math.log(4 / 3),
    "layer_change.resnet": -math.log(4 / 3),
    "layer_beta.resnet": -math.log(4 / 3),
    "group_rate.resnet": 2 * math.log10(2),
    "group_rate_tenfold.resnet": 2 * math.log10(2),
    "group_effective_rate.resnet": 2 * math.log10(2),
    "group_range.resnet": math.log(1.5),
    "group_change.resnet": math.log(1.5),
    "group_beta.resnet": math.log(1.5),
    "layer_range.transformer": -math.log(2),
    "layer_change.transformer": math.log(3),
    "layer_beta.transformer": math.log(3),
    "layer_loss.transformer": 0.2,
    "layer_loss.resnet": 0.1,
    "group_loss.resnet": 0.3,
    "frozen_rate.resnet": 4 * math.log10(2),
    "frozen_none_rate.resnet": -math.log10(2),
    "frozen_range.resnet": math.log(6),
    "frozen_change.resnet": math.log(8),
    "frozen_beta.resnet": math.log(8),
    "noisy_none_loss.resnet": 0.6,
    "noisy_loss.resnet": 0.1,
    "noisy_loss_with_noise.resnet": 0.15,
    "noisy_accuracy.resnet": -0.05,
}
SEEDS = (0, 1, 2, 3, 4)


def run_rows(model: str, arm: str, seed: int, numbers: tuple) -> dict[str, list[dict]]:
    """What one seed of one arm would have left, with a part of the seed's own that no paired contrast may show."""
    exponent, weight, reach, change, loss, error, moved = numbers
    own, name = 1 + seed / 10, {"model": model, "arm": arm, "seed": seed}
    rates = [] if exponent is None else [2.0**k for k in range(exponent - 2, exponent + 2)]
    good = lambda rate: exponent is not None and rate <= 2.0**exponent  # noqa: E731
    gradient = [  # range = reach * |g| * longest step * |w|; the largest change per distance is at the shorter step
        {**name, "length": t, "start_loss": own, "gradient_norm": 2.0, "weight_norm": 5.0 * own, "cosine": 0.5}
        | {"loss": own + reach * 2.0 * LENGTHS[-1] * 5.0 * own * (i - 0.5), "change": change * own}
        for i, t in enumerate(LENGTHS)
    ]
    ended = {"rate": 0.1, "diverged_step": None, "train_loss": loss + own, "test_loss": 1.0, "test_error": error}
    noise = loss + own + 0.05 if arm == "noisy" else None
    return {
        "trials": [
            {**name, "phase": "reported", "rate": rate, "diverged_step": None, "weight_norm": weight * own}
            | {"train_loss": 1.0 if good(rate) else 2.2}
            for rate in rates
        ],
        "runs": [{**name, **ended, "noisy_loss": noise, "matched_step": 9, "matched_loss": 1.7 * own}],
        "gradient": gradient,
        "shifts": [{**name, "step": step, "shift": moved * own} for step in (0, 5)] if model == "resnet" else [],
    }


def planted() -> Frames:
    """Five seeds of every arm with the numbers above."""
    arms = [("resnet", arm, n) for arm, n in NUMBERS.items()] + [("transformer", a, n) for a, n in TRANSFORMERS.items()]
    parts = [run_rows(model, arm, seed, numbers) for model, arm, numbers in arms for seed in SEEDS]
    found = {kind: [row for part in parts for row in part[kind]] for kind in parts[0]}
    shared = {"norm": "x", "altered": "no", "branch_scale": 1.0, "parameters": 9}
    levels = {"trained_below": 1.5, "matched_at": 1.7}
    found["arms"] = [{"model": model, "arm": arm, **shared, **levels} for model, arm, _ in arms]
    chosen = {"criterion": "validation_loss", "rate": 0.1, "interior": 1, "trials": 2}
    found["tuned"] = [{"model": model, "arm": arm, **chosen} for model, arm, _ in arms]
    found["tuning"] = [{"model": model, "arm": arm, "seed": 9, "rate": 0.1} for model, arm, _ in arms]
    return Frames(**{field.name: pd.DataFrame(found[field.name]) for field in fields(Frames)})


def changed(frames: Frames, name: str, where: str, **values) -> Frames:
    """The frames with some cells of one of them replaced."""
    frame = getattr(frames, name).copy()
    for column, value in values.items():
        frame.loc[frame.eval(where), column] = value
    return replace(frames, **{name: frame})


def claimed(frames: Frames | list[Effect], claim: str, role: str = "claim") -> dict[int, float]:
    """A claim's effects by seed, from frames or from all effects."""
    found = frames if isinstance(frames, list) else contrasts.effects(frames)
    return {e.replicate: e.value for e in found if e.claim == f"normalization.{claim}" and e.role == role}


def gate(frames: Frames, claim: str) -> dict[str, float]:
    return {g.gate: g.value for g in contrasts.gates(frames) if g.claim == f"normalization.{claim}"}


class TestContrasts:
    def test_every_claim_has_its_planted_effect(self):
        frames = contrasts.effects(planted())
        assert {one.claim for one in CONTRASTS} == {f"normalization.{claim}" for claim in EXPECTED}
        for claim, value in EXPECTED.items():
            assert claimed(frames, claim) == {seed: pytest.approx(value) for seed in SEEDS}, claim

    def test_the_same_arm_shows_nothing_and_equivalences_have_none(self):
        frames = contrasts.effects(planted())
        for one in CONTRASTS:
            found = claimed(frames, one.claim.split(".", 1)[1], "same_arm")
            expected = one.model == "resnet" and one.kind == "contrast"
            assert found == ({seed: pytest.approx(0) for seed in SEEDS} if expected else {})

    def test_the_same_arm_has_the_sign_of_its_claim(self):
        frames = changed(planted(), "runs", "arm == 'twin'", train_loss=0.0)
        assert claimed(frames, "layer_loss.resnet", "same_arm")[0] == pytest.approx(2.0)  # none ends at 1 + 1

    def test_smoothness_constant_is_the_largest_change_per_distance(self):
        frames = changed(planted(), "gradient", "arm == 'batch' and length == 0.02", change=9.0)
        found = QUANTITIES["beta"](frames)["resnet", "batch", 0]
        assert found == pytest.approx(math.log(9.0 * 2.0 * 5.0 / 0.02))

    def test_common_scale_of_invariant_weights_changes_neither_constant_nor_effective_rate(self):
        """|w| times c makes g smaller by c, β by c², and the rate that acts alike larger by c²."""
        frames, c = planted(), 3.0
        steps = frames.gradient.assign(
            weight_norm=frames.gradient.weight_norm * c, gradient_norm=frames.gradient.gradient_norm / c
        )
        trials = frames.trials.assign(weight_norm=frames.trials.weight_norm * c, rate=frames.trials.rate * c**2)
        scaled = replace(frames, gradient=steps, trials=trials)
        for name in ("beta", "range", "change", "effective_rate"):
            pd.testing.assert_series_equal(QUANTITIES[name](scaled), QUANTITIES[name](frames))

    def test_an_edge_that_was_not_seen_is_no_number(self):
        frames = changed(planted(), "trials", "arm == 'batch' and seed == 2", train_loss=1.0)
        for claim in ("batch_rate.resnet", "batch_effective_rate.resnet"):
            assert list(claimed(frames, claim)) == [0, 1, 3, 4]
            assert gate(frames, claim) == {"edge_found": 0.9}

    def test_gates_see_what_they_are_for(self):
        smooth = gate(planted(), "layer_range.resnet")
        assert smooth == {"rate_interior": 1, "trained": 1, "matched_loss": pytest.approx(0)}
        assert gate(planted(), "layer_loss.resnet") == {"rate_interior": 1, "equal_tuning": 1}
        edge = changed(planted(), "tuned", "arm == 'layer' and model == 'transformer'", interior=0)
        assert gate(edge, "layer_range.transformer")["rate_interior"] == 0
        assert gate(edge, "layer_range.resnet")["rate_interior"] == 1
        fewer = changed(planted(), "tuned", "arm == 'group'", trials=1)
        assert gate(fewer, "group_loss.resnet")["equal_tuning"] == 0
        unreached = changed(planted(), "runs", "arm == 'layer' and seed == 1", matched_loss=np.nan)
        assert gate(unreached, "layer_beta.resnet")["trained"] == 0.9
        lower = changed(planted(), "runs", "arm == 'group'", matched_loss=1.7)
        own = np.mean([math.log(1 + seed / 10) for seed in SEEDS])
        assert gate(lower, "group_change.resnet")["matched_loss"] == pytest.approx(own)

    def test_noise_has_to_move_the_inputs_more_than_either_in_every_seed(self):
        assert gate(planted(), "noisy_loss.resnet")["normalization_shift"] == pytest.approx(math.log(4))
        less = changed(planted(), "shifts", "arm == 'noisy' and seed == 3", shift=0.05 * 1.3)
        assert gate(less, "noisy_accuracy.resnet")["normalization_shift"] == pytest.approx(-math.log(2))
        moving = changed(planted(), "shifts", "arm == 'batch' and seed == 3", shift=0.8 * 1.3)
        assert gate(moving, "noisy_none_loss.resnet")["normalization_shift"] == pytest.approx(-math.log(2))
        missing = replace(planted(), shifts=planted().shifts.query("arm != 'none'"))
        assert gate(missing, "noisy_loss.resnet")["normalization_shift"] is None

    def test_missing_measurements_leave_their_seeds_out(self):
        where = "arm == 'layer' and seed == 2 and length == 0.02"
        frames = contrasts.effects(changed(planted(), "gradient", where, loss=np.nan, change=np.nan))
        for claim in ("layer_range.resnet", "layer_change.resnet", "layer_beta.resnet"):
            assert list(claimed(frames, claim)) == [0, 1, 3, 4]

    def test_nothing_measured_gives_no_effects_and_failing_gates(self):
        full = planted()
        frames = replace(full, gradient=full.gradient.iloc[:0], shifts=full.shifts.iloc[:0])
        assert claimed(frames, "batch_range.resnet") == claimed(frames, "batch_beta.resnet") == {}
        assert gate(frames, "noisy_loss.resnet")["normalization_shift"] is None
        assert contrasts.findings(frames)

    def test_findings_have_unique_names_and_the_planted_means(self):
        found = contrasts.findings(planted())
        assert len({(f.model, f.quantity) for f in found}) == len(found)
        assert {f.table for f in found} == {"factors"}
        (one,) = [f for f in found if (f.model, f.quantity) == ("resnet", "effect: noisy_none_loss")]
        assert (one.mean, one.n) == (pytest.approx(0.6), 5)

    def test_effects_do_not_show_what_seeds_share(self):
        (one,) = [one for one in CONTRASTS if one.name == "group_loss"]
        assert values_of(planted(), one).std() == pytest.approx(0)


MEASURES = {"log10 largest rate": contrasts.rate, "training loss": contrasts.loss}


class TestDrawings:
    @pytest.mark.parametrize("draw", [drawings.rate_response, drawings.along_gradient, drawings.shifts])
    def test_figures_say_what_is_shown(self, draw):
        title = draw(planted()).get_suptitle()
        assert "n = 5" in title and "seed" in title

    def test_measures_have_a_line_per_arm_and_a_mean(self):
        figure = drawings.measures(planted(), MEASURES, "resnet")
        places = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        means = [line for line in figure.axes[1].lines if line.get_marker() == "D"]
        at = {places[int(line.get_ydata()[0])]: line.get_xdata()[0] for line in means}
        assert at["Batch norm"] == pytest.approx(0.3 + 1.2)  # the seeds' own part has the mean 1.2
        assert len(at) == 7 and len([line for line in figure.axes[0].lines if line.get_marker() == "D"]) == 6

    def test_missing_runs_leave_gaps_and_no_errors(self):
        full = changed(planted(), "trials", "arm == 'layer'", train_loss=np.nan)
        for frames in (full, replace(full, gradient=full.gradient.iloc[:0], shifts=full.shifts.iloc[:0])):
            for draw in (drawings.rate_response, drawings.along_gradient, drawings.shifts):
                draw(frames)
            drawings.measures(frames, MEASURES, "transformer")

    def test_every_arm_has_a_label_and_its_own_look(self):
        assert set(drawings.ARMS) == {one.arm for one in ARMS}
        assert len({(look.colour, look.marker) for look in drawings.LOOKS.values()}) == len(drawings.LOOKS)


class TestSettings:
    @pytest.mark.parametrize(
        ("bed", "message"),
        [
            ({"rates": [0.1, 0.03, 1.0]}, "rates must rise"),
            ({"tuned_rates": [0.1, 0.1, 1.0]}, "tuned_rates must rise"),
            ({"shifts": 6}, "6 shifts do not fit into 6 tuned_steps"),
            ({"replicates": 3}, "resnet: 3 replicates of 2 seeds"),
        ],
    )
    def test_what_cannot_be_is_refused(self, bed, message):
        good = settings().factors.normalization.model_dump()
        good["beds"]["resnet"] |= bed
        with pytest.raises(ValueError, match=message):
            Normalization.model_validate(good)
