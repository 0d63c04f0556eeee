"""Settings of the runs that are held against published ones; the defaults are the publications' own."""

from typing import Annotated

from pydantic import Field

from nonconvex.axes import Axis, Count, Positive, Seeds, Share
from nonconvex.study_settings.base import Lanczos


class PublishedRecipe(Axis):
    """He et al. 2016, section 4.2. Network and images are those of the bed `resnet`."""

    seeds: Seeds
    steps: Count = 64_000
    batch_size: Count = 128
    rate: Positive = 0.1
    milestones: tuple[Share, ...] = (0.5, 0.75)
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4


class PublishedEdge(Axis):
    """Cohen et al. 2021: `fc-tanh` on `cifar10-5k`. The images are those of the bed `resnet`."""

    seeds: Seeds
    rates: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.01, 0.02, 0.04)  # 2 / 200, 2 / 100, 2 / 50
    widths: tuple[Count, ...] = (200, 200)
    examples: Count = 5_000
    accuracy: Share = 0.99  # of the training examples, where a run ends for the comparison
    steps: Count
    readings: Annotated[int, Field(ge=2)]
    lanczos: Lanczos = Lanczos()


class Validation(Axis):
    """The published runs that the GPU profile holds the code against."""

    resnet: PublishedRecipe
    edge: PublishedEdge
