"""Two states of a table, cell by cell: IDENTICAL, AGREES (by how many standard errors) or DIFFERENT.

Rows are matched by what they are about (KEYS), so that their order does not matter. A cell is IDENTICAL where both
sides hold the same text. A mean, an estimate or a limit AGREES where it moved by at most `tolerance` half widths of
the old 95 % interval, so at the default where a mean still lies in it; a p-value where its normal quantile moved by at
most 1.96 `tolerance`. Distances are told in standard errors, (high - low) / 2 t with n - 1 degrees of freedom. All else
that changed is DIFFERENT: words, counts, chosen rates, numbers without an interval (beyond the rounding of the sixth
digit), and every cell of a row or column that one side lacks.
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
TOLERANCE = 1.0  # half widths of the cell's own interval
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
    def measured(self) -> bool:
        """Whether the column states an estimate; its limits and p would tell the same distance again."""
        return self.column.split("_")[-1] in ("mean", "estimate")

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


def rms(cells: Iterable[Cell]) -> float:
    """Root mean square of the finite distances: 0 for the same numbers, 1.6 for two independent sets of ten seeds."""
    found = [cell.apart for cell in cells if cell.measured and cell.apart is not None and cell.apart < math.inf]
    return math.sqrt(math.fsum(apart**2 for apart in found) / len(found)) if found else 0.0


def _row(table: str, key: tuple[str, ...], old: Row | None, new: Row | None, tolerance: float) -> Iterator[Cell]:
    """One cell per column of either side."""
    old, new = old or {}, new or {}
    for column in {**old, **new}:
        a, b = old.get(column), new.get(column)
        if a == b or a is None or b is None:
            yield Cell(table, key, column, a, b, IDENTICAL if a == b else DIFFERENT)
        else:
            error, reach = spread(column, old)
            apart = _apart(*_scale(column, a, b), error)
            agrees = apart is not None and apart <= tolerance * reach
            yield Cell(table, key, column, a, b, AGREES if agrees else DIFFERENT, apart)


def spread(column: str, row: Row) -> tuple[float, float]:
    """(standard error, half width of the interval in it) of a column's number; 0 where there is no interval."""
    if P_VALUE.fullmatch(column):
        return 1.0, float(stats.norm.ppf((1 + LEVEL) / 2))
    measured = MEASURED.fullmatch(column)
    prefix = f"{measured[1]}_" if measured and measured[1] else ""
    low, high, n = (_number(row.get(f"{prefix}{part}", "")) for part in ("low", "high", "n"))
    if not measured or low is None or high is None or not n or n < 2:
        return 0.0, 0.0
    # [low, high] = mean -+ t s / sqrt(n)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1))
    return (high - low) / 2 / reach, reach


def _scale(column: str, old: str, new: str) -> tuple[float | None, float | None]:
    """Both numbers, a p-value as its two-sided normal quantile."""
    a, b = (_number(value) for value in (old, new))
    return (_quantile(a), _quantile(b)) if P_VALUE.fullmatch(column) else (a, b)


def _quantile(p: float | None) -> float | None:
    return None if p is None else float(stats.norm.isf(p / 2))


def _apart(old: float | None, new: float | None, error: float) -> float | None:
    """Standard errors between two numbers; None where there is a text, infinite without an error."""
    if old is None or new is None:
        return None
    if abs(old - new) <= ROUNDING * abs(old):
        return 0.0
    return abs(old - new) / error if error else math.inf


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
