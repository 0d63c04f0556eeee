"""From the endpoints that training left to connectivity records: which pairs, and cohorts of them over all cores."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nonconvex.beds import bed_of, spread
from nonconvex.config import Settings
from nonconvex.measure.connectivity import Pair, Problem, connect
from nonconvex.measure.symmetries import symmetries
from nonconvex.models.stacked import Stacked
from nonconvex.paths import Results
from nonconvex.plan import baseline_arms, dealt
from nonconvex.progress import counted
from nonconvex.records import Barrier, PathPoint
from nonconvex.tensors import Params

INDEPENDENT = ("linear", "aligned", "curve")


@dataclass(frozen=True)
class Ends:
    """A pair and the evaluated weights, without a member axis, at its two ends."""

    pair: Pair
    a: dict[str, Tensor]
    b: dict[str, Tensor]


@dataclass(frozen=True)
class Found:
    """Connectivity records in the order of the arms."""

    barriers: list[Barrier]
    points: list[PathPoint]


Endpoints = dict[tuple[str, str], dict[tuple[int, str], dict[str, Tensor]]]  # arm -> (seed, phase) -> weights


def read_endpoints(settings: Settings, files: Results, model: str) -> Endpoints:
    """The evaluated weights of every arm through the baseline; runs that diverged are left out.

    Raises FileNotFoundError, or ValueError naming a file that is cut off or no safetensors.
    """
    found: Endpoints = {arm: {} for arm in baseline_arms(settings)}
    for strategy in settings.grid.strategies:
        for name, value in _weights(files.endpoints(model, strategy)).items():
            schedule, seed, phase, parameter = name.split("/")
            found[strategy, schedule].setdefault((int(seed), phase), {})[parameter] = value
    return {arm: {key: w for key, w in runs.items() if _finite(w)} for arm, runs in found.items()}


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error}); run its training stage again") from None


def _finite(weights: dict[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in weights.values())


def ring(model: str, endpoints: Endpoints) -> list[Ends]:
    """Each arm's runs in a ring, every one with the next; two runs make a single pair."""
    return [
        Ends(Pair(model, strategy, schedule, a, b), runs[a, "reported"], runs[b, "reported"])
        for (strategy, schedule), runs in endpoints.items()
        for a, b in neighbours([seed for seed, phase in runs if phase == "reported"])
    ]


def neighbours(seeds: Sequence[int]) -> list[tuple[int, int]]:
    """(s_i, s_i+1) around the ring of sorted seeds."""
    seeds = sorted(seeds)
    return list(zip(seeds, [*seeds[1:], *seeds[: len(seeds) > 2]], strict=False))


def siblings(model: str, endpoints: Endpoints) -> list[Ends]:
    """Every run that has a sibling, with it."""
    return [
        Ends(Pair(model, strategy, schedule, seed, seed), runs[seed, "reported"], weights)
        for (strategy, schedule), runs in endpoints.items()
        for (seed, phase), weights in sorted(runs.items(), key=lambda item: item[0])
        if phase == "sibling" and (seed, "reported") in runs
    ]


def connect_all(settings: Settings, model: str, independent: Sequence[Ends], forked: Sequence[Ends]) -> Found:
    """All paths of all pairs, in cohorts spread over worker processes."""
    cohort = settings.connectivity[model].cohort
    jobs = [
        partial(connect_cohort, settings, model, kinds, part, total=len(independent) * len(INDEPENDENT) + len(forked))
        for kinds, ends in ((INDEPENDENT, independent), (("siblings",), forked))
        for part in (dealt(ends, cohort) if ends else [])
    ]
    found = spread(settings, jobs)
    rank = {arm: i for i, arm in enumerate(baseline_arms(settings))}
    order = lambda row: (rank[row.strategy, row.schedule], row.kind, row.seed_a)  # noqa: E731
    return Found(
        sorted((row for one in found for row in one.barriers), key=order),
        sorted((row for one in found for row in one.points), key=order),
    )


def connect_cohort(settings: Settings, model: str, kinds: Sequence[str], ends: Sequence[Ends], total: int) -> Found:
    """One cohort of pairs along every kind of path."""
    torch.set_num_threads(1)
    bed = bed_of(settings, model)
    module = bed.build().to(bed.device)
    problem = Problem(Stacked(module), symmetries(module), bed.loss, bed.data, settings.connectivity[model])
    a, b = (_stacked([getattr(end, side) for end in ends], module, bed.device) for side in "ab")
    with counted(f"{model} paths", total) as advance:
        found = []
        for kind in kinds:
            found += connect(problem, a, b, [end.pair for end in ends], [kind])
            advance(len(ends), kind)
    return Found([row for one in found for row in one.barriers()], [row for one in found for row in one.points()])


def _stacked(weights: Sequence[dict[str, Tensor]], module: torch.nn.Module, device: str) -> Params:
    """One member per set of weights, parameters in the module's order and precision."""
    return {name: torch.stack([w[name] for w in weights]).to(device, p.dtype) for name, p in module.named_parameters()}
