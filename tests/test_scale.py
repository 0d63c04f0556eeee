"""The growth benchmark: planted exponents are found, and the committed file and figure are complete."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks" / "scale.py")
scale = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scale)


def grown(power: float, noise: float = 0.0) -> pd.DataFrame:
    """Six sizes, five repeats; the two smallest sizes cost the same, and one repeat of each size was disturbed."""
    rows = []
    for i, size in enumerate((1, 2, 4, 8, 16, 32)):
        seconds = max(size, 4) ** power * (1 + noise * (-1) ** i)
        rows += [("members", "update", size, repeat, seconds * (9 if repeat == 3 else 1), 1.0) for repeat in range(5)]
    return pd.DataFrame(rows, columns=["axis", "what", "size", "repeat", "seconds", "mebibytes"])


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_an_exponent_is_that_of_the_large_sizes_and_of_undisturbed_repeats(power):
    (row,) = scale.exponents(grown(power)).itertuples()
    assert row.exponent == pytest.approx(power) and row.sizes == 4 and row.largest == 32
    assert row.seconds == pytest.approx(32**power)


def test_an_interval_widens_with_what_the_line_leaves_over():
    (row,) = scale.exponents(grown(1.0, noise=0.1)).itertuples()
    assert row.low < 1 < row.high and 0.1 < row.high - row.low < 2
