"""What the study of gradient noise writes: saddles and runs from them, continued runs, and runs from the start."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size

Kind = Literal["idle", "active"]
Labels = Literal["true", "shuffled"]


@dataclass(frozen=True)
class SaddlePoint:
    """A saddle of the linear network: the modes learned (1) or left out (0), its spectrum and its minibatch noise.

    `eigenvalue_error` is the largest deviation of a negative eigenvalue from the formula's; `noise` the trace of the
    covariance of a minibatch gradient, `noise_escaping` its part along the negative eigenvectors, `idle_gradient` the
    largest entry of any example's gradient at units whose weights are zero (0 where there are none). `expected` and
    `expected_projected` are the escape times of theory for the size of the start and for its part along the fastest
    direction.
    """

    KEY: ClassVar = ("seed", "saddle")
    seed: Count
    saddle: str
    kind: Kind
    index: Count
    strength: Size
    sharpness: Size
    eigenvalue_error: Size
    noise: Size
    noise_escaping: Size
    idle_gradient: Size
    rate: Size
    steps: Count
    expected: Size
    expected_projected: Size


@dataclass(frozen=True)
class SaddleRun:
    """A run from a saddle (start exact) or next to it (displaced): the updates it took to leave, blank if it stayed.

    Arms: gradient descent (gd), minibatches (sgd), isotropic noise of the same trace (isotropic), and both noises
    without their part along the negative eigenvectors (.._directions) or along all weights of left-out modes
    (.._modes). `idle_weight` is the largest weight, at the end, of units whose weights were zero at the saddle.
    """

    KEY: ClassVar = ("seed", "saddle", "start", "arm")
    seed: Count
    saddle: str
    start: Literal["displaced", "exact"]
    arm: str
    escaped: Count | None
    idle_weight: Size


@dataclass(frozen=True)
class ContinuedRun:
    """A run at the place `at`: its start (where the sharp solution is), where its loss first met the level, its end.

    Arms: small batches in two data orders (small, small_twin), large batches, full batches at the same rate (full) and
    at the rate of the start (full_old), full batches with isotropic noise as long as a small batch's (noise); the start
    is the arm start, and `solved` says whether its loss is low enough to call it a solution. `barrier` is that of the
    training loss on the line from the start, `distance` its length.
    """

    KEY: ClassVar = ("loss", "labels", "arm", "seed", "at")
    loss: Literal["squared_error", "cross_entropy"]
    labels: Labels
    arm: str
    seed: Count
    at: Literal["start", "level", "end"]
    rate: Size
    batch_size: Count
    step: Count | None
    train_loss: Size | None
    train_error: Share | None
    test_error: Share | None
    sharpness: float | None
    residual: Size | None
    barrier: Size | None
    distance: Size | None
    solved: Count | None


@dataclass(frozen=True)
class ScratchRun:
    """A run from initial weights at its arm's tuned rate; draw `other` has other weights and another data order.

    `fitted` is 1 where the training error at the end is small enough to call the run trained.
    """

    KEY: ClassVar = ("arm", "labels", "draw", "seed")
    arm: Literal["small", "full", "noise"]
    labels: Labels
    draw: Literal["own", "other"]
    seed: Count
    rate: Size
    examples_seen: Count
    diverged_step: Count | None
    train_loss: Size | None
    train_error: Share | None
    test_error: Share | None
    fitted: Count
