"""Runs of fully connected networks that differ in the gain of their initial weights, many gains in one cohort."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.measure.propagation import scaled
from nonconvex.models.normalised_mlp import NormalisedMlp
from nonconvex.models.stacked import Params, Stacked, stack
from nonconvex.observations.tuning import TuningTrial
from nonconvex.studies.training import Recipe, cohort, scores, with_architecture
from nonconvex.studies.tuning import Tuned, chosen
from nonconvex.study_settings.initialization import GAINS, Family, Gain

MODEL = "mlp"
SCORED = 1000  # examples behind a loss that is no final training loss, and behind batch-norm statistics
TWIN = 5000  # added to the seeds of the arm that differs from its twin in nothing else


class NormalisedBed(Bed):
    """The bed of an MLP with batch norm before every activation."""

    def build(self) -> torch.nn.Module:
        return NormalisedMlp(classes=self.data.classes, **self.training.architecture)


@dataclass(frozen=True)
class Run:
    """A run that is to be made; the seed of its initial weights and its data is `seed + offset`."""

    family: Family
    gain: Gain
    phase: str
    seed: int
    rate: float

    @property
    def arm(self) -> str:
        return f"{self.family}_{self.gain}"

    @property
    def offset(self) -> int:
        return TWIN if self.phase == "twin" else 0


@dataclass(frozen=True)
class Outcome:
    """What came of a run; the update at which it diverged, or None."""

    run: Run
    diverged_step: int | None
    initial_loss: float
    train_loss: float
    validation_loss: float
    validation_error: float


def family_bed(settings: Settings, family: Family) -> Bed:
    """The bed of a family's networks, whose weights are drawn at gain 1."""
    s = settings.factors.initialization
    activation = "tanh" if family == "tanh" else "relu"
    widths = (s.width,) * s.families[family].depth
    bed = with_architecture(bed_of(settings, MODEL), widths=widths, skip=False, gain=1.0, activation=activation)
    count = min(SCORED, len(bed.data.train))
    training = bed.training.model_copy(update={"statistics_examples": count})
    return (NormalisedBed if family == "normalised" else Bed)(bed.name, training, bed.data, bed.device)


def beginning(bed: Bed, runs: Sequence[Run]) -> tuple[Stacked, Params]:
    """The stacked network of one family's runs at its initial weights: one draw a seed, times each run's gain."""
    network, params = stack(bed.build, [run.seed + run.offset for run in runs], bed.device)
    return network, scaled(params, gains(runs))


def gains(runs: Sequence[Run]) -> Tensor:
    """(E,) in float64."""
    return torch.tensor([GAINS[run.gain] for run in runs], dtype=torch.float64)


def outcomes(settings: Settings, runs: Sequence[Run]) -> list[Outcome]:
    """What comes of the runs, in order; they are trained in cohorts of one family, spread over processes."""
    cohorts = list(in_cohorts(runs, settings.factors.initialization.cohort))
    found = spread(settings, [partial(trained, settings, members) for members in cohorts])
    by_run = {outcome.run: outcome for part in found for outcome in part}
    return [by_run[run] for run in runs]


def in_cohorts(runs: Sequence[Run], size: int) -> Iterator[list[Run]]:
    """The runs of each family in as few parts of nearly equal length as `size` allows."""
    for family in dict.fromkeys(run.family for run in runs):
        members = [run for run in runs if run.family == family]
        parts = -(-len(members) // size)
        yield from (members[part::parts] for part in range(parts))


def trained(settings: Settings, runs: Sequence[Run]) -> list[Outcome]:
    """Train runs of one family in lockstep, at rates that fall to zero along a cosine."""
    torch.set_num_threads(1)
    s, bed = settings.factors.initialization, family_bed(settings, runs[0].family)
    recipe = Recipe(s.steps, s.batch_size, "cosine")
    network, params, made = cohort(bed, recipe, [r.seed + r.offset for r in runs], [r.rate for r in runs])
    params, count = scaled(params, gains(runs)), min(SCORED, len(bed.data.validation))
    initial, _ = scores(bed, network, params, "train", bed.training.statistics_examples)
    (end,) = deque(train.train(made, train.start(made, params)), maxlen=1)
    losses, _ = scores(bed, network, end.params, "train")
    validation = scores(bed, network, end.params, "validation", count)
    columns = zip(runs, end.diverged.tolist(), *(c.tolist() for c in (initial, losses, *validation)), strict=True)
    return [Outcome(run, step if step >= 0 else None, *values) for run, step, *values in columns]


def tuned_rates(settings: Settings, criterion: str = "train_loss") -> dict[str, Tuned]:
    """Every arm's rate, chosen on tuning seeds by the final loss on all training examples.

    Where nothing trains but the head's bias, the loss on other or on fewer examples would choose by chance.
    """
    s = settings.factors.initialization
    arms = [(family, gain) for family, networks in s.families.items() for gain in networks.lowest]
    runs = [
        Run(family, gain, "tuning", seed, rate)
        for family, gain in costliest_first(settings, arms)
        for rate in s.grid(family, gain)
        for seed in s.tuning
    ]
    found: dict[str, list[TuningTrial]] = {}
    for outcome in outcomes(settings, runs):
        found.setdefault(outcome.run.arm, []).append(trial(outcome))
    return {f"{family}_{gain}": chosen(found[f"{family}_{gain}"], criterion) for family, gain in arms}


def trial(outcome: Outcome) -> TuningTrial:
    """The record of a tuning run."""
    run, diverged = outcome.run, outcome.diverged_step is not None
    values = (outcome.train_loss, outcome.validation_loss, outcome.validation_error)
    scored = [None if diverged else finite(value) for value in values]
    return TuningTrial(MODEL, run.arm, run.seed, run.rate, outcome.diverged_step, *scored)


def costliest_first(settings: Settings, arms: Iterable[tuple[Family, Gain]]) -> list[tuple[Family, Gain]]:
    """Arms by the depth of their networks, normalised before others: who runs out of work then waits little."""
    families = settings.factors.initialization.families
    return sorted(arms, key=lambda arm: (families[arm[0]].depth, arm[0] == "normalised"), reverse=True)


def finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
