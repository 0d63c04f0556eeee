"""Time this project against the code that it replaces, and write benchmarks/results/.

    python -m benchmarks [--only training ...] [--calibrate] [--device cuda] [--turns N] [--logs FOLDER] [--page]

Ways of doing one work are timed in turn in one run, and compared within it. An idle machine is assumed. Twelve minutes
on two cores once the compiler's output lies in .benchmarks/; --calibrate chooses the settings of the curvature tools
anew, in an hour. On a GPU the results go to benchmarks/results/cuda/, curvature and the pipeline being left out.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import connectivity, curvature, curved, floors, machine, page, pipeline, training
from benchmarks.turns import RESULTS, thinned, write

PARTS = ("training", "floors", "connectivity", "curvature", "pipeline")
ON_GPU = ("training", "connectivity")


def main(arguments: list[str] | None = None) -> int:
    command = parser()
    options = command.parse_args(arguments)
    try:
        chosen = thinned(PARTS if options.device == "cpu" else ON_GPU, options.only, f"part on {options.device}")
    except ValueError as error:
        command.error(str(error))
    folder = RESULTS if options.device == "cpu" else RESULTS / options.device
    if options.page:
        return page.build(folder)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("error: --device cuda but no CUDA device was found", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    training.keep_compiled()
    if options.calibrate:
        trials = curvature.calibrate(list(curved.PROBLEMS), [tool.name for tool in curvature.TOOLS], say)
        write(trials, curvature.Trial, curvature.CALIBRATION)
    write([machine.describe(options.device)], machine.Machine, folder / "machine.csv")
    for part in chosen:
        RUN[part](options, folder)
    return page.build(folder)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m benchmarks", description=__doc__.split("\n\n")[0])
    made.add_argument(
        "--only",
        nargs="+",
        metavar="PART",
        help=f"of {', '.join(PARTS)}: these parts alone; the others keep their files",
    )
    made.add_argument("--calibrate", action="store_true", help="choose the settings of the curvature tools anew first")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument("--params", default="params.yaml", help="settings of the test beds (%(default)s)")
    made.add_argument("--beds", nargs="+", choices=training.BEDS, default=training.BEDS)
    made.add_argument("--turns", type=int, default=5, help="how often every way is timed (%(default)s)")
    made.add_argument("--logs", type=Path, default=Path("logs"), help="of an uninterrupted `make reproduce`")
    made.add_argument("--page", action="store_true", help="write the page from the files that are there")
    return made


def say(message: str) -> None:
    print(f"  {message}", file=sys.stderr, flush=True)


def run_training(options, folder: Path) -> None:
    timings, agreements = [], []
    for bed in options.beds:
        found = training.measure(bed, options.params, options.device, options.turns, say)
        timings, agreements = timings + found[0], agreements + found[1]
    write(timings, training.Timing, folder / "training.csv")
    write(agreements, training.Agreement, folder / "agreement.csv")


def run_floors(options, folder: Path) -> None:
    found, parts = floors.measure(options.params, options.device)
    write(found, floors.Floor, folder / "floors.csv")
    write(parts, floors.Part, folder / "shares.csv")


def run_connectivity(options, folder: Path) -> None:
    timings = connectivity.measure(options.device, options.turns, say)
    write(timings, connectivity.Timing, folder / "connectivity.csv")


def run_curvature(options, folder: Path) -> None:
    timings = curvature.measure(list(curved.PROBLEMS), options.turns, say)
    write(timings, curvature.Timing, folder / "curvature.csv")


def run_pipeline(options, folder: Path) -> None:
    """What can be timed now, and what the last whole run has left; either may be out of reach, and then says why."""
    for name, kind, measure in (
        ("pipeline", pipeline.Timing, lambda: pipeline.measure(options.turns, say)),
        ("stages", pipeline.Stage, lambda: pipeline.parts(options.logs)),
    ):
        try:
            write(measure(), kind, folder / f"{name}.csv")
        except ValueError as error:
            print(f"{name}: not measured: {error}", file=sys.stderr)


RUN: dict[str, Callable] = {
    "training": run_training,
    "floors": run_floors,
    "connectivity": run_connectivity,
    "curvature": run_curvature,
    "pipeline": run_pipeline,
}

if __name__ == "__main__":
    sys.exit(main())
