"""What a reader sees of a wide table: which columns, in which blocks, in which words."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from nonconvex.claims import WORDS, overall
from nonconvex.config import Settings
from nonconvex.source_tables import LABELS, SOURCE_TABLES, Row, SourceTable
from nonconvex.summaries import KINDS
from nonconvex.tables import PARTS
from nonconvex.typeset import HABIT, NOTHING, RESTORED, UNMEASURED, Block, Document, half_width, interval, number

Cells = dict[str, Any]  # one row of a frame
FLATNESS = {
    "lambda_max": r"$\lambda_{\max}$",
    "lambda_min": r"$\lambda_{\min}$",
    "trace": r"$\mathrm{tr} H$",
    "gauss_newton_max": r"$\lambda_{\max}$, Gauss-Newton",
    "sam_sharpness": "SAM sharpness",
    "adaptive_sharpness": "Adaptive sharpness",
    "keskar_sharpness": "Keskar sharpness",
}
CLAIM_COLUMNS = (
    "Id", "Claim", "Test bed", "Effect $d$", "Margin $\\delta$", "n", "Verdict", "Gates failed", "Notebook"
)  # fmt: skip
RULE = (
    "The effect is signed so that positive is the text's direction, with its 95 % interval $[l, u]$ over n "
    "replicates. Supported: $l > 0$ and $d \\geq \\delta$. Not supported: $u < \\delta$, called reversed where "
    "$u < 0$. Otherwise, or where a gate failed, inconclusive. An equivalence is supported where the interval lies "
    "within $\\pm\\delta$. Claims, margins and gates were registered in claims.yaml before the runs; a cell whose "
    "sub-claims differ is mixed."
)
P_VALUES = (
    "verdicts.csv adds the contrast in words, all gates, the sign-flip p, and p after Holm over the primary claims; "
    "the rule uses neither p."
)
INTERVALS = "Brackets and $\\pm$ give 95 % intervals of the mean over n runs."
LOST = f"{RESTORED} The source text lost its formulas; these are our reconstruction."
RATES = "A peak rate marked (edge) lies at an end of its tuning grid: the best one may lie outside."
PATHS = (
    "A barrier is the largest excess of the loss (nats) over the straight line between the ends of a path; "
    "n counts pairs of runs. Independent runs are paired in a ring (jackknife over runs); "
    "siblings share a start."
)


def arms_document(
    name: str, frame: pd.DataFrame, found: pd.DataFrame, judged: pd.DataFrame, settings: Settings
) -> Document:
    """The reader's version of `tables.schedules` or `tables.strategies`: how each row scored, and what was claimed."""
    table, judged, found = SOURCE_TABLES[name], judged[judged.table == name], found[found.table == name]
    rows = frame.to_dict("records")
    blocks = [
        _text_block(table, rows, judged, settings.grid.models),
        _block(table, rows, "performance", "Performance", _performance),
        _block(table, rows, "flatness", "Flatness of the final iterate", _flatness),
        _block(table, rows, "connectivity", "Barriers between runs", _test_barriers, _train_barriers),
        _claims_block(judged),
        _findings_block(table, found.assign(row=found.row.map({row.key: row.cells[0] for row in table.rows}))),
    ]
    notes = [f"{row.cells[0]}: {row.note}." for row in table.rows if row.note] + _lost(table)
    rule = [] if judged.empty else [RULE]
    notes = [*rule, INTERVALS, _differences(name, settings), RATES, PATHS, *notes]
    return Document(name, table.title, [block for block in blocks if block.rows], notes)


def claims_document(name: str, frame: pd.DataFrame, judged: pd.DataFrame) -> Document:
    """The reader's version of `tables.claims_table`: its rows, their sub-claims, and what was found."""
    table, judged = SOURCE_TABLES[name], judged[judged.table == name]
    blocks = [
        _rows_block(table, judged),
        _claims_block(judged),
        _findings_block(table, frame[frame.n.notna()]),
    ]
    return Document(name, table.title, [block for block in blocks if block.rows], [RULE, *_lost(table)])


def ledger(judged: pd.DataFrame) -> Document:
    """Every claim of every table with its verdict."""
    blocks = [
        Block(name, SOURCE_TABLES[name].title, CLAIM_COLUMNS, [_claim_cells(c) for c in part.to_dict("records")])
        for name, part in judged.groupby("table", sort=False)
    ]
    return Document("verdicts", "Every claim and its verdict", blocks, [RULE, P_VALUES])


def _rows_block(table: SourceTable, judged: pd.DataFrame) -> Block:
    """The source table as it is, with the verdicts on each of its two cells."""
    body = [[*_source_cells(row), *_verdict_cells(table, row, judged)] for row in table.rows]
    return Block("text", "What the text says, and what the runs say", [*table.columns, *_verdict_columns(table)], body)


