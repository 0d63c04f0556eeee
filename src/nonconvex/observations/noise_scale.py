"""What the study of noise scale observes: a quadratic's noise, losses by ratio and batch size, and scales."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class Stationary:
    """E x² of a scalar quadratic at rest, by the closed form and drawn, and how far the exact recursion is from it.

    `deviation` is |recursion / closed form - 1| after the recursion's steps; with momentum the closed form is that of
    the limit, without it that of the very step.
    """

    KEY: ClassVar = ("seed", "momentum", "rate", "batch_size")
    seed: Count
    momentum: Size
    rate: Size
    batch_size: Count
    curvature: Size
    noise: Size  # variance of one example's gradient
    limit: Size
    deviation: Size
    simulated: Size


@dataclass(frozen=True)
class Cell:
    """A run at one ratio and batch size after `epochs`; a twin is the plain run of another seed.

    Epochs of the quadratic are times: rate times steps over the ratio, relative to those of the lowest ratio's run.
    """

    KEY: ClassVar = ("bed", "arm", "ratio", "batch_size", "seed", "epochs")
    bed: Literal["quadratic", "mlp"]
    arm: Literal["plain", "momentum", "twin"]
    ratio: Size
    batch_size: Count
    seed: Count
    epochs: Size
    rate: Size
    steps: Count
    diverged_step: Count | None
    loss: Size | None
    test_error: Share | None


@dataclass(frozen=True)
class Sharpness:
    """λ_max of the training loss at the end of a plain run, with its relative residual."""

    KEY: ClassVar = ("ratio", "batch_size", "seed")
    ratio: Size
    batch_size: Count
    seed: Count
    examples: Count
    loss: Size | None
    sharpness: float | None
    residual: float | None


@dataclass(frozen=True)
class SimpleScale:
    """tr Σ, |G|² and their quotient along plain runs, from per-example gradients of the mean loss."""

    KEY: ClassVar = ("ratio", "batch_size", "seed", "epochs")
    ratio: Size
    batch_size: Count
    seed: Count
    epochs: Size
    examples: Count
    trace: Size
    squared_gradient: float
    simple: Size | None


@dataclass(frozen=True)
class BatchNoise:
    """Mean of |g_B - G|² over minibatches of the training loop's own sampler, at the end of one plain run."""

    KEY: ClassVar = ("seed", "batch_size")
    seed: Count
    batch_size: Count
    batches: Count
    variance: Size
