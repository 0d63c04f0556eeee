"""What the study of flat and sharp minima observes: how rates were tuned, what runs reached, and how flat it was there.

A run is named by model, budget, batch size, rate, labels, draw and seed. Budgets are `steps` (as many updates for every
batch size) and `epochs` (as many examples). The draw `other` is a second run of a seed's arm from other initial weights
and in another data order.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size

RUN = ("model", "budget", "batch_size", "rate", "labels", "draw", "seed")


@dataclass(frozen=True)
class Trial:
    """A tuning run: validation at the end, in nats and as a share; blank if it diverged."""

    KEY: ClassVar = ("model", "budget", "batch_size", "rate", "seed")
    model: str
    budget: Literal["steps", "epochs"]
    batch_size: Count
    rate: Size
    seed: Count
    validation_loss: float | None
    validation_error: Share | None


@dataclass(frozen=True)
class Arm:
    """A batch size under one accounting, and the rate that it is trained at.

    Accountings: `same_rate_epochs` (the small batch's rate for all), `tuned_epochs` and `tuned_steps`. `interior` is 1
    if the rate is neither the smallest nor the largest of the grid that it was tuned on, `trials` counts the runs of
    that tuning; `role` says which two sizes claims compare.
    """

    KEY: ClassVar = ("model", "accounting", "batch_size")
    model: str
    accounting: Literal["same_rate_epochs", "tuned_epochs", "tuned_steps"]
    budget: Literal["steps", "epochs"]
    batch_size: Count
    role: Literal["small", "large", "other"]
    steps: Count
    rate: Size
    interior: Count
    trials: Count


@dataclass(frozen=True)
class Endpoint:
    """Where a run ended: losses in nats, errors as shares; blank if it diverged.

    `noisy_test_error` is the mean test error under Gaussian noise on the weights, `clean_test_error` the one without on
    the same examples; both only where they were asked for.
    """

    KEY: ClassVar = RUN
    model: str
    budget: Literal["steps", "epochs"]
    batch_size: Count
    rate: Size
    labels: Literal["true", "shuffled"]
    draw: Literal["own", "other"]
    seed: Count
    steps: Count
    diverged_step: Count | None
    train_loss: float | None
    train_error: Share | None
    test_loss: float | None
    test_error: Share | None
    clean_test_error: Share | None
    noisy_test_error: Share | None


@dataclass(frozen=True)
class Sharpness:
    """One measure of flatness of a run, at the end (`level` blank) or where its training loss first met `level`.

    `loss` is that of the measured function at the measured weights; `residual` is Lanczos' relative to the value. All
    are blank for a run that never met the level.
    """

    KEY: ClassVar = (*RUN, "level", "quantity")
    model: str
    budget: Literal["steps", "epochs"]
    batch_size: Count
    rate: Size
    labels: Literal["true", "shuffled"]
    draw: Literal["own", "other"]
    seed: Count
    level: Size | None
    step: Count | None
    loss: float | None
    quantity: str
    value: float | None
    standard_error: Size | None
    residual: Size | None


@dataclass(frozen=True)
class Rescaling:
    """A run's end with its first layer multiplied by `factor` and its second divided by it: the same function.

    `difference` is the largest change of an output over the largest output. `fixed` factors are those of the claim,
    `random` ones differ from run to run.
    """

    KEY: ClassVar = ("model", "batch_size", "rate", "seed", "kind")
    model: str
    batch_size: Count
    rate: Size
    seed: Count
    kind: Literal["fixed", "random"]
    factor: Size
    difference: Size | None
    lambda_max: float | None
    residual: Size | None
    adaptive_sharpness: float | None
