"""What the noise in stochastic gradients does: at exact saddles, at a sharp solution, and for test accuracy.

Every part separates the noise from what comes with it: the rate (full batches at the same one) and the direction of the
noise (isotropic noise of the same size, and noise without its part along the ways out).
"""

from collections.abc import Sequence
from functools import partial

import torch

from nonconvex.beds import Bed, spread
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate
from nonconvex.models.stacked import stack
from nonconvex.observations.sgd_noise import ScratchRun
from nonconvex.optimizers import Sgd
from nonconvex.studies.draws import OTHER
from nonconvex.studies.saddle_escape import saddle_runs
from nonconvex.studies.sharp_escape import continued, noise_bed, noise_of
from nonconvex.studies.training import PLAIN, Recipe, trained
from nonconvex.studies.trajectories import rounded
from nonconvex.studies.tuning import Tuned, tuned
from nonconvex.study_settings.sgd_noise import ScratchArm

MODELS = ("mlp",)
LOSS = "cross_entropy"  # of the runs from scratch


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: saddles, saddle_runs, continued, scratch, tuning, tuned."""
    study = settings.factors.sgd_noise
    walks = [partial(saddle_runs, study.saddles, seeds) for seeds in in_two(study.seeds)]
    trials = [partial(tune, settings, arm) for arm in study.scratch.rates]
    going = [
        partial(continued, settings, loss, "true", seeds)
        for loss in study.continuations
        for seeds in in_two(study.seeds)
    ]
    if LOSS in study.continuations:
        going.append(partial(continued, settings, LOSS, "shuffled", study.seeds[: study.controls]))
    found = spread(settings, [*going, *walks, *trials])
    rows, pairs, choices = found[: len(going)], found[len(going) : -len(trials)], found[-len(trials) :]
    files = {
        "saddles": [row for points, _ in pairs for row in points],
        "saddle_runs": [row for _, runs in pairs for row in runs],
        "continued": [row for part in rows for row in part],
        "scratch": from_scratch(settings, dict(zip(study.scratch.rates, choices, strict=True))),
    }
    files |= {"tuning": [row for one in choices for row in one.trials], "tuned": [one.arm for one in choices]}
    return {name: sorted(part, key=_key) for name, part in files.items()}


def in_two(seeds: Sequence[int]) -> list[tuple[int, ...]]:
    """The seeds as two cohorts, so that two cores are busy."""
    half = -(-len(seeds) // 2)
    return [tuple(part) for part in (seeds[:half], seeds[half:]) if part]


def _key(row: object) -> tuple:
    return tuple(getattr(row, name) for name in row.KEY)


def recipe(settings: Settings, bed: Bed, arm: ScratchArm) -> Recipe:
    """Plain descent on small batches, on full ones, or on full ones with isotropic noise as long as a small one's."""
    study = settings.factors.sgd_noise
    strategy = noise_of(bed, stack(bed.build, [0], bed.device)[0], study.small) if arm == "noise" else PLAIN
    size = study.small if arm == "small" else 0
    return Recipe(study.scratch.steps, size, optimizer=Sgd(), strategy=strategy)


def tune(settings: Settings, arm: ScratchArm) -> Tuned:
    """The arm's rate of least validation error."""
    torch.set_num_threads(1)
    study, bed = settings.factors.sgd_noise, noise_bed(settings, LOSS)
    how = recipe(settings, bed, arm)
    return tuned(bed, arm, how, study.scratch.rates[arm], study.tuning, "validation_error")


def from_scratch(settings: Settings, choices: dict[ScratchArm, Tuned]) -> list[ScratchRun]:
    """Every arm at its tuned rate, on true and on shuffled labels; the small batches a second time from other seeds."""
    study, jobs = settings.factors.sgd_noise, []
    few = study.seeds[: study.controls]
    for labels, seeds in (("true", study.seeds), ("shuffled", few)):
        for arm in ("full", "noise", "small"):
            jobs.append(partial(runs, settings, arm, choices[arm].rate, labels, "own", seeds))
    jobs.append(partial(runs, settings, "small", choices["small"].rate, "true", "other", study.seeds))
    return [row for part in spread(settings, jobs) for row in part]


def runs(
    settings: Settings, arm: ScratchArm, rate: float, labels: str, draw: str, seeds: Sequence[int]
) -> list[ScratchRun]:
    """One arm from the initial weights of every seed."""
    torch.set_num_threads(1)
    study, bed = settings.factors.sgd_noise, noise_bed(settings, LOSS, labels)
    starts = [seed + OTHER * (draw == "other") for seed in seeds]
    how = recipe(settings, bed, arm)
    end = trained(bed, how, starts, [rate] * len(seeds))
    scores = [
        part.tolist()
        for split, count in ((bed.data.train, None), (bed.data.test, study.test_examples))
        for part in evaluate(end.network, end.params, {}, split.examples(count), bed.loss)
    ]
    seen = how.steps * (study.small if arm == "small" else study.examples + study.small * (arm == "noise"))
    rows = []
    for seed, step, losses, errors, _, test in zip(seeds, end.diverged.tolist(), *scores, strict=True):
        fitted = int(step < 0 and errors <= study.scratch.fitted)
        rows.append(ScratchRun(arm, labels, draw, seed, rate, seen, *_unless(step, losses, errors, test), fitted))
    return rows


def _unless(step: int, *values: float) -> tuple:
    """Nothing and the values, or the step at which the run diverged and no values."""
    return (step, *[None] * len(values)) if step >= 0 else (None, *map(rounded, values))
