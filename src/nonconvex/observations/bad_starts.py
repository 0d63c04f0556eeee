"""What the study of bad starts writes: the starts, the trials of every rate, the runs, and some of them on the way."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size

Region = Literal["saddle", "plateau", "sharp", "bad_minimum"]


@dataclass(frozen=True)
class RegionPoint:
    """Where the runs of a seed start in a region, or the seed's normal initial weights.

    At the saddle everything is measured at the exact one, from which the start is displaced. `gradient` is the norm of
    the full gradient; residuals are relative to their eigenvalue. `expected` is λ_min of the saddle in closed form,
    `solved` whether a minimum is one (sharp: low training loss, bad_minimum: no training error, nor any with the
    wrong labels before). `reference_error` is the test error that plain SGD reaches from the normal start.
    """

    KEY: ClassVar = ("region", "seed")
    region: Literal["normal", "saddle", "plateau", "sharp", "bad_minimum"]
    seed: Count
    gradient: Size
    smallest: float | None
    smallest_residual: Size | None
    sharpness: float | None
    residual: Size | None
    expected: float | None
    train_loss: Size
    train_error: Share
    test_error: Share
    reference_error: Share | None
    solved: Count | None


@dataclass(frozen=True)
class EscapeTrial:
    """A run of an arm at one rate of its region's grid, from a tuning seed.

    `log_evaluations` is ln of the gradient evaluations that it took to leave, or of all that it had where it never did;
    region normal, which needs no leaving, has none.
    """

    KEY: ClassVar = ("region", "arm", "seed", "rate")
    region: Literal["normal", "saddle", "plateau", "sharp", "bad_minimum"]
    arm: str
    seed: Count
    rate: Size
    diverged_step: Count | None
    left: Count | None
    log_evaluations: Size | None
    spikes: Share | None
    validation_loss: float | None
    validation_error: Share | None


@dataclass(frozen=True)
class EscapeRun:
    """A run that starts in a region, or (start normal) at normal weights and is held to the region's rule.

    Accounting: at the arm's own tuned peak, at plain SGD's (common), or at the next rate of the grid above plain SGD's.
    Draw `other` has another data order. `left` is the number of gradient evaluations at which the run was first seen to
    have left, blank if it never was; `iterate_left` that of the iterate whose average an arm's weights are. `spikes` is
    the share of updates whose minibatch loss was far above the region's loss. `barrier` is that of the training loss on
    the line from the start, `distance` its length. A diverged run has its step instead of numbers.
    """

    KEY: ClassVar = ("accounting", "start", "region", "arm", "labels", "draw", "seed")
    accounting: Literal["tuned", "common", "above"]
    start: Literal["region", "normal"]
    region: Region
    arm: str
    labels: Literal["true", "shuffled"]
    draw: Literal["own", "other"]
    seed: Count
    rate: Size
    evaluations: Count
    diverged_step: Count | None
    left: Count | None
    iterate_left: Count | None
    spikes: Share | None
    train_loss: Size | None
    train_error: Share | None
    test_error: Share | None
    sharpness: float | None
    residual: Size | None
    barrier: Size | None
    distance: Size | None


@dataclass(frozen=True)
class SharpLook:
    """Training loss and λ_max on the way from the sharp minimum, or from normal weights.

    From the sharp minimum all arms are at plain SGD's tuned peak. Blank curvature where it was not looked at: where the
    loss is several times the start's.
    """

    KEY: ClassVar = ("start", "arm", "draw", "seed", "evaluations")
    start: Literal["region", "normal"]
    arm: str
    draw: Literal["own", "other"]
    seed: Count
    evaluations: Count
    train_loss: Size | None
    sharpness: float | None
    residual: Size | None
