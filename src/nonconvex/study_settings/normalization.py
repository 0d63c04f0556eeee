"""Settings of the study of normalization."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Share
from nonconvex.study_settings.base import Study


class Noise(Axis):
    """Noise after batch norm, with a distribution of its own for every step and channel.

    At a step, a channel's outputs are multiplied by draws around a centre in [1, `gain`] and shifted by draws around a
    centre in [-`shift`, `shift`]; the draws of the examples deviate from the centres by the standard deviation
    `gain_spread` and by up to `shift_spread`. The defaults are those of Santurkar et al. 2018, from memory, unchecked.
    """

    shift: Positive = 0.5
    gain: Annotated[float, Field(gt=1)] = 1.25
    shift_spread: Positive = 0.1
    gain_spread: Positive = 0.1


class NormalizedBed(Axis):
    """How one bed's arms are compared: short runs at constant rates, and tuned ones on a cosine."""

    replicates: Count  # the first of `seeds`
    rates: Annotated[tuple[Positive, ...], Field(min_length=3)]  # of a tuning seed's short runs, rising
    trained_share: Share  # of the loss of a guess, ln classes: a short run that ends below it has trained
    steps: Count  # of a short run, which shows whether a rate trains
    tuned_rates: Annotated[tuple[Positive, ...], Field(min_length=3)]  # peaks, rising
    tuned_steps: Count
    matched_share: Share  # of the loss of a guess: the training loss at which arms are compared
    every: Count  # steps between looks at the training loss of a tuned run
    examples: Count  # of the training set behind those looks, gradients, moments of layer inputs and short runs' losses
    shifts: Annotated[int, Field(ge=0)]  # places along a tuned run where a step's shift of layer inputs is measured
    scored: Count  # training and validation examples behind a tuned run's losses and errors
    tested: Count  # test examples

    @property
    def curvature_examples(self) -> int:
        """What is measured at matched loss is measured on what the loss was matched on."""
        return self.examples

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for name in ("rates", "tuned_rates"):
            if list(rates := getattr(self, name)) != sorted(set(rates)):
                raise ValueError(f"{name} must rise without repeats, found {list(rates)}")
        if self.shifts >= self.tuned_steps:
            raise ValueError(f"{self.shifts} shifts do not fit into {self.tuned_steps} tuned_steps")
        return self


class Normalization(Study):
    """A ResNet with batch, layer or group norm or none, and with batch norm altered; transformers with and without."""

    controls: Count = 5  # replicates of group norm, of frozen statistics and of the arm that repeats another
    window: Annotated[tuple[Positive, ...], Field(min_length=2)] = (0.5, 1.5, 4.5)  # times a tuning seed's largest
    extensions: Annotated[int, Field(ge=0)] = 2  # times that two rates are added where the window shows no edge
    halvings: Annotated[int, Field(ge=0)] = 1  # of the way, in ratio, from a rate that trains to one that does not
    lengths: Annotated[tuple[Positive, ...], Field(min_length=2)] = (0.00125, 0.0025, 0.005, 0.01, 0.02)
    noise: Noise = Noise()
    noise_draws: Count = 4  # of the noise, behind a training loss with the noise on
    beds: dict[Literal["resnet", "transformer"], NormalizedBed]

    @model_validator(mode="after")
    def _enough_seeds(self) -> Self:
        for name, bed in self.beds.items():
            if bed.replicates > len(self.seeds):
                raise ValueError(f"{name}: {bed.replicates} replicates of {len(self.seeds)} seeds")
        return self
