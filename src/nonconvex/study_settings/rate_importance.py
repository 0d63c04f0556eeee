"""Settings of the study of the learning rate's importance among hyperparameters."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Share, refuse_repeats
from nonconvex.study_settings.base import Lanczos, Study

Logarithmic = Annotated[tuple[Positive, Positive], Field(min_length=2, max_length=2)]


class Ranges(Axis):
    """What each hyperparameter may be; every share of variance is one over these ranges and no others."""

    rate: Logarithmic  # peak, uniform in its logarithm
    momentum: tuple[Share, Share]  # uniform
    weight_decay: Logarithmic
    gain: Logarithmic  # of the initial weights: N(0, gain^2 / fan-in)
    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=2)]
    widths: Annotated[tuple[Count, ...], Field(min_length=2)]  # of both hidden layers
    schedules: Annotated[tuple[str, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for name in ("rate", "momentum", "weight_decay", "gain"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name} must be a range from low to high, found {[low, high]}")
        for name in ("batch_sizes", "widths", "schedules"):
            refuse_repeats(name, getattr(self, name))
        return self


class RateImportance(Study):
    """A space-filling design of runs of the MLP: one block per seed, each a design of its own."""

    ranges: Ranges
    repeats: Count  # runs of a block with each pair of batch size and width
    epochs: Count  # of every run, whatever its batch size
    train_examples: Count | None = None  # null: all
    test_examples: Count | None = None
    curvature_examples: Count
    lanczos: Lanczos = Lanczos()

    @property
    def runs(self) -> int:
        """Runs of a block."""
        return self.repeats * len(self.ranges.batch_sizes) * len(self.ranges.widths)
