"""How do time and memory grow with members, parameters, examples, stages and claims?

    python benchmarks/scale.py [--repeats N] [--quick]     writes benchmarks/results/scale.csv, docs/scale.png
    python benchmarks/scale.py --draw                      the fits and the figure from the committed file alone

Every size runs in a process of its own with one thread, so that its peak memory is its own; the code that it loads is
left out. A growth exponent is the slope of log time on log size over the four largest sizes, from medians over repeats.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from nonconvex import config, judging, train
from nonconvex.beds import bed_of
from nonconvex.claims import read
from nonconvex.experiment import cohort_of
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.models.stacked import stack
from nonconvex.panels import Page, titled
from nonconvex.paths import Results
from nonconvex.plan import Member
from nonconvex.style import DASHES, MARKERS, PALETTE, house

ROOT = Path(__file__).resolve().parents[1]
RESULT, FIGURE = ROOT / "benchmarks" / "results" / "scale.csv", ROOT / "docs" / "scale.png"
LARGEST = 4  # sizes that a growth exponent is fitted to
SIZES = {
    "members": (1, 2, 4, 8, 16, 32, 64),
    "width": (25, 50, 100, 200, 400, 800),
    "examples": (125, 250, 500, 1000, 2000, 4000),
    "stages": (10, 20, 40, 80),
    "claims": (80, 160, 320, 640, 1280),
}
WHAT = {
    "update": "One update of a cohort",
    "product": "One Hessian product",
    "status": "`dvc status`, nothing changed",
    "noop": "`dvc repro`, nothing changed",
    "first": "`dvc repro`, first run",
    "judge": "Judging",
}
Timed = Iterator[tuple[str, int, Callable[[], object]]]  # what, the size as the field counts it, what to time


def members(size: int) -> Timed:
    """The default profile's ResNet at its own batch size."""
    yield "update", size, _updates("resnet", size, {})


def width(size: int) -> Timed:
    """Four MLPs with two hidden layers; the size is the number of parameters of one."""
    layers = [40, size, size, 10]
    count = sum((a + 1) * b for a, b in pairwise(layers))
    yield "update", count, _updates("mlp", 4, {"widths": [size, size], "skip": False})


def _updates(model: str, count: int, architecture: dict) -> Callable[[], object]:
    """One update of `count` runs of the default profile's bed."""
    bed = bed_of(config.read(ROOT / "params.yaml"), model)
    bed = replace(
        bed, training=bed.training.model_copy(update={"architecture": architecture or bed.training.architecture})
    )
    runs = [Member("constant", min(bed.training.rates) / 10, seed, "reported") for seed in range(count)]
    network, params = stack(bed.build, [run.seed for run in runs], bed.device)
    cohort = cohort_of(bed, network, "none", runs, fork=0.0)
    state = train.start(cohort, params)
    return lambda: train.advance(cohort, state, 0)


