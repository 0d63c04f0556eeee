"""SAM against plain training: perturbed cohorts, grids and choices, neighbourhoods, contrasts and figures."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from nonconvex import config, train
from nonconvex.beds import bed_of
from nonconvex.contrasts import sam as contrasts
from nonconvex.drawings import sam as drawings
from nonconvex.measure.minibatches import by_minibatch, over_minibatches
from nonconvex.models.stacked import flatten, select, stack
from nonconvex.observations.sam import Ascent, ChosenArm, Neighbourhood, PerturbedRun, Reach
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.studies import choices, perturbations
from nonconvex.studies import sam as study
from nonconvex.studies.draws import OTHER
from nonconvex.studies.neighbourhoods import Surveyor, looks
from nonconvex.studies.training import with_shuffled_labels
from nonconvex.study_settings.sam import Sam

ROOT = Path(__file__).resolve().parents[1]
SMOKE = config.read(ROOT / "profiles/smoke/params.yaml")
SETTINGS = SMOKE.strategies.sam
HOW = SETTINGS.beds["mlp"]
entropy = torch.nn.functional.cross_entropy


def cell(arm, seed=3, rate=0.1, radius=0.0, labels="true", draw="own", model="mlp", criterion="validation_error"):
    return study.Cell(model, criterion, choices.Setting(arm, rate, radius), labels, draw, seed)


def trained_alone(bed, how, seed, rate, steps, offset, order=None):
    """One network under torch's own optimiser; `offset(gradients, step)` is where its gradient is taken."""
    torch.manual_seed(seed)
    network = bed.build()
    weights = list(network.parameters())
    optimizer = torch.optim.SGD(weights, lr=1.0, momentum=0.9, weight_decay=how.weight_decay)
    for step in range(steps):
        x, y = (part[0] for part in bed.data.train.batch([seed], step, how.batch_size))
        own = torch.autograd.grad(entropy(network(x), y), weights)
        moves = offset(own, step)
        with torch.no_grad():
            kept = [w.clone() for w in weights]
            for w, move in zip(weights, moves, strict=True):
                w += move
        optimizer.zero_grad()
        entropy(network(x), y).backward()
        with torch.no_grad():
            for w, old in zip(weights, kept, strict=True):
                w.copy_(old)
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.step()
    return torch.cat([w.detach().flatten() for w in weights])


def ascent(radius):
    def offset(gradients, step):
        length = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        return [radius * g / length for g in gradients]

    return offset


def still(gradients, step):
    return [torch.zeros_like(g) for g in gradients]


def end_of(bed, how, cells, at=()):
    network, params, made = study.made_of(bed, how, cells, at)
    *_, end = train.train(made, train.start(made, params))
    return network, end


