"""What the study of warm-up observes, beside its tuning.

Arms: `none`, `warm5` (5 % of the run) and the like; `preaccumulated`, `gradient_initialised`, `rectified` and
`restarted` are Adam with other second moments (`studies.adam_variants`).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class WarmedRun:
    """The end of a run, and `spike`: the largest rise of its minibatch loss over an earlier one, in its first tenth.

    `draw` is `other` for a second run that differs in initial weights and data order only. A diverged run has its step
    instead of scores.
    """

    KEY: ClassVar = ("bed", "arm", "labels", "draw", "seed", "rate")
    bed: str
    arm: str
    labels: Literal["true", "shuffled"]
    draw: Literal["own", "other"]
    seed: Count
    rate: Size
    diverged_step: Count | None
    train_loss: float | None
    test_loss: float | None
    test_error: Share | None
    spike: Size | None


@dataclass(frozen=True)
class EarlyPoint:
    """Curvature of the training loss after `step` updates of a run at the high rate, in its first tenth.

    `sharpness` is λ_max of the Hessian; `preconditioned` that of Adam's preconditioned Hessian (blank for SGD).
    `stability` is the one of them that the optimizer meets, times the rate of the last update, over the largest
    stable value in full batches. Residuals are relative.
    """

    KEY: ClassVar = ("bed", "arm", "seed", "step")
    bed: str
    arm: str
    seed: Count
    rate: Size
    step: Count
    train_loss: float | None
    sharpness: float | None
    residual: Size | None
    preconditioned: float | None
    preconditioned_residual: Size | None
    stability: float | None


@dataclass(frozen=True)
class MatchedPoint:
    """λ_max where a run at the tuned rate of no warm-up comes nearest to a training loss; blank if it never met it."""

    KEY: ClassVar = ("bed", "arm", "seed")
    bed: str
    arm: str
    seed: Count
    rate: Size
    level: Size
    step: Count | None
    train_loss: float | None
    sharpness: float | None
    residual: Size | None


@dataclass(frozen=True)
class MomentSpread:
    """How far bias-corrected second moments differ between orders of the data, from the same weights.

    `variation` is the median over parameters of their standard deviation over `orders` orders, relative to their mean.
    `weights`: held where they started, or trained without warm-up at the tuned rate.
    """

    KEY: ClassVar = ("bed", "weights", "seed", "step")
    bed: str
    weights: Literal["frozen", "trained"]
    seed: Count
    step: Count
    orders: Count
    variation: Size | None


@dataclass(frozen=True)
class FirstUpdate:
    """Root mean square over parameters of a variant's first update, divided by the rate: 1 is a sign's."""

    KEY: ClassVar = ("bed", "arm", "seed")
    bed: str
    arm: str
    seed: Count
    length: Size
