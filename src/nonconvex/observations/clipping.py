"""What the study of clipping observes, beside its tuning: thresholds, ends of runs, smoothness, loss curves."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class ClippingThreshold:
    """A bed's threshold: `multiple` times the median gradient norm of plain training at its tuned rate.

    `chosen` is 1 for the threshold that does best on the tuning seeds, each at its own tuned rate.
    """

    KEY: ClassVar = ("model", "arm")
    model: str
    arm: Literal["loose", "median", "hard"]
    multiple: Size
    median_norm: Size
    threshold: Size
    chosen: Count


@dataclass(frozen=True)
class ClippedRun:
    """A run and its end. `arm` is its threshold, `none` without one.

    `draw` is `other` for a second run that differs in initial weights and data order only. A spike is an update whose
    minibatch loss is more than twice the mean of the last twenty before it. `clipped` is the share of updates whose
    gradient was cut, `factor` the mean of what it was multiplied by. `stable` is 1 where the training loss ended below
    the bed's share of that of a network that knows nothing. Test scores only where a claim needs them; a diverged run
    has its step instead of scores.
    """

    KEY: ClassVar = ("model", "arm", "labels", "draw", "seed", "rate")
    model: str
    arm: Literal["none", "loose", "median", "hard"]
    labels: Literal["true", "shuffled"]
    draw: Literal["own", "other"]
    seed: Count
    rate: Size
    steps: Count
    diverged_step: Count | None
    spikes: Count
    clipped: Share
    factor: Share
    stable: Count
    train_loss: float | None
    test_loss: float | None
    test_error: Share | None


@dataclass(frozen=True)
class SmoothnessPoint:
    """Gradient norm before update `step`, and how much the gradient changed along it per length of the update.

    Both on the same fixed training examples, along plain training at its tuned rate.
    """

    KEY: ClassVar = ("model", "seed", "step")
    model: str
    seed: Count
    step: Count
    gradient_norm: Size | None
    smoothness: Size | None
    update_norm: Size | None


@dataclass(frozen=True)
class CurveLoss:
    """The minibatch loss that update `step` of a run was computed from."""

    KEY: ClassVar = ("model", "arm", "seed", "step")
    model: str
    arm: Literal["none", "median"]
    seed: Count
    rate: Size
    step: Count
    loss: float | None


@dataclass(frozen=True)
class QuadraticEdge:
    """The largest rate at which a descent comes to rest on a convex quadratic, as a share of the closed form.

    The closed form is 2 (1 + beta) / lambda_max; blank where no rate of the grid, or every one, came to rest.
    """

    KEY: ClassVar = ("optimizer", "arm", "seed")
    optimizer: Literal["gradient_descent", "heavy_ball"]
    arm: Literal["none", "median"]
    seed: Count
    threshold: Size | None
    edge_share: Size | None
