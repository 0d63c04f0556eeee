"""Figures of the study of the landscape: which rates train, what each architecture's landscape is like, surfaces."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex.contrasts.smoothness import Frames
from nonconvex.panels import Page, counted, legend, strips, titled
from nonconvex.source_tables import LABELS
from nonconvex.style import DASHES, MARKERS, PALETTE, Look, house

ARMS = {
    "shallow_skip_batch": "Shallow, skip, batch norm",
    "twin": "The same, other seeds",
    "shallow_plain_batch": "Shallow, plain, batch norm",
    "shallow_skip_none": "Shallow, skip, no norm",
    "shallow_plain_none": "Shallow, plain, no norm",
    "deep_skip_batch": "Deep, skip, batch norm",
    "deep_plain_batch": "Deep, plain, batch norm",
    "deep_skip_none": "Deep, skip, no norm",
    "deep_plain_none": "Deep, plain, no norm",
    "narrow": "Narrow, skip, batch norm",
    "wide": "Wide, skip, batch norm",
    "skip_layer": "Skip, layer norm",
    "skip_none": "Skip, no norm",
    "plain_layer": "Plain, layer norm",
}
KINDS = ("skip_batch", "plain_batch", "skip_none", "plain_none")
PANELS = {  # of the figures with lines: title -> model, arms
    "ResNet, shallow": ("resnet", [f"shallow_{kind}" for kind in KINDS]),
    "ResNet, deep": ("resnet", [f"deep_{kind}" for kind in KINDS]),
    "ResNet, width": ("resnet", ["narrow", "shallow_skip_batch", "wide"]),
    "Transformer": ("transformer", ["skip_layer", "skip_none", "plain_layer"]),
}
LINES = ("Skip, with norm", "Plain, with norm", "Skip, no norm", "Plain, no norm", "Narrow", "Wide")
ORDER = {  # which of them an arm is drawn as: counterparts in two panels look alike
    **{f"{level}_{kind}": i for level in ("shallow", "deep") for i, kind in enumerate(KINDS)},
    **{"narrow": 4, "wide": 5, "skip_layer": 0, "plain_layer": 1, "skip_none": 2},
}
LOOKS = {arm: Look(LINES[i], PALETTE[i], MARKERS[i], DASHES[i]) for arm, i in ORDER.items()}


@house()
def rate_response(frames: Frames) -> Figure:
    """Training loss at the end of a short run against its rate."""
    figure, axes = _line_panels(frames)
    for panel, (model, arms) in zip(axes, PANELS.values(), strict=True):
        level = frames.arms[frames.arms.model == model].trained_below.iloc[0]
        panel.axhline(level, color="0.4", linewidth=0.8)
        for arm in arms:
            _response(panel, _of(frames.trials, model, arm), LOOKS[arm], 2 * level)
        panel.set(xscale="log", xlabel="rate", ylabel="training loss (nats)", ylim=(0, 2 * level))
    legend(figure, axes)
    seeds = counted([frames.trials[frames.trials.phase == "reported"].seed.nunique()])
    text = (
        f"Training loss at the end of a short run at a constant rate. Lines: the tuning run; small markers: single "
        f"reported runs ({seeds} seeds) around the largest rate that trains. Below the grey line a run counts as "
        "trained; at the top: higher, or diverged."
    )
    return titled(figure, text)


def _response(panel: Axes, trials: pd.DataFrame, look: Look, top: float) -> None:
    cut = trials.assign(loss=trials.train_loss.fillna(np.inf).clip(upper=0.98 * top))
    tuning, reported = cut[cut.phase == "tuning"], cut[cut.phase == "reported"]
    panel.plot(tuning.groupby("rate").loss.mean(), **look.line)
    panel.plot(reported.rate, reported.loss, look.marker, color=look.colour, markersize=3, alpha=0.6)


@house()
def along_gradient(frames: Frames) -> Figure:
    """Loss relative to the start against the length of a step along the gradient."""
    figure, axes = _line_panels(frames)
    steps = frames.gradient.assign(rise=frames.gradient.loss - frames.gradient.start_loss)
    for panel, (model, arms) in zip(axes, PANELS.values(), strict=True):
        panel.axhline(0, color="0.4", linewidth=0.8)
        for arm in arms:
            _falls(panel, _of(steps, model, arm), LOOKS[arm])
        panel.set(xscale="log", xlabel="length / norm of the weights", ylabel="change of loss (nats)")
        lengths = sorted(steps.length.unique())
        panel.set_xticks(lengths, [f"{length:g}" for length in lengths])
        panel.set_xticks([], minor=True)
        panel.set_yscale("symlog", linthresh=0.1)
    legend(figure, axes)
    seeds = counted(steps.groupby(["model", "arm"]).seed.nunique()) if len(steps) else "n = 0"
    text = (
        "Change of the training loss along the negative gradient from states of equal loss. "
        f"Thin: single seeds ({seeds}); thick: their mean."
    )
    return titled(figure, text)


def _falls(panel: Axes, steps: pd.DataFrame, look: Look) -> None:
    for _, run in steps.groupby("seed"):
        panel.plot(run.length, run.rise, color=look.colour, linewidth=0.5, alpha=0.4)
    panel.plot(steps.groupby("length").rise.mean(), **look.line)


def _line_panels(frames: Frames) -> tuple[Figure, list[Axes]]:
    figure = Page(figsize=(8.8, 6.4), layout="constrained")
    axes = list(figure.subplots(2, 2).ravel())
    for panel, title in zip(axes, PANELS, strict=True):
        panel.set_title(title)
    return figure, axes


@house()
def measures(frames: Frames, columns: Mapping[str, Callable[[Frames], pd.Series]], model: str) -> Figure:
    """Quantities (label -> reader) side by side, an architecture per line: every seed, and their mean."""
    names = [arm for arm in ARMS if arm in set(frames.arms.arm[frames.arms.model == model])]
    figure = Page(figsize=(2.5 * len(columns) + 1.8, 0.28 * len(names) + 1.6), layout="constrained")
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    counts = set()
    for panel, (label, read) in zip(axes, columns.items(), strict=True):
        values = read(frames).dropna().reset_index(name="value")
        rows = {ARMS[arm]: _of(values, model, arm).value for arm in names}
        counts |= {len(found) for found in rows.values()}
        strips(panel, rows)
        panel.set_xlabel(label)
    text = (
        f"{LABELS['model'][model]}: every architecture. Grey: single seeds ({counted(counts - {0})}); "
        "diamonds: their mean with 95 % t interval; nothing: not measured."
    )
    return titled(figure, text)


@house()
def surfaces(frames: Frames) -> Figure:
    """Training loss on a filter-normalised random plane around the end of one run per architecture."""
    arms = [arm for arm in ARMS if arm in set(frames.surface.arm)]
    figure = Page(figsize=(8.2, 7.0 if len(arms) > 2 else 4.0), layout="constrained")
    axes = figure.subplots(-(-len(arms) // 2), 2, sharex=True, sharey=True, squeeze=False).ravel()
    # equal steps of the root of the loss: contours crowd neither at the bottom nor on the walls
    levels = np.linspace(0, np.sqrt(_ceiling(frames)), 13) ** 2
    for panel, arm in zip(axes, arms, strict=False):
        rows = frames.surface[frames.surface.arm == arm]
        grid = rows.pivot(index="a", columns="b", values="loss").clip(upper=levels[-1])
        drawn = panel.contourf(grid.columns, grid.index, grid, levels, cmap="viridis")
        panel.contour(grid.columns, grid.index, grid, levels, colors="white", linewidths=0.4)
        panel.plot(0, 0, "+", color="white")
        panel.set(title=ARMS[arm], aspect="equal")
        panel.grid(False)
    for panel in axes[len(arms) :]:
        panel.set_visible(False)
    figure.supxlabel("second direction", fontsize=9)
    figure.supylabel("first direction", fontsize=9)
    bar = figure.colorbar(drawn, ax=list(axes), ticks=levels[::2], format="%.2f", shrink=0.8)
    bar.set_label("training loss (nats)")
    seed = frames.surface.seed.iloc[0]
    text = (
        f"Training loss around the end of one run (seed {seed}) per architecture, on a random plane in units of the "
        "filters' norms. Batch-norm statistics are recomputed at every point. Losses above the scale: its last colour."
    )
    return titled(figure, text)


def _ceiling(frames: Frames) -> float:
    """Twice the loss of a guess, or the highest loss if that is lower."""
    of_model = frames.arms[frames.arms.model == frames.surface.model.iloc[0]]
    return min(float(frames.surface.loss.max()), 3 * float(of_model.trained_below.iloc[0]))


def _of(frame: pd.DataFrame, model: str, arm: str) -> pd.DataFrame:
    return frame[(frame.model == model) & (frame.arm == arm)]
