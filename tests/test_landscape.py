"""Filter-normalised curvature and surfaces, descent along the gradient, and the study that compares architectures."""

import math
from dataclasses import fields
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from nonconvex import config
from nonconvex.contrasts import landscape as contrasts
from nonconvex.contrasts.smoothness import Frames, contrast, geometry, largest_rates, table
from nonconvex.data.splits import FOLDER
from nonconvex.drawings import landscape as drawings
from nonconvex.losses import cross_entropy, squared_error
from nonconvex.measure.descent import along_gradient
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.measure.spectrum import extreme_eigenvalues
from nonconvex.measure.surface import filter_direction, filter_hessian, filter_norms, filters, nonconvex_share, surface
from nonconvex.models.mlp import Mlp
from nonconvex.models.resnet import ResNet
from nonconvex.models.stacked import flatten, select, stack, unflatten
from nonconvex.observations.landscape import Trial
from nonconvex.studies import trainability
from nonconvex.studies.landscape import PLANES, nearest_to_crossing

SEEDS = (0, 1, 2, 3, 4)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(build, e: int = 2):
    made, params = stack(build, range(e))
    made.module.double()
    return made, {name: value.double() for name, value in params.items()}


def mlp(e: int = 2):
    """A tanh network, its parameters and an objective on six examples, all in float64."""
    made, params = network(lambda: Mlp(classes=3, inputs=4, widths=(5,), activation="tanh", skip=False), e)
    x, y = drawn(6, 4, seed=1), torch.tensor([0, 1, 2, 0, 1, 2])
    return made, params, x, y


def resnet(e: int = 2):
    made, params = network(lambda: ResNet(classes=3, dimensions=1, depth=8, width=2), e)
    return made, params, drawn(6, 12, seed=2), torch.tensor([0, 1, 2, 2, 1, 0])


class TestFilters:
    def test_every_filter_of_a_direction_is_as_long_as_the_weights_and_nothing_else_moves(self):
        _, params, *_ = resnet()
        direction = filter_direction(params, [3, 4])
        for name, value in params.items():
            if value.dim() == 2:  # biases and normalisation weights
                assert not direction[name].any()
            else:
                for e, one in enumerate(value):
                    for i, weights in enumerate(one):
                        assert direction[name][e, i].norm().item() == pytest.approx(weights.norm().item())
                        assert not torch.allclose(direction[name][e, i], weights)

    def test_a_direction_depends_on_its_own_seed_and_weights_alone(self):
        _, params, *_ = mlp()
        both, alone = filter_direction(params, [3, 4]), filter_direction(select(params, [1]), [4])
        for name in params:
            torch.testing.assert_close(both[name][1:], alone[name], rtol=0, atol=0)
        other = filter_direction(select(params, [1]), [5])
        assert not torch.allclose(other["head.weight"], alone["head.weight"])

    def test_spectrum_equals_that_of_the_dense_matrix(self):
        """The oracle differentiates the module by itself and scales rows and columns one by one."""
        made, params, x, y = mlp()
        objective = Objective(made, cross_entropy, shared(x, y), free=list(filters(params)))
        found = extreme_eigenvalues(filter_hessian(objective, params), iterations=60, tolerance=1e-8).values
        for e in range(2):
            one = {name: value[e] for name, value in params.items()}
            free = {name: value for name, value in one.items() if value.dim() == 2}
            shapes = [value.shape for value in free.values()]

            def loss(flat, one=one, free=free, shapes=shapes):
                parts = flat.split([shape.numel() for shape in shapes])
                moved = {name: part.view(shape) for name, part, shape in zip(free, parts, shapes, strict=True)}
                logits = torch.func.functional_call(made.module, {**one, **moved}, (x,))
                return torch.nn.functional.cross_entropy(logits, y)

            dense = torch.autograd.functional.hessian(loss, torch.cat([v.flatten() for v in free.values()]))
            scale = [row.norm() / math.sqrt(len(row)) for value in free.values() for row in value for _ in row]
            scale = torch.stack(scale)
            exact = torch.linalg.eigvalsh(scale[:, None] * dense * scale)
            torch.testing.assert_close(found[e], exact[[0, -1]], rtol=1e-6, atol=1e-9)

    def test_scaling_a_batch_normalised_filter_changes_the_hessian_but_not_the_normalised_one(self):
        made, params, x, y = resnet(1)
        grown = {name: value.clone() for name, value in params.items()}
        grown["blocks.0.conv1.weight"][:, 0] *= 3
        grown["stem.weight"][:, 1] *= 0.5
        objective = Objective(made, cross_entropy, shared(x, y), free=list(filters(params)))
        ends = [extreme_eigenvalues(filter_hessian(objective, p), 80, 1e-8).values for p in (params, grown)]
        raw = [extreme_eigenvalues(Hessian(objective, p), 80, 1e-8).values for p in (params, grown)]
        torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-5)  # batch norm's epsilon is not scaled
        assert abs(raw[1][0, 1] / raw[0][0, 1] - 1) > 0.05

    def test_filter_norms_are_those_of_slices_along_the_first_axis(self):
        value = torch.zeros(1, 2, 3, 2)
        value[0, 1] = 2.0
        assert filter_norms(value)[0, 0].unique().tolist() == [0.0]
        assert filter_norms(value)[0, 1].unique().item() == pytest.approx(math.sqrt(24))


