"""What the cells of a record's columns may hold, read from the annotations of its fields."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import pandas as pd

SLACK = 1e-6  # a float32 mean of ones may exceed one by rounding
PLAIN = frozenset("+-.0123456789e")  # what a number is written with; float() would take more
NOUNS = {str: "text", int: "a whole number", float: "a number"}


class RecordError(ValueError):
    """A record file, or a row about to become one, that is not what its type allows."""


@dataclass(frozen=True)
class Within:
    """The closed range that a number may lie in."""

    low: float = -math.inf
    high: float = math.inf

    def __contains__(self, number: float) -> bool:
        return math.isfinite(number) and self.low - SLACK <= number <= self.high + SLACK

    def __str__(self) -> str:
        low = f" from {self.low:g}" if math.isfinite(self.low) else ""
        return low + (f" to {self.high:g}" if math.isfinite(self.high) else "")


@dataclass(frozen=True)
class Column:
    """Text, or one of `options`, or a number `within` a range; blank only where it is `optional`."""

    kind: type
    within: Within = Within()
    options: tuple[str, ...] = ()
    optional: bool = False

    @property
    def allowed(self) -> str:
        """In words, for the error."""
        noun = " or ".join(self.options) or NOUNS[self.kind] + str(self.within)
        return noun + (" or blank" if self.optional else "")

    @property
    def dtype(self) -> str:
        """What pandas holds the column as; blanks among whole numbers need a type of their own."""
        if self.kind is int:
            return "Int64" if self.optional else "int64"
        return {str: "str", float: "float64"}[self.kind]

    def value(self, cell: str) -> str | int | float | None:
        """The cell as a value; ValueError for one that is not allowed."""
        if cell == "" and self.optional:
            return None
        if self.kind is str:
            if not cell.isprintable() or cell not in (self.options or {cell} - {""}):
                raise ValueError
            return cell
        number = self.kind(cell)
        if number not in self.within or not PLAIN.issuperset(cell):
            raise ValueError
        return number

    def series(self, path: Path, name: str, cells: Sequence[str]) -> "pd.Series":
        """The cells, the first of which stands on line 2 of `path`."""
        import pandas as pd  # a second that the training processes, which only make records, need not spend

        values = []
        for line, cell in enumerate(cells, start=2):
            try:
                values.append(self.value(cell))
            except ValueError:
                found = f"{cell!r} found" if cell else "blank found"
                raise RecordError(f"{path}: line {line}, column {name}: {found}, {self.allowed} allowed") from None
        return pd.Series(values, dtype=self.dtype, name=name)


def columns_of(record_type: type) -> dict[str, Column]:
    """The columns of a record type by name, in field order."""
    hints = get_type_hints(record_type, include_extras=True)
    return {field.name: _column(hints[field.name]) for field in fields(record_type)}


def _column(hint: Any) -> Column:
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return Column(str, options=parts)
    if get_origin(hint) is Annotated:
        return Column(parts[0], within=parts[1])
    if NoneType in parts:
        return replace(_column(parts[0]), optional=True)
    return Column(hint)
