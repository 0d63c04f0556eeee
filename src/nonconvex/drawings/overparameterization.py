"""Figures of the study of overparameterization: steps to a fit, the rates behind them, and how far training moves."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts.fits import Frames, threshold
from nonconvex.panels import Page, counted, interval, legend, plain_log, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, house

KINDS = {  # label -> labels, method, shape
    "Clean labels, gradient descent": ("clean", "full_batch", "square"),
    "Random labels, gradient descent": ("random", "full_batch", "square"),
    "Clean labels, minibatches": ("clean", "minibatch", "square"),
    "Clean labels, bottleneck": ("clean", "full_batch", "bottleneck"),
}
LABELS = ("Clean labels, gradient descent", "Random labels, gradient descent")


@house()
def steps(frames: Frames) -> Figure:
    """Updates to a fit, and the share of runs that came to one, against the number of parameters."""
    figure = Page(figsize=(8.8, 3.6), layout="constrained")
    times, shares = figure.subplots(1, 2)
    for place, (label, kind) in enumerate(KINDS.items()):
        runs = frames.of(*kind)
        if runs.empty:
            continue
        look = {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": DASHES[place], "label": label}
        _spread(times, runs.assign(value=runs.steps.astype(float)), "parameters", look)
        fitted = runs.assign(value=runs.steps.notna()).groupby("parameters").value.mean()
        shares.plot(fitted, **look)
    _log_height(times)  # before the grey lines, which have heights of their own
    size = int(frames.runs.examples.iloc[0]), int(frames.runs.examples.iloc[0] * frames.runs.classes.iloc[0])
    for panel in (times, shares):
        panel.set_xscale("log")
        panel.set_xlabel("parameters")
        for x, name in zip(size, ("n", "n C"), strict=True):
            panel.axvline(x, color="0.6", linewidth=0.8)
            panel.text(x, 1.01, name, transform=panel.get_xaxis_transform(), ha="center", fontsize=8, color="0.4")
    times.set_ylabel("updates to the fit")
    shares.set(ylabel="share of seeds that fit", ylim=(-0.05, 1.05))
    legend(figure, [times])
    text = (
        f"Updates until the training loss meets the level, each arm at its tuned rate (left; dots: single seeds, "
        f"{counted(_seeds(frames.runs))}; lines: medians with 95 % intervals where every seed fits), and how many fit "
        "(right). Grey: as many parameters as examples (n), and as examples times classes (n C)."
    )
    return titled(figure, text)


@house()
def responses(frames: Frames) -> Figure:
    """Updates that the slowest tuning seed needed against the rate: one line per width, the rate in use ringed."""
    kinds = {label: kind for label, kind in KINDS.items() if label != "Clean labels, bottleneck"}
    places = list(_by_arm(frames, list(KINDS.values())))
    figure = Page(figsize=(8.8, 3.4), layout="constrained")
    axes = figure.subplots(1, len(kinds), sharey=True)
    for panel, (label, kind) in zip(axes, kinds.items(), strict=True):
        panel.set_title(label)
        shapes = [kind, KINDS["Clean labels, bottleneck"]] if panel is axes[0] else [kind]
        for name, trials in _by_arm(frames, shapes).items():
            place = places.index(name)
            by_rate = trials.assign(steps=trials.steps.astype(float)).groupby("rate").steps
            slowest = by_rate.agg(lambda values: values.max(skipna=False))
            look = {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": DASHES[place]}
            panel.plot(slowest, **look, label=name)
            used = frames.tuned.set_index("arm").rate[trials.arm.iloc[0]]
            height = slowest.get(used, np.nan)
            panel.plot([used], [height], "o", markersize=11, markerfacecolor="none", color=PALETTE[place])
        panel.set(xscale="log", xlabel="rate")
        plain_log(panel.xaxis)
        _log_height(panel)
    axes[0].set_ylabel("updates to the fit")
    legend(figure, axes)
    seeds = counted(frames.trials.groupby("arm").seed.nunique())
    text = (
        f"Tuning: updates until the last of the tuning seeds fits ({seeds}, none of them reported). No point: one of "
        "them did not, or not before tuning was stopped. Ring: the rate in use, where it has a point; narrow networks "
        "may have no point at all."
    )
    return titled(figure, text)


@house()
def movement(frames: Frames) -> Figure:
    """How far kernel and weights had moved at the fit, and test error there, against width."""
    columns = {
        "relative change of the kernel": lambda runs: runs.kernel_change,
        "distance / norm of the start": lambda runs: (runs.distance / runs.initial_norm).where(runs.steps.notna()),
        "test error": lambda runs: runs.test_error.where(runs.steps.notna()),
    }
    figure = Page(figsize=(8.8, 3.5), layout="constrained")
    axes = figure.subplots(1, len(columns))
    for panel, (name, read) in zip(axes, columns.items(), strict=True):
        for place, label in enumerate(LABELS):
            runs = frames.of(*KINDS[label])
            look = {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": DASHES[place], "label": label}
            _spread(panel, runs.assign(value=read(runs)), "width", look)
        panel.set(xscale="log", xlabel="width", title=name)
        _widths(panel, frames)
    for panel in axes[:2]:
        _log_height(panel)
    _half_power(axes[0])
    legend(figure, axes)
    text = (
        f"At the first weights that fit. Dots: single seeds ({counted(_seeds(frames.runs))}); lines: medians where "
        "every seed fits. Grey: the slope -1/2 of the kernel's change in the literature's own parametrisation, through "
        "the first median."
    )
    return titled(figure, text)


@house()
def spectra(frames: Frames) -> Figure:
    """Smallest eigenvalue of the tangent kernel at the start, relative to the mean one, against width."""
    figure = Page(figsize=(4.6, 3.2), layout="constrained")
    panel = figure.subplots()
    found = frames.grams.assign(value=(frames.grams.smallest / frames.grams["mean"]).clip(lower=1e-16))
    panel.plot(found.width, found.value, ".", color="0.5", label="single seeds")
    panel.plot(found.groupby("width").value.median(), "D-", color=PALETTE[0], label="median")
    panel.set(xscale="log", yscale="log", xlabel="width", ylabel="smallest / mean eigenvalue", ylim=(3e-17, 1))
    _widths(panel, frames)
    legend(figure, [panel])
    text = (
        f"Tangent kernel of one logit on all training inputs of a seed ({counted(_seeds(found))}), before training. At "
        "the bottom: zero up to rounding."
    )
    return titled(figure, text)


def thresholds(frames: Frames) -> pd.DataFrame:
    """Parameters at the threshold over n C, by seed and kind of labels."""
    found = {}
    for label in LABELS:
        runs = frames.of(*KINDS[label])
        found[label] = threshold(runs) / (runs.examples.iloc[0] * runs.classes.iloc[0])
    return pd.DataFrame(found)


def _spread(panel: Axes, runs: pd.DataFrame, across: str, look: Mapping) -> None:
    """Every run's `value` as a dot, and a line through the medians where each run has one."""
    quiet = {"color": look["color"], "marker": look["marker"], "linestyle": "none"}
    panel.plot(runs[across], runs.value, **quiet, markersize=3, alpha=0.4)
    groups = runs.groupby(across).value
    medians = groups.median()[groups.count() == groups.size()]
    panel.plot(medians, **look)
    for place in medians.index:
        interval(panel, place, groups.get_group(place), statistics.median, upright=True, color=look["color"])


