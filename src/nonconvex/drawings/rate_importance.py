"""Figures of the rate's importance: shares of variance, main effects, and how well the surrogates predict.

Frames and shares are those of `contrasts.rate_importance`.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts.rate_importance import GUESS, Frames, Shares
from nonconvex.panels import Page, legend, plain_log, titled
from nonconvex.style import MARKERS, PALETTE, house

NAMES = {
    "rate": "peak rate",
    "momentum": "momentum",
    "weight_decay": "weight decay",
    "gain": "gain of initial weights",
    "batch_size": "batch size",
    "width": "width",
    "schedule": "schedule",
    "dummy": "nothing (dummy)",
}
RESPONSES = {
    "test_loss": "test loss",
    "test_rank": "rank of test loss",
    "near_best": "test loss, near the best rate",
    "train_loss": "training loss",
    "sharpness": r"ln $\lambda_{\max}$",
}
UNITS = {"test_loss": "test loss (nats)", "train_loss": "training loss (nats)", "sharpness": r"ln $\lambda_{\max}$"}
POINTS = 60  # of a line
MANY = 2000  # a range over which there is no room for a label at every decade


@house()
def bars(found: Mapping[str, Shares]) -> Figure:
    """First- and total-order shares of every factor in every response."""
    figure = Page(figsize=(1.9 * len(RESPONSES) + 1.6, 3.6), layout="constrained")
    axes = figure.subplots(1, len(RESPONSES), sharey=True, squeeze=False)[0]
    for panel, (response, label) in zip(axes, RESPONSES.items(), strict=True):
        of = found[response]
        for place, name in enumerate(of.names):
            _shares(panel, of, name, place)
        panel.set_title(f"{label}\n{len(of.y)} runs")
        panel.set(xlabel="share of variance", xlim=(-0.1, 1.1), xticks=[0, 0.5, 1])
        panel.axvline(0, color="0.4", linewidth=0.8)
    axes[0].set_yticks(range(len(of.names)), [NAMES[name] for name in of.names])
    axes[0].set_ylim(len(of.names) - 0.5, -0.5)
    legend(figure, axes)
    blocks = len(np.unique(found["test_loss"].blocks))
    text = (
        "Shares of variance over the ranges of the study: alone (first order), and with all interactions (total "
        f"order), with 95 % jackknife intervals over n = {blocks} blocks of runs; what lies outside a panel is cut off."
    )
    return titled(figure, text)


def _shares(panel: Axes, of: Shares, name: str, place: int) -> None:
    # the label once: a legend shows every label of a panel one time
    labels = ("total order", "first order", "95 % interval, total order") if place == 0 else (None,) * 3
    panel.barh(place, of.total[name], height=0.6, color="0.8", label=labels[0])
    panel.plot(of.first[name], place, MARKERS[1], color=PALETTE[1], markersize=4, label=labels[1])
    values = of.pseudo_values[name]
    if len(values) > 1:
        interval = statistics.mean(values)
        panel.plot(
            [interval.low, interval.high], [place, place], color=PALETTE[0], linewidth=1.2, marker="|", label=labels[2]
        )


@house()
def main_effects(frames: Frames, of: Shares, response: str) -> Figure:
    """One response against every factor: the runs, and the surrogate's average over all other factors."""
    figure = Page(figsize=(9.0, 4.8), layout="constrained")
    axes = figure.subplots(2, 4, sharey=True).ravel()
    for place, (panel, factor) in enumerate(zip(axes, frames["factors"].itertuples(), strict=True)):
        _effect(panel, frames, of, place, factor)
        panel.set_xlabel(NAMES[factor.factor])
    for panel in axes[::4]:
        panel.set_ylabel(UNITS[response])
    if response != "sharpness":
        for panel in axes:
            panel.axhline(GUESS, color="0.4", linewidth=0.8, linestyle=":")
    text = f"{len(of.y)} runs (dots), and the surrogate's mean over all other factors (line). " + (
        "Dotted: the loss of a guess, at which losses are capped." if response != "sharpness" else ""
    )
    return titled(figure, text.strip())


def _effect(panel: Axes, frames: Frames, of: Shares, place: int, factor) -> None:
    """The runs at their places, and the main effect; ticks carry the factor's own values."""
    at, line = of.x[:, place], np.linspace(0, 1, POINTS)
    if factor.levels:
        line = np.arange(factor.levels, dtype=float)
        levels = sorted(frames["runs"][factor.factor].unique())
        panel.set_xticks(line, [str(level).replace("_", " ") for level in levels])
        panel.tick_params(axis="x", labelrotation=90 if factor.kind == "named" else 0)
    values = _in_units(line, factor)
    panel.plot(_in_units(at, factor), of.y, ".", color="0.6", markersize=3)
    style = {"color": PALETTE[0], "marker": MARKERS[0] if factor.levels else None, "linewidth": 1.8}
    style["linestyle"] = "none" if factor.kind == "named" else "-"  # named levels have no order to join them in
    panel.plot(values, of.whole.main_effect(place, line), **style)
    if factor.kind == "log":
        panel.set_xscale("log")
        plain_log(panel.xaxis)
        if factor.high / factor.low > MANY:
            panel.set_xticks([factor.low, (factor.low * factor.high) ** 0.5, factor.high])


def _in_units(places: np.ndarray, factor) -> np.ndarray:
    if factor.kind == "log":
        return factor.low * (factor.high / factor.low) ** places
    return places if factor.levels else factor.low + (factor.high - factor.low) * places


@house()
def predictions(found: Mapping[str, Shares]) -> Figure:
    """Every response as it was against its prediction by the surrogate that had not seen the run's block."""
    figure = Page(figsize=(1.9 * len(RESPONSES) + 0.4, 2.6), layout="constrained")
    axes = figure.subplots(1, len(RESPONSES), squeeze=False)[0]
    for panel, (response, label) in zip(axes, RESPONSES.items(), strict=True):
        of = found[response]
        if len(of.pseudo_values):
            panel.plot(of.predicted, of.y, ".", color=PALETTE[0], markersize=3, alpha=0.6)
            panel.axline((of.y.mean(), of.y.mean()), slope=1, color="0.4", linewidth=0.8)
        panel.set_title(f"{label}\n$R^2$ = {of.cross_validated():.2f}")
        panel.set_xlabel("predicted")
        panel.locator_params(nbins=4)
    axes[0].set_ylabel("observed")
    return titled(figure, "Every run as predicted from the other blocks; the line is a perfect prediction.")
