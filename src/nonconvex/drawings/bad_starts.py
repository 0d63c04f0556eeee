"""Figures of bad starts: tuning, who leaves which region when, what that is against plain SGD, and where runs end.

Frames are those of the study, as `contrasts.bad_starts` takes them.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts.bad_starts import ARMS, REGIONS, Frames, column, left, over_regions, runs, sooner, times
from nonconvex.panels import Page, counted, legend, plain_log, titled
from nonconvex.source_tables import LABELS
from nonconvex.style import house, look

NAMES = {"saddle": "Strict saddle", "plateau": "Plateau", "sharp": "Sharp minimum", "bad_minimum": "Bad global minimum"}
MARGIN = np.log(1.25)  # as registered in claims.yaml
ROWS = ("none", *ARMS)
WHERE = {"tuned": "each at its own tuned peak", "common": "all at plain SGD's tuned peak"}
ENDS = {"test_error": ("test error (%)", 100), "sharpness": (r"$\lambda_{\max}$", 1), "barrier": ("barrier (nats)", 1)}
PLAIN = "Plain SGD"


def label(arm: str) -> str:
    return PLAIN if arm == "none" else LABELS["strategy"][arm]


@house()
def responses(frames: Frames) -> Figure:
    """How soon every arm leaves a region, or how well it ends where no arm leaves, by peak rate."""
    figure = Page(figsize=(8.0, 6.0), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    for panel, region in zip(axes, REGIONS, strict=True):
        trials = frames["tuning"][frames["tuning"].region == region]
        left_at_all = bool(trials.left.notna().any())
        _scaled(panel, trials, left_at_all)
        for arm in ROWS:
            _response(panel, frames, trials[trials.arm == arm], f"{region}/{arm}", left_at_all)
        panel.set(title=NAMES[region], xlabel="peak rate")
        plain_log(panel.xaxis)
    legend(figure, axes)
    seeds = frames["tuning"].seed.nunique()
    text = (
        f"Tuning: mean over {seeds} tuning seed(s), none of them reported; geometric for evaluations, a run that stays "
        "counted with its whole budget. Ring: the chosen rate; where no run leaves, the largest that does no harm. "
        "Wide and pale: plain SGD."
    )
    return titled(figure, text)


def _scaled(panel: Axes, trials: pd.DataFrame, by_time: bool) -> None:
    """Limits with room for a flat line too, and round ticks."""
    values = (np.exp(trials.log_evaluations) if by_time else 100 * trials.validation_error).astype(float)
    low, high = values.min(), values.max()
    panel.set(xscale="log", yscale="log" if by_time else "linear")
    panel.set_ylim((0.8 * low, 1.25 * high) if by_time else (low - 1, high + 1))
    panel.set_ylabel("evaluations until it has left" if by_time else "validation error (%)")
    if by_time:
        plain_log(panel.yaxis)


def _response(panel: Axes, frames: Frames, trials: pd.DataFrame, name: str, by_time: bool) -> None:
    values = trials.log_evaluations if by_time else 100 * trials.validation_error
    means = values.astype(float).groupby(trials.rate).agg(lambda own: own.mean(skipna=False))
    arm = name.partition("/")[2]
    means, style = np.exp(means) if by_time else means, look("strategy", arm)
    wide = {"linewidth": 5, "alpha": 0.5, "marker": ""} if arm == "none" else {"marker": style.marker}
    panel.plot(means.index, means, **style.line | {"label": label(arm)} | wide)
    rate = frames["tuned"].set_index("arm").rate[name]
    panel.plot([rate], means.loc[[rate]], "o", markersize=11, markerfacecolor="none", color=style.colour)


@house()
def escapes(frames: Frames) -> Figure:
    """Strategy by region: gradient evaluations until a run has left, and the share that leaves."""
    figure = Page(figsize=(9.0, 4.4), layout="constrained")
    axes = figure.subplots(1, 2)
    budget = runs(frames, "none").evaluations.max()
    for panel, accounting in zip(axes, WHERE, strict=True):
        arms = [arm for arm in ROWS if arm == "none" or len(runs(frames, arm, accounting))]
        image = _map(panel, frames, arms, accounting, budget)
        panel.set_title(WHERE[accounting][0].upper() + WHERE[accounting][1:])
    scale = figure.colorbar(image, ax=axes, label="gradient evaluations until the run has left")
    plain_log(scale.ax.yaxis)
    text = (
        f"Geometric mean over {counted([runs(frames, 'none').seed.nunique()])} seeds, a run that stays counted with "
        f"its whole budget of {budget}; below it the share that leaves. Dark is soon. Averages are asked as averages."
    )
    return titled(figure, text)


def _map(panel: Axes, frames: Frames, arms: list[str], accounting: str, budget: int):
    at = {arm: "tuned" if arm == "none" else accounting for arm in arms}
    spent = pd.DataFrame({arm: np.exp(times(frames, arm, at[arm]).mean()) for arm in arms}).T[list(REGIONS)]
    gone = pd.DataFrame({arm: left(frames, arm, accounting=at[arm]).mean() for arm in arms}).T[list(REGIONS)]
    image = panel.imshow(spent.to_numpy(float), cmap="cividis", norm="log", aspect="auto", clim=(budget / 40, budget))
    for i, arm in enumerate(arms):
        for j, region in enumerate(REGIONS):
            if np.isfinite(spent.loc[arm, region]):
                dark = spent.loc[arm, region] < budget / 5
                words = f"{spent.loc[arm, region]:.0f}\n{gone.loc[arm, region]:.0%}"
                panel.text(j, i, words, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    panel.set_xticks(range(len(REGIONS)), [NAMES[region].replace(" ", "\n") for region in REGIONS])
    panel.set_yticks(range(len(arms)), [label(arm) for arm in arms])
    panel.grid(visible=False)
    return image


@house()
def advantages(frames: Frames) -> Figure:
    """How much sooner each strategy leaves than plain SGD, region by region and over all, paired by seed."""
    figure = Page(figsize=(9.5, 3.6), layout="constrained")
    axes = figure.subplots(1, len(REGIONS) + 1, sharey=True)
    found = {accounting: {arm: sooner(frames, arm, accounting) for arm in ARMS} for accounting in WHERE}
    for j, panel in enumerate(axes):
        for look_at, accounting in enumerate(WHERE):
            for place, arm in enumerate(ARMS):
                values = found[accounting][arm]
                chosen = values[REGIONS[j]] if j < len(REGIONS) else over_regions(values)
                _interval(panel, chosen.dropna(), place + 0.3 * look_at, look_at, WHERE[accounting])
        panel.axvline(0, color="0.4", linewidth=0.8)
        panel.axvline(MARGIN, color="0.4", linewidth=0.8, linestyle=":")
        panel.set_title(NAMES[REGIONS[j]] if j < len(REGIONS) else "Mean of the four")
    seeds = counted(len(values) for of in found.values() for values in of.values())
    axes[2].set_xlabel("ln (evaluations of plain SGD / evaluations of the strategy)")
    axes[0].set_yticks(range(len(ARMS)), [label(arm) for arm in ARMS])
    axes[0].set_ylim(len(ARMS) - 0.4, -0.6)
    legend(figure, axes)
    text = (
        f"How much sooner a strategy leaves (right: sooner): mean with 95 % t interval over {seeds} seeds (dots); "
        "dotted: the claims' margin. Where neither arm leaves the difference is zero."
    )
    return titled(figure, text)


def _interval(panel: Axes, values: pd.Series, place: float, look_at: int, words: str) -> None:
    if not len(values):
        return
    mean, colour = statistics.mean(values), ("#0173b2", "#de8f05")[look_at]
    reach = None if np.isnan(mean.low) else mean.high - mean.estimate
    panel.plot(values, np.full(len(values), place), ".", color=colour, markersize=3, alpha=0.5)
    style = {"color": colour, "marker": "os"[look_at], "markersize": 4, "linestyle": "none"}
    panel.errorbar(mean.estimate, place, xerr=reach, capsize=2, label=words, **style)


@house()
def ends(frames: Frames) -> Figure:
    """Accuracy, curvature and barrier at the end of every run, at own tuned peaks."""
    figure = Page(figsize=(9.0, 6.2), layout="constrained")
    axes = figure.subplots(len(ENDS), len(REGIONS), sharex=True)
    for row, (name, (words, factor)) in zip(axes, ENDS.items(), strict=True):
        for panel, region in zip(row, REGIONS, strict=True):
            for place, arm in enumerate(ROWS):
                values = factor * column(frames, name, region, arm).dropna()
                style = look("strategy", arm)
                panel.plot(np.full(len(values), place), values, ".", color=style.colour, alpha=0.5, markersize=4)
                panel.plot([place] * bool(len(values)), [values.mean()] * bool(len(values)), **style.point)
            _reference(panel, frames, name, region)
        row[0].set_ylabel(words)
    for panel, region in zip(axes[0], REGIONS, strict=True):
        panel.set_title(NAMES[region])
    for panel in axes[-1]:
        panel.set_xticks(range(len(ROWS)), [label(arm) for arm in ROWS], rotation=90)
    seeds = counted([runs(frames, "none").seed.nunique()])
    text = (
        f"Ends of the runs, each arm at its own tuned peak; dots: single seeds, markers: their mean, {seeds}. Line: "
        "the start; dashed: plain SGD from normal weights."
    )
    return titled(figure, text)


def _reference(panel: Axes, frames: Frames, name: str, region: str) -> None:
    if name == "barrier":
        return
    points = frames["points"][frames["points"].region == region]
    factor = ENDS[name][1]
    panel.axhline(factor * points[name].mean(), color="0.3", linewidth=0.9)
    if name == "test_error":
        panel.axhline(factor * points.reference_error.mean(), color="0.3", linewidth=0.9, linestyle="--")


@house()
def curvature(frames: Frames) -> Figure:
    """λ_max against training loss from the sharp minimum on, and on the way there from normal weights."""
    figure = Page(figsize=(6.2, 4.2), layout="constrained")
    panel, rows = figure.subplots(), frames["looks"].dropna(subset="sharpness")
    rows = rows[rows.sharpness > 0]
    kinds = [("region", arm) for arm in ROWS] + [("normal", "none")]
    for start, arm in kinds:
        own = rows[(rows.start == start) & (rows.arm == arm) & (rows.draw == "own")]
        if len(own):
            _path(panel, own, start, arm)
    begin = frames["points"][frames["points"].region == "sharp"]
    panel.plot(begin.train_loss, begin.sharpness, "k*", markersize=8, linestyle="none", label="Sharp minima")
    panel.set(xscale="log", yscale="log", xlabel="training loss (nats)", ylabel=r"$\lambda_{\max}$")
    plain_log(panel.xaxis)
    plain_log(panel.yaxis)
    panel.invert_xaxis()
    legend(figure, [panel])
    text = (
        f"Single runs, {counted([begin.seed.nunique()])} seeds; training goes to the right. From the sharp minima all "
        "are at plain SGD's tuned peak. Arms are compared at equal loss: lower is flatter."
    )
    return titled(figure, text)


def _path(panel: Axes, rows: pd.DataFrame, start: str, arm: str) -> None:
    style, words = look("strategy", arm).line, label(arm)
    if start == "normal":
        style, words = {"color": "0.4", "linestyle": ":"}, "Plain SGD from normal weights"
    for i, (_, run) in enumerate(rows.sort_values("evaluations").groupby("seed")):
        panel.plot(run.train_loss, run.sharpness, **style | {"label": words if i == 0 else None, "linewidth": 0.9})
