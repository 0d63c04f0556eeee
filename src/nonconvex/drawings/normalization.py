"""Figures of the study of normalization: rates that train, the loss along the gradient, arms side by side, shifts."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex.contrasts.normalization import Frames
from nonconvex.panels import Page, counted, legend, strips, titled
from nonconvex.source_tables import LABELS
from nonconvex.style import DASHES, MARKERS, PALETTE, Look, house

ARMS = {
    "batch": "Batch norm",
    "layer": "Layer norm",
    "group": "Group norm",
    "none": "No norm",
    "twin": "No norm, other seeds",
    "frozen": "Batch norm, frozen statistics",
    "noisy": "Batch norm with noise",
}
LOOKS = {
    arm: Look(label, PALETTE[i], MARKERS[i], DASHES[i])
    for i, (arm, label) in enumerate((arm, label) for arm, label in ARMS.items() if arm != "twin")
}


@house()
def rate_response(frames: Frames) -> Figure:
    """Training loss at the end of a short run against its rate, a panel per searched arm."""
    trials = frames.trials[frames.trials.phase == "reported"]
    names = [arm for arm in LOOKS if arm in set(trials.arm)]
    figure = Page(figsize=(8.8, 4.6), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
    level = frames.arms[frames.arms.model == "resnet"].trained_below.iloc[0]
    for panel, arm in zip(axes, names, strict=False):
        panel.set_title(LOOKS[arm].label)
        panel.axhline(level, color="0.4", linewidth=0.8)
        _response(panel, trials[trials.arm == arm], LOOKS[arm], 1.6 * level)
        panel.set(xscale="log", ylim=(0, 1.6 * level))
    for panel in axes[len(names) :]:
        panel.remove()
    _labelled(axes[: len(names)], "constant rate", "training loss (nats)")
    seeds = counted(trials.groupby("arm").seed.nunique()) if len(trials) else "n = 0"
    text = (
        f"ResNet: training loss at the end of a short run. A line per seed ({seeds}); below the grey line a run has "
        "trained; at the top: a higher loss, or diverged."
    )
    return titled(figure, text)


def _response(panel: Axes, trials: pd.DataFrame, look: Look, top: float) -> None:
    cut = trials.assign(loss=trials.train_loss.fillna(np.inf).clip(upper=0.98 * top)).sort_values("rate")
    for _, run in cut.groupby("seed"):
        panel.plot(run.rate, run.loss, color=look.colour, marker=look.marker, markersize=3, linewidth=0.6, alpha=0.7)


@house()
def along_gradient(frames: Frames) -> Figure:
    """Change of the loss, and of the gradient, with the length of a step along the gradient; a row per bed."""
    models = [model for model in ("resnet", "transformer") if model in set(frames.arms.model)]
    figure = Page(figsize=(8.8, 2.6 * len(models) + 0.9), layout="constrained")
    axes = figure.subplots(len(models), 2, squeeze=False)
    steps = frames.gradient.assign(rise=frames.gradient.loss - frames.gradient.start_loss)
    for row, model in zip(axes, models, strict=True):
        of_model = steps[steps.model == model]
        for arm in (arm for arm in LOOKS if arm in set(of_model.arm)):
            for panel, column in zip(row, ("rise", "change"), strict=True):
                _along(panel, of_model[of_model.arm == arm], column, LOOKS[arm])
        row[0].axhline(0, color="0.4", linewidth=0.8)
        row[0].set_yscale("symlog", linthresh=0.1)
        row[0].set(title=LABELS["model"][model], ylabel="change of loss (nats)")
        row[1].set(ylabel="|g' - g| / |g|", yscale="log")
        for panel in row:
            _lengths(panel, of_model)
    legend(figure, axes[:, 0])
    seeds = counted(steps.groupby(["model", "arm"]).seed.nunique()) if len(steps) else "n = 0"
    text = (
        "Along the negative gradient from states of equal training loss: change of the loss, and of the gradient. "
        f"Thin: single seeds ({seeds}); thick: their mean."
    )
    return titled(figure, text)


def _along(panel: Axes, steps: pd.DataFrame, column: str, look: Look) -> None:
    for _, run in steps.groupby("seed"):
        panel.plot(run.length, run[column], color=look.colour, linewidth=0.5, alpha=0.35)
    means = steps.groupby("length")[column].mean()
    panel.plot(means.index, means, marker=look.marker, **look.line)


def _lengths(panel: Axes, steps: pd.DataFrame) -> None:
    lengths = sorted(steps.length.unique())
    panel.set_xscale("log")
    panel.set_xticks(lengths, [f"{length:g}" for length in lengths])
    panel.set_xticks([], minor=True)
    panel.set_xlabel("length / norm of the weights")


@house()
def measures(frames: Frames, columns: Mapping[str, Callable[[Frames], pd.Series]], model: str) -> Figure:
    """Quantities (label -> reader) side by side, an arm per line: every seed, and their mean with its interval."""
    names = [arm for arm in ARMS if arm in set(frames.arms.arm[frames.arms.model == model])]
    figure = Page(figsize=(2.1 * len(columns) + 2.2, 0.32 * len(names) + 1.5), layout="constrained")
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    counts = set()
    for panel, (label, read) in zip(axes, columns.items(), strict=True):
        values = read(frames).dropna().reset_index(name="value")
        rows = {ARMS[arm]: values[(values.model == model) & (values.arm == arm)].value for arm in names}
        counts |= {len(found) for found in rows.values()}
        strips(panel, rows)
        panel.set_xlabel(label)
    text = (
        f"{LABELS['model'][model]}: every arm. Grey: single seeds ({counted(counts - {0})}); diamonds: their mean "
        "with 95 % t interval; nothing: not measured."
    )
    return titled(figure, text)


@house()
def shifts(frames: Frames) -> Figure:
    """How far a step moves the moments of the layer inputs, along the run."""
    figure = Page(figsize=(6.4, 3.4), layout="constrained")
    panel = figure.subplots()
    found = frames.shifts[frames.shifts["shift"] > 0]
    for arm in (arm for arm in LOOKS if arm in set(found.arm)):
        of_arm = found[found.arm == arm].groupby("step")["shift"]
        means, look = of_arm.mean(), LOOKS[arm]
        panel.fill_between(means.index, of_arm.min(), of_arm.max(), color=look.colour, alpha=0.15, linewidth=0)
        panel.plot(means.index, means, marker=look.marker, **look.line)
    panel.set(yscale="log", xlabel="step", ylabel="shift / deviation")
    legend(figure, [panel])
    seeds = counted(found.groupby("arm").seed.nunique()) if len(found) else "n = 0"
    text = (
        "ResNet, runs at the tuned rates: how far one step moves mean and deviation of the layer inputs. "
        f"Lines: mean over seeds ({seeds}); bands: lowest to highest seed."
    )
    return titled(figure, text)


def _labelled(panels: list[Axes], x: str, y: str) -> None:
    for panel in panels:
        panel.tick_params(labelbottom=True, labelleft=True)
        panel.set(xlabel=x, ylabel=y)
