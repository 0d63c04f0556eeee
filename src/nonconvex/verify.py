"""Run the pipeline again and hold its tables against the committed ones, which stay as they are.

    python -m nonconvex.verify [STAGE ...]         in a copy of the committed state, .verify/run
    python -m nonconvex.verify --here [STAGE ...]  in place: the results are overwritten
    python -m nonconvex.verify --against FOLDER    runs nothing: FOLDER holds results made elsewhere

Named stages run together with everything that depends on them; without names the whole profile runs. Every cell of the
tables and of verdicts.csv is IDENTICAL, AGREES or DIFFERENT (`nonconvex.compare`). Exit codes: 0 no cell is different,
1 some are, 2 the comparison could not be made.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Column, Table

from nonconvex import committed
from nonconvex.compare import AGREES, DIFFERENT, IDENTICAL, TOLERANCE, WORDS, Cell, ComparisonError, compare, flips, rms

RESULTS = Path("results", "cpu")
SCRATCH = Path(".verify")
SHOWN = 10  # of the cells that moved most


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 where all agrees, 1 where something differs, 2 where nothing could be compared."""
    options = _options(arguments)
    console = Console(soft_wrap=True, highlight=False)
    try:
        old, new = _results(options)
        cells = compared(old, new, options.tolerance)
    except (ComparisonError, committed.NotCommitted) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    show(console, cells, options.tolerance)
    return int(any(cell.word == DIFFERENT for cell in cells))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m nonconvex.verify", description="Hold a re-run against the tables.")
    parser.add_argument("stages", nargs="*", help="stages of dvc.yaml to run, with all that depends on them")
    parser.add_argument("--here", action="store_true", help="run in place instead of in a copy")
    parser.add_argument("--against", type=Path, help="compare with these results (a folder like results/cpu)")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"in half widths ({TOLERANCE:g})")
    options = parser.parse_args(arguments)
    if options.against and (options.here or options.stages):
        parser.error("--against runs nothing: neither --here nor stages are allowed beside it")
    if not 0 <= options.tolerance < float("inf"):
        parser.error(f"--tolerance {options.tolerance} found, a number from 0 allowed")
    return options


def _results(options: argparse.Namespace) -> tuple[Path, Path]:
    """(the folder with the committed results, the folder with the others)."""
    if options.against:
        return RESULTS, options.against
    _refuse_strangers(options.stages)
    before = SCRATCH / "committed"
    committed.export(Path(), before)
    run = Path() if options.here else _copied(before, SCRATCH / "run")
    rerun(run, options.stages)
    return before / RESULTS, run / RESULTS


def _refuse_strangers(stages: Sequence[str]) -> None:
    known = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    if strangers := [stage for stage in stages if stage.split("@")[0] not in known]:
        raise ComparisonError(f"no stage {', '.join(strangers)} in dvc.yaml; allowed: {', '.join(known)}")


def _copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target)


def rerun(folder: Path, stages: Sequence[str]) -> None:
    """Force the stages and their descendants, or all, with the package that lies in the folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str((folder / "src").resolve())}
    command = [sys.executable, "-m", "dvc", "repro", "--force", *(["--downstream", *stages] if stages else [])]
    if code := subprocess.run(command, cwd=folder, env=environment).returncode:
        raise ComparisonError(f"dvc repro ended with exit code {code} in {folder.resolve()}; its logs/ say where")


def compared(old: Path, new: Path, tolerance: float = TOLERANCE) -> list[Cell]:
    """Every cell of the tables and verdicts of two result folders. ComparisonError where either has none."""
    for folder in (old, new):
        if not _tables(folder):
            raise ComparisonError(f"no table found in {folder}, tables/*.csv and verdicts.csv expected")
    names = sorted({*_tables(old), *_tables(new)})
    return [cell for name in names for cell in compare(name, _text(old / name), _text(new / name), tolerance)]


def _tables(folder: Path) -> list[str]:
    found = [*folder.glob("tables/*.csv"), *folder.glob("verdicts.csv")]
    return [path.relative_to(folder).as_posix() for path in found]


def _text(path: Path) -> str:
    """Without the table every row is missing."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def show(console: Console, cells: Sequence[Cell], tolerance: float) -> None:
    """Counts by table, the cells that moved most, the verdicts that flipped, and the outcome in one line."""
    console.print(_counts(cells))
    for cell in worst(cells):
        console.print(f"{cell.word:<9}  {_place(cell)}", markup=False)
    for cell in flips(cells):
        console.print(f"FLIPPED    {_place(cell)}", markup=False)
    console.print(outcome(cells, tolerance), markup=False)


def worst(cells: Sequence[Cell], shown: int = SHOWN) -> list[Cell]:
    """The first of those that changed: where there is no distance, then the furthest apart, then what agrees."""
    changed = [cell for cell in cells if cell.word != IDENTICAL and not cell.flipped]
    rank = lambda cell: (cell.word != DIFFERENT, cell.apart is not None, -(cell.apart or 0))  # noqa: E731
    return sorted(changed, key=rank)[:shown]


def outcome(cells: Sequence[Cell], tolerance: float) -> str:
    """The comparison in one line."""
    words = Counter(cell.word for cell in cells)
    if words[DIFFERENT]:
        return f"{DIFFERENT}: {words[DIFFERENT]} of {len(cells)} cells; {len(flips(cells))} verdicts flipped."
    same = f"{words[IDENTICAL]} cells are the same"
    if not words[AGREES]:
        return f"{IDENTICAL}: {same}; no verdict flipped."
    return f"{AGREES}: {same}, {words[AGREES]} within {tolerance:g} half widths of an interval; no verdict flipped."


def _place(cell: Cell) -> str:
    apart = "" if cell.apart is None else f"  ({cell.apart:.2g} standard errors)"
    return f"{cell.table}: {' / '.join(cell.row)}: {cell.column}: {_side(cell.old)} -> {_side(cell.new)}{apart}"


def _side(text: str | None) -> str:
    return "missing" if text is None else repr(text)


def _counts(cells: Sequence[Cell]) -> Table:
    """Distances are in standard errors; the root mean square is over the estimates."""
    words = (word.lower() for word in WORDS)
    view = Table(Column("table", no_wrap=True), *words, "flipped", "furthest", "rms", box=None)
    for name in dict.fromkeys(cell.table for cell in cells):
        of_table = [cell for cell in cells if cell.table == name]
        counts = Counter(cell.word for cell in of_table)
        furthest = max((cell.apart for cell in of_table if cell.apart is not None), default=0.0)
        flipped, distances = len(flips(of_table)), (f"{furthest:.2g}", f"{rms(of_table):.2g}")
        view.add_row(name, *(str(counts[word]) for word in WORDS), str(flipped), *distances)
    return view


if __name__ == "__main__":
    sys.exit(main())
