"""What the study of restarts observes, beside its tuning: ends of runs, lines between ends of cycles, looks on the way.

Arms: `restarts`, a cosine restarted in cycles of growing length, whose later cycles begin at `height` times the peak;
`cosine` and `wsd` over the whole run; at the tuned peak of `restarts` (at height 1), `equal`, the same in cycles of
one length, and `constant`. An arm without cycles is read at the steps at which those of `restarts` end. `draw` is
`other` for a second run of an arm that differs in initial weights and data order only. A diverged run has its step
instead of numbers.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size

Draw = Literal["own", "other"]


@dataclass(frozen=True)
class CycledRun:
    """The end of a run, and the ensemble of its networks at the ends of its cycles, on test examples."""

    KEY: ClassVar = ("model", "arm", "height", "labels", "draw", "seed")
    model: str
    arm: str
    height: Size
    labels: Literal["true", "shuffled"]
    draw: Draw
    seed: Count
    rate: Size
    steps: Count
    diverged_step: Count | None
    train_loss: float | None
    train_error: Share | None
    test_loss: float | None
    test_error: Share | None
    ensemble_loss: float | None
    ensemble_error: Share | None


@dataclass(frozen=True)
class CycleLine:
    """The straight line from one end of a cycle to the next, over restart number `line` (from 1).

    The arm `independent` joins the ends of the single cosine's two draws. `barrier` is how far the training loss rises
    over the straight line between its end values, `rise` over the higher of them, `error_barrier` and `test_barrier`
    are the former of training error and test loss. `disagreement` is the share of test predictions that differ
    between the ends, `displacement` the distance between them relative to the norm of the first.
    """

    KEY: ClassVar = ("model", "arm", "height", "draw", "seed", "line")
    model: str
    arm: str
    height: Size
    draw: Draw
    seed: Count
    line: Count
    begin: Count
    end: Count
    loss_begin: float | None
    loss_end: float | None
    barrier: Size | None
    rise: Size | None
    error_barrier: Size | None
    test_barrier: Size | None
    disagreement: Share | None
    displacement: Size | None


@dataclass(frozen=True)
class CycleLinePoint:
    """Training loss and error at the place `t` of such a line."""

    KEY: ClassVar = ("model", "arm", "height", "draw", "seed", "line", "t")
    model: str
    arm: str
    height: Size
    draw: Draw
    seed: Count
    line: Count
    t: Share
    train_loss: float
    train_error: Share


@dataclass(frozen=True)
class CycleLook:
    """Test scores after `step` updates of a run on true labels; `rate` is that of the next update (at the end: 0)."""

    KEY: ClassVar = ("model", "arm", "seed", "step")
    model: str
    arm: str
    seed: Count
    step: Count
    rate: Size
    test_loss: float | None
    test_error: Share | None
