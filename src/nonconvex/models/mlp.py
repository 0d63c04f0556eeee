"""The fully connected network of the MNIST-1D benchmark (Greydanus & Kobak 2024)."""

from itertools import pairwise
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {"relu": F.relu, "tanh": torch.tanh, "gelu": F.gelu}


class Mlp(nn.Module):
    """`inputs` - widths - classes: (B, inputs) -> (B, classes). The defaults have 15,210 parameters.

    With `skip` a hidden layer as wide as its input adds it, h + activation(W h + b), as the benchmark's does.
    Weights are drawn from N(0, gain^2 / fan-in) with biases zero; gain None keeps PyTorch's own draw.
    """

    def __init__(
        self,
        classes: int = 10,
        inputs: int = 40,
        widths: tuple[int, ...] = (100, 100),
        activation: str = "relu",
        skip: bool = True,
        gain: float | None = sqrt(2),
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
        self.activation, self.skip = ACTIVATIONS[activation], skip
        sizes = [inputs, *widths]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], classes)
        if gain is not None:
            for layer in (*self.hidden, self.head):
                nn.init.normal_(layer.weight, std=gain / sqrt(layer.in_features))
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            h = self.activation(layer(x))
            x = x + h if self.skip and h.shape == x.shape else h
        return self.head(x)
