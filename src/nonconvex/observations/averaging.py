"""What the study of averaging observes, beside its tuning: ends of runs, curvature, the noisy quadratic."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class AveragedEnd:
    """One average of the iterates of one run, at the run's end; `last` is the last iterate itself.

    All averages of a run share its trajectory. `statistics` are those of normalisation: recomputed at the average, or
    (the control) those of the last iterate. `draw` is `other` for a second run that differs in initial weights and
    data order only. A diverged run has its step instead of scores.
    """

    KEY: ClassVar = ("model", "schedule", "rate", "labels", "draw", "seed", "average", "statistics")
    model: str
    schedule: str
    rate: Size
    labels: Literal["true", "shuffled"]
    draw: Literal["own", "other"]
    seed: Count
    average: str
    statistics: Literal["recomputed", "last"]
    diverged_step: Count | None
    train_loss: float | None
    train_error: Share | None
    test_loss: float | None
    test_error: Share | None


@dataclass(frozen=True)
class AveragedCurvature:
    """Curvature of the training loss at one network of a comparison, after `step` updates.

    Networks: the SWA average of a constant-rate run (`swa`; `swa_other` from other initial weights and another order),
    the iterate of the same run (`last`), the iterate of the decayed baseline (`decayed`). `match` names the two
    networks compared at one training loss, that at which the higher of them ends; `end` is without matching.
    `residual` is relative to λ_max.
    """

    KEY: ClassVar = ("model", "match", "network", "seed")
    model: str
    match: Literal["end", "last", "decayed"]
    network: Literal["swa", "last", "decayed", "swa_other"]
    seed: Count
    rate: Size
    step: Count | None
    train_loss: float | None
    lambda_max: float | None
    residual: Size | None
    trace: float | None
    trace_error: Size | None
    adaptive_sharpness: float | None


@dataclass(frozen=True)
class VarianceFactor:
    """Stationary variance of an average of the noisy quadratic's iterates, over that of the iterate.

    `horizon` is the decay of a moving average or the number of iterates in a plain one; `product` rate x curvature.
    `deviation` is that of the exact covariance from the closed form, relative to it.
    """

    KEY: ClassVar = ("average", "horizon", "product")
    average: Literal["ema", "swa"]
    horizon: Size
    product: Size
    closed_form: Size
    deviation: float
    simulated: Size
    chains: Count
