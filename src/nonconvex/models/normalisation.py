"""Batch normalisation whose statistics are always computed on purpose.

torch's running averages depend on the path that training took, so they are undefined for an interpolated or
averaged network. Here a training pass uses the batch's statistics and keeps none; an evaluation uses statistics
that `Stacked.statistics` recomputed at exactly the parameters in question.
"""

import torch
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """Ioffe & Szegedy 2015: y = (x - mean) / sqrt(variance + eps) * weight + bias, per channel.

    Input (B, C, *space). In training mode the mean and the biased variance of the batch are used, and, while
    `collecting`, left in `batch`; in evaluation mode the buffers `mean` and `variance` are used.
    """

    collecting = False  # set by `Stacked.statistics`; otherwise nothing keeps the graph of a batch alive

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.batch: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            axes = [0, *range(2, x.dim())]
            variance, mean = torch.var_mean(x, axes, correction=0)
            if self.collecting:
                self.batch = (mean, variance)
        else:
            mean, variance = self.mean, self.variance
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shape = (-1,) + (1,) * (x.dim() - 2)
        return x * scale.view(shape) + (self.bias - mean * scale).view(shape)
