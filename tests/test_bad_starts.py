"""Bad regions, the runs that start in them, and what is read from them about the strategies."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from nonconvex import config, records, schedules
from nonconvex.contrasts import bad_starts as contrasts
from nonconvex.drawings import bad_starts as drawings
from nonconvex.models.stacked import select, stack
from nonconvex.observations.bad_starts import EscapeRun, EscapeTrial, RegionPoint, SharpLook
from nonconvex.observations.tuning import TunedArm
from nonconvex.studies import bad_regions as regions
from nonconvex.studies import bad_starts as study
from nonconvex.studies import escape_runs as escape
from nonconvex.studies.forks import OTHER_ORDER
from nonconvex.study_settings.bad_starts import BadStarts

SMOKE = config.read(Path(__file__).resolve().parents[1] / "profiles/smoke/params.yaml")
SETTINGS = SMOKE.strategies.bad_starts
BED = regions.bed_for(SMOKE)
X, Y = BED.data.train.examples()
SEEDS = (7, 8)


def double(params: dict) -> dict:
    return {name: value.double() for name, value in params.items()}


def dense_hessian(params: dict) -> torch.Tensor:
    """Of one network (1, *shape), in float64, by torch alone."""
    module, names = BED.build().double(), list(params)
    sizes = [params[name][0].shape for name in names]

    def loss(flat):
        parts = flat.split([size.numel() for size in sizes])
        own = {name: part.view(size) for name, part, size in zip(names, parts, sizes, strict=True)}
        return torch.nn.functional.cross_entropy(torch.func.functional_call(module, own, (X.double(),)), Y)

    point = torch.cat([params[name][0].detach().double().flatten() for name in names])
    return torch.autograd.functional.hessian(loss, point)


def loss_of(module: torch.nn.Module) -> float:
    with torch.no_grad():
        return torch.nn.functional.cross_entropy(module(X), Y).item()


def module_at(params: dict) -> torch.nn.Module:
    module = BED.build()
    module.load_state_dict({name: value[0] for name, value in params.items()})
    return module


class TestRegions:
    network, normal = stack(BED.build, SEEDS)

    def test_the_saddle_is_a_strict_one_and_its_eigenvalue_that_of_the_formula(self):
        at = double(regions.at_saddle(BED, self.normal))
        expected = regions.saddle_eigenvalue(BED, at)
        for i in range(2):
            one = select(at, [i])
            module = module_at({name: value.float() for name, value in one.items()}).double()
            loss = torch.nn.functional.cross_entropy(module(X.double()), Y)
            slope = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(module.parameters()))])
            assert slope.norm() < 1e-6
            values = torch.linalg.eigvalsh(dense_hessian(one))
            assert values[0].item() == pytest.approx(expected[i].item(), rel=1e-6)
            # one copy of every eigenvalue per hidden unit
            assert int((values < 0.999 * values[0]).sum()) == SETTINGS.widths[1]

    def test_the_saddle_keeps_the_first_layer_and_predicts_class_frequencies(self):
        at = regions.at_saddle(BED, self.normal)
        assert torch.equal(at["hidden.0.weight"], self.normal["hidden.0.weight"])
        predicted = module_at(select(at, [0]))(X).softmax(1)
        counts = np.bincount(Y.numpy(), minlength=10)
        assert predicted[3].tolist() == pytest.approx((counts / len(Y)).tolist(), rel=1e-5)

    def test_a_class_without_examples_is_refused(self):
        few = replace(BED, data=replace(BED.data, train=replace(BED.data.train, y=torch.zeros_like(Y))))
        with pytest.raises(ValueError, match=r"classes without training examples: \[80, 0"):
            regions.log_frequencies(few)

    def test_the_plateau_is_saturated_and_predicts_frequencies_on_average(self):
        moved = regions.saturated(BED, self.network, self.normal, SEEDS, 3.0)
        assert set(moved["hidden.1.bias"].abs().flatten().tolist()) == {3.0}
        assert len(set(moved["hidden.1.bias"].sign().flatten().tolist())) == 2
        assert not torch.equal(moved["hidden.1.bias"][0], moved["hidden.1.bias"][1])
        for name in ("hidden.0.weight", "hidden.1.weight", "head.weight"):
            assert torch.equal(moved[name], self.normal[name])
        counts = np.bincount(Y.numpy(), minlength=10)
        mean = module_at(select(moved, [1]))(X).mean(0).detach()
        assert mean.tolist() == pytest.approx(np.log(counts / len(Y)).tolist(), abs=1e-5)
        # the same signs for a seed whatever its neighbours
        alone = regions.saturated(BED, self.network, select(self.normal, [1]), SEEDS[1:], 3.0)
        assert torch.equal(alone["hidden.1.bias"][0], moved["hidden.1.bias"][1])

    def test_descent_is_torchs_own(self):
        found = regions.descended(BED, self.normal, SEEDS, 5, 0.3)
        module = module_at(select(self.normal, [1]))
        optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
        for _ in range(5):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(X), Y).backward()
            optimizer.step()
        for name, value in module.named_parameters():
            assert torch.allclose(found[name][1], value, atol=1e-5)
        assert loss_of(module_at(select(found, [1]))) == pytest.approx(loss_of(module), rel=1e-5)

    def test_wrong_labels_come_first_and_true_ones_after(self, monkeypatch):
        seen = []
        monkeypatch.setattr(
            regions, "_end", lambda bed, recipe, begin, *rest: (seen.append((bed, recipe.steps)), begin)[1]
        )
        regions.bad_minimum(SMOKE, BED, SEEDS)
        (wrong, first), (true, second) = seen
        assert (first, second) == (SETTINGS.bad_minimum.wrong, SETTINGS.bad_minimum.right)
        assert torch.equal(true.data.train.y, Y) and not torch.equal(wrong.data.train.y, Y)
        assert torch.equal(wrong.data.train.y.sort().values, Y.sort().values)

    def test_what_is_recorded_of_the_regions(self):
        found = regions.starts(SMOKE, SEEDS)
        points = {(p.region, p.seed): p for p in found.points}
        assert len(points) == 10
        for region in ("normal", "plateau", "sharp"):
            at, point = select(found.params[region], [0]), points[region, 7]
            assert point.train_loss == pytest.approx(loss_of(module_at(at)), rel=1e-5)
            assert (point.smallest, point.expected) == (None, None)
        saddle = points["saddle", 8]
        assert saddle.expected < 0 and saddle.gradient < 1e-6
        # the start is displaced, by what is asked for, the saddle itself not
        exact = regions.at_saddle(BED, self.normal)
        moved = [found.params["saddle"][name] - exact[name] for name in exact]
        length = lambda parts: torch.cat([p[0].flatten() for p in parts]).norm().item()  # noqa: E731
        assert length(moved) / length(exact.values()) == pytest.approx(SETTINGS.saddle.displacement, rel=1e-3)
        assert not torch.equal(moved[0][0], moved[0][1])

    def test_a_minimum_is_solved_by_its_own_criterion(self):
        point = RegionPoint("sharp", 0, 1, None, None, 1, 0, None, 0.3, 0.0, 0.5, None, None)
        told = lambda point, learned: regions.with_solved(point, 0.3, learned).solved  # noqa: E731
        assert told(point, False) == 1 and told(replace(point, train_loss=0.31), True) == 0
        bad = replace(point, region="bad_minimum")
        assert [told(bad, True), told(bad, False), told(replace(bad, train_error=0.1), True)] == [1, 0, 0]
        assert told(replace(point, region="plateau"), True) is None


def trip(region="plateau", arm="none", seed=7, rate=0.4, start="region", draw="own", accounting="tuned") -> escape.Trip:
    return escape.Trip(accounting, start, region, arm, "true", draw, seed, rate)


def begin(loss=2.0, sharpness=1.0, error=0.0, seed=7) -> escape.Begin:
    return escape.Begin(stack(BED.build, [seed])[1], loss, sharpness, error)


def travelled(trips, begins, **changes) -> escape.Ended:
    settings = with_study(**changes)
    return escape.travelled(settings, BED, trips, begins, "validation")


def with_study(**changes) -> config.Settings:
    own = SETTINGS.model_copy(update=changes)
    return SMOKE.model_copy(update={"strategies": SMOKE.strategies.model_copy(update={"bad_starts": own})})


def by_hand(steps: int, rate: float, seed: int, order: int, after=lambda module: None) -> torch.nn.Module:
    """Plain SGD on a cosine schedule, with torch's own optimizer, the rate set before each update."""
    torch.manual_seed(seed)
    module = BED.build()
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * schedules.cosine(steps)(step)
        optimizer.zero_grad()
        x, y = BED.data.train.batch([order], step, SETTINGS.batch_size)
        torch.nn.functional.cross_entropy(module(x[0]), y[0]).backward()
        optimizer.step()
        after(module)
    return module


