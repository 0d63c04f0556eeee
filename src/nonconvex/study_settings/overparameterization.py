"""Settings of the study of overparameterization."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive
from nonconvex.study_settings.base import Study

Rates = Annotated[tuple[Positive, ...], Field(min_length=3)]


class Descent(Axis):
    """How runs of one kind descend: at most `steps` updates, at constant rates tried from `rates`, which rise."""

    widths: Annotated[tuple[Count, ...], Field(min_length=1)]  # of both hidden layers
    rates: Rates
    steps: Count
    batch_size: Annotated[int, Field(ge=0)] = 0  # examples per gradient; 0 is all of them

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for name in ("widths", "rates"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)):
                raise ValueError(f"{name} must rise without repeats, found {list(values)}")
        return self


class Bottleneck(Axis):
    """Networks whose second hidden layer has `width` units and the first as many as give the parameters of `like`."""

    width: Count
    like: Count  # width of the network whose number of parameters they have


class Overparameterization(Study):
    """Networks with two hidden layers of equal width learn `examples` training examples by heart.

    A run has fitted at the first weights whose training loss is at most `level`. `twin` starts a second run of the
    widest network on each replicate's examples: `seed + twin` draws its initial weights.
    """

    tuning: tuple[Annotated[int, Field(ge=0)], ...] = (1000, 1001)
    twin: Count = 100
    examples: Count  # n of a replicate, drawn from the training set
    level: Positive = 0.01  # nats
    easy: Positive = 0.1  # nats; a second level, for a look at how much the first one decides
    patience: Annotated[float, Field(ge=1)] = 2.0  # times the steps of the fastest rate, after which tuning ends
    back: Annotated[int, Field(ge=0)] = 2  # steps of the grid between the fastest rate and the one that is used
    gradient_descent: Descent
    minibatches: Descent
    bottleneck: Bottleneck
    kernel_examples: Count  # of the neural tangent kernel
    test_examples: Count

    @model_validator(mode="after")
    def _fits(self) -> Self:
        descent, sgd = self.gradient_descent, self.minibatches
        if descent.batch_size or not 0 < sgd.batch_size <= self.examples:
            raise ValueError(
                f"gradient_descent.batch_size must be 0, found {descent.batch_size}; "
                f"minibatches.batch_size 1 to {self.examples}, found {sgd.batch_size}"
            )
        if self.bottleneck.like not in descent.widths:
            raise ValueError(f"bottleneck.like is {self.bottleneck.like}; allowed: {list(descent.widths)}")
        if self.kernel_examples > self.examples:
            raise ValueError(f"kernel_examples is {self.kernel_examples}; allowed: 1 to {self.examples}")
        if self.easy < self.level:
            raise ValueError(f"easy is {self.easy}; allowed: {self.level} (level) or more")
        seeds = {*self.seeds, *self.tuning}
        if shared := seeds & {seed + self.twin for seed in self.seeds}:
            raise ValueError(f"twin is {self.twin}: {sorted(shared)} would start two runs")
        return self
