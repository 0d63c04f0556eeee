"""Space-filling designs over hyperparameters, and the optimizer that lets them differ between members of a cohort."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from nonconvex.data.splits import draws, permutation
from nonconvex.optimizers import State
from nonconvex.study_settings.rate_importance import Ranges, RateImportance
from nonconvex.tensors import Params, per_member

STRATA, PLACES = 1 << 28, 9  # epoch of the first column's permutation, and stream of the places inside strata
COLUMNS = ("rate", "momentum", "weight_decay", "gain", "schedule", "dummy")  # of the hypercube
PAIRS = len(COLUMNS)  # number of the permutation that deals out pairs of batch size and width
RUNS = 1 << 22  # seed of initial weights and data order of the first run of block 0; above every seed in use


@dataclass(frozen=True)
class Point:
    """The hyperparameters of one run."""

    block: int
    row: int
    rate: float
    momentum: float
    weight_decay: float
    gain: float
    batch_size: int
    width: int
    schedule: str
    dummy: float

    @property
    def seed(self) -> int:
        """Of initial weights and data order: no two runs share it."""
        return RUNS + self.block * 1024 + self.row


def latin_hypercube(runs: int, columns: int, seed: int) -> np.ndarray:
    """(runs, columns) in (0, 1): every column has one value in each of `runs` equal strata (McKay et al. 1979)."""
    strata = np.stack([permutation(runs, seed, STRATA + column) for column in range(columns)], axis=1)
    inside = draws(runs * columns, seed, 0, PLACES).reshape(runs, columns) / 2.0**64
    # u = (pi(i) + v) / n
    return (strata + inside) / runs


def block(study: RateImportance, seed: int) -> list[Point]:
    """A block: a Latin hypercube, and every pair of batch size and width as often as every other."""
    cube, ranges = latin_hypercube(study.runs, len(COLUMNS), seed), study.ranges
    pairs = list(product(ranges.batch_sizes, ranges.widths)) * study.repeats
    dealt = permutation(study.runs, seed, STRATA + PAIRS)
    return [
        _point(ranges, seed, row, dict(zip(COLUMNS, u, strict=True)), *pairs[dealt[row]]) for row, u in enumerate(cube)
    ]


def _point(ranges: Ranges, seed: int, row: int, u: dict[str, float], batch_size: int, width: int) -> Point:
    logs = {name: logarithmic(*getattr(ranges, name), u[name]) for name in ("rate", "weight_decay", "gain")}
    low, high = ranges.momentum
    return Point(
        seed,
        row,
        momentum=float(low + (high - low) * u["momentum"]),
        batch_size=batch_size,
        width=width,
        schedule=ranges.schedules[int(u["schedule"] * len(ranges.schedules))],
        dummy=float(u["dummy"]),
        **logs,
    )


def logarithmic(low: float, high: float, u: float) -> float:
    """The place u in [0, 1] of a range, uniform in the logarithm."""
    # low (high / low)^u
    return float(low * math.exp(u * math.log(high / low)))


@dataclass(frozen=True)
class MemberSgd:
    """`optimizers.Sgd` whose momentum and weight decay (E,) are each member's own."""

    momentum: Tensor
    weight_decay: Tensor

    def init(self, params: Params) -> State:
        return {"velocity": {name: torch.zeros_like(value) for name, value in params.items()}}

    def update(self, params: Params, grads: Params, state: State, rates: Tensor, step: int) -> tuple[Params, State]:
        # g <- g + wd w;  v <- mu v + g;  w <- w - eta v
        names, w = list(params), list(params.values())
        each = lambda values: [per_member(values, p) for p in w]  # noqa: E731
        g = torch._foreach_add([grads[n] for n in names], torch._foreach_mul(w, each(self.weight_decay)))
        v = torch._foreach_mul([state["velocity"][n] for n in names], each(self.momentum))
        torch._foreach_add_(v, g)
        moved = torch._foreach_mul(v, each(-rates))
        return dict(zip(names, torch._foreach_add(w, moved), strict=True)), {
            "velocity": dict(zip(names, v, strict=True))
        }


def scaled(params: Params, gains: Sequence[float]) -> Params:
    """Initial parameters drawn at gain one, at each member's own gain; biases are zero and stay it."""
    # w ~ N(0, gain^2 / fan-in)
    factors = torch.tensor(gains, dtype=torch.float64)
    return {name: value * per_member(factors.to(value.device), value) for name, value in params.items()}
