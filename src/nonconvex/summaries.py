"""One row of numbers per arm, tidy and wide: `<quantity>_mean`, `_low`, `_high` (95 %) and `_n`.

`n` counts what the mean is over: finished runs, pairs of runs that finished, or paths. It is missing where
nothing was measured, and zero where all that was measured diverged.
"""

import numpy as np
import pandas as pd

from nonconvex import plan, statistics
from nonconvex.arms import ARM, Records
from nonconvex.config import Settings
from nonconvex.statistics import Interval

OUTCOMES = ("test_loss", "test_error", "train_loss", "train_error")
COMPARED = ("test_loss", "test_error")
FLATNESS = (
    "lambda_max",
    "lambda_min",
    "trace",
    "gauss_newton_max",
    "condition_number",
    "sam_sharpness",
    "worst_sharpness",
    "average_sharpness",
    "adaptive_sharpness",
    "keskar_sharpness",
)
KINDS = ("linear", "aligned", "curve", "siblings")
BARRIERS = (("test", "loss"), ("train", "loss"), ("test", "error"))
EDGES = {(False, False): "no", (True, False): "lowest", (False, True): "highest", (True, True): "only"}


def summaries(records: Records, settings: Settings) -> pd.DataFrame:
    """A row for every arm that was run, in the grid's order: the arm, its rate and cost, then every quantity."""
    reported, grid = records.reported, settings.grid
    rows = []
    for model in grid.models:
        of_model = reported[reported.model == model]
        baseline = _arm(of_model, (model, grid.baseline.strategy, grid.baseline.schedule))
        for strategy in grid.strategies:
            for schedule in plan.schedules_under(settings, strategy):
                arm = (model, strategy, schedule)
                runs = _arm(of_model, arm)
                row = dict(zip(ARM, arm, strict=True)) | {"baseline": runs.index.equals(baseline.index)}
                row |= _cost(runs, settings.train[model].rates) | _outcomes(runs) | _differences(runs, baseline)
                rows.append(row | _flatness(records.measurements, arm) | _barriers(records.barriers, arm))
    frame = pd.DataFrame(rows)
    return frame.astype({column: "Int64" for column in frame if column.endswith("_n")})


def spread(name: str, found: Interval | None) -> dict[str, float | None]:
    """The four cells of a quantity; None where it was not measured."""
    cells = (found.estimate, found.low, found.high, found.n) if found else (np.nan, np.nan, np.nan, pd.NA)
    return {f"{name}_{part}": cell for part, cell in zip(("mean", "low", "high", "n"), cells, strict=True)}


def _arm(frame: pd.DataFrame, arm: tuple[str, str, str]) -> pd.DataFrame:
    return frame[(frame[ARM] == list(arm)).all(axis=1)]


def _cost(runs: pd.DataFrame, rates: tuple[float, ...]) -> dict:
    first = runs.iloc[0]
    at = np.isclose([rates[0], rates[-1]], first.rate, rtol=1e-8, atol=0)
    return {
        "rate": first.rate,
        "rate_at_edge": EDGES[bool(at[0]), bool(at[1])],
        "steps": first.steps,
        "gradient_evaluations": first.gradient_evaluations,
        "runs": len(runs),
        "diverged": int(runs.diverged_step.notna().sum()),
    }


def _outcomes(runs: pd.DataFrame) -> dict:
    cells = {}
    for name in OUTCOMES:
        cells |= spread(name, statistics.mean(runs[name].dropna()))
    return cells


def _differences(runs: pd.DataFrame, baseline: pd.DataFrame) -> dict:
    """This arm minus the baseline, seed by seed, over the seeds with which both finished."""
    mine, other, cells = runs.set_index("seed"), baseline.set_index("seed"), {}
    for name in COMPARED:
        differences = (mine[name] - other[name]).dropna()
        cells |= spread(f"{name}_difference", statistics.mean(differences))
        cells[f"{name}_difference_p"] = statistics.sign_flip(differences, np.random.default_rng(0))
    return cells


def _flatness(measurements: pd.DataFrame, arm: tuple[str, str, str]) -> dict:
    of_arm, cells = _arm(measurements, arm), {}
    for name in FLATNESS:
        rows = of_arm[of_arm.quantity == name]
        if rows.seed.duplicated().any():
            raise ValueError(f"{'/'.join(arm)}: {name} is measured in several ways; one per run allowed here")
        cells |= spread(name, statistics.mean(rows.value.dropna()) if len(rows) else None)
    return cells


def _barriers(barriers: pd.DataFrame, arm: tuple[str, str, str]) -> dict:
    of_arm, cells = _arm(barriers, arm), {}
    for kind in KINDS:
        for split, metric in BARRIERS:
            rows = of_arm[(of_arm.kind == kind) & (of_arm.split == split) & (of_arm.metric == metric)]
            high = rows.dropna(subset="barrier")
            found = statistics.pairs_of_runs(high.barrier, high.seed_a, high.seed_b) if len(rows) else None
            cells |= spread(f"barrier_{kind}_{split}_{metric}", found)
    return cells