def examples(size: int) -> Timed:
    """A product with the full-batch Hessian of one MLP, graph kept, as Lanczos takes them."""
    bed = bed_of(config.read(ROOT / "params.yaml"), "mlp")
    network, params = stack(bed.build, [0], bed.device)
    x, y = bed.data.train.examples(None)
    x, y = (part.repeat(-(-size // len(part)), *[1] * (part.ndim - 1))[:size] for part in (x, y))
    hessian = Hessian(Objective(network, bed.loss, shared(x, y)), params)
    vectors = torch.ones(1, sum(value[0].numel() for value in params.values()))
    yield "product", size, lambda: hessian.product(vectors)


def stages(size: int) -> Timed:
    """A pipeline whose stages take no time, have 25 dependencies each and leave one file in git."""
    folder = tempfile.TemporaryDirectory()
    place = Path(folder.name)
    modules = [f"module{i}.py" for i in range(25)]
    for name in modules:
        (place / name).write_text(name)
    lines = ["stages:"]
    for i in range(size):
        deps = "".join(f"\n      - {name}" for name in modules)
        lines.append(
            f"  s{i}:\n    cmd: echo {i} > out{i}\n    deps:{deps}\n    outs:\n      - out{i}:\n          cache: false"
        )
    (place / "dvc.yaml").write_text("\n".join(lines) + "\n")

    def dvc(*arguments: str) -> Callable[[], object]:
        command = [sys.executable, "-m", "dvc", *arguments, "--quiet"]
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
        return lambda: subprocess.run(command, cwd=place, env=environment, check=True, stdout=subprocess.DEVNULL)

    subprocess.run(["git", "init", "--quiet"], cwd=place, check=True)
    dvc("init")()
    yield "first", size, dvc("repro", "--force")
    yield "status", size, dvc("status")
    yield "noop", size, dvc("repro")
    folder.cleanup()


def claims(size: int) -> Timed:
    """The registered claims and their evidence, as often as needed under new names."""
    ledger = read(ROOT / "claims.yaml")
    effects, gates = judging.evidence(Results(str(ROOT), "cpu"))
    copies = -(-size // len(ledger.claims))
    renamed = [replace(claim, name=f"{claim.name}_{i}") for i in range(copies) for claim in ledger.claims][:size]
    known = {claim.name for claim in renamed}
    effects, gates = (_copied(frame, copies, known) for frame in (effects, gates))
    many = replace(ledger, claims=tuple(renamed))
    yield "judge", size, lambda: judging.judge(many, effects, gates)


def _copied(frame: pd.DataFrame, copies: int, known: set[str]) -> pd.DataFrame:
    parts = [frame.assign(claim=frame.claim + f"_{i}") for i in range(copies)]
    whole = pd.concat(parts, ignore_index=True)
    return whole[whole.claim.isin(known)]


GROWTH = {"members": members, "width": width, "examples": examples, "stages": stages, "claims": claims}


def point(axis: str, size: int, repeats: int) -> list[dict]:
    """One size of one axis: seconds of every repeat, and the peak memory above that of the loaded code."""
    torch.set_num_threads(1)
    rows, before = [], _peak()
    for what, count, work in GROWTH[axis](size):
        once = what == "first"  # it takes minutes, and would find nothing changed the second time
        if not once:
            work()
        for repeat in range(1 if once else repeats):
            start = time.perf_counter()
            work()
            seconds = time.perf_counter() - start
            rows.append({"axis": axis, "what": what, "size": count, "repeat": repeat, "seconds": round(seconds, 6)})
        for row in rows:
            row["mebibytes"] = round(_peak() - before, 1) if axis != "stages" else None
    return rows


def _peak() -> float:
    """Largest resident memory of this process so far in MiB; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def measured(sizes: dict[str, Sequence[int]], repeats: int) -> pd.DataFrame:
    rows = []
    for axis, size in [(axis, size) for axis, of in sizes.items() for size in of]:
        command = [sys.executable, __file__, "--point", axis, str(size), "--repeats", str(repeats)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
        found = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
        rows += json.loads(found.stdout)
        print(f"{axis} {size}: {statistics.median(row['seconds'] for row in rows[-repeats:]):.4g} s", flush=True)
    return pd.DataFrame(rows)


def exponents(frame: pd.DataFrame) -> pd.DataFrame:
    """Growth exponents with 95 % t intervals over sizes, and the median at the largest size."""
    rows = []
    medians = frame.groupby(["axis", "what", "size"], sort=False).seconds.median()
    for (axis, what), of in medians.groupby(level=["axis", "what"], sort=False):
        of = of.droplevel(["axis", "what"]).iloc[-LARGEST:]
        fit = stats.linregress(np.log(of.index), np.log(of))
        half = stats.t.ppf(0.975, len(of) - 2) * fit.stderr
        rows.append((axis, what, fit.slope, fit.slope - half, fit.slope + half, len(of), of.index[-1], of.iloc[-1]))
    columns = ["axis", "what", "exponent", "low", "high", "sizes", "largest", "seconds"]
    return pd.DataFrame(rows, columns=columns)


def drawn(frame: pd.DataFrame, fits: pd.DataFrame):
    """One panel per axis, both scales logarithmic; dots are repeats, lines go through medians."""
    labels = {
        "members": "members",
        "width": "parameters",
        "examples": "examples",
        "stages": "stages",
        "claims": "claims",
    }
    figure = Page(figsize=(12, 2.9), layout="constrained")
    for panel, axis in zip(figure.subplots(1, len(labels)), labels, strict=True):
        for i, (what, of) in enumerate(frame[frame.axis == axis].groupby("what", sort=False)):
            slope = fits[(fits.axis == axis) & (fits.what == what)].exponent.item()
            look = {"color": PALETTE[i], "marker": MARKERS[i], "linestyle": DASHES[i]}
            median = of.groupby("size").seconds.median()
            panel.plot(median.index, median, label=f"{WHAT[what].replace('`', '')}: {slope:.2f}", **look)
            panel.plot(of["size"], of.seconds, ".", color=PALETTE[i], alpha=0.4, markersize=3)
        panel.set(xscale="log", yscale="log", xlabel=labels[axis], ylabel="seconds" if axis == "members" else "")
        panel.legend(fontsize=6.5)
    return titled(figure, "Time against size, and the exponent of its growth over the four largest sizes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the four smallest sizes, and nothing written")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--point", nargs=2, metavar=("AXIS", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        axis, size = options.point
        print(json.dumps(point(axis, int(size), options.repeats)))
        return
    if options.draw:
        frame = pd.read_csv(RESULT)
    else:
        sizes = {axis: of[:LARGEST] if options.quick else of for axis, of in SIZES.items()}
        frame = measured(sizes, options.repeats)
    fits = exponents(frame)
    print(fits.round(3).to_markdown(index=False))
    if not options.quick:
        frame.to_csv(RESULT, index=False)
        FIGURE.parent.mkdir(exist_ok=True)
        with house():
            drawn(frame, fits).savefig(FIGURE, metadata={"Software": None})


if __name__ == "__main__":
    main()