class TestSurface:
    def test_points_lie_where_they_are_said_to(self):
        made, params, x, y = resnet()
        objective = Objective(made, cross_entropy, shared(x, y))
        one, two = filter_direction(params, [0, 1]), filter_direction(params, [2, 3])
        ticks = torch.tensor([-0.5, 0.0, 1.0], dtype=torch.float64)
        found = surface(objective, params, one, two, ticks)
        assert found.shape == (2, 3, 3)
        torch.testing.assert_close(found[:, 1, 1], objective.losses(params))
        moved = {name: value + 1.0 * one[name] - 0.5 * two[name] for name, value in params.items()}
        torch.testing.assert_close(found[:, 2, 0], objective.losses(moved))

    @pytest.mark.parametrize(
        ("function", "share"),
        [
            (lambda a, b: a**2 + b**2, 0.0),
            (lambda a, b: a**2 - b**2, 1.0),
            (lambda a, b: 3 * a * b, 1.0),
            (lambda a, b: a**2 + b**2 + 1.9 * a * b, 0.0),
            (lambda a, b: a**2 + b**2 + 2.1 * a * b, 1.0),
            (lambda a, b: a**3 + b**2, 4 / 9),  # inner a < 0: four of nine rows; a third difference is exact
            (lambda a, b: torch.where(a > 0.5, torch.nan, a * b), math.nan),
        ],
    )
    def test_share_of_known_functions(self, function, share):
        ticks = torch.linspace(-1, 1, 11, dtype=torch.float64)
        a, b = torch.meshgrid(ticks, ticks, indexing="ij")
        found = nonconvex_share(function(a, b)[None], 0.2)
        assert found.item() == pytest.approx(share, nan_ok=True)


class TestDescent:
    def test_a_quadratic_is_met_exactly(self):
        """Squared error of a linear network: L(θ - s g) = L - s |g|² + s² gᵀHg / 2 and g' - g = -s H g."""
        made, params = network(lambda: torch.nn.Linear(3, 2, dtype=torch.float64))
        x, y = drawn(5, 3, seed=4), torch.tensor([0, 1, 1, 0, 1])
        objective = Objective(made, squared_error, shared(x, y))
        found = along_gradient(objective, params, (0.01, 0.3))
        for e in range(2):
            one = {name: value[e] for name, value in params.items()}
            like = {name: value[e : e + 1] for name, value in params.items()}
            theta = flatten(like)[0]

            def loss(flat, like=like):
                w = {name: value[0] for name, value in unflatten(flat[None], like).items()}
                residual = x @ w["weight"].T + w["bias"] - torch.nn.functional.one_hot(y, 2)
                return 0.5 * residual.square().sum(1).mean()

            g = torch.autograd.functional.jacobian(loss, theta)
            h = torch.autograd.functional.hessian(loss, theta)
            assert found.weight_norm[e].item() == pytest.approx(math.sqrt(sum(v.square().sum() for v in one.values())))
            for t, length in enumerate(found.lengths):
                s = length * theta.norm() / g.norm()
                expected = loss(theta) - s * g @ g + s**2 * (g @ h @ g) / 2
                assert found.losses[e, t].item() == pytest.approx(expected.item())
                assert found.change[e, t].item() == pytest.approx((s * (h @ g).norm() / g.norm()).item())
                other = g - s * h @ g
                assert found.cosine[e, t].item() == pytest.approx((other @ g / other.norm() / g.norm()).item())


