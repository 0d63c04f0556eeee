"""What the study of SAM observes, beside its tuning: choices, ends of runs, neighbourhoods, ascents."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size

Criterion = Literal["validation_error", "validation_loss"]


@dataclass(frozen=True)
class ChosenArm:
    """The rate, and radius, of least mean criterion on the tuning seeds.

    `settings` counts the pairs of rate and radius that were tried, `trials` the runs. An interior choice is 1; blank
    where there is no radius (0), or it was not this arm that chose it.
    """

    KEY: ClassVar = ("model", "criterion", "arm")
    model: str
    criterion: Criterion
    arm: str
    radius: Size
    rate: Size
    rate_interior: Count
    radius_interior: Count | None
    settings: Count
    trials: Count


@dataclass(frozen=True)
class PerturbedRun:
    """The end of a run. `draw` is `other` for a second run of an arm that differs in initial weights and data order.

    `criterion` is what the arm was tuned by; `radius` is 0 where nothing is perturbed. Losses are those of the
    unperturbed weights. A diverged run has its step instead of scores.
    """

    KEY: ClassVar = ("model", "criterion", "arm", "labels", "draw", "seed")
    model: str
    criterion: Criterion
    arm: str
    labels: Literal["true", "shuffled"]
    draw: Literal["own", "other"]
    seed: Count
    radius: Size
    rate: Size
    steps: Count
    gradient_evaluations: Count
    diverged_step: Count | None
    train_loss: float | None
    train_error: Share | None
    test_loss: float | None
    test_error: Share | None


@dataclass(frozen=True)
class Neighbourhood:
    """The training loss around the end of a run, or around the weights where it was nearest to the matched level.

    `radius` is SAM's, whatever the arm. `worst_loss` is the largest loss that the ascent met within it,
    `minibatch_worst_loss` the mean of that over minibatches of training's size, each with its own ascent,
    `one_step_rise` what a single step gains. `adaptive_rise` is the worst rise within a radius relative to each
    weight. `residual` is relative to λ_max, `trace_error` a standard error. A level that was not met has a blank step.
    """

    KEY: ClassVar = ("model", "arm", "draw", "seed", "at")
    model: str
    arm: str
    draw: Literal["own", "other"]
    seed: Count
    at: Literal["end", "matched"]
    step: Count | None
    radius: Size
    train_loss: float | None
    worst_loss: float | None
    minibatch_worst_loss: float | None
    one_step_rise: Size | None
    adaptive_rise: Size | None
    sharpness: float | None
    residual: Size | None
    trace: float | None
    trace_error: Size | None


@dataclass(frozen=True)
class Reach:
    """The largest training loss within `radius` of the end of a run, for every radius that SAM was tuned over."""

    KEY: ClassVar = ("model", "arm", "draw", "seed", "radius")
    model: str
    arm: str
    draw: Literal["own", "other"]
    seed: Count
    radius: Size
    worst_loss: float | None


@dataclass(frozen=True)
class Ascent:
    """What one step of ascent gains, and what many do, after `step` updates of a run with SAM, within its radius.

    `on` minibatches of training's size (means over them, each with its own ascent), or all measured examples at once.
    """

    KEY: ClassVar = ("model", "seed", "step", "on")
    model: str
    seed: Count
    step: Count
    on: Literal["minibatches", "examples"]
    radius: Size
    loss: float | None
    one_step_rise: Size | None
    rise: Size | None
