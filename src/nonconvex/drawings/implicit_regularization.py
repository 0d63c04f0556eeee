"""Figures of the study of implicit regularization."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts.implicit_regularization import Frames, at_linear_accuracy
from nonconvex.panels import Page, counted, interval, legend, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, Look, house

OPTIMIZERS = {
    "gd": "Gradient descent",
    "momentum": "Heavy ball",
    "sgd_1": "SGD, batch 1",
    "sgd_8": "SGD, batch 8",
    "adam": "Adam",
    "adagrad": "AdaGrad",
    "sign": "Sign descent",
}
COLUMNS = {
    "to_nearest": "distance to the solution\nnearest to the start",
    "to_least": "distance to the\nleast-norm solution",
    "residual": "residual |Xw - y| / |y|",
}
ARMS = {
    "balanced": "Small start",
    "sgd": "Small start, minibatches",
    "aligned": "Small start, aligned",
    "large": "Large start",
}
FLOOR = 1e-17  # where zeros are drawn on a logarithmic axis


def looks(labels: dict[str, str]) -> dict[str, Look]:
    """A look per name, in order."""
    return {name: Look(label, PALETTE[i], MARKERS[i], DASHES[i]) for i, (name, label) in enumerate(labels.items())}


@house()
def resting_places(frames: Frames) -> Figure:
    """Where each optimizer came to rest: three distances, from zero and from the random start, every seed and mean."""
    figure = Page(figsize=(9.2, 3.4), layout="constrained")
    axes = figure.subplots(1, len(COLUMNS), sharey=True)
    kinds = {"zero": ("from zero", "o", -0.15), "random": ("from a random start", "^", 0.15)}
    for panel, (column, label) in zip(axes, COLUMNS.items(), strict=True):
        for i, (start, (words, marker, shift)) in enumerate(kinds.items()):
            for place, optimizer in enumerate(OPTIMIZERS):
                of = frames.limits[(frames.limits.optimizer == optimizer) & (frames.limits.start == start)]
                found, at = of[column].clip(lower=FLOOR), place + shift
                panel.plot(found, np.full(len(of), at), ".", color=PALETTE[i], markersize=3, alpha=0.5)
                style = {"color": PALETTE[i], "marker": marker, "markersize": 4, "label": words}
                interval(panel, at, found, statistics.geometric_mean, **style)
        panel.set(xscale="log", xlabel=label)
    axes[0].set_yticks(range(len(OPTIMIZERS)), list(OPTIMIZERS.values()))
    axes[0].set_ylim(len(OPTIMIZERS) - 0.5, -0.5)
    legend(figure, axes)
    seeds = counted(frames.limits.groupby(["optimizer", "start"]).seed.nunique())
    text = (
        "Under-determined least squares at rest, relative distances: geometric mean with 95 % t interval; dots: single "
        f"seeds, each a draw of the data ({seeds})."
    )
    return titled(figure, text)


@house()
def directions(frames: Frames) -> Figure:
    """Angle to the hard-margin direction and missing margin against ln(1 + t), beside lines that fall as 1/ln t."""
    figure = Page(figsize=(8.4, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    kinds = looks({"flow": "Gradient flow (rescaled time)", "descent": "Gradient descent"})
    for panel, (column, label) in zip(
        axes, (("angle", "angle (radians)"), ("margin_gap", "missing share of the margin")), strict=True
    ):
        for path, look in kinds.items():
            of = frames.directions[frames.directions.path == path]
            _falling(panel, of, column, look)
        panel.set(xscale="log", yscale="log", xlabel="ln(1 + t),  t = rate × steps", ylabel=label)
        flow = frames.directions[frames.directions.path == "flow"]
        end = flow.log_time.max()
        level = flow[column][flow.log_time > 0.999 * end].mean()
        guide = np.array([frames.late, end])
        panel.plot(
            guide, 2 * level * end / guide, color="0.3", linewidth=0.8, label="slope -1, where slopes are fitted"
        )
    legend(figure, axes)
    seeds = counted([frames.directions.seed.nunique()])
    text = f"The way to the largest margin. Thin: single seeds, each a draw of the data ({seeds}); thick: their mean."
    return titled(figure, text)


def _falling(panel: Axes, of: pd.DataFrame, column: str, look: Look) -> None:
    for _, run in of.groupby("seed"):
        panel.plot(run.log_time, run[column].where(run[column] > 0), color=look.colour, linewidth=0.5, alpha=0.4)
    means = of.groupby("place")[["log_time", column]].mean()
    panel.plot(means.log_time, means[column], **look.line)


@house()
def modes(frames: Frames) -> Figure:
    """Mode strengths of the first seed, and the effective rank of every seed, on the way."""
    figure = Page(figsize=(9.2, 5.4), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True)
    arms = ("balanced", "sgd", "large")
    for panel, arm in zip(axes[0], arms, strict=True):
        of = frames.strengths[frames.strengths.arm == arm]
        for i, run in of.groupby("mode"):
            panel.plot(run.time, run.strength / run.sigma, color=PALETTE[i % 8], linestyle=DASHES[i % 8])
        times = frames.modes[(frames.modes.arm == arm) & (frames.modes.seed == frames.modes.seed.min())]
        if arm != "large":
            shown = times.predicted.notna()
            panel.plot(times.predicted[shown], np.full(shown.sum(), 0.5), "x", color="0.1", label="closed form")
        panel.set(title=ARMS[arm], ylim=(-0.5, 1.6))
    axes[0][0].set_ylabel("mode strength / its singular value")
    for panel, arm in zip(axes[1], arms, strict=True):
        of = frames.ranks[frames.ranks.arm == arm]
        for _, run in of.groupby("seed"):
            panel.plot(run.time, run.effective_rank, color="0.6", linewidth=0.6)
        panel.plot(of.groupby("time").effective_rank.mean(), color=PALETTE[0])
        panel.set(xlabel="time = rate × steps", ylim=(0.8, frames.ranks.effective_rank.max() + 0.3))
    axes[1][0].set_ylabel("effective rank of W2 W1")
    legend(figure, axes[0])
    seed, seeds = frames.modes.seed.min(), counted([frames.ranks.seed.nunique()])
    text = (
        f"Two-layer linear networks. Top: modes of one run (seed {seed}), largest first; crosses: closed-form times of "
        f"half strength. Bottom: single seeds in grey ({seeds}) and their mean."
    )
    return titled(figure, text)


@house()
def predictions(frames: Frames) -> Figure:
    """Test error, agreement with softmax regression, and explained share against the step."""
    figure = Page(figsize=(9.6, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    of = frames.predictions[frames.predictions.arm == "network"]
    of = of[of.step > 0]
    panels = (
        {"error": "Network", "linear_error": "Softmax regression"},
        {"agreement": "Agreement with it", "independent": "If errors were independent"},
        {"explained": "Share explained"},
    )
    for k, (panel, columns) in enumerate(zip(axes, panels, strict=True)):
        for place, (column, label) in enumerate(columns.items(), start=2 * k):
            style = {"color": PALETTE[place], "linestyle": DASHES[place]}
            for _, run in of.groupby("seed"):
                panel.plot(run.step, run[column], color=PALETTE[place], linewidth=0.5, alpha=0.4)
            panel.plot(of.groupby("step")[column].mean(), label=label, **style)
        panel.set(xscale="log", xlabel="step", ylim=(0, 1))
    _mark(axes, frames)
    for panel, label in zip(axes, ("test error", "share of test examples", "share of I(F; Y)"), strict=True):
        panel.set_ylabel(label)
    legend(figure, axes)
    seeds = counted([of.seed.nunique()])
    text = (
        f"An MLP on MNIST-1D beside softmax regression on the same data. Thin: single seeds ({seeds}); thick: mean. "
        "Ticks: where each run first has no more test error than softmax regression."
    )
    return titled(figure, text)


def _mark(axes: np.ndarray, frames: Frames) -> None:
    """Each run's early reading as a tick at the bottom of every panel."""
    early = at_linear_accuracy(frames)
    steps = early.step[early.index.get_level_values("arm") == "network"]
    for panel in axes:
        panel.plot(steps, np.full(len(steps), 0.02), "|", color="0.2", markersize=10)
