"""What the study of the rate's importance observes: the hyperparameters that vary, and the runs of the design."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class Factor:
    """A hyperparameter: uniform in its logarithm or itself from `low` to `high`, or on so many equally likely levels.

    `ordered` levels are numbers, of which neighbours are alike; `named` ones are not.
    """

    KEY: ClassVar = ("factor",)
    factor: str
    kind: Literal["log", "linear", "ordered", "named"]
    low: float | None
    high: float | None
    levels: Count


@dataclass(frozen=True)
class DesignRun:
    """One run of a block and where it ended; a diverged one has its step instead of scores.

    `dummy` is drawn like the hyperparameters and used by nothing. `sharpness` is λ_max at the end, `residual` relative
    to it.
    """

    KEY: ClassVar = ("block", "row")
    block: Count
    row: Count
    rate: Size
    momentum: Share
    weight_decay: Size
    gain: Size
    batch_size: Count
    width: Count
    schedule: str
    dummy: Share
    steps: Count
    diverged_step: Count | None
    train_loss: float | None
    train_error: Share | None
    test_loss: float | None
    test_error: Share | None
    sharpness: float | None
    residual: Size | None
