"""What the pipeline costs beside the work: nothing to do, one changed stage, and the share of a whole run.

The first two are timed in a fresh clone of the last commit. The third is read from the timings that the notebook runner
leaves in logs/ for every stage of an uninterrupted `make reproduce`.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks.curved import ROOT
from benchmarks.turns import seconds

STAGE = "tables"  # nothing depends on it, and its own work takes seconds
WORK = re.compile(r"^\w+-(train|connectivity|study)-")  # logs of stages that train and measure
OPENING = 4  # cells before the work: title, parameters, the profile's parameters, imports
KINDS = ("training and measuring", "reading", "imports", "notebook runner", "between stages")
LONGEST = 120.0  # seconds between two stages of one run; more is two runs


@dataclass(frozen=True)
class Timing:
    """`seconds` of a command; `work` are those that the notebook's cells took of them."""

    job: str
    turn: int
    seconds: float
    work: float


@dataclass(frozen=True)
class Stage:
    """The seconds of one stage of a whole run by kind, in the order in which the stages ended."""

    stage: str
    kind: str
    seconds: float


# A clone


def measure(turns: int, say: Callable[[str], None]) -> list[Timing]:
    """Timings of `dvc repro`; ValueError where the committed results do not belong to the committed code."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        run(["git", "clone", "--quiet", str(ROOT), str(clone)], ROOT)
        if stale := json.loads(run(["dvc", "status", "--json", "dvc.yaml", "data/dvc.yaml"], clone)):
            raise ValueError(f"out of date, so that nothing can be timed: {', '.join(sorted(stale))}")
        return [timing for timing in timed(clone, turns, say)]


def timed(clone: Path, turns: int, say: Callable[[str], None]) -> Iterator[Timing]:
    """The first check after a clone, then pairs of an idle one and one with a changed stage."""
    say("nothing to do")
    yield Timing("first check of a fresh clone", 0, repro(clone), 0.0)
    for turn in range(turns):
        yield Timing("nothing to do", turn, repro(clone), 0.0)
        say(f"a changed stage: {STAGE}")
        change(clone / "notebooks" / f"{STAGE}.ipynb", turn)
        took = repro(clone)
        cells = json.loads((clone / "logs" / f"cpu-{STAGE}.json").read_text())["cells"]
        yield Timing("one changed stage", turn, took, sum(filter(None, cells)))


def repro(clone: Path) -> float:
    return seconds(lambda: run(["dvc", "repro", "--quiet"], clone))


def change(notebook: Path, turn: int) -> None:
    """A word more in the notebook's title cell."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["cells"][0]["source"] = [*content["cells"][0]["source"], f"\n\nTurn {turn}."]
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def run(command: list[str], folder: Path) -> str:
    """Standard output; RuntimeError with the end of what went wrong."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:2])} failed: {done.stderr.strip()[-400:]}")
    return done.stdout


# The logs of a whole run


def parts(logs: Path, profile: str = "cpu") -> list[Stage]:
    """Where the time of a run went, from the logs of its notebooks.

    Raises ValueError where a folder holds none, or stages that cannot have followed one another.
    """
    found = {path.stem: json.loads(path.read_text()) for path in sorted(logs.glob(f"{profile}-*.json"))}
    if not found:
        raise ValueError(f"no timings {profile}-*.json in {logs}; `make reproduce` leaves them there")
    ordered = sorted(found.items(), key=lambda item: item[1]["finished"])
    previous, stages = None, []
    for name, log in ordered:
        ended = datetime.fromisoformat(log["finished"])
        between = (ended - previous).total_seconds() - log["seconds"] if previous else 0.0
        if not -5.0 < between < LONGEST:
            raise ValueError(f"{name} began {between:.0f} s after the stage before it: these are logs of several runs")
        stages += [Stage(name, kind, value) for kind, value in split(name, log, max(between, 0.0)).items()]
        previous = ended
    return stages


def split(name: str, log: dict, between: float) -> dict[str, float]:
    """The seconds of one stage by kind."""
    cells = [value or 0.0 for value in log["cells"]]
    work = "training and measuring" if WORK.match(name) else "reading"
    return {
        work: sum(cells[OPENING:]),
        "imports": sum(cells[:OPENING]),
        "notebook runner": log["seconds"] - sum(cells),
        "between stages": between,
    }
