"""Settings of the study that compares all schedules."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Seeds, Share, refuse_repeats
from nonconvex.study_settings.base import Study

VariantName = Literal["step_half", "step_twice", "warmup_cosine_brief", "warmup_cosine_long", "inverse_sqrt_long"]
Rates = Annotated[tuple[Positive, ...], Field(min_length=3)]


class Theory(Axis):
    """The noisy quadratic: eigenvalues evenly spaced in the logarithm, and the peaks that are tried there."""

    steps: Annotated[int, Field(ge=4)]
    eigenvalues: Count
    decades: Positive = 3.0  # of the eigenvalues, downwards from 1
    noise: Positive = 1.0  # c / B
    lowest: Positive  # of the peaks, evenly spaced in the logarithm
    highest: Positive
    peaks: Annotated[int, Field(ge=3)]
    common: Positive  # the low peak at which all schedules are also compared

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.lowest < self.highest:
            raise ValueError(f"lowest must be below highest, found {self.lowest} and {self.highest}")
        return self


class FineTuning(Axis):
    """A short run on signals of the generator's other settings, from weights trained on its own ones."""

    seed: Annotated[int, Field(ge=0)] = 45  # of the generator
    shear_scale: Positive  # the generator's own is 0.75
    corr_noise_scale: Positive  # 0.25
    train: Count  # examples
    validation: Count
    test: Count
    steps: Count
    rates: Rates


class Tournament(Study):
    """The MLP under all schedules, tuned and at a common low peak, and what the grid's other beds lack.

    `rates` are the peaks tried for every schedule. The first `extended` seeds go on to twice the length, the first
    `shuffled` are also trained on shuffled labels. `variants` are trained as the grid trains its models.
    """

    tuning: Seeds = (1000, 1001, 1002, 1003, 1004)
    theory: Theory
    widths: Annotated[tuple[Count, ...], Field(min_length=1)]  # of the MLP's hidden layers
    steps: Annotated[int, Field(ge=4)]
    batch_size: Count
    rates: Rates
    short_rates: Rates  # of short and fast runs
    common: Positive
    short: Annotated[Share, Field(gt=0)] = 0.05  # share of the run that a short one has
    fast: Annotated[Share, Field(gt=0)] = 0.2  # and a fast one
    validation_examples: Count | None = None  # null: all
    train_examples: Count | None = None
    test_examples: Count | None = None
    extended: Annotated[int, Field(ge=0)]
    shuffled: Annotated[int, Field(ge=0)]
    fine_tuning: FineTuning
    variants: dict[Literal["resnet", "transformer"], Annotated[tuple[VariantName, ...], Field(min_length=1)]]
    cohort: Count = 60  # members trained in lockstep; results depend on it only through rounding

    @model_validator(mode="after")
    def _fits(self) -> Self:
        grids = {"rates": self.rates, "short_rates": self.short_rates, "fine_tuning.rates": self.fine_tuning.rates}
        for name, rates in grids.items():
            if list(rates) != sorted(set(rates)):
                raise ValueError(f"{name} must rise without repeats, found {list(rates)}")
        if len(self.rates) != len(self.short_rates):
            raise ValueError(
                f"rates and short_rates: as many of either allowed, found {len(self.rates)} and {len(self.short_rates)}"
            )
        if max(self.extended, self.shuffled) > len(self.seeds):
            raise ValueError(f"extended and shuffled: at most {len(self.seeds)}, the number of seeds, allowed")
        if not self.common <= self.rates[-1]:
            raise ValueError(f"common must not exceed the largest of rates, found {self.common}")
        if round(self.short * self.steps) < 1:
            raise ValueError(f"a short run must have a step, found {self.short} of {self.steps}")
        for model, names in self.variants.items():
            refuse_repeats(f"variants.{model}", names)
        return self
