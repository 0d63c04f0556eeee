"""Which runs a stage needs. A stage is one model under one strategy.

It first trains every schedule at every rate of the grid on the tuning seeds, chooses each schedule's rate by
validation loss, and then trains the reported seeds at that rate. Siblings are runs that share a reported run's start
and data order up to a fork.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nonconvex.config import Settings
from nonconvex.records import Run


@dataclass(frozen=True)
class Member:
    """One run of a cohort."""

    schedule: str
    rate: float
    seed: int
    phase: str  # tuning, reported or sibling


def schedules_under(settings: Settings, strategy: str) -> list[str]:
    """The grid's schedules, or the baseline's alone where the settings give no seeds to the cross of the two axes."""
    names = settings.grid.schedules
    return [name for name in names if settings.seeds.cross or on_baseline(settings, name, strategy)]


def tuning_members(settings: Settings, model: str, strategy: str) -> list[Member]:
    """Every schedule at every rate of the model's grid on every tuning seed."""
    rates, seeds = settings.train[model].rates, settings.seeds.tuning
    names = schedules_under(settings, strategy)
    return [Member(name, rate, seed, "tuning") for name in names for rate in rates for seed in seeds]


def reported_members(settings: Settings, strategy: str, rates: dict[str, float]) -> list[Member]:
    """The seeds to report at each schedule's chosen rate; where an axis is at its baseline also their siblings."""
    members = []
    for schedule in schedules_under(settings, strategy):
        outer = on_baseline(settings, schedule, strategy)
        seeds = settings.seeds.reported if outer else settings.seeds.cross
        members += [Member(schedule, rates[schedule], seed, "reported") for seed in seeds]
        members += [Member(schedule, rates[schedule], seed, "sibling") for seed in settings.seeds.connected if outer]
    return members


def on_baseline(settings: Settings, schedule: str, strategy: str) -> bool:
    """Whether an arm lies on the row or the column through the grid's baseline."""
    return schedule == settings.grid.baseline.schedule or strategy == settings.grid.baseline.strategy


def baseline_arms(settings: Settings) -> list[tuple[str, str]]:
    """(strategy, schedule) of every arm on the row or the column through the grid's baseline."""
    grid = settings.grid
    return [(s, name) for s in grid.strategies for name in grid.schedules if on_baseline(settings, name, s)]


def chosen_rates(runs: Iterable[Run]) -> dict[str, float]:
    """Each schedule's rate of lowest validation loss, averaged over the tuning seeds; a diverged run counts as
    infinite."""
    losses: dict[str, dict[float, float]] = {}
    for run in runs:
        by_rate = losses.setdefault(run.schedule, {})
        loss = math.inf if run.validation_loss is None else run.validation_loss
        by_rate[run.rate] = by_rate.get(run.rate, 0.0) + loss
    return {schedule: min(by_rate, key=by_rate.__getitem__) for schedule, by_rate in losses.items()}


def dealt(members: Sequence[Member], cohort: int) -> list[list[Member]]:
    """Members dealt in turn into cohorts of at most `cohort`, an even number of them so that two workers end together.

    The number of cores plays no part: the same settings give the same cohorts, and so the same rounding, everywhere.
    """
    count = math.ceil(len(members) / cohort)
    count += count % 2 if count > 1 else 0
    return [list(members[i::count]) for i in range(count)]
