"""The tangent kernel, races to a fit, and the study that compares networks of different widths."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from nonconvex import config
from nonconvex.beds import Bed
from nonconvex.contrasts import fits
from nonconvex.contrasts import overparameterization as contrasts
from nonconvex.contrasts.fits import Frames
from nonconvex.data.splits import FOLDER, Arrays, Dataset
from nonconvex.drawings import overparameterization as drawings
from nonconvex.measure.ntk import jacobian, relative_change, spectrum, tangent_kernel
from nonconvex.models.mlp import Mlp
from nonconvex.models.resnet import ResNet
from nonconvex.models.stacked import flatten, stack, unflatten
from nonconvex.observations.overparameterization import FitTrial
from nonconvex.studies import overparameterization as study
from nonconvex.studies.fit_arms import Arms
from nonconvex.studies.fitting import Member, all_home, examples_of, patiently, race, run
from nonconvex.train import State

SETTINGS = config.read(FOLDER.parent / "params.yaml")
SMOKE = config.read(FOLDER.parent / "profiles" / "smoke" / "params.yaml")


def drawn(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def network(build, e: int = 2):
    made, params = stack(build, range(e))
    made.module.double()
    return made, {name: value.double() for name, value in params.items()}


def toy_bed(count: int = 40, inputs: int = 40, classes: int = 10) -> Bed:
    """The settings' MLP on inputs and labels drawn at random."""
    y = torch.arange(count) % classes
    split = Arrays(drawn(count, inputs, seed=7, dtype=torch.float32), y)
    return Bed("mlp", SETTINGS.train["mlp"], Dataset("toy", split, split, split, classes), "cpu")


class TestTangentKernel:
    def test_it_holds_inner_products_of_finite_differences_of_the_outputs(self):
        made, params = network(lambda: Mlp(classes=3, inputs=4, widths=(5, 2), activation="tanh", skip=False))
        x = drawn(2, 3, 4, seed=1)
        flat, h = flatten(params), 1e-5
        columns = []
        for i in range(flat.shape[1]):
            step = torch.zeros_like(flat)
            step[:, i] = h
            up, down = (made(unflatten(flat + s * step, params), x) for s in (1, -1))
            columns.append(((up - down) / (2 * h)).flatten(1))
        slopes = torch.stack(columns, 2)  # (E, N C, P), examples outermost
        found = tangent_kernel(made, params, x)
        torch.testing.assert_close(found, slopes @ slopes.transpose(1, 2), rtol=1e-7, atol=1e-8)
        torch.testing.assert_close(jacobian(made, params, x[1], 1), slopes[1], rtol=1e-7, atol=1e-8)
        some = tangent_kernel(made, params, x, [2, 0])
        place = [3 * i + k for i in range(3) for k in (2, 0)]
        torch.testing.assert_close(some, found[:, place][:, :, place])

    def test_that_of_a_linear_network_is_known_and_never_changes(self):
        made, params = network(lambda: torch.nn.Linear(4, 3))
        x = drawn(2, 5, 4, seed=2)
        before = tangent_kernel(made, params, x)
        for e in range(2):
            expected = torch.kron(x[e] @ x[e].T + 1, torch.eye(3, dtype=torch.float64))
            torch.testing.assert_close(before[e], expected)
        moved = {name: 3 * value + 1 for name, value in params.items()}
        assert relative_change(before, tangent_kernel(made, moved, x)).tolist() == [0.0, 0.0]

    def test_change_is_relative_to_the_first_kernel(self):
        kernel = drawn(3, 4, 4, seed=3)
        found = relative_change(kernel, torch.stack([kernel[0] * 1.5, -kernel[1], kernel[2]]))
        assert found.tolist() == pytest.approx([0.5, 2.0, 0.0])

    def test_spectrum_rises_and_a_dead_example_gives_a_zero(self):
        made, params = network(lambda: torch.nn.Linear(2, 1, bias=False), 1)
        found = spectrum(tangent_kernel(made, params, torch.tensor([[[3.0, 0.0], [0.0, 0.0], [0.0, 2.0]]]).double()))
        assert found[0].tolist() == pytest.approx([0, 4, 9])

    def test_batch_normalisation_is_refused(self):
        made, params = network(lambda: ResNet(classes=3, dimensions=1, depth=8, width=2))
        with pytest.raises(ValueError, match="batch normalisation"):
            tangent_kernel(made, params, drawn(2, 3, 12))


