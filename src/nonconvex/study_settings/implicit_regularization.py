"""Settings of the study of implicit regularization."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Share
from nonconvex.study_settings.base import Study

Least = Literal["gd", "momentum", "sgd_1", "sgd_8", "adam", "adagrad", "sign"]
Levels = Annotated[tuple[Positive, ...], Field(min_length=3)]


class LeastSquares(Axis):
    """Fewer examples than unknowns. Rates not given here follow from the problem's own curvature."""

    examples: Count = 50
    dimension: Count = 200
    noise: Positive = 0.5  # on the targets, beside a teacher of length one
    start: Positive = 1.0  # length, about, of the random start
    momentum: Share = 0.5
    adam_rate: Positive = 0.01  # falls geometrically to adam_fall of itself
    adam_fall: Positive = 1e-9
    adagrad_rate: Positive = 0.1
    steps: dict[Least, Count]

    @model_validator(mode="after")
    def _undetermined(self) -> Self:
        if self.examples >= self.dimension:
            raise ValueError(f"examples must be fewer than dimension {self.dimension}, found {self.examples}")
        if missing := set(get_args(Least)) - set(self.steps):
            raise ValueError(f"steps lacks {', '.join(sorted(missing))}")
        if self.examples < 8:
            raise ValueError(f"sgd_8 needs at least 8 examples, found {self.examples}")
        return self


class Separable(Axis):
    """Logistic regression: gradient flow to log times `until`, and plain gradient descent for `steps` steps."""

    examples: Count = 40
    dimension: Count = 10
    shift: Positive = 0.5  # of every example away from the plane that labels it
    until: Positive  # largest ln(1 + t)
    late: Positive  # the slope is fitted from there on
    levels: Annotated[int, Field(ge=5)] = 19  # of ln(1 + t), evenly spaced in its logarithm from 1 on
    step: Positive = 0.3  # of the flow, in its rescaled time
    steps: Count  # of gradient descent
    looks: Annotated[int, Field(ge=4)] = 10
    practical: Count  # steps from which on descent's own slope is fitted

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 1 < self.late < self.until:
            raise ValueError(f"late must lie between 1 and until {self.until}, found {self.late}")
        if not 1 < self.practical < self.steps:
            raise ValueError(f"practical must lie between 1 and steps {self.steps}, found {self.practical}")
        return self


class LinearModes(Axis):
    """Two-layer linear networks. `small` and `large` are the singular values of the product W2 W1 at the start."""

    dimension: Count = 10
    hidden: Count = 12
    sigma: Annotated[tuple[Positive, ...], Field(min_length=2)] = (6.0, 4.0, 2.5, 1.5, 1.0)
    spread: Share = 0.1
    small: Positive = 1e-6
    large: Positive = 1.0
    rate: Positive
    steps: Count
    batch_size: Count = 8  # of the stochastic arm
    examples: Count = 40  # of it, with white inputs
    looks: Annotated[int, Field(ge=5)] = 25

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if list(self.sigma) != sorted(self.sigma, reverse=True):
            raise ValueError(f"sigma must fall, found {list(self.sigma)}")
        if not len(self.sigma) <= self.dimension <= min(self.hidden, self.examples):
            raise ValueError(f"dimension {self.dimension} must be at least the modes, at most hidden and examples")
        if self.batch_size > self.examples:
            raise ValueError(f"batch_size must be at most examples {self.examples}, found {self.batch_size}")
        if 2 * self.small >= min(self.sigma):
            raise ValueError(f"small must be below half of every sigma, found {self.small}")
        return self


class LinearFirst(Axis):
    """The MLP beside softmax regression on the same data, from the first steps to the end of a short training."""

    rate: Positive
    batch_size: Count
    steps: Count
    looks: Annotated[int, Field(ge=4)] = 14  # after the start, evenly spaced in the logarithm of the step
    first: Count = 10  # step of the first of them
    examples: Count = 5000  # of the test set
    decay: Positive = 1e-4  # of softmax regression

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first >= self.steps:
            raise ValueError(f"first must be below steps {self.steps}, found {self.first}")
        return self


class ImplicitRegularization(Study):
    """What training tends to without being told: closed forms in linear models, and a network's first predictions."""

    least_squares: LeastSquares
    separable: Separable
    linear_modes: LinearModes
    linear_first: LinearFirst
