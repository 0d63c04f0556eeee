"""Hold the tables of a re-run against the committed ones.

    python -m nonconvex.compare results/cpu/tables results/cpu/verdicts.csv
        [--rev HEAD | --against FOLDER] [--rtol 0.02] [--atol 0.01]

One verdict per CSV table. IDENTICAL: the same bytes. AGREES: the same rows, columns and texts, and every
number within |new - old| <= atol + rtol |old|; the largest difference is named. DIFFERENT: anything else, or
a table that only one side has. Exit codes: 0 nothing differs, 1 something does, 2 nothing to compare with.
"""

import argparse
import csv
import io
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Cells = list[list[str]]
Read = Callable[[str], bytes | None]  # name of a table -> its bytes, None where there is none


class ComparisonError(RuntimeError):
    """There is nothing to compare with; the message says why."""


@dataclass(frozen=True)
class Verdict:
    """What one table's comparison came to."""

    word: str  # IDENTICAL, AGREES or DIFFERENT
    detail: str = ""


@dataclass(frozen=True)
class Difference:
    """Two numbers that are not equal, and where."""

    size: float
    row: int
    column: str
    old: float
    new: float
    within: bool

    def __str__(self) -> str:
        return f"{self.column}, row {self.row}: {self.old:g} -> {self.new:g}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nonconvex.compare", description="Compare tables.")
    parser.add_argument("tables", type=Path, nargs="+", help="the new tables: CSV files, or folders of them")
    parser.add_argument("--rev", default="HEAD", help="git revision that holds the old ones (HEAD)")
    parser.add_argument("--against", type=Path, help="folder that holds the old ones, where there is no git")
    parser.add_argument("--rtol", type=float, default=0.02, help="tolerance relative to the old number")
    parser.add_argument("--atol", type=float, default=0.01, help="absolute tolerance")
    options = parser.parse_args(arguments)
    try:
        verdicts = {path: v for given in options.tables for path, v in _compared(given, options).items()}
    except ComparisonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path, verdict in verdicts.items():
        print(f"{verdict.word:<10} {path}  {verdict.detail}".rstrip())
    return int(any(verdict.word == "DIFFERENT" for verdict in verdicts.values()))


def _compared(given: Path, options: argparse.Namespace) -> dict[Path, Verdict]:
    """The verdicts on one argument, a table or a folder of them."""
    folder, pattern = (given.parent, given.name) if given.suffix == ".csv" else (given, "**/*.csv")
    names, read = _folder(options.against) if options.against else _revision(folder, options.rev)
    if given != folder:
        names = [name for name in names if name == given.name]
    verdicts = compare(folder, names, read, options.rtol, options.atol, pattern)
    return {folder / name: verdict for name, verdict in verdicts.items()}


def compare(
    folder: Path, names: Sequence[str], read: Read, rtol: float, atol: float, pattern: str = "**/*.csv"
) -> dict[str, Verdict]:
    """A verdict for every table of either side, by name. Raises ComparisonError when there is none at all."""
    here = [path.relative_to(folder).as_posix() for path in folder.glob(pattern)]
    if not (everywhere := sorted({*here, *names})):
        raise ComparisonError(f"no CSV table in {folder}, nor where it is compared with")
    pairs = {name: (read(name), _bytes(folder / name)) for name in everywhere}
    return {name: judge(old, new, rtol, atol) for name, (old, new) in pairs.items()}


def judge(old: bytes | None, new: bytes | None, rtol: float, atol: float) -> Verdict:
    """IDENTICAL, AGREES or DIFFERENT, and why."""
    if old is None or new is None:
        return Verdict("DIFFERENT", "only in the new tables" if old is None else "only in the old tables")
    if old == new:
        return Verdict("IDENTICAL")
    before, after = _cells(old), _cells(new)
    if before[:1] != after[:1] or _shape(before) != _shape(after) or len(set(_shape(before))) > 1:
        return Verdict("DIFFERENT", "other rows or columns")
    if text := _changed_text(before, after):
        return Verdict("DIFFERENT", text)
    return _by_numbers(_differences(before, after, rtol, atol))


def _by_numbers(found: list[Difference]) -> Verdict:
    largest = max(found, key=lambda difference: difference.size, default=None)
    if outside := [difference for difference in found if not difference.within]:
        worst = max(outside, key=lambda difference: difference.size)
        return Verdict("DIFFERENT", f"{len(outside)} numbers outside tolerance; largest at {worst}")
    detail = f"largest difference at {largest}" if largest else "same cells, written otherwise"
    return Verdict("AGREES", detail)


def _differences(old: Cells, new: Cells, rtol: float, atol: float) -> list[Difference]:
    """Every pair of unequal numbers, in the order of the table; rows count from 1 without the header."""
    return [
        _difference(row, column, float(a), float(b), rtol, atol)
        for row, column, a, b in _pairs(old, new)
        if _is_number(a) and _is_number(b) and not _equal(float(a), float(b))
    ]


def _difference(row: int, column: str, old: float, new: float, rtol: float, atol: float) -> Difference:
    both_finite = math.isfinite(old) and math.isfinite(new)
    size = abs(new - old) if both_finite else math.inf
    return Difference(size, row, column, old, new, within=both_finite and size <= atol + rtol * abs(old))


def _changed_text(old: Cells, new: Cells) -> str:
    """The first cell that is not a number on both sides and has changed; empty when there is none."""
    for row, column, a, b in _pairs(old, new):
        if a != b and not (_is_number(a) and _is_number(b)):
            return f"{column}, row {row}: {a!r} -> {b!r}"
    return ""


def _pairs(old: Cells, new: Cells) -> list[tuple[int, str, str, str]]:
    header = old[0] if old else []
    return [
        (row, column, a, b)
        for row, (before, after) in enumerate(zip(old[1:], new[1:], strict=True), start=1)
        for column, a, b in zip(header, before, after, strict=True)
    ]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _equal(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _cells(table: bytes) -> Cells:
    return list(csv.reader(io.StringIO(table.decode(), newline="")))


def _shape(cells: Cells) -> list[int]:
    return [len(row) for row in cells]


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _folder(folder: Path) -> tuple[list[str], Read]:
    """The tables of another folder."""
    if not folder.is_dir():
        raise ComparisonError(f"there is no folder {folder}")
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.csv")]
    return names, lambda name: _bytes(folder / name)


def _revision(folder: Path, revision: str) -> tuple[list[str], Read]:
    """The tables of the same folder as git recorded them."""
    listed = _git(folder, "ls-tree", "-r", "--name-only", revision, "--", ".").decode().splitlines()
    names = [name for name in listed if name.endswith(".csv")]
    return names, lambda name: _git(folder, "show", f"{revision}:./{name}") if name in names else None


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=True).stdout
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode().strip()
        raise ComparisonError(f"git: {said}; --against FOLDER compares without git") from None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ComparisonError(f"{error}; --against FOLDER compares without git") from None


if __name__ == "__main__":
    sys.exit(main())
