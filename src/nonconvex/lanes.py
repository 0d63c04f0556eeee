"""Run a pipeline whose stages are short and whose cores are idle: independent stages side by side.

    python -m nonconvex.lanes profiles/smoke/dvc.yaml --lanes 2

dvc runs one stage at a time, and a stage of a few seconds spends most of them on starting one process. Here several
`dvc repro` share the work: first what all stages wait for, then the stages that wait for nothing else, dealt out to
the lanes, then the rest. dvc's own locks keep them apart. Exit code: that of the first `dvc repro` that fails.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

SHARED = ("settings", "data")
LONG = "connectivity"  # waits for all training, so that it is the longest of the chains
GATHERED = "/effects/"  # a stage with such an output ends the chain of its study


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nonconvex.lanes", description="Run stages side by side.")
    parser.add_argument("pipeline", type=Path, help="a dvc.yaml")
    parser.add_argument("--lanes", type=int, default=2)
    options = parser.parse_args(arguments)
    stages = yaml.safe_load(options.pipeline.read_text(encoding="utf-8"))["stages"]
    for batch in ([list(SHARED)], dealt(chains(stages), options.lanes)):
        if code := together([[f"{options.pipeline}:{name}" for name in lane] for lane in batch]):
            return code
    return together([[str(options.pipeline)]])


def chains(stages: dict[str, dict]) -> list[str]:
    """The last stage of every chain that depends on none of the others, the longest chain first."""
    outputs = {name: [path for out in stage.get("outs", []) for path in out] for name, stage in stages.items()}
    return [LONG, *(name for name, paths in outputs.items() if any(GATHERED in path for path in paths))]


def dealt(names: Sequence[str], lanes: int) -> list[list[str]]:
    """The names in `lanes` lists; the first, the longest, counts for three."""
    weights = [0] * lanes
    lists: list[list[str]] = [[] for _ in range(lanes)]
    for i, name in enumerate(names):
        lane = weights.index(min(weights))
        lists[lane].append(name)
        weights[lane] += 1 if i else 3
    return [names for names in lists if names]


def together(lanes: Sequence[Sequence[str]]) -> int:
    """Run `dvc repro` on every lane's targets at once; all come to an end before the first failure is returned."""
    running = [subprocess.Popen(["dvc", "--wait-for-lock", "repro", *targets]) for targets in lanes]
    return next((code for code in [process.wait() for process in running] if code), 0)


if __name__ == "__main__":
    sys.exit(main())
