"""What the study of WSD observes, beside its tuning: scores at horizons, and the loss on the way there."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class HorizonRun:
    """A run after `at` steps. `planned`: the steps that its schedule was made for.

    `branch`: decays over the share `decay` of `planned` steps from the trunk, whose peak and warm-up are made for the
    middle horizon; `trunk` goes on without decay (share 0). `wsd` and the other arms run from the start. `restarted` is
    a warm-up + cosine that has another cosine of the same length behind it. `order` is `other` where the decay sees
    other minibatches than the trunk would. A diverged run has its step instead of scores.
    """

    KEY: ClassVar = ("model", "labels", "arm", "planned", "at", "decay", "shape", "order", "rate", "seed")
    model: str
    labels: Literal["true", "shuffled"]
    arm: Literal[
        "branch",
        "trunk",
        "wsd",
        "warmup_cosine",
        "warmup_linear",
        "restarted",
        "no_warmup",
        "long_warmup",
        "other_peak",
    ]
    planned: Count
    at: Count
    decay: Share | None
    shape: Literal["cosine", "linear", "sqrt", "none"]
    order: Literal["own", "other"]
    rate: Size
    seed: Count
    diverged_step: Count | None
    test_loss: float | None
    test_error: Share | None


@dataclass(frozen=True)
class LossWindow:
    """Mean minibatch loss over a window of steps that ends at `step`; blank from the window on in which a run diverged.

    Arms as in `HorizonRun`; a branch (decay 0.2 along a cosine) has only the windows that begin in its decay.
    """

    KEY: ClassVar = ("model", "arm", "planned", "seed", "step")
    model: str
    arm: Literal["trunk", "branch", "warmup_cosine"]
    planned: Count
    seed: Count
    step: Count
    loss: float | None
