"""Curvature at equal accuracy: how long, and how much memory, until an answer is as good as asked for.

`calibrate` holds every tool's answers against the whole Hessian and picks, for each tool and quantity, the cheapest
setting that is accurate enough on all seeds; `measure` times those settings, the tools in turn, on other seeds. Every
tool runs in a process of its own, in the environment that `conformance` makes for it.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median

import pandas as pd
from scipy.stats import wasserstein_distance

from benchmarks import curved
from benchmarks.turns import RESULTS, in_turn
from conformance import build

ROOT = Path(__file__).resolve().parents[1]
# What an answer may be off by: lambda_max relative, on every seed; the trace relative, root mean square over seeds; the
# density in Wasserstein distance to the eigenvalues, relative to their range, mean over seeds.
TARGETS = {"lambda_max": 1e-3, "trace": 0.03, "density": 2e-3}
TOOLS = (*build.TOOLS, build.Tool("scipy", "with_scipy"))
SEEDS = {"lambda_max": 5, "trace": 10, "density": 5}  # of a calibration
TIMED = 1000  # seeds of the timed calls begin here
CALIBRATION = RESULTS / "calibration.csv"
LEVEL = 0.95  # of the error before: one rung of a density's ladder that gains less is the last
PATIENCE = 90.0  # processor seconds for all seeds of one setting; what costs more is not tried


@dataclass(frozen=True)
class Trial:
    """One setting of one tool over the seeds of a calibration; `processor` seconds are the median of a call."""

    problem: str
    quantity: str
    tool: str
    version: str
    setting: str
    seeds: int
    error: float
    processor: float
    accurate: bool
    chosen: bool
    note: str


@dataclass(frozen=True)
class Timing:
    """One timed call: seconds from model and batch to answer, rise of the resident memory, error of the answer."""

    problem: str
    parameters: int
    quantity: str
    tool: str
    version: str
    setting: str
    turn: int
    seconds: float
    megabytes: float
    error: float


class Server:
    """A tool's process; `ask` waits for its reply."""

    def __init__(self, tool: build.Tool, process: subprocess.Popen):
        self.tool, self._process = tool, process
        hello = json.loads(process.stdout.readline() or '{"version": "none", "offers": {}}')
        self.version, self.offers = hello["version"], hello["offers"]

    def ask(self, **request) -> dict:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline() or '{"error": "the process ended"}')


@contextmanager
def served(tool: build.Tool) -> Iterator[Server]:
    """The tool's process in its environment, which is made if it is not there."""
    python = build.ENVIRONMENTS / tool.name / "bin" / "python" if tool.package else Path(sys.executable)
    if not python.exists():
        python, trouble = build.environment(tool)
        if trouble:
            print(f"{tool.name}: installation failed: {trouble}", file=sys.stderr)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([python, "-m", f"benchmarks.{tool.adapter}"], cwd=ROOT, **pipes) as process:
        try:
            yield Server(tool, process)
        finally:
            process.stdin.close()


@cache
def exact(name: str) -> curved.Exact:
    """The answer of the whole Hessian, which `calibrate` has kept."""
    return curved.load(dense_file(name))


def dense_file(name: str) -> Path:
    return RESULTS / f"spectrum-{name}.npz"


def error(name: str, quantity: str, answer) -> float:
    """How far an answer is off, in the quantity's unit (see TARGETS)."""
    truth = exact(name)
    if quantity == "density":
        places, weights = answer
        return wasserstein_distance(places, truth.eigenvalues, weights) / truth.range
    expected = truth.eigenvalues[-1] if quantity == "lambda_max" else truth.trace
    return abs(answer - expected) / abs(expected)


SUMMARIES: dict[str, Callable[[list[float]], float]] = {
    "lambda_max": max,
    "trace": lambda errors: fmean(value**2 for value in errors) ** 0.5,
    "density": fmean,
}


# Calibration


