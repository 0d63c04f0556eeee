"""Two states of a table, cell by cell: IDENTICAL, AGREES (by how many standard errors) or DIFFERENT.

Rows are matched by what they are about (KEYS), so that their order does not matter. A cell is IDENTICAL where both
sides hold the same text. A mean, an estimate or a limit AGREES where it moved by at most `tolerance` standard errors,
the error being that of the old interval, (high - low) / 2 t with n - 1 degrees of freedom; a p-value where its normal
quantile moved by at most as much. Everything else that changed is DIFFERENT: words, counts, chosen rates, numbers
without an interval (beyond the rounding of the sixth digit), and every cell of a row or column that one side lacks.
docs/verifying.md says why the tolerance is what it is.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scipy import stats

from nonconvex.statistics import LEVEL

IDENTICAL, AGREES, DIFFERENT = WORDS = ("IDENTICAL", "AGREES", "DIFFERENT")
TOLERANCE = 0.5  # standard errors
ROUNDING = 1e-5  # relative: two roundings of one number to the tables' six digits
KEYS = ("claim", "row", "model", "strategy", "schedule", "quantity")  # the columns that say what a row is about
MEASURED = re.compile(r"(?:(.+)_)?(?:mean|estimate|low|high)")
P_VALUE = re.compile(r"(?:.+_)?p(?:_holm)?")

Row = dict[str, str]


class ComparisonError(RuntimeError):
    """Tables that cannot be compared, or nothing to compare; the message says why."""


@dataclass(frozen=True)
class Cell:
    """What one cell's comparison came to; `apart` is in standard errors, None where there is no such distance."""

    table: str
    row: tuple[str, ...]  # its cells in KEYS
    column: str
    old: str | None  # None where that side has no such cell
    new: str | None
    word: str
    apart: float | None = None

    @property
    def flipped(self) -> bool:
        """Whether this is a verdict, of a claim or of a cell of the text, that became another word."""
        return self.column.split("_")[-1] == "verdict" and self.word == DIFFERENT and None not in (self.old, self.new)


def flips(cells: Iterable[Cell]) -> list[Cell]:
    """The flipped verdicts, each once: a table repeats the words of the text's row beside every number of it."""
    first = {(cell.table, cell.row[:1], cell.column): cell for cell in cells if cell.flipped}
    return list(first.values())


def compare(table: str, old: str, new: str, tolerance: float = TOLERANCE) -> list[Cell]:
    """Every cell of either CSV text, rows in the order of the old one. ComparisonError where a row is not unique."""
    before, after = _rows(table, old), _rows(table, new)
    return [
        cell for key in {**before, **after} for cell in _row(table, key, before.get(key), after.get(key), tolerance)
    ]


def _row(table: str, key: tuple[str, ...], old: Row | None, new: Row | None, tolerance: float) -> Iterator[Cell]:
    """One cell per column of either side."""
    old, new = old or {}, new or {}
    for column in {**old, **new}:
        a, b = old.get(column), new.get(column)
        apart = distance(column, old, b) if a != b and a is not None and b is not None else None
        yield Cell(table, key, column, a, b, _word(a, b, apart, tolerance), apart)


def _word(old: str | None, new: str | None, apart: float | None, tolerance: float) -> str:
    if old == new:
        return IDENTICAL
    return AGREES if apart is not None and apart <= tolerance else DIFFERENT


def distance(column: str, old: Row, new: str) -> float | None:
    """Standard errors between a number of the row `old` and a new one; None for texts, infinite without a spread."""
    a, b = _number(old[column]), _number(new)
    if a is None or b is None:
        return None
    if abs(a - b) <= ROUNDING * abs(a):
        return 0.0
    if P_VALUE.fullmatch(column):
        return abs(float(stats.norm.isf(a / 2) - stats.norm.isf(b / 2)))
    error = standard_error(column, old)
    return abs(a - b) / error if error else math.inf


def standard_error(column: str, row: Row) -> float:
    """Of the mean that a cell states or limits, from its own interval; 0 where it has none."""
    measured = MEASURED.fullmatch(column)
    prefix = f"{measured[1]}_" if measured and measured[1] else ""
    low, high, n = (_number(row.get(f"{prefix}{part}", "")) for part in ("low", "high", "n"))
    if not measured or low is None or high is None or not n or n < 2:
        return 0.0
    # [low, high] = mean -+ t s / sqrt(n)
    return (high - low) / 2 / float(stats.t.ppf((1 + LEVEL) / 2, n - 1))


def _rows(table: str, text: str) -> dict[tuple[str, ...], Row]:
    """The rows by what they are about."""
    found: dict[tuple[str, ...], Row] = {}
    for row in csv.DictReader(io.StringIO(text, newline="")):
        if None in row or None in row.values():
            raise ComparisonError(f"{table}: a row with more or fewer cells than the header: {list(row.values())}")
        key = tuple(row[name] for name in KEYS if name in row)
        if key in found:
            raise ComparisonError(f"{table}: two rows found about {' / '.join(key) or 'nothing'}, one allowed")
        found[key] = row
    return found


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
