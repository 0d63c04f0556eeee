"""Runs from exact saddles of a linear network: which noise shortens the way out, and at which saddles."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from nonconvex.measure.escape import Walk, escapes, expected_steps, noise_variance
from nonconvex.measure.linear_saddles import Regression, Saddle, example_gradients, regression, saddle
from nonconvex.observations.sgd_noise import SaddlePoint, SaddleRun
from nonconvex.study_settings.sgd_noise import Saddles

ARMS = {  # arm -> noise, what is taken out of it
    "gd": ("none", "nothing"),
    "sgd": ("minibatch", "nothing"),
    "sgd_directions": ("minibatch", "directions"),
    "sgd_modes": ("minibatch", "modes"),
    "isotropic": ("isotropic", "nothing"),
    "isotropic_directions": ("isotropic", "directions"),
    "isotropic_modes": ("isotropic", "modes"),
}
EXACT = ("gd", "sgd")  # arms that are also started at the saddle itself
TARGETS = 14  # stream of random numbers: targets, inputs, starts

Pair = tuple[list[SaddlePoint], list[SaddleRun]]


def saddle_runs(chosen: Saddles, seeds: tuple[int, ...]) -> Pair:
    """Every saddle of every seed, and all runs from it, in one lockstep."""
    torch.set_num_threads(1)
    points, keys, walks, idle = [], [], [], []
    for seed in seeds:
        data, offset = problem(chosen, seed)
        for modes in (*chosen.idle, *chosen.active):
            at = saddle(data, tuple(digit == "1" for digit in modes), chosen.hidden)
            found = described(chosen, seed, modes, data, at, offset)
            points.append(found)
            for start, arm in [("displaced", arm) for arm in ARMS] + [("exact", arm) for arm in EXACT]:
                begin = at.point + (offset if start == "displaced" else 0.0)
                keys.append((seed, modes, start, arm))
                walks.append(walk(found, data, at, begin, arm))
                idle.append(idle_weights(at, chosen.hidden))
    ends = escapes(walks, chosen.batch_size, chosen.hidden, chosen.share, torch.stack(idle))
    runs = [
        SaddleRun(*key, step if step >= 0 else None, weight)
        for key, step, weight in zip(keys, ends.steps.tolist(), ends.watched.tolist(), strict=True)
    ]
    return points, runs


def problem(chosen: Saddles, seed: int) -> tuple[Regression, Tensor]:
    """A seed's regression, and the displacement (P,) of its starts from every saddle."""
    generator = np.random.Generator(np.random.Philox(key=[seed, TARGETS]))
    factors = generator.uniform(1 - chosen.spread, 1 + chosen.spread, len(chosen.values))
    values = sorted((np.array(chosen.values) * factors).tolist(), reverse=True)
    data = regression(tuple(values), chosen.examples, chosen.label_noise, generator)
    size = 2 * chosen.hidden * len(values)
    return data, chosen.displacement * torch.from_numpy(generator.standard_normal(size))


def described(chosen: Saddles, seed: int, modes: str, data: Regression, at: Saddle, offset: Tensor) -> SaddlePoint:
    """What is known of a saddle before any run."""
    noise, escaping = noise_variance(at, data, chosen.batch_size, chosen.hidden)
    rate = chosen.stability / at.sharpness
    expected = partial(expected_steps, rate=rate, strength=at.strength)
    index, each = at.negative.shape[1], example_gradients(at.point, data, chosen.hidden)
    known = at.expected_negative(data.values, chosen.hidden)
    along = (offset @ at.fastest).norm().item()
    return SaddlePoint(
        seed=seed,
        saddle=modes,
        kind="idle" if modes in chosen.idle else "active",
        index=index,
        strength=at.strength,
        sharpness=at.sharpness,
        eigenvalue_error=(at.eigenvalues[:index] - known).abs().max().item(),
        noise=noise,
        noise_escaping=escaping,
        idle_gradient=(each * idle_weights(at, chosen.hidden)).abs().max().item(),
        rate=rate,
        steps=int(chosen.length * expected(chosen.displacement)) + 1,
        expected=expected(chosen.displacement),
        expected_projected=expected(along),
    )


def walk(found: SaddlePoint, data: Regression, at: Saddle, begin: Tensor, arm: str) -> Walk:
    """A run of an arm from `begin`."""
    noise, removed = ARMS[arm]
    eye = torch.eye(len(begin), dtype=begin.dtype)
    kept = {"nothing": eye, "directions": eye - at.negative @ at.negative.mT, "modes": at.inside}[removed]
    deviation = (found.noise / len(begin)) ** 0.5  # per coordinate: the same trace
    return Walk(data, at, begin, noise, kept, deviation, found.rate, found.steps, found.seed)


def idle_weights(at: Saddle, hidden: int) -> Tensor:
    """(P,) ones at the in- and out-weights of units that no chosen mode uses, else zeros."""
    unused = torch.arange(hidden) >= sum(at.chosen)
    inputs = len(at.chosen)
    marks = (unused[:, None].expand(hidden, inputs), unused.expand(inputs, hidden))
    return torch.cat([mark.flatten() for mark in marks]).to(at.point)