def pair(labels: str = "clean", seed: int = 3, start: int = 3, rate: float = 0.5) -> Member:
    return Member(seed, start, labels, rate)


class TestExamples:
    def test_random_labels_are_the_same_ones_on_the_same_inputs_in_another_order(self):
        bed = toy_bed()
        found = examples_of(bed, [pair(), pair("random"), pair(seed=4), pair(start=9)], 20)
        torch.testing.assert_close(found.x[0], found.x[1], rtol=0, atol=0)
        assert found.y[0].tolist() != found.y[1].tolist()
        assert sorted(found.y[0].tolist()) == sorted(found.y[1].tolist())
        torch.testing.assert_close(found.x[0], found.x[3], rtol=0, atol=0)  # a twin's examples are its seed's
        assert found.y[0].tolist() == found.y[3].tolist()
        assert not torch.equal(found.x[0], found.x[2])
        assert len({tuple(row.tolist()) for row in found.x[2]}) == 20

    def test_clean_labels_stay_with_their_inputs(self):
        bed = toy_bed()
        found = examples_of(bed, [pair()], 20)
        of = {
            tuple(row.tolist()): label for row, label in zip(bed.data.train.x, bed.data.train.y.tolist(), strict=True)
        }
        assert [of[tuple(row.tolist())] for row in found.x[0]] == found.y[0].tolist()

    def test_an_epoch_of_minibatches_holds_every_example_once_with_its_label(self):
        found = examples_of(toy_bed(), [pair(seed=1), pair(seed=2)], 20)
        parts = [found.minibatch([1, 2], step, 5) for step in range(4)]
        x, y = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        for e in range(2):
            of = {tuple(r.tolist()): label for r, label in zip(found.x[e], found.y[e].tolist(), strict=True)}
            assert [of[tuple(row.tolist())] for row in x[e]] == y[e].tolist()
            assert len({tuple(row.tolist()) for row in x[e]}) == 20
        again = found.minibatch([1, 2], 4, 5)
        assert not torch.equal(again[0], parts[0][0])


def by_torch(start: Member, widths: tuple[int, int], batches, steps: int, level: float):
    """(updates to the level, weights there) of torch's own optimizer on batches (x, y), and the full set to look at."""
    torch.manual_seed(start.start)
    net = Mlp(widths=widths, skip=False)
    descent = torch.optim.SGD(net.parameters(), lr=start.rate)
    (full_x, full_y), every, draw = batches
    for step in range(steps + 1):
        if step % every == 0:
            loss = torch.nn.functional.cross_entropy(net(full_x), full_y)
            if loss.item() <= level:
                return step, [p.detach().clone() for p in net.parameters()]
        descent.zero_grad()
        x, y = draw(step)
        torch.nn.functional.cross_entropy(net(x), y).backward()
        descent.step()
    return -1, [p.detach().clone() for p in net.parameters()]


