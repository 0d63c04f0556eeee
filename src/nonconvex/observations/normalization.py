"""What the study of normalization observes: arms, short runs at constant rates, and tuned runs with what they meet.

Losses and gradients along the gradient are records of the study of the landscape (observations/landscape.py).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class Arm:
    """A normalisation, and two losses in nats: below one a short run has trained, at one arms are compared."""

    KEY: ClassVar = ("model", "arm")
    model: str
    arm: str
    norm: str
    altered: Literal["no", "frozen", "noisy"]
    branch_scale: Size
    parameters: Count
    trained_below: Size
    matched_at: Size


@dataclass(frozen=True)
class ShortRun:
    """A short run at one constant rate; `weight_norm` is that of its matrices and filters at its end."""

    KEY: ClassVar = ("model", "arm", "phase", "seed", "rate")
    model: str
    arm: str
    phase: Literal["tuning", "reported"]
    seed: Count
    rate: Size
    diverged_step: Count | None
    train_loss: float | None
    weight_norm: Size | None


@dataclass(frozen=True)
class NormalizedRun:
    """A run at the tuned peak rate; `matched` is the state nearest to where its loss fell below `matched_at`.

    Final numbers are taken with the noise, if any, at its mean; `noisy_loss` is the training loss with the noise on.
    """

    KEY: ClassVar = ("model", "arm", "seed")
    model: str
    arm: str
    seed: Count
    rate: Size
    diverged_step: Count | None
    train_loss: float | None
    noisy_loss: float | None
    test_loss: float | None
    test_error: Share | None
    matched_step: Count | None
    matched_loss: float | None


@dataclass(frozen=True)
class Shift:
    """How far one step moved the moments of the layer inputs, relative to their deviation (measure/shift.py)."""

    KEY: ClassVar = ("model", "arm", "seed", "step")
    model: str
    arm: str
    seed: Count
    step: Count
    shift: Size | None
