"""Settings of the study of noise scale."""

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Share
from nonconvex.study_settings.base import Lanczos, Study

Rising = Annotated[tuple[Positive, ...], Field(min_length=2)]


class Grid(Axis):
    """Rates of equal ratio to the batch size: every ratio with every batch size, rate = ratio times batch size.

    Where the rate is at most `small_rate` only the ratio is expected to matter. `ratios` and `batch_sizes` double, so
    that rates recur along the grid.
    """

    ratios: Rising
    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=2)]
    small_rate: Positive

    @model_validator(mode="after")
    def _diagonals(self) -> Self:
        for name in ("ratios", "batch_sizes"):
            values = getattr(self, name)
            if any(abs(b / a - 2) > 1e-6 for a, b in pairwise(values)):
                raise ValueError(f"{name} must double, found {list(values)}")
        if self.ratios[-1] * self.batch_sizes[1] > self.small_rate * (1 + 1e-9):
            raise ValueError(f"small_rate {self.small_rate} must leave every ratio at least two batch sizes")
        return self


class QuadraticNoise(Axis):
    """A scalar quadratic for stationary noise, and one of many curvatures for the grid.

    `time` is rate times steps of the lowest ratio's runs.
    """

    rates: Rising = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # times a curvature of one
    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=2)] = (1, 4, 16)
    small_rate: Positive = 0.1  # up to which noise is to be proportional to the rate
    momentum: Share = 0.9
    chains: Count
    steps: Annotated[int, Field(ge=10)]
    recursion: Count = 200  # steps of the exact recursion
    curvatures: Count = 20  # from 1 down to lowest, in equal ratios, each times exp(uniform(±jitter))
    lowest: Positive = 0.01
    jitter: Share = 0.2
    time: Positive = 64.0
    grid: Grid


class NetworkNoise(Grid):
    """The MLP at equal epochs: runs of the lowest ratio and of higher ones, read at every doubling of the epochs.

    `examples` training examples, so that every batch size divides an epoch. At `control` there are also runs with
    momentum at the rate that is to be equal to the plain one, and twins of the plain ones.
    """

    examples: Count
    epochs: Count
    momentum: Share = 0.9
    control: Count
    scored: Count = 1000  # training examples behind every loss
    test_examples: Count = 2000
    noise_examples: Count = 256  # of per-example gradients
    noise_batches: Count = 15  # minibatches per size, to see their noise
    curvature_examples: Count = 256
    lanczos: Lanczos = Lanczos()

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if left := [size for size in self.batch_sizes if self.examples % size]:
            raise ValueError(f"examples {self.examples} must be a multiple of every batch size, is none of {left}")
        if self.control not in self.batch_sizes:
            raise ValueError(f"control must be among batch_sizes {list(self.batch_sizes)}, found {self.control}")
        if self.epochs % 2 ** (len(self.ratios) - 1):
            raise ValueError(f"epochs must be a multiple of {2 ** (len(self.ratios) - 1)}, found {self.epochs}")
        return self


class NoiseScale(Study):
    """Does only the ratio of rate and batch size matter? A quadratic that answers exactly, and a network."""

    quadratic: QuadraticNoise
    mlp: NetworkNoise
