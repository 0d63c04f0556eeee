"""Exponential moving average of the weights (Polyak & Juditsky 1992; Morales-Brotons et al. 2024, arXiv 2411.18704).

Formula: w_EMA <- decay * w_EMA + (1 - decay) * w after every step, from w_EMA = w after the first. Cost: 1 gradient
evaluation per step. Default decay 0.99, a horizon of 100 steps, because the default runs last hundreds of steps
(0.999 and more is usual for long ones). Not known to help: on a schedule that decays to zero. The averaged weights
are what is evaluated and measured, with normalisation statistics recomputed at them.
"""

from dataclasses import dataclass

from nonconvex.strategies.base import Strategy
from nonconvex.tensors import Params


@dataclass(frozen=True)
class Ema(Strategy):
    """Average over a horizon of 1 / (1 - decay) steps."""

    decay: float = 0.99

    def after_step(self, state: Params, step: int, params: Params) -> Params:
        moved = {
            f"ema.{name}": state.get(f"ema.{name}", value).lerp(value, 1 - self.decay) for name, value in params.items()
        }
        return {**state, **moved}

    def evaluation_params(self, state: Params, params: Params) -> Params:
        return {name: state.get(f"ema.{name}", value) for name, value in params.items()}
