"""What the study of implicit regularization observes: limits, directions, modes and predictions."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class Limit:
    """Where an optimizer came to rest in under-determined least squares; lengths relative to their target's.

    `to_nearest` is the distance to the solution nearest to the start, `to_least` that to the solution of least norm;
    `norm` and `maximum` compare the Euclidean and the maximum norm with the least that any solution has.
    """

    KEY: ClassVar = ("optimizer", "start", "seed")
    optimizer: str
    start: Literal["zero", "random"]
    seed: Count
    steps: Count
    residual: Size | None
    to_nearest: Size | None
    to_least: Size | None
    norm: Size | None
    maximum: Size | None
    to_teacher: Size | None


@dataclass(frozen=True)
class Separator:
    """The hard-margin solution of one data set, and how far from optimal the solver left it."""

    KEY: ClassVar = ("seed",)
    seed: Count
    margin: Size
    support: Count
    gap: Size


@dataclass(frozen=True)
class Direction:
    """How far logistic regression is from the hard-margin direction at ln(1 + t) = `log_time`, t = rate times steps.

    `place` counts the readings of a path from its start.
    """

    KEY: ClassVar = ("path", "seed", "place")
    path: Literal["flow", "descent", "flow_beside"]  # the last: the flow at the times of the descent
    seed: Count
    place: Count
    log_time: Size
    angle: Size
    margin_gap: float


@dataclass(frozen=True)
class Mode:
    """A mode of a linear network: when it passed half its strength, against the closed form from its own start.

    `next_share` is how much of the next weaker mode was there by then, relative to that mode's full strength.
    """

    KEY: ClassVar = ("arm", "seed", "mode")
    arm: Literal["aligned", "balanced", "sgd", "large"]
    seed: Count
    mode: Count
    sigma: Size
    start: Size
    predicted: float | None
    measured: Size | None
    next_share: float | None


@dataclass(frozen=True)
class Rank:
    """A linear network on its way: loss relative to the start's, and effective rank of the product."""

    KEY: ClassVar = ("arm", "seed", "time")
    arm: Literal["aligned", "balanced", "sgd", "large"]
    seed: Count
    time: Size
    loss: Size
    effective_rank: Size


@dataclass(frozen=True)
class Halfway:
    """The effective rank where a linear network's loss first passed half its initial value."""

    KEY: ClassVar = ("arm", "seed")
    arm: Literal["aligned", "balanced", "sgd", "large"]
    seed: Count
    effective_rank: Size | None


@dataclass(frozen=True)
class Strength:
    """One mode of the first seed's network on its way."""

    KEY: ClassVar = ("arm", "mode", "time")
    arm: Literal["aligned", "balanced", "sgd", "large"]
    mode: Count
    time: Size
    sigma: Size
    strength: float


@dataclass(frozen=True)
class Prediction:
    """A network's test predictions beside those of softmax regression; `twin` is another seed of the same arm."""

    KEY: ClassVar = ("arm", "seed", "step")
    arm: Literal["network", "twin"]
    seed: Count
    step: Count
    error: Share
    linear_error: Share
    agreement: Share
    independent: Share
    explained: float | None