class TestTrips:
    def test_looks_are_at_even_numbers_up_to_the_budget(self):
        own = SETTINGS.model_copy(update={"looks": 20, "first": 10})
        found = escape.looks(own, 400)
        assert found[0] == 10 and found[-1] == 400 and found == sorted(set(found))
        assert all(number % 2 == 0 for number in found)
        growth = np.diff(np.log(found))
        assert growth.max() < 0.4 and abs(growth[-5:] - math.log(40) / 19).max() < 0.02

    def test_plain_sgd_is_torchs_own_and_leaves_at_the_first_look_below_the_level(self):
        losses = []
        module = by_hand(24, 0.8, 7, 7 + OTHER_ORDER, lambda module: losses.append(loss_of(module)))
        level = losses[11] * 1.001  # first below it at a look, every fourth update
        first = next(step for step in range(4, 25, 4) if losses[step - 1] <= level)
        at = escape.looks(SETTINGS.model_copy(update={"looks": 24, "first": 2}), 24)
        first = next(step for step in at if losses[step - 1] <= level)
        end = travelled([trip(rate=0.8, draw="other")], [begin(loss=level / 0.9)], evaluations=24, looks=24, first=2)
        assert end.left.tolist() == [first] and end.iterate_left.tolist() == [first]
        for name, value in module.named_parameters():
            assert torch.allclose(end.params[name][0], value, atol=1e-5)

    def test_sam_has_half_the_updates_and_is_looked_at_at_as_many_evaluations(self, monkeypatch):
        counted = []
        monkeypatch.setattr(
            escape.Watch, "look", lambda self, evaluations, params, state: counted.append((evaluations, state.step))
        )
        for arm in ("none", "sam"):
            travelled([trip(arm=arm)], [begin()], evaluations=24, looks=4, first=4)
        half = len(counted) // 2
        assert [e for e, _ in counted[:half]] == [e for e, _ in counted[half:]]
        assert all(e == step for e, step in counted[:half]) and all(e == 2 * step for e, step in counted[half:])
        assert counted[-1] == (24, 12)

    def test_arms_that_change_the_schedule_have_their_own_rates(self):
        """In one cohort: the same run with a schedule of its own is what it is alone."""
        arms = ("none", "warmup", "restarts")
        end = travelled([trip(arm=arm) for arm in arms], [begin()] * 3, evaluations=24)
        alone = [travelled([trip(arm=arm)], [begin()], evaluations=24) for arm in arms]
        for i in range(3):
            for name, value in end.params.items():
                assert torch.allclose(value[i], alone[i].params[name][0], atol=1e-6)
        assert not torch.allclose(end.params["head.bias"][0], end.params["head.bias"][2], atol=1e-4)

    def test_the_sharp_rule_asks_for_low_loss_and_low_curvature(self):
        path = []
        module = by_hand(
            8, 0.4, 7, 7, lambda module: path.append({n: p[None].clone() for n, p in module.named_parameters()})
        )
        tops = [torch.linalg.eigvalsh(dense_hessian(path[step - 1]))[-1].item() for step in (6, 8)]
        # half of the start's curvature above both, between them, below both; loss too low to get to
        sharpness = [2.05 * max(tops), 2 * sum(tops) / 2, 1.95 * min(tops), 1e3]
        begins = [begin(9.0 if i < 3 else 1e-3, value) for i, value in enumerate(sharpness)]
        lanczos = SETTINGS.lanczos.model_copy(update={"iterations": 60, "tolerance": 1e-4})
        end = travelled([trip("sharp")] * 4, begins, evaluations=8, looks=3, first=6, lanczos=lanczos)
        assert end.left.tolist() == [6, 6 if tops[0] < tops[1] else 8, -1, -1]
        shown = [(look.evaluations, look.sharpness) for look in end.looks]
        assert shown[0] == (6, pytest.approx(tops[0], rel=1e-3)) and shown[-2] == (8, pytest.approx(tops[1], rel=1e-3))
        assert end.looks[-2].train_loss == pytest.approx(loss_of(module), rel=1e-3)
        assert end.looks[-1].sharpness is None  # far above the loss at which it is looked at

    def test_the_rule_of_the_bad_minimum_asks_for_accuracy(self):
        errors = [1.0, -math.inf]
        end = travelled([trip("bad_minimum")] * 2, [begin(error=error) for error in errors])
        assert end.left.tolist() == [escape.looks(SETTINGS, SETTINGS.evaluations)[0], -1]

    def test_an_average_is_asked_as_such_and_its_iterate_too(self):
        """One rule that only the iterate meets: the average of a run that comes down lags behind it."""
        path, level = [], []
        by_hand(40, 0.8, 7, 7, lambda module: path.append([p.detach().clone() for p in module.parameters()]))
        mean = path[0]
        for weights in path[1:]:
            mean = [0.99 * old + 0.01 * new for old, new in zip(mean, weights, strict=True)]
        end = travelled([trip(arm="ema", rate=0.8)], [begin(loss=1e-6)], evaluations=40)
        for found, expected in zip(end.params.values(), mean, strict=True):
            assert torch.allclose(found[0], expected, atol=1e-5)
        level = loss_of(by_hand(40, 0.8, 7, 7)) * 1.001
        end = travelled([trip(arm="ema", rate=0.8)], [begin(loss=level / 0.9)], evaluations=40)
        assert end.iterate_left[0] > 0 and end.left[0] == -1

    def test_spikes_are_minibatch_losses_far_above_the_regions(self):
        end = travelled([trip()] * 2, [begin(loss=1e-3), begin(loss=50.0)])
        assert end.spikes.tolist() == [1.0, 0.0]

    def test_a_diverged_run_does_not_leave(self):
        broken = begin(error=1.0)
        broken.params["head.bias"][:] = torch.nan
        end = travelled([trip("bad_minimum")] * 2, [broken, begin(error=1.0)])
        assert end.diverged.tolist() == [0, -1] and end.left.tolist() == [-1, 2]

    def test_plain_sgd_has_longer_from_normal_weights_to_the_sharp_loss(self):
        assert escape.budget(SETTINGS, trip("sharp", start="normal")) == 4 * SETTINGS.evaluations
        assert escape.budget(SETTINGS, trip("sharp")) == SETTINGS.evaluations
        assert escape.budget(SETTINGS, trip("saddle", start="normal")) == SETTINGS.evaluations


