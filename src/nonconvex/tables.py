"""The text's tables with their rows measured, the full grid, and headline numbers, all from records."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from nonconvex import records
from nonconvex.arms import ARM
from nonconvex.claims import overall
from nonconvex.config import Settings
from nonconvex.paths import Results
from nonconvex.source_tables import SCHEDULES, SOURCE_TABLES, STRATEGIES, Row, SourceTable

CLAIMED = ("properties", "factors", "prose")  # tables whose rows are judged claim by claim
PARTS = ("observation", "implication")
MEASURED = ("model", "quantity", "mean", "low", "high", "n", "notebook")
COST = ("rate", "rate_at_edge", "steps", "gradient_evaluations", "runs", "diverged")
GRID_QUANTITIES = (
    "test_loss",
    "test_error",
    "test_loss_difference",
    "test_error_difference",
    "lambda_max",
    "trace",
)


def findings(files: Results) -> pd.DataFrame:
    """What the property and factor notebooks have found so far."""
    frames = [records.read(path, records.Finding) for path in files.every("findings")]
    return pd.concat(frames, ignore_index=True) if frames else records.empty(records.Finding)


def claims_table(name: str, found: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of claims (a name in CLAIMED), each with its verdicts and what was found about it.

    One row per model and quantity of `found` (records.Finding); `judged` holds records of judging.Verdict.
    """
    return with_verdicts(name, _with_findings(SOURCE_TABLES[name], found), judged)


def strategies(summary: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The text's rows, each on the baseline schedule: one row per strategy and model."""
    return _with_arms(STRATEGIES, "strategy", "schedule", summary, settings)


def schedules(summary: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The text's rows, each under the baseline strategy: one row per schedule and model."""
    return _with_arms(SCHEDULES, "schedule", "strategy", summary, settings)


def with_verdicts(name: str, frame: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """A table's rows with the columns <part>_verdict behind those of the text: one word for all claims on a cell."""
    table, judged = SOURCE_TABLES[name], judged[judged.table == name]
    _refuse_strangers("verdicts", table, judged)
    keys = frame.row.map({row.cells[0]: row.key for row in table.rows})
    words = judged.groupby(["part", "row"]).verdict.agg(overall)
    frame, place = frame.copy(), frame.columns.get_loc("restored") + 1
    for offset, part in enumerate(PARTS):
        of_part = words.xs(part) if part in words.index.get_level_values(0) else pd.Series(dtype="str")
        frame.insert(place + offset, f"{part}_verdict", keys.map(of_part))
    return frame


def grid(summary: pd.DataFrame) -> pd.DataFrame:
    """Every schedule under every strategy: one row per arm."""
    parts = [f"{name}_{part}" for name in GRID_QUANTITIES for part in ("mean", "low", "high", "n")]
    return summary[[*ARM, "baseline", *COST, *parts]]


def metrics(summary: pd.DataFrame, settings: Settings) -> dict:
    """Headline numbers, fewer than twenty for up to three models; four digits, and none that is missing."""
    runs, diverged = int(summary.runs.sum()), int(summary.diverged.sum())
    found: dict[str, Any] = {
        "runs": runs,
        "diverged": diverged,
        "rates_at_edge": int((summary.rate_at_edge != "no").sum()),
    }
    for model in settings.grid.models:
        arms = summary[summary.model == model]
        base = arms[arms.baseline].iloc[0]
        better = arms[arms.test_loss_difference_high < 0]
        numbers = {name: base[f"{name}_mean"] for name in ("test_loss", "test_error", "lambda_max")}
        numbers["schedules_better"] = int((better.strategy == settings.grid.baseline.strategy).sum())
        numbers["strategies_better"] = int((better.schedule == settings.grid.baseline.schedule).sum())
        found[model] = {name: _rounded(value) for name, value in numbers.items() if pd.notna(value)}
    return found


def write_metrics(path: Path, found: dict) -> None:
    """As JSON; ValueError for a number that is not finite."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.4g}")


def _with_findings(table: SourceTable, found: pd.DataFrame) -> pd.DataFrame:
    found = found[found.table == table.name]
    _refuse_strangers("findings", table, found)
    texts = pd.DataFrame([_texts(table, row) | {"key": row.key} for row in table.rows])
    measured = found[["row", *MEASURED]].rename(columns={"row": "key"})
    return texts.merge(measured, on="key", how="left").astype({"n": "Int64"}).drop(columns="key")


def _refuse_strangers(what: str, table: SourceTable, rows: pd.DataFrame) -> None:
    keys = [row.key for row in table.rows]
    if unknown := sorted(set(rows.row) - set(keys)):
        raise ValueError(f"{what} about {', '.join(unknown)}; rows of {table.name}: {', '.join(keys)}")


def _with_arms(table: SourceTable, axis: str, other: str, summary: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Every source row for every model, with its arm's numbers if the grid has it, `other` at baseline."""
    base = settings.grid.baseline
    rows = [
        _texts(table, row)
        | {
            "model": model,
            axis: row.key,
            other: getattr(base, other),
            "baseline": row.key == getattr(base, axis),
        }
        for row in table.rows
        for model in settings.grid.models
    ]
    measured = summary.drop(columns="baseline").assign(notebook=_notebooks(summary))
    return pd.DataFrame(rows).merge(measured, on=ARM, how="left")


def _texts(table: SourceTable, row: Row) -> dict[str, str]:
    """The source row under column names that a program can use; the first column is always `row`."""
    names = ["row", *(column.lower().replace(" ", "_") for column in table.columns[1:])]
    restored = ", ".join(names[i] for i in row.restored)
    return dict(zip(names, row.cells, strict=True)) | {"restored": restored}


def _notebooks(arms: pd.DataFrame) -> list[str]:
    files, stages = Results(Path(), ""), zip(arms.model, arms.strategy, strict=True)
    return [files.training(model, strategy).stem for model, strategy in stages]
