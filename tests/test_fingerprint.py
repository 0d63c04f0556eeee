"""The digest on which training depends: equal for equal examples, another for any other."""

import json
from dataclasses import replace

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
