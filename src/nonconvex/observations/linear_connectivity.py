"""What the study of linear connectivity writes. Losses in nats, errors as shares; k is a share of the run."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size

Kind = Literal["siblings", "full_length", "same_order"]


@dataclass(frozen=True)
class SiblingBarrier:
    """How high the line between two siblings rises, by three definitions (`measure.barriers`).

    siblings: the parent and a child that sees other minibatches after the share `fork` of the run. full_length: two
    children that part there and then have a whole run before them. same_order: no other minibatches at all (`fork` 1).
    """

    KEY: ClassVar = ("model", "kind", "fork", "seed", "split", "metric")
    model: str
    kind: Kind
    fork: Share
    seed: Count
    split: Literal["train", "test"]
    metric: Literal["loss", "error"]
    ends: Size  # mean of both ends
    line: float
    mean: float
    worse_end: float


@dataclass(frozen=True)
class SiblingPoint:
    """Loss and error at the place `t` of that line."""

    KEY: ClassVar = ("model", "kind", "fork", "seed", "t")
    model: str
    kind: Kind
    fork: Share
    seed: Count
    t: Share
    train_loss: Size
    train_error: Share
    test_loss: Size
    test_error: Share


@dataclass(frozen=True)
class Line:
    """The line to a checkpoint of a run from an earlier one, or to its end from a start (steps 0 and T).

    `climb` is the largest rise of the training loss from any place to a later one, `fall` the largest fall; the
    three numbers on the error are barriers.
    """

    KEY: ClassVar = ("model", "start", "seed", "earlier", "later")
    model: str
    start: Literal["checkpoint", "own", "other", "zero", "noise"]
    seed: Count
    earlier: Count
    later: Count
    loss_earlier: Size
    loss_later: Size
    climb: Size
    fall: Size
    error_line: float
    error_mean: float
    error_worse_end: float


@dataclass(frozen=True)
class LinePoint:
    """Training loss and error at the place `t` of the line from a start to the end of a run."""

    KEY: ClassVar = ("model", "start", "seed", "t")
    model: str
    start: Literal["own", "other", "zero", "noise"]
    seed: Count
    t: Share
    train_loss: Size
    train_error: Share


@dataclass(frozen=True)
class Averaged:
    """Test scores of several networks, of the average of their weights and of their ensemble.

    cosine, constant, shuffled (constant rate, labels dealt out at random): checkpoints of one run after the share
    `fork` of it. siblings: the ends of two runs that parted there. `last_*` is the last checkpoint, or the parent;
    `members_*` the mean over members; `barrier` that of the training error over the line from the first checkpoint to
    the last (blank for siblings, which have a record of their own).
    """

    KEY: ClassVar = ("model", "arm", "fork", "seed")
    model: str
    arm: Literal["cosine", "constant", "shuffled", "siblings"]
    fork: Share
    seed: Count
    members: Count
    barrier: float | None
    last_loss: Size
    last_error: Share
    members_loss: Size
    members_error: Share
    average_loss: Size
    average_error: Share
    ensemble_loss: Size
    ensemble_error: Share
