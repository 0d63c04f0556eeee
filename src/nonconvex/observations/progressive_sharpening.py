"""What the study of progressive sharpening writes."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size

Loss = Literal["squared_error", "cross_entropy"]
Arm = Literal["constant", "jostled", "cosine", "dropped", "shuffled", "shuffled_cosine"]


@dataclass(frozen=True)
class FlowRun:
    """One full-batch run of gradient descent at a peak rate of `share` of the seed's initial threshold 2 / λ_max.

    constant: at that rate to the end; jostled: the same from weights pushed a little; cosine: annealed to zero;
    dropped: constant up to one drop; shuffled and shuffled_cosine: the first and the third on training labels dealt
    out at random.
    """

    KEY: ClassVar = ("loss", "share", "arm", "seed")
    loss: Loss
    share: Size
    arm: Arm
    seed: Count
    rate: Size
    steps: Count
    diverged_step: Count | None
    train_loss: Size | None
    train_error: Share | None
    test_loss: Size | None
    test_error: Share | None


@dataclass(frozen=True)
class FlowPoint:
    """A run after `step` updates: λ_max of its Hessian with the eigenpair's relative residual, loss and error on all
    of the training set."""

    KEY: ClassVar = ("loss", "share", "arm", "seed", "step")
    loss: Loss
    share: Size
    arm: Arm
    seed: Count
    step: Count
    sharpness: float | None
    residual: Size | None
    train_loss: Size | None
    train_error: Share | None


@dataclass(frozen=True)
class SgdPoint:
    """A minibatch run without momentum after `step` updates, with normalisation statistics recomputed there.

    `order` 0 is the data order of the seed's own, 1 another one (the control that changes nothing else).
    """

    KEY: ClassVar = ("model", "rate", "batch_size", "order", "seed", "step")
    model: Literal["resnet"]
    rate: Size
    batch_size: Count
    order: Count
    seed: Count
    step: Count
    sharpness: float | None
    residual: Size | None
    train_loss: Size | None
    train_error: Share | None
