"""One view of what is known about schedules: the study's runs on the MLP, the grid's on its models. No torch.

Frames hold the study's records by file name (tuning, tuned, runs, theory, responses) and the grid's under plain
minibatch training: `grid` with the columns of `records.Run`, `curves` with those of `records.CurvePoint`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from nonconvex.contrasts import tuning
from nonconvex.source_tables import SCHEDULES

Frames = Mapping[str, pd.DataFrame]
NAMES = tuple(row.key for row in SCHEDULES.rows)  # the eight schedules
BED = "mlp"
MODELS = (BED, "resnet", "transformer")
CRITERION = "validation_loss"
JUDGED = {  # what a bed's schedules are compared by -> its column on validation data, tolerance of a usable rate
    "mlp": ("test_error", "validation_error", 0.01),
    "resnet": ("test_error", "validation_error", 0.01),
    "transformer": ("test_loss", "validation_loss", 0.02),
}
HORIZONS = ("quarter", "half", "three_quarters")
PARTS = {"quarter": 0.25, "half": 0.5, "three_quarters": 0.75, "end": 1.0}
PLANNED = ("cosine", "linear")


def tuning_name(arm: str, use: str) -> str:
    """How the tuning records call an arm."""
    return arm if use == "whole" else f"{arm}@{use}"


# Tuning: the study's own, and the grid's in the same columns


def trials(frames: Frames, model: str, arm: str) -> pd.DataFrame:
    """The tuning runs of an arm, with seed, rate, validation_loss and validation_error among the columns."""
    if model != BED and arm in NAMES:
        rows = frames["grid"]
        return rows[(rows.phase == "tuning") & (rows.model == model) & (rows.schedule == arm)]
    rows = frames["tuning"]
    return rows[(rows.model == model) & (rows.arm == arm)]


def arms(frames: Frames) -> pd.DataFrame:
    """Every tuned arm with the columns of `TunedArm`."""
    places = [(model, arm, trials(frames, model, arm)) for model in MODELS if model != BED for arm in NAMES]
    grid = [_tuned(model, arm, rows) for model, arm, rows in places if len(rows)]
    return pd.concat([frames["tuned"], pd.DataFrame(grid, columns=frames["tuned"].columns)], ignore_index=True)


def _tuned(model: str, arm: str, rows: pd.DataFrame) -> tuple:
    means = by_rate(rows)
    best = means.fillna(np.inf).idxmin()
    return model, arm, CRITERION, best, int(means.index[0] < best < means.index[-1]), len(rows)


def by_rate(rows: pd.DataFrame, column: str = CRITERION) -> pd.Series:
    """Mean over the tuning seeds at every rate, rising; NaN where one diverged."""
    return rows.groupby("rate")[column].agg(lambda values: values.mean(skipna=False)).sort_index()


def tuned_gates(frames: Frames, model: str, names: Sequence[str]) -> dict[str, float | None]:
    """The gates of tuning of a contrast between arms of a bed; None where one of them was not tuned."""
    found = arms(frames)
    found = found[found.model == model]
    if not set(names) <= set(found.arm):
        return {"rate_interior": None, "equal_tuning": None}
    return tuning.gates(found, names)


def criterion(frames: Frames, model: str, arm: str) -> float:
    """Mean of the tuning criterion at an arm's tuned rate, which is its least; infinite where nothing was tuned."""
    least = by_rate(trials(frames, model, arm)).min()
    return float(least) if np.isfinite(least) else np.inf


def ranked(frames: Frames, model: str, names: Sequence[str]) -> list[str]:
    """The arms from best to worst on the tuning seeds; of equals the first named first."""
    return sorted(names, key=lambda arm: (criterion(frames, model, arm), names.index(arm)))


# Scores of reported runs, by seed


def score(
    frames: Frames,
    model: str,
    arm: str,
    column: str,
    use: str = "whole",
    look: str = "end",
    labels: str = "true",
    draw: str = "own",
) -> pd.Series:
    """A score of the reported runs of an arm by seed; NaN for one that diverged, empty where nothing was run."""
    if model != BED and arm in NAMES:
        rows = frames["grid"]
        rows = rows[(rows.phase == "reported") & (rows.model == model) & (rows.schedule == arm)]
    else:
        rows = frames["runs"]
        wanted = {"model": model, "arm": arm, "use": use, "look": look, "labels": labels, "draw": draw}
        rows = rows[np.logical_and.reduce([rows[key] == value for key, value in wanted.items()])]
    return rows.set_index("seed")[column].sort_index()


def siblings(frames: Frames, model: str, arm: str, column: str) -> pd.Series:
    """What a second run of an arm of the grid ends higher by, on validation data: both share their first steps."""
    rows = frames["grid"]
    rows = rows[(rows.model == model) & (rows.schedule == arm)]
    first, second = (rows[rows.phase == phase].set_index("seed")[column] for phase in ("reported", "sibling"))
    return (second - first.reindex(second.index)).sort_index()


# What is read off them