class TestRace:
    @pytest.mark.parametrize("batch_size", [0, 5])
    def test_it_stops_the_clock_where_torchs_own_descent_first_meets_the_level(self, batch_size):
        bed, steps, level = toy_bed(), 60, 0.3
        arms = Arms(SETTINGS.factors.overparameterization, bed, "square", 12, "full_batch")
        members = [pair(rate=0.6), pair("random", rate=0.6), pair(start=8, rate=0.2), pair(rate=0.01)]
        found = race(arms.bed, members, 20, steps, batch_size)
        end = run(found, [level, 1.0], all_home)
        own = examples_of(bed, members, 20)
        assert end.steps == steps  # the slowest member never fits
        for e, member in enumerate(members):
            full = (own.x[e], own.y[e])

            def draw(step, e=e, full=full):
                return (
                    full if not batch_size else tuple(v[e] for v in own.minibatch([m.seed for m in members], step, 5))
                )

            every = 20 // batch_size if batch_size else 1
            step, weights = by_torch(member, (12, 12), (full, every, draw), steps, level)
            assert end.crossings[0].steps[e].item() == step
            if step >= 0:
                flat = torch.cat([w.flatten() for w in weights])
                torch.testing.assert_close(
                    flatten(end.places())[e], torch.cat(ordered(found, weights)), rtol=1e-3, atol=1e-4
                )
                assert flat.numel() == arms.parameters
        assert end.crossings[0].steps[3] == -1
        torch.testing.assert_close(flatten(end.places())[3], flatten(end.state.params)[3], rtol=0, atol=0)

    def test_a_start_below_the_level_takes_no_updates_and_a_diverged_run_never_fits(self):
        arms = Arms(SETTINGS.factors.overparameterization, toy_bed(), "square", 4, "full_batch")
        found = race(arms.bed, [pair(rate=0.1), pair(rate=1e30)], 20, 30)
        end = run(found, [1e-3, 1e6], all_home)
        assert end.crossings[1].steps.tolist() == [0, 0]
        assert end.crossings[0].steps.tolist() == [-1, -1]
        assert end.state.diverged[0] == -1 and end.state.diverged[1] > 0

    def test_patience_counts_from_the_slowest_of_the_fastest_team(self):
        over = patiently([[[0, 1], [2, 3]], [[4, 5]]], 2.0)
        at = lambda step: State(step, {}, {}, {}, torch.tensor([]), torch.tensor([]))  # noqa: E731
        steps = torch.tensor([5, -1, 7, 10, 3, 12])
        assert not over(at(23), steps) and over(at(24), steps)  # 12 is the later winner's time
        steps[1] = 6  # the first team has now beaten the second
        assert over(at(24), steps)
        steps[5] = 4
        assert not over(at(11), steps) and over(at(12), steps)
        steps[4] = -1
        assert not over(at(1000), steps)


def ordered(found, weights):
    """torch's parameters, in the order of the stacked dictionary."""
    names = [name for name, _ in found.network.module.named_parameters()]
    by_name = dict(zip(names, weights, strict=True))
    return [by_name[name].flatten() for name in found.params]


def trial(rate: float, steps: int | None, seed: int = 1000, loss: float | None = 0.1) -> FitTrial:
    return FitTrial("a", "square", 4, "clean", "full_batch", seed, rate, 99, None, steps, loss)