def _by_arm(frames: Frames, kinds: list[tuple[str, str, str]]) -> dict[str, pd.DataFrame]:
    """Trials by what the legend calls their arm, in the order of width."""
    found = {}
    for labels, method, shape in kinds:
        trials = frames.trials
        of = trials[(trials["labels"] == labels) & (trials.method == method) & (trials["shape"] == shape)]
        for width, part in of.groupby("width"):
            found[f"width {width}" if shape == "square" else "bottleneck"] = part
    return dict(sorted(found.items(), key=lambda one: (one[0] == "bottleneck", one[1].width.iloc[0])))


def _widths(panel: Axes, frames: Frames) -> None:
    widths = sorted(frames.of("clean").width.unique())
    panel.set_xticks(widths, [str(width) for width in widths])
    panel.set_xticks([], minor=True)


def _log_height(panel: Axes) -> None:
    """A logarithmic axis of heights, where there are any."""
    heights = np.concatenate([np.asarray(line.get_ydata(), float) for line in panel.lines] or [np.array([])])
    if np.isfinite(heights[heights > 0]).any():
        panel.set_yscale("log")
        plain_log(panel.yaxis)


def _half_power(panel: Axes) -> None:
    """A line of slope -1/2 through the first point of the first line."""
    lines = [line for line in panel.lines if len(line.get_xdata()) > 1 and line.get_linestyle() != "None"]
    if lines:  # none without a width at which every seed fits
        x, y = (np.asarray(values, float) for values in lines[0].get_data())
        panel.plot(x, y[0] * (x / x[0]) ** -0.5, color="0.6", linewidth=0.8)


def _seeds(runs: pd.DataFrame) -> pd.Series:
    return runs.groupby([c for c in ("shape", "width", "labels", "method") if c in runs]).seed.nunique()
