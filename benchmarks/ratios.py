"""Medians, ranges and ratios of repeats, as numbers and as text."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd


def significant(value: float, digits: int = 2) -> str:
    """At least `digits` significant digits, thousands in groups, no exponent for what people read without one."""
    if not math.isfinite(value):
        return "—"
    if value and abs(value) < 1e-3:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{places}f}"


def spread(values: Sequence[float]) -> str:
    """Median (smallest to largest), a dash where there is nothing."""
    if not len(values):
        return "—"
    low, middle, high = (significant(f(values), 3) for f in (min, np.median, max))
    return f"{middle} ({low}–{high})"


def times(values: Sequence[float]) -> str:
    """Ratios as `spread` writes them, the median standing out."""
    if not len(values):
        return "—"
    low, middle, high = (significant(f(values)) for f in (min, np.median, max))
    return f"**{middle}x** ({low}–{high})"


def within(frame: pd.DataFrame, value: str, by: str, one: object, other: object) -> list[float]:
    """value of `one` over that of `other`, turn by turn."""
    pivot = frame.pivot_table(value, "turn", by)
    return (pivot[one] / pivot[other]).dropna().tolist() if {one, other} <= set(pivot) else []


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Exponent p of y ~ x^p by least squares in the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
