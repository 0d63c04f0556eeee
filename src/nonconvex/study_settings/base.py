"""What the settings of every study are made of."""

from collections.abc import Mapping
from typing import Any, Literal, Self

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

    def refuse_too_few_seeds(self, beds: Mapping[Any, Any]) -> None:
        """ValueError for a bed with more replicates, runs on shuffled labels or tuning seeds than there are seeds."""
        for name, bed in beds.items():
            if bed.replicates > len(self.seeds) or bed.shuffled > bed.replicates:
                raise ValueError(
                    f"beds.{name}: shuffled <= replicates <= {len(self.seeds)}, the number of seeds, allowed"
                )
            if bed.tuning_seeds > len(self.tuning):
                raise ValueError(f"beds.{name}: at most {len(self.tuning)} tuning_seeds allowed")


class Lanczos(Axis):
    """How hard to look for the largest eigenvalue: at most so many products, down to a residual relative to it."""

    iterations: Count = 20
    tolerance: Positive = 0.02
