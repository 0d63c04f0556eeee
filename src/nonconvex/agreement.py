"""Numbers of ours held against a published one."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from nonconvex import statistics

REPRODUCED, MISSED, UNDECIDED = "reproduced", "not reproduced", "undecided"


@dataclass(frozen=True)
class Agreement:
    """A mean with its 95 % interval over n runs, and what it says about the band [lowest, highest]."""

    mean: float
    low: float
    high: float
    n: int
    lowest: float
    highest: float
    verdict: str


def held_against(values: Sequence[float], lowest: float, highest: float, wanted: int) -> Agreement:
    """Reproduced where the interval of the mean lies within the band, not where it lies outside, else undecided.

    Undecided too where fewer than the `wanted` runs have a value: what diverged cannot be averaged away.
    """
    found = statistics.mean(values)
    inside = lowest <= found.low and found.high <= highest
    outside = found.high < lowest or found.low > highest
    word = REPRODUCED if inside else MISSED if outside else UNDECIDED
    limits = (found.estimate, found.low, found.high, found.n)
    return Agreement(*limits, lowest, highest, word if found.n == wanted else UNDECIDED)


def at_the_edge(points: pd.DataFrame, accuracy: float) -> pd.DataFrame:
    """For each rate and seed the mean of λ_max η / 2 from where it first reaches 1 to where `accuracy` is reached.

    `points` holds observations.references.PublishedPoint. `ratio` is missing for a run that never gets to the edge, or
    has too few readings there; `reached` says whether the accuracy was.
    """
    rows = []
    for (rate, seed), run in points.sort_values("step").groupby(["rate", "seed"]):
        ratio, done = run.sharpness * rate / 2, run.train_error <= 1 - accuracy
        run_up = ratio[~done.cummax()]  # up to the accuracy
        edge = run_up[(run_up >= 1).cummax()]
        rows.append((rate, seed, edge.mean() if len(edge) else None, len(edge), bool(done.any())))
    return pd.DataFrame(rows, columns=["rate", "seed", "ratio", "readings", "reached"])