class TestPerturbations:
    bed = bed_of(SMOKE, "mlp")

    def test_sam_members_take_their_own_radii(self):
        """Against a loop with torch's own optimiser, one network at a time: both radii in one cohort."""
        cells = [cell("sam", 3, 0.1, 0.3), cell("sam", 4, 0.2, 0.05)]
        _, end = end_of(self.bed, HOW, cells)
        for i, one in enumerate(cells):
            at = one.setting
            expected = trained_alone(self.bed, HOW, one.seed, at.rate, HOW.steps, ascent(at.radius))
            torch.testing.assert_close(flatten(end.params)[i], expected, rtol=1e-3, atol=1e-5)

    def test_plain_arms_take_as_many_steps_or_as_many_gradients(self):
        for arm, steps in (("plain", HOW.steps), ("plain_double", 2 * HOW.steps)):
            _, end = end_of(self.bed, HOW, [cell(arm, 5, 0.2)])
            assert end.step == study.steps_of(HOW, arm) == steps
            expected = trained_alone(self.bed, HOW, 5, 0.2, steps, still)
            torch.testing.assert_close(flatten(end.params)[0], expected, rtol=1e-3, atol=1e-5)
        counts = {arm: study.gradients_of(HOW, arm) // HOW.steps for arm in ("plain", "random", "sam", "plain_double")}
        assert counts == {"plain": 1, "random": 1, "sam": 2, "plain_double": 2}

    def test_a_random_neighbour_is_as_far_as_its_radius_and_the_weights_come_back(self):
        cells = [cell("random", 3, 0.1, 0.4), cell("random", 4, 0.1, 0.1)]
        _, params, made = study.made_of(self.bed, HOW, cells, ())
        seen = {}
        for step in (0, 1):
            _, (_, offsets) = made.batch([3, 4], step)
            seen[step] = flatten(offsets)
            assert seen[step].norm(dim=1).tolist() == pytest.approx([0.4, 0.1], rel=1e-5)
        assert abs(torch.corrcoef(torch.cat([seen[0], seen[1]])) - torch.eye(4)).max() < 0.06  # independent directions
        sizes = [value[0].numel() for value in params.values()]

        def offset(gradients, step):
            parts = flatten(made.batch([3, 4], step)[1][1])[0].split(sizes)
            return [part.view_as(g) for part, g in zip(parts, gradients, strict=True)]

        _, end = end_of(self.bed, HOW, cells)
        expected = trained_alone(self.bed, HOW, 3, 0.1, HOW.steps, offset)
        torch.testing.assert_close(flatten(end.params)[0], expected, rtol=1e-3, atol=1e-5)

    def test_directions_depend_on_seed_and_step_alone(self):
        made = study.made_of(self.bed, HOW, [cell("random", 3, 0.1, 0.2), cell("random", 4, 0.1, 0.2)], ())[2]
        both, swapped = (flatten(made.batch(seeds, 2)[1][1]) for seeds in ([3, 4], [4, 3]))
        assert torch.equal(both, swapped.flip(0))
        assert not torch.equal(both, flatten(made.batch([3, 4], 3)[1][1]))

    def test_kept_weights_are_those_of_a_shorter_look(self):
        cells = [cell("sam", 3, 0.1, 0.1)]
        _, params, made = study.made_of(self.bed, HOW, cells, (2, 5))
        states = {state.step: state for state in train.train(made, train.start(made, params))}
        for step in (2, 5):
            found = perturbations.kept(states[HOW.steps].memory, step)
            assert all(torch.equal(found[name], value) for name, value in states[step].params.items())
        with pytest.raises(ValueError, match="no weights were kept after 3 updates"):
            perturbations.kept(states[HOW.steps].memory, 3)

    def test_each_member_has_its_own_shuffled_labels(self):
        cells = [cell("plain", seed, 0.1, labels="shuffled") for seed in (3, 4)]
        _, _, made = study.made_of(self.bed, HOW, cells, ())
        x, y = made.batch([3, 4], 1)
        for i, seed in enumerate((3, 4)):
            own = with_shuffled_labels(self.bed, seed).data.train.batch([seed], 1, HOW.batch_size)
            assert torch.equal(x[i], own[0][0]) and torch.equal(y[i], own[1][0])


class TestNeighbourhoods:
    def test_minibatches_are_met_one_by_one(self):
        """Worst cases of three minibatches of two members, against each alone."""
        bed = bed_of(SMOKE, "mlp")
        network, params = stack(bed.build, [3, 4])
        surveyor = Surveyor(bed, network, replace_how(measured=52), SETTINGS, 0.2)
        losses, one, many = surveyor.on_minibatches(params)
        x, y = bed.data.train.examples(52)
        for member in range(2):
            alone = {name: value[member] for name, value in params.items()}
            expected = []
            for k in range(3):  # 52 examples hold three minibatches of 16
                part = slice(16 * k, 16 * k + 16)
                leaves = {n: v.clone().requires_grad_() for n, v in alone.items()}
                loss = entropy(torch.func.functional_call(network.module, leaves, (x[part],)), y[part])
                slopes = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
                length = math.sqrt(sum(float((g**2).sum()) for g in slopes.values()))
                moved = {n: v + 0.2 * slopes[n] / length for n, v in alone.items()}
                worst = entropy(torch.func.functional_call(network.module, moved, (x[part],)), y[part])
                expected.append((loss.item(), worst.item() - loss.item()))
            assert losses[member].item() == pytest.approx(np.mean(expected, 0)[0], rel=1e-5)
            assert one[member].item() == pytest.approx(np.mean(expected, 0)[1], rel=1e-3)
        assert (many >= one - 1e-7).all()

    def bowl(self, start, radius):
        """A surveyor of L = ½ (3 a² + b²) and its weights at `start`."""
        scales = torch.tensor([3.0, 1.0])

        class Bowl(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.w = torch.nn.Parameter(torch.tensor(start))

            def forward(self, x):
                return x * self.w * scales.sqrt()

        network, params = stack(Bowl, [0])
        squares = lambda found, _: 0.5 * found.square().sum(-1)  # noqa: E731
        bed = FakeBed(squares, FakeData(torch.ones(4, 2), torch.zeros(4)))
        return Surveyor(bed, network, replace_how(measured=4, batch_size=2), SETTINGS, radius), params

    def test_many_steps_find_what_one_misses(self):
        """The gradient at (0.5, 2) is (1.5, 2): one step leads to (0.8, 2.4), the worst case is nearer the a axis."""
        surveyor, params = self.bowl([0.5, 2.0], 0.5)
        found = surveyor.around(params, curvature=False)
        assert found["one_step_rise"].item() == pytest.approx(3.84 - 2.375)
        angles = torch.linspace(0, math.pi / 2, 20001, dtype=torch.float64)
        highest = (1.5 * (0.5 + 0.5 * angles.cos()) ** 2 + 0.5 * (2 + 0.5 * angles.sin()) ** 2).max().item()
        assert 3.84 + 1e-3 < found["worst_loss"].item() <= highest + 1e-6

    def test_a_quadratic_has_its_closed_form(self):
        """Worst cases and curvature at (2, 0), on the sharpest axis: rise λ (r a + r²/2)."""
        surveyor, params = self.bowl([2.0, 0.0], 0.5)
        found = surveyor.around(params, curvature=True)
        rise = 3 * (0.5 * 2 + 0.125)
        assert found["train_loss"].item() == pytest.approx(6.0)
        assert found["one_step_rise"].item() == pytest.approx(rise)
        assert found["worst_loss"].item() == pytest.approx(6 + rise)
        assert found["minibatch_worst_loss"].item() == pytest.approx(6 + rise)
        assert surveyor.worst(params).item() == pytest.approx(6 + rise)
        assert (found["sharpness"].item(), found["trace"].item()) == pytest.approx((3, 4))
        # relative to |w|: only the first weight moves, by 0.1 * 2
        assert found["adaptive_rise"].item() == pytest.approx(3 * (0.2 * 2 + 0.02))
        assert not {"sharpness", "trace"} & set(surveyor.around(params, curvature=False))

    def test_statistics_are_recomputed_but_a_minibatch_has_its_own(self):
        bed = study.bed_for(SMOKE, "resnet")
        network, params = stack(bed.build, [0])
        surveyor = Surveyor(bed, network, SETTINGS.beds["resnet"], SETTINGS, 0.1)
        assert surveyor.objective(params).normalisation == "recomputed"
        objective, _ = by_minibatch(network, bed.loss, params, surveyor.examples, 4)
        assert objective.normalisation == "batch-4"

    def test_no_whole_minibatch_is_refused(self):
        bed = bed_of(SMOKE, "mlp")
        network, params = stack(bed.build, [0])
        with pytest.raises(ValueError, match="5 examples found, at least one minibatch of 8"):
            by_minibatch(network, bed.loss, params, bed.data.train.examples(5), 8)

    def test_means_are_over_a_members_own_minibatches(self):
        assert over_minibatches(torch.tensor([1.0, 3.0, 10.0, 20.0]), 2).tolist() == [2, 15]

    def test_looks(self):
        assert looks((0.1, 0.5, 0.5), 10) == [1, 5]


class FakeData:
    """A data set whose training examples are all there is."""

    def __init__(self, x, y):
        self.train = type("Split", (), {"examples": staticmethod(lambda count=None: (x, y))})


class FakeBed:
    def __init__(self, loss, data):
        self.loss, self.data = loss, data

    def statistics_inputs(self):
        return self.data.train.examples()[0]


def replace_how(**changes):
    return HOW.model_copy(update=changes)


class TestStudy:
    def test_every_arm_is_tuned_equally(self):
        jobs = study.tuning_jobs(SMOKE)
        cells = [one for job in jobs for one in job.args[1]]
        assert len(cells) == len(set(cells))
        assert pd.Series([(c.model, c.setting.arm) for c in cells]).value_counts().to_dict() == dict.fromkeys(
            [("mlp", a) for a in ("plain", "plain_double", "sam", "random")]
            + [(m, a) for m in ("resnet", "transformer") for a in ("plain", "plain_double", "sam")],
            9,
        )
        assert {c.seed for c in cells} == {1000}
        costs = [study.COST[job.args[1][0].model] * study.gradients_of(HOW, job.args[1][0].setting.arm) for job in jobs]
        assert costs == sorted(costs, reverse=True)

    def test_plain_rates_reach_from_end_to_end_in_equal_ratios(self):
        found = choices.between(0.02, 0.32, 5)
        assert found == [0.02, 0.04, 0.08, 0.16, 0.32]

    def trials(self):
        """The error prefers radius 0.1 at rate 0.1 and the loss 0.3 at rate 0.2; random directions 0.03 at 0.1."""
        rows = []
        for arm, grid in choices.settings_of(HOW).items():
            for at in grid:
                error, loss = 0.5 + abs(at.rate - 0.1), 1.0 + abs(at.rate - 0.2)
                if arm == "sam":
                    error, loss = error + abs(at.radius - 0.1), loss + abs(at.radius - 0.3)
                if arm == "random":
                    error += at.radius + (at.rate == 0.05) * (at.radius == 0.1) * -0.06
                rows += [TuningTrial("mlp", at.line, s, at.rate, None, None, loss, error) for s in (1000, 1001)]
        return rows

    def test_choices_by_either_criterion(self):
        by_error, by_loss = (choices.chosen_settings("mlp", HOW, self.trials(), by) for by in HOW.criteria)
        assert by_error.settings["sam"] == choices.Setting("sam", 0.1, 0.1)
        assert by_loss.settings["sam"] == choices.Setting("sam", 0.2, 0.3)
        assert by_error.settings["sam_common"] == choices.Setting("sam_common", by_error.settings["plain"].rate, 0.1)
        # at SAM's radius, where another rate is best than at its own
        assert by_error.settings["random_equal"] == choices.Setting("random_equal", 0.05, 0.1)
        arms = {row.arm: row for row in by_error.arms}
        assert (arms["sam"].rate_interior, arms["sam"].radius_interior) == (1, 1)
        assert (arms["random_equal"].radius_interior, arms["random_equal"].settings) == (None, 3)
        assert {arms[a].trials for a in ("sam", "random", "plain", "plain_double")} == {18}
        loss = {row.arm: row for row in by_loss.arms}
        assert (loss["sam"].rate_interior, loss["sam"].radius_interior) == (0, 0)

    def test_a_setting_that_diverged_is_not_chosen(self):
        gone = [
            replace(t, diverged_step=3, validation_error=None, validation_loss=None)
            if t.arm == "sam 0.1" and t.seed == 1000
            else t
            for t in self.trials()
        ]
        assert choices.chosen_settings("mlp", HOW, gone, "validation_error").settings["sam"].radius != 0.1

    def test_reported_cells(self):
        found = [choices.chosen_settings("mlp", HOW, self.trials(), by) for by in HOW.criteria]
        cells = study.reported_cells(SETTINGS, "mlp", found)
        counts = pd.Series([(c.criterion, c.setting.arm, c.labels, c.draw) for c in cells]).value_counts()
        error = "validation_error"
        expected = [(error, a, "true", "own") for a in found[0].settings]
        expected += [(error, a, "shuffled", "own") for a in ("sam", "plain", "plain_double", "random_equal")]
        expected += [("validation_loss", a, "true", "own") for a in ("sam", "plain", "plain_double")]
        expected += [(error, "sam", "true", "other")]
        assert counts.to_dict() == dict.fromkeys(expected, 2)
        assert {c.start - c.seed for c in cells if c.draw == "other"} == {OTHER}
        jobs = study.reported_jobs(SMOKE, {"mlp": found})
        assert sum(len(job.args[1]) for job in jobs) == len(cells)
        assert all(len({study.kind_of(c) for c in job.args[1]}) == 1 for job in jobs)

    def test_a_run_writes_what_is_measured_where_it_is_asked_for(self):
        cells = [cell("sam", 3, 0.1, 0.1), cell("sam", 3, 0.1, 0.1, draw="other")]
        runs, around, reaches, ascents = study.run(SMOKE, cells, radius=0.1)
        assert [(r.draw, r.steps, r.gradient_evaluations) for r in runs] == [("own", 8, 16), ("other", 8, 16)]
        assert runs[0].test_loss != runs[1].test_loss
        assert {(n.at, n.draw) for n in around} == {(a, d) for a in ("end", "matched") for d in ("own", "other")}
        for draw in ("own", "other"):
            worst = [r.worst_loss for r in sorted(reaches, key=lambda r: r.radius) if r.draw == draw]
            assert len(set(worst)) == len(HOW.radii) and worst == sorted(worst)
        own = {(n.draw): n for n in around if n.at == "end"}
        at_radius = {r.draw: r.worst_loss for r in reaches if r.radius == 0.1}
        assert at_radius == pytest.approx({draw: row.worst_loss for draw, row in own.items()}, rel=1e-5)
        assert {(a.step, a.on) for a in ascents} == {(s, on) for s in (2, 6) for on in ("minibatches", "examples")}
        assert {a.seed for a in ascents} == {3} and len(ascents) == 4
        _, _, _, alone = study.run(SMOKE, cells[:1], radius=0.1)
        assert [a.loss for a in ascents] == pytest.approx([a.loss for a in alone], rel=1e-4)

    def test_a_diverged_run_has_its_step_and_no_numbers(self):
        (row,), around, reaches, _ = study.run(SMOKE, [cell("plain", 3, 1e30)], radius=0.1)
        assert row.diverged_step is not None and row.test_loss is None
        assert {(n.step, n.worst_loss, n.sharpness) for n in around} == {(None, None, None)}
        assert {r.worst_loss for r in reaches} == {None}

    def test_other_choices_are_scored_only(self):
        runs, *rest = study.run(SMOKE, [cell("sam", 3, 0.1, 0.1, criterion="validation_loss")], radius=0.1)
        assert len(runs) == 1 and rest == [[], [], []]
        shuffled, *rest = study.run(SMOKE, [cell("plain", 3, 1e-9, labels="shuffled")], radius=0.1)
        assert rest == [[], [], []]
        torch.manual_seed(3)
        bed = bed_of(SMOKE, "mlp")
        x, y = with_shuffled_labels(bed, 3).data.train.examples(HOW.train_examples)
        with torch.no_grad():
            assert shuffled[0].train_loss == pytest.approx(entropy(bed.build()(x), y).item(), rel=1e-4)

    def test_a_part_of_the_examples_is_trained_on(self):
        bed = study.bed_for(SMOKE, "resnet")
        assert len(bed.data.train) == 40 == len(bed.statistics_inputs())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tuning": [0, 1000]}, "tuning seeds must not be reported"),
            ({"replicates": 3}, "shuffled <= replicates <= 2"),
            ({"radii": [0.1, 0.05, 0.2]}, "radii must rise"),
            ({"plain_rates": [0.2, 0.1]}, "plain_rates must rise"),
            ({"tuning_seeds": 3}, "at most 2 tuning_seeds"),
            ({"criteria": ["validation_loss", "validation_loss"]}, "more than once"),
            ({"measured": 8}, "at least a batch of 16"),
        ],
    )
    def test_settings_that_cannot_be_are_refused(self, change, message):
        content = SETTINGS.model_dump(mode="json")
        (content if "tuning" in change else content["beds"]["mlp"]).update(change)
        with pytest.raises(ValidationError, match=message):
            Sam.model_validate(content)


