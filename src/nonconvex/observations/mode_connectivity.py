"""Records of the mode-connectivity study: the networks, the paths between them, and how high these rise."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size

Ends = Literal["trained", "next", "shuffled", "initial"]
Kind = Literal["linear", "aligned", "renumbered", "bezier", "autoneb"]
PATH = ("model", "width", "ends", "kind", "seed")


@dataclass(frozen=True)
class Endpoint:
    """A network that paths start from or end at; `chance_loss` is that of giving every class the same probability.

    `labels` are those it was trained on; its losses and errors are all on the true ones.
    """

    KEY: ClassVar = ("model", "width", "labels", "seed")
    model: str
    width: Count
    labels: Literal["true", "shuffled"]
    seed: Count
    rate: Size
    steps: Count
    diverged_step: Count | None
    chance_loss: Size
    train_loss: float | None
    train_error: Share | None
    test_loss: float | None
    test_error: Share | None


@dataclass(frozen=True)
class Height:
    """How high a path rises, in nats (loss) or as a share (error): its ends, its extremes and three barriers.

    `ends` says what the path joins: the networks of `seed` and of its partner after training, the same two before
    it (`initial`), the first and a partner trained on `shuffled` labels, or the partner and the `next` pair's first.
    `gradient_evaluations` are those that the path was trained with.
    """

    KEY: ClassVar = (*PATH, "split", "metric")
    model: str
    width: Count
    ends: Ends
    kind: Kind
    seed: Count
    split: Literal["train", "test"]
    metric: Literal["loss", "error"]
    gradient_evaluations: Count
    first: float | None
    last: float | None
    highest: float | None
    lowest: float | None
    over_line: float | None
    over_mean: float | None
    over_worse_end: float | None


@dataclass(frozen=True)
class Along:
    """Loss and error, to six digits, at position `t` in [0, 1] of a path."""

    KEY: ClassVar = (*PATH, "t")
    model: str
    width: Count
    ends: Ends
    kind: Kind
    seed: Count
    t: Share
    train_loss: float | None
    train_error: Share | None
    test_loss: float | None
    test_error: Share | None
