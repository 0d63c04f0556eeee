"""A gated recurrent unit that reads a vector as a sequence of numbers (Cho et al. 2014, arXiv 1406.1078, as PyTorch).

The recurrence is an explicit loop: torch's fused GRU works neither under `torch.func.vmap` nor with a stacked set of
weights. With `read="all"` the head sees the hidden states of all times, as in the recurrent baseline of MNIST-1D
(Greydanus & Kobak 2024: both directions, 6 units, 5,134 parameters); with `read="last"` only the last one, so that
what came first must pass through every step.
"""

from math import sqrt

import torch
from torch import Tensor, nn

READS = ("last", "all")


class Gru(nn.Module):
    """(B, length) -> (B, classes), one number a time step, `hidden` units, in one direction.

    Weights are drawn from U(-1/sqrt(hidden), 1/sqrt(hidden)) as torch.nn.GRU's; the head's are PyTorch's own.
    """

    def __init__(self, classes: int = 10, hidden: int = 12, length: int = 40, read: str = "last"):
        super().__init__()
        if read not in READS:
            raise ValueError(f"unknown read {read!r}; known: {', '.join(READS)}")
        self.hidden, self.read = hidden, read
        self.input = nn.Linear(1, 3 * hidden)  # rows: reset, update and new gate, in torch's order
        self.recurrent = nn.Linear(hidden, 3 * hidden)
        self.head = nn.Linear(hidden * (length if read == "all" else 1), classes)
        for parameter in (*self.input.parameters(), *self.recurrent.parameters()):
            nn.init.uniform_(parameter, -1 / sqrt(hidden), 1 / sqrt(hidden))

    def forward(self, x: Tensor) -> Tensor:
        states = self.states(x)
        return self.head(states[-1] if self.read == "last" else torch.cat(states, -1))

    def states(self, x: Tensor) -> list[Tensor]:
        """The hidden state (B, hidden) after each of the numbers (B, length), from zero."""
        h, states = x.new_zeros(len(x), self.hidden), []
        for at in self.input(x[..., None]).unbind(-2):
            h = self.step(at, h)
            states.append(h)
        return states

    def step(self, at: Tensor, h: Tensor) -> Tensor:
        """One step from h (B, hidden), `at` (B, 3 hidden) being the input's share of the gates."""
        of_state, n = self.recurrent(h), 2 * self.hidden
        # r, z = sigmoid(W x + U h);  n = tanh(W x + r * U h);  h <- (1 - z) n + z h
        r, z = (at[..., :n] + of_state[..., :n]).sigmoid().chunk(2, -1)
        new = (at[..., n:] + r * of_state[..., n:]).tanh()
        return new + z * (h - new)
