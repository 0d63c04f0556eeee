"""What stacked networks predict on fixed examples, and how often two of them predict different classes."""

import torch
from torch import Tensor

from nonconvex.evaluation import CHUNK, recomputed, shared
from nonconvex.models.stacked import Params, Stacked, members


@torch.no_grad()
def log_probabilities(network: Stacked, params: Params, inputs: Tensor, x: Tensor) -> Tensor:
    """ln p (E, N, ..., classes) on x (N, ...), with normalisation statistics recomputed over `inputs`."""
    statistics, e = recomputed(network, params, inputs), members(params)
    return torch.cat([network(params, shared(part, e), statistics).log_softmax(-1) for part in x.split(CHUNK)], 1)


def disagreement(a: Tensor, b: Tensor) -> Tensor:
    """(E,) in float64: share of examples (and positions) whose most likely classes under a and b differ."""
    return (a.argmax(-1) != b.argmax(-1)).flatten(1).double().mean(1)
