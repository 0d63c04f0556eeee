"""How arms were tuned: the trials at the rates of a grid, and the rate that they chose."""

from dataclasses import dataclass
from typing import ClassVar

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class TuningTrial:
    """A run of an arm at one rate of its grid, from a tuning seed; a diverged one has its step instead of scores."""

    KEY: ClassVar = ("model", "arm", "seed", "rate")
    model: str
    arm: str
    seed: Count
    rate: Size
    diverged_step: Count | None
    train_loss: float | None
    validation_loss: float | None
    validation_error: Share | None


@dataclass(frozen=True)
class TunedArm:
    """The rate that an arm's trials chose by `criterion`; `interior` is 1 where it lies strictly inside the grid."""

    KEY: ClassVar = ("model", "arm")
    model: str
    arm: str
    criterion: str
    rate: Size
    interior: Count
    trials: Count
