"""Claims of the study of averaging beside scores: flatness at matched loss, usable rates, and the noisy quadratic."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence, tuning
from nonconvex.records import Effect, GateValue

MEASURES = {"trace": "trace", "lambda": "lambda_max", "adaptive": "adaptive_sharpness"}
CLAIMED = {"mlp": ("trace", "lambda"), "resnet": ("trace",)}  # bed -> measures that have claims
OTHERS = ("last", "decayed")  # what the average is compared with
TOLERANCE = 0.02  # test error above a seed's best last iterate, up to which a rate is usable
Frames = Mapping[str, pd.DataFrame]


# Flatness


def log_measure(frames: Frames, model: str, match: str, network: str, column: str) -> pd.Series:
    """ln of a column of curvature by seed; NaN where it is not positive."""
    rows = frames["curvature"]
    rows = rows[(rows.model == model) & (rows.match == match) & (rows.network == network)].set_index("seed")
    return np.log(rows[column].where(rows[column] > 0))


def flatter(frames: Frames, model: str, match: str, column: str, other: str | None = None) -> pd.Series:
    """By how much, in ln, the average is flatter than what it is matched to (or than `other`)."""
    pair = (log_measure(frames, model, match, network, column) for network in (other or match, "swa"))
    return next(pair) - next(pair)


def flatness_claims(frames: Frames) -> Iterator[tuple[str, str, str, str]]:
    """(claim, bed, network matched to, column) of every claim on flatness."""
    for model, measures in CLAIMED.items():
        if model in set(frames["curvature"].model):
            for other in OTHERS:
                yield from ((f"swa.flat_{m}_{other}.{model}", model, other, MEASURES[m]) for m in measures)


def flatness_gates(frames: Frames, model: str, other: str, column: str, arms: list[str]) -> dict[str, float]:
    """Tuning, how unequal the matched losses are, and the residual of λ_max where it is what is compared."""
    tuned, rows = frames["tuned"], frames["curvature"]
    values = tuning.gates(tuned[tuned.model == model], arms)
    values["matched_loss"] = abs(flatter(frames, model, other, "train_loss").mean())
    if column == "lambda_max":
        values["residual"] = rows[(rows.model == model) & (rows.match == other)].residual.max()
    return values


# The range of usable rates


def errors_by_rate(frames: Frames, average: str) -> pd.DataFrame:
    """Test error of the MLP at a constant rate, a row per seed and a column per rate; NaN where a run diverged."""
    rows = frames["runs"]
    of = {"model": "mlp", "schedule": "constant", "labels": "true", "draw": "own", "statistics": "recomputed"}
    chosen = np.logical_and.reduce([rows[name] == value for name, value in of.items()])
    return rows[chosen & (rows.average == average)].pivot(index="seed", columns="rate", values="test_error")


def usable(frames: Frames, average: str) -> pd.DataFrame:
    """By seed, log10 of the `low` and `high` end of the rates at which an average's error is tolerable.

    Tolerable: at most TOLERANCE above the least error of the same seed's last iterates. NaN where no rate is.
    """
    levels = errors_by_rate(frames, "last").min(axis=1) + TOLERANCE
    table = errors_by_rate(frames, average)
    ends = {seed: _interval(row.to_numpy(), np.log10(table.columns), levels[seed]) for seed, row in table.iterrows()}
    return pd.DataFrame.from_dict(ends, orient="index", columns=["low", "high"])


def _interval(errors: np.ndarray, places: np.ndarray, level: float) -> tuple[float, float]:
    """Where the error, linear between rates, stays at or below `level` around its least value."""
    errors = np.where(np.isfinite(errors), errors, np.inf)
    best = int(errors.argmin())
    if errors[best] > level:
        return np.nan, np.nan
    return _end(errors[best::-1], places[best::-1], level), _end(errors[best:], places[best:], level)


def _end(errors: np.ndarray, places: np.ndarray, level: float) -> float:
    above = np.flatnonzero(errors > level)
    if not len(above):
        return float(places[-1])
    i = above[0]
    # a diverged neighbour says nothing about where between the two the error crosses the level
    share = (level - errors[i - 1]) / (errors[i] - errors[i - 1]) if np.isfinite(errors[i]) else 0.0
    return float(places[i - 1] + share * (places[i] - places[i - 1]))


def width(frames: Frames, average: str) -> pd.Series:
    """log10 of the highest over the lowest usable rate, by seed; no range where no rate is usable."""
    ends = usable(frames, average)
    return (ends.high - ends.low).fillna(0.0)


def inside(frames: Frames, averages: tuple[str, ...]) -> float:
    """Share of seeds and averages whose usable range ends inside the grid on both sides."""
    grid = np.log10(errors_by_rate(frames, "last").columns)
    found = pd.concat([usable(frames, average) for average in averages])
    return float(((found.low > grid.min()) & (found.high < grid.max())).mean())


def widened(frames: Frames, ema: str) -> pd.Series:
    return width(frames, ema) - width(frames, "last")


# The noisy quadratic


def worst(frames: Frames, average: str, column: str) -> pd.Series:
    """The signed deviation of largest size over the horizons, one per product of rate and curvature, numbered."""
    rows = frames["quadratic"][frames["quadratic"].average == average]
    rows = rows.assign(simulation=rows.simulated / rows.closed_form - 1)
    found = [part[column].loc[part[column].abs().idxmax()] for _, part in rows.groupby("product")]
    return pd.Series(found, index=range(len(found)), dtype=float)


THEORY = {"variance_exact": "deviation", "variance_simulated": "simulation"}
RANGE = "ema.rate_range.mlp"


def effects(frames: Frames, row: str, ema: str) -> list[Effect]:
    """Effects of the row's claims and of their controls."""
    found = []
    for name, column in THEORY.items():
        found += evidence.effects(f"{row}.{name}", worst(frames, row, column))
    if row == "ema" and not errors_by_rate(frames, ema).empty:
        found += evidence.effects(RANGE, widened(frames, ema))
    for claim, model, other, column in flatness_claims(frames) if row == "swa" else ():
        found += evidence.effects(claim, flatter(frames, model, other, column))
        found += evidence.effects(claim, flatter(frames, model, "end", column, "swa_other"), "same_arm")
    return found


def gates(frames: Frames, row: str, ema: str, baseline: Mapping[str, str]) -> list[GateValue]:
    """Gates of the row's claims; `baseline` names the decayed arm of each bed."""
    found = []
    if row == "ema" and not errors_by_rate(frames, ema).empty:
        found += evidence.gates(RANGE, {"averaging_range_inside": inside(frames, ("last", ema))})
    for claim, model, other, column in flatness_claims(frames) if row == "swa" else ():
        arms = ["constant swa"] + ([baseline[model]] if other == "decayed" else [])
        found += evidence.gates(claim, flatness_gates(frames, model, other, column, arms))
    return found


def findings(frames: Frames, row: str, ema: str) -> Iterator[tuple[str, str, pd.Series]]:
    """(bed, quantity, values) of what the row's notebook found; the noisy quadratic has no bed."""
    if row == "swa":
        for model in dict.fromkeys(frames["curvature"].model):
            for column in MEASURES.values():
                for other in OTHERS:
                    yield model, f"ln {column}, {other} minus swa, matched loss", flatter(frames, model, other, column)
                    yield model, f"ln {column}, {other} minus swa, ends", flatter(frames, model, "end", column, other)
    else:
        for average in ("last", ema):
            yield "mlp", f"log10 of the highest over the lowest usable rate, {average}", width(frames, average)
            yield "mlp", f"log10 of the highest usable rate, {average}", usable(frames, average).high
