"""What the study of initialization observes: runs under every gain, and signals through untrained networks."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Size


@dataclass(frozen=True)
class Arm:
    """Networks of a family (kind and depth) whose weights start at a standard deviation of `scale` / √fan-in."""

    KEY: ClassVar = ("arm",)
    arm: str
    family: str
    gain: str
    scale: Size
    depth: Count  # hidden layers
    width: Count
    activation: str
    norm: str
    parameters: Count


@dataclass(frozen=True)
class Run:
    """A run at its arm's tuned rate, its twin from other seeds, or one at the rate tuned for He's gain ("fixed")."""

    KEY: ClassVar = ("arm", "phase", "seed")
    arm: str
    phase: Literal["tuned", "twin", "fixed"]
    seed: Count
    rate: Size
    diverged_step: Count | None
    initial_loss: float | None
    train_loss: float | None


@dataclass(frozen=True)
class Signal:
    """ln of a mean square over `draws` random networks, at the outputs of one hidden layer.

    `forward` of the activations, `backward` of the gradient of a random linear function of the logits with respect to
    them; `typical_*` is the mean over networks and examples of ln, which belongs to one network.
    """

    KEY: ClassVar = ("arm", "seed", "layer")
    arm: str
    seed: Count
    layer: Count  # hidden layers, 1 next to the input
    draws: Count
    forward: float | None
    backward: float | None
    typical_forward: float | None
    typical_backward: float | None


@dataclass(frozen=True)
class Gradient:
    """ln of the norms of the training loss's gradients at a hidden layer of a network that is trained, at its start.

    `activations`: root mean square over examples of the norm of the gradient of an example's loss with respect to the
    layer's outputs; `weights`: the norm of the mean loss's gradient with respect to its weights.
    """

    KEY: ClassVar = ("arm", "seed", "layer")
    arm: str
    seed: Count
    layer: Count
    activations: float | None
    weights: float | None


@dataclass(frozen=True)
class Curvature:
    """The largest eigenvalue of the training loss's Hessian before the first update, with its relative residual."""

    KEY: ClassVar = ("arm", "seed")
    arm: str
    seed: Count
    examples: Count
    lambda_max: float | None
    residual: Size | None