def trials(times: dict, errors: dict, budget: int = 100) -> list[EscapeTrial]:
    """By rate: evaluations of each seed (None: stayed, "x": diverged), and the mean validation error."""
    rows = []
    for rate, seeds in times.items():
        for seed, spent in enumerate(seeds):
            if spent == "x":
                rows.append(EscapeTrial("sharp", "sam", seed, rate, 3, None, math.log(budget), None, None, None))
            else:
                row = (spent, math.log(spent or budget), 0.0, 1.0, errors[rate])
                rows.append(EscapeTrial("sharp", "sam", seed, rate, None, *row))
    return rows


class TestTuning:
    errors: ClassVar = {0.1: 0.5, 0.2: 0.5, 0.4: 0.5}

    def pick(self, times, errors=None, region="sharp") -> TunedArm:
        rows = [replace(row, region=region) for row in trials(times, errors or self.errors)]
        return study.chosen(region, "sam", rows, 0.01)

    def test_the_soonest_rate_by_geometric_mean(self):
        found = self.pick({0.1: [90, 90], 0.2: [10, 80], 0.4: [40, 40]})
        assert (found.rate, found.interior, found.trials, found.criterion) == (0.2, 1, 6, "log_evaluations")
        assert found.arm == "sharp/sam"
        assert self.pick({0.1: [90, None], 0.2: [50, 50], 0.4: [20, 20]}).interior == 0

    def test_equals_go_to_the_lower_rate_and_divergence_to_none(self):
        assert self.pick({0.1: [None, None], 0.2: [50, 50], 0.4: [50, 50]}).rate == 0.2
        assert self.pick({0.1: [90, 90], 0.2: [50, 60], 0.4: [10, "x"]}).rate == 0.2

    def test_where_none_leaves_the_largest_rate_that_does_no_harm(self):
        stayed = {rate: [None, None] for rate in self.errors}
        assert self.pick(stayed, {0.1: 0.7, 0.2: 0.709, 0.4: 0.72}).rate == 0.2
        assert self.pick(stayed, {0.1: 0.7, 0.2: 0.72, 0.4: 0.709}).rate == 0.4
        assert self.pick(stayed, {0.1: 0.7, 0.2: 0.709, 0.4: 0.72}).criterion == "validation_error"

    def test_normal_weights_take_the_least_error(self):
        stayed = {rate: [None, None] for rate in self.errors}
        assert self.pick(stayed, {0.1: 0.7, 0.2: 0.69, 0.4: 0.695}, "normal").rate == 0.2


