"""Figures of the edge of stability: frames of `contrasts.edge_of_stability` in, pages out."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex.contrasts.edge_of_stability import (
    LOSSES,
    OPTIMIZERS,
    RUN,
    Frames,
    after,
    along,
    last_quarter,
    level,
    settled,
)
from nonconvex.panels import Page, counted, interval, legend, plain_log, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, house

LOSS_LABELS = {"squared_error": "Squared error", "cross_entropy": "Cross-entropy"}
OPTIMIZER_LABELS = {"gd": "Gradient descent", "heavy_ball": "Heavy ball", "nesterov": "Nesterov", "adam": "Adam"}
ARM_LABELS = {
    "keep": "rate kept",
    "jostled": "kept, weights pushed",
    "much_lower": "rate much lower",
    "lower": "rate lower",
    "higher": "rate higher",
}
BAND = (0.9, 1.2)  # ratios that count as the edge


@house()
def trajectories(frames: Frames, loss: str) -> Figure:
    """Curvature over its threshold along every run under a loss, a panel per optimizer."""
    points = along(frames).query("loss == @loss").dropna(subset="ratio")
    names = [name for name in OPTIMIZERS if name in set(points.optimizer)]
    figure, axes = _page(len(names), 2.4)
    for panel, name in zip(axes, names, strict=True):
        _edge(panel)
        rates = sorted(set(points.rate[points.optimizer == name]))
        for place, rate in enumerate(rates):
            runs = points[(points.optimizer == name) & (points.rate == rate)]
            _runs(panel, runs, "ratio", place, f"{rate / rates[0]:g} x the smallest rate")
        panel.set(title=OPTIMIZER_LABELS[name], xlabel="step", yscale="log")
        panel.set_ylim(bottom=max(0.01, panel.get_ylim()[0]))
        plain_log(panel.yaxis)
    axes[0].set_ylabel("curvature / threshold")
    legend(figure, axes)
    text = (
        f"{LOSS_LABELS[loss]}: largest curvature over the optimizer's own threshold. Thin: single runs; thick: "
        f"median over {_seeds(points)}; grey band: {BAND[0]} to {BAND[1]}."
    )
    return titled(figure, text)


@house()
def edges(frames: Frames) -> Figure:
    """Where the ratio stays at the edge, a dot per run, against the rate in units of the arm's smallest."""
    losses = [loss for loss in LOSSES if loss in set(frames["runs"].loss)]
    figure, axes = _page(len(losses), 2.6, width=4.2)
    for panel, loss in zip(axes, losses, strict=True):
        _edge(panel)
        for place, name in enumerate(OPTIMIZERS):
            table = settled(frames, loss, name)
            for rate in table:
                values = table[rate].dropna()
                x = np.log2(rate / min(table)) + 0.13 * (place - 1.5)
                style = {"color": PALETTE[place], "marker": MARKERS[place], "label": OPTIMIZER_LABELS[name]}
                panel.plot(np.full(len(values), x - 0.04), values, ".", color=PALETTE[place], markersize=2.5, alpha=0.5)
                interval(panel, x, values, upright=True, markersize=4, **style)
        panel.set(title=LOSS_LABELS[loss], xlabel="rate / the optimizer's smallest")
        panel.set_xticks(range(3), ["1", "2", "4"])
        panel.set_ylim(bottom=0)
    axes[0].set_ylabel("curvature / threshold")
    legend(figure, axes)
    text = (
        "Ratio over the last quarter of the readings at the edge: mean with 95 % t interval over "
        f"{_seeds(frames['runs'])}, a dot per run; a run that never reached 0.95 of its threshold has none. Grey band: "
        f"{BAND[0]} to {BAND[1]}."
    )
    return titled(figure, text)


@house()
def rate_changes(frames: Frames) -> Figure:
    """λ_max after the rate was changed, a panel per loss, with the new thresholds."""
    points = after(frames).dropna(subset="sharpness")
    losses = [loss for loss in LOSSES if loss in set(points.loss)]
    figure, axes = _page(len(losses), 2.8, width=4.2)
    for panel, loss in zip(axes, losses, strict=True):
        for place, arm in enumerate(ARM_LABELS):
            runs = points[(points.loss == loss) & (points.arm == arm)]
            if len(runs):
                _runs(panel, runs, "sharpness", place, ARM_LABELS[arm])
        for place, arm in enumerate(ARM_LABELS):
            limit = points.threshold[(points.loss == loss) & (points.arm == arm)]
            if arm in ("keep", "lower", "higher") and len(limit):
                panel.axhline(limit.iloc[0], color=PALETTE[place], linewidth=0.7, linestyle=":")
        panel.set(title=LOSS_LABELS[loss], xlabel="step", yscale="log")
        plain_log(panel.yaxis)
    axes[0].set_ylabel(r"$\lambda_{\max}$")
    legend(figure, axes)
    text = (
        "Gradient descent from one checkpoint at the edge, at the old rate and at others. Thin: single runs; thick: "
        f"median over {_seeds(points)}; dotted: 2 / rate of the kept, lower and higher rate."
    )
    return titled(figure, text)


@house()
def scaling(frames: Frames) -> Figure:
    """Final λ_max of gradient descent against 2 / rate, a dot per run."""
    final = level(last_quarter(along(frames), RUN), RUN, "sharpness").reset_index()
    final = final[final.optimizer == "gd"].dropna()
    figure, axes = _page(1, 2.8, width=4.6)
    (panel,) = axes
    for place, loss in enumerate(LOSSES):
        rows = final[final.loss == loss]
        style = {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": "none", "markersize": 4}
        panel.plot(2 / rows.rate, rows.sharpness, label=LOSS_LABELS[loss], alpha=0.7, **style)
    line = np.array([(2 / final.rate).min(), (2 / final.rate).max()])
    panel.plot(line, line, color="0.4", linewidth=0.8, label="2 / rate")
    panel.set(xscale="log", yscale="log", xlabel="2 / rate", ylabel=r"final $\lambda_{\max}$")
    plain_log(panel.xaxis)
    plain_log(panel.yaxis)
    legend(figure, axes)
    return titled(figure, f"Gradient descent, last quarter of the readings, a dot per run ({_seeds(final)} per rate).")


def _page(count: int, height: float, width: float = 2.5) -> tuple[Figure, np.ndarray]:
    figure = Page(figsize=(max(width * count, 4.6) + 0.4, height + 1), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False, sharey=False)[0]


def _edge(panel: Axes) -> None:
    panel.axhspan(*BAND, color="0.85", linewidth=0)
    panel.axhline(1, color="0.4", linewidth=0.8)


def _runs(panel: Axes, runs: pd.DataFrame, column: str, place: int, label: str) -> None:
    colour, dashes = PALETTE[place], DASHES[place]
    for _, run in runs.groupby("seed"):
        panel.plot(run.step, run[column], color=colour, linewidth=0.4, alpha=0.6)
    middle = runs.groupby("step")[column].median()
    panel.plot(middle.index, middle, color=colour, linestyle=dashes, label=label, linewidth=1.8)


def _seeds(points: pd.DataFrame) -> str:
    return f"seeds, {counted([points.seed.nunique()])}" if len(points) else "no seeds"