def calibrate(names: list[str], tools: list[str], say: Callable[[str], None]) -> list[Trial]:
    """Every setting up to the first accurate one of each of a tool's methods, the cheapest accurate one chosen."""
    trials = []
    for name in names:
        if not dense_file(name).exists() or not curved.belongs(exact(name), curved.problem(name)):
            say(f"{name}: the whole Hessian")
            curved.save(curved.exact(curved.problem(name)), dense_file(name))
            exact.cache_clear()
        for tool in (tool for tool in TOOLS if tool.name in tools):
            say(f"{name}: {tool.name}")
            with served(tool) as server:
                for quantity in server.offers:
                    trials += chosen(list(climbed(server, name, quantity)))
    return trials


def climbed(server: Server, name: str, quantity: str) -> Iterator[Trial]:
    """The trials of one tool on one problem, ladder by ladder."""
    cheapest = float("inf")
    for ladder in server.offers[quantity]:
        before = float("inf")
        for setting in ladder:
            trial = tried(server, name, quantity, setting)
            yield trial
            if trial.accurate:
                cheapest = min(cheapest, trial.processor)
            # more probes do not help where too few Lanczos steps leave the error
            level = quantity == "density" and trial.error > LEVEL * before
            if trial.accurate or trial.note or level or trial.processor > 2 * cheapest:
                break
            before = trial.error


def tried(server: Server, name: str, quantity: str, setting: dict) -> Trial:
    seeds, spent, replies = SEEDS[quantity], 0.0, []
    note = ""
    for seed in range(seeds):
        reply = server.ask(problem=name, quantity=quantity, setting=setting, seed=seed)
        if "error" in reply:
            note = build.anonymous(reply["error"])
            break
        replies.append(reply)
        spent += reply["processor"]
        if spent * seeds / len(replies) > PATIENCE:
            note = f"more than {PATIENCE:g} processor seconds for {seeds} seeds"
            break
    off = SUMMARIES[quantity]([error(name, quantity, r["answer"]) for r in replies]) if replies else float("nan")
    cost = median([reply["processor"] for reply in replies]) if replies else 0.0
    accurate = not note and off <= TARGETS[quantity]
    described = json.dumps(setting)
    return Trial(name, quantity, server.tool.name, server.version, described, seeds, off, cost, accurate, False, note)


def chosen(trials: list[Trial]) -> list[Trial]:
    """The same, the cheapest accurate one marked."""
    best = min((t for t in trials if t.accurate), key=lambda t: t.processor, default=None)
    return [Trial(**{**vars(t), "chosen": t is best}) for t in trials]


# Timing


def measure(names: list[str], turns: int, say: Callable[[str], None]) -> list[Timing]:
    """The chosen settings, tools in turn; settings and exact answers are those of the last calibration.

    Raises ValueError where that was of another network.
    """
    if stale := [name for name in names if not curved.belongs(exact(name), curved.problem(name))]:
        raise ValueError(f"the exact curvature of {', '.join(stale)} is that of another network; --calibrate finds it")
    plan = pd.read_csv(CALIBRATION).query("chosen")
    timings = []
    with ExitStack() as stack:
        servers = {tool.name: stack.enter_context(served(tool)) for tool in TOOLS}
        for (name, quantity), part in plan[plan.problem.isin(names)].groupby(["problem", "quantity"], sort=False):
            say(f"{name}: {quantity}")
            timings += compared(servers, name, quantity, dict(zip(part.tool, part.setting, strict=True)), turns)
    return timings


def compared(servers: dict[str, Server], name: str, quantity: str, settings: dict[str, str], turns: int):
    """One quantity of one problem by every tool that reached its target; a call each before the clock counts."""

    def asked(tool: str, seed: int) -> dict:
        setting = json.loads(settings[tool])
        return servers[tool].ask(problem=name, quantity=quantity, setting=setting, seed=seed)

    for tool in settings:
        asked(tool, TIMED - 1)
    seeds = iter(range(TIMED, TIMED + turns * len(settings)))
    ways = {tool: lambda tool=tool: asked(tool, TIMED + next(seeds) % turns) for tool in settings}
    size = len(exact(name).eigenvalues)
    for turn, tool, reply in in_turn(ways, turns):
        if "error" in reply:
            raise RuntimeError(f"{tool} failed at {quantity} of {name}: {reply['error']}; calibrate again")
        off = error(name, quantity, reply["answer"])
        version, setting = servers[tool].version, settings[tool]
        yield Timing(name, size, quantity, tool, version, setting, turn, reply["seconds"], reply["megabytes"], off)
