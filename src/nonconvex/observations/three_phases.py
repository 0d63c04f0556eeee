"""What the study of three phases observes: losses where a phase ends, the lines between, curvature at the ends.

The arms: `trunk` is the run up to where its decay begins; from that checkpoint go on `decay`, `stay` (the same
minibatches at the same rate as before) and `other_order` (as `stay`, with other minibatches). `no_warmup` is a run from
the same start at the peak rate from the first update on, followed for the length of the warm-up.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size

Arm = Literal["trunk", "decay", "stay", "other_order", "no_warmup"]
Phase = Literal["warmup", "stable", "decay", "stay", "other_order"]  # the last two are branches in the decay's place
Place = Literal["start", "warm", "fork", "end"]  # 0, T_w, T_d and T updates


@dataclass(frozen=True)
class PhasePoint:
    """Losses and test error where a phase begins or ends; training loss and weights only of runs on true labels."""

    KEY: ClassVar = ("bed", "labels", "arm", "place", "seed")
    bed: str
    labels: Literal["true", "shuffled"]
    arm: Arm
    place: Place
    seed: Count
    step: Count
    train_loss: float | None
    test_loss: float | None
    test_error: Share
    weight_norm: Size | None


@dataclass(frozen=True)
class Look:
    """The training loss on the way."""

    KEY: ClassVar = ("bed", "arm", "seed", "step")
    bed: str
    arm: Arm
    seed: Count
    step: Count
    train_loss: float


@dataclass(frozen=True)
class PhaseLine:
    """The straight line from the start of a phase to its end.

    `barrier` is the rise of the training loss over the line between its end values, `over_mean` over their mean,
    `over_start` over the loss at the start. `curvature` is the Rayleigh quotient of the displacement with the Hessian
    at the start, of the branches alone.
    """

    KEY: ClassVar = ("bed", "phase", "seed")
    bed: str
    phase: Phase
    seed: Count
    steps: Count
    distance: Size
    relative: Size
    barrier: float
    over_mean: float
    over_start: float
    curvature: float | None


@dataclass(frozen=True)
class PhaseLinePoint:
    """The training loss at a place of a line."""

    KEY: ClassVar = ("bed", "phase", "seed", "t")
    bed: str
    phase: Phase
    seed: Count
    t: Share
    train_loss: float


@dataclass(frozen=True)
class PhaseCurvature:
    """Measures of sharpness where the branches part, at their ends, and where their training losses are equal."""

    KEY: ClassVar = ("bed", "arm", "at", "seed")
    bed: str
    arm: Arm
    at: Literal["fork", "end", "matched"]
    seed: Count
    step: Count
    examples: Count
    train_loss: float
    lambda_max: float | None
    residual: Size | None
    trace: float | None
    trace_error: Size | None
    adaptive_sharpness: float | None
