"""Convolutions that start as orthogonal maps of every place by itself (Xiao et al. 2018, algorithm 2).

The central tap is a matrix with orthonormal columns and all other taps are zero, so that a convolution turns the
channels of every place and mixes no neighbours: |W x| = gain |x| for every input x, whatever the depth.
"""

from math import sqrt

import torch
from torch import Tensor, nn

from nonconvex.models.resnet import Convolution


@torch.no_grad()
def delta_orthogonal(network: nn.Module, gain: float = sqrt(2)) -> nn.Module:
    """`network` with the weights of all its convolutions drawn anew from torch's generator; the rest stays.

    Gain sqrt(2) makes up for the half of the squared norm that a relu takes from a symmetric input. ValueError for a
    convolution with fewer channels out than in: it cannot preserve norms.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, Convolution):
            out, channels = layer.weight.shape[:2]
            if out < channels:
                raise ValueError(f"{name} takes {channels} channels to {out}; allowed: at least as many as it takes")
            layer.weight.zero_()
            centre(layer).copy_(gain * nn.init.orthogonal_(torch.empty(out, channels)))
    return network


def centre(layer: Convolution) -> Tensor:
    """(C', C): the tap that meets the place itself, a view of the weight."""
    return layer.weight[(..., *[layer.kernel // 2] * (layer.weight.dim() - 2))]
