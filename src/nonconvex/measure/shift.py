"""How far the inputs of a network's layers move between two steps, by their means and deviations per channel.

A stand-in for the internal covariate shift of Ioffe & Szegedy 2015, on what the normalisation layers put out.
Santurkar et al. 2018 look at the same distributions, and besides at gradients before and after the layers below move.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from nonconvex.models.altered import FrozenBatchNorm
from nonconvex.models.normalisation import BatchNorm, Bias, GroupNorm
from nonconvex.models.stacked import Stacked
from nonconvex.tensors import Params

LAYERS = (BatchNorm, FrozenBatchNorm, GroupNorm, Bias)
Moments = dict[str, tuple[Tensor, Tensor]]  # layer -> mean and standard deviation per channel, (E, C) each


@torch.no_grad()
def moments(network: Stacked, params: Params, x: Tensor) -> Moments:
    """What every normalisation layer puts out on the inputs x (E, B, ...), batch norm with their own statistics.

    The moments are over examples and space. ValueError for a network without such a layer.
    """
    layers = {name: layer for name, layer in network.module.named_modules() if isinstance(layer, LAYERS)}
    if not layers:
        raise ValueError(f"{type(network.module).__name__} has no normalisation layer of {_names()}")

    def one(params: Params, x: Tensor) -> Moments:
        found: Moments = {}
        handles = [layer.register_forward_hook(_kept_in(found, name)) for name, layer in layers.items()]
        functional_call(network.module, params, (x,))
        for handle in handles:
            handle.remove()
        return found

    network.module.train()
    return vmap(one)(params, x)


def shift(before: Moments, after: Moments) -> Tensor:
    """(E,): distance of the moments relative to the deviation, mean over layers.

    In a layer it is sqrt(Σ_c (m' - m)² + (s' - s)²) / sqrt(Σ_c s²): the 2-Wasserstein distance of Gaussians with these
    means and deviations, over the deviation; 0 where nothing moved.
    """
    parts = []
    for name, (m, s) in before.items():
        other_m, other_s = after[name]
        moved = (other_m - m).square() + (other_s - s).square()
        parts.append((moved.sum(1) / s.square().sum(1)).sqrt())
    return torch.stack(parts).mean(0)


def _kept_in(found: Moments, name: str):
    def hook(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        axes = [0, *range(2, output.dim())]
        found[name] = output.mean(axes), output.std(axes, correction=0)

    return hook


def _names() -> str:
    return ", ".join(layer.__name__ for layer in LAYERS)
