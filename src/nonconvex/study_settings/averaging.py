"""Settings of the study of averaging: stochastic weight averaging and exponential moving averages."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Seeds, Share, refuse_repeats
from nonconvex.study_settings.base import Lanczos, Study

Decay = Annotated[float, Field(gt=0, lt=1)]
Shape = Literal["constant", "cosine", "linear"]


class Flatness(Axis):
    """Curvature of averages and iterates on `examples` training examples, at the end and at matched training loss.

    Losses are matched among states `stride` updates apart, read on `loss_examples` training examples.
    """

    examples: Count
    loss_examples: Count
    stride: Count
    lanczos: Lanczos = Lanczos()
    probes: Annotated[int, Field(ge=2)] = 8
    adaptive_radius: Positive = 0.2
    ascent_steps: Count = 3
    seeds_at_once: Count = 5


class AveragedRuns(Axis):
    """One bed: its schedules, the decays of its moving averages, and one grid of peak rates for every arm.

    With `response` the reported seeds also run at every rate of the grid, under the constant schedule.
    """

    schedules: Annotated[tuple[Shape, ...], Field(min_length=2)]
    decays: Annotated[tuple[Decay, ...], Field(min_length=1)]
    rates: Annotated[tuple[Positive, ...], Field(min_length=3)]
    response: bool
    tuning_seeds: Count
    replicates: Annotated[int, Field(ge=2)]
    shuffled: Annotated[int, Field(ge=0)]  # how many seeds are also trained on shuffled labels
    steps: Annotated[int, Field(ge=8)]
    batch_size: Count
    statistics_examples: Count | None = None  # null: all
    validation_examples: Count | None = None
    train_examples: Count | None = None
    test_examples: Count | None = None
    flatness: Flatness | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse_repeats("schedules", self.schedules)
        refuse_repeats("decays", self.decays)
        if self.schedules[0] != "constant":
            raise ValueError(f"schedules must start with constant, found {self.schedules[0]}")
        if list(self.rates) != sorted(set(self.rates)):
            raise ValueError(f"rates must rise without repeats, found {list(self.rates)}")
        if self.flatness and self.flatness.stride > self.steps:
            raise ValueError(f"flatness.stride: at most {self.steps}, the number of steps, allowed")
        return self


class Quadratic(Axis):
    """Averages of the stationary noisy quadratic at products rate x curvature, from `chains` simulated runs each."""

    products: Annotated[tuple[Annotated[float, Field(gt=0, lt=2)], ...], Field(min_length=2)]
    decays: Annotated[tuple[Decay, ...], Field(min_length=1)]
    counts: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)]
    chains: Count


class Averaging(Study):
    """`tuning` seeds choose every arm's peak rate and the decayed baseline; `decay` is that of the claims."""

    tuning: Seeds = (1000, 1001, 1002)
    start: Share = 0.75  # share of the run after which stochastic weight averaging starts
    every: Count = 5  # steps between the networks that it averages
    decay: Decay = 0.99
    beds: dict[Literal["mlp", "resnet", "transformer"], AveragedRuns]
    quadratic: Quadratic
    cohort: Count = 20  # members trained in lockstep; results depend on it only through rounding

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.refuse_too_few_seeds(self.beds)
        for name, bed in self.beds.items():
            if self.decay not in bed.decays:
                raise ValueError(f"beds.{name}: decays must hold {self.decay}, the decay of the claims")
        if "mlp" not in self.beds:
            raise ValueError(f"beds must name mlp, found {', '.join(self.beds) or 'none'}")
        return self
