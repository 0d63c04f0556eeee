"""The strip of a claim: a dot per replicate, mean with interval, zero and margin, for the claim and its controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from nonconvex import statistics
from website.evidence import Evidence

WIDTH, LEFT, RIGHT = 420, 8, 8  # of the drawing, in its own units
TOP, LANE, AXIS = 18, 46, 36
LABELS = {"claim": "effect d", "same_arm": "control: same arm", "shuffled_labels": "control: shuffled labels"}


@dataclass(frozen=True)
class Lane:
    """One role: where its dots, its mean and its interval lie."""

    label: str
    y: float
    dots: Sequence[tuple[float, float, str]]  # x, y, what the dot says
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Strip:
    """A drawing of `WIDTH` units; a value v lies at `origin + v * scale`."""

    height: float
    origin: float
    scale: float
    lanes: Sequence[Lane]
    ticks: Sequence[tuple[float, str]]
    margins: Sequence[float]
    width: int = WIDTH

    @property
    def foot(self) -> float:
        return self.height - AXIS


def strip(evidence: Evidence) -> Strip | None:
    """None for a claim without replicates."""
    roles = {role: values for role, values in evidence.roles.items() if values}
    if "claim" not in roles:
        return None
    margin = evidence.claim.margin
    margins = (-margin, margin) if evidence.claim.kind == "equivalence" else (margin,)
    origin, scale = _scale([0.0, *margins, *_extent(roles)])
    lanes = [_lane(n, role, roles[role], origin, scale) for n, role in enumerate(r for r in LABELS if r in roles)]
    low, high = (LEFT - origin) / scale, (WIDTH - RIGHT - origin) / scale
    ticks = [t for t in MaxNLocator(5).tick_values(low, high) if low <= t <= high]
    return Strip(
        TOP + LANE * len(lanes) + AXIS,
        origin,
        scale,
        lanes,
        [(origin + t * scale, f"{t:g}") for t in ticks],
        margins,
    )


def _extent(roles: Mapping[str, Mapping[int, float]]) -> list[float]:
    found = [statistics.mean(list(values.values())) for values in roles.values()]
    limits = [limit for one in found for limit in (one.low, one.high) if limit == limit]
    return [*limits, *(value for values in roles.values() for value in values.values())]


def _scale(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    reach = (high - low) or 1.0
    low, high = low - 0.04 * reach, high + 0.04 * reach
    scale = (WIDTH - LEFT - RIGHT) / (high - low)
    return LEFT - low * scale, scale


def _lane(number: int, role: str, values: Mapping[int, float], origin: float, scale: float) -> Lane:
    y, found = TOP + LANE * number + LANE * 0.62, statistics.mean(list(values.values()))
    dots = [
        (origin + value * scale, y - 9 + 3 * (place % 3 - 1), f"replicate {replicate}: {value:.4g}")
        for place, (replicate, value) in enumerate(values.items())
    ]
    limits = (None if v != v else origin + v * scale for v in (found.low, found.high))
    return Lane(f"{LABELS[role]}, n = {found.n}", y, dots, origin + found.estimate * scale, *limits)
