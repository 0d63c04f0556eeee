"""What the study of the edge of stability writes. Losses are those of the whole training set, at the weights."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size

Loss = Literal["squared_error", "cross_entropy"]


@dataclass(frozen=True)
class EdgeRun:
    """One full-batch run at a constant rate. `threshold` is the curvature at which its optimizer turns unstable."""

    KEY: ClassVar = ("loss", "optimizer", "rate", "seed")
    loss: Loss
    optimizer: Literal["gd", "heavy_ball", "nesterov", "adam"]
    rate: Size
    seed: Count
    steps: Count
    threshold: Size
    diverged_step: Count | None
    train_error: Share | None


@dataclass(frozen=True)
class EdgePoint:
    """A run after `step` updates: λ_max of its Hessian (preconditioned for Adam), the relative residual of the
    eigenpair, and the share of the updates since the last point that raised the training loss."""

    KEY: ClassVar = ("loss", "optimizer", "rate", "seed", "step")
    loss: Loss
    optimizer: Literal["gd", "heavy_ball", "nesterov", "adam"]
    rate: Size
    seed: Count
    step: Count
    sharpness: float | None
    residual: Size | None
    train_loss: Size | None
    rises: Share | None


@dataclass(frozen=True)
class ChangePoint:
    """Gradient descent after its rate was changed: all arms of a seed go on from the same weights.

    keep: at the old rate; jostled: at the old rate, the weights pushed a little; the others at another rate.
    `step` counts from the start of the run; `threshold` is 2 / rate of the arm.
    """

    KEY: ClassVar = ("loss", "arm", "seed", "step")
    loss: Loss
    arm: Literal["keep", "jostled", "much_lower", "lower", "higher"]
    seed: Count
    step: Count
    threshold: Size
    sharpness: float | None
    residual: Size | None
    train_loss: Size | None
