"""From the runs at the edge of stability to the effects, gates and findings of its claims.

A run's ratio is its curvature over its own threshold. It is at the edge from the first reading at REACHED or more to
its end; where it then stays is the mean over the last quarter of those readings. Frames hold the records of
`observations.edge_of_stability` by file name.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK, MODEL = "edge_of_stability", "property_edge_of_stability", "mlp"
REACHED = 0.95  # of the threshold
MIDDLE = 1.05  # of the band (0.9, 1.2) of ratios that count as the edge
RUN = ["loss", "optimizer", "rate", "seed"]
CHANGE = ["loss", "arm", "seed"]
SPEEDS = ("slow", "medium", "fast")
OPTIMIZERS = ("gd", "heavy_ball", "nesterov", "adam")
LOSSES = ("squared_error", "cross_entropy")
Frames = Mapping[str, pd.DataFrame]


# What happened along a run


def along(frames: Frames) -> pd.DataFrame:
    """The points of all runs with their `ratio`, and whether the run is at the `edge` there."""
    points = frames["points"].merge(frames["runs"][[*RUN, "threshold"]], on=RUN).sort_values([*RUN, "step"])
    # r = λ_max / threshold: λ_max η / 2 for gradient descent
    points["ratio"] = points.sharpness / points.threshold
    points["edge"] = (points.ratio >= REACHED).groupby([points[name] for name in RUN]).cummax()
    return points.reset_index(drop=True)


def after(frames: Frames) -> pd.DataFrame:
    """The points after a change of the rate, with their `ratio` to the arm's own 2 / rate."""
    points = frames["changes"].sort_values([*CHANGE, "step"])
    return points.assign(ratio=points.sharpness / points.threshold).reset_index(drop=True)


