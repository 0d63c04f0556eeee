"""The noise after batch norm of Santurkar et al. 2018, as buffers of a network with `NoisyBatchNorm`.

Every number is a function of (seed, step, layer): a member's noise depends on no other member, and a run can be
repeated or cut anywhere.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from nonconvex.data.splits import draws
from nonconvex.models.altered import NoisyBatchNorm
from nonconvex.models.stacked import Stacked
from nonconvex.study_settings.normalization import Noise
from nonconvex.tensors import Params

STREAM = 1 << 16  # of the first layer's draws (data.splits.draws); the following ones belong to the other layers


def drawn(how: Noise, network: Stacked, seeds: Sequence[int], step: int, examples: int) -> Params:
    """`gain` and `shift` (E, examples, C) of every noisy layer at one step, constant over space.

    For example i and channel c: shift_ic ~ U(m_c - r, m_c + r) with m_c ~ U(-shift, shift), and gain_ic uniform around
    s_c with standard deviation q, s_c ~ U(1, gain); r = `shift_spread`, q = `gain_spread`. The paper's algorithm draws
    gain_ic from a Gaussian and may mean one draw per place in a convolutional network (from memory, unchecked).
    """
    found, device = {}, _device(network)
    for i, (name, channels) in enumerate(_channels(network).items()):
        u = np.stack([uniforms((2 + 2 * examples) * channels, seed, step, STREAM + i) for seed in seeds])
        u = torch.from_numpy(u).to(device).view(len(seeds), 2 + 2 * examples, channels)
        shifts, gains = u[:, 2 : 2 + examples], u[:, 2 + examples :]
        centre, scale = how.shift * (2 * u[:, :1] - 1), 1 + (how.gain - 1) * u[:, 1:2]
        # a uniform number on [-1, 1] has the standard deviation 1 / sqrt 3
        found[f"{name}.shift"] = (centre + how.shift_spread * (2 * shifts - 1)).float()
        found[f"{name}.gain"] = (scale + how.gain_spread * math.sqrt(3) * (2 * gains - 1)).float()
    return found


def mean(how: Noise, network: Stacked, members: int) -> Params:
    """`gain` and `shift` (E,) at their expectations: the network without noise, as dropout is evaluated."""
    one = torch.ones(members, device=_device(network))
    of_layer = {"gain": (1 + how.gain) / 2 * one, "shift": 0 * one}
    return {f"{name}.{kind}": value for name in _channels(network) for kind, value in of_layer.items()}


def uniforms(count: int, seed: int, step: int, stream: int) -> np.ndarray:
    """(count,) float64 in [0, 1)."""
    return (draws(count, seed, step, stream) >> np.uint64(11)) * 2.0**-53


def _channels(network: Stacked) -> dict[str, int]:
    layers = network.module.named_modules()
    return {name: len(layer.weight) for name, layer in layers if isinstance(layer, NoisyBatchNorm)}


def _device(network: Stacked) -> torch.device:
    return next(network.module.parameters()).device
