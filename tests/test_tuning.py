"""Which rate an arm's trials choose, what is said about it, and cohorts whose members follow different schedules."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from nonconvex import config
from nonconvex.beds import bed_of
from nonconvex.contrasts import tuning as reading
from nonconvex.drawings import tuning as drawing
from nonconvex.observations.tuning import TuningTrial
from nonconvex.schedules import cosine
from nonconvex.studies import training, tuning
from nonconvex.studies.training import Recipe

SMOKE = config.read(Path(__file__).resolve().parents[1] / "profiles/smoke/params.yaml")


@pytest.fixture(scope="module")
def bed():
    small = training.with_examples(bed_of(SMOKE, "mlp"), 40)
    return training.with_architecture(small, widths=[5])


def trials(losses: dict[tuple[int, float], float | None]) -> list[TuningTrial]:
    return [TuningTrial("mlp", "a", seed, rate, None, 0.0, loss, 0.5) for (seed, rate), loss in losses.items()]


def test_the_least_mean_over_seeds_is_chosen():
    found = tuning.chosen(
        trials({(1, 0.1): 1.0, (2, 0.1): 3.0, (1, 0.2): 1.8, (2, 0.2): 1.9, (1, 0.4): 9, (2, 0.4): 9})
    )
    assert (found.rate, found.arm.interior, found.arm.trials) == (0.2, 1, 6)


def test_a_rate_at_which_a_seed_diverged_does_not_win():
    found = tuning.chosen(trials({(1, 0.1): 2.0, (2, 0.1): 2.0, (1, 0.2): 0.1, (2, 0.2): None}))
    assert (found.rate, found.arm.interior) == (0.1, 0)
    assert tuning.chosen(trials({(1, 0.1): None, (1, 0.2): None})).rate == 0.1


def test_trials_are_the_runs_themselves_and_a_diverged_one_has_no_scores(bed):
    recipe = Recipe(steps=6, batch_size=8, schedule="cosine")
    found = tuning.tuned(bed, "a", recipe, [0.05, 0.1, 1e30], [7], "train_loss", examples=40)
    end = training.trained(bed, recipe, [7], [0.1])
    trial = next(t for t in found.trials if t.rate == 0.1)
    assert trial.train_loss == pytest.approx(training.scores(bed, end.network, end.params, "train", 40)[0].item())
    assert trial.validation_loss == pytest.approx(
        training.scores(bed, end.network, end.params, "validation", 40)[0].item(), rel=1e-5
    )
    lost = found.trials[-1]
    assert lost.diverged_step is not None and (lost.train_loss, lost.validation_error) == (None, None)
    assert found.rate in (0.05, 0.1)


def test_gates_speak_of_the_named_arms_only():
    arms = pd.DataFrame({"arm": ["a", "b", "c"], "interior": [1, 1, 0], "trials": [4, 5, 4]})
    assert reading.gates(arms, ["a", "b"]) == {"rate_interior": 1.0, "equal_tuning": 0.0}
    assert reading.gates(arms, ["a", "c"]) == {"rate_interior": 0.0, "equal_tuning": 1.0}
    with pytest.raises(KeyError):
        reading.gates(arms, ["a", "d"])


def test_responses_are_means_over_seeds_and_empty_where_one_diverged():
    frame = pd.DataFrame(trials({(1, 0.1): 1.0, (2, 0.1): 3.0, (1, 0.2): 1.8, (2, 0.2): None}))
    means = drawing.mean_by_rate(frame, "validation_loss")
    assert means[0.1] == 2.0 and pd.isna(means[0.2])
    arms = pd.DataFrame([tuning.chosen(trials({(1, 0.1): 1.0, (1, 0.2): 2.0})).arm])
    (panel,) = drawing.responses(frame, arms, {"a": "Arm"}).axes
    assert panel.get_lines()[0].get_label() == "Arm"


def test_an_arm_looks_the_same_in_every_panel():
    """Though it may be the first of one bed and the second of another."""
    rows = trials({(1, 0.1): 1.0, (1, 0.2): 2.0})
    pairs = [(model, arm) for model, names in (("mlp", "ab"), ("resnet", "b")) for arm in names]
    frame = pd.DataFrame([replace(row, model=model, arm=arm) for model, arm in pairs for row in rows])
    arms = pd.DataFrame([replace(tuning.chosen(rows).arm, model=model, arm=arm) for model, arm in pairs])
    panels = drawing.responses(frame, arms, {"a": "First", "b": "Second"}).axes
    colours = [{line.get_label(): line.get_color() for line in panel.get_lines()}["Second"] for panel in panels]
    assert colours[0] == colours[1]


def test_members_may_follow_schedules_of_their_own(bed):
    """By name or by factory, as if each had been trained alone."""
    recipe = Recipe(steps=5, batch_size=8)
    among = training.trained(bed, recipe, [7, 7], [0.1, 0.1], ["constant", lambda total: cosine(total, 0.5)]).params
    one = training.trained(bed, recipe, [7], [0.1]).params
    two = training.trained(bed, Recipe(5, 8, schedule=lambda total: cosine(total, 0.5)), [7], [0.1]).params
    for name, value in among.items():
        torch.testing.assert_close(value, torch.cat([one[name], two[name]]), rtol=1e-5, atol=1e-6)
