"""Saved rows: their types, and a tidy CSV form, written byte for byte the same and never misread in silence.

A record type is a frozen dataclass; its fields are the columns, in order, and their annotations say what a
cell may hold. `KEY` names the fields that together occur once.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from nonconvex.columns import RecordError, Within, columns_of
from nonconvex.paths import replaced

if TYPE_CHECKING:
    import pandas as pd

Count = Annotated[int, Within(low=0)]
Share = Annotated[float, Within(0, 1)]  # an error rate
Size = Annotated[float, Within(low=0)]


@dataclass(frozen=True)
class Run:
    """One training from one seed: losses in nats, errors as shares; a diverged run has its step instead."""

    KEY: ClassVar = ("model", "strategy", "schedule", "phase", "seed", "rate")
    model: str
    strategy: str
    schedule: str
    phase: Literal["tuning", "reported", "sibling"]
    seed: Count
    rate: Size
    steps: Count
    gradient_evaluations: Count
    diverged_step: Count | None
    train_loss: float | None
    train_error: Share | None
    validation_loss: float | None
    validation_error: Share | None
    test_loss: float | None
    test_error: Share | None


@dataclass(frozen=True)
class CurvePoint:
    """Mean minibatch loss over one window of a reported run; `rate` is the schedule's value at `step`."""

    KEY: ClassVar = ("model", "strategy", "schedule", "seed", "step")
    model: str
    strategy: str
    schedule: str
    seed: Count
    step: Count
    rate: Size
    loss: float | None


@dataclass(frozen=True)
class MeasurementRow:
    """One number about one point in weight space, with all that must be said for it to mean something."""

    KEY: ClassVar = (
        "model",
        "strategy",
        "schedule",
        "seed",
        "quantity",
        "method",
        "loss",
        "normalisation",
        "dtype",
    )
    model: str
    strategy: str
    schedule: str
    seed: Count
    rate: Size
    quantity: str
    value: float | None
    standard_error: Size | None
    residual: Size | None
    iterations: Count | None
    method: str
    loss: str
    reduction: str
    examples: Count
    examples_sha256: str
    normalisation: str
    parameters: str
    dtype: str


@dataclass(frozen=True)
class Barrier:
    """How far a path rises above the straight line between its ends, in nats (loss) or as a share (error)."""

    KEY: ClassVar = ("model", "strategy", "schedule", "kind", "seed_a", "seed_b", "split", "metric")
    model: str
    strategy: str
    schedule: str
    kind: Literal["linear", "curve", "aligned", "siblings"]
    seed_a: Count
    seed_b: Count
    split: Literal["train", "test"]
    metric: Literal["loss", "error"]
    barrier: float | None


@dataclass(frozen=True)
class PathPoint:
    """Loss and error at position `t` in [0, 1] of a path between two runs."""

    KEY: ClassVar = ("model", "strategy", "schedule", "kind", "seed_a", "seed_b", "t")
    model: str
    strategy: str
    schedule: str
    kind: Literal["linear", "curve", "aligned", "siblings"]
    seed_a: Count
    seed_b: Count
    t: Share
    train_loss: float | None
    train_error: Share | None
    test_loss: float | None
    test_error: Share | None


@dataclass(frozen=True)
class Finding:
    """What a notebook found for a row of one of the text's tables, or for its prose."""

    KEY: ClassVar = ("table", "row", "model", "quantity")
    table: Literal["properties", "factors", "strategies", "schedules", "prose"]
    row: str
    model: str
    quantity: str
    mean: float | None
    low: float | None
    high: float | None
    n: Count
    notebook: str


@dataclass(frozen=True)
class Effect:
    """A claim's contrast in one replicate, or that of one of its controls, in the claim's unit.

    The sign is that of the contrast as the claim words it. Replicates are independent, or jackknife
    pseudo-values over independent units.
    """

    KEY: ClassVar = ("claim", "role", "replicate")
    claim: str
    role: Literal["claim", "same_arm", "shuffled_labels"]
    replicate: Count
    value: float


@dataclass(frozen=True)
class GateValue:
    """What a gate of a claim was measured to be; blank where it could not be measured, which fails it."""

    KEY: ClassVar = ("claim", "gate")
    claim: str
    gate: str
    value: float | None


def write(path: Path, rows: Iterable[Any], record_type: type | None = None) -> None:
    r"""Write records of one type to `path` (CSV), replacing it in one move.

    Columns in field order, nine significant digits, blank for None, NaN and infinities, '\n' line ends.
    `record_type` is needed only where there may be no rows. Raises RecordError for a row that `read` would refuse,
    and OSError naming the file where the disk does not take it; `path` is then as it was.
    """
    rows = list(rows)
    found = {type(row) for row in rows} | ({record_type} if record_type else set())
    if len(found) != 1:
        names = ", ".join(sorted(kind.__name__ for kind in found)) or "none"
        raise RecordError(f"{path}: record types found: {names}; one allowed")
    kind = found.pop()
    lines = [[_text(getattr(row, name)) for name in columns_of(kind)] for row in rows]
    _parse(path, kind, lines)
    with replaced(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([list(columns_of(kind)), *lines])


def read(path: Path, record_type: type[Any]) -> "pd.DataFrame":
    """The rows of `path`, one column per field: text, int64 (Int64 if it may be blank) or float64.

    Raises RecordError that names file, line, column, what was found and what is allowed.
    """
    if not Path(path).is_file():
        raise RecordError(f"{path}: no such file")
    text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    if not text.endswith("\n"):
        raise RecordError(f"{path}: cut off, the last line does not end")
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    allowed = list(columns_of(record_type))
    if header != allowed:
        raise RecordError(f"{path}: columns found: {', '.join(header)}; allowed: {', '.join(allowed)}")
    return _parse(path, record_type, lines)


def empty(record_type: type[Any]) -> "pd.DataFrame":
    """No rows, with the columns and types that `read` gives."""
    return _parse(Path(), record_type, [])


def _parse(path: Path, record_type: type[Any], lines: Sequence[Sequence[str]]) -> "pd.DataFrame":
    import pandas as pd  # see columns.Column.series

    columns = columns_of(record_type)
    for number, line in enumerate(lines, start=2):
        if len(line) != len(columns):
            raise RecordError(f"{path}: line {number}: {len(line)} cells found, {len(columns)} allowed")
    cells = list(zip(*lines, strict=True)) or [()] * len(columns)
    named = zip(columns.items(), cells, strict=True)
    frame = pd.DataFrame({name: column.series(path, name, found) for (name, column), found in named})
    twice = frame.duplicated(list(record_type.KEY))
    if twice.any():
        at = int(twice.to_numpy().argmax())
        key = ", ".join(f"{name}={frame[name].iloc[at]}" for name in record_type.KEY)
        raise RecordError(f"{path}: line {at + 2}: {key} found twice, once allowed")
    return frame


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Integral):
        return str(int(value))
    number = float(value) + 0.0  # no negative zero
    return f"{number:.9g}" if math.isfinite(number) else ""