# What each arm is worth, planted: its test error by criterion, the worst loss around its end, curvature at the level
ERROR = {
    ("validation_error", "sam"): 0.30,
    ("validation_error", "plain"): 0.34,
    ("validation_error", "plain_double"): 0.31,
    ("validation_error", "random"): 0.335,
    ("validation_error", "random_equal"): 0.345,
    ("validation_error", "sam_common"): 0.32,
    ("validation_loss", "sam"): 0.33,
    ("validation_loss", "plain"): 0.38,
    ("validation_loss", "plain_double"): 0.36,
}
OTHER_DRAW, SHUFFLED_SHARE = 0.004, 0.1
WORST = {"sam": 1.0, "plain": 1.5, "plain_double": 0.6, "random_equal": 1.6}
MINIBATCH = {"sam": 2.0, "plain": 2.3, "plain_double": 1.1, "random_equal": 2.5}
LN = {  # at the matched level, in the order of the columns below
    "sam": {"sharpness": 1.0, "trace": 3.0, "adaptive_rise": -2.0, "rise": -3.0},
    "plain": {"sharpness": 1.5, "trace": 3.2, "adaptive_rise": -1.2, "rise": -2.1},
}
END_LN = {"sam": 0.4, "plain": 0.1, "plain_double": 0.7, "random_equal": 0.2}


