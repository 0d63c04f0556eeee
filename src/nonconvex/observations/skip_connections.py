"""What the study of skip connections observes: arms, runs, and gradients in two spaces.

Beside the arms that were tuned, runs have names of variants: `<arm>_twin` (other seeds), `<arm>_shuffled` (trained on
shuffled labels) and `<arm>_longer` (more steps). Steps along the gradient are those of the study of the landscape.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.observations.landscape import GradientStep
from nonconvex.records import Count, Share, Size

__all__ = ["Arm", "CurvePoint", "GradientStep", "InputGradient", "Run"]


@dataclass(frozen=True)
class Arm:
    """A network that was tuned; `depth` counts the layers with weights on the longest way."""

    KEY: ClassVar = ("arm",)
    arm: str
    kind: str
    depth: Count
    width: Count
    skip: Literal["yes", "no"]
    norm: str
    initialisation: Literal["he", "delta_orthogonal"]
    branch_scale: Size
    parameters: Count


@dataclass(frozen=True)
class Run:
    """A run at the tuned rate; `matched` is the first state looked at whose training loss was down at the level."""

    KEY: ClassVar = ("arm", "seed")
    arm: str
    seed: Count
    rate: Size
    steps: Count
    diverged_step: Count | None
    train_loss: float | None
    train_error: Share | None
    test_loss: float | None
    test_error: Share | None
    matched_step: Count | None
    matched_loss: float | None


@dataclass(frozen=True)
class CurvePoint:
    """Mean minibatch loss over a window of a run that ends at `step`."""

    KEY: ClassVar = ("arm", "seed", "step")
    arm: str
    seed: Count
    step: Count
    loss: float | None


@dataclass(frozen=True)
class InputGradient:
    """Correlation of gradients with respect to inputs at two inputs `radius` apart, before any training."""

    KEY: ClassVar = ("arm", "depth", "seed", "radius")
    arm: str  # a kind of network, or its twin
    depth: Count
    seed: Count
    radius: Size
    correlation: float | None
