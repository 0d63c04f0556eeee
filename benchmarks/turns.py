"""Ways of doing the same work, timed in turn, and the files that every timing goes to."""

import csv
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
TARGET = 0.4  # seconds that one timed call should take, long against the clock and short against the machine's moods

Way = Callable[[], object]


def seconds(work: Way, device: str = "cpu") -> float:
    """Wall-clock time of `work`, what it left to do on the device included."""
    start = _now(device)
    work()
    return _now(device) - start


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def in_turn(ways: Mapping[str, Callable[[], float]], turns: int) -> Iterator[tuple[int, str, float]]:
    """(turn, way, what the way returned): every way once a turn, each turn beginning with another one.

    A drift of the machine's speed so meets all ways, and ratios are taken within a turn.
    """
    names = list(ways)
    for turn in range(turns):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            yield turn, name, ways[name]()


def repetitions(once: Callable[[], float], target: float = TARGET, least: int = 3, most: int = 400) -> int:
    """How often work of `once()` seconds must be repeated to last `target`; a first call, unlike, goes before."""
    once()
    return max(least, min(most, round(target / max(once(), 1e-6))))


def write(rows: Iterable, kind: type, path: Path) -> None:
    """Records of one dataclass as CSV, floats with six significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(kind)]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def thinned(names: Sequence[str], wanted: Sequence[str] | None, what: str) -> list[str]:
    """Those of `names` that are wanted, all by default; ValueError for one that is none of them."""
    if unknown := [name for name in wanted or () if name not in names]:
        raise ValueError(f"unknown {what} {', '.join(unknown)}; known: {', '.join(names)}")
    return [name for name in names if not wanted or name in wanted]