def place(model, arm, draw, seed, at):
    """A row around weights; SAM's second runs are 0.03 higher in everything, in ln where that is compared."""
    shift = 0.03 * (draw == "other") + seed / 10
    if at == "end":
        numbers = (0.2, WORST[arm] + shift, MINIBATCH[arm] + shift, 0.1, 0.1, math.exp(END_LN[arm] + shift), 0.02)
        return Neighbourhood(model, arm, draw, seed, at, 8, 0.1, *numbers, 5.0, 0.1)
    ln = {name: math.exp(value + shift) for name, value in LN[arm].items()}
    loss = 0.8 * math.exp(0.02 * (arm == "sam"))
    return Neighbourhood(
        model, arm, draw, seed, at, 4, 0.1, loss, loss + ln["rise"], None, 0.01, ln["adaptive_rise"],
        ln["sharpness"], 0.01 + 0.02 * (arm == "plain"), ln["trace"], 0.1,
    )  # fmt: skip


def planted(seeds: int = 4) -> dict[str, pd.DataFrame]:
    parts = {name: [] for name in ("tuning", "tuned", "chosen", "runs", "neighbourhoods", "reaches", "ascents")}
    for model in ("mlp", "resnet", "transformer"):
        criteria = {"mlp": ["validation_error", "validation_loss"], "resnet": ["validation_error"]}
        for criterion in criteria.get(model, ["validation_loss"]):
            for arm in ("sam", "plain", "plain_double", "random", "random_equal"):
                if model != "mlp" and arm.startswith("random"):
                    continue
                trials = 6 if arm == "random_equal" else 18
                perturbed = arm[0] in "sr"
                parts["chosen"].append(
                    ChosenArm(
                        model, criterion, arm, 0.1 * perturbed, 0.1, 1, int(perturbed) or None, trials // 2, trials
                    )
                )
            for (by, arm), error in ERROR.items():
                if by != criterion or (model != "mlp" and arm.startswith(("random", "sam_common"))):
                    continue
                for seed in range(seeds):
                    for labels, draw in (("true", "own"), ("shuffled", "own"), ("true", "other")):
                        if labels == "shuffled" and (model != "mlp" or arm in ("random", "sam_common")):
                            continue
                        if draw == "other" and (arm != "sam" or criterion != criteria.get(model, [criterion])[0]):
                            continue
                        value = error * (SHUFFLED_SHARE if labels == "shuffled" else 1)
                        value += OTHER_DRAW * (draw == "other") + seed / 100
                        parts["runs"].append(
                            PerturbedRun(model, criterion, arm, labels, draw, seed, 0.1, 0.1, 8, 16, None,
                                         2 * value, value / 2, 3 * value, value)
                        )  # fmt: skip
        first = criteria.get(model, ["validation_loss"])[0]
        lines = ["plain", "plain_double", "sam 0.03", "sam 0.1", "sam 0.3"]
        lines += ["random 0.03", "random 0.1", "random 0.3"] if model == "mlp" else []
        for line in lines:
            parts["tuned"].append(TunedArm(model, line, first, 0.1, 1, 6 if " " in line else 18))
            for rate, worse in ((0.05, 0.05), (0.1, 0.0), (0.2, 0.07)):
                # SAM is at its best at 0.05 already, plain training only at 0.1
                value = 0.4 + (0.01 + worse / 10 if line.startswith("sam") else worse)
                parts["tuning"] += [TuningTrial(model, line, s, rate, None, None, value, value) for s in (1000, 1001)]
        for arm in [a for a in WORST if model == "mlp" or a != "random_equal"]:
            for draw in ("own", "other") if arm == "sam" else ("own",):
                for seed in range(seeds):
                    parts["neighbourhoods"].append(place(model, arm, draw, seed, "end"))
                    if arm in LN and model != "transformer":
                        parts["neighbourhoods"].append(place(model, arm, draw, seed, "matched"))
                    parts["reaches"] += [Reach(model, arm, draw, seed, r, WORST[arm] + r) for r in (0.03, 0.1, 0.3)]
    for seed in range(seeds):
        for step, share in ((2, 0.9), (6, 0.8)):
            parts["ascents"].append(Ascent("mlp", seed, step, "minibatches", 0.1, 1.0, share * 0.5, 0.5))
            parts["ascents"].append(Ascent("mlp", seed, step, "examples", 0.1, 1.0, 0.99 * 0.5, 0.5))
    return {name: pd.DataFrame(rows) for name, rows in parts.items()}


