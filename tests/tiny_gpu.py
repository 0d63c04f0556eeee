"""The GPU profile at toy size: its own settings with everything small, on made-up images and a short text."""

from pathlib import Path

import numpy as np
import torch
import yaml

from nonconvex import config
from nonconvex.data import cifar10, mnist1d, text
from nonconvex.data.splits import Arrays, Dataset

GPU = Path(__file__).resolve().parents[1] / "profiles" / "gpu" / "params.yaml"
SIDE, CONTEXT = 8, 16

GRID = {"schedules": ["cosine", "wsd"], "strategies": ["none", "sam"]}
SEEDS = {"reported": [0, 1], "connected": [0, 1]}
RESNET = {
    "architecture": {"dimensions": 2, "depth": 8, "width": 4},
    "steps": 12,
    "batch_size": 16,
    "rates": [0.05, 0.1],
    "cohort": 6,
    "statistics_examples": 60,
    "train_examples": 60,
    "validation_examples": 40,
    "test_examples": 40,
}
TRANSFORMER = {
    "architecture": {"context": CONTEXT, "layers": 1, "width": 16, "heads": 2, "ratio": 2},
    "steps": 12,
    "batch_size": 8,
    "rates": [0.001, 0.003],
    "cohort": 6,
    "train_examples": 20,
    "validation_examples": 20,
    "test_examples": 20,
}
PATHS = {"batch_size": 8, "curve_steps": 4, "points": 5, "train_examples": 20, "test_examples": 20}
VALIDATION = {
    "resnet": {"seeds": [0, 1], "steps": 12, "batch_size": 16},
    "edge": {"seeds": [0, 1], "rates": [0.02, 0.04], "widths": [8, 8], "examples": 40, "steps": 20, "readings": 5},
}


class Plain(yaml.SafeDumper):
    """Without aliases, which settings may not have."""

    def ignore_aliases(self, data):
        return True


def written(folder: Path) -> Path:
    """The settings of the GPU profile with the changes above, as a file in `folder`."""
    content = yaml.safe_load(GPU.read_text())
    content["profile"] = {"name": "tiny", "root": ".", "params": "params.yaml"}
    content["grid"] |= GRID
    content["seeds"] |= SEEDS
    content["train"]["resnet"] |= RESNET
    content["train"]["transformer"] |= TRANSFORMER
    content["measure"] = {
        "resnet": {"examples": 40, "lanczos_iterations": 8, "members_at_once": 1},
        "transformer": {"examples": 8, "lanczos_iterations": 8},
    }
    content["connectivity"] = {"resnet": PATHS, "transformer": PATHS}
    content["validation"], content["compute"] = VALIDATION, {"device": "cpu", "workers": 1}
    path = folder / "params.yaml"
    path.write_text(yaml.dump(content, Dumper=Plain))
    return path


def settings(folder: Path) -> config.Settings:
    return config.read(written(folder))


def dataset(name: str, context: int | None, device: str) -> Dataset:
    """In place of `beds._dataset`: nothing is downloaded."""
    made = {"cifar10": images, "tinyshakespeare": play, "mnist1d": mnist1d.load}[name]()
    return made.to(device)


def images() -> Dataset:
    """Coloured noise around one colour per class, as bytes; 160 to train on, 40 and 40 held out."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 240)
    colours = random.integers(60, 200, (10, 3, 1, 1))
    pixels = np.clip(colours[labels] + random.normal(0, 25, (240, 3, SIDE, SIDE)), 0, 255).astype(np.uint8)
    x, y = torch.from_numpy(pixels), torch.from_numpy(labels)
    return cifar10.dataset("made up", Arrays(x[:200], y[:200]), Arrays(x[200:], y[200:]), held_out=40)


def play() -> Dataset:
    return text.dataset("made up", "to be, or not to be: that is the question. " * 30, CONTEXT)
