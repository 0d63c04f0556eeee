"""What the study of the landscape observes: arms, trials of rates, and measurements at matched training loss."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class Arm:
    """An architecture, two losses in nats (below one a short run has trained, at one arms are compared), and tuning."""

    KEY: ClassVar = ("model", "arm")
    model: str
    arm: str
    depth: Count  # layers with weights on the longest way (ResNet), blocks (transformer)
    width: Count
    skip: Literal["yes", "no"]
    norm: str
    parameters: Count
    trained_below: Size
    matched_at: Size
    tuning_trials: Count
    lowest_rate: Size
    highest_rate: Size
    tuned_rate: Size | None


@dataclass(frozen=True)
class Trial:
    """A short run at one constant rate; only tuning runs see validation data."""

    KEY: ClassVar = ("model", "arm", "phase", "seed", "rate")
    model: str
    arm: str
    phase: Literal["tuning", "reported"]
    seed: Count
    rate: Size
    diverged_step: Count | None
    train_loss: float | None
    validation_loss: float | None


@dataclass(frozen=True)
class TunedRun:
    """A longer run at the tuned rate; `matched` is the state nearest to where its loss fell below `matched_at`."""

    KEY: ClassVar = ("model", "arm", "seed")
    model: str
    arm: str
    seed: Count
    rate: Size
    diverged_step: Count | None
    initial_loss: float | None
    final_loss: float | None
    matched_step: Count | None
    matched_loss: float | None


@dataclass(frozen=True)
class Curvature:
    """Both ends of the spectrum of the filter-normalised Hessian at the matched state, with absolute residuals."""

    KEY: ClassVar = ("model", "arm", "seed")
    model: str
    arm: str
    seed: Count
    examples: Count
    normalisation: str
    loss: float | None
    lambda_max: float | None
    lambda_min: float | None
    residual_max: Size | None
    residual_min: Size | None
    iterations: Count


@dataclass(frozen=True)
class GradientStep:
    """The loss a step of `length` times the norm of the weights along the negative gradient away."""

    KEY: ClassVar = ("model", "arm", "seed", "length")
    model: str
    arm: str
    seed: Count
    length: Size
    start_loss: float | None
    gradient_norm: Size | None
    weight_norm: Size | None
    loss: float | None
    change: Size | None
    cosine: float | None


@dataclass(frozen=True)
class Plane:
    """A filter-normalised random plane through the end of a tuned run."""

    KEY: ClassVar = ("model", "arm", "seed")
    model: str
    arm: str
    seed: Count
    examples: Count
    loss: float | None
    nonconvex_share: Share | None


@dataclass(frozen=True)
class SurfacePoint:
    """The training loss at one point of the first seed's plane."""

    KEY: ClassVar = ("model", "arm", "seed", "a", "b")
    model: str
    arm: str
    seed: Count
    a: float
    b: float
    loss: float | None