def last_quarter(points: pd.DataFrame, keys: Sequence[str], ascending: bool = False) -> pd.DataFrame:
    """The last quarter of every run's rows, at least one (`ascending`: the first)."""
    groups = points.groupby(list(keys))
    return points[groups.cumcount(ascending=ascending) < (groups.step.transform("size") // 4).clip(lower=1)]


def level(points: pd.DataFrame, keys: Sequence[str], column: str) -> pd.Series:
    """Mean of a column per run; a run with a missing reading has none."""
    return points.groupby(list(keys))[column].agg(lambda values: values.mean(skipna=False))


def by_rate(values: pd.Series, runs: pd.DataFrame, loss: str, optimizer: str = "gd") -> pd.DataFrame:
    """Values of an arm's runs as seeds x rates; NaN for a run that has none."""
    arm = runs[(runs.loss == loss) & (runs.optimizer == optimizer)]
    index = pd.MultiIndex.from_frame(arm[RUN])
    return values.reindex(index).droplevel(["loss", "optimizer"]).unstack("rate")


def settled(frames: Frames, loss: str, optimizer: str = "gd") -> pd.DataFrame:
    """Where the ratio stays at the edge: seeds x rates."""
    points = along(frames)
    return by_rate(level(last_quarter(points[points.edge], RUN), RUN, "ratio"), frames["runs"], loss, optimizer)


def furthest(table: pd.DataFrame, middle: float = MIDDLE) -> pd.Series:
    """Per seed the signed distance from `middle` at the rate where it is largest; NaN where a rate is missing."""
    distance = table - middle
    whole = distance.dropna()
    return pd.Series([row[np.argmax(abs(row))] for row in whole.to_numpy()], index=whole.index, dtype=float)


# The claims


def effects(frames: Frames) -> list[Effect]:
    """Everything that the claims are judged by, one effect per seed."""
    return [*edges(frames), *speeds(frames), *slopes(frames), *fall(frames), *changes(frames), *organisation(frames)]


def edges(frames: Frames) -> list[Effect]:
    """edge.<optimizer>_<loss>: distance from the middle of the band at the rate where it is largest."""
    return [
        effect
        for loss in LOSSES
        for optimizer in OPTIMIZERS
        for effect in _effects(f"edge.{optimizer}_{loss}", furthest(settled(frames, loss, optimizer)))
    ]


def speeds(frames: Frames) -> list[Effect]:
    """edge_<speed>.gd_squared_error: the same at each of three rates by itself."""
    table = settled(frames, "squared_error")
    if len(table.columns) != len(SPEEDS):
        return []
    columns = zip(SPEEDS, (table[rate] for rate in sorted(table)), strict=True)
    return [effect for name, one in columns for effect in _effects(f"edge_{name}.gd_squared_error", one - MIDDLE)]


def slopes(frames: Frames) -> list[Effect]:
    """slope.gd_<loss>: how log λ_max at the end goes with log 1/η, per seed, minus the slope 1 of λ_max = 2/η."""
    final = level(last_quarter(along(frames), RUN), RUN, "sharpness")
    found = []
    for loss in LOSSES:
        table = np.log(by_rate(final, frames["runs"], loss).dropna())
        if len(table.columns) > 1:
            # b of log λ = a + b log(1/η)
            x = -np.log(table.columns.to_numpy(float))
            x = x - x.mean()
            found += _effects(f"slope.gd_{loss}", (table * x).sum(axis=1) / (x @ x) - 1)
    return found


def fall(frames: Frames) -> list[Effect]:
    """falls.gd_cross_entropy: how far the ratio at the edge falls from its first to its last quarter, in logs."""
    edge = along(frames).query("edge")
    first, last = (level(last_quarter(edge, RUN, ascending), RUN, "ratio") for ascending in (True, False))
    table = by_rate(np.log(first / last), frames["runs"], "cross_entropy")
    return _effects("falls.gd_cross_entropy", table.mean(axis=1, skipna=False))


def changes(frames: Frames) -> list[Effect]:
    """divide, multiply (with the control that changes nothing) and return, from the runs that left one checkpoint."""
    late = last_quarter(after(frames), CHANGE)
    sharp, ratio = (level(late, CHANGE, column).unstack("arm") for column in ("sharpness", "ratio"))
    found = []
    for loss in sorted(set(late.loss)):
        # d = log λ(arm) - log λ(keep)
        d = np.log(sharp.loc[loss]).sub(np.log(sharp.loc[loss]["keep"]), axis=0)
        for name, arm in (("divide", "much_lower"), ("multiply", "higher")):
            found += _effects(f"{name}.{loss}", d[arm]) + _effects(f"{name}.{loss}", d["jostled"], "same_arm")
    if "squared_error" in set(late.loss):
        for arm in ("lower", "higher"):
            found += _effects(f"return_{arm}.squared_error", ratio.loc["squared_error"][arm] - MIDDLE)
    return found


def organisation(frames: Frames) -> list[Effect]:
    """approach, nonmonotone and progress: from below, with a loss that rises often and falls in the end."""
    points, runs = along(frames), frames["runs"]
    edge, loss = points[points.edge], "squared_error"
    start = by_rate(_at(points, "ratio", 0), runs, loss)
    rises = level(edge[edge.groupby(RUN).cumcount() > 0], RUN, "rises")  # the first reading's are from before
    fallen = np.log(_at(edge, "train_loss", 0) / _at(edge, "train_loss", -1))
    return [
        *_effects("approach.gd_squared_error", (settled(frames, loss) - start).min(axis=1, skipna=False)),
        *_effects("nonmonotone.gd_squared_error", by_rate(rises, runs, loss).mean(axis=1, skipna=False)),
        *_effects("progress.gd_squared_error", by_rate(fallen, runs, loss).mean(axis=1, skipna=False)),
    ]


def _at(points: pd.DataFrame, column: str, place: int) -> pd.Series:
    """A column's value at a run's first (0) or last (-1) reading, missing or not."""
    return points.groupby(RUN)[column].agg(lambda values: values.iloc[place])


def _effects(claim: str, values: pd.Series, role: str = "claim") -> list[Effect]:
    return evidence.effects(f"{ROW}.{claim}", values, role)


# The gates


def gates(frames: Frames) -> list[GateValue]:
    """Whether the runs behind each claim reached the edge, and how exact their eigenvalues are."""
    points, changed, found = along(frames), after(frames), []
    for loss in LOSSES:
        for optimizer in OPTIMIZERS:
            found += _gates(f"edge.{optimizer}_{loss}", _arm(points, loss, optimizer), RUN)
        found += _gates(f"slope.gd_{loss}", _arm(points, loss).assign(edge=True), RUN, ("residual",))
    gd = _arm(points, "squared_error")
    for name, rate in zip(SPEEDS, sorted(set(gd.rate)), strict=False):
        found += _gates(f"edge_{name}.gd_squared_error", gd[gd.rate == rate], RUN)
    found += _gates("falls.gd_cross_entropy", _arm(points, "cross_entropy"), RUN)
    found += _gates("approach.gd_squared_error", gd, RUN)
    for name in ("nonmonotone", "progress"):
        found += _gates(f"{name}.gd_squared_error", gd, RUN, ("edge_reached",))
    for loss, of_loss in changed.groupby("loss"):
        names = ["divide", "multiply", *(["return_lower", "return_higher"] if loss == "squared_error" else [])]
        for name in names:
            found += _changed_gates(f"{name}.{loss}", of_loss)
    return found


def _arm(points: pd.DataFrame, loss: str, optimizer: str = "gd") -> pd.DataFrame:
    return points[(points.loss == loss) & (points.optimizer == optimizer)]


def _gates(
    claim: str, points: pd.DataFrame, keys: list[str], names: Sequence[str] = ("edge_reached", "residual")
) -> list[GateValue]:
    values = {
        "edge_reached": points.groupby(keys).edge.any().mean() if len(points) else None,
        "residual": points[points.edge].residual.max() if len(points) else None,
    }
    return evidence.gates(f"{ROW}.{claim}", {name: values[name] for name in names})


def _changed_gates(claim: str, points: pd.DataFrame) -> list[GateValue]:
    """The checkpoint was at the edge if the run that goes on unchanged is, at some reading."""
    kept = points[points.arm == "keep"]
    values = {
        "edge_reached": (kept.groupby("seed").ratio.max() >= REACHED).mean(),
        "residual": last_quarter(points, CHANGE).residual.max(),
    }
    return evidence.gates(f"{ROW}.{claim}", values)


# What the notebook found


def findings(frames: Frames) -> list[Finding]:
    """Ratios at the edge, curvature after a change of the rate, and how often the loss rises."""
    runs, found = frames["runs"], []
    for loss, optimizer in runs[["loss", "optimizer"]].drop_duplicates().itertuples(index=False):
        for rate, ratios in settled(frames, loss, optimizer).items():
            found.append(_finding(f"lambda_max over threshold, {optimizer}, {loss}, rate {rate:g}", ratios))
    late = level(last_quarter(after(frames), CHANGE), CHANGE, "sharpness")
    for (loss, arm), values in late.groupby(["loss", "arm"]):
        found.append(_finding(f"lambda_max after the change, {arm}, {loss}", values))
    rises = along(frames).query("edge").groupby(RUN).rises.mean()
    for rate, shares in by_rate(rises, runs, "squared_error").items():
        found.append(_finding(f"share of updates that raise the loss at the edge, gd, rate {rate:g}", shares))
    return found


def _finding(quantity: str, values: pd.Series) -> Finding:
    return evidence.finding(ROW, MODEL, quantity, values, NOTEBOOK)