def architectures() -> dict[str, trainability.Architecture]:
    made = trainability.architectures(config.read(FOLDER.parent / "params.yaml"))
    assert len({one.arm for one in made}) == len(made) == 14
    return {one.arm: one for one in made}


class TestStudy:
    def test_architectures_are_those_that_the_claims_compare(self):
        arms = {(one.model, one.arm) for one in architectures().values()}
        weights = [(m, arm) for m, changes in contrasts.CHANGES.items() for w in changes.values() for arm in w]
        assert set(weights) | {("resnet", arm) for arm in (*contrasts.SAME, *PLANES)} <= arms
        assert {arm for _, arm in arms} == set(drawings.ARMS)

    def test_only_residual_networks_without_norm_have_scaled_branches(self):
        scales = {arm: dict(one.options).get("branch_scale") for arm, one in architectures().items()}
        assert scales["deep_skip_none"] == pytest.approx(1 / 3)  # nine blocks
        assert scales["shallow_skip_none"] == pytest.approx(3**-0.5)
        assert {scales[arm] for arm in ("deep_skip_batch", "deep_plain_none", "wide", "twin")} == {1.0}

    def test_twin_differs_from_its_counterpart_in_seeds_only(self):
        made = architectures()
        assert made["twin"].options == made["shallow_skip_batch"].options
        assert [one.arm for one in made.values() if one.offset] == ["twin"]

    @pytest.mark.parametrize(
        ("losses", "place"),
        [
            ([2.0, 1.6, 1.2, 1.7, 0.9], 1),  # 1.6 is nearer to 1.5 than 1.2 is
            ([2.0, 1.9, 1.4], 2),
            ([1.0, 0.5], 0),
            ([2.0, 1.5, 1.6], None),
            ([2.0, math.nan, 1.7], None),
        ],
    )
    def test_matched_state_is_the_nearest_to_the_first_crossing(self, losses, place):
        assert nearest_to_crossing(losses, 1.5) == place


def trial(rate: float, loss: float | None, seed: int = 0, validation: float | None = None) -> Trial:
    return Trial("resnet", "wide", "tuning", seed, rate, None if loss is not None else 3, loss, validation)


class Scripted(trainability.Arm):
    """An arm whose runs train exactly up to a rate of their seed's own, found without training."""

    def __init__(self, edges: dict[int, float], lowest: float = 0.01):
        settings = config.read(FOLDER.parent / "params.yaml")
        self.s = settings.properties.landscape.model_copy(update={"seeds": tuple(edges)})
        self.how = self.s.resnet.model_copy(update={"rates": (lowest, 1.0)})
        self.edges, self.trained_below = edges, 1.5

    def trials(self, phase, pairs):
        return [trial(rate, 1.0 if rate <= self.edges[seed] else 2.0, seed) for seed, rate in pairs]


