"""Settings of the study of skip connections."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive
from nonconvex.study_settings.base import Study

Kind = Literal["skip_batch", "plain_batch", "skip_none", "scaled_none", "plain_none", "orthogonal_none"]
Rising = Annotated[tuple[Positive, ...], Field(min_length=1)]


class Shattering(Axis):
    """Gradients with respect to inputs, of networks as they are initialised."""

    depths: Annotated[tuple[Count, ...], Field(min_length=2)]  # the study's shallow and deep ones among them
    radii: Rising = (0.03, 0.1, 0.3)  # distances between inputs, as shares of an input's norm
    radius: Positive = 0.03  # the one that claims read
    examples: Count  # inputs
    statistics_examples: Count  # of batch norm

    @model_validator(mode="after")
    def _radius_among_radii(self) -> Self:
        if self.radius not in self.radii:
            raise ValueError(f"radius is {self.radius}; allowed: one of radii {list(self.radii)}")
        return self


class SkipConnections(Study):
    """ResNets of three depths with and without skips; at the deepest also without norm, started in four ways."""

    depths: Annotated[tuple[Count, ...], Field(min_length=3, max_length=3)]  # shallow, middle, deep
    width: Count
    batch_size: Count
    steps: Count
    longer: Annotated[int, Field(ge=2)] = 4  # times the steps that the deep plain network gets in its longer runs
    controls: Count  # seeds, the first ones, of twins and of runs on shuffled labels
    rates: dict[Kind, Annotated[Rising, Field(min_length=3)]]  # peaks of the tuning runs' cosine
    matched_share: Positive  # of the loss of a guess, ln classes: the training loss at which gradients are compared
    every: Count = 5  # steps between looks at whether a run is there
    windows: Count = 16  # of a run, over which its minibatch losses are averaged
    lengths: Rising = (0.00125, 0.0025, 0.005, 0.01, 0.02)  # of steps along the gradient, in norms of the weights
    gradient_examples: Count  # training examples behind gradients, and behind the matched loss
    examples: Count  # of the training and of the validation set, and for normalisation statistics
    test_examples: Count
    shattering: Shattering

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if missing := [kind for kind in get_args(Kind) if kind not in self.rates]:
            raise ValueError(f"rates must name every kind of network, found none for {', '.join(missing)}")
        for name, values in [("depths", self.depths), *self.rates.items()]:
            if list(values) != sorted(set(values)):
                raise ValueError(f"{name} must rise without repeats, found {list(values)}")
        if len({len(grid) for grid in self.rates.values()}) > 1:
            raise ValueError("rates must hold grids of one length: equal trials for every arm")
        ends = {self.depths[0], self.depths[-1]}
        if not ends <= set(self.shattering.depths):
            raise ValueError(f"shattering.depths must hold {sorted(ends)}, which claims compare")
        if self.controls > len(self.seeds):
            raise ValueError(f"controls is {self.controls}; allowed: up to {len(self.seeds)}, the number of seeds")
        return self