class TestReported:
    rates = {(region, arm): 0.3 for region in study.REGIONS for arm in escape.STRATEGIES} | {("normal", "none"): 1.0}

    def test_every_arm_from_every_region_and_its_controls(self):
        own = dict(self.rates)
        own["sharp", "sam"] = 3.0
        trips = study.reported(SMOKE, own)
        assert len(trips) == len(set(trips)) == 2 * (4 * (8 + 1 + 1 + 5) + 2 * 3) + 3 * 2
        sharp = [t for t in trips if (t.region, t.seed, t.labels) == ("sharp", 0, "true")]
        assert {t.rate for t in sharp if (t.arm, t.accounting) == ("sam", "tuned")} == {3.0}
        assert {t.rate for t in sharp if t.accounting == "common"} == {0.3}
        assert {t.rate for t in sharp if t.accounting == "above"} == {1.0}
        assert [t.rate for t in sharp if t.start == "normal"] == [1.0]
        assert {t.order for t in sharp if t.draw == "other"} == {OTHER_ORDER}
        assert {t.order for t in sharp if t.draw == "own"} == {0}

    def test_above_goes_on_where_the_grid_ends(self):
        assert study.above((1.0, 2.0, 4.0), 2.0) == 4.0
        assert study.above((1.0, 2.0, 4.0), 4.0) == 8.0

    def test_cohorts_share_what_they_must(self):
        settings = with_study(cohort=9)
        trips = study.reported(settings, self.rates)
        parts = [job.args[2] for job in study.jobs(settings, None, trips, study.run)]
        assert sorted(map(str, (t for part in parts for t in part))) == sorted(map(str, trips))
        assert max(map(len, parts)) <= 9
        for part in parts:
            assert len({t.arm if t.arm not in escape.SCHEDULED else "schedule" for t in part}) == 1
            assert len({(t.labels, t.accounting == "tuned", t.long) for t in part}) == 1

    def test_only_what_is_compared_at_equal_loss_is_followed(self):
        trips = study.reported(SMOKE, self.rates)
        found = {(t.accounting, t.start, t.arm, t.draw) for t in trips if t.followed}
        plain = {("tuned", "region", "none", draw) for draw in ("own", "other")}
        assert found == plain | {("tuned", "normal", "none", "own")} | {
            ("common", "region", arm, "own") for arm in ("warmup", "sam")
        }

    def test_starts_and_rules(self):
        point = RegionPoint("sharp", 7, 1, None, None, 5.0, 0, None, 0.3, 0.0, 0.5, None, None)
        ground = study.Ground({("sharp", 7): "here", ("normal", 7): "there"}, {("sharp", 7): point}, {7: 0.25})
        found = ground.begin(trip("sharp"))
        assert (found.params, found.loss, found.sharpness, found.error) == ("here", 0.3, 5.0, 0.25)
        assert ground.begin(trip("sharp", start="normal")).params == "there"

    def test_the_study_as_a_whole(self, tmp_path):
        found = study.observe(SMOKE)
        for name, kind in KINDS.items():
            records.write(tmp_path / f"{name}.csv", found[name])
            assert len(records.read(tmp_path / f"{name}.csv", kind)) == len(found[name])
        runs = [r for r in found["runs"] if r.diverged_step is None]
        for run in runs:
            if run.arm not in escape.AVERAGED:
                assert run.left == run.iterate_left
            shaped = (run.accounting, run.labels) == ("tuned", "true")
            assert (run.barrier is None) != shaped and (run.sharpness is None) != shaped
        references = {p.seed: p.reference_error for p in found["points"]}
        assert set(references) == {0, 1} and all(0 < error < 1 for error in references.values())
        assert {t.seed for t in found["tuning"]} == set(SETTINGS.tuning)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tuning": [0, 1000]}, "tuning seeds must not be reported"),
            ({"first": 8}, "first < evaluations"),
            ({"evaluations": 9}, "multiple of 2"),
            ({"rates": {"normal": [0.1, 0.2, 0.3]}}, "rates must hold one grid for each of normal, saddle"),
        ],
    )
    def test_impossible_settings_are_refused(self, change, message):
        with pytest.raises(ValidationError, match=message):
            BadStarts.model_validate(SETTINGS.model_dump() | change)

    @pytest.mark.parametrize("grid", [[0.1, 0.1, 0.2], [0.3, 0.2, 0.1]])
    def test_grids_rise(self, grid):
        rates = SETTINGS.model_dump()["rates"] | {"sharp": grid}
        with pytest.raises(ValidationError, match=r"rates\.sharp must hold three or more rates that rise"):
            BadStarts.model_validate(SETTINGS.model_dump() | {"rates": rates})


