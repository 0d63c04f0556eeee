"""What the runs that are held against published ones write."""

from dataclasses import dataclass
from typing import ClassVar

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class PublishedRun:
    """A run at a published recipe, scored at its end without augmentation; a diverged one has its step instead."""

    KEY: ClassVar = ("seed",)
    seed: Count
    steps: Count
    diverged_step: Count | None
    train_loss: Size | None
    train_error: Share | None
    test_loss: Size | None
    test_error: Share | None


@dataclass(frozen=True)
class PublishedPoint:
    """Full-batch gradient descent after `step` updates: λ_max, the relative residual of its eigenpair, loss and error
    of the training examples, and the share of the updates since the last point that raised the loss."""

    KEY: ClassVar = ("rate", "seed", "step")
    rate: Size
    seed: Count
    step: Count
    sharpness: float | None
    residual: Size | None
    train_loss: Size | None
    train_error: Share | None
    rises: Share | None
