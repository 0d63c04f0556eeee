"""benchmarks/results/README.md from the files beside it: medians, ranges over the turns, ratios taken within a turn."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.curvature import TARGETS, TOOLS
from benchmarks.floors import BOOKKEEPING, KINDS
from benchmarks.pipeline import KINDS as STAGE_KINDS
from benchmarks.ratios import significant, slope, spread, times, within
from benchmarks.training import COHORT, COMPILED, PLAIN, THREADED, USUAL
from conformance.page import table

NAMES = {"resnet": "ResNet", "transformer": "transformer", "mlp": "MLP"}
UNITS = {
    "lambda_max": "relative error of the worst of 5 seeds at most {:g}",
    "trace": "root mean square of the relative error at most {:g}",
    "density": "mean Wasserstein distance, over the spectrum's range, at most {:g}",
}

INTRODUCTION = """# Benchmarks

`make benchmarks` measures everything on this page in one run and writes it. A cell holds the median and, in brackets,
the smallest and largest of {turns} turns; in a turn every way of doing the same work is timed once, and ratios are
taken within turns. The CSV files beside this page hold every repeat. The opponents are `benchmarks/plain.py` and
`benchmarks/with_*.py`. `baselines.csv` is another matter: MNIST-1D's published accuracies
(`python benchmarks/baselines.py`).
"""


def build(folder: Path) -> int:
    """Write the page; 0, as an exit status."""
    (folder / "README.md").write_text(text(folder), encoding="utf-8")
    return 0


def text(folder: Path) -> str:
    """The page of a results folder; a part that has no file yet says so."""
    parts = [INTRODUCTION.format(turns=turns(folder)), machine(folder)]
    parts += [found for section in SECTIONS if (found := section(folder))]
    return "\n".join(parts)


def turns(folder: Path) -> int:
    frame = read(folder, "training")
    return 0 if frame is None else int(frame.turn.max()) + 1


def read(folder: Path, name: str) -> pd.DataFrame | None:
    path = folder / f"{name}.csv"
    return pd.read_csv(path, keep_default_na=False, na_values=["nan"]) if path.exists() else None


def machine(folder: Path) -> str:
    frame = read(folder, "machine")
    if frame is None:
        return ""
    m = frame.iloc[0]
    return (
        f"**Machine.** {m.processor}, {m.cores} cores, {m.memory_gib} GiB, {m.system}; Python {m.python}, "
        f"torch {m.torch}, device {m.device}. Best float32 matrix product {m.gflops:.0f} Gflop/s on one thread, best "
        f"copy {m.gbytes:.1f} GB/s read and written.\n\n{GPU if m.device == 'cpu' else ''}"
    )


GPU = "The GPU column has not been run: `python -m benchmarks --device cuda` fills `benchmarks/results/cuda/`.\n"


def rated(frame: pd.DataFrame) -> pd.DataFrame:
    """With runs per minute and milliseconds per update and member."""
    updates = frame.steps * frame.members * frame.processes
    return frame.assign(per_minute=60 * updates / frame.seconds / frame.run_steps, each=1e3 * frame.seconds / updates)


def training(folder: Path) -> str:
    frame = read(folder, "training")
    if frame is None:
        return ""
    parts = ["## Training: runs per minute\n", TRAINING]
    for bed, part in rated(frame).groupby("bed", sort=False):
        parts.append(f"### {NAMES[bed]}\n\n{by_members(part)}\n{by_case(part)}\n{by_cores(part)}")
    return "\n".join([*parts, agreed(folder)])


TRAINING = (
    "A run is the bed's whole length. The plain loop trains one run after the other, with torch's own layers and fused "
    "optimizer, batches drawn beforehand; compiled, its forward and backward pass go through `torch.compile`.\n"
)


def default(part: pd.DataFrame) -> pd.DataFrame:
    """Rows of one process at the bed's own size: those where the number of members varies."""
    alone = part[part.processes == 1]
    own = alone[(alone.way == COHORT) & (alone.members != USUAL)].iloc[0]
    same = (alone.batch == own.batch) & (alone.parameters == own.parameters) & (alone.way != THREADED)
    return alone[same]


def by_members(part: pd.DataFrame) -> str:
    """The default case over E."""
    mine = default(part)
    mine = mine.assign(key=[f"{way} {e}" for way, e in zip(mine.way, mine.members, strict=True)])
    body = []
    for e in sorted(mine[mine.way == COHORT].members.unique()):
        row = mine[mine.key == f"{COHORT} {e}"]
        ratios = [within(mine, "per_minute", "key", f"{COHORT} {e}", f"{way} 1") for way in (PLAIN, COMPILED)]
        body.append([f"cohort of {e}", spread(row.per_minute), spread(row.each), *map(times, ratios)])
    for way in (PLAIN, COMPILED):
        row = mine[mine.way == way]
        body.append([way, spread(row.per_minute), spread(row.each), "", ""])
    cohorts = mine[mine.way == COHORT].groupby("members").each.median()
    growth = 1 + slope(cohorts.index, cohorts)
    head = ["B = {}, P = {:,}".format(*mine[["batch", "parameters"]].iloc[0]), "runs per minute"]
    head += ["ms per update and member", "over plain", "over compiled"]
    return table(head, body) + f"\nTime of an update grows as E^{growth:.2f}.\n"


