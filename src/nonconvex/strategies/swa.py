"""Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407, algorithm 1).

Formula: w_SWA <- (n w_SWA + w) / (n + 1), every `every` steps from the share `start` of the run on. Cost: 1 gradient
evaluation per step. Default start 0.75 (the paper's) and every 10 steps (the paper averages once per epoch or cycle;
runs here last a few epochs). Not known to help: on a schedule that decays to zero, whose late iterates hardly differ.
The averaged weights are what is evaluated and measured, with normalisation statistics recomputed at them.
"""

from dataclasses import dataclass, replace

import torch

from nonconvex.strategies.base import Strategy
from nonconvex.tensors import Params


@dataclass(frozen=True)
class Swa(Strategy):
    """Equal-weight average of the late iterates."""

    start: float = 0.75
    every: int = 10
    first: int = 0  # step of the first average, set by `bind`

    def bind(self, steps: int) -> "Swa":
        return replace(self, first=round(self.start * steps))

    def after_step(self, state: Params, step: int, params: Params) -> Params:
        if step < self.first or (step - self.first) % self.every:
            return state
        n = (step - self.first) // self.every
        mean = {f"swa.{name}": _towards(state.get(f"swa.{name}"), value, n) for name, value in params.items()}
        return {**state, **mean}

    def evaluation_params(self, state: Params, params: Params) -> Params:
        return {name: state.get(f"swa.{name}", value) for name, value in params.items()}


def _towards(mean: torch.Tensor | None, value: torch.Tensor, n: int) -> torch.Tensor:
    return value.clone() if mean is None else mean + (value - mean) / (n + 1)