class TestSearch:
    def test_it_goes_on_until_a_rate_that_trains_lies_below_one_that_does_not(self):
        arm = Scripted({0: 0.32, 1: 5.12, 2: 0.08, 3: 0.0})
        found = arm.search(0.32)
        rates = {seed: sorted(t.rate for t in found if t.seed == seed) for seed in arm.s.seeds}
        assert rates[0] == [0.16, 0.32, 0.64, 1.28]  # the window shows the edge
        assert rates[1] == [0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48]  # twice upwards
        assert rates[2] == [0.04, 0.08, 0.16, 0.32, 0.64, 1.28]  # once downwards
        assert rates[3] == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28]

    def test_it_does_not_look_far_below_the_grid(self):
        assert len(Scripted({0: 0.0}, lowest=0.2).search(0.32)) == 4

    def test_tuning_takes_the_lowest_validation_loss_and_no_rate_that_diverged(self):
        arm = Scripted({0: 0.0})
        arm.how = arm.how.model_copy(update={"rates": (0.1, 0.2, 0.4)})
        trials = [trial(0.1, 1.0, 0, 0.9), trial(0.2, 1.0, 0, 0.5), trial(0.4, 1.0, 0, 0.3)]
        trials += [trial(0.1, 1.0, 1, 0.7), trial(0.2, 1.0, 1, 0.9), trial(0.4, None, 1)]
        assert arm.tuned_rate(trials) == 0.2
        assert arm.edge(trials) == 0.4  # one of the tuning runs trained there
        assert arm.edge([trial(r, 2.0, 0, v) for r, v in ((0.1, 0.2), (0.2, 0.9), (0.4, 0.9))]) == 0.1


NUMBERS = {  # arm -> exponent of the largest rate, λ_max, |λ_min|, range along the gradient, change, share, final loss
    "deep_skip_batch": (5, 1.0, 0.02, 0.5, 0.5, 0.5, 0.3),
    "deep_plain_batch": (3, 2.0, 0.08, 1.0, 1.0, 0.7, 0.9),
    "deep_skip_none": (2, 4.0, 0.2, 2.0, 2.0, 0.8, 0.8),
    "deep_plain_none": (0, 9.0, 0.9, 4.0, 4.0, 0.9, 1.9),
    "wide": (6, 0.5, 0.01, 0.25, 0.5, 0.4, 0.2),
    "shallow_skip_batch": (5, 1.0, 0.03, 0.5, 0.5, 0.5, 0.4),
    "shallow_plain_batch": (4, 1.0, 0.03, 0.5, 0.5, 0.5, 0.5),
    "shallow_skip_none": (3, 3.0, 0.12, 1.5, 1.5, 0.6, 0.6),
    "shallow_plain_none": (3, 3.0, 0.15, 1.5, 1.5, 0.6, 0.7),
    "narrow": (4, 2.0, 0.1, 1.0, 1.0, 0.6, 0.65),
    "twin": (5, 1.0, 0.03, 0.5, 0.5, 0.5, 0.4),
    "skip_layer": (5, 1.0, 0.02, 0.5, 0.5, 0.5, 1.0),
    "skip_none": (3, 2.0, 0.08, 1.0, 1.0, 0.5, 1.5),
    "plain_layer": (2, 3.0, 0.3, 1.0, 1.0, 0.5, 1.8),
}
EXPECTED = {  # positive where the landscape is simpler by the numbers above
    "batch_norm_rate.resnet": 2.5 * math.log10(2),
    "batch_norm_nonconvexity.resnet": (math.log(0.05 / 0.02) + math.log(0.04 / 0.03)) / 2,
    "batch_norm_curvature.resnet": (math.log(4) + math.log(3)) / 2,
    "batch_norm_gradient_range.resnet": (math.log(4) + math.log(3)) / 2,
    "batch_norm_gradient_change.resnet": (math.log(4) + math.log(3)) / 2,
    "batch_norm_loss.resnet": (0.5 + 0.2) / 2,
    "deep_batch_norm_plane.resnet": 0.3,
    "skip_rate.resnet": 2 * math.log10(2),
    "skip_nonconvexity.resnet": math.log(2),
    "skip_curvature.resnet": math.log(2),
    "skip_gradient_range.resnet": math.log(2),
    "skip_plane.resnet": 0.2,
    "skip_loss.resnet": 0.6,
    "width_rate.resnet": 2 * math.log10(2),
    "width_nonconvexity.resnet": math.log(0.05 / 0.02),
    "width_curvature.resnet": math.log(4),
    "width_gradient_range.resnet": math.log(4),
    "width_loss.resnet": 0.45,
    "skip_depth_rate.resnet": math.log10(2),
    "skip_depth_loss.resnet": 0.6 - 0.1,
    "layer_norm_rate.transformer": 2 * math.log10(2),
    "layer_norm_nonconvexity.transformer": math.log(2),
    "skip_rate.transformer": 3 * math.log10(2),
    "skip_nonconvexity.transformer": math.log(5),
    "skip_loss.transformer": 0.8,
}


