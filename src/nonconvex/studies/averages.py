"""Several averages of one trajectory: no average changes a run, so that one training serves them all."""

from collections.abc import Mapping

from nonconvex.strategies.base import Strategy
from nonconvex.strategies.ema import Ema
from nonconvex.strategies.swa import Swa
from nonconvex.study_settings.averaging import Averaging
from nonconvex.tensors import Params

LAST, SWA = "last", "swa"


class Alongside(Strategy):
    """Strategies that act on the same run side by side, each with a memory of its own.

    `Compose` refuses two owners of the evaluated weights; here each keeps its own, and they are asked for by name.
    Only strategies that leave the trajectory alone may be among them: ValueError for another.
    """

    def __init__(self, parts: Mapping[str, Strategy]):
        self.parts = dict(parts)
        for name, part in self.parts.items():
            for moment in ("wrap", "gradients", "before_step"):
                if getattr(type(part), moment) is not getattr(Strategy, moment):
                    raise ValueError(f"{name}: {type(part).__name__} changes the run ({moment}); allowed: averages")

    def bind(self, steps: int) -> "Alongside":
        return Alongside({name: part.bind(steps) for name, part in self.parts.items()})

    def after_step(self, state: Params, step: int, params: Params) -> Params:
        moved = {}
        for name, part in self.parts.items():
            own = part.after_step(_of(name, state), step, params)
            moved |= {f"{name}/{key}": value for key, value in own.items()}
        return moved

    def averages(self, state: Params, params: Params) -> dict[str, Params]:
        """The weights that each part evaluates, by name, in order."""
        return {name: part.evaluation_params(_of(name, state), params) for name, part in self.parts.items()}


def _of(name: str, state: Params) -> Params:
    return {key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")}


def averages_of(study: Averaging, model: str) -> Alongside:
    """The last iterate and every average of a bed."""
    moving = {ema(decay): Ema(decay) for decay in study.beds[model].decays}
    return Alongside({LAST: Strategy(), SWA: Swa(study.start, study.every), **moving})


def ema(decay: float) -> str:
    """The name of a moving average."""
    return f"ema_{decay:g}"
