"""The design over hyperparameters, the surrogate with its Sobol indices, and what they say about the rate."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import check_grad
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal

from nonconvex import config, schedules
from nonconvex.beds import bed_of
from nonconvex.contrasts import rate_importance as contrasts
from nonconvex.contrasts import surrogate
from nonconvex.contrasts.surrogate import Dimension, fitted
from nonconvex.drawings import rate_importance as drawings
from nonconvex.observations.rate_importance import DesignRun, Factor
from nonconvex.optimizers import Sgd
from nonconvex.studies import designs
from nonconvex.studies import rate_importance as study
from nonconvex.studies.designs import MemberSgd, block, latin_hypercube
from nonconvex.study_settings.rate_importance import RateImportance

ROOT = Path(__file__).resolve().parents[1]
SMOKE = config.read(ROOT / "profiles/smoke/params.yaml")
SETTINGS = SMOKE.rates.rate_importance
FULL = config.read(ROOT / "params.yaml").rates.rate_importance


class TestDesign:
    def test_every_column_has_one_value_in_each_stratum(self):
        cube = latin_hypercube(32, 6, 5)
        assert cube.shape == (32, 6)
        assert all(sorted(column) == list(range(32)) for column in np.floor(32 * cube).astype(int).T)
        assert not np.allclose(32 * cube % 1, 0.5, atol=0.2)  # places inside the strata are drawn too

    def test_columns_and_seeds_are_independent(self):
        cube, other = latin_hypercube(400, 6, 5), latin_hypercube(400, 6, 6)
        together = np.corrcoef(np.hstack([cube, other]).T) - np.eye(12)
        assert abs(together).max() < 4.5 / math.sqrt(400)
        assert (latin_hypercube(400, 6, 5) == cube).all()

    def test_a_block_is_balanced(self):
        points = block(FULL, 3)
        assert len(points) == FULL.runs == 32
        pairs = pd.Series([(p.batch_size, p.width) for p in points]).value_counts()
        assert len(pairs) == 16 and set(pairs) == {2}
        assert set(pd.Series([p.schedule for p in points]).value_counts()) == {4}
        assert [p.row for p in points] == list(range(32)) and {p.block for p in points} == {3}

    def test_points_fill_their_ranges(self):
        points = [p for seed in range(20) for p in block(FULL, seed)]
        for name in ("rate", "weight_decay", "gain", "momentum"):
            low, high = getattr(FULL.ranges, name)
            values = np.array([getattr(p, name) for p in points])
            u = (values - low) / (high - low) if name == "momentum" else np.log(values / low) / np.log(high / low)
            # twenty uniform values in every of 32 strata
            assert set(np.bincount(np.floor(32 * u).astype(int))) == {20}, name
        assert len({p.seed for p in points}) == len(points)

    def test_a_range_is_walked_in_its_logarithm(self):
        assert [designs.logarithmic(0.001, 1.0, u) for u in (0, 1 / 3, 1)] == pytest.approx([0.001, 0.01, 1])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"rate": [1.0, 0.1]}, "rate must be a range from low to high"),
            ({"widths": [8, 8]}, "widths holds 8 more than once"),
        ],
    )
    def test_settings_that_cannot_be_are_refused(self, change, message):
        content = SETTINGS.model_dump(mode="json")
        content["ranges"].update(change)
        with pytest.raises(ValidationError, match=message):
            RateImportance.model_validate(content)


class TestTraining:
    def test_the_optimizer_is_sgd_member_by_member(self):
        generator = torch.Generator().manual_seed(0)
        draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
        params = {"a": draw(3, 4, 2), "b": draw(3, 5)}
        momentum, decay = [0.0, 0.5, 0.9], [0.0, 0.1, 0.01]
        optimizer = MemberSgd(torch.tensor(momentum), torch.tensor(decay))
        ours, state = params, optimizer.init(params)
        singles = [({n: v[i : i + 1] for n, v in params.items()}, Sgd(momentum[i], decay[i])) for i in range(3)]
        singles = [(own, one, one.init(own)) for own, one in singles]
        for step in range(5):
            grads, rates = {n: draw(*v.shape) for n, v in params.items()}, torch.tensor([0.1, 0.3, 0.05])
            ours, state = optimizer.update(ours, grads, state, rates, step)
            for i, (own, one, memory) in enumerate(singles):
                part = {n: g[i : i + 1] for n, g in grads.items()}
                singles[i] = (new := one.update(own, part, memory, rates[i : i + 1], step))[0], one, new[1]
        for i, (own, _, _) in enumerate(singles):
            for name, value in own.items():
                torch.testing.assert_close(ours[name][i : i + 1], value, rtol=1e-6, atol=1e-6)

    def test_a_run_is_one_with_its_own_hyperparameters(self):
        """Against torch's own optimizer and initialization, a member at a time."""
        points = [p for p in block(SETTINGS, 0) if (p.batch_size, p.width) == (250, 8)]
        points = [replace(p, rate=rate) for p, rate in zip(points, (0.05, 0.3), strict=True)]
        rows, bed = study.run(SMOKE, points), bed_of(SMOKE, "mlp")
        for point, row in zip(points, rows, strict=True):
            torch.manual_seed(point.seed)
            sizes, relu = ((40, 8), (8, 8), (8, 10)), torch.nn.ReLU()
            network = torch.nn.Sequential(*(part for size in sizes for part in (torch.nn.Linear(*size), relu)))[:-1]
            for layer in network[::2]:
                torch.nn.init.normal_(layer.weight, std=point.gain / math.sqrt(layer.in_features))
                torch.nn.init.zeros_(layer.bias)
            optimizer = torch.optim.SGD(
                network.parameters(), lr=1.0, momentum=point.momentum, weight_decay=point.weight_decay
            )
            schedule = schedules.SCHEDULES[point.schedule](16)
            for step in range(16):  # one epoch of 4,000 examples
                optimizer.param_groups[0]["lr"] = point.rate * schedule(step)
                optimizer.zero_grad()
                x, y = bed.data.train.batch([point.seed], step, 250)
                torch.nn.functional.cross_entropy(network(x[0]), y[0]).backward()
                optimizer.step()
            x, y = bed.data.test.examples(SETTINGS.test_examples)
            with torch.no_grad():
                expected = torch.nn.functional.cross_entropy(network(x), y).item()
            assert row.test_loss == pytest.approx(expected, rel=1e-4)
            assert (row.steps, row.diverged_step, row.schedule) == (16, None, point.schedule)
            x, y = bed.data.train.examples(SETTINGS.curvature_examples)
            largest = dense_curvature(network, x, y)
            assert row.sharpness == pytest.approx(largest, abs=2 * row.residual * largest)

    def test_all_runs_are_trained_once(self):
        points = [p for seed in (0, 1) for p in block(SETTINGS, seed)]
        jobs = [job.args[1] for job in study.jobs(SMOKE, points)]
        assert sorted((p.block, p.row) for part in jobs for p in part) == sorted((p.block, p.row) for p in points)
        assert [(part[0].batch_size, part[0].width) for part in jobs] == [(250, 16), (250, 8), (500, 16), (500, 8)]
        assert study.steps_of(FULL, 64, 4000) == 6 * 62

    def test_a_diverged_run_has_its_step_and_no_scores(self):
        (point, other) = [p for p in block(SETTINGS, 0) if (p.batch_size, p.width) == (500, 8)]
        first, second = study.run(SMOKE, [replace(point, rate=1e30), replace(other, rate=1e-3)])
        assert first.diverged_step is not None
        assert first.test_loss is first.train_error is first.sharpness is None
        assert second.diverged_step is None and second.test_loss is not None


