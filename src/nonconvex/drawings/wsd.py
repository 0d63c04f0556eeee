"""Figures of WSD: trunk and decays beside cosine runs, what is gained at every horizon, lengths, shapes and the key.

Frames are those of the study, as `contrasts.wsd` takes them.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts import wsd as contrasts
from nonconvex.contrasts.wsd import DECAY, NAMES, SCORES, Frames, branch, horizons, planned, score
from nonconvex.drawings.tuning import mean_by_rate
from nonconvex.panels import Page, counted, legend, plain_log, titled
from nonconvex.source_tables import LABELS
from nonconvex.style import DASHES, MARKERS, PALETTE, Look, house

ARMS = {
    "wsd": "WSD 5/75/20",
    "warmup_cosine": "Warm-up + cosine",
    "warmup_linear": "Warm-up + linear",
    "no_warmup": "WSD, no warm-up",
    "long_warmup": "WSD, double warm-up",
}
SHAPES = {"cosine": "Cosine (the text's)", "linear": "Linear", "sqrt": "1 - sqrt"}
ON_THE_WAY = {
    "trunk": "WSD: trunk",
    "branch": "WSD: decays",
    "short": "Cosine for the short horizon",
    "middle": "Cosine for the middle horizon",
    "long": "Cosine for the long horizon",
}
RIVALS = {
    "trunk": "WSD from the trunk",
    "own": "WSD planned for it",
    "linear": "Linear planned for it",
    "stopped": "Cosine planned for twice of it",
    "restarted": "Cosine for half of it, restarted",
}
KEYS = {"length": "share of the decay, over 20 %", "peak": "peak rate, over the tuned one"}
UNITS = {"test_error": (100, "points of test accuracy"), "test_loss": (1, "nats of test loss")}
MARGINS = {"test_error": 1.0, "test_loss": 0.02}  # as registered in claims.yaml, in the units drawn


def look(names: dict[str, str], name: str) -> Look:
    """How one of `names` is drawn in every panel."""
    place = list(names).index(name)
    return Look(names[name], PALETTE[place], MARKERS[place], DASHES[place])


def beds(frames: Frames) -> list[str]:
    return [model for model in SCORES if model in set(frames["tuned"].model)]


def replicates(frames: Frames, models: Sequence[str]) -> str:
    runs = frames["runs"]
    return counted(runs[(runs.labels == "true") & runs.model.isin(models)].groupby("model").seed.nunique())


@house()
def responses(frames: Frames) -> Figure:
    """How every arm's tuning criterion answers to its peak rate, a panel per bed and horizon."""
    models = beds(frames)
    figure = Page(figsize=(8.4, 2.1 * len(models) + 1.0), layout="constrained")
    axes = figure.subplots(len(models), len(NAMES), squeeze=False, sharey="row", sharex="row")
    for row, model in zip(axes, models, strict=True):
        for panel, (name, steps) in zip(row, horizons(frames, model).items(), strict=True):
            for arm in ARMS:
                _response(panel, frames, model, f"{arm}_{name}", look(ARMS, arm))
            panel.set(title=f"{LABELS['model'][model]}, {steps} steps", xscale="log")
        row[0].set_ylabel("validation loss (nats)")
        plain_log(row[0].xaxis)
    for panel in axes[-1]:
        panel.set_xlabel("peak rate")
    legend(figure, axes.flat)
    seeds = counted(frames["tuning"].groupby("model").seed.nunique())
    text = f"Tuning: mean over the bed's tuning seeds, {seeds}, none of them reported. Ring: the choice."
    return titled(figure, text)


def _response(panel: Axes, frames: Frames, model: str, arm: str, style: Look) -> None:
    chosen = frames["tuned"].query("model == @model and arm == @arm").rate
    if len(chosen):
        means = mean_by_rate(frames["tuning"].query("model == @model and arm == @arm"), "validation_loss")
        panel.plot(means.index, means, **style.line, marker=style.marker)
        panel.plot(chosen, means.loc[chosen], "o", markersize=11, markerfacecolor="none", color=style.colour)