class TestArms:
    def arms(self, shape="square", width=16, method="full_batch", **changes) -> Arms:
        s = SETTINGS.factors.overparameterization.model_copy(update=changes)
        return Arms(s, toy_bed(), shape, width, method)

    def test_a_bottleneck_has_the_parameters_of_its_counterpart(self):
        arms = self.arms("bottleneck", 8)
        like = self.arms(width=arms.s.bottleneck.like)
        for one in (arms, like):
            assert sum(p.numel() for p in one.bed.build().parameters()) == one.parameters
        assert arms.widths[1] == 8 < arms.widths[0]
        assert arms.parameters == pytest.approx(like.parameters, rel=0.01)
        assert not arms.bed.build().skip

    def test_the_rate_is_the_asked_steps_below_the_fastest_that_fits_every_seed(self):
        trials = [trial(r, s, seed) for r, *by in GRID for seed, s in zip((1000, 1001), by, strict=True)]
        assert self.arms(back=0).chosen(trials).rate == 0.4
        chosen = self.arms(back=2).chosen(trials)
        assert (chosen.rate, chosen.interior, chosen.trials) == (0.1, 0, 12)  # the first rate of the grid
        assert self.arms(back=1).chosen(trials).interior == 1

    def test_a_fastest_rate_at_the_top_of_the_grid_is_not_inside_it(self):
        trials = [trial(0.1, 90), trial(0.2, 50), trial(0.4, 20)]
        assert (self.arms(back=1).chosen(trials).rate, self.arms(back=1).chosen(trials).interior) == (0.2, 0)

    def test_without_a_fit_the_lowest_loss_is_taken_and_no_step_back(self):
        trials = [trial(0.1, None, loss=0.5), trial(0.2, None, loss=0.3), trial(0.4, None, loss=None)]
        trials += [trial(0.1, None, 1, 0.5), trial(0.2, None, 1, 0.4), trial(0.4, 30, 1, 0.01)]
        assert self.arms(back=1).chosen(trials).rate == 0.4  # fewest left out
        trials[-1] = trial(0.4, None, 1, 0.01)
        assert (self.arms(back=1).chosen(trials).rate, self.arms(back=1).chosen(trials).interior) == (0.2, 1)

    def test_settings_that_cannot_be_are_refused(self):
        found = SETTINGS.factors.overparameterization.model_dump(mode="json")
        for change, message in (
            ({"twin": 5}, "start two runs"),
            ({"kernel_examples": 151}, "kernel_examples"),
            ({"bottleneck": {"width": 8, "like": 63}}, "bottleneck.like"),
            ({"easy": 0.001}, "easy"),
            ({"gradient_descent": found["gradient_descent"] | {"rates": [0.2, 0.1, 0.4]}}, "rise"),
            ({"gradient_descent": found["gradient_descent"] | {"batch_size": 5}}, "batch_size"),
        ):
            with pytest.raises(ValueError, match=message):
                type(SETTINGS.factors.overparameterization).model_validate_json(json.dumps(found | change))


GRID = [(0.1, 90, 80), (0.2, 60, 55), (0.4, 30, 41), (0.8, 10, 50), (1.6, 5, None), (3.2, None, None)]


SEEDS = (0, 1, 2, 3)
WIDTHS = (4, 8, 16, 64)
PLANTED = {  # (labels, method) -> updates by width; None where no seed fits
    ("clean", "full_batch"): (None, 800, 300, 100),
    ("random", "full_batch"): (None, 900, 500, 100),
    ("clean", "minibatch"): (None, 1600, 900, 160),
}
SIZES = {4: 100, 8: 200, 16: 800, 64: 8000}


def planted(wobble: float = 0.0) -> Frames:
    """Runs with known updates, times a seed's own factor that pairing must remove, and a wobble that it cannot."""
    generator = np.random.Generator(np.random.Philox(3))
    runs, tuned, trials, pairs, grams = [], [], [], [], []

    def add(shape, width, labels, method, start, seed, steps, size):
        factor = (1 + seed) * math.exp(wobble * generator.standard_normal())
        common = {"shape": shape, "width": width, "labels": labels, "method": method, "seed": seed}
        rest = {"first_width": width, "parameters": size, "examples": 50, "classes": 10, "start": start, "rate": 0.2}
        found = {
            "steps": steps and steps * factor,
            "easy_steps": steps and steps * factor / 3,
            "allowed": 1500 * (1 + seed),
        }
        place = {
            "train_loss": 0.01,
            "train_error": 0.0 if steps else 0.4,
            "test_error": 0.7,
            "initial_norm": width**0.5,
        }
        moved = {"distance": 3.0 * (1 + seed), "kernel_change": factor * width**-0.8, "diverged_step": None}
        runs.append({**common, **rest, **found, **place, **moved})

    for (labels, method), updates in PLANTED.items():
        for width, steps in zip(WIDTHS, updates, strict=True):
            tuned.append(arm("square", width, labels, method))
            for seed in SEEDS:
                add("square", width, labels, method, "own", seed, steps, SIZES[width])
                trials += [
                    {"arm": tuned[-1]["arm"], "shape": "square", "width": width, "labels": labels, "method": method}
                    | {
                        "seed": 1000,
                        "rate": rate + seed,
                        "stopped": 9,
                        "diverged_step": None,
                        "steps": steps,
                        "train_loss": 1.0,
                    }
                    for rate in (0.2,)
                ]
    for labels in ("clean", "random"):
        for seed in SEEDS:
            add("square", 64, labels, "full_batch", "twin", seed, 80, SIZES[64])
            pairs.append(
                {"width": 64, "labels": labels, "seed": seed, "apart": 2.0, "start_apart": 1.5} | {"disagreement": 0.3}
            )
    tuned.append(arm("bottleneck", 8, "clean", "full_batch"))
    for seed in SEEDS:
        add("bottleneck", 8, "clean", "full_batch", "own", seed, None if seed == 2 else 900, 8100)
        smallest = {4: -1e-15, 8: 1e-3, 16: 0.1, 64: 1.0}
        grams += [
            {"width": w, "parameters": 9, "examples": 50, "seed": seed, "smallest": v, "mean": 10.0, "largest": 99.0}
            for w, v in smallest.items()
        ]
    return Frames(*map(pd.DataFrame, (trials, tuned, runs, grams, pairs)))


