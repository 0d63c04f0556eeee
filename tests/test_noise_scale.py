"""The noisy quadratic, gradient noise from per-example gradients, and the study of the noise scale."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from nonconvex import config
from nonconvex.contrasts import noise_scale as contrasts
from nonconvex.data.splits import FOLDER
from nonconvex.drawings import noise_scale as drawings
from nonconvex.losses import cross_entropy
from nonconvex.measure import noisy_quadratic
from nonconvex.measure.gradient_noise import CHUNK, Scale, batch_noise, noise_scale
from nonconvex.models.mlp import Mlp
from nonconvex.models.stacked import select, stack
from nonconvex.studies import noise_scale as study
from nonconvex.study_settings.noise_scale import Grid, NetworkNoise, NoiseScale

SEEDS = (0, 1, 2)


def settings() -> config.Settings:
    return config.read(FOLDER.parent / "params.yaml")


class TestNoisyQuadratic:
    @pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
    def test_limit_solves_the_equations_of_the_stationary_covariance(self, momentum):
        """Oracle: S = A S A^T + N of the state (x, v), solved as linear equations."""
        rate, h, noise = 0.3, 1.7, 0.4
        # v' = b v + h x + e;  x' = x - eta v'
        a = np.array([[1 - rate * h, -rate * momentum], [h, momentum]])
        e = np.array([-rate, 1.0])
        flat = np.linalg.solve(np.eye(4) - np.kron(a, a), noise * np.kron(e, e))
        assert noisy_quadratic.stationary(rate, h, noise, momentum) == pytest.approx(flat[0], rel=1e-12)

    @pytest.mark.parametrize("momentum", [0.0, 0.9])
    def test_recursion_is_that_of_the_covariance_step_by_step(self, momentum):
        rate, h, noise, s = 0.3, 1.7, 0.4, np.array([[2.5, 0.0], [0.0, 0.0]])
        a, e = np.array([[1 - rate * h, -rate * momentum], [h, momentum]]), np.array([-rate, 1.0])
        for steps in range(6):
            found = noisy_quadratic.recursion(steps, 2.5, rate, h, noise, momentum)
            assert found == pytest.approx(s[0, 0], rel=1e-13)
            s = a @ s @ a.T + noise * np.outer(e, e)

    def test_closed_form_on_the_way_is_the_recursions(self):
        rates, h = np.array([0.01, 0.5, 1.9]), np.array([1.0, 0.3, 1.0])
        for steps in (0, 1, 17, 400):
            found = noisy_quadratic.after(steps, np.full(3, 2.0), rates, h, 0.7)
            assert found == pytest.approx(noisy_quadratic.recursion(steps, np.full(3, 2.0), rates, h, 0.7), rel=1e-12)

    def test_nothing_rests_beyond_the_edge(self):
        assert noisy_quadratic.stationary(np.array([1.9, 2.0, 2.1]), 1.0, 1.0)[1:].tolist() == [math.inf] * 2
        assert np.isfinite(noisy_quadratic.stationary(2.1, 1.0, 1.0, momentum=0.5))

    @pytest.mark.parametrize("momentum", [0.0, 0.5])
    def test_simulation_comes_to_the_limit(self, momentum):
        rates, noise = np.array([0.2, 1.0]), np.array([1.0, 0.25])
        generator = np.random.Generator(np.random.Philox(1))
        found = noisy_quadratic.simulated(generator, 2000, 120, rates, 1.3, noise, momentum)
        assert found == pytest.approx(noisy_quadratic.stationary(rates, 1.3, noise, momentum), rel=0.03)


class TestGradientNoise:
    def bed(self):
        made, params = stack(lambda: Mlp(classes=3, inputs=4, widths=(5,), skip=False), range(2))
        made.module.double()
        params = {name: value.double() for name, value in params.items()}
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(CHUNK + 7, 4, dtype=torch.float64, generator=generator)
        return made, params, x, torch.randint(3, (len(x),), generator=generator)

    def each(self, made, params, x, y, e: int) -> torch.Tensor:
        """(N, P) from the module itself, example by example."""
        one = {name: value[e].clone().requires_grad_() for name, value in params.items()}
        rows = []
        for a, b in zip(x, y, strict=True):
            loss = torch.nn.functional.cross_entropy(torch.func.functional_call(made.module, one, (a[None],)), b[None])
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(one.values()))]))
        return torch.stack(rows)

    def test_scale_is_that_of_single_examples_gradients(self):
        made, params, x, y = self.bed()
        found = noise_scale(made, cross_entropy, select(params, [1]), x, y)
        each = self.each(made, params, x, y, 1)
        trace = each.var(0, unbiased=True).sum().item()
        assert found.trace == pytest.approx(trace, rel=1e-9)
        assert found.squared_gradient == pytest.approx(each.mean(0).square().sum().item() - trace / len(x), rel=1e-9)
        assert found.simple == pytest.approx(found.trace / found.squared_gradient)
        assert math.isnan(Scale(1.0, -0.1, 9).simple)

    def test_scale_has_no_bias(self):
        """Means over small subsets come to tr Σ and |G|² of the whole, up to sampling without replacement."""
        made, params, x, y = self.bed()
        one, whole = select(params, [0]), self.each(made, params, x, y, 0)
        order = [torch.randperm(len(x), generator=torch.Generator().manual_seed(s))[:6] for s in range(300)]
        found = [noise_scale(made, cross_entropy, one, x[index], y[index]) for index in order]
        n, trace = len(x), whole.var(0, unbiased=True).sum().item()
        assert np.mean([f.trace for f in found]) == pytest.approx(trace, rel=0.07)
        # E |g_S|² = |G|² + tr Σ (1/6 - 1/n);  the estimate takes off tr Σ / 6
        expected = whole.mean(0).square().sum().item() - trace / n
        assert np.mean([f.squared_gradient for f in found]) == pytest.approx(expected, abs=0.03 * trace)

    def test_batches_noise_is_the_mean_squared_distance_from_the_centre(self):
        made, params, x, y = self.bed()
        each = self.each(made, params, x, y, 1)
        index = torch.arange(12).view(3, 4)
        centre = each.mean(0)
        found = batch_noise(made, cross_entropy, select(params, [1]), x[index], y[index], centre)
        assert found == pytest.approx((each[index].mean(1) - centre).square().sum(1).mean().item(), rel=1e-9)


class TestStudy:
    def runs(self, size: int, arm: str = "plain") -> study.Runs:
        return study.Runs(settings(), size, arm)

    def test_equal_ratio_is_equal_rate_times_steps_at_equal_epochs(self):
        s = settings().rates.noise_scale.mlp
        times = {(r, b): r * b * s.examples // b * s.epochs for r, b in product(s.ratios, s.batch_sizes)}
        assert all(times[r, b] == pytest.approx(times[r, 8]) for r, b in times)
        # and a higher ratio is as far at its first reading as the lowest at its last
        first, last = study.readings(s, s.epochs)[0], study.readings(s, s.epochs)[-1]
        assert first * s.ratios[-1] == pytest.approx(last * s.ratios[0])

    def test_rates_and_seeds_of_members(self):
        plain, momentum = self.runs(32), self.runs(32, "momentum")
        assert [m for m in plain.members if m[0] == "twin"] == [("twin", 0.0025, seed) for seed in range(10)]
        assert len(self.runs(64).members) == len(momentum.members) == 40
        assert [e for e, _, _ in plain.of_ratio([plain.middle])] == list(range(10, 20))  # and no twin
        assert [size for size in plain.how.batch_sizes if self.runs(size).sharp] == [8, 64, 256]

    def test_records_of_a_cell_say_what_was_trained(self, monkeypatch):
        made = self.runs(32)
        count = len(made.members)
        monkeypatch.setattr(study, "scores", lambda *_: (torch.arange(float(count)), torch.full((count,), 0.25)))
        diverged = torch.full((count,), -1)
        diverged[3] = 7
        early, late = made.cells(1, {}, diverged), made.cells(8, {}, diverged)
        assert made.cells(0, {}, diverged) == []
        assert (early[2].loss, early[2].test_error, late[2].test_error) == (2.0, None, 0.25)
        assert (late[3].loss, late[3].test_error, late[3].diverged_step) == (None, None, 7)
        assert (early[2].steps, late[2].steps, late[2].rate) == (96, 768, pytest.approx(0.04))

    def test_momentum_runs_at_the_rate_that_is_to_be_equal(self, monkeypatch):
        seen = {}

        def cohort(bed, recipe, seeds, rates):
            seen.update(recipe=recipe, seeds=seeds, rates=rates)
            return None, {}, None

        monkeypatch.setattr(study, "cohort", cohort)
        monkeypatch.setattr(study, "snapshots", lambda made, params, at: seen.update(at=at) or [])
        list(self.runs(32, "momentum").states())
        assert seen["rates"][0] == pytest.approx(0.00125 * 32 / 10) and seen["recipe"].optimizer.momentum == 0.9
        assert (seen["recipe"].steps, seen["at"]) == (768, [0, 96, 192, 384, 768])
        list(self.runs(32).states())
        assert seen["rates"][-1] == pytest.approx(0.0025 * 32) and seen["seeds"][-1] == 5009

    def test_quadratic_starts_where_it_should_and_takes_equal_time(self):
        s = settings().rates.noise_scale
        cells = pd.DataFrame(study.quadratic_cells(s, 500))
        times = (cells.rate * cells.steps).groupby([cells.ratio, cells.epochs]).agg(["min", "max"])
        assert times["min"].to_numpy() == pytest.approx(times["max"].to_numpy())
        assert times["max"].max() == pytest.approx(64 * 8)
        rows = pd.DataFrame(
            study.stationary(
                s.model_copy(update={"quadratic": s.quadratic.model_copy(update={"chains": 20, "steps": 20})}), 500
            )
        )
        plain = rows[rows.momentum == 0]
        assert sorted((plain.rate * plain.curvature).round(6).unique()) == pytest.approx(
            [0.05, 0.1, 0.2, 0.4, 0.8, 1.6]
        )
        expected = plain.rate * plain.noise / plain.batch_size / plain.curvature / (2 - plain.rate * plain.curvature)
        assert plain.limit.to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-6)
        assert rows.deviation.max() < 1e-12
        heavy = rows[rows.momentum == 0.9]
        assert heavy.rate.to_numpy() == pytest.approx(0.1 * plain.rate.to_numpy(), rel=1e-6)


def how() -> NoiseScale:
    """Two by three cells; rates up to 0.4 are small: batch sizes 1 and 2 of ratio 0.2, 1, 2 and 4 of ratio 0.1."""
    s = settings().rates.noise_scale
    grid = Grid(ratios=(0.1, 0.2), batch_sizes=(1, 2, 4), small_rate=0.4)
    network = NetworkNoise(**{**s.mlp.model_dump(), **grid.model_dump(), "control": 2, "examples": 8, "epochs": 2})
    return s.model_copy(update={"mlp": network, "quadratic": s.quadratic.model_copy(update={"grid": grid})})


def planted(a: float = 0.5, b: float = -0.3) -> contrasts.Frames:
    """ln L = a ln η + b ln B at the end; seed s adds s to each, and a tenth of s to every effect on one side."""
    parts: dict[str, list] = {name: [] for name in ("stationary", "cells", "sharpness", "scales", "noise")}
    for seed in SEEDS:
        for momentum, rate, size in product((0.0, 0.9), (0.05, 0.1, 0.8), (1, 4)):
            limit, h = rate / size * (1 if rate < 0.5 else 3), 1.3
            drawn = limit * (1.2 if momentum else 1.0) * (1 + seed / 10 * (size == 4))
            parts["stationary"].append(
                {"seed": seed, "momentum": momentum, "rate": rate * (1 - momentum) / h, "batch_size": size}
                | {"curvature": h, "noise": 1.0, "limit": limit, "deviation": rate * 1e-12 * (1 + seed)}
                | {"simulated": drawn}
            )
        for bed, (ratio, size), epochs in product(contrasts.BEDS, product((0.1, 0.2), (1, 2, 4)), (1, 2)):
            log = a * math.log(ratio * size) + b * math.log(size) + seed
            # early runs are higher, the more so the higher the ratio
            log += (0.25 + (ratio == 0.2)) * (epochs == 1)
            for arm in ("plain", "momentum", "twin")[: 3 if bed == "mlp" and size == 2 else 1]:
                if arm == "twin" and ratio == 0.1:
                    continue
                shift = {"plain": 0.0, "momentum": 0.05, "twin": -0.01}[arm]
                parts["cells"].append(
                    {"bed": bed, "arm": arm, "ratio": ratio, "batch_size": size, "seed": seed, "epochs": epochs}
                    | {"rate": ratio * size, "steps": epochs * 8 // size, "diverged_step": np.nan}
                    | {"loss": math.exp(log + shift), "test_error": 0.1 * size + 0.01 * seed}
                )
        for size in (4, 1, 2):
            parts["sharpness"].append({"ratio": 0.2, "batch_size": size, "seed": seed, "examples": 9, "loss": 1.0})
            parts["sharpness"][-1] |= {"sharpness": size**2 * (1 + seed), "residual": 0.01 * size}
        for ratio, epochs in product((0.1, 0.2), (0, 2)):
            parts["scales"].append({"ratio": ratio, "batch_size": 2, "seed": seed, "epochs": epochs, "examples": 9})
            parts["scales"][-1] |= {"trace": 8.0, "squared_gradient": 2.0, "simple": 4.0 + seed}
        parts["noise"] += [
            {"seed": seed, "batch_size": n, "batches": 3, "variance": n ** (-1 - seed / 10)} for n in (1, 2, 4)
        ]
    return contrasts.Frames(**{name: pd.DataFrame(rows) for name, rows in parts.items()}, how=how())


def changed(frames: contrasts.Frames, name: str, where: str, **columns) -> contrasts.Frames:
    frame = getattr(frames, name).copy()
    index = frame.query(where).index
    assert len(index)
    for column, value in columns.items():
        frame.loc[index, column] = value
    return contrasts.Frames(**{**vars(frames), name: frame})


def values(frames: contrasts.Frames, claim: str, role: str = "claim") -> list[float]:
    name = f"{contrasts.ROW}.{claim}"
    return [e.value for e in contrasts.effects(frames) if e.claim == name and e.role == role]


def gate(frames: contrasts.Frames, claim: str) -> dict[str, float | None]:
    return {g.gate: g.value for g in contrasts.gates(frames) if g.claim == f"{contrasts.ROW}.{claim}"}


LN2, S = math.log(2), np.array(SEEDS)


class TestContrasts:
    @pytest.mark.parametrize(
        ("claim", "expected"),
        [
            ("stationary.quadratic", np.log(1 + S / 10)),
            ("stationary_momentum.quadratic", np.log(1.2 * (1 + S / 10))),
            ("recursion.quadratic", 0.8e-12 * (1 + S)),
            ("rate_small.quadratic", 0 * S),
            ("batch.quadratic", np.log(1 + S / 10) / math.log(4)),
            ("momentum.quadratic", np.full(3, math.log(1.2))),
            ("gradient_noise.mlp", -S / 10),
            ("ratio_matters.mlp", np.full(3, -0.5 * LN2)),
            ("momentum.mlp", np.full(3, 0.05)),
            # ratio 0.1 up to batch 4, ratio 0.2 up to batch 2: mean of 2 and 1 doublings
            ("same_ratio_small.mlp", np.full(3, 1.5 * 0.2 * LN2)),
            ("same_ratio_whole.mlp", np.full(3, 2 * 0.2 * LN2)),
            ("same_ratio_small.quadratic", np.full(3, 1.5 * 0.2 * LN2)),
            ("exponents_small.mlp", np.full(3, 0.2)),
            ("exponents_whole.quadratic", np.full(3, 0.2)),
            ("error_small.mlp", np.full(3, 0.2)),
            ("error_whole.mlp", np.full(3, 0.3)),
            ("sharpness_small.mlp", np.full(3, 2 * LN2)),
            ("sharpness_whole.mlp", np.full(3, 4 * LN2)),
            # twice the rate at the same batch size; half the batch size at the same rate
            ("noise_rate.mlp", np.full(3, 1.25 + 0.5 * LN2)),
            ("noise_batch.mlp", np.full(3, 1.25 + 0.3 * LN2)),
            ("noise_rate.quadratic", np.full(3, 1.25 + 0.5 * LN2)),
        ],
    )
    def test_what_was_planted_is_found(self, claim, expected):
        assert values(planted(), claim) == pytest.approx(list(expected), rel=1e-9, abs=1e-12)

    def test_exponents_are_told_apart(self):
        frames = planted()
        for bed in contrasts.BEDS:
            found = contrasts.exponents(contrasts.losses(frames, bed), frames.grid(bed), False)
            assert found.a.tolist() == pytest.approx([0.5] * 3) and found.b.tolist() == pytest.approx([-0.3] * 3)

    def test_a_curved_answer_to_the_ratio_does_not_bend_the_exponents(self):
        """Cells of small rates are no rectangle: without the quadratic term its bend would leak into a + b."""
        grid = Grid(ratios=(0.1, 0.2, 0.4, 0.8), batch_sizes=(1, 2, 4), small_rate=1.6)
        cells = list(product(grid.ratios, grid.batch_sizes))
        logs = [0.5 * math.log(r * n) - 0.3 * math.log(n) + 0.7 * math.log(r / 0.2) ** 2 for r, n in cells]
        table = pd.DataFrame([logs], columns=pd.MultiIndex.from_tuples(cells))
        for small in (True, False):
            assert contrasts.exponents(table, grid, small).sum(axis=1)[0] == pytest.approx(0.2)

    def test_the_whole_range_knows_more_than_small_rates(self):
        assert min(values(planted(), "rate_whole.quadratic")) > 0.1

    def test_twins_stand_beside_contrasts(self):
        for claim in ("ratio_matters.mlp", "noise_rate.mlp", "noise_batch.mlp"):
            assert values(planted(), claim, "same_arm") == pytest.approx([0.01] * 3)

    def test_a_diverged_run_counts_as_a_guess(self):
        where = "bed == 'mlp' and arm == 'plain' and ratio == 0.2 and batch_size == 4 and seed == 1 and epochs == 2"
        frames = changed(planted(), "cells", where, diverged_step=3, loss=np.nan, test_error=np.nan)
        low = 0.5 * math.log(0.2) + 1
        expected = (2 * 0.2 * LN2 + math.log(math.log(10)) - low) / 2
        assert values(frames, "same_ratio_whole.mlp")[1] == pytest.approx(expected)
        assert values(frames, "error_whole.mlp")[1] == pytest.approx((0.3 + 0.9 - 0.11) / 2)
        assert gate(frames, "same_ratio_small.mlp")["noise_finished"] == 1.0  # its rate is not small
        small = changed(planted(), "cells", where.replace("batch_size == 4", "batch_size == 2"), diverged_step=3)
        assert gate(small, "same_ratio_small.mlp")["noise_finished"] < 1.0

    def test_a_diagonal_breaks_where_it_first_leaves(self):
        frames = planted(a=0.5, b=-0.45)  # 3.5 % a doubling
        assert contrasts.break_batch(frames, "mlp", 0.1) == 4
        where = "bed == 'mlp' and arm == 'plain' and ratio == 0.1 and batch_size == 2 and epochs == 2"
        loss = frames.cells.query(where).loss * 1.2
        frames.cells.loc[loss.index, "loss"] = loss
        assert contrasts.break_batch(frames, "mlp", 0.1) == 1
        assert contrasts.break_batch(frames, "mlp", 0.2) == 4

    def test_gates_are_those_of_each_claim(self):
        frames = planted(a=-0.5)
        assert gate(frames, "same_ratio_small.mlp") == {"noise_finished": 1.0, "noise_responds": pytest.approx(LN2 / 2)}
        assert set(gate(frames, "same_ratio_whole.mlp")) == {"noise_responds"}
        assert gate(frames, "sharpness_whole.mlp") == {"residual": pytest.approx(0.04)}
        assert set(gate(frames, "noise_rate.mlp")) == {"noise_finished"}
        assert gate(frames, "noise_rate.quadratic") == gate(frames, "gradient_noise.mlp") == {}

    def test_findings_are_named_once(self):
        found = contrasts.findings(planted())
        assert len({(f.model, f.quantity) for f in found}) == len(found)
        assert {f.table for f in found} == {"prose"}


class TestDrawings:
    @pytest.mark.parametrize("draw", ["stationary", "diagonals", "contours", "progress"])
    def test_figures_say_how_many_they_show(self, draw):
        assert "n = 3" in getattr(drawings, draw)(planted()).get_suptitle().replace("\n", " ")


class TestSettings:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"ratios": (0.1, 0.3)}, "ratios must double"),
            ({"batch_sizes": (8, 16, 48)}, "batch_sizes must double"),
            ({"small_rate": 0.1}, "two batch sizes"),
            ({"examples": 3000}, "multiple of every batch size"),
            ({"control": 24}, "control"),
            ({"epochs": 12}, "epochs"),
        ],
    )
    def test_what_cannot_be_is_refused(self, change, message):
        with pytest.raises(ValidationError, match=message):
            NetworkNoise(**{**settings().rates.noise_scale.mlp.model_dump(), **change})