@house()
def losses(frames: Frames) -> Figure:
    """Minibatch loss along the trunk, its decays and the cosine runs, a panel per bed."""
    models = beds(frames)
    figure = Page(figsize=(2.9 * len(models) + 0.4, 4.0), layout="constrained")
    axes = figure.subplots(1, len(models), squeeze=False)[0]
    for panel, model in zip(axes, models, strict=True):
        rows, names = frames["windows"], {steps: name for name, steps in horizons(frames, model).items()}
        kinds = rows.arm.where(rows.arm != "warmup_cosine", rows.planned.map(names))
        for kind in ON_THE_WAY:
            for _, run in rows[(rows.model == model) & (kinds == kind)].groupby("planned"):
                _band(panel, run, look(ON_THE_WAY, kind))
        for steps in names:
            panel.axvline(steps, color="0.4", linewidth=0.6, linestyle=":")
        panel.set(title=LABELS["model"][model], xlabel="step", yscale="log")
        plain_log(panel.yaxis)
    axes[0].set_ylabel("minibatch training loss")
    legend(figure, axes)
    text = (
        f"Training loss by step, in windows: mean over {replicates(frames, models)} seeds with 95 % t interval. "
        "Dotted: the three horizons."
    )
    return titled(figure, text)


def _band(panel: Axes, run: pd.DataFrame, style: Look) -> None:
    found = [(step, statistics.mean(part)) for step, part in run.dropna(subset="loss").groupby("step").loss]
    steps, means = [step for step, _ in found], [mean.estimate for _, mean in found]
    panel.plot(steps, means, **style.line, linewidth=1.2)
    low, high = [mean.low for _, mean in found], [mean.high for _, mean in found]
    panel.fill_between(steps, low, high, color=style.colour, alpha=0.15, linewidth=0)


@house()
def at_horizons(frames: Frames) -> Figure:
    """What every rival gains on the cosine run that was planned for the horizon, a panel per bed."""
    models = beds(frames)
    figure = Page(figsize=(2.9 * len(models) + 0.4, 4.0), layout="constrained")
    axes = figure.subplots(1, len(models), squeeze=False)[0]
    for panel, model in zip(axes, models, strict=True):
        factor, unit = UNITS[SCORES[model]]
        for place, name in enumerate(NAMES):
            base = planned(frames, model, "warmup_cosine", name)
            for i, (rival, values) in enumerate(rivals(frames, model, name)):
                _interval(panel, place + 0.15 * (i - 2), factor * (values - base), look(RIVALS, rival))
        _margins(panel, model)
        panel.set_xticks(range(3), [f"{name}\n{steps}" for name, steps in horizons(frames, model).items()])
        panel.set(title=LABELS["model"][model], xlabel="horizon (steps)", ylabel=f"gain in {unit}", xlim=(-0.5, 2.5))
    legend(figure, axes)
    text = (
        "Gain on warm-up + cosine planned and tuned for the horizon (up is better), paired by seed: mean over "
        f"{replicates(frames, models)} seeds with 95 % t interval; dots: single seeds; dotted: the claims' margin."
    )
    return titled(figure, text)


def rivals(frames: Frames, model: str, name: str) -> Iterator[tuple[str, pd.Series]]:
    """Scores by seed of everything that has done a horizon's steps; what the bed has not is empty."""
    yield "trunk", branch(frames, model, name)
    yield "own", planned(frames, model, "wsd", name)
    yield "linear", planned(frames, model, "warmup_linear", name)
    later = dict(itertools.pairwise(NAMES)).get(name)
    yield "stopped", planned(frames, model, "warmup_cosine", later, at=name) if later else pd.Series(dtype=float)
    again = name == "long"
    yield "restarted", planned(frames, model, "restarted", "middle", at=name) if again else pd.Series(dtype=float)


