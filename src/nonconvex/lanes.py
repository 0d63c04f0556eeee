"""Run a pipeline whose stages are short and whose cores are idle: independent stages side by side.

    python -m nonconvex.lanes profiles/smoke/dvc.yaml --lanes 2

dvc runs one stage at a time, and a stage of a few seconds spends most of them on starting one process. Here several
`dvc repro` share the work: first what all stages wait for, then chains of stages that wait for nothing else, dealt out
to the lanes, then the rest. A lane runs its stages as single items: checking what another lane reads would take a lock
that the other lane holds. Exit code: that of the first `dvc repro` that fails.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

SHARED = ("settings", "data")
LONG = ("train", "connectivity")  # each stands for many stages


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: the exit code of the first stage that failed, or 0."""
    parser = argparse.ArgumentParser(prog="python -m nonconvex.lanes", description="Run stages side by side.")
    parser.add_argument("pipeline", type=Path, help="a dvc.yaml")
    parser.add_argument("--lanes", type=int, default=2)
    options = parser.parse_args(arguments)
    stages = yaml.safe_load(options.pipeline.read_text(encoding="utf-8"))["stages"]
    lanes = [["--single-item", *lane] for lane in named(options.pipeline, dealt(chains(stages), options.lanes))]
    batches = (named(options.pipeline, [SHARED]), lanes, [[str(options.pipeline)]])
    return next((code for code in map(together, batches) if code), 0)


def named(pipeline: Path, lanes: Sequence[Sequence[str]]) -> list[list[str]]:
    """The stages' names as dvc wants to hear them."""
    return [[f"{pipeline}:{name}" for name in lane] for lane in lanes]


def chains(stages: dict[str, dict]) -> list[tuple[str, ...]]:
    """Stages in the order in which they have to run, chains that depend on no other, the longest first."""
    made = {path: name for name, stage in stages.items() for out in stage.get("outs", []) for path in out}
    readings: dict[str, list[str]] = {name: [] for path, name in made.items() if "/observations/" in path}
    for name, stage in stages.items():
        for source in {made[path] for path in stage.get("deps", []) if path in made} & readings.keys():
            readings[source].append(name)
    return [LONG, *((study, *names) for study, names in readings.items())]


def dealt(chains: Sequence[Sequence[str]], lanes: int) -> list[list[str]]:
    """The chains one after the other in `lanes` lists; the first, the longest, counts for three."""
    weights = [0] * lanes
    lists: list[list[str]] = [[] for _ in range(lanes)]
    for i, chain in enumerate(chains):
        lane = weights.index(min(weights))
        lists[lane] += chain
        weights[lane] += 1 if i else 3
    return [names for names in lists if names]


def together(lanes: Sequence[Sequence[str]]) -> int:
    """Run `dvc repro` with every lane's arguments at once; all come to an end before the first failure is returned.

    So they do on Ctrl-C, which the terminal sends to each of them and to the kernels that they have started.
    """
    running = [subprocess.Popen(["dvc", "--wait-for-lock", "repro", *targets]) for targets in lanes]
    interrupted = 0
    while any(process.returncode is None for process in running):
        try:
            for process in running:
                process.wait()
        except KeyboardInterrupt:
            interrupted = 130
    return next((code for code in [interrupted, *(process.returncode for process in running)] if code), 0)


if __name__ == "__main__":
    sys.exit(main())