BASE = planted()
EFFECTS = contrasts.effects(BASE)
GATES = contrasts.gates(BASE)


def of_claim(claim, role="claim", effects=EFFECTS):
    return [e.value for e in effects if (e.claim, e.role) == (f"sam.{claim}", role)]


def gate(claim, gates=GATES):
    return {g.gate: g.value for g in gates if g.claim == f"sam.{claim}"}


def changed(name, where: dict, **values):
    frame = BASE[name].copy()
    rows = np.logical_and.reduce([frame[key] == value for key, value in where.items()])
    frame.loc[rows, list(values)] = list(values.values())
    return {**BASE, name: frame}


class TestContrasts:
    @pytest.mark.parametrize(
        ("claim", "expected"),
        [
            ("accuracy_equal_gradients.mlp", 0.31 - 0.30),
            ("accuracy_equal_steps.mlp", 0.34 - 0.30),
            ("accuracy_equal_gradients.resnet", 0.31 - 0.30),
            ("accuracy_equal_steps.resnet", 0.34 - 0.30),
            ("loss_equal_gradients.mlp", 3 * (0.36 - 0.33)),  # arms tuned by the loss
            ("loss_equal_steps.mlp", 3 * (0.38 - 0.33)),
            ("loss_equal_gradients.transformer", 3 * (0.36 - 0.33)),
            ("loss_equal_steps.transformer", 3 * (0.38 - 0.33)),
            ("random_accuracy.mlp", 0.345 - 0.30),
            ("random_tuned_accuracy.mlp", 0.335 - 0.30),
            ("common_rate_accuracy.mlp", 0.34 - 0.32),
            ("worst_case_equal_gradients.mlp", 0.6 - 1.0),
            ("worst_case_equal_steps.resnet", 1.5 - 1.0),
            ("worst_case_equal_steps.transformer", 1.5 - 1.0),
            ("worst_minibatch_equal_steps.mlp", 2.3 - 2.0),
            ("lambda_end_equal_gradients.mlp", 0.7 - 0.4),
            ("lambda_matched.mlp", 1.5 - 1.0),
            ("lambda_matched.resnet", 1.5 - 1.0),
            ("trace_matched.mlp", 3.2 - 3.0),
            ("rise_matched.mlp", -2.1 + 3.0),
            ("adaptive_matched.mlp", -1.2 + 2.0),
            ("one_step_quality.mlp", 0.85 - 0.8),
        ],
    )
    def test_every_contrast_recovers_what_was_planted(self, claim, expected):
        assert of_claim(claim) == pytest.approx([expected] * 4)

    def test_controls(self):
        assert of_claim("accuracy_equal_steps.mlp", "same_arm") == pytest.approx([OTHER_DRAW] * 4)
        assert of_claim("loss_equal_steps.mlp", "same_arm") == pytest.approx([3 * OTHER_DRAW] * 4)
        assert of_claim("loss_equal_gradients.transformer", "same_arm") == pytest.approx([3 * OTHER_DRAW] * 4)
        assert of_claim("accuracy_equal_steps.mlp", "shuffled_labels") == pytest.approx([0.004] * 4)
        assert of_claim("random_accuracy.mlp", "shuffled_labels") == pytest.approx([0.0045] * 4)
        for claim in ("random_tuned_accuracy.mlp", "common_rate_accuracy.mlp", "accuracy_equal_steps.resnet"):
            assert of_claim(claim, "shuffled_labels") == []
        for claim in ("worst_case_equal_steps.mlp", "lambda_matched.mlp", "rise_matched.mlp"):
            assert of_claim(claim, "same_arm") == pytest.approx([0.03] * 4)

    def test_every_claim_has_evidence_and_nothing_else_has(self):
        names = {at.claim for at in (*contrasts.SCORED, *contrasts.AROUND)} | {contrasts.QUALITY}
        assert len(names) == 25 == len({e.claim for e in EFFECTS}) == len({g.claim for g in GATES})
        assert {e.claim for e in EFFECTS} == names == {g.claim for g in GATES}

    def test_gates(self):
        fine = {"rate_interior": 1, "equal_tuning": 1, "sam_radius_bounded": 1}
        assert gate("accuracy_equal_gradients.mlp") == fine == gate("random_accuracy.mlp")
        assert gate("common_rate_accuracy.mlp") == {"rate_interior": 1, "sam_radius_bounded": 1}
        assert gate("lambda_end_equal_gradients.mlp") == fine | {"residual": 0.02}
        found = gate("lambda_matched.mlp")
        assert found == pytest.approx(fine | {"residual": 0.03, "matched_loss": 0.02})
        assert gate("one_step_quality.mlp") == {"rate_interior": 1, "sam_radius_bounded": 1}

    def test_gates_that_fail(self):
        mlp = {"model": "mlp", "criterion": "validation_error"}
        gates = contrasts.gates(changed("chosen", {**mlp, "arm": "plain"}, rate_interior=0))
        assert gate("accuracy_equal_steps.mlp", gates)["rate_interior"] == 0
        assert gate("common_rate_accuracy.mlp", gates)["rate_interior"] == 0
        assert gate("accuracy_equal_gradients.mlp", gates)["rate_interior"] == 1
        assert gate("loss_equal_steps.mlp", gates)["rate_interior"] == 1  # tuned by the loss
        gates = contrasts.gates(changed("chosen", {**mlp, "arm": "plain_double"}, trials=17))
        assert gate("accuracy_equal_gradients.mlp", gates)["equal_tuning"] == 0
        gates = contrasts.gates(changed("tuned", {"model": "mlp", "arm": "random 0.1"}, trials=5))
        assert gate("random_accuracy.mlp", gates)["equal_tuning"] == 0
        for radius, bounded in ((0.3, 0), (0.03, 1)):
            gates = contrasts.gates(changed("chosen", {**mlp, "arm": "sam"}, radius=radius))
            assert gate("worst_case_equal_steps.mlp", gates)["sam_radius_bounded"] == bounded
            assert gate("loss_equal_steps.mlp", gates)["sam_radius_bounded"] == 1

    def test_a_seed_without_a_number_is_left_out(self):
        there = {"model": "mlp", "arm": "plain", "seed": 2}
        frames = changed("neighbourhoods", {**there, "at": "matched"}, sharpness=np.nan)
        assert len(of_claim("lambda_matched.mlp", effects=contrasts.effects(frames))) == 3
        frames = changed("neighbourhoods", {**there, "at": "matched"}, sharpness=-1.0)
        assert len(of_claim("lambda_matched.mlp", effects=contrasts.effects(frames))) == 3
        frames = changed("runs", {**there, "labels": "true"}, test_error=np.nan)
        found = contrasts.effects(frames)
        assert len(of_claim("accuracy_equal_steps.mlp", effects=found)) == 3
        assert len(of_claim("accuracy_equal_gradients.mlp", effects=found)) == 4

    def test_a_shorter_grid_can_say_something_else(self):
        """SAM is hardly worse at the smallest rate, plain training is: cut there, SAM seems ahead."""
        found = contrasts.truncated(BASE, "mlp", "plain")
        assert found.to_dict() == pytest.approx({0.05: 0.05 - 0.015, 0.1: -0.01, 0.2: -0.01})

    def test_findings_count_seeds(self):
        found = {(f.model, f.quantity): f for f in contrasts.findings(BASE)}
        assert len(found) == len(contrasts.findings(BASE))
        one = found["mlp", "share of the rise that one step finds, minibatches"]
        assert (one.mean, one.n) == (pytest.approx(0.85), 4)
        one = found["mlp", "test_error of sam, tuned by validation error, true labels"]
        assert (one.mean, one.n) == (pytest.approx(0.30 + 0.015), 4)
        assert found["mlp", "ln trace at matched loss lower by: sam than plain"].mean == pytest.approx(0.2)