KINDS = {"points": RegionPoint, "tuning": EscapeTrial, "tuned": TunedArm, "runs": EscapeRun, "looks": SharpLook}
BUDGET = 400
LEFT = {"saddle": 100, "plateau": 200, "sharp": 160, "bad_minimum": None}  # plain SGD


def _add(runs, seed, region, arm, left, accounting="tuned", start="region", draw="own", **more) -> None:
    numbers = {"spikes": 0.3, "train_loss": 0.1, "train_error": 0.0, "test_error": 0.76, "sharpness": 2.0}
    numbers |= {"residual": 0.01, "barrier": 0.05, "distance": 1.0} | more
    key = (accounting, start, region, arm, "true", draw, seed, 0.4, BUDGET, None)
    runs.append(EscapeRun(*key, left, left, *numbers.values()))


def planted() -> dict[str, pd.DataFrame]:
    """Three seeds. Each strategy is e^(+-0.4) as soon as plain SGD, half of them sooner; a little more by seed."""
    factor = {"sgd_noise": 0.5, "warmup": 0.5, "restarts": 2.0, "clipping": 1.0, "sam": 2.0, "swa": 1.0, "ema": 1.0}
    points, runs, looks, tuning, tuned = [], [], [], [], []
    for seed in range(3):
        for region in ("normal", *contrasts.REGIONS):
            saddle = (-0.2, 0.01) if region == "saddle" else (None, None)
            gradient = {"normal": 0.25, "saddle": 1e-8}.get(region, 0.01)
            solved = 1 if region in ("sharp", "bad_minimum") else None
            row = (0.3, 0.0, 0.77, 0.70, solved)
            points.append(RegionPoint(region, seed, gradient, *saddle, 6.0, 0.01, -0.2 if saddle[0] else None, *row))
        for region, plain in LEFT.items():
            add = partial(_add, runs, seed, region)
            add("none", plain)
            add("none", plain, draw="other", test_error=0.761, spikes=0.31, barrier=0.051)
            add("none", 10, start="normal")
            add("none", plain, "above")
            add("none", plain, "above", draw="other", spikes=0.32)
            add("clipping", plain, "above", spikes=0.1)
            for arm, times in factor.items():
                own = {"restarts": {"test_error": 0.73, "barrier": 0.35}, "sam": {"test_error": 0.78}}.get(arm, {})
                add(arm, plain and round(plain * times), **own)
            for arm in study.COMMON:
                add(arm, plain, "common")
        for arm, error in (("none", 0.9), ("restarts", 0.89), ("sam", 0.92)):
            key = ("tuned", "region", "bad_minimum", arm, "shuffled", "own", seed, 0.4, BUDGET, None, None, None)
            runs.append(EscapeRun(*key, 0.0, 0.1, 0.0, error, None, None, None, 1.0))
        for start, arm, draw, height in (
            ("region", "none", "own", 4.0),
            ("region", "none", "other", 4.0),
            ("region", "warmup", "own", 8.0),
            ("region", "sam", "own", 2.0),
            ("normal", "none", "own", 1.5),
        ):
            for number, loss in ((20, 0.6), (100, 0.2), (400, 0.1 if arm != "sam" else 0.15)):
                shown = height if loss < 0.5 or start == "normal" else None
                looks.append(SharpLook(start, arm, draw, seed, number, loss, shown, 0.02))
    for region in contrasts.REGIONS:
        for arm in ("none", *contrasts.ARMS):
            tuned.append(TunedArm("mlp", f"{region}/{arm}", "log_evaluations", 0.4, 1, 3))
            for rate in (0.2, 0.4, 0.8):
                gone = LEFT[region]
                spent = math.log(gone or BUDGET)
                tuning.append(EscapeTrial(region, arm, 1000, rate, None, gone, spent, 0.1, 1.0, 0.7))
    files = {"points": points, "tuning": tuning, "tuned": tuned, "runs": runs, "looks": looks}
    return {name: pd.DataFrame([vars(row) for row in rows]) for name, rows in files.items()}


