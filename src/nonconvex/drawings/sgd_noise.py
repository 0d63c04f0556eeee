"""Figures of the study of gradient noise: ways out of saddles, from a sharp solution on, differences of accuracy."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts.escapes import Frames, barrier, escape_times
from nonconvex.panels import Page, counted, interval, legend, plain_log, strips, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, house

KINDS = {"active": "Every unit carries a mode", "idle": "Some units are zero"}
WALKS = {
    "gd": "None (gradient descent)",
    "sgd": "Minibatch",
    "sgd_directions": "Minibatch, no negative directions",
    "sgd_modes": "Minibatch, no left-out modes",
    "isotropic": "Isotropic",
    "isotropic_directions": "Isotropic, no negative directions",
    "isotropic_modes": "Isotropic, no left-out modes",
}
LOSSES = {"cross_entropy": "Cross-entropy", "squared_error": "Squared error"}
ARMS = {
    "small": "Small batch",
    "large": "Large batch",
    "full": "Full batch",
    "noise": "Full batch, isotropic noise",
    "full_old": "Full batch, old rate",
}
PLACES = ("start", "level", "end")


@house()
def escapes(frames: Frames) -> Figure:
    """How long a run from next to a saddle takes, in units of what theory says of gradient descent."""
    figure = Page(figsize=(8.6, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for panel, (kind, title) in zip(axes, KINDS.items(), strict=True):
        _walks(panel, frames, kind)
        panel.axvline(1, color="0.4", linewidth=0.8)
        panel.set(title=title, xscale="log", xlabel="updates, relative to ln(1/δ) / ln(1 + ησ)")
    plain_log(axes[0].xaxis)
    axes[0].set_yticks(range(len(WALKS)), list(WALKS.values()))
    axes[0].set_ylim(len(WALKS) - 0.5, -0.5)
    axes[0].set_ylabel("noise of the gradient")
    seeds = counted([frames.saddles.seed.nunique()])
    text = (
        f"Updates until a run that starts next to a saddle has left it, relative to theory for gradient descent. Grey: "
        f"single runs ({seeds} seeds, all saddles; crosses: still there at the end); diamonds: "
        "geometric mean with 95 % t interval over seeds."
    )
    return titled(figure, text)


def _walks(panel: Axes, frames: Frames, kind: str) -> None:
    expected = frames.saddles.set_index(["seed", "saddle"]).expected
    times = escape_times(frames, kind)
    runs = frames.saddle_runs[frames.saddle_runs.start == "displaced"]
    escaped = runs.pivot(index=["seed", "saddle"], columns="arm", values="escaped").notna().reindex(times.index)
    for place, arm in enumerate(WALKS):
        values = times[arm] / expected.reindex(times.index)
        for left, marker in ((True, "."), (False, "x")):
            of = values[escaped[arm] == left]
            panel.plot(of, np.full(len(of), place + 0.25), marker, color="0.5", markersize=4)
        by_seed = np.exp(np.log(values).groupby("seed").mean())
        interval(panel, place, by_seed, statistics.geometric_mean, color=PALETTE[0], marker="D")


@house()
def sharpness(frames: Frames) -> Figure:
    """λ_max against the training loss at the start, at the matched level and at the end of every arm."""
    losses = [loss for loss in LOSSES if loss in set(frames.continued.loss)]
    figure = Page(figsize=(4.4 * len(losses), 4.0), layout="constrained")
    axes = figure.subplots(1, len(losses), squeeze=False)[0]
    for panel, loss in zip(axes, losses, strict=True):
        of = frames.continued[(frames.continued.loss == loss) & (frames.continued.labels == "true")]
        of = of[of.sharpness > 0]
        for arm, colour, marker, dashes in zip(ARMS, PALETTE, MARKERS, DASHES, strict=False):
            parts = [of[(of["at"] == at) & (of.arm == ("start" if at == "start" else arm))] for at in PLACES]
            for part, shade in zip(parts, ("0.3", colour, colour), strict=True):
                panel.plot(part.train_loss, part.sharpness, ".", color=shade, alpha=0.35, markersize=4)
            means = np.array([np.exp(np.log(part[["train_loss", "sharpness"]]).mean()) for part in parts if len(part)])
            panel.plot(*means.T, color=colour, marker=marker, linestyle=dashes, label=ARMS[arm])
        panel.set(xscale="log", yscale="log", title=LOSSES[loss], xlabel="training loss", ylabel="λmax")
        plain_log(panel.xaxis)
        plain_log(panel.yaxis)
        panel.invert_xaxis()
    legend(figure, axes)
    seeds = counted([frames.continued.seed.nunique()])
    text = (
        "From a sharp solution of full-batch descent on (common first point): where the loss first met the common "
        f"level, and the end. Geometric mean over seeds ({seeds}); small dots: single seeds."
    )
    return titled(figure, text)


@house()
def barriers(frames: Frames) -> Figure:
    """Height of the training loss on the line from the sharp solution to the end of every arm."""
    losses = [loss for loss in LOSSES if loss in set(frames.continued.loss)]
    figure = Page(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots(1, len(losses), sharey=True, squeeze=False)[0]
    for panel, loss in zip(axes, losses, strict=True):
        strips(panel, {label: barrier(frames, loss, arm) for arm, label in ARMS.items()})
        panel.set(title=LOSSES[loss], xlabel="barrier (nats)" if loss == "cross_entropy" else "barrier (loss)")
        panel.axvline(0, color="0.4", linewidth=0.8)
    text = (
        "Rise of the training loss on the straight line from the sharp solution to where each arm ends. Grey: single "
        f"seeds ({counted([frames.continued.seed.nunique()])}); diamonds: mean with 95 % t interval."
    )
    return titled(figure, text)


@house()
def gains(columns: Mapping[str, Mapping[str, pd.Series]]) -> Figure:
    """Differences of test accuracy in points: column title -> contrast -> values by seed, signed for the text."""
    figure = Page(figsize=(3.0 * len(columns) + 2.2, 2.8), layout="constrained")
    axes = figure.subplots(1, len(columns), sharex=True, sharey=True, squeeze=False)[0]
    for panel, (title, contrasts) in zip(axes, columns.items(), strict=True):
        strips(panel, {label: 100 * values for label, values in contrasts.items()})
        panel.axvline(0, color="0.4", linewidth=0.8)
        panel.axvline(1, color="0.4", linewidth=0.8, linestyle=":")
        panel.set(title=title, xlabel="points of test accuracy")
    seeds = counted(len(values.dropna()) for contrasts in columns.values() for values in contrasts.values())
    text = (
        f"Differences of test accuracy, positive where the text lies. Grey: single seeds ({seeds}); diamonds: mean "
        "with 95 % t interval; dotted: the margin."
    )
    return titled(figure, text)