def arm(shape: str, width: int, labels: str, method: str) -> dict:
    name = f"{shape}_{width}_{labels}_{method}"
    return {"model": "mlp", "arm": name, "criterion": "steps", "rate": 0.2, "interior": 1, "trials": 6}


def changed(frames: Frames, name: str, where: str = "", **values) -> Frames:
    """The frames with some cells of one of them changed."""
    frame = getattr(frames, name).copy()
    rows = frame.query(where).index if where else frame.index
    for column, value in values.items():
        frame.loc[rows, column] = value
    return replace(frames, **{name: frame})


def gate(frames: Frames, name: str) -> dict:
    return {g.gate: g.value for g in contrasts.gates(frames) if g.claim == f"overparameterization.{name}.mlp"}


EXPECTED = {  # 8 units are the narrow network: 64 are there, too
    "steps": math.log(8),
    "steps_random": math.log(9),
    "steps_sgd": math.log(10),
    "last_doubling": math.log(3),
    "wide_over_bottleneck": math.log(9),
    "parameters_alone": math.log(800 / 900),
    "reaches": 1.0,
    "created": 1.0,
    "distinct": 0.3,
    "threshold": math.log(math.sqrt(100 * 200) / 50),
    "gram": 1.0,
    "kernel": -0.8,
    "distance": -0.5,
}


