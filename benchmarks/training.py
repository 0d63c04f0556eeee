"""Runs per minute: a cohort against the loop that a user of PyTorch would write, plain and compiled.

All on the same model, initial weights, batches and rates. One process of one thread, and one such process per core;
over the number E of members, the batch size and the width of the network.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks import plain
from benchmarks.turns import in_turn, repetitions, seconds
from nonconvex import config, train
from nonconvex.beds import Bed, bed_of
from nonconvex.experiment import cohort_of
from nonconvex.models.stacked import stack
from nonconvex.plan import Member

BEDS = ("resnet", "transformer", "mlp")
MEMBERS = (1, 4, 16, 64)
USUAL = 16  # members where something else varies
BATCHES = (0.25, 1, 4)  # times the bed's own
WIDTHS = {
    "resnet": ({"width": 4}, {"width": 8}, {"width": 16}, {"width": 32}),
    "transformer": ({"width": 24}, {"width": 48}, {"width": 96}),
    "mlp": ({"widths": (50, 50)}, {"widths": (100, 100)}, {"widths": (200, 200)}, {"widths": (400, 400)}),
}
COHORT, PLAIN, COMPILED, THREADED = "cohort", "plain loop", "compiled loop", "plain loop, a thread per core"
SAME = 8  # updates over which the losses of loop and cohort are compared
CACHE = Path(".benchmarks") / "compiler"


@dataclass(frozen=True)
class Timing:
    """`seconds` for `steps` updates of `members` runs in each of `processes`; a run has `run_steps` updates.

    `first_seconds` is the first call of the way, which compiles where something is compiled.
    """

    bed: str
    way: str
    processes: int
    members: int
    batch: int
    parameters: int
    turn: int
    steps: int
    seconds: float
    run_steps: int
    first_seconds: float


@dataclass(frozen=True)
class Agreement:
    """The largest relative difference between the losses of `way` and of the cohort over the first `steps` updates."""

    bed: str
    way: str
    batch: int
    parameters: int
    steps: int
    difference: float


@dataclass(frozen=True)
class Case:
    """What is trained: everything but the way."""

    bed: str
    batch: int
    changes: tuple[tuple[str, object], ...] = ()  # of the architecture
    params: str = "params.yaml"
    device: str = "cpu"

    def build(self) -> Bed:
        """The bed with this batch size and architecture."""
        bed = bed_of(_settings(self.params, self.device), self.bed)
        changed = {"batch_size": self.batch, "architecture": {**bed.training.architecture, **dict(self.changes)}}
        return replace(bed, training=bed.training.model_copy(update=changed))


@lru_cache
def _settings(params: str, device: str) -> config.Settings:
    settings = config.read(params)
    return settings.model_copy(update={"compute": settings.compute.model_copy(update={"device": device})})


def cases(bed: str, params: str, device: str) -> Iterator[tuple[Case, tuple[int, ...], tuple[str, ...]]]:
    """Each case with its numbers of members and the loops that it is held against."""
    own = _settings(params, device).train[bed]
    for factor in BATCHES:
        case = Case(bed, round(factor * own.batch_size), params=params, device=device)
        yield case, MEMBERS if factor == 1 else (USUAL,), (PLAIN, COMPILED)
    for change in WIDTHS[bed]:
        if any(own.architecture.get(key) != _plain(value) for key, value in change.items()):
            yield Case(bed, own.batch_size, tuple(change.items()), params, device), (USUAL,), (PLAIN,)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def parameters(bed: Bed) -> int:
    return sum(value.numel() for value in bed.build().parameters())


# Ways: functions of a number of updates that go on from where they were


def cohort(bed: Bed, members: int) -> Callable[[int], torch.Tensor]:
    """The losses (steps, E) of that many updates from the start of a cohort."""
    runs = _runs(bed, members)
    network, params = stack(bed.build, [run.seed for run in runs], bed.device)
    made = cohort_of(bed, network, "none", runs, fork=0.0)
    start = train.start(made, params)
    return lambda steps: torch.stack([state.losses for state in train.train(made, start, until=steps)])


def loop(bed: Bed, compiled: bool = False, seed: int = 0) -> Callable[[int], torch.Tensor]:
    """The losses (steps,) of that many updates by the plain loop, the first of them from the start of the run."""
    model, optimizer = stack(bed.build, [seed], bed.device)[0].module, bed.training.optimizer
    made = plain.loop(model, optimizer.name, dict(optimizer.options), compiled)
    rates = _rates(bed)
    drawn: plain.Batches = []

    def run(steps: int) -> torch.Tensor:
        while len(drawn) < steps:
            x, y = bed.data.train.batch([seed], len(drawn), bed.training.batch_size)
            drawn.append((x[0], y[0]))
        return torch.stack(made.run(drawn[:steps], rates[:steps]))

    return run


def _runs(bed: Bed, members: int) -> list[Member]:
    rate = sorted(bed.training.rates)[len(bed.training.rates) // 2]
    return [Member("cosine", rate, seed, "reported") for seed in range(members)]


def _rates(bed: Bed) -> list[float]:
    network, _ = stack(bed.build, [0], bed.device)
    return cohort_of(bed, network, "none", _runs(bed, 1), fork=0.0).rates[:, 0].tolist()


def way(name: str, bed: Bed, members: int) -> Callable[[int], torch.Tensor]:
    return cohort(bed, members) if name == COHORT else loop(bed, compiled=name == COMPILED)


# Timing


def measure(bed: str, params: str, device: str, turns: int, say: Callable[[str], None]) -> tuple[list, list]:
    """(timings, agreements) of a bed in one process and, on a CPU, in one process per core."""
    timings, agreements = [], []
    for case, members, loops in cases(bed, params, device):
        say(f"{bed}, batches of {case.batch}" + "".join(f", {key} {value}" for key, value in case.changes))
        timings += alone(case, members, loops, turns)
        agreements += agreement(case, loops)
    if device == "cpu":
        say(f"{bed}, all cores")
        timings += side_by_side(Case(bed, _settings(params, device).train[bed].batch_size, (), params), turns)
    return timings, agreements


def alone(case: Case, members: tuple[int, ...], loops: tuple[str, ...], turns: int) -> list[Timing]:
    """Every way in this process."""
    bed = case.build()
    ways = {(name, 1): way(name, bed, 1) for name in loops} | {(COHORT, e): way(COHORT, bed, e) for e in members}
    first, steps = {}, {}
    for key, run in ways.items():
        first[key] = seconds(partial(run, 1), case.device)
        steps[key] = repetitions(lambda run=run: seconds(partial(run, 4), case.device) / 4, most=bed.training.steps)
    timed = {key: lambda key=key: seconds(partial(ways[key], steps[key]), case.device) for key in ways}
    return [_timing(case, bed, key, 1, turn, steps[key], took, first[key]) for turn, key, took in in_turn(timed, turns)]


def _timing(case: Case, bed: Bed, key: tuple[str, int], processes: int, turn: int, steps: int, took, first) -> Timing:
    name, members = key
    size, whole = parameters(bed), bed.training.steps
    return Timing(case.bed, name, processes, members, case.batch, size, turn, steps, took, whole, first)


def agreement(case: Case, loops: tuple[str, ...]) -> list[Agreement]:
    """Do the loops reach the losses of the cohort's first member?"""
    bed = case.build()
    expected = cohort(bed, 2)(SAME)[:, 0]
    found = {name: way(name, bed, 1)(SAME) for name in loops}
    return [
        Agreement(case.bed, name, case.batch, parameters(bed), SAME, float(((part - expected) / expected).abs().max()))
        for name, part in found.items()
    ]


