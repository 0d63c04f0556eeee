"""Normalisation layers, and batch normalisation whose statistics are always computed on purpose.

torch's running averages depend on the path that training took, so they are undefined for an interpolated or
averaged network. Here a training pass uses the batch's statistics and keeps none; an evaluation uses
statistics that `Stacked.statistics` recomputed at exactly the parameters in question.
"""

from functools import partial

import torch
from torch import Tensor, nn

EPSILON = 1e-5  # added to every variance, as in torch
GROUP = 4  # channels that "group" normalises together: half of the narrowest stage in use


class BatchNorm(nn.Module):
    """Ioffe & Szegedy 2015: y = (x - mean) / sqrt(variance + eps) * weight + bias, per channel.

    Input (B, C, *space). In training mode the mean and the biased variance of the batch are used, and, while
    `collecting`, left in `batch`; in evaluation mode the buffers `mean` and `variance` are used.
    """

    collecting = False  # set by `Stacked.statistics`; otherwise nothing keeps the graph of a batch alive

    def __init__(self, channels: int, eps: float = EPSILON):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.batch: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)  # statistics of a product in bfloat16 are those of its float32 numbers
        if self.training:
            # centred first: as accurate as torch.var_mean, and sums are faster in all three passes on a CPU
            axes, count = [0, *range(2, x.dim())], x.numel() // x.shape[1]
            mean = x.sum(axes) / count
            x = x - _channels(mean, x)
            variance = (x * x).sum(axes) / count
            if self.collecting:
                self.batch = (mean, variance)
        else:
            x, variance = x - _channels(self.mean, x), self.variance
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return x * _channels(scale, x) + _channels(self.bias, x)


class GroupNorm(nn.Module):
    """Wu & He 2018: each example is normalised by itself, over groups of neighbouring channels and space.

    `size` channels form a group; None takes all, which is layer normalisation (Ba, Kiros & Hinton 2016).
    """

    def __init__(self, channels: int, size: int | None = None, eps: float = EPSILON):
        super().__init__()
        self.size, self.eps = size or channels, eps
        if channels % self.size:
            raise ValueError(f"{channels} channels do not split into groups of {self.size}")
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        groups = x.unflatten(1, (-1, self.size))
        axes = list(range(2, groups.dim()))
        groups = groups - groups.mean(axes, keepdim=True)
        groups = groups * torch.rsqrt(groups.square().mean(axes, keepdim=True) + self.eps)
        return groups.flatten(1, 2) * _channels(self.weight, x) + _channels(self.bias, x)


class Bias(nn.Module):
    """No normalisation: only the shift per channel that every normalisation also has."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + _channels(self.bias, x)


NORMS = {"batch": BatchNorm, "layer": GroupNorm, "group": partial(GroupNorm, size=GROUP), "none": Bias}


def normalisation(name: str, channels: int) -> nn.Module:
    """The layer behind a row of NORMS."""
    if name not in NORMS:
        raise ValueError(f"unknown norm {name!r}; known: {', '.join(NORMS)}")
    return NORMS[name](channels)


def _channels(values: Tensor, like: Tensor) -> Tensor:
    """(C,) shaped to act on the channels of (B, C, *space)."""
    return values.view(-1, *[1] * (like.dim() - 2))