class TestContrasts:
    def test_every_claim_has_its_planted_effect_in_every_seed(self):
        found = contrasts.claims(planted())
        assert found.keys() == EXPECTED.keys()
        for name, value in EXPECTED.items():
            expected = [value] * 4
            if "bottleneck" in name or name == "parameters_alone":
                # the seed that did not fit counts as all 1500 updates (times its own factor)
                expected[2] += math.log(1500 / 900) * (1 if "bottleneck" in name else -1)
            assert found[name].tolist() == pytest.approx(expected), name

    def test_effects_carry_claims_and_controls(self):
        found = contrasts.effects(planted())
        same = {e.claim.split(".")[1]: e.value for e in found if e.role == "same_arm" and e.replicate == 1}
        assert same.keys() == {"steps", "last_doubling", "wide_over_bottleneck", "steps_random"}
        assert list(same.values()) == pytest.approx([math.log(100 / 80)] * 4)
        assert {e.claim for e in found if e.role == "claim"} == {f"overparameterization.{n}.mlp" for n in EXPECTED}

    def test_narrow_is_the_narrowest_that_every_seed_fits_and_that_has_a_wide_one(self):
        clean = planted().of("clean")
        assert fits.narrow_and_wide(clean) == (8, 64)
        assert fits.fitted_widths(clean) == [8, 16, 64]
        lost = changed(planted(), "runs", "width == 8 and seed == 3 and shape == 'square'", steps=None)
        assert fits.narrow_and_wide(lost.of("clean")) is None  # 16 has no 128
        assert contrasts.claims(lost)["steps"].empty and contrasts.claims(lost)["parameters_alone"].empty
        assert gate(lost, "steps") == {"rate_interior": None, "equal_tuning": None, "fitted": None}

    def test_a_wide_run_that_does_not_fit_is_no_replicate(self):
        lost = changed(
            planted(), "runs", "width == 64 and seed == 1 and method == 'full_batch'", steps=None, train_error=0.1
        )
        found = [
            e.replicate
            for e in contrasts.effects(lost)
            if e.claim == "overparameterization.steps.mlp" and e.role == "claim"
        ]
        assert found == [0, 2, 3]
        assert gate(lost, "steps")["fitted"] == pytest.approx(7 / 8)
        assert contrasts.claims(lost)["reaches"].tolist() == [1, 0, 1, 1]

    def test_a_fit_with_a_training_error_reaches_no_global_minimum(self):
        close = changed(planted(), "runs", "width == 64 and seed == 0", train_error=0.005)
        assert contrasts.claims(close)["reaches"].tolist() == [0, 1, 1, 1]
        assert gate(close, "distinct")["fitted"] == 1.0

    def test_threshold_lies_below_each_seeds_own_first_fit(self):
        lost = changed(planted(), "runs", "width == 8 and seed == 3 and shape == 'square'", steps=None)
        assert fits.threshold(lost.of("random"))[3] == pytest.approx(math.sqrt(200 * 800))
        none = changed(planted(), "runs", "seed == 1", steps=None)
        assert np.isnan(fits.threshold(none.of("random"))[1])
        every = changed(planted(), "runs", "seed == 1", steps=5.0)
        assert np.isnan(fits.threshold(every.of("random"))[1])

    def test_slopes_use_only_widths_that_every_seed_fits(self):
        odd = changed(planted(), "runs", "width == 4", kernel_change=1e6)
        assert contrasts.claims(odd)["kernel"].tolist() == pytest.approx([-0.8] * 4)
        assert gate(odd, "kernel")["overparameterization_widths"] == 3

    def test_eigenvalues_that_are_rounding_count_as_zero(self):
        assert fits.positive_definite(planted()).iloc[0].tolist() == [0, 1, 1, 1]
        assert gate(planted(), "gram") == {}

    def test_gates_see_what_they_are_for(self):
        good = {"rate_interior": 1.0, "equal_tuning": 1.0}
        assert gate(planted(), "steps") == good | {"fitted": 1.0}
        assert gate(planted(), "reaches") == {"rate_interior": 1.0}
        bottleneck = gate(planted(), "wide_over_bottleneck")
        assert bottleneck == good | {"overparameterization_equal_size": pytest.approx(8100 / 8000 - 1)}
        edge = changed(planted(), "tuned", "arm == 'bottleneck_8_clean_full_batch'", interior=0)
        assert [gate(edge, n)["rate_interior"] for n in ("wide_over_bottleneck", "parameters_alone", "steps")] == [
            0,
            0,
            1,
        ]
        fewer = changed(planted(), "tuned", "arm == 'square_64_clean_minibatch'", trials=5)
        assert [gate(fewer, n)["equal_tuning"] for n in ("steps_sgd", "steps", "last_doubling")] == [0, 1, 1]
        narrow = changed(planted(), "tuned", "arm == 'square_4_random_full_batch'", interior=0)
        assert [gate(narrow, n)["rate_interior"] for n in ("created", "threshold", "reaches")] == [0, 0, 1]
        wrong = changed(planted(), "runs", "start == 'twin' and seed == 0 and labels == 'random'", train_error=0.02)
        assert gate(wrong, "distinct")["fitted"] == pytest.approx(7 / 8)

    def test_findings_have_unique_names_and_the_planted_means(self):
        found = {f.quantity: f for f in contrasts.findings(planted())}
        assert len(found) == len(contrasts.findings(planted()))
        assert found["effect: steps"].mean == pytest.approx(math.log(8))
        assert found["random labels: threshold per example and class"].mean == pytest.approx(math.sqrt(20000) / 500)
        assert found["clean labels: steps times parameters at width 64"].mean == pytest.approx(250 * 8000)
        assert found["clean labels: steps at width 4"].n == 0
        assert found["clean labels: effect on steps at the higher loss level"].mean == pytest.approx(math.log(8))