def dense_curvature(network, x, y) -> float:
    params = {name: value.detach() for name, value in network.named_parameters()}
    sizes = {name: value.numel() for name, value in params.items()}

    def loss(flat):
        parts = dict(zip(params, flat.split(list(sizes.values())), strict=True))
        shaped = {name: part.view_as(params[name]) for name, part in parts.items()}
        return torch.nn.functional.cross_entropy(torch.func.functional_call(network, shaped, (x,)), y)

    flat = torch.cat([value.flatten() for value in params.values()])
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat).double())[-1].item()


class TestSurrogate:
    def test_ishigami(self):
        """Ishigami & Homma 1990, a = 7, b = 0.1: V1 = (1 + b pi^4/5)^2/2, V2 = a^2/8, V13 = b^2 pi^8 (1/18 - 1/50)."""
        x = latin_hypercube(256, 3, 1)
        a, b, c = np.pi * (2 * x.T - 1)
        fit = fitted([Dimension()] * 3, x, np.sin(a) + 7 * np.sin(b) ** 2 + 0.1 * c**4 * np.sin(a))
        v1, v2, v13 = 0.5 * (1 + 0.1 * np.pi**4 / 5) ** 2, 49 / 8, 0.01 * np.pi**8 * (1 / 18 - 1 / 50)
        total = v1 + v2 + v13
        assert fit.first_order() == pytest.approx([v1 / total, v2 / total, 0], abs=0.015)
        assert fit.total_order() == pytest.approx([(v1 + v13) / total, v2 / total, v13 / total], abs=0.015)
        assert fit.variance == pytest.approx(total, rel=0.03)

    def test_a_sum_has_equal_first_and_total_shares(self):
        x, slopes = latin_hypercube(128, 5, 2), np.array([3, 2, 1, 0.5, 0])
        fit = fitted([Dimension()] * 5, x, x @ slopes)
        assert fit.first_order() == pytest.approx(slopes**2 / (slopes @ slopes), abs=1e-2)
        assert fit.total_order() == pytest.approx(slopes**2 / (slopes @ slopes), abs=1e-2)

    def test_levels(self):
        """y = x + effect[level] + x * size of a level: exact shares over three named and four ordered levels."""
        named, ordered, effect = np.tile(np.arange(3), 40), np.repeat(np.arange(4), 30), np.array([0.0, 2.0, -1.0])
        x = np.column_stack([latin_hypercube(120, 1, 3)[:, 0], named, ordered])
        y = x[:, 0] * ordered + effect[named]
        fit = fitted([Dimension(), Dimension(3, ordered=False), Dimension(4)], x, y)
        # Var E[y | x] = 1.5²/12, Var E[y | ordered] = 1.25/4, rest of x times ordered = 1.25/12, Var effect = 14/9
        parts = np.array([1.5**2 / 12, 14 / 9, 1.25 / 4, 1.25 / 12])
        assert fit.first_order() == pytest.approx(parts[:3] / parts.sum(), abs=0.01)
        assert fit.total_order() == pytest.approx((parts[:3] + parts[3] * np.array([1, 0, 1])) / parts.sum(), abs=0.01)

    def test_named_levels_are_equally_far_apart_and_ordered_ones_are_not(self):
        three = np.arange(3.0)
        assert Dimension(3, ordered=False).distances(three, three).tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
        assert Dimension(3).distances(three, three).tolist() == [[0, 0.5, 1], [0.5, 0, 0.5], [1, 0.5, 0]]
        assert Dimension().distances(three[:2], three[2:]).tolist() == [[2], [1]]

    def test_prediction_and_likelihood_are_those_of_the_textbook(self):
        x = latin_hypercube(30, 2, 4)
        y = np.sin(5 * x[:, 0]) + x[:, 1]
        z, theta = (y - y.mean()) / y.std(), np.log([1.7, 0.4, 1.3, 0.05])
        gram = lambda a, b: 1.7 * matern(a[:, :1], b[:, :1], 0.4) * matern(a[:, 1:], b[:, 1:], 1.3)  # noqa: E731
        noisy = gram(x, x) + 0.05 * np.eye(30)
        problem = surrogate._Likelihood((Dimension(), Dimension()), x, z)
        expected = -multivariate_normal(np.zeros(30), noisy).logpdf(z)
        assert problem.value(theta)[0] == pytest.approx(expected)
        assert check_grad(lambda t: problem.value(t)[0], lambda t: problem.value(t)[1], theta) < 1e-4
        fit = surrogate.Surrogate((Dimension(),) * 2, x, theta, problem.weights(theta), y.mean(), y.std())
        new = latin_hypercube(9, 2, 5)
        expected = y.mean() + y.std() * gram(new, x) @ np.linalg.solve(noisy, z)
        assert fit.predict(new) == pytest.approx(expected)

    def test_the_main_effect_is_the_mean_over_all_else(self):
        x = latin_hypercube(150, 3, 6)
        fit = fitted([Dimension()] * 3, x, np.sin(5 * x[:, 0]) * x[:, 1] + x[:, 2])
        places, rest = np.array([0.1, 0.6]), latin_hypercube(20000, 2, 7)
        sampled = [fit.predict(np.column_stack([np.full(len(rest), at), rest])).mean() for at in places]
        assert fit.main_effect(0, places) == pytest.approx(sampled, abs=3e-3)

    def test_noise_has_no_share_to_give_and_a_constant_is_flat(self):
        x = latin_hypercube(200, 3, 8)
        y = x[:, 0] + 0.15 * np.random.default_rng(0).normal(size=200)
        assert fitted([Dimension()] * 3, x, y).total_order() == pytest.approx([1, 0, 0], abs=0.05)
        flat = fitted([Dimension()] * 3, x, np.full(200, 4.2))
        assert flat.total_order().tolist() == flat.first_order().tolist() == [0, 0, 0]
        assert flat.predict(x[:2]) == pytest.approx([4.2, 4.2])
        assert fitted([Dimension()] * 3, x[:0], np.empty(0)).total_order().tolist() == [0, 0, 0]

    def test_explained(self):
        y = np.array([1.0, 2.0, 6.0])
        assert surrogate.explained(y, y) == 1
        assert surrogate.explained(y, np.full(3, 3.0)) == 0
        assert surrogate.explained(y, np.array([1.0, 2.0, 4.0])) == pytest.approx(1 - 4 / 14)
        assert np.isnan(surrogate.explained(np.ones(3), y))


