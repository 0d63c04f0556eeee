"""What the study of overparameterization observes: trials of rates, runs to a fit, Gram matrices, pairs of minima."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size

Shape = Literal["square", "bottleneck"]  # hidden layers of equal width, or a wide one before a narrow one
Labels = Literal["clean", "random"]
Method = Literal["full_batch", "minibatch"]


@dataclass(frozen=True)
class FitTrial:
    """A tuning run at one rate: updates until it had fitted, or blank and its training loss when tuning stopped."""

    KEY: ClassVar = ("arm", "seed", "rate")
    arm: str
    shape: Shape
    width: Count
    labels: Labels
    method: Method
    seed: Count
    rate: Size
    stopped: Count  # updates done when the tuning of this network ended
    diverged_step: Count | None
    steps: Count | None
    train_loss: float | None


@dataclass(frozen=True)
class FitRun:
    """A run at its arm's rate, measured at the first weights that fit, or at its last if none did.

    `width` is that of the narrowest hidden layer, `first_width` that of the first one. A twin has the examples and
    labels of the `own` run of its seed and other initial weights. Distances are Euclidean, from the initial weights;
    `kernel_change` is the relative change of the neural tangent kernel, blank where there was no fit.
    """

    KEY: ClassVar = ("shape", "width", "labels", "method", "start", "seed")
    shape: Shape
    width: Count
    first_width: Count
    parameters: Count
    examples: Count
    classes: Count
    labels: Labels
    method: Method
    start: Literal["own", "twin"]
    seed: Count
    rate: Size
    allowed: Count  # updates
    diverged_step: Count | None
    steps: Count | None  # to a fit
    easy_steps: Count | None  # to the higher loss level
    train_loss: float | None
    train_error: Share | None
    test_error: Share | None
    initial_norm: Size
    distance: Size | None
    kernel_change: Size | None


@dataclass(frozen=True)
class Gram:
    """Eigenvalues of the neural tangent kernel of one logit on all examples of a replicate, before training."""

    KEY: ClassVar = ("width", "seed")
    width: Count
    parameters: Count
    examples: Count
    seed: Count
    smallest: float
    mean: float
    largest: float


@dataclass(frozen=True)
class Pair:
    """Two runs on the same examples and labels from different initial weights, where they fitted.

    `apart` is the distance between them over the mean of their distances from their starts; `start_apart` the same for
    the distance between their starts. `disagreement` is the share of test inputs that they classify differently. Blank
    unless both fitted.
    """

    KEY: ClassVar = ("width", "labels", "seed")
    width: Count
    labels: Labels
    seed: Count
    apart: Size | None
    start_apart: Size | None
    disagreement: Share | None
