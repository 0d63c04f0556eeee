"""The rate of every arm, chosen on seeds that are never reported: as many trials for one arm as for another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nonconvex.beds import Bed
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.studies.training import Recipe, scores, trained

Criterion = Literal["train_loss", "validation_loss", "validation_error"]


@dataclass(frozen=True)
class Tuned:
    """An arm's choice and the trials that it rests on."""

    arm: TunedArm
    trials: list[TuningTrial]

    @property
    def rate(self) -> float:
        return self.arm.rate


def tuned(
    bed: Bed,
    arm: str,
    recipe: Recipe,
    rates: Sequence[float],
    seeds: Sequence[int],
    criterion: Criterion = "validation_loss",
    model: str | None = None,
    examples: int | None = None,
) -> Tuned:
    """Train a run per seed and rate in lockstep and choose the rate of least mean `criterion`.

    `model` names the bed in the records (its own name by default); losses are those of `examples` examples of a split
    (all by default).
    """
    pairs = [(seed, rate) for rate in rates for seed in seeds]
    end = trained(bed, recipe, [seed for seed, _ in pairs], [rate for _, rate in pairs])
    train_losses, _ = scores(bed, end.network, end.params, "train", examples)
    found = (train_losses, *scores(bed, end.network, end.params, "validation", examples))
    trials = [
        TuningTrial(model or bed.name, arm, seed, rate, *_unless_diverged(step, *values))
        for (seed, rate), step, *values in zip(
            pairs, end.diverged.tolist(), *(part.tolist() for part in found), strict=True
        )
    ]
    return chosen(trials, criterion)


def chosen(trials: Sequence[TuningTrial], criterion: Criterion = "validation_loss") -> Tuned:
    """What the trials of one arm choose. A rate at which a seed diverged counts only where each did: then the least."""
    rates = sorted({trial.rate for trial in trials})
    means = {rate: _mean([getattr(t, criterion) for t in trials if t.rate == rate]) for rate in rates}
    rate = min(rates, key=lambda rate: (means[rate], rate))
    name = (trials[0].model, trials[0].arm)
    return Tuned(TunedArm(*name, criterion, rate, int(rates[0] < rate < rates[-1]), len(trials)), list(trials))


def _mean(values: Sequence[float | None]) -> float:
    return math.inf if None in values else sum(values) / len(values)


def _unless_diverged(step: int, *values: float) -> tuple[int | None, ...]:
    if step >= 0:
        return step, *[None] * len(values)
    return None, *(value if math.isfinite(value) else None for value in values)
