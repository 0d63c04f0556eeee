"""Figures of warm-up: scores by rate, curvature early in the run, second moments, and what recovers a warm-up's gain.

Frames are those of the study, as `contrasts.warmup` takes them.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts import warmup as contrasts
from nonconvex.contrasts.warmup import LONG, NONE, SHORT, Frames
from nonconvex.drawings.tuning import mean_by_rate
from nonconvex.panels import Page, counted, legend, plain_log, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, house

BEDS = {
    "mlp": "MLP, Adam",
    "mlp_sgd": "MLP, SGD",
    "transformer": "Transformer, Adam",
    "resnet": "ResNet, SGD",
}
ARMS = {NONE: "No warm-up", "warm1": "Warm-up over 1 %", SHORT: "Warm-up over 5 %", LONG: "Warm-up over 20 %"}
VARIANTS = {
    "preaccumulated": "Second moments beforehand",
    "gradient_initialised": "GI-Adam",
    "rectified": "RAdam",
    "restarted": "Warm-up over 20 %, then restart",
}
AXIS = {"test_error": (100, "test error (%)"), "test_loss": (1, "test loss (nats)")}
GAINS = {"test_error": "gain in test accuracy (points)", "test_loss": "gain in test loss (nats)"}
CRITERIA = {"validation_error": (100, "validation error (%)"), "validation_loss": (1, "validation loss (nats)")}


def beds_of(frames: Frames) -> list[str]:
    return [bed for bed in BEDS if bed in set(frames["tuned"].model)]


def pages(count: int, height: float, each: float = 3.0) -> tuple[Figure, np.ndarray]:
    """A row of `count` panels."""
    figure = Page(figsize=(each * count + 0.6, height), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


@house()
def tuning(frames: Frames) -> Figure:
    """How the tuning criterion of every arm answers to its peak rate."""
    figure, axes = pages(len(beds_of(frames)), 3.2)
    for panel, bed in zip(axes, beds_of(frames), strict=True):
        for place, arm in enumerate(ARMS):
            _tuned(panel, frames, bed, arm, place)
        _named(panel, bed, "peak rate")
    legend(figure, axes)
    seeds = counted(frames["tuning"].groupby("model").seed.nunique())
    return titled(
        figure, f"Tuning: mean over the bed's tuning seeds, {seeds}, none of them reported. Ring: the choice."
    )


def _tuned(panel: Axes, frames: Frames, bed: str, arm: str, place: int) -> None:
    chosen = frames["tuned"].query("model == @bed and arm == @arm")
    if len(chosen):
        factor, label = CRITERIA[chosen.criterion.iloc[0]]
        trials = frames["tuning"].query("model == @bed and arm == @arm")
        means = factor * mean_by_rate(trials, chosen.criterion.iloc[0])
        panel.plot(means.index, means, label=ARMS[arm], **_line(place))
        rates = list(chosen.rate)
        panel.plot(rates, means.loc[rates], "o", markersize=11, markerfacecolor="none", color=PALETTE[place])
        panel.set_ylabel(label)


@house()
def responses(frames: Frames) -> Figure:
    """Score by rate on the reported seeds, and the level below which a rate is usable."""
    figure, axes = pages(len(beds_of(frames)), 3.4)
    for panel, bed in zip(axes, beds_of(frames), strict=True):
        column = contrasts.measured_by(frames, bed)
        factor, label = AXIS[column]
        for place, arm in enumerate(ARMS):
            if arm in contrasts.arms_of(frames, bed):
                _response(panel, -factor * contrasts.responses(frames, bed, arm), place, ARMS[arm])
        level = contrasts.TOLERANCE[column] - contrasts.tuned_score(frames, bed, NONE).mean()
        panel.axhline(factor * level, color="0.4", linewidth=0.8, linestyle=":")
        panel.axvline(contrasts.high_rate(frames, bed), color="0.6", linewidth=0.8)
        panel.set_ylabel(label)
        _named(panel, bed, "peak rate")
    legend(figure, axes)
    seeds = counted(contrasts.responses(frames, bed, NONE).shape[0] for bed in beds_of(frames))
    text = (
        f"End of the reported runs by peak rate: mean with 95 % t interval over seeds, {seeds}. Below the dotted line "
        "a rate is usable (mean over seeds). Upright: the high rate, about three times the tuned one without warm-up."
    )
    return titled(figure, text)


def _response(panel: Axes, rows: pd.DataFrame, place: int, label: str) -> None:
    found = [statistics.mean(rows[rate].dropna()) for rate in rows]
    middle, reach = [one.estimate for one in found], [np.nan_to_num(one.high - one.estimate) for one in found]
    shifted = np.asarray(rows.columns, float) * 1.03 ** (place - 1.5)  # so that intervals do not hide one another
    panel.errorbar(shifted, middle, yerr=reach, capsize=2, label=label, **_line(place))


@house()
def early(frames: Frames) -> Figure:
    """Curvature in the first tenth of the runs at the high rate: of the Hessian, and as a share of stability."""
    beds = beds_of({"tuned": frames["tuned"][frames["tuned"].model.isin(frames["early"].bed)]})
    figure = Page(figsize=(3.0 * len(beds) + 0.6, 5.2), layout="constrained")
    axes = figure.subplots(2, len(beds), squeeze=False, sharex="col")
    labels = {"sharpness": r"$\lambda_{\max}$ of the Hessian", "stability": "share of stability"}
    for column, (bed, panels) in enumerate(zip(beds, axes.T, strict=True)):
        rows = frames["early"][frames["early"].bed == bed]
        for panel, (name, label) in zip(panels, labels.items(), strict=True):
            for place, arm in enumerate(ARMS):
                _along(panel, rows[rows.arm == arm], name, place, ARMS[arm])
            panel.set(xscale="log", yscale="log", ylabel="" if column else label)
            plain_log(panel.xaxis)
        plain_log(panels[0].yaxis)
        panels[0].set_title(BEDS[bed])
        panels[1].axhline(1, color="0.4", linewidth=0.8, linestyle=":")
        panels[1].set_xlabel("updates")
    legend(figure, axes.ravel())
    seeds = counted(frames["early"].groupby("bed").seed.nunique())
    text = (
        f"The first tenth of runs at the high rate. Thin: single seeds, {seeds}; thick: geometric mean. Below: the "
        "last update's rate times the curvature that the optimizer meets (for Adam the preconditioned one), as a share "
        "of what it could stand in full batches, the dotted line."
    )
    return titled(figure, text)


def _along(panel: Axes, rows: pd.DataFrame, column: str, place: int, label: str) -> None:
    rows = rows[rows[column] > 0]
    if not len(rows):
        return
    for _, run in rows.groupby("seed"):
        panel.plot(run.step, run[column], color=PALETTE[place], linewidth=0.5, alpha=0.4)
    middle = np.exp(np.log(rows[column]).groupby(rows.step).mean())
    panel.plot(middle.index, middle, label=label, **_line(place))


@house()
def second_moments(frames: Frames) -> Figure:
    """How far second moments depend on the order of the data, and how long first updates are."""
    figure, (left, right) = pages(2, 3.0, 3.6)
    looks = {"frozen": "Weights held", "trained": "Weights trained, no warm-up"}
    for place, (weights, label) in enumerate(looks.items()):
        rows = contrasts.variations(frames, weights)
        left.plot(rows.columns, rows.T, color=PALETTE[place], linewidth=0.5, alpha=0.4)
        left.plot(rows.columns, rows.mean(), label=label, **_line(place))
    left.set(xscale="log", xlabel="updates", ylabel="relative deviation", ylim=(0, None))
    plain_log(left.xaxis)
    lengths = frames["updates"]
    arms = [arm for arm in (NONE, *VARIANTS) if arm in set(lengths.arm)]
    for place, arm in enumerate(arms):
        _interval(right, lengths[lengths.arm == arm].length, place, 0)
    right.set_yticks(range(len(arms)), [(ARMS | VARIANTS)[arm] for arm in arms])
    right.set(xlabel="first update / rate", ylim=(len(arms) - 0.5, -0.5), xlim=(0, None))
    legend(figure, [left])
    orders, seeds = counted(frames["moments"].orders), counted([lengths.seed.nunique()])
    text = (
        f"MLP, Adam. Left: standard deviation of second moments over orders of the data ({orders}) relative to their "
        f"mean, median over parameters; thin: seeds, thick: mean, {seeds}. Right: root mean square of the first "
        "update; dots: seeds, mean with 95 % t interval."
    )
    return titled(figure, text)


@house()
def mechanisms(frames: Frames) -> Figure:
    """What each arm gains at the high rate over Adam without warm-up, and half of what the long warm-up gains."""
    beds = [bed for bed in beds_of(frames) if set(VARIANTS) & set(frames["runs"].arm[frames["runs"].bed == bed])]
    arms = [arm for arm in (*ARMS, *VARIANTS) if arm in set(frames["runs"].arm) - {NONE}]
    figure = Page(figsize=(2.8 * len(beds) + 2.4, 0.32 * len(arms) + 1.9), layout="constrained")
    axes = figure.subplots(1, len(beds), sharey=True, squeeze=False)[0]
    for panel, bed in zip(axes, beds, strict=True):
        column = contrasts.measured_by(frames, bed)
        factor = AXIS[column][0]
        for place, arm in enumerate(arms):
            _interval(panel, factor * contrasts.gain(frames, bed, arm), place, int(arm in VARIANTS))
        panel.axvline(0, color="0.4", linewidth=0.8)
        half = factor * contrasts.RECOVERED * contrasts.gain(frames, bed, LONG).mean()
        panel.axvline(half, color="0.4", linewidth=0.8, linestyle=":")
        panel.set(title=BEDS[bed], xlabel=GAINS[column])
    axes[0].set_yticks(range(len(arms)), [(ARMS | VARIANTS)[arm] for arm in arms])
    axes[0].set_ylim(len(arms) - 0.5, -0.5)
    seeds = counted(contrasts.gain(frames, bed, LONG).count() for bed in beds)
    text = (
        f"Gain on Adam without warm-up, all at the high rate (right is better), paired by seed, {seeds}: mean with "
        "95 % t interval; dots: seeds; dotted: half of the mean gain of the long warm-up."
    )
    return titled(figure, text)


def _interval(panel: Axes, values: pd.Series, place: int, look: int) -> None:
    """Single seeds, and their mean with its interval."""
    values = values.dropna()
    if not len(values):
        return
    found = statistics.mean(values)
    reach = None if np.isnan(found.low) else found.high - found.estimate
    panel.plot(values, np.full(len(values), place + 0.2), ".", color=PALETTE[look], markersize=3, alpha=0.5)
    style = {"color": PALETTE[look], "marker": MARKERS[look], "markersize": 4, "linestyle": "none"}
    panel.errorbar(found.estimate, place, xerr=reach, capsize=2, **style)


def _line(place: int) -> dict:
    return {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": DASHES[place], "markersize": 4}


def _named(panel: Axes, bed: str, label: str) -> None:
    panel.set(title=BEDS[bed], xscale="log", xlabel=label)
    plain_log(panel.xaxis)