BASE = planted()


def changed(name: str, where: dict, **values) -> dict[str, pd.DataFrame]:
    """The planted frames with some cells changed."""
    frame = BASE[name].copy()
    mask = np.all([frame[key] == value for key, value in where.items()], axis=0)
    assert mask.any()
    for key, value in values.items():
        frame[key] = frame[key].astype(object).where(~mask, value).infer_objects()
        if value is None or isinstance(value, float | int):
            frame[key] = pd.to_numeric(frame[key])
    return {**BASE, name: frame}


def effects(frames=BASE) -> dict[tuple[str, str], list[float]]:
    found = {}
    for one in contrasts.effects(frames):
        found.setdefault((one.claim, one.role), []).append(one.value)
    return found


class TestContrasts:
    def test_every_sign(self):
        """Positive is what the text says: sooner, flatter, over a barrier, fewer spikes, more accurate."""
        half, found = math.log(2), {claim: values[0] for (claim, role), values in effects().items() if role == "claim"}
        three = 3 * half / 4  # of four regions; in the fourth both stay
        restarts = -(2 * half + math.log(320 / 160)) / 4
        expected = {
            "sgd_noise.escapes_regions": three,
            "warmup.escapes_regions": three,
            "restarts.escapes_regions": restarts,
            "clipping.escapes_regions": 0,
            "sam.escapes_regions": restarts,
            "swa.escapes_regions": 0,
            "ema.escapes_regions": 0,
            "sgd_noise.leaves_saddle": half,
            "sgd_noise.leaves_sharp": half,
            "warmup.leaves_sharp": half,
            "restarts.leaves_sharp": -half,
            "sam.leaves_sharp": -half,
            "sgd_noise.plain_leaves_saddle": 1,
            "sgd_noise.plain_leaves_plateau": 1,
            "sgd_noise.plain_leaves_sharp": 1,
            "sgd_noise.plain_leaves_bad_minimum": 0,
            "warmup.sharp_lambda_matched": -half,
            "sam.sharp_lambda_matched": half,
            "restarts.sharp_barrier": 0.3,
            "clipping.plateau_spikes": 0.2,
            "clipping.sharp_spikes": 0.2,
            "restarts.accuracy_bad_minimum": 0.03,
            "sam.accuracy_bad_minimum": -0.02,
            "swa.beyond_iterate": 0,
            "ema.beyond_iterate": 0,
        }
        assert {f"{name}.mlp" for name in expected} == set(found)
        assert found == pytest.approx({f"{name}.mlp": value for name, value in expected.items()})

    def test_controls(self):
        found = effects()
        assert found["restarts.accuracy_bad_minimum.mlp", "same_arm"] == pytest.approx([-0.001] * 3)
        assert found["restarts.accuracy_bad_minimum.mlp", "shuffled_labels"] == pytest.approx([0.01] * 3)
        assert found["sam.accuracy_bad_minimum.mlp", "shuffled_labels"] == pytest.approx([-0.02] * 3)
        assert found["clipping.sharp_spikes.mlp", "same_arm"] == pytest.approx([-0.02] * 3)
        assert found["restarts.sharp_barrier.mlp", "same_arm"] == pytest.approx([0.001] * 3)
        assert found["sam.sharp_lambda_matched.mlp", "same_arm"] == pytest.approx([0] * 3)
        assert found["swa.escapes_regions.mlp", "same_arm"] == pytest.approx([0] * 3)
        later = changed("runs", {"arm": "none", "accounting": "tuned", "draw": "other", "region": "sharp"}, left=320)
        assert effects(later)["warmup.leaves_sharp.mlp", "same_arm"] == pytest.approx([-math.log(2)] * 3)

    def test_a_run_that_stays_counts_with_its_budget_and_a_diverged_one_not_at_all(self):
        where = {"arm": "sgd_noise", "accounting": "tuned", "region": "saddle", "seed": 1}
        stayed = effects(changed("runs", where, left=np.nan))["sgd_noise.leaves_saddle.mlp", "claim"]
        assert stayed == pytest.approx([math.log(2), math.log(100 / BUDGET), math.log(2)])
        gone = effects(changed("runs", where, diverged_step=5))
        assert len(gone["sgd_noise.leaves_saddle.mlp", "claim"]) == 2
        assert len(gone["sgd_noise.escapes_regions.mlp", "claim"]) == 2
        assert len(gone["sgd_noise.leaves_sharp.mlp", "claim"]) == 3

    def test_an_average_beyond_its_iterate(self):
        where = {"arm": "ema", "accounting": "tuned", "region": "plateau"}
        found = effects(changed("runs", where, iterate_left=np.nan))["ema.beyond_iterate.mlp", "claim"]
        assert found == pytest.approx([0.25] * 3)

    def test_curvature_at_a_level_is_read_between_looks(self):
        along = pd.DataFrame({"train_loss": [0.0, -1.0, -3.0], "sharpness": [2.0, 1.0, 0.0]})
        assert contrasts.curvature_at(along, -2.0) == pytest.approx(0.5)
        assert contrasts.curvature_at(along, -3.0) == 0.0
        assert contrasts.curvature_at(along, 0.0) == 2.0
        assert np.isnan(contrasts.curvature_at(along, -3.1)) and np.isnan(contrasts.curvature_at(along, 0.1))
        again = pd.DataFrame({"train_loss": [0.0, -2.0, -1.0, -2.0], "sharpness": [0.0, 4.0, 0.0, 9.0]})
        assert contrasts.curvature_at(again, -1.0) == pytest.approx(2.0)

    def test_gates(self):
        found = {(g.claim, g.gate): g.value for g in contrasts.gates(BASE)}
        claim = "sgd_noise.escapes_regions.mlp"
        # saddle and plateau take 10 and 20 times as long, λ is 4 times as high, 7 points are lacking
        least = min(math.log(10) / math.log(1.25), math.log(4) / math.log(1.25), 0.07 / 0.02)
        assert found[claim, "bad_starts_bad"] == pytest.approx(least)
        assert found[claim, "rate_interior"] == found[claim, "equal_tuning"] == found[claim, "trained"] == 1
        assert found[claim, "bad_starts_saddle"] == pytest.approx(4e-8)
        assert found["sam.sharp_lambda_matched.mlp", "residual"] == pytest.approx(0.02)
        own = {gate for name, gate in found if name == "sgd_noise.plain_leaves_plateau.mlp"}
        assert own == {"bad_starts_bad", "rate_interior", "equal_tuning"}

    def test_gates_that_fail(self):
        value = lambda frames, claim, gate: {  # noqa: E731
            (g.claim, g.gate): g.value for g in contrasts.gates(frames)
        }[f"{claim}.mlp", gate]
        edge = changed("tuned", {"arm": "plateau/sam"}, interior=0)
        assert value(edge, "sam.escapes_regions", "rate_interior") == 0
        assert value(edge, "sam.leaves_sharp", "rate_interior") == 1
        assert value(edge, "swa.escapes_regions", "rate_interior") == 1
        off = changed("points", {"region": "saddle", "seed": 2}, smallest=-0.21)
        assert value(off, "sam.escapes_regions", "bad_starts_saddle") == pytest.approx(0.05)
        good = changed("runs", {"start": "normal", "region": "plateau"}, left=190)
        assert value(good, "sgd_noise.plain_leaves_plateau", "bad_starts_bad") < 1
        unsolved = changed("points", {"region": "bad_minimum", "seed": 0}, solved=0)
        assert value(unsolved, "restarts.accuracy_bad_minimum", "trained") == pytest.approx(2 / 3)
        assert value(unsolved, "sam.leaves_sharp", "trained") == 1
        high = changed("looks", {"start": "normal", "evaluations": 100}, train_loss=0.5)
        high = {**high, "looks": high["looks"][(high["looks"].start == "region") | (high["looks"].evaluations < 400)]}
        assert value(high, "sam.leaves_sharp", "bad_starts_bad") is None

    def test_the_table_strategy_by_region(self):
        found = contrasts.summary(BASE)
        assert found.loc["none"].tolist() == ["100%, 100", "100%, 200", "100%, 160", "0%, 400"]
        assert found.loc["sgd_noise", "saddle"] == "100%, 50"

    def test_findings_name_every_claim(self):
        found = contrasts.findings(BASE)
        assert {(one.row, one.quantity) for one in found} >= {
            (one.row, one.name.replace("_", " ")) for one in contrasts.contrasts(BASE)
        }
        assert len({(one.row, one.quantity) for one in found}) == len(found)


class TestDrawings:
    def test_the_map_shows_times_and_shares(self):
        texts = [text.get_text() for text in drawings.escapes(BASE).axes[0].texts]
        assert texts[:4] == ["100\n100%", "200\n100%", "160\n100%", "400\n0%"]
        assert len(texts) == 32 and texts[4] == "50\n100%"

    def test_advantages_are_drawn_at_their_means(self):
        axes = drawings.advantages(BASE).axes
        marks = {
            float(line.get_ydata()[0]): float(line.get_xdata()[0]) for line in axes[4].lines if line.get_marker() == "o"
        }
        assert marks[0.0] == pytest.approx(0.75 * math.log(2))
        assert axes[0].get_yticklabels()[0].get_text() == "SGD noise"

    def test_missing_numbers_leave_gaps_and_no_errors(self):
        frames = changed("runs", {"arm": "sam"}, diverged_step=3)
        frames = {**frames, "looks": changed("looks", {"arm": "sam"}, sharpness=np.nan)["looks"]}
        for draw in ("responses", "escapes", "advantages", "ends", "curvature"):
            assert getattr(drawings, draw)(frames).axes