def matern(a, b, length):
    r = math.sqrt(5) * cdist(a, b) / length
    return (1 + r + r**2 / 3) * np.exp(-r)


FACTORS = pd.DataFrame([
    Factor("rate", "log", 0.001, 1.0, 0),
    Factor("momentum", "linear", 0.0, 0.95, 0),
    Factor("width", "ordered", None, None, 4),
    Factor("schedule", "named", None, None, 2),
    Factor("dummy", "linear", 0.0, 1.0, 0),
])  # fmt: skip


def planted(rate: float = 1.0, momentum: float = 0.3, blocks: int = 6) -> dict[str, pd.DataFrame]:
    """Test loss: 0.5 + a bowl in the rate and a line in the momentum; the sharpness depends on the width alone."""
    rows = []
    for number in range(blocks):
        cube = latin_hypercube(24, 3, number)
        for row, (u, v, w) in enumerate(cube):
            width, schedule = [25, 50, 100, 200][row % 4], ["wsd", "cosine"][row // 4 % 2]
            loss = 0.5 + rate * 4 * (u - 0.6) ** 2 + momentum * v
            numbers = dict(gain=1.0, weight_decay=1e-4, batch_size=16, steps=9, diverged_step=None, train_error=0.1)
            kept = dict(train_loss=loss - 0.2, test_loss=loss, test_error=0.2, sharpness=float(width), residual=0.01)
            rows.append(
                DesignRun(block=number, row=row, rate=0.001 * 1000**u, momentum=0.95 * v, width=width,
                          schedule=schedule, dummy=w, **numbers, **kept)
            )  # fmt: skip
    return {"factors": FACTORS, "runs": pd.DataFrame(rows)}


FRAMES = planted()
FOUND = contrasts.analysed(FRAMES)


class TestContrasts:
    def test_responses(self):
        runs = FRAMES["runs"].head(4).assign(test_loss=[0.5, np.nan, 9.0, 1.0], train_loss=[0.1, np.nan, 2.2, 2.0])
        runs = runs.assign(sharpness=[2.0, np.nan, 3.0, -1.0])
        assert contrasts.test_loss(runs).tolist() == pytest.approx([0.5, math.log(10), math.log(10), 1.0])
        assert contrasts.test_rank(runs).tolist() == [1, 3.5, 3.5, 2]
        assert contrasts.learned(runs).tolist() == [True, False, False, True]
        found = contrasts.sharpness(runs)
        assert found.iloc[0] == pytest.approx(math.log(2)) and found.iloc[1:].isna().all()

    def test_coordinates(self):
        kinds = [Dimension(), Dimension(), Dimension(4), Dimension(2, ordered=False), Dimension()]
        assert contrasts.dimensions(FACTORS) == kinds
        x = contrasts.coordinates(FRAMES["factors"], FRAMES["runs"])
        first = FRAMES["runs"].iloc[0]
        assert x[0] == pytest.approx([np.log10(first.rate / 0.001) / 3, first.momentum / 0.95, 0, 1, first.dummy])
        assert set(x[:, 2]) == {0, 1, 2, 3}

    def test_planted_shares(self):
        """A bowl 4 (u - 0.6)^2 has variance 16 (1/180 + 0.04/12), a line 0.3 v has 0.09/12."""
        bowl, line = 16 * (1 / 180 + 0.2**2 / 4 / 3), 0.09 / 12
        of = FOUND["test_loss"]
        assert of.total.tolist() == pytest.approx([bowl / (bowl + line), line / (bowl + line), 0, 0, 0], abs=0.01)
        assert of.runner_up == "momentum"
        assert of.lead().mean() == pytest.approx((bowl - line) / (bowl + line), abs=0.02)
        assert of.lead("dummy").mean() == pytest.approx(bowl / (bowl + line), abs=0.02)
        assert of.cross_validated() > 0.99
        assert FOUND["sharpness"].total.round(2).tolist() == [0, 0, 1, 0, 0]
        assert FOUND["sharpness"].lead().mean() == pytest.approx(-1, abs=0.02)

    def test_pseudo_values_are_the_jackknifes(self):
        of = FOUND["test_loss"]
        left = np.array([fit.total_order() for fit in of.without.values()])
        assert of.pseudo_values.to_numpy() == pytest.approx(6 * of.total.to_numpy() - 5 * left)
        one = replace(of, x=of.x[of.blocks != 2], y=of.y[of.blocks != 2], blocks=of.blocks[of.blocks != 2])
        assert one.total.to_numpy() == pytest.approx(left[2], abs=2e-3)

    def test_near_the_best_rate(self):
        assert np.log10(contrasts.best_rate(FRAMES, FOUND["test_loss"])) == pytest.approx(-3 + 3 * 0.6, abs=0.1)
        near, rate = FOUND["near_best"], FRAMES["runs"].rate
        best = contrasts.best_rate(FRAMES, FOUND["test_loss"])
        kept = (rate > best / 10**0.5) & (rate < best * 10**0.5)
        assert len(near.y) == kept.sum()
        assert near.x[:, 0] == pytest.approx(0.5 + np.log10(rate[kept] / best))
        # half a decade is u = 1/6: 4 (u - 0.6)^2 of half-width 1/6 has variance (4/36)^2 * 4/45
        bowl, line = (4 / 36) ** 2 * 4 / 45, 0.09 / 12
        assert near.total.rate == pytest.approx(bowl / (bowl + line), abs=0.03)
        assert near.lead().mean() < 0

    def test_a_best_rate_at_the_end_keeps_to_the_range(self):
        frames = {**FRAMES, "runs": FRAMES["runs"].assign(test_loss=1 - 0.1 * np.log10(FRAMES["runs"].rate))}
        of = contrasts.shares(frames, "test_loss")
        near = contrasts.near_best(frames, of)
        assert 0 <= near.x[:, 0].min() < 0.1 and 0.9 < near.x[:, 0].max() <= 1

    def test_effects(self):
        found = contrasts.effects(FOUND)
        names = {e.claim for e in found}
        assert names == {
            f"rate_importance.{n}.mlp" for n in (*drawings.RESPONSES, "train_loss_share", "sharpness_share")
        }
        values = {(e.claim, e.role, e.replicate): e.value for e in found}
        lead = FOUND["train_loss"].lead()
        assert values["rate_importance.train_loss.mlp", "claim", 3] == pytest.approx(lead[3])
        control = [e.value for e in found if (e.claim, e.role) == ("rate_importance.test_loss.mlp", "same_arm")]
        assert len(control) == 6 and np.mean(control) < 0.5

    def test_permuted_responses_are_the_same_ones_elsewhere(self):
        of = FOUND["test_loss"]
        other = contrasts.permuted(of)
        assert sorted(other.y) == sorted(of.y) and (other.y != of.y).mean() > 0.9 and (other.x == of.x).all()
        assert other.cross_validated() < 0.3

    def test_gates_see_what_they_are_for(self):
        found = {(g.claim.split(".")[1], g.gate): g.value for g in contrasts.gates(FRAMES, FOUND)}
        assert found["test_loss", "importance_fit"] > 0.99 and found["test_loss", "importance_dummy"] < 0.01
        assert found["sharpness", "residual"] == 0.01 and found["sharpness_share", "importance_learned"] == 1
        worse = FRAMES["runs"].assign(residual=[0.3, *[0.01] * 143], train_loss=[2.2] * 72 + [1.0] * 72)
        found = {(g.claim.split(".")[1], g.gate): g.value for g in contrasts.gates({**FRAMES, "runs": worse}, FOUND)}
        assert found["sharpness", "importance_learned"] == 0.5
        assert found["sharpness", "residual"] == 0.01  # of a run that learned nothing it does not count
        idle = replace(FOUND["test_loss"], y=FRAMES["runs"].dummy.to_numpy())
        (value,) = [g.value for g in contrasts.gates(FRAMES, {"test_loss": idle}) if g.gate == "importance_dummy"]
        assert value > 0.9

    def test_findings_have_unique_names_and_the_shares(self):
        found = contrasts.findings(FOUND)
        assert len({f.quantity for f in found}) == len(found) == 5 * 6
        by_name = {f.quantity: f for f in found}
        assert by_name["total-order share of rate: test loss"].mean == pytest.approx(0.95, abs=0.03)
        assert by_name["lead of the rate over momentum: test loss"].n == 6

    def test_no_run_that_learned_gives_no_numbers_and_no_errors(self):
        frames = {**FRAMES, "runs": FRAMES["runs"].assign(train_loss=np.nan, diverged_step=3)}
        found = {"sharpness": contrasts.shares(frames, "sharpness")}
        assert contrasts.effects(found) == []
        values = {g.gate: g.value for g in contrasts.gates(frames, found) if "_share" not in g.claim}
        assert values["importance_fit"] is None and values["residual"] is None and values["importance_learned"] == 0


class TestDrawings:
    def test_figures_say_what_is_shown(self):
        figures = [
            drawings.bars(FOUND),
            drawings.main_effects({**FRAMES, "factors": eight()}, widened(FOUND["test_loss"]), "test_loss"),
            drawings.predictions(FOUND),
        ]
        assert all(figure.get_suptitle() for figure in figures)
        assert "n = 6" in figures[0].get_suptitle()
        assert figures[0].axes[0].get_yticklabels()[0].get_text() == "peak rate"

    def test_bars_are_the_shares(self):
        panel = drawings.bars(FOUND).axes[0]
        widths = [bar.get_width() for bar in panel.patches]
        assert widths == pytest.approx(FOUND["test_loss"].total.tolist())


def eight() -> pd.DataFrame:
    """The factors of the study, of which the planted runs vary five."""
    return pd.DataFrame(study.factors(FULL.ranges)).assign(levels=[0, 0, 0, 0, 1, 4, 2, 0])


def widened(of: contrasts.Shares) -> contrasts.Shares:
    """The planted shares with a column for every factor of the study; those that did not vary lie in the middle."""
    names = tuple(eight().factor)
    still = {"weight_decay": 0.5, "gain": 0.5, "batch_size": 0.0}
    x = np.column_stack([
        np.full(len(of.y), still[name]) if name in still else of.x[:, of.names.index(name)] for name in names
    ])  # fmt: skip
    return replace(of, names=names, dimensions=tuple(contrasts.dimensions(eight())), x=x)
