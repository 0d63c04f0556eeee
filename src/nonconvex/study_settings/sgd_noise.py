"""Settings of the study of the noise in stochastic gradients: at exact saddles, at sharp minima, and from the start."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Share
from nonconvex.study_settings.base import Lanczos, Study, StudyLoss

Modes = Annotated[str, Field(pattern="^[01]+$")]  # which modes are learned, from the largest: 1 learned, 0 left out
ScratchArm = Literal["small", "full", "noise"]


class Saddles(Axis):
    """A two-layer linear network on a regression whose critical points are known, and runs that start at them."""

    values: Annotated[tuple[Positive, ...], Field(min_length=2)] = (1.0, 0.75, 0.5, 0.25)  # σ of the target, falling
    spread: Share = 0.05  # each σ times U(1 - spread, 1 + spread)
    hidden: Count = 3
    examples: Count = 64
    label_noise: Positive = 0.5
    batch_size: Count = 16
    idle: tuple[Modes, ...] = ("1000", "1100")  # their fastest escape is by a unit whose weights are all zero
    active: tuple[Modes, ...] = ("1101", "1011")  # no such unit: a unit must give up its mode for a larger one
    stability: Annotated[float, Field(gt=0, lt=2)] = 0.1  # rate times λ_max at the saddle
    displacement: Annotated[float, Field(gt=0, lt=1)] = 1e-8  # standard deviation of the start around the saddle
    length: Annotated[float, Field(ge=1)] = 1.8  # of a run, in the time that theory expects of gradient descent
    share: Share = 0.5  # of the gap to the next critical level, by which the loss has to fall

    @model_validator(mode="after")
    def _are_saddles(self) -> Self:
        for modes in (*self.idle, *self.active):
            learned = modes.count("1")
            if len(modes) != len(self.values) or not 0 < learned <= self.hidden:
                raise ValueError(f"{modes}: {len(self.values)} digits with 1 to {self.hidden} ones are allowed")
            if (learned < self.hidden) != (modes in self.idle):
                raise ValueError(f"{modes}: idle saddles have fewer ones than hidden units, active ones as many")
        if list(self.values) != sorted(self.values, reverse=True):
            raise ValueError(f"values must fall, found {list(self.values)}")
        if self.examples < 2 * len(self.values):
            raise ValueError(f"examples is {self.examples}; allowed: {2 * len(self.values)} or more")
        return self


class Continuation(Axis):
    """Full-batch descent to a sharp solution at `rate`, and what goes on from there at `new_rate`."""

    rate: Positive
    before: Count  # updates
    solved: Positive  # training loss up to which the start counts as a solution
    new_rate: Positive
    after: Count
    level: Positive  # of training loss, where arms are compared: below that of the start


class Scratch(Axis):
    """From initial weights, each arm at its tuned rate, all with as many updates."""

    steps: Count
    rates: dict[ScratchArm, Annotated[tuple[Positive, ...], Field(min_length=3)]]
    fitted: Share = 0.05  # training error up to which a run counts as trained

    @model_validator(mode="after")
    def _equal_trials(self) -> Self:
        if set(self.rates) != {"small", "full", "noise"} or len({len(grid) for grid in self.rates.values()}) > 1:
            raise ValueError("rates must hold one grid for each of small, full and noise, all of one length")
        return self


class SgdNoise(Study):
    """Networks on `examples` training examples, so that the full batch is affordable."""

    controls: Count = 5  # seeds, the first ones, that are also trained on shuffled labels
    widths: tuple[Count, ...] = (50, 50)
    examples: Count = 400
    small: Count = 16  # batch sizes
    large: Count = 100
    stride: Count = 2  # updates between looks at the training loss
    points: Annotated[int, Field(ge=5)] = 11  # on the line from the start
    test_examples: Count | None = None  # all
    lanczos: Lanczos = Lanczos()
    saddles: Saddles = Saddles()
    continuations: dict[StudyLoss, Continuation]
    scratch: Scratch
