"""The digest on which training depends: equal for equal examples, another for any other."""

import json
from dataclasses import replace

import pytest
import torch

from nonconvex.data import fingerprint as module
from nonconvex.data.fingerprint import fingerprint
from nonconvex.data.splits import Arrays, Dataset, Windows


def dataset() -> Dataset:
    parts = [Arrays(torch.arange(24.0).view(12, 2) + i, torch.arange(12) % 3) for i in range(3)]
    return Dataset("toy", *parts, classes=3)


class Noisy(Arrays):
    """The same examples, changed on their way into a batch."""

    def batch(self, seeds, step, batch_size):
        x, y = super().batch(seeds, step, batch_size)
        return -x, y


def test_equal_examples_give_an_equal_digest_of_the_documented_shape():
    found = fingerprint(dataset())
    assert found == fingerprint(dataset())
    assert found["train"]["examples"] == 12 and found["train"]["shape"] == [2]
    assert len({found[split]["examples_sha256"] for split in ("train", "validation", "test")}) == 3


def test_any_change_of_examples_shows():
    """One number, one target, the type, the order, and the way into a batch."""
    before, whole = fingerprint(dataset()), dataset()
    x, y = whole.test.x, whole.test.y
    other = x.clone()
    other[5, 1] += 1e-3
    zeros = Arrays(torch.zeros(12, 2), y), Arrays(torch.zeros(12, 2, dtype=torch.int32), y)
    assert len({fingerprint(replace(whole, test=test))["test"]["examples_sha256"] for test in zeros}) == 2
    for test in (
        Arrays(other, y),
        Arrays(x, y.roll(1)),
        Arrays(x.double(), y),
        Arrays(x.flip(0), y.flip(0)),
        Noisy(x, y),
    ):
        assert fingerprint(replace(whole, test=test))["test"] != before["test"]


def test_windows_show_their_context():
    tokens = torch.arange(60, dtype=torch.uint8)
    found = [fingerprint(Dataset("text", *[Windows(tokens, context)] * 3, classes=60)) for context in (4, 5)]
    assert found[0]["train"]["shape"] == [4] and found[0] != found[1]


def test_the_command_writes_the_digest_of_the_models_own_data_set(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "load_dataset", lambda *arguments: asked.append(arguments) or dataset())
    destination = tmp_path / "results" / "resnet.json"
    assert module.main(["resnet", str(destination), "--params", "params.yaml"]) == 0
    assert json.loads(destination.read_text()) == fingerprint(dataset())
    assert asked == [("mnist1d", None)]


def fails(capsys, tmp_path) -> str:
    """What the command says when it refuses; it must write nothing."""
    assert module.main(["resnet", str(tmp_path / "out" / "resnet.json"), "--params", "params.yaml"]) == 1
    assert not (tmp_path / "out").exists()
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_nan_in_the_data_is_named_before_anything_is_trained(tmp_path, monkeypatch, capsys, value):
    whole = dataset()
    whole.validation.x[[4, 7], 1] = value
    monkeypatch.setattr(module, "load_dataset", lambda *_: whole)
    expected = "error: toy, validation examples: NaN or infinity found in 2 of 12, the first number 4\n"
    assert fails(capsys, tmp_path) == expected


def test_a_target_that_is_no_class_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "load_dataset", lambda *_: replace(dataset(), classes=2))
    assert "toy, train examples: targets 0 to 2 found; allowed: 0 to 1" in fails(capsys, tmp_path)


@pytest.mark.parametrize("error", [FileNotFoundError("x.npz is missing"), ConnectionError("no network")])
def test_data_that_cannot_be_had_are_one_line(tmp_path, monkeypatch, capsys, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(module, "load_dataset", fail)
    assert fails(capsys, tmp_path) == f"error: {error}\n"
