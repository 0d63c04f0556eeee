"""The two files: every row as CSV, and a page to read."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

import torch

from conformance import problems
from conformance.answers import PRODUCTS, QUANTITIES
from conformance.problems import FLOOR
from conformance.verdicts import EIGENVALUE, FAILED, MASS, MISSING, OK, PROBES, SIGMAS, WRONG, Row

SMALLEST = 1e-9  # a number below this is rounding, which no two machines share, and is written as 0

TITLES = {
    "lambda_max": "Largest eigenvalue",
    "lambda_min": "Smallest eigenvalue",
    "trace": "Trace",
    "mass_near_zero": "Share of the eigenvalues near zero",
}

INTRODUCTION = f"""# Conformance of curvature tools

What do tools that measure the curvature of a PyTorch loss answer where the exact answer is known? `make conformance`
builds this page and `conformance.csv`: each tool, at its newest release that installs, in an environment of its own, on
the problems of `conformance/problems.py`. They have so few parameters that the whole Hessian can be written down in
float64; the tools are asked for full accuracy, with as many steps as there are parameters where they take that, and
{PRODUCTS} Hessian-vector products for a trace. The adapters `conformance/with_*.py` hold every call.

An answer is right (✓) within one tolerance for all tools:

- an eigenvalue within {EIGENVALUE[torch.float64]:g} of the exact one, relative to it or to {FLOOR:g} of the largest
  |eigenvalue| if that is more; {EIGENVALUE[torch.float32]:g} in float32;
- a trace within {SIGMAS:g} standard errors of {PROBES} plain Hutchinson probes, computed from the exact matrix,
  and within {SIGMAS:g} of the tool's own where it gives one;
- the share of eigenvalues near zero within {MASS:g}.

✗ is a wrong answer with its error in these units (relative, standard errors, share), *fails* an exception, — a quantity
that the tool does not offer. One answer per cell: ✓ says that this call was right, not that every call will be, and
nothing about a tool's defaults, which may ask for the largest magnitude or stop after two steps.
"""


def write_csv(rows: Sequence[Row], path: Path) -> None:
    names = [field.name for field in fields(Row)]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([cell(getattr(row, name)) for name in names] for row in rows)


def cell(value: object) -> str:
    """Six significant digits, nothing for None."""
    if isinstance(value, float):
        return "0" if abs(value) < SMALLEST else f"{value:.6g}"
    return "" if value is None else str(value)


def write_markdown(rows: Sequence[Row], path: Path) -> None:
    parts = [INTRODUCTION, *(matrix(rows, quantity) for quantity in QUANTITIES)]
    parts += [wrong(rows), failures(rows), problem_table(rows), settings_table(rows)]
    path.write_text("\n".join(parts))


def matrix(rows: Sequence[Row], quantity: str) -> str:
    """Problems down, tools across."""
    mine = [row for row in rows if row.quantity == quantity]
    tools, names = unique(row.tool for row in mine), unique(row.problem for row in mine)
    found = {(row.problem, row.tool): symbol(row) for row in mine}
    body = [[name, *(found[name, tool] for tool in tools)] for name in names]
    count = ["right", *(tally([row for row in mine if row.tool == tool]) for tool in tools)]
    return f"## {TITLES[quantity]}\n\n" + table(["problem", *tools], [*body, count])


def symbol(row: Row) -> str:
    if row.outcome == WRONG:
        return f"✗ {row.error:.2g}"
    return {OK: "✓", FAILED: "fails", MISSING: "—"}[row.outcome]


def tally(rows: Sequence[Row]) -> str:
    offered = [row for row in rows if row.outcome != MISSING]
    return f"{sum(row.outcome == OK for row in offered)} of {len(offered)}" if offered else "—"


def wrong(rows: Sequence[Row]) -> str:
    """Every wrong answer with its figures."""
    head = ["tool", "problem", "quantity", "exact", "answer", "call", "why"]
    bad = [row for row in rows if row.outcome == WRONG]
    body = [[r.tool, r.problem, r.quantity, cell(r.exact), cell(r.value), f"`{r.settings}`", r.note] for r in bad]
    return "## Every wrong answer\n\n" + table(head, body)


def failures(rows: Sequence[Row]) -> str:
    """Every exception, the calls that end in the same one together."""
    bad = [row for row in rows if row.outcome == FAILED]
    body = []
    for tool, note in unique((row.tool, row.note) for row in bad):
        same = [row for row in bad if (row.tool, row.note) == (tool, note)]
        where = [", ".join(unique(getattr(row, name) for row in same)) for name in ("problem", "quantity")]
        body.append([tool, *where, note])
    return "## Every call that fails\n\n" + table(["tool", "problems", "quantities", "message; cause"], body)


def problem_table(rows: Sequence[Row]) -> str:
    """What the problems are, with their exact answers."""
    exact = {(row.problem, row.quantity): cell(row.exact) for row in rows}
    built = [build() for build in problems.PROBLEMS]
    body = [
        [p.name, p.about, str(p.size), *(exact[p.name, quantity] for quantity in QUANTITIES), f"{p.near:g}"]
        for p in built
    ]
    return "## Problems and exact answers\n\n" + table(["problem", "what", "P", *QUANTITIES, "near zero: up to"], body)


def settings_table(rows: Sequence[Row]) -> str:
    """The versions, and how each quantity was asked for; the CSV has the settings of every row."""
    first = {
        (r.tool, r.version, r.quantity): r.settings for r in reversed(rows) if r.settings and r.problem == "dense_mlp"
    }
    body = [[*key, f"`{first[key]}`"] for key in reversed(first)]
    return "## Versions and settings\n\nAs for `dense_mlp`.\n\n" + table(["tool", "version", "quantity", "call"], body)


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(part.replace('|', chr(92) + '|') for part in line)} |\n" for line in lines)


def unique(things: Iterable) -> list:
    """Without repetitions, in order."""
    return list(dict.fromkeys(things))
