"""Figures of the study of initialization: signals through untrained networks, their gradients, and training losses."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.drawings.tuning import mean_by_rate
from nonconvex.panels import Page, counted, interval, legend, titled
from nonconvex.study_settings.initialization import GAINS
from nonconvex.style import DASHES, MARKERS, PALETTE, Look, house

Frames = Mapping[str, pd.DataFrame]
TOP = 3.0  # nats; a loss above it is drawn at the top
CEILING = 0.97 * TOP
NAMES = {"xavier": "1 (Xavier)", "he": "√2 (He)"}
LOOKS = {
    gain: Look(NAMES.get(gain, f"{scale:g}"), PALETTE[i], MARKERS[i], DASHES[i])
    for i, (gain, scale) in enumerate(GAINS.items())
}
FAMILIES = {
    "shallow": "Shallow, ReLU",
    "middle": "Middle, ReLU",
    "deep": "Deep, ReLU",
    "normalised": "Deep, ReLU, batch norm",
    "tanh": "Deep, tanh",
}


@house()
def signals(frames: Frames) -> Figure:
    """ln of mean squares layer by layer: all gains forwards and backwards, and at He's gain one network's."""
    rows = frames["signals"]
    figure, axes = _row(3)
    for panel, column in zip(axes, ("forward", "backward"), strict=False):
        for gain in present(rows.arm, "deep"):
            layers = centred(rows, f"deep_{gain}", column, -1 if column == "backward" else 0)
            _seeds(panel, layers, LOOKS[gain])
            # ln E‖h_l‖² = ln E‖h_1‖² + (l - 1) ln(g²/2), and backwards from the last layer
            distance = np.abs(layers.columns - (layers.columns[-1] if column == "backward" else layers.columns[0]))
            panel.plot(layers.columns, distance * np.log(GAINS[gain] ** 2 / 2), color="0.2", linewidth=0.6)
    _zoomed(axes[2], rows, int(frames["arms"].width.iloc[0]))
    titles = ("Forwards: activations", "Backwards: derivatives", "Forwards, He's gain, closer")
    for panel, title, zero in zip(axes, titles, ("first", "last", "first"), strict=True):
        panel.set(title=f"{title}\n({zero} layer = 0)", xlabel="hidden layer")
    axes[0].set_ylabel("ln mean square")
    legend(figure, axes)
    text = (
        f"Untrained ReLU networks of {rows.layer.max()} hidden layers, a line a seed "
        f"({counted([rows.seed.nunique()])}), each over {rows.draws.iloc[0]} networks. Grey: slopes of ln(gain²/2), "
        "right also of -5/(2 width). Right: ln of the mean over networks, and the mean of ln, which one network has."
    )
    return titled(figure, text)


def _zoomed(panel: Axes, rows: pd.DataFrame, width: int) -> None:
    mean, typical = (centred(rows, "deep_he", column, 0) for column in ("forward", "typical_forward"))
    _seeds(panel, mean, LOOKS["he"], None)
    _seeds(panel, typical, Look("√2, mean of logarithms", PALETTE[6], MARKERS[6], DASHES[1]))
    distance = mean.columns - mean.columns[0]
    panel.plot(mean.columns, 0 * distance, color="0.2", linewidth=0.6)
    # E ln - ln E = -5 / (2 n) per layer to leading order
    panel.plot(mean.columns, -2.5 / width * distance, color="0.2", linewidth=0.6)


@house()
def gradients(frames: Frames) -> Figure:
    """ln of the norms of the loss's gradients, layer by layer: with respect to activations, and to weights."""
    rows = frames["gradients"]
    figure, axes = _row(2)
    titles = {"activations": "With respect to activations", "weights": "With respect to weights"}
    for panel, (column, title) in zip(axes, titles.items(), strict=True):
        for gain in present(rows.arm, "deep"):
            _seeds(panel, by_layer(rows, f"deep_{gain}", column), LOOKS[gain])
        panel.set(title=title, xlabel="hidden layer", ylabel="ln norm of the gradient")
    legend(figure, axes)
    text = (
        f"Gradients of the training loss before training, a line a network ({counted([rows.seed.nunique()])} seeds per "
        "gain). Left: of an example's loss, root mean square over examples. Right: of the mean loss."
    )
    return titled(figure, text)


