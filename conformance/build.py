"""Build results/conformance.csv and .md: every tool in an environment of its own against the exact answers.

    python -m conformance.build

Each environment lies in .conformance/ and sees the packages of the Python that runs this, so that torch is the same
for all and is not downloaded again; the tool and what else it needs are installed in its own. PIP_ARGS is handed to
pip. Ten minutes of one core.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conformance import page, problems
from conformance.answers import QUANTITIES
from conformance.causes import cause
from conformance.verdicts import FAILED, WRONG, Row, judged

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".conformance"
MINUTES = 30  # for one tool


@dataclass(frozen=True)
class Tool:
    """`package` is its name for pip, empty for this project, which is installed already."""

    name: str
    adapter: str
    package: str = ""


TOOLS = (
    Tool("nonconvex", "with_nonconvex"),
    Tool("curvlinops", "with_curvlinops", "curvlinops-for-pytorch"),
    Tool("hessian-eigenthings", "with_eigenthings", "hessian-eigenthings"),
    Tool("pyhessian", "with_pyhessian", "pyhessian"),
)


@dataclass(frozen=True)
class Answers:
    """What an adapter printed; `given` holds a dictionary for each (problem, quantity), `trouble` its last words."""

    version: str
    offers: tuple[str, ...]
    given: dict[tuple[str, str], dict]
    trouble: str = ""

    def to(self, problem: str, quantity: str) -> dict | None:
        if quantity not in self.offers:
            return None
        return self.given.get((problem, quantity), {"error": self.trouble or "no answer"})


def asked(tool: Tool) -> Answers:
    """Install the tool and run its adapter; whatever goes wrong is an answer too."""
    python, trouble = environment(tool) if tool.package else (Path(sys.executable), "")
    if trouble:
        return Answers("none", QUANTITIES, {}, f"installation failed: {trouble}")
    return parsed(*finished([python, "-m", f"conformance.{tool.adapter}"]))


def environment(tool: Tool) -> tuple[Path, str]:
    """The Python of the tool's environment with its newest release, and what pip said if that failed."""
    folder = ENVIRONMENTS / tool.name
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True, symlinks=True)
        packages = next(folder.glob("lib/python*/site-packages"))
        (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", tool.package]
    pip += ["-c", "constraints.txt", *shlex.split(os.environ.get("PIP_ARGS", ""))]
    _, trouble = finished(pip)
    return python, trouble


def finished(command: list) -> tuple[str, str]:
    """What a command printed, and the last line of its complaint if it failed."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 * MINUTES)
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(), f"stopped after {MINUTES} minutes"
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return done.stdout, anonymous(lines[-1]) if done.returncode else ""


def parsed(output: str, trouble: str) -> Answers:
    """An adapter's lines; one that does not even begin offers everything and fails at all of it."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if not lines:
        return Answers("none", QUANTITIES, {}, f"import failed: {trouble}")
    given = {(line["problem"], line["quantity"]): line for line in lines[1:]}
    return Answers(lines[0]["version"], tuple(lines[0]["offers"]), given, trouble)


def anonymous(message: str) -> str:
    """Without addresses, and with the last part alone of every path."""
    message = re.sub(r"\w+://\S+", "<address>", message)
    return re.sub(r"(?:/[\w.+-]+)+/([\w.+-]+)", r"\1", message)


@cache
def solved() -> list[tuple[problems.Problem, problems.Exact]]:
    return [(problem, problems.exact(problem)) for problem in (build() for build in problems.PROBLEMS)]


def rows_of(tool: Tool, answers: Answers) -> Iterator[Row]:
    """A row for every problem and quantity."""
    for problem, exact in solved():
        for quantity in QUANTITIES:
            answer = answers.to(problem.name, quantity)
            yield explained(judged(problem, exact, quantity, tool.name, answers.version, answer))


def explained(row: Row) -> Row:
    """With the cause after the note, where the answer is wrong or missing and the cause is known."""
    why = cause(row.tool, row.version, row.problem, row.quantity) if row.outcome in (WRONG, FAILED) else ""
    note = anonymous(row.note) + (f"; {why}" if why else "")
    return Row(**{**vars(row), "note": note})


def main() -> None:
    rows = []
    for tool in TOOLS:
        print(f"{tool.name} ...", file=sys.stderr, flush=True)
        rows += rows_of(tool, asked(tool))
    page.write_csv(rows, ROOT / "results" / "conformance.csv")
    page.write_markdown(rows, ROOT / "results" / "conformance.md")


if __name__ == "__main__":
    main()