def planted(wobble: float = 0.0) -> Frames:
    """Records that hold NUMBERS; a seed's own factor, which pairing must remove, multiplies everything but shares."""
    generator = np.random.Generator(np.random.Philox(5))
    parts: dict[str, list] = {field.name: [] for field in fields(Frames)}
    for arm, (exponent, largest, smallest, reach, change, share, loss) in NUMBERS.items():
        model = "transformer" if arm.endswith("layer") or arm == "skip_none" else "resnet"
        name = {"model": model, "arm": arm}
        parts["arms"].append(
            {**name, "depth": 8, "width": 8, "skip": "yes", "norm": "batch", "parameters": 9, "trained_below": 1.5}
            | {"matched_at": 1.2, "tuning_trials": 4, "lowest_rate": 0.01, "highest_rate": 1.0, "tuned_rate": 0.1}
        )
        for seed in SEEDS:
            own = 1 + seed / 10
            noise = math.exp(wobble * generator.standard_normal())
            run = {**name, "seed": seed}
            for k in range(-1, 3):
                rate = 0.01 * 2 ** (exponent + seed + k)
                parts["trials"].append(
                    {**run, "phase": "reported", "rate": rate, "train_loss": 1.0 if k <= 0 else 2.0}
                    | {"diverged_step": None, "validation_loss": None}
                )
            for rate in (0.01, 0.1, 1.0):
                parts["trials"].append(
                    {**run, "seed": 1000, "phase": "tuning", "rate": rate, "train_loss": 1.0, "validation_loss": 1.0}
                    | {"diverged_step": None}
                )
            parts["runs"].append(
                {**run, "rate": 0.1, "initial_loss": 2.3, "final_loss": loss * noise + seed, "diverged_step": None}
                | {"matched_step": 10, "matched_loss": 1.2 * own}
            )
            parts["curvature"].append(
                {**run, "examples": 9, "normalisation": "none", "loss": 1.2, "iterations": 20}
                | {"lambda_max": largest * own * noise, "lambda_min": -smallest * own**2}
                | {"residual_max": 0.01 * largest, "residual_min": 0.02 * smallest}
            )
            # the loss falls to -0.1 and ends at the range above that; a linear loss would fall by 0.5 in every arm
            for length, height in ((0.01, -0.1), (0.02, reach * 0.5 - 0.1)):
                parts["gradient"].append(
                    {
                        **run,
                        "length": length,
                        "start_loss": 1.2,
                        "loss": 1.2 + height * own,
                        "gradient_norm": 2.5 * own / largest,
                    }
                    | {"weight_norm": 10.0 * largest, "change": change * length / 0.015 * own, "cosine": 0.5}
                )
            parts["planes"].append({**run, "examples": 9, "loss": 1.0, "nonconvex_share": share})
            if seed == 0 and arm in PLANES:
                ticks = np.linspace(-1, 1, 5)
                bowl = [(a, b, loss + largest * (a * a + b * b)) for a, b in product(ticks, ticks)]
                parts["surface"] += [{**run, "a": a, "b": b, "loss": height} for a, b, height in bowl]
    frames = {name: pd.DataFrame(rows) for name, rows in parts.items()}
    frames["trials"] = frames["trials"].drop_duplicates(["model", "arm", "phase", "seed", "rate"])
    return Frames(**frames)


def changed(frames: Frames, name: str, **columns) -> Frames:
    """The frames with columns of one of them replaced where `arm` and `seed` say so."""
    frame = getattr(frames, name).copy()
    where = pd.Series(True, frame.index)
    for key in ("arm", "seed"):
        if key in columns:
            where &= frame[key] == columns.pop(key)
    for column, value in columns.items():
        frame.loc[where, column] = value
    return Frames(**{**vars(frames), name: frame})


