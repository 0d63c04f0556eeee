"""Figures of the comparison of schedules: responses to the rate, the reversal, theory against networks, stopping.

Frames are those of `contrasts.schedule_frames`.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts.schedule_frames import (
    BED,
    HORIZONS,
    MODELS,
    NAMES,
    PARTS,
    Frames,
    agreement,
    arms,
    by_rate,
    extension,
    regret,
    score,
    trials,
)
from nonconvex.panels import Page, counted, legend, plain_log, titled
from nonconvex.source_tables import LABELS
from nonconvex.style import house, look

LOSS = "validation loss (nats)"
WIDE = 2.0  # responses are drawn up to so many times the range from their least to that of the least tuned one


@house()
def responses(frames: Frames) -> Figure:
    """How every schedule answers to its peak rate: the theory, the MLP, and the grid's models."""
    chosen = arms(frames)
    figure = Page(figsize=(8.0, 6.2), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    _theory_response(axes[0], frames)
    for panel, model in zip(axes[1:], MODELS, strict=True):
        means = {arm: by_rate(trials(frames, model, arm)) for arm in NAMES}
        means = {arm: values for arm, values in means.items() if len(values)}
        best = chosen[chosen.model == model].set_index("arm").rate
        for arm, values in means.items():
            panel.plot(values.index, values, **look("schedule", arm).line)
            style = {**look("schedule", arm).point, "label": None, "markerfacecolor": "none", "markersize": 8}
            panel.plot([best[arm]], [values[best[arm]]], **style)
        panel.set(title=LABELS["model"][model], xscale="log", xlabel="peak rate", ylabel=LOSS)
        _zoomed(panel, list(means.values()))
        plain_log(panel.xaxis)
    legend(figure, axes)
    seeds = {model: trials(frames, model, "constant").seed.nunique() for model in MODELS}
    words = ", ".join(f"{LABELS['model'][model]} {count}" for model, count in seeds.items())
    return titled(
        figure,
        f"Response to the peak rate: mean over tuning seeds ({words}), none of them reported; theory is exact. "
        "Marks: the chosen peaks.",
    )


def _theory_response(panel: Axes, frames: Frames) -> None:
    rows, best = frames["responses"], frames["theory"].set_index("schedule")
    means = {arm: rows[rows.schedule == arm].set_index("rate").loss for arm in NAMES}
    for arm, values in means.items():
        panel.plot(values.index, values, **look("schedule", arm).line)
        style = {**look("schedule", arm).point, "label": None, "markerfacecolor": "none", "markersize": 8}
        panel.plot([best.peak[arm]], [best.loss[arm]], **style)
    panel.set(title="Noisy quadratic", xscale="log", xlabel="peak rate", ylabel="expected loss")
    _zoomed(panel, list(means.values()))
    plain_log(panel.xaxis)


def _zoomed(panel: Axes, curves: list[pd.Series]) -> None:
    """From just below the best point to well above the worst of the curves' minima: divergence is cut off."""
    least = [values.min() for values in curves if values.notna().any()]
    low, high = min(least), max(least)
    reach = WIDE * max(high - low, 0.1 * abs(low))
    panel.set_ylim(low - 0.1 * reach, high + reach)


@house()
def reversal(frames: Frames) -> Figure:
    """Every schedule at the common low peak and at its own tuned one: where lines cross, the order changes."""
    theory = frames["theory"].set_index("schedule")
    figure = Page(figsize=(8.0, 4.0), layout="constrained")
    axes = figure.subplots(1, 3)
    columns = {"Noisy quadratic": None, "MLP, test loss": "test_loss", "MLP, test error": "test_error"}
    for panel, (title, column) in zip(axes, columns.items(), strict=True):
        for arm in NAMES:
            if column is None:
                ends = pd.DataFrame({"common": [theory.common_loss[arm]], "tuned": [theory.loss[arm]]})
            else:
                pair = {
                    "common": score(frames, BED, arm, column, use="common"),
                    "tuned": score(frames, BED, arm, column),
                }
                ends = (100 if column == "test_error" else 1) * pd.DataFrame(pair).dropna()
            _slope(panel, ends, arm)
        panel.set(title=title, xlim=(-0.25, 1.25), ylabel={"test_error": "%", "test_loss": "nats"}.get(column, "loss"))
        panel.set_xticks([0, 1], ["common\nlow peak", "own tuned\npeak"])
    legend(figure, axes)
    text = (
        "The reversal: each schedule at a common low peak and at its own tuned peak (lower is better). Mean over "
        f"{counted(_seeds(frames))} seeds with 95 % t interval; theory is exact."
    )
    return titled(figure, text)


def _seeds(frames: Frames) -> list[int]:
    return [len(score(frames, BED, arm, "test_loss").dropna()) for arm in NAMES]


def _slope(panel: Axes, ends: pd.DataFrame, arm: str) -> None:
    at = look("schedule", arm)
    shift = 0.02 * (NAMES.index(arm) - 3.5)
    found = [statistics.mean(ends[name]) for name in ("common", "tuned")]
    reach = [0.0 if np.isnan(one.low) else one.high - one.estimate for one in found]
    places = [shift, 1 + shift]
    style = {"color": at.colour, "linestyle": at.dashes, "marker": at.marker, "label": at.label}
    panel.errorbar(places, [one.estimate for one in found], yerr=reach, capsize=2, elinewidth=0.8, **style)


@house()
def ranking(frames: Frames) -> Figure:
    """The theory's expected loss against the tuned test loss of networks, schedule by schedule."""
    theory = frames["theory"].set_index("schedule").loss
    figure = Page(figsize=(8.4, 3.6), layout="constrained")
    axes, seeds = figure.subplots(1, len(MODELS)), set()
    for panel, model in zip(axes, MODELS, strict=True):
        for arm in NAMES:
            values = score(frames, model, arm, "test_loss").dropna()
            seeds.add(len(values))
            if len(values):
                one, at = statistics.mean(values), look("schedule", arm)
                reach = None if np.isnan(one.low) else one.high - one.estimate
                panel.errorbar(theory[arm], one.estimate, yerr=reach, capsize=2, **at.point)
        taus = agreement(frames, model)
        words = f"mean tau {taus.mean():.2f}, n = {len(taus)}" if len(taus) else "tau needs all schedules"
        panel.set_title(f"{LABELS['model'][model]}\n{words}")
        panel.set(xlabel="expected loss in theory", ylabel="test loss (nats)")
    legend(figure, axes)
    return titled(
        figure,
        f"Theory against networks, each schedule at its tuned peak: mean over {counted(seeds - {0})} seeds with 95 % t "
        "interval. Kendall's tau is computed seed by seed.",
    )


@house()
def stopping(frames: Frames) -> Figure:
    """What it costs to stop a run before its end, and to go on after it, against runs planned for that length."""
    figure = Page(figsize=(8.8, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.2, 1])
    places = [PARTS[part] for part in (*HORIZONS, "end")]
    for arm in NAMES:
        values = [regret(frames, arm, part).dropna() for part in (*HORIZONS, "end")]
        left.plot(places, [v.mean() if len(v) else np.nan for v in values], **_both(arm))
        for place, one in zip(places, values, strict=True):
            left.plot(np.full(len(one), place), one, ".", color=look("schedule", arm).colour, markersize=2, alpha=0.4)
    left.axhline(0, color="0.4", linewidth=0.8)
    left.set(xlabel="stopped after this share of the run", ylabel="test loss above a planned run (nats)")
    left.set_xticks(places, [f"{place:.0%}" for place in places])
    left.set_title("Stopped early")
    rows = [*((arm, False) for arm in NAMES), ("inverse_sqrt", True)]
    for place, (arm, natural) in enumerate(rows):
        _extended(right, extension(frames, arm, natural=natural).dropna(), place, arm)
    right.axvline(0, color="0.4", linewidth=0.8)
    labels = [look("schedule", arm).label + (", formula read on" if natural else "") for arm, natural in rows]
    right.set_yticks(range(len(rows)), labels)
    right.set_ylim(len(rows) - 0.5, -0.5)
    right.set(title="Run on to twice the length", xlabel="the same, at twice the length (nats)")
    legend(figure, [left])
    text = (
        "MLP: test loss of tuned runs minus that of a run planned for that length, paired by seed (0: as good). "
        f"Left: mean over {counted(_seeds(frames))} seeds. Right, at the last rate: mean with 95 % t interval. "
        "Dots: single seeds."
    )
    return titled(figure, text)


def _both(arm: str) -> dict:
    at = look("schedule", arm)
    return {**at.line, "marker": at.marker}


def _extended(panel: Axes, values: pd.Series, place: int, arm: str) -> None:
    if not len(values):
        return
    at, found = look("schedule", arm), statistics.mean(values)
    panel.plot(values, np.full(len(values), place), ".", color=at.colour, markersize=3, alpha=0.5)
    reach = None if np.isnan(found.low) else found.high - found.estimate
    panel.errorbar(found.estimate, place, xerr=reach, capsize=2, color=at.colour, marker=at.marker, linestyle="none")