def _verdict_columns(table: SourceTable) -> list[str]:
    return [f"{table.columns[column]}: verdict" for column in table.judged]


def _verdict_cells(table: SourceTable, row: Row, judged: pd.DataFrame) -> Iterator[str]:
    for part, column in zip(PARTS, table.judged, strict=True):
        of_part = judged[(judged.row == row.key) & (judged.part == part)]
        yield HABIT if of_part.empty and column in row.habits else _tally(of_part)


def _tally(judged: pd.DataFrame) -> str:
    """`mixed (primary: 2 supported; all 9: 7 supported, 1 reversed, 1 inconclusive)`."""
    if judged.empty:
        return UNMEASURED
    primary = _counted(judged[judged.primary == "yes"].verdict) or "none"
    return f"{overall(judged.verdict)} (primary: {primary}; all {len(judged)}: {_counted(judged.verdict)})"


def _counted(words: pd.Series) -> str:
    counts = {word: int((words == word).sum()) for word in WORDS}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _claims_block(judged: pd.DataFrame) -> Block:
    cells = [_claim_cells(claim) for claim in judged.to_dict("records")]
    return Block("claims", "Sub-claims and verdicts", CLAIM_COLUMNS, cells)


def _claim_cells(claim: Cells) -> list[str]:
    """One sub-claim as CLAIM_COLUMNS."""
    primary = "" if claim["primary"] == "yes" else " (secondary)"
    return [
        claim["claim"],
        f"{claim['statement']}{primary}",
        claim["bed"],
        _measured(claim, "estimate"),
        f"{number(claim['margin'])} {claim['unit']}",
        f"{claim['n']} of {claim['seeds']}",
        claim["verdict"],
        _text(claim["gates_failed"]),
        claim["notebook"],
    ]


def _measured(cells: Cells, name: str) -> str:
    """The number with its interval; NOTHING where no replicate has one, for whatever reason its gates give."""
    return interval(*(cells[key] for key in (name, "low", "high", "n"))) if cells["n"] else NOTHING


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _findings_block(table: SourceTable, frame: pd.DataFrame) -> Block:
    columns = [table.columns[0], "Model", "Quantity", "Measured", "n", "Notebook"]
    rows = [
        [
            _source(table, cells).label,
            *(_known(cells[key]) for key in ("model", "quantity")),
            _measured(cells, "mean"),
            _known(cells["n"]),
            _known(cells["notebook"]),
        ]
        for cells in frame.to_dict("records")
    ]
    return Block("findings", "What was measured", columns, rows)


def _differences(name: str, settings: Settings) -> str:
    axis, other = ("schedule", "strategy") if name == "schedules" else ("strategy", "schedule")
    fixed, base = (LABELS[a][getattr(settings.grid.baseline, a)] for a in (other, axis))
    return f"The {other} is {fixed}; differences ($\\Delta$) are to the {axis} {base}, paired by seed."


def _text_block(table: SourceTable, rows: Sequence[Cells], judged: pd.DataFrame, models: Sequence[str]) -> Block:
    """The source table as it is, with the test loss and the verdicts on two of its cells beside it."""
    losses = {(cells["row"], cells["model"]): _interval(cells, "test_loss_") for cells in rows}
    columns = [*table.columns, *(f"Test loss, {LABELS['model'][model]}" for model in models), *_verdict_columns(table)]
    body = [
        [*_source_cells(row), *(losses[row.cells[0], model] for model in models), *_verdict_cells(table, row, judged)]
        for row in table.rows
    ]
    return Block("text", "What the text says, and what the runs say", columns, body)


def _block(
    table: SourceTable, rows: Sequence[Cells], name: str, caption: str, *views: Callable[[Cells], Cells]
) -> Block:
    """One line per row and view: the row's label, its model and what the view shows."""
    shown = [(cells, view(cells)) for cells in rows for view in views]
    columns = [table.columns[0], "Model", *shown[0][1]]
    body = [[cells["row"], LABELS["model"][cells["model"]], *seen.values()] for cells, seen in shown]
    return Block(name, caption, columns, body)


def _performance(cells: Cells) -> Cells:
    baseline = cells["baseline"] is True
    return {
        "Test loss": _interval(cells, "test_loss_"),
        "Test error (%)": _interval(cells, "test_error_", 100),
        "$\\Delta$ test loss": "baseline" if baseline else _interval(cells, "test_loss_difference_"),
        "$\\Delta$ test error (points)": "baseline" if baseline else _interval(cells, "test_error_difference_", 100),
        "n": _known(cells["test_loss_n"]),
        "Diverged": _known(cells["diverged"]),
        "Peak rate": _rate(cells),
        "Steps": _known(cells["steps"]),
        "Gradients": _known(cells["gradient_evaluations"]),
        "Notebook": _known(cells["notebook"]),
    }