class TestDrawings:
    def figures(self, frames):
        return (
            drawings.responses(frames),
            drawings.responses(frames, contrasts.RANDOM),
            drawings.gains(frames),
            drawings.caps(frames),
            drawings.worst_cases(frames),
            drawings.flatness(frames),
        )

    def test_figures_say_what_is_averaged(self):
        for figure in self.figures(BASE):
            assert "mean" in figure.get_suptitle()

    def test_gains_are_drawn_at_their_means_against_their_margins(self):
        panel = drawings.gains(BASE).axes[0]
        rows = [label.get_text() for label in panel.get_yticklabels()]
        at = {float(line.get_ydata()[0]): line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"}
        assert at[rows.index("SAM over plain, as many steps")] == pytest.approx(4)
        assert at[rows.index("SAM over random direction, SAM's radius")] == pytest.approx(4.5)
        assert [line.get_xdata()[0] for line in panel.lines if line.get_linestyle() == ":"] == [1]

    def test_missing_numbers_leave_gaps_and_no_errors(self):
        frames = changed("runs", {"model": "resnet"}, test_error=np.nan)
        frames |= {"neighbourhoods": BASE["neighbourhoods"].assign(sharpness=np.nan)}
        frames |= {"ascents": BASE["ascents"].assign(rise=0.0)}
        frames |= {"reaches": BASE["reaches"].assign(worst_loss=BASE["reaches"].worst_loss.where(lambda w: w > 1))}
        assert all(figure.axes for figure in self.figures(frames))


def test_cohorts_do_not_depend_on_their_size():
    """A member trained alone is the member trained beside another, also in random directions."""
    bed = bed_of(SMOKE, "mlp")
    for arm in ("sam", "random"):
        cells = [cell(arm, 3, 0.1, 0.2), cell(arm, 4, 0.2, 0.1)]
        _, both = end_of(bed, HOW, cells)
        _, alone = end_of(bed, HOW, cells[1:])
        torch.testing.assert_close(flatten(select(both.params, [1])), flatten(alone.params), rtol=1e-4, atol=1e-6)
