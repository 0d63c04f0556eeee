"""What the study of progressive learning observes, beside its tuning: ends of runs, and curvature along some."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class OrderedRun:
    """The end of a run. `accounting`: at the arm's own tuned peak rate, or at that of the bed's first shape.

    `draw` is `other` for a second run of an arm that differs in initial weights and data order only. A diverged run
    has its step instead of scores.
    """

    KEY: ClassVar = ("model", "accounting", "arm", "labels", "draw", "seed")
    model: str
    accounting: Literal["tuned", "common"]
    arm: str
    labels: Literal["true", "shuffled"]
    draw: Literal["own", "other"]
    seed: Count
    rate: Size
    steps: Count
    diverged_step: Count | None
    train_loss: float | None
    train_error: Share | None
    test_loss: float | None
    test_error: Share | None


@dataclass(frozen=True)
class CurvaturePoint:
    """λ_max of the training loss after `step` updates of a run of the MLP, and the rate of the next one.

    After the last update `rate` is that of the last. `phase` is where `step` lies in a schedule with warm-up and
    decay, whatever the arm's own schedule; `residual` is relative to λ_max.
    """

    KEY: ClassVar = ("arm", "seed", "step")
    arm: str
    seed: Count
    step: Count
    phase: Literal["warmup", "stable", "decay"]
    rate: Size
    sharpness: float | None
    residual: Size | None
    train_loss: float | None