@house()
def losses(frames: Frames) -> Figure:
    """Training loss at the end against the gain, at tuned rates and at He's."""
    runs = frames["runs"].merge(frames["arms"][["arm", "family", "scale"]])
    runs["drawn"] = runs.train_loss.where(runs.diverged_step.isna()).fillna(np.inf).clip(upper=CEILING)
    figure, axes = _row(3, sharey=True)
    shown = (("shallow", "middle", "deep"), ("deep", "normalised", "tanh"), ("shallow",))
    for panel, families in zip(axes, shown, strict=True):
        for family in families:
            look = Look(FAMILIES[family], *_style(list(FAMILIES).index(family)))
            _runs(panel, runs[(runs.family == family) & (runs.phase == "tuned")], look)
    he = runs[(runs.arm == "shallow_he") & (runs.phase == "tuned")]
    fixed = pd.concat([runs[(runs.family == "shallow") & (runs.phase == "fixed")], he])
    _runs(axes[2], fixed, Look("Shallow, at He's rate", *_style(6)))
    for panel, title in zip(axes, ("Depth", "Deep: norm, tanh", "Shallow: one rate"), strict=True):
        panel.set(title=title, xscale="log", xlabel="gain", ylim=(0.9, TOP))
        panel.set_xticks(list(GAINS.values()), [f"{scale:.2g}" for scale in GAINS.values()])
        panel.set_xticks([], minor=True)
        panel.axhline(np.log(10), color="0.4", linewidth=0.8)
    axes[0].set_ylabel("training loss (nats)")
    legend(figure, axes)
    seeds = counted([runs[runs.phase == "tuned"].seed.nunique()])
    text = (
        f"Training loss at the end, every arm at its own tuned rate except where said. Small markers: single runs "
        f"({seeds} per arm); lines: their median with 95 % intervals. Grey line: a guess, ln 10. At the "
        "top: higher, or diverged."
    )
    return titled(figure, text)


def _runs(panel: Axes, runs: pd.DataFrame, look: Look) -> None:
    panel.plot(runs.groupby("scale").drawn.median(), **look.line)
    for scale, of in runs.groupby("scale").drawn:
        interval(panel, scale, of, statistics.median, upright=True, color=look.colour)
    panel.plot(runs.scale, runs.drawn, look.marker, color=look.colour, markersize=3, alpha=0.5)


@house()
def responses(frames: Frames) -> Figure:
    """How each arm's tuning answers to the rate, a panel a family."""
    families = [family for family in FAMILIES if (frames["arms"].family == family).any()]
    figure = Page(figsize=(8.8, 2.6 * -(-len(families) // 3) + 1.0), layout="constrained")
    axes = figure.subplots(-(-len(families) // 3), 3, sharey=True, squeeze=False).ravel()
    chosen = frames["tuned"].set_index("arm").rate
    for panel, family in zip(axes, families, strict=False):
        for gain in present(frames["tuning"].arm, family):
            _response(panel, frames["tuning"], f"{family}_{gain}", chosen, LOOKS[gain])
        panel.axhline(np.log(10), color="0.4", linewidth=0.8)
        panel.set(title=FAMILIES[family], xscale="log", xlabel="peak rate", ylim=(0.9, TOP))
    for panel in axes[len(families) :]:
        panel.set_visible(False)
    for panel in axes[::3]:
        panel.set_ylabel("training loss (nats)")
    legend(figure, axes)
    seeds = frames["tuning"].groupby(["arm", "rate"]).seed.nunique().max()
    text = (
        f"Tuning: training loss at the end, mean over {seeds} tuning seed(s), none of them reported, by gain. Ring: "
        "the chosen rate. Grey line: a guess. At the top: higher, or a seed diverged. Gains have their own grids."
    )
    return titled(figure, text)


def _response(panel: Axes, trials: pd.DataFrame, arm: str, chosen: pd.Series, look: Look) -> None:
    means = mean_by_rate(trials[trials.arm == arm], "train_loss").fillna(np.inf).clip(upper=CEILING)
    panel.plot(means.index, means, marker=look.marker, markersize=3, **look.line)
    panel.plot([chosen[arm]], means.loc[[chosen[arm]]], "o", markersize=10, markerfacecolor="none", color=look.colour)


def present(arms: Iterable[str], family: str) -> list[str]:
    """The gains, rising, that arms of a family have."""
    return [gain for gain in GAINS if f"{family}_{gain}" in set(arms)]


def by_layer(frame: pd.DataFrame, arm: str, column: str) -> pd.DataFrame:
    """An arm's numbers by seed (rows) and layer, in order."""
    return frame[frame.arm == arm].pivot(index="seed", columns="layer", values=column).sort_index(axis=1)


def centred(frame: pd.DataFrame, arm: str, column: str, place: int) -> pd.DataFrame:
    """The same minus each seed's number at the layer in that place."""
    layers = by_layer(frame, arm, column)
    return layers.sub(layers.iloc[:, place], axis=0)


def _seeds(panel: Axes, layers: pd.DataFrame, look: Look, label: str | None = "") -> None:
    for i, (_, values) in enumerate(layers.iterrows()):
        named = {"label": look.label} if i == 0 and label is not None else {}
        panel.plot(layers.columns, values, color=look.colour, linestyle=look.dashes, linewidth=0.7, **named)
    ends = layers.columns[[0, -1]]
    panel.plot(ends, layers[ends].mean(), look.marker, color=look.colour, markersize=4)


def _style(i: int) -> tuple:
    return PALETTE[i], MARKERS[i], DASHES[i]


def _row(count: int, **shared: bool) -> tuple[Figure, list[Axes]]:
    figure = Page(figsize=(8.8, 4.0), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, **shared)[0])
