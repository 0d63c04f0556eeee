"""Settings of the study of initialization."""

from math import sqrt
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive
from nonconvex.study_settings.base import Lanczos, Study

Gain = Literal["tiny", "small", "xavier", "he", "large", "huge"]
Family = Literal["shallow", "middle", "deep", "normalised", "tanh"]
GAINS: dict[Gain, float] = {"tiny": 0.35, "small": 0.7, "xavier": 1.0, "he": sqrt(2), "large": 2.0, "huge": 4.0}
RELU = ("shallow", "middle", "deep")  # plain networks of rising depth
NEEDED: dict[Family, set[Gain]] = {  # what the contrasts compare
    "shallow": set(GAINS),
    "middle": {"tiny", "he", "huge"},
    "deep": set(GAINS),
    "normalised": {"tiny", "he", "huge"},
    "tanh": {"tiny", "xavier", "huge"},
}


class Networks(Axis):
    """Networks of one kind: `depth` hidden layers, and under every gain the lowest rate of its tuning grid."""

    depth: Annotated[int, Field(ge=2)]
    lowest: dict[Gain, Positive]


class Initialization(Study):
    """Networks of equal width whose weights start at a standard deviation of gain / √fan-in, a gain an arm.

    `shallow`, `middle`, `deep` are ReLU networks without norm and skips; `normalised` is `deep` with batch norm,
    `tanh` is `deep` with another activation. Every arm has `trials` rates, each `factor` times the one before.
    """

    width: Count
    steps: Count
    batch_size: Count
    trials: Annotated[int, Field(ge=3)]
    factor: Annotated[float, Field(gt=1, le=sqrt(10) * (1 + 1e-9))] = sqrt(10)
    families: dict[Family, Networks]
    controls: Count = 5  # seeds, the first ones: those of the twins, and those whose curvature is measured
    cohort: Count = 36  # runs in lockstep
    draws: Annotated[int, Field(ge=2)]  # random networks per gain and seed, through which a signal is followed
    inputs: Count = 8  # training examples that it starts from
    gradient_examples: Count = 200  # of the training set, for the gradients of the networks that are trained
    curvature_examples: Count = 64
    lanczos: Lanczos = Lanczos()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for family, needed in NEEDED.items():
            if missing := needed - set(self.families.get(family, Networks(depth=2, lowest={})).lowest):
                raise ValueError(f"families.{family}.lowest must hold {', '.join(sorted(missing))}")
        return self

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        depths = {name: networks.depth for name, networks in self.families.items()}
        plain = [depths[name] for name in RELU if name in depths]
        if plain != sorted(set(plain)):
            raise ValueError(f"shallow, middle, deep must rise in depth, found {plain}")
        if {depths[name] for name in ("normalised", "tanh")} != {depths["deep"]}:
            raise ValueError(f"normalised and tanh must be as deep as deep, found {depths}")
        return self

    def grid(self, family: Family, gain: Gain) -> list[float]:
        """The rates of an arm's tuning, rising."""
        lowest = self.families[family].lowest[gain]
        return [float(f"{lowest * self.factor**k:.3g}") for k in range(self.trials)]
