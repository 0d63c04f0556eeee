"""Settings of the study of bad starts: every strategy from the same four bad regions, at equal gradient evaluations."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Seeds, Share
from nonconvex.study_settings.base import Lanczos, Study

Region = Literal["saddle", "plateau", "sharp", "bad_minimum"]
REGIONS: tuple[Region, ...] = ("saddle", "plateau", "sharp", "bad_minimum")


class Saddle(Axis):
    """The network without hidden units, embedded with zero weights, and a start next to it."""

    displacement: Annotated[float, Field(gt=0, lt=1)]  # of the start, relative to the length of the weights
    fall: Annotated[float, Field(gt=0, lt=1)] = (
        0.1  # of the training loss, relative to the region's: then a run has left
    )


class Plateau(Axis):
    """Initial weights whose last hidden layer is saturated: its biases are far from zero, of random signs."""

    bias: Positive
    fall: Annotated[float, Field(gt=0, lt=1)] = 0.1


class Sharp(Axis):
    """Where full-batch descent at a small rate gets in so many updates."""

    rate: Positive
    updates: Count
    solved: Positive  # training loss up to which it counts as a solution
    longer: Count = 4  # times the budget, for plain SGD from normal weights to get to that loss as well
    fall: Annotated[float, Field(gt=0, lt=1)] = 0.5  # of λ_max, at a training loss not above the start's


class BadMinimum(Axis):
    """Minibatches with wrong labels until every one is learned, then with the true ones until all of those are."""

    rate: Positive
    momentum: Share
    wrong: Count  # updates
    right: Count
    within: Share = 0.01  # of the accuracy that a normal start reaches: then a run has left


class BadStarts(Study):
    """A tanh network on `examples` training examples, so that the full loss is affordable on the way.

    Every run has `evaluations` gradient evaluations at minibatches of `batch_size`, on a cosine schedule.
    """

    tuning: Seeds = (1000, 1001)
    widths: tuple[Count, Count]
    examples: Count
    batch_size: Count
    evaluations: Annotated[int, Field(ge=8, multiple_of=2)]
    looks: Annotated[int, Field(ge=3)]  # on the way, evenly spaced in the logarithm of the evaluations spent
    first: Annotated[int, Field(ge=2, multiple_of=2)]  # gradient evaluations before the first of them
    saddle: Saddle
    plateau: Plateau
    sharp: Sharp
    bad_minimum: BadMinimum
    rates: dict[Literal["normal", "saddle", "plateau", "sharp", "bad_minimum"], tuple[Positive, ...]]
    spike: Annotated[float, Field(gt=1)] = 2.0  # times the region's training loss: a minibatch loss above it is a spike
    controls: Count = 5  # seeds, the first ones, that are also trained on shuffled labels
    points: Annotated[int, Field(ge=3)] = 11  # on the line from start to end
    test_examples: Count | None = None  # all
    lanczos: Lanczos = Lanczos(iterations=20, tolerance=0.03)
    cohort: Count = 40  # members trained in lockstep; results depend on it only through rounding

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if set(self.rates) != {"normal", *REGIONS} or len({len(grid) for grid in self.rates.values()}) > 1:
            raise ValueError(f"rates must hold one grid for each of normal, {', '.join(REGIONS)}, all of one length")
        for name, grid in self.rates.items():
            if len(grid) < 3 or any(a >= b for a, b in pairwise(grid)):
                raise ValueError(f"rates.{name} must hold three or more rates that rise, found {list(grid)}")
        if self.first >= self.evaluations or self.batch_size > self.examples:
            raise ValueError("first < evaluations and batch_size <= examples allowed")
        return self
