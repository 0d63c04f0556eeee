"""Settings of the study of WSD: one trunk with a decay for every horizon, against schedules planned for each."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Seeds, Share, refuse_repeats
from nonconvex.study_settings.base import Study

DECAY = 0.2  # share of the run, the source text's figure

Length = Annotated[Share, Field(gt=0)]


class HorizonBed(Axis):
    """One bed, with the horizons `planned` / 2, `planned` and 2 `planned`, in steps.

    A `full` bed also has every shape and length of decay, linear decay, other warm-ups, other peaks and restarts.
    """

    full: bool
    replanned: bool  # whether WSD is also planned and tuned for the short and the long horizon
    planned: Annotated[int, Field(ge=8, multiple_of=2)]  # the horizon that the trunk's peak and warm-up are made for
    lengths: Annotated[tuple[Length, ...], Field(min_length=2)]  # of decays, as shares of the run, rising
    rates: Annotated[tuple[Positive, ...], Field(min_length=3)]  # peak rates tried for every arm, rising
    tuning_seeds: Count  # how many of `tuning` are used
    replicates: Annotated[int, Field(ge=2)]  # how many of `seeds` are
    together: Count  # seeds per process, trained in lockstep; results depend on it only through rounding
    shuffled: Annotated[int, Field(ge=0)]  # how many of `seeds` are also trained on shuffled labels
    batch_size: Count
    windows: Count  # of the longest run, each with its mean minibatch loss
    statistics_examples: Count | None = None  # training examples for normalisation statistics; null: all
    validation_examples: Count | None = None
    test_examples: Count | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("lengths", "rates"):
            refuse_repeats(name, getattr(self, name))
            if list(getattr(self, name)) != sorted(getattr(self, name)):
                raise ValueError(f"{name} must rise, found {list(getattr(self, name))}")
        if DECAY not in self.lengths:
            raise ValueError(f"lengths must hold {DECAY}, the text's, found {list(self.lengths)}")
        if 2 * self.planned % self.windows:
            raise ValueError(f"windows must divide {2 * self.planned}, the longest run, found {self.windows}")
        return self


class Wsd(Study):
    """`tuning` seeds choose the peak rate of every arm for every horizon."""

    tuning: Seeds = (1000, 1001)
    long_warmup: Length = 0.1  # share of the run
    beds: dict[Literal["mlp", "resnet", "transformer"], HorizonBed]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.refuse_too_few_seeds(self.beds)
        return self
