"""Settings of the study of sharpness-aware minimization."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Seeds, Share, refuse_repeats
from nonconvex.study_settings.base import Lanczos, Study

Criterion = Literal["validation_error", "validation_loss"]
Rising = Annotated[tuple[Positive, ...], Field(min_length=3)]


class PerturbedBed(Axis):
    """One bed: SAM of `steps` steps against plain training of as many, and of twice as many, steps.

    SAM is tuned over `radii` and `rates`, plain training over as many rates between the two of `plain_rates`, by the
    first of `criteria`; by a second one, SAM and plain training are run at its choice too, for their scores. With
    `random` also in random directions of the same radii; with `common` also SAM at plain training's rate; with
    `followed` also how good one step of ascent is along SAM's runs, and the worst cases of single minibatches.
    """

    radii: Rising
    rates: Rising  # peak rates of SAM, at every radius
    plain_rates: tuple[Positive, Positive]  # lowest and highest
    criteria: Annotated[tuple[Criterion, ...], Field(min_length=1, max_length=2)]
    random: bool = False
    common: bool = False
    followed: bool = False
    tuning_seeds: Count  # how many of `tuning` are used
    replicates: Annotated[int, Field(ge=2)]  # how many of `seeds` are
    shuffled: Annotated[int, Field(ge=0)] = 0  # how many of `seeds` are also trained on shuffled labels
    steps: Annotated[int, Field(ge=8)]
    batch_size: Count
    weight_decay: Share | None = None  # null: the bed's own
    training_set: Count | None = None  # examples that are trained on; null: all
    level: Positive | None = None  # training loss at which the arms' curvature is compared; null: nowhere
    every: Count = 5  # updates between looks at that loss
    measured: Count  # training examples of worst cases and curvature
    train_examples: Count | None = None  # for the reported training loss; null: all
    validation_examples: Count | None = None
    test_examples: Count | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("radii", "rates", "plain_rates"):
            values = list(getattr(self, name))
            if values != sorted(set(values)):
                raise ValueError(f"{name} must rise without repeats, found {values}")
        refuse_repeats("criteria", self.criteria)
        if self.followed and self.measured < self.batch_size:
            raise ValueError(f"followed: measured {self.measured} found, at least a batch of {self.batch_size} allowed")
        return self


class Sam(Study):
    """`tuning` seeds choose every arm's rate, and its radius where it has one."""

    tuning: Seeds = (1000, 1001)
    beds: dict[Literal["mlp", "resnet", "transformer"], PerturbedBed]
    ascent_steps: Annotated[int, Field(ge=2)] = 5  # of the worst cases
    adaptive_radius: Positive = 0.1  # of the worst case relative to each weight's size
    lanczos: Lanczos = Lanczos()
    probes: Annotated[int, Field(ge=2)] = 8  # of the trace
    looks: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.1, 0.3, 0.5, 0.7, 0.9)  # of a run that is followed
    cohort: Count = 20  # members trained in lockstep; results depend on it only through rounding

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.refuse_too_few_seeds(self.beds)
        if not self.beds:
            raise ValueError("beds must name at least one of mlp, resnet, transformer")
        return self
