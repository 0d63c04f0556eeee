"""The study of warm-up: variants of Adam, arms, curvature, the spread of second moments, and what is read from them."""

import itertools
import math
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import torch

from nonconvex.contrasts import warmup as contrasts
from nonconvex.drawings import warmup as drawings
from nonconvex.observations.tuning import TunedArm
from nonconvex.observations.warmup import EarlyPoint, FirstUpdate, MatchedPoint, MomentSpread, WarmedRun
from nonconvex.optimizers import AdamW
from nonconvex.studies.adam_variants import VariantAdamW, rectification


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
        assert all(a < b for a, b in itertools.pairwise(values[5:201]))
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


RATES, SEEDS = (0.01, 0.02, 0.04, 0.08), (0, 1, 2, 3)
LOSS = {  # test error at each rate: a warm-up makes the third and, over 20 %, the fourth rate usable
    "none": (0.40, 0.41, 0.50, 0.60),
    "warm5": (0.40, 0.40, 0.415, 0.55),
    "warm20": (0.41, 0.40, 0.40, 0.41),
}
VARIANTS = {"preaccumulated": 0.58, "rectified": 0.45, "gradient_initialised": 0.60, "restarted": 0.57}
HIGH = 0.08


def planted() -> dict[str, pd.DataFrame]:
    """One bed under Adam; seed s shifts every score by s / 1000, so that only paired differences are exact."""
    runs = [
        WarmedRun("mlp", arm, labels, draw, seed, rate, None, 0.3, 1.0, error + seed / 1000, SPIKE[arm])
        for arm, errors in LOSS.items()
        for labels, draw in (("true", "own"), ("true", "other"), ("shuffled", "own"))
        for seed in SEEDS
        for rate, error in zip(RATES, errors if labels == "true" else [0.9] * 4, strict=True)
    ]
    runs += [
        WarmedRun("mlp", arm, "true", "own", seed, HIGH, None, 0.3, 1.0, error + seed / 1000, 0.1)
        for arm, error in VARIANTS.items()
        for seed in SEEDS
    ]
    sharp = {"none": 20.0, "warm5": 10.0, "warm20": 5.0}
    early = [
        EarlyPoint("mlp", arm, seed, HIGH, step, 2.0, value / (1 + step), 0.01, 2 * value, 0.02, 0.5)
        for arm, value in sharp.items()
        for seed in SEEDS
        for step in (0, 4)
    ]
    matched = [MatchedPoint("mlp", arm, seed, 0.02, 1.2, 9, 1.2, v, 0.01) for arm, v in sharp.items() for seed in SEEDS]
    spread = [
        MomentSpread("mlp", weights, seed, step, 5, 1.0 / step)
        for weights in ("frozen", "trained")
        for seed in SEEDS
        for step in (1, 10)
    ]
    lengths = {"none": 1.0, "preaccumulated": 0.5}
    updates = [FirstUpdate("mlp", arm, seed, length) for arm, length in lengths.items() for seed in SEEDS]
    tuned = [TunedArm("mlp", arm, "validation_error", 0.02, 1, 8) for arm in LOSS]
    kinds = {"runs": (WarmedRun, runs), "early": (EarlyPoint, early), "matched": (MatchedPoint, matched)}
    kinds |= {"moments": (MomentSpread, spread), "updates": (FirstUpdate, updates), "tuned": (TunedArm, tuned)}
    return {n: pd.DataFrame(rows, columns=[f.name for f in fields(kind)]) for n, (kind, rows) in kinds.items()}


SPIKE = {"none": 3.0, "warm5": 1.0, "warm20": 0.5}
FRAMES = planted()


