"""An interrupted cohort goes on where it was, bit for bit, and never from what belongs to another run."""

import dataclasses
from pathlib import Path

import pytest
import torch

from nonconvex import checkpoints, config, experiment, train
from nonconvex.plan import Member

SMOKE = config.read(Path(__file__).resolve().parents[1] / "profiles" / "smoke" / "params.yaml")
MEMBERS = [Member("cosine", 0.1, 0, "reported"), Member("wsd", 0.1, 1, "reported"), Member("cosine", 0.1, 0, "sibling")]


def settings(steps: int = 8) -> config.Settings:
    bed = SMOKE.train["resnet"].model_copy(update={"steps": steps, "test_examples": 100})
    return SMOKE.model_copy(update={"train": {**SMOKE.train, "resnet": bed}})


class Killed(BaseException):
    """Nothing catches it, as nothing can catch the end of a process."""


def killed_after(monkeypatch, updates: int) -> list[int]:
    """Let every update up to that number happen, and none after it. The list fills with the steps taken."""
    taken, advance = [], train.advance

    def counting(cohort, state, step):
        if len(taken) == updates:
            raise Killed
        taken.append(step)
        return advance(cohort, state, step)

    monkeypatch.setattr(train, "advance", counting)
    return taken


def same(a: experiment.Outcome, b: experiment.Outcome) -> bool:
    weights = a.endpoints.keys() == b.endpoints.keys() and all(
        torch.equal(value, b.endpoints[name]) for name, value in a.endpoints.items()
    )
    return weights and (a.runs, a.curves, a.measurements) == (b.runs, b.curves, b.measurements)


@pytest.mark.parametrize("strategy", ["none", "swa", "ema"])
def test_a_killed_cohort_goes_on_bit_for_bit(strategy, tmp_path, monkeypatch):
    """Losses, averages or moments of before the kill that are lost, and steps that are taken twice."""
    whole = experiment.run_cohort(settings(), "resnet", strategy, MEMBERS)
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            experiment.run_cohort(settings(), "resnet", strategy, MEMBERS, kept=tmp_path)
    taken = killed_after(monkeypatch, 100)
    again = experiment.run_cohort(settings(), "resnet", strategy, MEMBERS, kept=tmp_path)
    assert taken == [5, 6, 7] and same(again, whole)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_finished_cohort_is_not_trained_again(tmp_path, monkeypatch):
    """The tuning runs of a stage that was stopped during its reported ones."""
    whole = experiment.run_cohort(settings(), "resnet", "none", MEMBERS, kept=tmp_path)
    taken = killed_after(monkeypatch, 0)
    assert same(experiment.run_cohort(settings(), "resnet", "none", MEMBERS, kept=tmp_path), whole)
    assert taken == []


@pytest.mark.parametrize("other", ["steps", "members", "strategy", "source"])
def test_what_belongs_to_another_run_is_left_alone(other, tmp_path, monkeypatch):
    """Going on from states of other settings, other seeds or another state of the code."""
    experiment.run_cohort(settings(), "resnet", "none", MEMBERS, kept=tmp_path)
    taken, asked, strategy, members = killed_after(monkeypatch, 100), settings(), "none", MEMBERS
    if other == "steps":
        asked = settings(9)
    if other == "members":
        members = [dataclasses.replace(MEMBERS[0], rate=0.2), *MEMBERS[1:]]
    if other == "strategy":
        strategy = "ema"
    if other == "source":
        monkeypatch.setattr(checkpoints, "_source", lambda: "edited")
    experiment.run_cohort(asked, "resnet", strategy, members, kept=tmp_path)
    assert taken == list(range(asked.train["resnet"].steps))


def test_a_damaged_file_is_named(tmp_path):
    experiment.run_cohort(settings(), "resnet", "none", MEMBERS, kept=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{file.name}: no checkpoint that can be read .*delete it to start again"):
        experiment.run_cohort(settings(), "resnet", "none", MEMBERS, kept=tmp_path)


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment.run_cohort(settings(), "resnet", "none", MEMBERS[:1])
    assert list(tmp_path.iterdir()) == []
