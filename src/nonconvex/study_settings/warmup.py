"""Settings of the study of warm-up."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Seeds, Share, refuse_repeats
from nonconvex.study_settings.base import Lanczos, Study

BedName = Literal["mlp", "mlp_sgd", "transformer", "resnet"]


class Followed(Axis):
    """Curvature of the bed's runs in their first tenth at the high rate: `looks` readings on `examples` examples.

    `shares` are the warm-ups followed. With a `level` the first two also at the tuned rate, where they meet that loss.
    """

    shares: Annotated[tuple[Share, ...], Field(min_length=2)]
    looks: Annotated[int, Field(ge=2)]
    examples: Count
    level: Positive | None = None
    stride: Count = 2  # updates between looks at the training loss


class WarmedBed(Axis):
    """A bed under an optimizer without weight decay: every warm-up at every rate of a grid.

    `score` on validation data chooses the rates. With `variants` also Adam with other second moments, at the high rate.
    """

    model: Literal["mlp", "transformer", "resnet"]
    optimizer: Literal["sgd", "adamw"]
    momentum: Share = 0.9  # of sgd
    beta1: Share = 0.9  # of adamw
    beta2: Annotated[Share, Field(gt=0)] = 0.98  # of adamw: remembers 50 steps, far fewer than a run has
    schedule: Literal["cosine", "constant", "linear"] = "cosine"  # what the warm-up is multiplied with
    steps: Annotated[int, Field(ge=10)]
    batch_size: Count
    shares: Annotated[tuple[Share, ...], Field(min_length=2)]  # of the run; the first is 0
    rates: Annotated[tuple[Positive, ...], Field(min_length=3)]  # peak rates tried for every arm, rising
    tuning_seeds: Count  # how many of `tuning` are used
    replicates: Annotated[int, Field(ge=2)]  # how many of `seeds` are
    twins: Annotated[int, Field(ge=0)]  # how many of `seeds` run without warm-up a second time
    shuffled: Annotated[int, Field(ge=0)] = 0  # how many of `seeds` are also trained on shuffled labels
    score: Literal["test_error", "test_loss"]
    variants: bool = False
    followed: Followed | None = None
    scored: Count  # training examples behind a training loss
    validated: Count
    tested: Count

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("rates", "shares"):
            values = list(getattr(self, name))
            if values != sorted(set(values)):
                raise ValueError(f"{name} must rise without repeats, found {values}")
        if self.shares[0] != 0:
            raise ValueError(f"shares must begin with 0, no warm-up, found {list(self.shares)}")
        if any(high / low > 2.001 for low, high in pairwise(self.rates)):
            raise ValueError(f"rates must lie within a factor of 2, found {list(self.rates)}")
        if self.variants and self.optimizer != "adamw":
            raise ValueError("variants are those of adamw, found at sgd")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.shuffled <= self.replicates or not self.twins <= self.replicates:
            raise ValueError(f"at most {self.replicates} twins and shuffled allowed, the number of replicates")
        if self.followed and not set(self.followed.shares) <= set(self.shares):
            raise ValueError(f"followed.shares must be among {list(self.shares)}, found {list(self.followed.shares)}")
        return self


class SecondMoments(Axis):
    """How far Adam's second moments on the MLP depend on the order of the data, from the same weights."""

    orders: Annotated[int, Field(ge=2)]  # of the data, for every seed
    steps: Annotated[tuple[Count, ...], Field(min_length=1)]  # updates after which they are compared


class Warmup(Study):
    """`tuning` seeds choose every arm's rate; the high rate is the grid's nearest to `times` that without warm-up."""

    tuning: Seeds = (1000, 1001)
    times: Annotated[float, Field(gt=1)] = 3.0
    beds: dict[BedName, WarmedBed]
    second_moments: SecondMoments
    cohort: Count = 20  # members trained in lockstep; results depend on it only through rounding
    lanczos: Lanczos = Lanczos()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for name, bed in self.beds.items():
            if bed.replicates > len(self.seeds) or bed.tuning_seeds > len(self.tuning):
                raise ValueError(
                    f"beds.{name}: at most {len(self.seeds)} replicates and {len(self.tuning)} tuning_seeds allowed"
                )
        refuse_repeats("second_moments.steps", self.second_moments.steps)
        if "mlp" not in self.beds or self.beds["mlp"].optimizer != "adamw":
            raise ValueError(f"beds must name mlp, trained by adamw, found {', '.join(self.beds) or 'none'}")
        return self
