"""Batch norm changed for two controls: with statistics that stay fixed, and with noise on what it puts out.

What differs between members or from step to step is a buffer. It goes along with the weights, as in
`network({**params, **buffers}, x)`, so that one module serves every member of a cohort at every step.
"""

import torch
from torch import Tensor, nn

from nonconvex.models.normalisation import EPSILON, BatchNorm


class FrozenBatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias with given constants: an affine map, in training too.

    Parameters and buffers are called as those of `BatchNorm`; input (B, C, *space).
    """

    def __init__(self, channels: int, eps: float = EPSILON):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * torch.rsqrt(self.variance + self.eps)
        return (x - _over_space(self.mean, x)) * _over_space(scale, x) + _over_space(self.bias, x)


class NoisyBatchNorm(BatchNorm):
    """gain * BatchNorm(x) + shift (after Santurkar et al. 2018, section 2.2).

    The buffers `gain` and `shift` have the shape (B, C), one number per example and channel, or (), one for all. They
    start as 1 and 0, which is batch norm.
    """

    def __init__(self, channels: int, eps: float = EPSILON):
        super().__init__(channels, eps)
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * _over_space(self.gain, x) + _over_space(self.shift, x)


ALTERED = {"frozen": FrozenBatchNorm, "noisy": NoisyBatchNorm}


def altered(module: nn.Module, name: str) -> nn.Module:
    """`module` with a layer of ALTERED in place of every batch norm, on the same parameters.

    ValueError for an unknown name, and for a module without batch norm.
    """
    if name not in ALTERED:
        raise ValueError(f"unknown change of batch norm {name!r}; known: {', '.join(ALTERED)}")
    found = [place for place, layer in module.named_modules() if isinstance(layer, BatchNorm)]
    if not found:
        raise ValueError(f"{type(module).__name__} has no batch norm that could be {name}")
    for place in found:
        old = module.get_submodule(place)
        new = ALTERED[name](len(old.weight), old.eps)
        new.weight, new.bias = old.weight, old.bias
        module.set_submodule(place, new)
    return module


def _over_space(values: Tensor, like: Tensor) -> Tensor:
    """() or (C,) or (B, C), shaped to act on (B, C, *space)."""
    return values.reshape(*values.shape, *[1] * (like.dim() - 2)) if values.dim() else values
