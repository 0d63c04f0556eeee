"""Signals like the bed's from other settings of the generator: what a pretrained network is fine-tuned on."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from nonconvex.beds import Bed
from nonconvex.data.splits import Arrays
from nonconvex.study_settings.tournament import FineTuning

CLASSES = 10


def shifted(bed: Bed, how: FineTuning) -> Bed:
    """The bed with all of its splits drawn anew, as many examples as `how` says."""
    x, y = (part.to(bed.device) for part in drawn(how))
    sizes = (how.train, how.validation, how.test)
    parts = zip(("train", "validation", "test"), x.split(sizes), y.split(sizes), strict=True)
    return replace(bed, data=replace(bed.data, **{name: Arrays(inputs, labels) for name, inputs, labels in parts}))


@lru_cache(maxsize=1)
def drawn(how: FineTuning) -> tuple[torch.Tensor, torch.Tensor]:
    """x (N, 40) in float32 and y (N,), in random order; N is the three splits together.

    ValueError where N does not divide among the ten classes, which the generator would leave unequal.
    """
    from mnist1d.data import get_dataset_args, make_dataset  # takes a second, and only this needs it

    count = how.train + how.validation + how.test
    if count % CLASSES:
        raise ValueError(f"fine_tuning: {count} examples in all; allowed: multiples of {CLASSES}, the classes")
    arguments = get_dataset_args()
    vars(arguments).update(num_samples=count, train_split=1.0, seed=how.seed)
    vars(arguments).update(shear_scale=how.shear_scale, corr_noise_scale=how.corr_noise_scale)
    with _global_randomness_kept():
        found = make_dataset(arguments)
    return torch.from_numpy(found["x"].astype("<f4")), torch.from_numpy(found["y"].astype("<i8"))


@contextmanager
def _global_randomness_kept() -> Iterator[None]:
    """The generator seeds the global state of numpy and random; put both back."""
    kept = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(kept[0])
        random.setstate(kept[1])