def by_case(part: pd.DataFrame) -> str:
    """Cohorts of 16 over batch sizes and widths."""
    alone = part[(part.processes == 1) & (part.way != THREADED) & ((part.way != COHORT) | (part.members == USUAL))]
    body = []
    for (batch, size), rows in alone.groupby(["batch", "parameters"]):
        ratios = [within(rows, "per_minute", "way", COHORT, way) for way in (PLAIN, COMPILED)]
        cells = [spread(rows[rows.way == way].each) for way in (COHORT, PLAIN, COMPILED)]
        body.append([str(batch), f"{size:,}", *cells, *map(times, ratios)])
    own = default(part).iloc[0]
    grown = alone[alone.batch == own.batch].pivot_table("each", "parameters", "way", "median")
    growth = ", ".join(f"{way} P^{slope(grown.index, grown[way]):.2f}" for way in (COHORT, PLAIN))
    head = ["B", "P", f"cohort of {USUAL}: ms per update and member", PLAIN, COMPILED, "over plain", "over compiled"]
    return table(head, body) + f"\nTime grows with the width as {growth}.\n"


def by_cores(part: pd.DataFrame) -> str:
    """Everything that uses all cores."""
    mine = part[(part.processes > 1) | (part.way == THREADED)]
    if mine.empty:
        return ""
    cores = part.processes.max()
    body = [
        [
            way if way == THREADED else f"{way}, a process per core",
            spread(rows.per_minute),
            "" if way == COHORT else times(within(mine, "per_minute", "way", COHORT, way)),
        ]
        for way, rows in mine.groupby("way", sort=False)
    ]
    return table([f"all {cores} cores", "runs per minute", f"cohorts of {USUAL} over it"], body)


def agreed(folder: Path) -> str:
    frame = read(folder, "agreement")
    if frame is None:
        return ""
    worst, steps = frame.difference.max(), frame.steps.iloc[0]
    compiled = read(folder, "training").query("way == @COMPILED and processes == 1")
    first = compiled.groupby(["bed", "batch"], sort=False).first_seconds.first()
    calls = ", ".join(f"{NAMES[bed]} B = {batch}: {took:.0f} s" for (bed, batch), took in first.items())
    return (
        f"The loops train what the cohort trains: over the first {steps} updates no loss differs by more than "
        f"{worst:.1e} of itself.\n\nFirst call of the compiled loop (compiling, or reading what an earlier run "
        f"compiled): {calls}.\n"
    )


def floors(folder: Path) -> str:
    found, parts, about = (read(folder, name) for name in ("floors", "shares", "machine"))
    if found is None or parts is None:
        return ""
    peak, whole = about.gflops.iloc[0] * 1e9, parts.groupby("job").seconds.sum()
    names, body = (*KINDS, BOOKKEEPING), []
    for row in found.itertuples():
        floor, took = row.operations / peak, whole[row.job]
        mine = parts[parts.job == row.job].set_index("kind").seconds / took
        what = f"{NAMES.get(row.job, row.job)}, {row.unit}" + (f" (of {row.members})" if row.members > 1 else "")
        cells = [f"{100 * mine.get(kind, 0.0):.0f} %" for kind in names]
        figures = f"{row.operations / 1e6:.1f}", f"{1e3 * floor:.3f}", f"{1e3 * took:.3f}", f"{took / floor:.1f}x"
        body.append([what, *figures, *cells])
    head = ["job, per member", "Mflop", "floor (ms)", "took (ms)", "distance", *names]
    return f"## The arithmetic floor\n\n{FLOORS}\n{table(head, body)}\n{GOES}"


FLOORS = (
    "Operations of the matrix products alone over the peak above, against a cohort of 16 (training) and a single "
    "network (Hessian). The shares are those of a profile, scaled to the unprofiled time.\n"
)
GOES = (
    "The products themselves run below the peak, because the matrices are small: a few dozen rows and columns, where "
    "the peak is that of 2,048. The rest is memory traffic: activations, normalisation and the optimizer touch every "
    "number with one or two operations, and a convolution first gathers its shifted inputs. What could be mended "
    "without changing a bit of any result: the notebook runner keeps freed memory in the process (`ALLOCATOR` in "
    "`notebook.py`; not in effect on this page, where nobody has it).\n"
)