def _flatness(cells: Cells) -> Cells:
    shown = {label: _interval(cells, f"{name}_") for name, label in FLATNESS.items()}
    shown |= {"Train loss": _interval(cells, "train_loss_")}  # curvature falls with it, whatever the minimum is like
    return shown | {"n": _counts(cells[f"{name}_n"] for name in FLATNESS)}


def _test_barriers(cells: Cells) -> Cells:
    return _barriers(cells, "test")


def _train_barriers(cells: Cells) -> Cells:
    return _barriers(cells, "train")


def _barriers(cells: Cells, split: str) -> Cells:
    shown = {kind.capitalize(): _interval(cells, f"barrier_{kind}_{split}_loss_") for kind in KINDS}
    return {"Split": split} | shown | {"n": _counts(cells[f"barrier_{kind}_{split}_loss_n"] for kind in KINDS)}


def grid_document(frame: pd.DataFrame, settings: Settings) -> Document:
    """The reader's version of `tables.grid`: per model and quantity a block, schedules down and strategies across."""
    views: dict[str, tuple[str, Callable[[Cells], str]]] = {
        "loss": ("test loss", lambda cells: _half_width(cells, "test_loss_")),
        "error": ("test error (%)", lambda cells: _half_width(cells, "test_error_", 100)),
        "runs": ("finished runs of all", lambda cells: f"{_known(cells['test_loss_n'])} of {cells['runs']}"),
        "rate": ("peak rate", _rate),
        "gradients": ("gradient evaluations per run", lambda cells: _known(cells["gradient_evaluations"])),
        "lambda": (r"$\lambda_{\max}$ of the final iterate", lambda cells: _half_width(cells, "lambda_max_")),
        "trace": (r"$\mathrm{tr} H$ of the final iterate", lambda cells: _half_width(cells, "trace_")),
    }
    arms = {(cells["model"], cells["strategy"], cells["schedule"]): cells for cells in frame.to_dict("records")}
    columns = ["Schedule", *(LABELS["strategy"][strategy] for strategy in settings.grid.strategies)]
    blocks = []
    for model in settings.grid.models:
        for name, (caption, cell) in views.items():
            rows = [
                [
                    LABELS["schedule"][schedule],
                    *(_of_arm(arms.get((model, s, schedule)), cell) for s in settings.grid.strategies),
                ]
                for schedule in settings.grid.schedules
            ]
            blocks.append(Block(f"{model}-{name}", f"{LABELS['model'][model]}, {caption}", columns, rows))
    return Document("grid", "Every schedule under every strategy", blocks, [INTERVALS, RATES])


def _of_arm(cells: Cells | None, cell: Callable[[Cells], str]) -> str:
    """What the grid shows of an arm; the settings may leave out what lies off its row and column."""
    return "not run" if cells is None else cell(cells)


def _source(table: SourceTable, cells: Cells) -> Row:
    return next(row for row in table.rows if row.cells[0] == cells["row"])


def _source_cells(row: Row) -> list[str]:
    return [cell + RESTORED * (i in row.restored) for i, cell in enumerate(row.cells)]


def _lost(table: SourceTable) -> list[str]:
    return [LOST] if any(row.restored for row in table.rows) else []


def _interval(cells: Cells, name: str, scale: float = 1) -> str:
    mean, low, high, n = (cells[f"{name}{part}"] for part in ("mean", "low", "high", "n"))
    return interval(mean, low, high, n, scale)


def _half_width(cells: Cells, name: str, scale: float = 1) -> str:
    mean, low, high, n = (cells[f"{name}{part}"] for part in ("mean", "low", "high", "n"))
    return half_width(mean, low, high, n, scale)


def _rate(cells: Cells) -> str:
    if pd.isna(cells["rate"]):
        return UNMEASURED
    return number(cells["rate"]) + (" (edge)" if cells["rate_at_edge"] != "no" else "")


def _known(value: Any) -> str:
    """A count or a name."""
    if value is None or pd.isna(value):
        return UNMEASURED
    return value if isinstance(value, str) else str(int(value))


def _counts(counts: Iterable[int]) -> str:
    """The n of several quantities: one number where they agree, else one for each."""
    seen = ["-" if pd.isna(n) else str(int(n)) for n in counts]
    if set(seen) == {"-"}:
        return UNMEASURED
    return seen[0] if len(set(seen)) == 1 else "/".join(seen)