def usable(frames: Frames, model: str, arm: str) -> pd.DataFrame:
    """The usable rates by tuning seed: columns low and high (rates), width (log10), inside (both ends in the grid).

    Usable is a rate whose score lies within the bed's tolerance of the seed's best, between rates of the grid by
    linear interpolation in log10 of the rate; of several stretches, the one around the best.
    """
    _, column, tolerance = JUDGED[model]
    found = trials(frames, model, arm).sort_values("rate")
    rows = {seed: _stretch(one.rate, one[column], tolerance) for seed, one in found.groupby("seed")}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["low", "high", "width", "inside"], dtype=float)


def _stretch(rates: pd.Series, scores: pd.Series, tolerance: float) -> tuple[float, float, float, bool]:
    x, y = np.log10(rates.to_numpy(float)), scores.to_numpy(float)
    if not np.isfinite(y).any():
        return np.nan, np.nan, np.nan, False
    best = int(np.nanargmin(y))
    limit = y[best] + tolerance
    low, low_inside = _crossing(x[best::-1], y[best::-1], limit)
    high, high_inside = _crossing(x[best:], y[best:], limit)
    return 10**low, 10**high, high - low, low_inside and high_inside


def _crossing(x: np.ndarray, y: np.ndarray, limit: float) -> tuple[float, bool]:
    """Where y, starting below the limit, first crosses it; the last x where it does not. A NaN lies above, at once."""
    for i in range(1, len(x)):
        if not y[i] <= limit:
            share = (limit - y[i - 1]) / (y[i] - y[i - 1]) if np.isfinite(y[i]) else 0.0
            return float(x[i - 1] + share * (x[i] - x[i - 1])), True
    return float(x[-1]), False


def reference(frames: Frames, use: str) -> str:
    """The schedule that, planned for a horizon, did best on the tuning seeds; at a whole run of all eight."""
    if use == "end":
        return ranked(frames, BED, NAMES)[0]
    if use == "double":
        return ranked(frames, BED, PLANNED)[0]
    return ranked(frames, BED, [tuning_name(arm, use) for arm in PLANNED])[0].removesuffix(f"@{use}")


def regret(frames: Frames, arm: str, look: str, column: str = "test_loss") -> pd.Series:
    """How much higher the MLP's unfinished run is than one that was planned to end there, by seed."""
    use = "whole" if look == "end" else look
    planned = score(frames, BED, reference(frames, look), column, use=use)
    return score(frames, BED, arm, column, look=look) - planned


def extension(frames: Frames, arm: str, column: str = "test_loss", natural: bool = False) -> pd.Series:
    """How much higher a run that goes on to twice its length ends than one that was planned for it, by seed."""
    if natural and arm != "constant":  # whose last rate is its formula
        found = score(frames, BED, arm, column, use="natural", look="double")
    else:
        found = score(frames, BED, arm, column, look="double")
    return found - score(frames, BED, reference(frames, "double"), column, use="double")


def behind(frames: Frames, model: str, part: float) -> pd.DataFrame:
    """Training loss of the grid's runs at a share of the run, minus the least over schedules: seed x schedule."""
    curves = frames["curves"][frames["curves"].model == model]
    if curves.empty:
        return pd.DataFrame(columns=list(NAMES))
    target = part * (curves.step.max() + 1) - 1
    nearest = curves.step.iloc[(curves.step - target).abs().argmin()]
    losses = curves[curves.step == nearest].pivot(index="seed", columns="schedule", values="loss")
    return losses.sub(losses.mean().min()).reindex(columns=list(NAMES))


def agreement(frames: Frames, model: str) -> pd.Series:
    """Kendall's tau between the theory's losses and a bed's test losses over the eight schedules, by seed."""
    expected = frames["theory"].set_index("schedule").loss.reindex(NAMES)
    found = pd.concat([score(frames, model, arm, "test_loss") for arm in NAMES], axis=1, keys=NAMES)
    taus = {seed: stats.kendalltau(expected, row).statistic for seed, row in found.dropna().iterrows()}
    return pd.Series(taus, dtype=float)


def summary(frames: Frames, model: str) -> pd.DataFrame:
    """One row per schedule: theory, tuned, common peak, usable range, regret, extension."""
    return pd.DataFrame({arm: _row(frames, model, arm) for arm in NAMES}).T


def _row(frames: Frames, model: str, arm: str) -> dict[str, float]:
    theory = frames["theory"].set_index("schedule")
    found = trials(frames, model, arm)
    values = {
        "theory": theory.loss.get(arm, np.nan),
        "theory, common peak": theory.common_loss.get(arm, np.nan),
        "test loss": score(frames, model, arm, "test_loss").mean(),
        "test error": score(frames, model, arm, "test_error").mean(),
        "usable range": usable(frames, model, arm).width.mean(),
    }
    if model == BED:
        values["common: test loss"] = score(frames, model, arm, "test_loss", use="common").mean()
        values |= {f"regret at {PARTS[look]:.0%}": regret(frames, arm, look).mean() for look in HORIZONS}
        values["extension"] = extension(frames, arm).mean()
    else:
        values["common: validation loss"] = found[found.rate == found.rate.min()].validation_loss.mean()
        values |= {f"behind at {PARTS[look]:.0%}": behind(frames, model, PARTS[look])[arm].mean() for look in HORIZONS}
    return values
