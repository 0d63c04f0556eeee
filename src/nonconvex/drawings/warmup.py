"""Figures of warm-up: which rates it makes usable, curvature early in a run, second moments and what they explain.

Frames are those of the study, as `contrasts.warmup` takes them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts.warmup import BEDS, NONE, Frames, gain, measured_by, runs_of, tuned_rate
from nonconvex.panels import Page, counted, legend, plain_log, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, house

LABELS = {"mlp": "MLP, Adam", "mlp_sgd": "MLP, SGD", "transformer": "Transformer, Adam"}
ARMS = {"none": "no warm-up", "warm1": "1 % of the run", "warm5": "5 %", "warm20": "20 %"}
VARIANTS = {
    "warm5": "warm-up over 5 %",
    "warm20": "warm-up over 20 %",
    "preaccumulated": "moments accumulated beforehand",
    "rectified": "rectified (RAdam)",
    "gradient_initialised": "moments start at the first gradient's",
    "restarted": "warm-up, then Adam restarted",
}
WEIGHTS = {"frozen": "weights held at the start", "trained": "weights trained"}
UNITS = {"test_error": (100, "test error (%)"), "test_loss": (1, "test loss (nats)")}


def beds_of(frames: Frames) -> list[str]:
    return [bed for bed in BEDS if bed in set(frames["tuned"].model)]


@house()
def responses(frames: Frames) -> Figure:
    """Score at the end against the peak rate, a line per length of the warm-up."""
    figure, axes = _row(beds_of(frames), 2.7)
    for panel, bed in zip(axes, beds_of(frames), strict=True):
        scale, label = UNITS[measured_by(frames, bed)]
        for i, (arm, text) in enumerate(ARMS.items()):
            rows = runs_of(frames, bed, arm)
            means = scale * rows.groupby("rate")[measured_by(frames, bed)].mean()
            panel.plot(means.index, means, marker=MARKERS[i], color=PALETTE[i], linestyle=DASHES[i], label=text)
        panel.axvline(tuned_rate(frames, bed, NONE), color="0.6", linewidth=0.8)
        panel.set(xscale="log", xlabel="peak rate", ylabel=label, title=LABELS[bed])
        plain_log(panel.xaxis)
    legend(figure, axes)
    seeds = counted(frames["runs"].query("draw == 'own' and labels == 'true'").groupby("bed").seed.nunique())
    return titled(
        figure,
        f"Score at the end of a run, mean over seeds ({seeds} by bed) that did not diverge. Grey: the rate tuned "
        "without warm-up.",
    )


@house()
def early(frames: Frames) -> Figure:
    """λ_max in the first tenth of runs at the high rate: single seeds and their geometric mean."""
    figure, axes = _row(beds_of(frames), 2.5)
    for panel, bed in zip(axes, beds_of(frames), strict=True):
        rows = frames["early"][frames["early"].bed == bed]
        for i, (arm, text) in enumerate(ARMS.items()):
            _seeds(panel, rows[rows.arm == arm], i, text)
        panel.set(yscale="log", xlabel="updates", ylabel=r"$\lambda_{\max}$", title=LABELS[bed])
        plain_log(panel.yaxis)
    legend(figure, axes)
    text = "About three times the tuned rate. Thin: single seeds; thick: their geometric mean where all have a reading."
    return titled(figure, f"Largest curvature in the first tenth of a run, all arms at one peak rate. {text}")


def _seeds(panel: Axes, rows: pd.DataFrame, place: int, label: str) -> None:
    table = rows.pivot(index="step", columns="seed", values="sharpness")
    table = table.where(table > 0)
    panel.plot(table.index, table, color=PALETTE[place], linewidth=0.5, alpha=0.3)
    means = np.exp(np.log(table).mean(axis=1, skipna=False))
    panel.plot(means.index, means, color=PALETTE[place], marker=MARKERS[place], linestyle=DASHES[place], label=label)


@house()
def mechanisms(frames: Frames) -> Figure:
    """What each variant of Adam gains over no warm-up at the high rate, seed by seed; dotted: half of 20 %'s gain."""
    beds = [bed for bed in ("mlp", "transformer") if bed in beds_of(frames)]
    figure, axes = _row(beds, 2.6, width=4.6, sharey=True)
    for panel, bed in zip(axes, beds, strict=True):
        scale, label = UNITS[measured_by(frames, bed)]
        gains = {arm: scale * gain(frames, bed, arm).dropna() for arm in VARIANTS}
        _dots(panel, gains, VARIANTS)
        panel.axvline(gains["warm20"].mean() / 2, color="0.4", linestyle=":", linewidth=1)
        panel.set(xlabel=f"gain in {label}", title=LABELS[bed])
    text = "mean with 95 % t interval; dots: single seeds. Dotted: half of what 20 % of warm-up gains."
    return titled(figure, f"Gain over no warm-up at about three times the tuned rate (right is better): {text}")


def _dots(panel: Axes, values: Mapping[str, pd.Series], labels: Mapping[str, str]) -> None:
    for place, one in enumerate(values.values()):
        panel.plot(one, np.full(len(one), place), "o", color="0.55", markersize=2.5)
        if len(one):
            found = statistics.mean(one)
            panel.hlines(place, found.low, found.high, color=PALETTE[0])
            panel.plot([found.estimate], [place], "D", color=PALETTE[0])
    panel.axvline(0, color="0.4", linewidth=0.8)
    panel.set_yticks(range(len(values)), [labels[name] for name in values])
    panel.set_ylim(len(values) - 0.5, -0.5)


@house()
def moments(frames: Frames) -> Figure:
    """Variation of Adam's second moments between orders of the data against the number of updates."""
    rows = frames["moments"]
    figure, (panel,) = _row([""], 2.5, width=4.6)
    for i, (weights, label) in enumerate(WEIGHTS.items()):
        table = rows[rows.weights == weights].pivot(index="step", columns="seed", values="variation")
        panel.plot(table.index, table, color=PALETTE[i], linewidth=0.5, alpha=0.3)
        means = table.mean(axis=1)
        panel.plot(means.index, means, color=PALETTE[i], marker=MARKERS[i], linestyle=DASHES[i], label=label)
    panel.set(xscale="log", xlabel="updates", ylabel="variation", ylim=(0, None))
    plain_log(panel.xaxis)
    legend(figure, [panel])
    return titled(
        figure,
        "MLP: standard deviation of bias-corrected second moments between orders of the data over their mean, median "
        f"over parameters. Thin: single seeds ({counted([rows.seed.nunique()])}); thick: their mean.",
    )


def _row(names: Sequence[str], height: float, width: float = 3.0, **shared: bool) -> tuple[Figure, Sequence[Axes]]:
    figure = Page(figsize=(width * len(names) + 0.6, height + 0.9), layout="constrained")
    return figure, figure.subplots(1, len(names), squeeze=False, **shared)[0]
