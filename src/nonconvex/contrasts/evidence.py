"""Records of what a study says: effects per replicate, gates, and findings with their intervals."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from nonconvex import statistics
from nonconvex.records import Effect, Finding, GateValue


def effects(claim: str, values: pd.Series, role: str = "claim") -> list[Effect]:
    """One record per replicate of `values`, indexed by seed; replicates without a number are left out."""
    return [Effect(claim, role, int(seed), float(value)) for seed, value in values.items() if np.isfinite(value)]


def gates(claim: str, values: Mapping[str, float | None]) -> list[GateValue]:
    """What each gate of a claim was measured to be."""
    return [GateValue(claim, gate, _number(value)) for gate, value in values.items()]


def finding(
    row: str, model: str, quantity: str, values: Iterable[float], notebook: str, table: str = "properties"
) -> Finding:
    """Mean and 95 % t interval of the finite values; `n` counts them."""
    x = np.asarray(list(values), float)
    found = statistics.mean(x[np.isfinite(x)])
    numbers = (_number(v) for v in (found.estimate, found.low, found.high))
    return Finding(table, row, model, quantity, *numbers, found.n, notebook)


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
