"""Settings of the study of three phases."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Share
from nonconvex.study_settings.base import Study, StudyLoss

BedName = Literal["resnet", "transformer", "mlp", "mlp_squared_error"]


class PhasedBed(Axis):
    """A test bed that is trained under warm-up, stable phase and decay, and measured where one ends."""

    model: Literal["resnet", "transformer", "mlp"]
    loss: StudyLoss = "cross_entropy"
    replicates: Count  # of the study's seeds, the first ones
    together: Count  # seeds per process, trained in lockstep
    steps: Count
    rates: Annotated[tuple[Positive, ...], Field(min_length=3)]  # peak rates that are tried, rising
    criterion: Literal["train_loss", "validation_loss", "validation_error"] = "validation_loss"
    validated: Count  # validation examples behind it
    looks: Annotated[int, Field(ge=4)]  # at the training loss of a branch, evenly spaced
    trunk_looks: Annotated[int, Field(ge=4)] = 12  # before the branches
    scored: Count  # training examples behind every training loss
    tested: Count  # test examples
    examples: Count  # training examples behind curvature
    points: Annotated[int, Field(ge=3)] = 9  # on a line
    shuffled: bool = False  # also train the branches on shuffled labels

    @model_validator(mode="after")
    def _rates_rise(self) -> Self:
        if list(self.rates) != sorted(set(self.rates)):
            raise ValueError(f"rates must rise, found {list(self.rates)}")
        return self


class ThreePhases(Study):
    """Warm-up, stable phase and decay, with branches from the checkpoint at which the decay begins."""

    warmup: Annotated[Share, Field(gt=0)] = 0.05  # share of the run
    decay: Annotated[Share, Field(gt=0)] = 0.2
    beds: dict[BedName, PhasedBed]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup + self.decay >= 1:
            raise ValueError(f"warmup and decay must leave a stable phase, found {self.warmup} and {self.decay}")
        for name, bed in self.beds.items():
            if bed.replicates > len(self.seeds):
                raise ValueError(f"{name}: {bed.replicates} replicates wanted, {len(self.seeds)} seeds found")
            if round(self.decay * bed.steps) < bed.looks - 1:
                raise ValueError(
                    f"{name}: {bed.looks} looks do not fit into a decay of {self.decay} x {bed.steps} steps"
                )
        return self
