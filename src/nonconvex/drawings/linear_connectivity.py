"""Figures of the study of linear connectivity. Frames are those of `observations.linear_connectivity`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from nonconvex import statistics
from nonconvex.contrasts.linear_connectivity import BEDS, STABLE, with_monotone
from nonconvex.panels import counted, legend, panels, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, house

DEFINITIONS = {"mean": "over the mean of the ends", "line": "over the line", "worse_end": "over the worse end"}
STARTS = {"own": "own initialisation", "other": "another one", "zero": "zero", "noise": "noise"}
ARMS = {"constant": "constant rate", "cosine": "cosine", "shuffled": "constant rate,\nshuffled labels"}
METHODS = {"average": "weight average", "ensemble": "ensemble"}
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:g}")
UNITS = {"error": "test error (points)", "loss": "test loss (nats)"}
SCALES = {"error": 100, "loss": 1}


@house()
def siblings(points: pd.DataFrame, barriers: pd.DataFrame) -> Figure:
    """Training error along the lines between siblings, and the barriers by fork under three definitions."""
    forked = points[points.kind == "siblings"]
    figure, axes = panels(_models(forked), height=2.5, rows=2)
    for panel, model in zip(axes[0], _models(forked), strict=True):
        _profiles(panel, forked[forked.model == model])
    rows = barriers[(barriers.metric == "error") & (barriers.split == "train")]
    for panel, model in zip(axes[1], _models(forked), strict=True):
        _barriers(panel, rows[rows.model == model])
    legend(figure, axes[1])
    text = (
        f"Training error on the line between a parent and its sibling. Top: mean over {_seeds(forked)} parents, a line "
        "per share k of the run that they have in common. Bottom: barrier against k, mean with 95 % t interval; dots: "
        "single parents (over the mean of the ends); dotted line: 2 points."
    )
    return titled(figure, text)


def _profiles(panel: Axes, rows: pd.DataFrame) -> None:
    forks = sorted(rows.fork.unique())
    for i, (fork, shade) in enumerate(zip(forks, np.linspace(0, 0.75, len(forks)), strict=True)):
        mean = rows[rows.fork == fork].groupby("t").train_error.mean()
        panel.plot(mean.index, mean, color=str(shade), linestyle=DASHES[i % len(DASHES)], label=f"{100 * fork:g}")
    panel.set(xlabel="position on the line", ylabel="train error (%)")
    panel.legend(title="k (%)", title_fontsize=7, fontsize=6.5, handlelength=3, labelspacing=0.2, loc="upper right")
    panel.yaxis.set_major_formatter(PERCENT)


def _barriers(panel: Axes, rows: pd.DataFrame) -> None:
    forked, whole = rows[rows.kind == "siblings"], rows[rows.kind == "full_length"]
    forks = sorted(forked.fork.unique())
    place = forked.fork.map(forks.index)
    panel.plot(place, forked["mean"], ".", color=PALETTE[0], markersize=3, alpha=0.6)
    for i, (definition, label) in enumerate(DEFINITIONS.items()):
        shift = (i - 1) * 0.12
        _means(panel, forked.groupby(place)[definition], shift, i, label)
    for fork, values in whole.groupby("fork")["mean"]:
        at = np.interp(fork, forks, range(len(forks)))
        _errorbar(panel, at + 0.3, values, PALETTE[3], "D", "full length after the fork (mean of the ends)")
    panel.axhline(STABLE, color="0.3", linestyle=":", linewidth=1)
    panel.set(xlabel="share k of the run in common (%)", ylabel="error barrier (points)")
    panel.set_xticks(range(len(forks)), [f"{100 * fork:g}" for fork in forks])
    panel.set_yscale("symlog", linthresh=0.01)
    panel.set_yticks([0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
    panel.set_ylim(-0.002, max(0.05, 1.3 * rows["mean"].max()))
    panel.yaxis.set_major_formatter(PERCENT)
    panel.yaxis.set_minor_locator(NullLocator())


def _means(panel: Axes, groups, shift: float, i: int, label: str) -> None:
    found = groups.apply(statistics.mean)
    middle = np.array([one.estimate for one in found])
    reach = [[one.estimate - one.low for one in found], [one.high - one.estimate for one in found]]
    style = {"color": PALETTE[i], "marker": MARKERS[i], "linestyle": DASHES[i], "linewidth": 0.9, "markersize": 4}
    panel.errorbar(found.index + shift, middle, yerr=_drawable(reach), capsize=2, label=label, **style)


def _errorbar(panel: Axes, x: float, values: pd.Series, colour: str, marker: str, label: str) -> None:
    found = statistics.mean(values)
    reach = _drawable([[found.estimate - found.low], [found.high - found.estimate]])
    panel.errorbar(x, found.estimate, yerr=reach, capsize=2, color=colour, marker=marker, linestyle="none", label=label)


def _drawable(reach: Sequence[Sequence[float]]) -> np.ndarray:
    """One value has no interval; nothing is drawn for it."""
    return np.nan_to_num(np.asarray(reach, float))


@house()
def checkpoints(lines: pd.DataFrame) -> Figure:
    """Pairs of checkpoints of one run: how often the loss falls all the way, and how far it rises."""
    rows = with_monotone(lines[lines.start == "checkpoint"])
    figure, axes = panels(_models(rows), height=2.3, rows=2)
    for panel, model in zip(axes[0], _models(rows), strict=True):
        _pairs(panel, rows[rows.model == model], "monotone", "{:.0%}", (0, 1))
        panel.set_title(f"{panel.get_title(loc='left')}: share of runs with falling loss")
    for panel, model in zip(axes[1], _models(rows), strict=True):
        _pairs(panel, rows[rows.model == model], "climb", "{:.3f}", (None, None))
        panel.set_title("largest rise on the way (nats)")
    text = (
        "Training loss on the line from an earlier checkpoint of a run to a later one: does it fall all the way, and "
        f"how far does it rise? Mean over {_seeds(rows)} runs; steps of the two checkpoints."
    )
    return titled(figure, text)


def _pairs(panel: Axes, rows: pd.DataFrame, column: str, form: str, limits: tuple) -> None:
    table = rows.pivot_table(index="earlier", columns="later", values=column)
    notes = table.map(lambda value: "" if np.isnan(value) else form.format(value))
    colours = "cividis" if column == "monotone" else "cividis_r"
    options = {"vmin": limits[0], "vmax": limits[1], "cbar": False, "annot_kws": {"fontsize": 7}}
    seaborn.heatmap(table, annot=notes, fmt="", cmap=colours, ax=panel, **options)
    panel.grid(False)
    panel.set(xlabel="later checkpoint", ylabel="earlier")
    panel.tick_params(rotation=0)


@house()
def starts(points: pd.DataFrame) -> Figure:
    """Training loss on lines to the end of a run from four kinds of starts."""
    figure, axes = panels(_models(points), height=3)
    for panel, model in zip(axes[0], _models(points), strict=True):
        rows = points[points.model == model]
        for i, (start, label) in enumerate(STARTS.items()):
            own = rows[rows.start == start].pivot(index="t", columns="seed", values="train_loss")
            panel.plot(own.index, own, color=PALETTE[i], linewidth=0.4, alpha=0.5)
            panel.plot(own.index, own.mean(axis=1), color=PALETTE[i], linestyle=DASHES[i], linewidth=2, label=label)
        panel.set(xlabel="position on the line (1: end of the run)", ylabel="train loss (nats)")
    legend(figure, axes[0])
    text = (
        f"Training loss on the line from a start to the end of a run. Thick: mean over {_seeds(points)} runs; thin: "
        "single runs. Noise: one Gaussian vector as long as the initialisation."
    )
    return titled(figure, text)


@house()
def averages(frame: pd.DataFrame) -> Figure:
    """Weight averages and ensembles: of checkpoints against the last, of siblings against their mean."""
    figure, axes = panels(_models(frame), height=2.5, rows=2)
    for panel, model in zip(axes[0], _models(frame), strict=True):
        _stretches(panel, frame[(frame.model == model) & (frame.arm != "siblings")], BEDS[model])
    for panel, model in zip(axes[1], _models(frame), strict=True):
        _siblings(panel, frame[(frame.model == model) & (frame.arm == "siblings")], BEDS[model])
    legend(figure, axes.flat)
    text = (
        "Averaging weights against averaging predictions; below zero is better. Top: checkpoints of the last stretch "
        "of one run against the last of them. Bottom: two siblings against the mean of the two, by the share k that "
        f"they have in common. Mean with 95 % t interval over {_seeds(frame)} runs; dots: single ones."
    )
    return titled(figure, text)


def _stretches(panel: Axes, rows: pd.DataFrame, metric: str) -> None:
    arms = [arm for arm in ARMS if arm in set(rows.arm)]
    for place, arm in enumerate(arms):
        of_arm = rows[rows.arm == arm]
        _against(panel, place, of_arm, metric, "last")
    panel.set_xticks(range(len(arms)), [ARMS[arm] for arm in arms])
    panel.set_xlim(-0.6, len(arms) - 0.4)
    _labels(panel, f"minus last: {UNITS[metric]}")


def _siblings(panel: Axes, rows: pd.DataFrame, metric: str) -> None:
    forks = sorted(rows.fork.unique())
    for place, fork in enumerate(forks):
        _against(panel, place, rows[rows.fork == fork], metric, "members")
    panel.set_xticks(range(len(forks)), [f"{100 * fork:g}" for fork in forks])
    panel.set_xlabel("share k of the run in common (%)")
    panel.set_yscale("symlog", linthresh=SCALES[metric] * 0.02)
    panel.yaxis.set_major_formatter("{x:g}")
    _labels(panel, f"minus mean: {UNITS[metric]}")


def _against(panel: Axes, place: int, rows: pd.DataFrame, metric: str, reference: str) -> None:
    for i, (method, label) in enumerate(METHODS.items()):
        values = SCALES[metric] * (rows[f"{method}_{metric}"] - rows[f"{reference}_{metric}"])
        at = place + 0.24 * i - 0.12
        panel.plot([at + 0.07] * len(values), values, ".", color=PALETTE[i], markersize=3, alpha=0.6)
        _errorbar(panel, at, values, PALETTE[i], MARKERS[i], label)


def _labels(panel: Axes, label: str) -> None:
    panel.axhline(0, color="0.4", linewidth=0.8)
    panel.set_ylabel(label)


def _models(frame: pd.DataFrame) -> list[str]:
    return list(frame.model.unique())


def _seeds(frame: pd.DataFrame) -> str:
    return counted(frame.groupby("model").seed.nunique())