class TestContrasts:
    values = property(lambda self: {(e.claim, e.role, e.replicate): e.value for e in contrasts.effects(FRAMES)})

    def test_signs_of_the_row(self):
        """Positive where a warm-up is better: accuracy with minus without, curvature and spikes without minus with."""
        found = self.values
        expected = {
            "tuned_score": 0.01, "high_rate": 0.19, "early_sharpness": math.log(2), "early_sharpness_long": math.log(4),
            "early_preconditioned": math.log(2), "end_sharpness": math.log(2), "spike": 2.0,
        }  # fmt: skip
        for name, value in expected.items():
            assert found[f"warmup.{name}.mlp", "claim", 1] == pytest.approx(value), name
        assert found["warmup.tuned_score.mlp", "shuffled_labels", 1] == pytest.approx(0)
        assert found["warmup.high_rate.mlp", "same_arm", 1] == pytest.approx(0)
        assert found["warmup.early_sharpness.mlp", "same_arm", 1] == pytest.approx(0)

    def test_the_largest_usable_rate_is_where_the_score_leaves_the_tolerance(self):
        """No warm-up: 0.41 at 0.02 and 0.50 at 0.04, the limit 0.43 is 2/9 of the way in log rate."""
        edges = {arm: contrasts.usable(FRAMES, "mlp", arm) for arm in LOSS}
        assert edges["none"].edge[2] == pytest.approx(np.log10(0.02) + 2 / 9 * np.log10(2))
        assert edges["warm5"].edge[2] == pytest.approx(np.log10(0.04) + 15 / 135 * np.log10(2))
        assert edges["none"].found.all() and not edges["warm20"].found.any()
        assert edges["warm20"].edge[0] == pytest.approx(np.log10(0.08))
        gain = self.values["warmup.usable_rate.mlp", "claim", 0]
        assert gain == pytest.approx(edges["warm5"].edge[0] - edges["none"].edge[0]) and gain > 0
        gates = {(g.claim, g.gate): g.value for g in contrasts.gates(FRAMES)}
        assert gates["warmup.usable_rate.mlp", "edge_found"] == 1
        assert gates["warmup.usable_rate_long.mlp", "edge_found"] == 0.5

    def test_a_rate_that_is_never_usable_and_one_behind_which_a_run_diverged(self):
        scores = pd.Series([-0.9, -0.8], index=[0.1, 0.2])
        assert np.isnan(contrasts.last_within(scores, -0.5)[0])
        edge, found = contrasts.last_within(pd.Series([-0.4, np.nan], index=[0.1, 0.2]), -0.5)
        assert (edge, found) == (pytest.approx(-1), True)

    def test_mechanisms_recover_half_of_what_the_long_warm_up_gains(self):
        """Its gain at the high rate is 0.19; a variant has to gain 0.095, and a restart to lose it."""
        found = self.values
        for name in ("preaccumulated", "rectified", "gradient_initialised"):
            assert found[f"second_moments.{name}.mlp", "claim", 3] == pytest.approx(0.60 - VARIANTS[name] - 0.095), name
        assert found["second_moments.restarted.mlp", "claim", 3] == pytest.approx(0.095 - (0.60 - 0.57))
        assert found["second_moments.variation.mlp", "claim", 0] == pytest.approx(0.9)
        assert found["second_moments.first_update.mlp", "claim", 0] == pytest.approx(math.log(2))
        gates = {(g.claim, g.gate): g.value for g in contrasts.gates(FRAMES)}
        assert gates["second_moments.rectified.mlp", "warmup_gain"] == pytest.approx(0.19 / 0.02)
        assert gates["warmup.early_sharpness.mlp", "residual"] == 0.01
        assert gates["warmup.early_preconditioned.mlp", "residual"] == 0.02

    def test_a_missing_reading_leaves_its_seed_out(self):
        early = FRAMES["early"].copy()
        early.loc[(early.arm == "none") & (early.seed == 2) & (early.step == 0), "sharpness"] = np.nan
        found = contrasts.highest({**FRAMES, "early": early}, "mlp", "none")
        assert np.isnan(found[2]) and found.drop(2).notna().all()

    def test_figures_show_every_arm(self):
        labels = {line.get_label() for line in drawings.responses(FRAMES).axes[0].get_lines()}
        assert {"no warm-up", "5 %", "20 %"} <= labels
        assert len(drawings.mechanisms(FRAMES).axes[0].get_yticklabels()) == len(drawings.VARIANTS)
        assert drawings.early(FRAMES) and drawings.moments(FRAMES)
