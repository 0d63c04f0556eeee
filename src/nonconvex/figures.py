"""Frames in, figures out: no function here reads a file. Titles say what is averaged, and over how many.

Frames are those of `arms.Records` and `tables`; models are panels side by side, in the frame's order.
`axis` is what is compared: `schedule` (under the baseline strategy) or `strategy` (on the baseline
schedule).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import StrMethodFormatter
from pandas.core.groupby import DataFrameGroupBy

from nonconvex import statistics
from nonconvex.panels import Page, counted, legend, panels, plain_log, save, titled
from nonconvex.source_tables import LABELS
from nonconvex.statistics import Interval
from nonconvex.style import Look, house, look
from nonconvex.summaries import KINDS

__all__ = [
    "barriers",
    "connectivity_profiles",
    "flatness",
    "forest",
    "grid_heatmap",
    "loss_curves",
    "rate_response",
    "save",
    "schedule_shapes",
]


@house()
def rate_response(tuning: pd.DataFrame, strategy: str) -> Figure:
    """Validation loss at the end against the peak rate, a line per schedule under one strategy."""
    runs = tuning[tuning.strategy == strategy]
    figure, axes = panels(runs.model.unique(), height=3)
    for panel, (_, of_model) in zip(axes[0], runs.groupby("model", sort=False), strict=True):
        for schedule, of_arm in of_model.groupby("schedule", sort=False):
            _response(panel, of_arm, look("schedule", schedule))
        rates = sorted(of_model.rate.unique())
        panel.set(xscale="log", yscale="log", xlabel="peak rate", ylabel="validation loss (nats)")
        panel.set_xticks(rates, [f"{rate:.3g}" for rate in rates], rotation=45)
        panel.set_xticks([], minor=True)
        plain_log(panel.yaxis)
    legend(figure, axes[0])
    text = (
        f"Rate response, strategy {LABELS['strategy'][strategy]}: validation loss, mean over "
        f"tuning seeds ({counted([runs.seed.nunique()])}). Dots: single seeds; large: the chosen rate; "
        "crosses at the top: a run diverged."
    )
    return titled(figure, text)


def _response(panel: Axes, runs: pd.DataFrame, style: Look) -> None:
    means = runs.groupby("rate").validation_loss.apply(lambda losses: losses.mean(skipna=False))
    panel.plot(means.index, means, marker=style.marker, markersize=4, **style.line)
    panel.plot(runs.rate, runs.validation_loss, ".", color=style.colour, markersize=2)
    if means.notna().any():
        panel.plot(means.idxmin(), means.min(), color=style.colour, marker=style.marker, markersize=9)
    for rate in means.index[means.isna()]:
        panel.plot(rate, 0.97, "x", color=style.colour, transform=panel.get_xaxis_transform(), clip_on=False)


@house()
def schedule_shapes(shapes: pd.DataFrame) -> Figure:
    """`multiple` of the peak rate against `step`, a panel per `schedule`, the others in grey behind it."""
    names = list(shapes.schedule.unique())
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Page(figsize=(2.3 * columns + 0.4, 1.6 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for panel, name in zip(axes, names, strict=False):
        for _, other in shapes.groupby("schedule", sort=False):
            panel.plot(other.step, other.multiple, color="0.85", linewidth=0.7)
        own, style = shapes[shapes.schedule == name], look("schedule", name)
        panel.plot(own.step, own.multiple, color=style.colour, linewidth=2)
        panel.set_title(f"{style.label} (mean {own.multiple.mean():.2f})")
    for panel in axes[len(names) :]:
        panel.set_visible(False)
    figure.supxlabel("step", fontsize=9)
    figure.supylabel("rate / peak rate", fontsize=9)
    return titled(figure, "Schedules as multiples of the peak rate; in brackets the mean over the run.")


@house()
def forest(frame: pd.DataFrame, axis: str) -> Figure:
    """Paired difference of test loss to the baseline, an arm per line, the models side by side."""
    figure, axes, arms = _arm_panels(frame.dropna(subset="test_loss_difference_n"), axis)
    for panel, rows in zip(axes[0], _by_model(arms), strict=True):
        panel.axvline(0, color="0.4", linewidth=0.8)
        _intervals(panel, rows, "test_loss_difference", [look(axis, name) for name in rows[axis]])
        beside = {"transform": panel.get_yaxis_transform(), "verticalalignment": "center", "fontsize": 7}
        for row in rows.to_dict("records"):
            note = "baseline" if row["baseline"] else f"n = {row['test_loss_difference_n']}"
            panel.text(1.01, row["place"], note, **beside)
        panel.set_xlabel("difference of test loss to baseline (nats)")
        panel.locator_params(axis="x", nbins=5)
    seeds = counted(arms.test_loss_difference_n[arms.test_loss_difference_n > 0])
    text = (
        f"Test loss against the baseline {axis}: mean paired difference with 95 % t interval over the "
        f"{seeds} seeds that finished in both arms. Left of zero is better."
    )
    return titled(figure, text)


@house()
def grid_heatmap(grid: pd.DataFrame) -> Figure:
    """Mean test error of every schedule (down) under every strategy (across), one panel per model."""
    figure, axes = panels(grid.model.unique(), height=0.36 * grid.schedule.nunique() + 0.6)
    figure.set_figwidth((0.62 * grid.strategy.nunique() + 1.9) * axes.size)
    for panel, rows in zip(axes[0], _by_model(grid), strict=True):
        _heatmap(panel, rows)
    text = (
        f"Test error (%), mean over {counted(grid.test_error_n[grid.test_error_n > 0])} finished runs. "
        "Boxed: the baseline arm; *: the rate lies at an edge of its tuning grid; blank: no run that finished."
    )
    return titled(figure, text)


def _heatmap(panel: Axes, rows: pd.DataFrame) -> None:
    down, across = rows.schedule.unique(), rows.strategy.unique()
    table = rows.set_index(["schedule", "strategy"]).unstack().reindex(down)
    error, edge, baseline = (table[name][across] for name in ("test_error_mean", "rate_at_edge", "baseline"))
    notes = (100 * error).map("{:.1f}".format) + (edge.fillna("no") != "no").replace({True: "*", False: ""})
    seaborn.heatmap(100 * error, annot=notes, fmt="", cmap="viridis_r", cbar=False, ax=panel, annot_kws={"fontsize": 7})
    panel.set(xlabel="", ylabel="")
    panel.grid(False)
    panel.set_xticklabels([look("strategy", name).label for name in across], rotation=40, ha="right")
    panel.set_yticklabels([look("schedule", name).label for name in down], rotation=0)
    for y, x in np.argwhere(baseline.eq(True).to_numpy()):
        panel.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="black", linewidth=2))


@house()
def flatness(frame: pd.DataFrame, axis: str) -> Figure:
    """Largest Hessian eigenvalue and trace of the final iterate, an arm per line."""
    figure, axes, arms = _arm_panels(frame[frame.lambda_max_n > 0], axis, rows=2)
    for name, label, row in zip(("lambda_max", "trace"), (r"$\lambda_{\max}$", "tr $H$"), axes, strict=True):
        for panel, rows in zip(row, _by_model(arms), strict=True):
            _intervals(panel, rows, name, [look(axis, arm) for arm in rows[axis]])
            panel.set_xlabel(f"{label} of the final iterate")
            if rows[f"{name}_low"].fillna(rows[f"{name}_mean"]).min() > 0:
                panel.set_xscale("log")
                plain_log(panel.xaxis)
    text = f"Flatness by {axis}: mean with 95 % t interval over {counted(arms.lambda_max_n)} finished runs."
    return titled(figure, text)


@house()
def loss_curves(curves: pd.DataFrame, axis: str) -> Figure:
    """Minibatch loss of finished runs during training, a line per arm with its band."""
    curves = curves.dropna(subset="loss")
    figure, axes = panels(curves.model.unique(), height=3)
    for panel, rows in zip(axes[0], _by_model(curves), strict=True):
        for name, of_arm in rows.groupby(axis, sort=False):
            spread = _along(of_arm.groupby("step"), lambda window: statistics.mean(window.loss))
            _band(panel, spread, look(axis, name))
        panel.set(yscale="log", xlabel="step", ylabel="training loss (nats)")
        plain_log(panel.yaxis)
    legend(figure, axes[0])
    seeds = curves.groupby(["model", axis]).seed.nunique()
    text = f"Loss during training by {axis}: mean and 95 % t interval over {counted(seeds)} finished runs."
    return titled(figure, text)


@house()
def connectivity_profiles(points: pd.DataFrame) -> Figure:
    """Train and test loss along the paths of one arm per model, a line per kind of path."""
    points = points.dropna(subset=["train_loss", "test_loss"])
    figure, axes = panels(points.model.unique(), height=2.4, rows=2, sharex=True)
    for row, split in zip(axes, ("train", "test"), strict=True):
        for panel, rows in zip(row, _by_model(points), strict=True):
            over_pairs = partial(_over_pairs, column=f"{split}_loss")
            for kind in (kind for kind in KINDS if kind in set(rows.kind)):
                _band(panel, _along(rows[rows.kind == kind].groupby("t"), over_pairs), look("kind", kind))
            panel.set_ylabel(f"{split} loss (nats)")
            panel.set_ylim(bottom=max(0.0, panel.get_ylim()[0]))  # a symmetric band may reach below any loss
    for panel in axes[-1]:
        panel.set_xlabel("position on the path")
    legend(figure, axes.flat)
    pairs = points.drop_duplicates(["model", "kind", "seed_a", "seed_b"]).groupby(["model", "kind"]).size()
    return titled(figure, f"Loss along paths between runs: mean and 95 % interval over {counted(pairs)} pairs.")


@house()
def barriers(frame: pd.DataFrame, axis: str) -> Figure:
    """Test-loss barrier of every kind of path, an arm per line."""
    counts = [f"barrier_{kind}_test_loss_n" for kind in KINDS]
    figure, axes, arms = _arm_panels(frame[(frame[counts] > 0).any(axis=1)], axis, row_height=0.5)
    for panel, rows in zip(axes[0], _by_model(arms), strict=True):
        for kind, shift in zip(KINDS, np.linspace(-0.27, 0.27, len(KINDS)), strict=True):
            _intervals(panel, rows, f"barrier_{kind}_test_loss", [look("kind", kind)] * len(rows), shift)
        panel.set_xscale("symlog", linthresh=0.01)
        panel.set_xlim(left=-0.0005)  # no barrier is lower, whatever a symmetric interval says
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.set_xlabel("barrier of test loss (nats)")
    legend(figure, axes[0])
    seen = arms[counts].stack()
    pairs = counted(seen[seen > 0])
    text = f"Barriers between runs by {axis}: mean with 95 % interval, cut at zero, over {pairs} pairs."
    return titled(figure, text)


def _by_model(frame: pd.DataFrame) -> list[pd.DataFrame]:
    return [rows for _, rows in frame.groupby("model", sort=False)]


def _arm_panels(
    arms: pd.DataFrame, axis: str, rows: int = 1, row_height: float = 0.32
) -> tuple[Figure, np.ndarray, pd.DataFrame]:
    """Panels with the arms down the side, and the arms with their `place` there."""
    names = list(arms[axis].unique())
    figure, axes = panels(arms.model.unique(), row_height * len(names) + 0.6, rows, sharey=True)
    axes[0, 0].set_yticks(range(len(names)), [look(axis, name).label for name in names])
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    return figure, axes, arms.assign(place=arms[axis].map(names.index))


def _intervals(panel: Axes, rows: pd.DataFrame, quantity: str, looks: Sequence[Look], shift: float = 0) -> None:
    """Mean and interval of each row at its place: nothing if it was not measured, a word if it diverged."""
    for row, style in zip(rows.to_dict("records"), looks, strict=True):
        middle, low, high, n = (row[f"{quantity}_{part}"] for part in ("mean", "low", "high", "n"))
        if not pd.isna(n) and n == 0:
            beside: dict[str, Any] = {"transform": panel.get_yaxis_transform(), "color": "0.4", "fontsize": 7}
            panel.text(0.5, row["place"] + shift, "diverged", ha="center", va="center", **beside)
        elif not pd.isna(n):
            reach = None if np.isnan(low) else [[middle - low], [high - middle]]
            panel.errorbar(middle, row["place"] + shift, xerr=reach, capsize=2, **style.point)


def _along(groups: DataFrameGroupBy, interval: Callable[[pd.DataFrame], Interval]) -> pd.DataFrame:
    """An interval per group, indexed by it."""
    return pd.DataFrame({at: vars(interval(rows)) for at, rows in groups}).T


def _over_pairs(rows: pd.DataFrame, column: str) -> Interval:
    return statistics.pairs_of_runs(rows[column], rows.seed_a, rows.seed_b)


def _band(panel: Axes, spread: pd.DataFrame, style: Look) -> None:
    panel.plot(spread.index, spread.estimate, **style.line)
    panel.fill_between(spread.index, spread.low, spread.high, color=style.colour, alpha=0.15, linewidth=0)
