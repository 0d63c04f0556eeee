"""The grids of rate and radius of every arm, and what the tuning seeds choose from them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nonconvex.observations.sam import ChosenArm
from nonconvex.observations.tuning import TuningTrial
from nonconvex.studies.trajectories import rounded
from nonconvex.studies.tuning import Tuned, chosen
from nonconvex.study_settings.sam import Criterion, PerturbedBed

PLAIN, DOUBLE = "plain", "plain_double"  # as many steps as SAM, and as many gradient evaluations
SAM, COMMON = "sam", "sam_common"  # at its own rate, and at that of PLAIN
RANDOM, EQUAL = "random", "random_equal"  # random directions, of their own radius and of SAM's


@dataclass(frozen=True)
class Setting:
    """An arm at one rate, and within one radius (0: none)."""

    arm: str
    rate: float
    radius: float = 0.0

    @property
    def line(self) -> str:
        """The arm's name in the tuning records, where each radius is an arm of its own."""
        return f"{self.arm} {self.radius:g}" if self.radius else self.arm


@dataclass(frozen=True)
class Choices:
    """What one bed's tuning chose by a criterion: by line, by arm, and the settings of the arms that are reported."""

    criterion: Criterion
    lines: list[Tuned]
    arms: list[ChosenArm]
    settings: Mapping[str, Setting]


def settings_of(how: PerturbedBed) -> dict[str, list[Setting]]:
    """The grid of every arm that is tuned; all have as many settings."""
    plain = between(*how.plain_rates, len(how.radii) * len(how.rates))
    grids = {arm: [Setting(arm, rate) for rate in plain] for arm in (PLAIN, DOUBLE)}
    for arm in (SAM, RANDOM) if how.random else (SAM,):
        grids[arm] = [Setting(arm, rate, radius) for radius in how.radii for rate in how.rates]
    return grids


def between(low: float, high: float, count: int) -> list[float]:
    """`count` rates from `low` to `high` in equal ratios, to three digits."""
    return [rounded(low * (high / low) ** (i / (count - 1)), 3) for i in range(count)]


def chosen_settings(model: str, how: PerturbedBed, trials: Sequence[TuningTrial], criterion: Criterion) -> Choices:
    """The setting of least mean criterion of every arm; random directions also at SAM's radius."""
    lines, arms, found = [], [], {}
    for arm, grid in settings_of(how).items():
        of_arm = {radius: _line(model, arm, radius, trials, criterion) for radius in sorted({s.radius for s in grid})}
        radius = min(of_arm, key=lambda radius: (_mean(of_arm[radius]), radius))
        lines += of_arm.values()
        found[arm] = Setting(arm, of_arm[radius].rate, radius)
        arms.append(_record(model, arm, radius, of_arm, how))
        if arm == RANDOM:
            radius = found[SAM].radius
            found[EQUAL] = Setting(EQUAL, of_arm[radius].rate, radius)
            arms.append(_record(model, EQUAL, radius, {radius: of_arm[radius]}, how))
    if how.common:
        found[COMMON] = Setting(COMMON, found[PLAIN].rate, found[SAM].radius)
    return Choices(criterion, lines, arms, found)


def _line(model: str, arm: str, radius: float, trials: Sequence[TuningTrial], criterion: Criterion) -> Tuned:
    name = (model, Setting(arm, 0.0, radius).line)
    return chosen(sorted((t for t in trials if (t.model, t.arm) == name), key=lambda t: (t.rate, t.seed)), criterion)


def _mean(line: Tuned) -> float:
    """Mean criterion at the line's rate; infinite where a seed diverged."""
    found = [getattr(trial, line.arm.criterion) for trial in line.trials if trial.rate == line.rate]
    return math.inf if None in found else sum(found) / len(found)


def _record(model: str, arm: str, radius: float, lines: Mapping[float, Tuned], how: PerturbedBed) -> ChosenArm:
    line, trials = lines[radius], [trial for line in lines.values() for trial in line.trials]
    settings = len({(trial.arm, trial.rate) for trial in trials})
    inside = int(how.radii[0] < radius < how.radii[-1]) if len(lines) > 1 else None
    return ChosenArm(
        model, line.arm.criterion, arm, radius, line.rate, line.arm.interior, inside, settings, len(trials)
    )
