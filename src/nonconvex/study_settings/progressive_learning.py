"""Settings of the study of progressive learning."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Seeds, refuse_repeats
from nonconvex.study_settings.base import Lanczos, Study

Shape = Literal["wsd", "warmup_cosine"]


class OrderedRates(Axis):
    """One bed: schedules with warm-up and decay, and the same rates in other orders.

    With `halves` also each half of such a schedule alone, with `common` also the other orders at the first shape's
    tuned peak, with `rising` also a cosine run backwards, whose rate never falls.
    """

    shapes: Annotated[tuple[Shape, ...], Field(min_length=1)]
    halves: bool
    common: bool
    rising: bool
    rates: Annotated[tuple[Positive, ...], Field(min_length=3)]  # peak rates tried for every arm, rising
    tuning_seeds: Count  # how many of `tuning` are used
    replicates: Annotated[int, Field(ge=2)]  # how many of `seeds` are
    shuffled: Annotated[int, Field(ge=0)]  # how many of `seeds` are also trained on shuffled labels
    steps: Annotated[int, Field(ge=4)]
    batch_size: Count
    validation_examples: Count | None = None  # null: all
    train_examples: Count | None = None
    test_examples: Count | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        refuse_repeats("shapes", self.shapes)
        if list(self.rates) != sorted(set(self.rates)):
            raise ValueError(f"rates must rise without repeats, found {list(self.rates)}")
        return self


class Followed(Axis):
    """Curvature along the MLP's runs, on `examples` training examples."""

    examples: Count
    lanczos: Lanczos = Lanczos()


class ProgressiveLearning(Study):
    """`tuning` seeds choose every arm's peak rate and which arms are compared."""

    tuning: Seeds = (1000, 1001)
    beds: dict[Literal["mlp", "resnet", "transformer"], OrderedRates]
    curvature: Followed
    cohort: Count = 20  # members trained in lockstep; results depend on it only through rounding

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.refuse_too_few_seeds(self.beds)
        if "mlp" not in self.beds:
            raise ValueError(f"beds must name mlp, whose curvature is followed, found {', '.join(self.beds) or 'none'}")
        return self
