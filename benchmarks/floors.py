"""How far from the machine's best: operations of the products over the measured peak, and what the time goes into."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import curved, training
from benchmarks.training import Case
from benchmarks.turns import seconds
from benchmarks.with_nonconvex import hessian

REPEATS = 10
# Kernels by what they do; everything else that is timed is bookkeeping: views, autograd's nodes, Python.
KINDS = {
    "products": r"mm$|bmm|addmm|convolution|baddbmm|mkldnn",
    "copies": r"copy_|::cat|fill_|zero_|index|clone|constant_pad|slice_backward|gather",
    "pointwise and sums": r"add|mul|sub|div|neg|pow|sum|mean|sqrt|exp|log|softmax|threshold|clamp|where|norm|relu|lerp"
    r"|foreach|nll|isfinite|eq|ne|abs|bitwise|any|all",
}
BOOKKEEPING = "bookkeeping"


@dataclass(frozen=True)
class Floor:
    """Operations of the matrix products and convolutions of one unit of a job, two for a multiply and an add."""

    job: str
    unit: str
    members: int
    operations: float


@dataclass(frozen=True)
class Part:
    """Seconds of one unit of a job that a kind of kernel takes, under the profiler."""

    job: str
    kind: str
    seconds: float


def measure(params: str, device: str) -> tuple[list[Floor], list[Part]]:
    """An update of a cohort of 16 on every bed, and a Hessian-vector product on every curved problem."""
    floors, parts = [], []
    for bed in training.BEDS:
        size = training._settings(params, device).train[bed].batch_size
        built = Case(bed, size, params=params, device=device).build()
        floors.append(Floor(bed, "update", training.USUAL, operations(partial(training.loop(built), 1))))
        parts += shares(bed, partial(training.cohort(built, training.USUAL), REPEATS), REPEATS * training.USUAL)
    for name in curved.PROBLEMS if device == "cpu" else ():
        operator = hessian(curved.problem(name))
        vector = torch.randn_like(operator.like)
        floors.append(Floor(f"Hessian of {name}", "product", 1, operations(lambda o=operator, v=vector: o @ v)))
        parts += shares(f"Hessian of {name}", lambda o=operator, v=vector: [o @ v for _ in range(REPEATS)], REPEATS)
    return floors, parts


def operations(work: Callable) -> float:
    """Of the products that `work` makes."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def shares(job: str, work: Callable, units: int) -> list[Part]:
    """Seconds by kind of kernel, scaled to what `work` takes without the profiler."""
    work()
    whole = min(seconds(work) for _ in range(3))
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        work()
    spent: Counter[str] = Counter()
    for event in recorded.key_averages():
        spent[kind(event.key)] += event.self_cpu_time_total / 1e6
    spent[BOOKKEEPING] += 0.0
    total = sum(spent.values())
    return [Part(job, name, value / total * whole / units) for name, value in spent.items()]


def kind(key: str) -> str:
    """Of an event of the profiler: only kernels' own names count, not those of autograd's nodes."""
    if not key.startswith("aten::"):
        return BOOKKEEPING
    return next((name for name, pattern in KINDS.items() if re.search(pattern, key)), BOOKKEEPING)