@house()
def lengths(frames: Frames) -> Figure:
    """What decays of other lengths and shapes gain on the text's, a panel per bed and horizon that has them."""
    models = beds(frames)
    places = [(m, n) for m in models for n in NAMES if len(set(_decays(frames, m, n).decay)) > 1]
    columns = min(3, len(places))
    figure = Page(figsize=(2.7 * columns + 0.4, 2.5 * -(-len(places) // columns) + 1.0), layout="constrained")
    axes = figure.subplots(-(-len(places) // columns), columns, squeeze=False).ravel()
    shares = sorted({0.0, *frames["runs"].decay.dropna()})
    for panel, (model, name) in zip(axes, places, strict=False):
        _lengths(panel, frames, model, name, shares)
    for panel in axes[len(places) :]:
        panel.set_visible(False)
    legend(figure, axes)
    text = (
        "Gain of a decay from the trunk on the text's, a cosine over 20 % (up is better), paired by seed: mean over "
        f"{replicates(frames, models)} seeds with 95 % t interval; dots: single seeds; dotted: the claims' margin. "
        "0: no decay."
    )
    return titled(figure, text)


def _decays(frames: Frames, model: str, name: str) -> pd.DataFrame:
    rows = frames["runs"]
    rows = rows[(rows.model == model) & (rows.arm == "branch") & (rows.labels == "true") & (rows.order == "own")]
    return rows[rows.planned == horizons(frames, model)[name]]


def _lengths(panel: Axes, frames: Frames, model: str, name: str, shares: Sequence[float]) -> None:
    (factor, unit), base = UNITS[SCORES[model]], branch(frames, model, name)
    steps = horizons(frames, model)[name]
    for i, shape in enumerate(SHAPES):
        tried = sorted(set(_decays(frames, model, name).query("shape == @shape").decay))
        found = [branch(frames, model, name, decay=share, shape=shape) - base for share in tried]
        if shape == "cosine":
            tried, found = [0.0, *tried], [score(frames, model, arm="trunk", at=steps) - base, *found]
        at = [shares.index(share) + 0.12 * (i - 1) for share in tried]
        style = look(SHAPES, shape)
        panel.plot(at, [factor * values.mean() for values in found], color=style.colour, linestyle=style.dashes)
        for place, values in zip(at, found, strict=True):
            _interval(panel, place, factor * values, style)
    _margins(panel, model)
    panel.set_xticks(range(len(shares)), [f"{100 * share:g}" for share in shares])
    panel.set(title=f"{LABELS['model'][model]}, {steps} steps", xlabel="decay (% of the run)", ylabel=unit)


@house()
def keys(frames: Frames) -> Figure:
    """What the score loses where the decay's length or the peak rate is changed by a factor, middle horizon."""
    runs = frames["runs"]
    models = [model for model in beds(frames) if ((runs.model == model) & (runs.arm == "other_peak")).any()]
    figure = Page(figsize=(3.6 * len(models) + 1.4, 3.6), layout="constrained")
    axes = figure.subplots(1, len(models), squeeze=False)[0]
    for panel, model in zip(axes, models, strict=True):
        _changed(panel, "length", frames, model, contrasts.by_length(frames, model), DECAY)
        _changed(panel, "peak", frames, model, contrasts.by_peak(frames, model), contrasts.peak(frames, model))
        _margins(panel, model)
        panel.set(title=LABELS["model"][model], xlabel="changed by a factor of", ylabel=UNITS[SCORES[model]][1])
        panel.set_xticks(range(-3, 3), [f"{2.0**power:g}" for power in range(-3, 3)])
    legend(figure, axes)
    text = (
        "Gain on WSD 5/75/20 at its tuned peak where one thing is changed by a factor, paired by seed: mean over "
        f"{replicates(frames, models)} seeds with 95 % t interval; dots: single seeds; dotted: the claims' margin."
    )
    return titled(figure, text)


def _changed(panel: Axes, key: str, frames: Frames, model: str, table: pd.DataFrame, middle: float) -> None:
    """Gains over a table (seed, level) against log2 of the level over its middle one."""
    factor, base = UNITS[SCORES[model]][0], branch(frames, model, "middle")
    style, levels = look(KEYS, key), np.log2(table.columns.to_numpy(float) / middle)
    gains = [factor * (table[level] - base) for level in table.columns]
    panel.plot(levels, [values.mean() for values in gains], color=style.colour, linestyle=style.dashes)
    for level, values in zip(levels, gains, strict=True):
        _interval(panel, level, values, style)


def _interval(panel: Axes, place: float, values: pd.Series, style: Look) -> None:
    """Single seeds, and their mean with its interval; nothing where there are none."""
    values = values.dropna()
    if not len(values):
        return
    found = statistics.mean(values)
    reach = None if np.isnan(found.low) else found.high - found.estimate
    panel.plot(np.full(len(values), place), values, ".", color=style.colour, markersize=2.5, alpha=0.4)
    panel.errorbar(place, found.estimate, yerr=reach, capsize=2, **style.point | {"markersize": 4})


def _margins(panel: Axes, model: str) -> None:
    margin = MARGINS[SCORES[model]]
    panel.axhline(0, color="0.4", linewidth=0.8)
    for height in (-margin, margin):
        panel.axhline(height, color="0.4", linewidth=0.8, linestyle=":")
