"""Is training biased towards simple solutions? Three linear models with closed forms, and a network's predictions.

Under-determined least squares: where seven optimizers come to rest, from zero and from a random start. Separable
logistic regression: gradient flow and gradient descent on their way to the direction of the largest margin. Two-layer
linear networks: when each mode of the target is learned. A ReLU network: how much of its predictions a linear model
explains, early and late. Every seed is a new draw of the data in the linear models; in the network it is a new draw
of weights and order.
"""

from collections.abc import Iterable
from functools import partial

import numpy as np
import torch

from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.evaluation import shared
from nonconvex.measure import explained
from nonconvex.observations import implicit_regularization as rows
from nonconvex.studies.linear_paths import Rows, observe_directions, observe_limits, observe_modes
from nonconvex.studies.training import Recipe, cohort, snapshots
from nonconvex.studies.trajectories import rounded
from nonconvex.study_settings.implicit_regularization import LinearFirst

MODELS = ("mlp",)
FILES = ("limits", "separators", "directions", "modes", "ranks", "halfway", "strengths", "predictions")
OTHER = 5000  # added to a seed for its twin


def observe(settings: Settings) -> Rows:
    """The records of all four parts, by file name."""
    s = settings.factors.implicit_regularization
    half = (len(s.seeds) + 1) // 2
    jobs = [partial(observe_predictions, settings, arm) for arm in ("network", "twin")]
    jobs += [partial(observe_limits, s, seeds) for seeds in (s.seeds[:half], s.seeds[half:]) if seeds]
    jobs += [partial(observe_directions, s), partial(observe_modes, s)]
    parts = spread(settings, jobs)
    return {name: [row for part in parts for row in part.get(name, [])] for name in FILES}


def observe_predictions(settings: Settings, arm: str) -> Rows:
    """Networks and softmax regression on the same test examples, from the start to the end of a short training."""
    torch.set_num_threads(1)
    s, bed = settings.factors.implicit_regularization, bed_of(settings, "mlp")
    how, runs = s.linear_first, [seed + OTHER * (arm == "twin") for seed in s.seeds]
    inputs, labels = bed.data.test.examples(how.examples)
    truth, linear = labels.cpu().numpy(), linear_predictions(bed, how)
    network, params, made = cohort(bed, Recipe(how.steps, how.batch_size), runs, [how.rate] * len(runs))
    looks = sorted({0, *(round(step) for step in np.geomspace(how.first, how.steps, how.looks))})
    found = []
    for state in snapshots(made, params, looks):
        with torch.no_grad():
            guesses = network(state.params, shared(inputs, len(runs))).argmax(-1).cpu().numpy()
        found += predictions(arm, s.seeds, state.step, truth, guesses, linear, bed.data.classes)
    return {"predictions": found}


def linear_predictions(bed: Bed, how: LinearFirst) -> np.ndarray:
    """What softmax regression on the bed's training set says of the test examples."""
    x, y = (part.cpu().numpy() for part in bed.data.train.examples())
    inputs = bed.data.test.examples(how.examples)[0].cpu().numpy()
    return explained.linear_predictions(x, y, inputs, bed.data.classes, how.decay)


def predictions(
    arm: str,
    seeds: Iterable[int],
    step: int,
    truth: np.ndarray,
    guesses: np.ndarray,
    linear: np.ndarray,
    classes: int,
) -> list[rows.Prediction]:
    """A record per seed of the network's guesses (E, N) beside the linear ones (N,)."""
    linear_error, found = float((linear != truth).mean()), []
    for seed, own in zip(seeds, guesses, strict=True):
        error, shares = float((own != truth).mean()), explained.compare(truth, own, linear, classes)
        numbers = (shares.agreement, shares.independent, rounded(shares.explained, 6))
        found.append(rows.Prediction(arm, seed, step, error, linear_error, *numbers))
    return found