def gate(frames: Frames, claim: str) -> dict[str, float | None]:
    return {g.gate: g.value for g in contrasts.gates(frames) if g.claim == f"{contrasts.ROW}.{claim}"}


class TestContrasts:
    def test_every_claim_recovers_what_was_planted_in_every_seed(self):
        found = [one for one in contrasts.effects(planted()) if one.role == "claim"]
        by_claim = {claim: [e.value for e in found if e.claim == f"{contrasts.ROW}.{claim}"] for claim in EXPECTED}
        for claim, expected in EXPECTED.items():
            assert by_claim[claim] == pytest.approx([expected] * 5), claim
        assert {e.claim for e in found} - {f"{contrasts.ROW}.{c}" for c in EXPECTED} == {
            f"{contrasts.ROW}.geometry_loss.resnet"
        }

    def test_twins_differ_by_nothing_for_every_claim_that_has_them(self):
        found = [one for one in contrasts.effects(planted()) if one.role == "same_arm"]
        assert {round(one.value, 9) for one in found} == {0.0}
        with_twin = {one.claim for one in found}
        assert len(with_twin) == sum(c.endswith(".resnet") and "_plane" not in c for c in EXPECTED)

    def test_geometry_orders_architectures_within_a_seed(self):
        ratio = {arm: n[2] / n[1] for arm, n in NUMBERS.items()}
        arms = [arm for arm in ratio if arm != "twin" and "layer" not in arm and arm != "skip_none"]
        x, y = pd.Series([ratio[a] for a in arms]).rank(), pd.Series([NUMBERS[a][-1] for a in arms]).rank()
        expected = 1 - 6 * ((x - y) ** 2).sum() / (len(arms) ** 3 - len(arms))
        found = geometry(planted())
        # Spearman's formula without ties; two arms are tied in the ratio, which moves it a little
        assert found.to_numpy() == pytest.approx([expected] * 5, abs=0.02)
        assert geometry(changed(planted(), "curvature", lambda_min=-1.0, lambda_max=2.0)).isna().all()

    def test_an_edge_that_was_not_seen_is_no_number(self):
        frames = changed(planted(), "trials", arm="wide", seed=2, train_loss=1.0)  # all of them train
        assert np.isnan(largest_rates(frames).rate["resnet", "wide", 2])
        assert gate(frames, "width_rate.resnet") == {"edge_found": 0.9}
        effects = [e for e in contrasts.effects(frames) if "width_rate" in e.claim and e.role == "claim"]
        assert [e.replicate for e in effects] == [0, 1, 3, 4]
        nothing = changed(planted(), "trials", arm="narrow", seed=1, train_loss=np.nan)  # none does
        assert np.isnan(largest_rates(nothing).rate["resnet", "narrow", 1])

    def test_tuning_runs_do_not_count_towards_the_edge(self):
        assert 1000 not in largest_rates(planted()).index.get_level_values("seed")

    def test_gates_see_what_they_are_for(self):
        good = gate(planted(), "skip_nonconvexity.resnet")
        assert good == {
            "rate_interior": 1.0,
            "trained": 1.0,
            "matched_loss": pytest.approx(0),
            "residual": pytest.approx(0.02),
        }
        edge = changed(planted(), "arms", arm="deep_plain_batch", tuned_rate=1.0)
        assert gate(edge, "skip_loss.resnet")["rate_interior"] == 0.0
        assert gate(edge, "width_loss.resnet")["rate_interior"] == 1.0
        lowest = changed(planted(), "arms", arm="deep_plain_batch", tuned_rate=0.01)
        assert gate(lowest, "skip_loss.resnet")["rate_interior"] == 0.0
        fewer = changed(planted(), "arms", arm="deep_plain_batch", tuning_trials=3)
        assert gate(fewer, "skip_loss.resnet")["equal_tuning"] == 0.0
        lower = changed(planted(), "runs", arm="deep_plain_batch", matched_loss=1.2 * 1.3)
        own = np.mean([np.log(1 + seed / 10) for seed in SEEDS])
        assert gate(lower, "skip_curvature.resnet")["matched_loss"] == pytest.approx(abs(own - math.log(1.3)))
        unreached = changed(planted(), "runs", arm="deep_plain_batch", seed=3, matched_loss=np.nan)
        assert gate(unreached, "skip_gradient_range.resnet")["trained"] == 0.9
        loose = changed(planted(), "curvature", arm="wide", seed=3, residual_min=0.006)
        assert gate(loose, "width_curvature.resnet")["residual"] == pytest.approx(0.006 / (0.01 * 1.3**2))
        assert gate(planted(), "geometry_loss.resnet")["arms_compared"] == 10

    def test_a_step_that_was_not_finite_leaves_its_run_out(self):
        frames = changed(planted(), "gradient", arm="wide", seed=2, loss=np.nan)
        found = [e for e in contrasts.effects(frames) if "width_gradient_range" in e.claim and e.role == "claim"]
        assert [e.replicate for e in found] == [0, 1, 3, 4]

    def test_findings_have_unique_names_and_the_planted_means(self):
        found = contrasts.findings(planted())
        assert len({(f.model, f.quantity) for f in found}) == len(found)
        (one,) = [f for f in found if (f.model, f.quantity) == ("resnet", "skip: loss")]
        assert (one.mean, one.n) == (pytest.approx(0.6), 5)

    def test_nothing_measured_gives_no_effects_and_failing_gates(self):
        full = planted()
        empty = {name: getattr(full, name).iloc[:0] for name in ("curvature", "gradient", "planes", "surface")}
        frames = Frames(**{**vars(full), **empty})
        claims = {e.claim for e in contrasts.effects(frames)}
        assert not any("curvature" in c or "gradient" in c or "plane" in c for c in claims)
        assert gate(frames, "skip_curvature.resnet")["residual"] is None

    def test_contrast_is_missing_where_an_arm_is(self):
        values = pd.DataFrame({"a": [1.0, np.nan], "b": [0.5, 1.0]})
        assert contrast(values, {"a": 1, "b": -2}).tolist() == pytest.approx([0.0, np.nan], nan_ok=True)

    def test_tables_have_every_seed_and_arm(self):
        frames = planted()
        wide = table(pd.Series({("resnet", "wide", 0): 1.0}).rename_axis(["model", "arm", "seed"]), frames, "resnet")
        assert wide.shape == (5, 11) and wide.notna().sum().sum() == 1


