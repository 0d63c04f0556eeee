"""What the settings of every study are made of."""

from typing import Literal, Self

from pydantic import model_validator

from nonconvex.axes import Axis, Count, Positive, Seeds

StudyLoss = Literal["squared_error", "cross_entropy"]


class Study(Axis):
    """`seeds` are the replicates that are reported; whatever is tuned is tuned on `tuning` seeds."""

    seeds: Seeds
    tuning: Seeds = (1000,)

    @model_validator(mode="after")
    def _tuned_elsewhere(self) -> Self:
        if both := sorted(set(self.tuning) & set(self.seeds)):
            raise ValueError(f"tuning seeds must not be reported: {both} are both")
        return self


class Lanczos(Axis):
    """How hard to look for the largest eigenvalue: at most so many products, down to a residual relative to it."""

    iterations: Count = 20
    tolerance: Positive = 0.02