def curvature(folder: Path) -> str:
    frame, trials = read(folder, "curvature"), read(folder, "calibration")
    if frame is None or trials is None:
        return ""
    parts = ["## Curvature at equal accuracy\n", CURVATURE]
    for (problem, size, quantity), part in frame.groupby(["problem", "parameters", "quantity"], sort=False):
        title = f"### {quantity}, {NAMES[problem]} (P = {size:,})\n\n{UNITS[quantity].format(TARGETS[quantity])}.\n"
        parts.append(f"{title}\n{by_tool(part, trials[(trials.problem == problem) & (trials.quantity == quantity)])}")
    return "\n".join(parts)


CURVATURE = (
    "Each tool with the cheapest of its settings that meets the target against the whole Hessian in float64 "
    "(`calibration.csv` has all that were tried); timed on other seeds, whose errors stand beside. Same network, "
    "batch, float32, one thread; from model and batch to answer. Memory is the rise of the process's resident memory. "
    "hessian-eigenthings' Lanczos has no stopping rule, so it is told the right number of steps beforehand.\n"
)


def by_tool(part: pd.DataFrame, trials: pd.DataFrame) -> str:
    body = []
    for tool in (tool.name for tool in TOOLS):
        rows = part[part.tool == tool]
        if rows.empty:
            body.append([tool, "—", "", "", "", excuse(trials[trials.tool == tool])])
            continue
        ratio = "" if tool == "nonconvex" else times(within(part, "seconds", "tool", tool, "nonconvex"))
        cells = spread(1e3 * rows.seconds), ratio, f"{rows.megabytes.max():.0f}", significant(rows.error.median())
        body.append([tool, *cells, f"{rows.version.iloc[0]}: {worded(rows.setting.iloc[0])}"])
    return table(["tool", "ms", "of this project's", "MB", "median error", "version: setting"], body)


def worded(setting: str) -> str:
    """A setting's JSON as words."""
    given = json.loads(setting).items()
    return ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in given)


def excuse(trials: pd.DataFrame) -> str:
    """Why a tool has no time."""
    if trials.empty:
        return "not offered"
    notes = [note for note in trials.note if note and not note.startswith("more than")]
    if trials.error.notna().any():
        return f"no setting tried is accurate enough; best {significant(trials.error.min())}"
    return f"fails: {notes[0]}" if notes else "not measured"


def connectivity(folder: Path) -> str:
    frame = read(folder, "connectivity")
    if frame is None:
        return ""
    frame, body = frame.assign(each=1e3 * frame.seconds / frame["count"]), []
    for (job, members, unit), part in frame.groupby(["job", "members", "unit"], sort=False):
        what = f"curves of {members} pairs" if job == "curve" else f"surface, {part['count'].iloc[0]:,} points"
        ways = {way: rows for way, rows in part.groupby("way", sort=False)}
        cells = [spread(rows.each) for rows in ways.values()]
        ratios = within(part, "seconds", "way", "load_state_dict", "stacked")
        body.append([what, unit, *cells, times(ratios), f"{part.difference.max():.0e}"])
    head = ["ResNet", "unit", "this project (ms per unit)", "load_state_dict", "faster", "results differ by"]
    return f"## Paths and surfaces\n\n{table(head, body)}"


def pipeline(folder: Path) -> str:
    frame = read(folder, "pipeline")
    parts = ["## Pipeline\n"]
    if frame is not None:
        body = [[job, spread(rows.seconds), spread(rows.work)] for job, rows in frame.groupby("job", sort=False)]
        parts.append(table(["`dvc repro`, in a clone", "s", "of which in the notebook's cells"], body))
        pivot = frame.pivot_table(["seconds", "work"], "turn", "job")
        changed = pivot["seconds", "one changed stage"] - pivot["work", "one changed stage"]
        extra = changed - pivot["seconds", "nothing to do"]
        parts.append(f"Overhead of a stage, beyond the check and its cells: {spread(extra)} s.\n")
    stages = read(folder, "stages")
    if stages is not None:
        parts.append(whole(stages))
    return "\n".join(parts) if len(parts) > 1 else ""


def whole(stages: pd.DataFrame) -> str:
    """A run of the whole profile by kind of time."""
    spent = stages.groupby("kind").seconds.sum().reindex(STAGE_KINDS, fill_value=0.0)
    total, count = spent.sum(), stages.stage.nunique()
    figures = [(kind, value, 100 * value / total, value / count) for kind, value in spent.items()]
    body = [[kind, f"{value:,.0f}", f"{share:.1f} %", f"{each:.1f}"] for kind, value, share, each in figures]
    overhead = 100 * (spent["imports"] + spent["notebook runner"] + spent["between stages"]) / total
    head = [f"`make reproduce`: {count} notebooks, {total / 60:.0f} minutes", "s", "share", "s per notebook"]
    return (
        table(head, body)
        + f"\n{100 - figures[0][2]:.1f} % is not training or measuring; {overhead:.1f} % is overhead (all but the "
        "cells that train, measure, read or draw).\n"
    )


SECTIONS: tuple[Callable[[Path], str], ...] = (training, floors, curvature, connectivity, pipeline)