# One process per core


def side_by_side(case: Case, turns: int) -> list[Timing]:
    """One process of one thread per core, all at once; and the plain loop in one process with a thread per core."""
    cores = os.cpu_count() or 1
    bed, spawn = case.build(), get_context("spawn")
    with ProcessPoolExecutor(cores, spawn, _prepare, (spawn.Barrier(cores),)) as pool:
        keys = [(PLAIN, 1), (COMPILED, 1), (COHORT, USUAL)]
        first = {key: _all(pool, cores, case, key, 1) for key in keys}
        steps = {key: repetitions(lambda key=key: _all(pool, cores, case, key, 4) / 4, most=400) for key in keys}
        timed = {key: lambda key=key: _all(pool, cores, case, key, steps[key]) for key in keys}
        threaded = (THREADED, 1)
        first[threaded], steps[threaded] = 0.0, steps[PLAIN, 1]
        timed[threaded] = partial(_threaded, loop(bed), steps[threaded], cores)
        return [
            _timing(case, bed, key, 1 if key == threaded else cores, turn, steps[key], took, first[key])
            for turn, key, took in in_turn(timed, turns)
        ]


def _all(pool: ProcessPoolExecutor, cores: int, case: Case, key: tuple[str, int], steps: int) -> float:
    """Seconds of the slowest of `cores` processes that begin together."""
    return max(job.result() for job in [pool.submit(_one, case, key, steps) for _ in range(cores)])


def _prepare(barrier) -> None:
    """A worker: one thread, and a barrier at which every task waits, so that no worker takes two at once."""
    global _barrier
    _barrier = barrier
    torch.set_num_threads(1)
    keep_compiled()


def _one(case: Case, key: tuple[str, int], steps: int) -> float:
    run = _built(case, key)
    _barrier.wait()
    return seconds(partial(run, steps))


@lru_cache(maxsize=8)
def _built(case: Case, key: tuple[str, int]) -> Callable[[int], torch.Tensor]:
    return way(key[0], case.build(), key[1])


def _threaded(run: Callable[[int], torch.Tensor], steps: int, threads: int) -> float:
    torch.set_num_threads(threads)
    try:
        return seconds(partial(run, steps))
    finally:
        torch.set_num_threads(1)


def keep_compiled() -> None:
    """What the compiler made lies in .benchmarks/, so that the second run of the benchmark does not wait for it."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(CACHE.resolve())
