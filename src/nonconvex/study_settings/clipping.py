"""Settings of the study of clipping."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Seeds, refuse_repeats
from nonconvex.study_settings.base import Study

BedName = Literal["gru_sgd", "gru_adam", "mlp", "transformer"]
Threshold = Literal["loose", "median", "hard"]
Rates = tuple[Positive, ...]
WIDEST = 2.51  # largest ratio of neighbouring rates


class Recurrent(Axis):
    """The recurrent network, and the momentum of its SGD; the other networks keep their beds' own optimizers."""

    hidden: Count = 6
    read: Literal["all", "last"] = "all"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


class ClippedBed(Axis):
    """One bed: its grid, its runs and what is read from them.

    Every threshold is tuned on `tuning_seeds` of the study's tuning seeds, training without clipping on as many times
    more as there are thresholds. With `edge_rates` the first `edge_seeds` seeds are trained at each of them, with and
    without clipping, and the first `edge_twins` once more without. A run is stable if its training loss ends below
    `trained_share` of that of a network that knows nothing.
    """

    steps: Count
    batch_size: Count
    rates: Annotated[Rates, Field(min_length=3)]
    tuning_seeds: Count
    replicates: Annotated[int, Field(ge=2)]  # how many of `seeds` are trained at tuned rates
    shuffled: Annotated[int, Field(ge=0)] = 0  # how many of them also on shuffled labels
    closely: bool = False  # whether there are also runs at a multiple of the tuned rate and ones clipped hard
    edge_rates: Rates = ()
    edge_seeds: Annotated[int, Field(ge=0)] = 0
    edge_twins: Annotated[int, Field(ge=0)] = 0
    trained_share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    points: Annotated[int, Field(ge=0)] = 0  # pairs of gradient norm and smoothness along a run
    examples: Count = 256  # behind their gradients
    train_examples: Count = 1000  # behind final losses
    validation_examples: Count = 1000
    test_examples: Count = 4000

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("rates", "edge_rates"):
            rates = getattr(self, name)
            if list(rates) != sorted(set(rates)):
                raise ValueError(f"{name} must rise without repeats, found {list(rates)}")
            if any(b > WIDEST * a for a, b in pairwise(rates)):
                raise ValueError(f"{name}: a factor of at most 2.5 from rate to rate allowed, found {list(rates)}")
        if bool(self.edge_rates) != bool(self.edge_seeds):
            raise ValueError("edge_rates and edge_seeds go together: both or neither allowed")
        if self.points and not 2 <= self.points < self.steps:
            raise ValueError(f"points: 2 to {self.steps - 1}, one less than steps, or 0 allowed, found {self.points}")
        return self


class Quadratic(Axis):
    """Convex quadratics with eigenvalues between 1 / `condition` and 1, evenly in their logarithm.

    Rates are `looks` on either side of the largest stable one in closed form, 0.01 apart in log10; a run is stable if
    its loss falls to `level` of what it was.
    """

    dimension: Annotated[int, Field(ge=2)] = 10
    condition: Annotated[float, Field(gt=1)] = 30.0
    steps: Count = 4000
    threshold_steps: Count = 100  # of the run whose median gradient norm is the threshold
    looks: Count = 10
    level: Annotated[float, Field(gt=0, lt=1)] = 1e-6


class Clipping(Study):
    """Thresholds are `multiples` of the median gradient norm of plain training at its tuned rate."""

    tuning: Seeds = (1000, 1001, 1002, 1003, 1004, 1005)
    multiples: dict[Threshold, Positive] = Field({"loose": 10.0, "median": 1.0, "hard": 0.1})
    spike_multiple: Annotated[float, Field(gt=1)] = 3.0  # of the rate tuned without clipping
    curves: Count = 1  # how many seeds' whole loss curves are kept at that rate
    gru: Recurrent = Recurrent()
    beds: dict[BedName, ClippedBed]
    quadratic: Quadratic = Quadratic()
    cohort: Count = 48  # members trained in lockstep; results depend on it only through rounding

    @model_validator(mode="after")
    def _fits(self) -> Self:
        refuse_repeats("seeds", self.seeds)
        if missing := sorted({"loose", "median", "hard"} - set(self.multiples)):
            raise ValueError(f"multiples must name loose, median and hard; missing: {', '.join(missing)}")
        for name, bed in self.beds.items():
            if bed.tuning_seeds * len(self.multiples) > len(self.tuning):
                allowed = len(self.tuning) // len(self.multiples)
                raise ValueError(
                    f"beds.{name}: at most {allowed} tuning_seeds allowed, as tuning has {len(self.tuning)}"
                )
            most = max(bed.replicates, bed.edge_seeds)
            if most > len(self.seeds) or bed.shuffled > bed.replicates or bed.edge_twins > bed.edge_seeds:
                raise ValueError(
                    f"beds.{name}: shuffled <= replicates, edge_twins <= edge_seeds and both <= {len(self.seeds)}, "
                    "the number of seeds, allowed"
                )
        return self