class TestDrawings:
    @pytest.mark.parametrize("draw", [drawings.steps, drawings.responses, drawings.movement, drawings.spectra])
    def test_figures_say_over_how_many_and_survive_what_is_missing(self, draw):
        assert "n = " in draw(planted(0.1)).get_suptitle().replace("\n", " ")
        runs = planted().runs
        draw(replace(planted(), runs=runs.assign(steps=pd.Series([None] * len(runs), dtype="Int64"))))

    def test_lines_leave_out_what_not_every_seed_fits_and_go_through_medians(self):
        lost = changed(planted(), "runs", "width == 8 and seed == 3 and shape == 'square'", steps=None)
        (line,) = (
            one for one in drawings.steps(lost).axes[0].lines if one.get_label().startswith("Clean labels, grad")
        )
        assert line.get_xdata().tolist() == [800, 8000]
        assert line.get_ydata().tolist() == pytest.approx([300 * 2.5, 100 * 2.5])

    def test_a_width_looks_the_same_in_every_panel(self):
        figure = drawings.responses(planted())
        colours = {(line.get_label(), line.get_color()) for panel in figure.axes for line in panel.lines}
        named = [label for label, _ in colours if label.startswith(("width", "bottleneck"))]
        assert len(named) == len(set(named))


def test_the_study_writes_what_its_types_allow_and_twins_share_examples():
    """The smoke settings' widest network, on the real data: kernels and pairs are there where the runs fitted."""
    s = SMOKE.factors.overparameterization
    width = s.gradient_descent.widths[-1]
    assert study.jobs(s)[0][1:] == (s.gradient_descent.widths[0], "full_batch")
    found = study.observe_job(SMOKE, "square", width, "full_batch")
    own = [run for run in found["runs"] if run.start == "own"]
    assert {(run.labels, run.seed) for run in own} == {
        (labels, seed) for labels in ("clean", "random") for seed in s.seeds
    }
    for one in found["runs"]:
        assert (one.kernel_change is not None) == (one.start == "own" and one.steps is not None)
        assert one.steps is None or (one.train_loss <= s.level and one.easy_steps <= one.steps)
    first = next(run for run in own if run.labels == "clean" and run.seed == s.seeds[0])
    twin = next(run for run in found["runs"] if run.start == "twin" and run.seed == first.seed)
    assert twin.initial_norm != first.initial_norm
    assert all(gram.smallest <= gram.mean <= gram.largest for gram in found["grams"])
    assert len(found["pairs"]) == 2 * len(s.seeds)
    _, starts = stack(arms_of(width).bed.build, [first.seed, first.seed + s.twin])
    between = (flatten(starts)[0] - flatten(starts)[1]).norm().item()
    one = next(pair for pair in found["pairs"] if (pair.labels, pair.seed) == ("clean", first.seed))
    if one.apart is not None:  # on a machine where both fit
        assert one.start_apart == pytest.approx(between / ((first.distance + twin.distance) / 2), rel=1e-4)
        assert 0 < one.disagreement < 1 and one.apart != one.start_apart


def arms_of(width: int) -> Arms:
    return Arms(SMOKE.factors.overparameterization, toy_bed(), "square", width, "full_batch")
