"""What the study that compares all schedules observes, beside its tuning: runs at several steps, and theory."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class ScheduledRun:
    """A run at one of its looks. `use` says how long its schedule is planned for and at which peak.

    `whole` (a whole run, tuned), `common` (the same at the common low peak), `quarter`, `half` and `three_quarters`
    (planned for that part of a whole run, tuned), `double` (planned for two, at the peak of the whole), `fast` and
    `short` (planned for the settings' shares, tuned), `natural` (a formula without an end, past the whole run) and
    `fine_tuning` (from trained weights). `look` is the `start`, a share of a whole run or the `end` of what was
    planned; at `double` a schedule that was planned for less has kept its last rate. `draw` is `other` where weights
    and order of data are those of another seed. A diverged run has its step instead of scores.
    """

    KEY: ClassVar = ("model", "use", "arm", "labels", "draw", "seed", "look")
    model: str
    use: Literal[
        "whole", "common", "quarter", "half", "three_quarters", "double", "fast", "short", "natural", "fine_tuning"
    ]
    arm: str
    labels: Literal["true", "shuffled"]
    draw: Literal["own", "other"]
    seed: Count
    look: Literal["start", "quarter", "half", "three_quarters", "end", "double"]
    rate: Size
    step: Count
    diverged_step: Count | None
    train_loss: float | None
    train_error: Share | None
    test_loss: float | None
    test_error: Share | None


@dataclass(frozen=True)
class TheoryColumn:
    """A schedule on the noisy quadratic: the peak of least expected loss, and the loss there and at the common peak.

    `deviation` is that of the recursion from the closed form at `peak`, relative to it; `mean_rate` the mean of the
    schedule's rates as a share of the peak.
    """

    KEY: ClassVar = ("schedule",)
    schedule: str
    peak: Size
    interior: Count
    loss: Size
    common_loss: Size
    deviation: float
    mean_rate: Size


@dataclass(frozen=True)
class TheoryResponse:
    """Expected loss of a schedule at one peak rate."""

    KEY: ClassVar = ("schedule", "rate")
    schedule: str
    rate: Size
    loss: Size