COLUMNS = {"log10 largest rate": contrasts.READERS["rate"], "final training loss": contrasts.READERS["loss"]}


class TestDrawings:
    @pytest.mark.parametrize("draw", [drawings.rate_response, drawings.along_gradient, drawings.surfaces])
    def test_figures_say_what_is_shown(self, draw):
        figure = draw(planted(0.1))
        assert "ingle" in figure.get_suptitle() or "one run" in figure.get_suptitle()
        assert all(panel.get_title(loc="left") for panel in figure.axes if panel.get_label() != "<colorbar>")

    def test_surfaces_share_one_scale(self):
        figure = drawings.surfaces(planted())
        drawn = [panel.collections[0] for panel in figure.axes if panel.get_label() != "<colorbar>"]
        assert len({tuple(part.levels) for part in drawn}) == 1

    def test_measures_have_a_line_per_architecture_and_a_mean(self):
        figure = drawings.measures(planted(), COLUMNS, "resnet")
        assert len(figure.axes[0].get_yticks()) == 11
        means = [line for line in figure.axes[1].lines if line.get_marker() == "D"]
        places = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        at = {places[int(line.get_ydata()[0])]: line.get_xdata()[0] for line in means}
        assert at["Deep, plain, batch norm"] == pytest.approx(0.9 + 2)  # the mean of the seeds' own part is two

    def test_missing_runs_leave_gaps_and_no_errors(self):
        frames = changed(planted(), "trials", arm="wide", train_loss=np.nan)
        frames = Frames(**{**vars(frames), "gradient": frames.gradient.iloc[:0], "surface": frames.surface.iloc[:25]})
        for draw in (drawings.rate_response, drawings.along_gradient, drawings.surfaces):
            draw(frames)
        drawings.measures(frames, COLUMNS, "transformer")
