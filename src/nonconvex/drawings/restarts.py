"""Figures of restarts: the loss between ends of cycles, how high it rises, scores of runs, ensembles, and on the way.

Frames are those of the study, as `contrasts.restarts` takes them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts.restarts import Frames, first_draws
from nonconvex.drawings import tuning
from nonconvex.panels import Page, counted, legend, plain_log, titled
from nonconvex.source_tables import LABELS
from nonconvex.style import DASHES, MARKERS, PALETTE, house

ARMS = {
    "restarts": "Restarts, growing cycles",
    "equal": "Restarts, equal cycles",
    "cosine": "One cosine",
    "wsd": "WSD 5/75/20",
    "constant": "Constant at the restarts' peak",
}
INDEPENDENT = "Two draws of one cosine"
MARGIN = 0.1  # of a barrier, in nats, as registered in claims.yaml
TICKS = (0, 0.05, 0.1, 0.3, 1, 3)  # of a barrier


def label(arm: str, height: float) -> str:
    """An arm in a few words."""
    return ARMS[arm] if height == 1 else f"Restarts at {height:g} of the peak"


def names_of(rows: pd.DataFrame) -> list[tuple[str, float]]:
    """The arms that the rows have, restarts first, from low to high."""
    found = set(zip(rows.arm, rows.height, strict=True))
    return sorted(found & {(arm, h) for arm, h in found if arm in ARMS}, key=lambda a: (list(ARMS).index(a[0]), a[1]))


def models_of(rows: pd.DataFrame) -> list[str]:
    return [model for model in ("mlp", "resnet") if model in set(rows.model)]


@house()
def responses(frames: Frames) -> Figure:
    """How every tuned arm's validation loss answers to its peak rate."""
    figure = tuning.responses(frames["tuning"], frames["tuned"], ARMS)
    for panel in figure.axes:
        plain_log(panel.xaxis)
    return figure


@house()
def lines(frames: Frames) -> Figure:
    """Training loss along the straight lines from each end of a cycle to the next, every run of every arm."""
    rows = first_draws(frames["points"])
    models, names = models_of(rows), names_of(rows)
    figure = Page(figsize=(1.55 * len(names) + 0.8, 2.3 * len(models) + 0.9), layout="constrained")
    axes = figure.subplots(len(models), len(names), squeeze=False, sharey="row", sharex=True)
    for of_model, model in zip(axes, models, strict=True):
        for panel, (arm, height) in zip(of_model, names, strict=True):
            chosen = rows[(rows.model == model) & (rows.arm == arm) & (rows.height == height)]
            panel.set_visible(len(chosen) > 0)
            _walk(panel, chosen)
            panel.set_title(_wrapped(label(arm, height)), fontsize=8)
        of_model[0].set_ylabel(f"{LABELS['model'][model]}\ntraining loss (nats)")
    for panel in axes.ravel():
        panel.tick_params(labelbottom=True)
    for panel in axes[-1]:
        panel.set_xlabel("end of cycle")
    seeds = counted(first_draws(rows).groupby(["model", "arm", "height"]).seed.nunique())
    text = (
        "Training loss on the straight lines from the end of a cycle to the end of the next, arms without cycles at "
        f"the same steps. Thin: single seeds, {seeds}; thick: their mean."
    )
    return titled(figure, text)


def _wrapped(words: str) -> str:
    """In two lines, broken at the space nearest the middle."""
    spaces = [i for i, character in enumerate(words) if character == " "]
    at = min(spaces, key=lambda i: abs(i - len(words) / 2))
    return f"{words[:at]}\n{words[at + 1 :]}"


def _walk(panel: Axes, rows: pd.DataFrame) -> None:
    """From end to end: line k runs from k to k + 1."""
    rows = rows.assign(place=rows.line + rows.t)
    for _, run in rows.groupby("seed"):
        for _, line in run.groupby("line"):
            panel.plot(line.place, line.train_loss, color=PALETTE[0], linewidth=0.6, alpha=0.5)
    for _, line in rows.groupby("line"):
        mean = line.groupby("place").train_loss.mean()
        panel.plot(mean.index, mean, color="black", linewidth=1.6)
    for end in range(1, int(rows.line.max()) + 2 if len(rows) else 1):
        panel.axvline(end, color="0.6", linewidth=0.6, linestyle=":")
    panel.set_xticks(range(1, int(rows.line.max()) + 2 if len(rows) else 2))


@house()
def barriers(frames: Frames) -> Figure:
    """How high the training loss rises between ends of cycles, restart by restart, beside what has no restarts."""
    rows = first_draws(frames["lines"]).dropna(subset="barrier")
    models, names = models_of(rows), [*names_of(rows), ("independent", 1.0)]
    figure, axes = _columns(len(models), len(names))
    for panel, model in zip(axes, models, strict=True):
        for place, (arm, height) in enumerate(names):
            of_arm = rows[(rows.model == model) & (rows.arm == arm) & (rows.height == height)]
            for line, of_line in of_arm.groupby("line"):
                which = 2 if arm == "independent" else line - 1
                words = "between independent runs" if arm == "independent" else f"from end {line} to end {line + 1}"
                _interval(panel, of_line.barrier, place + 0.24 * (line - 1) - 0.12, which, words)
        panel.axvline(MARGIN, color="0.4", linewidth=0.8, linestyle=":")
        panel.set_xscale("symlog", linthresh=0.1, linscale=1.0)
        panel.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS], minor=False)
        panel.set_xticks([], minor=True)
        panel.set_xlim(-0.02, 1.6 * max(3.0, rows.barrier.max()))
        panel.set(title=LABELS["model"][model], xlabel="training-loss barrier (nats)")
    _named(axes[0], [INDEPENDENT if arm == "independent" else label(arm, height) for arm, height in names])
    legend(figure, axes)
    seeds = counted(rows.groupby(["model", "arm", "height"]).seed.nunique())
    text = (
        "Barrier between one end of a cycle and the next (arms without cycles: at the same steps), and between the "
        f"ends of independent runs: mean with 95 % t interval, {seeds} seeds; dots: single seeds; dotted: the margin. "
        "The axis is linear below 0.1 and logarithmic above."
    )
    return titled(figure, text)


@house()
def scores(frames: Frames) -> Figure:
    """Test error of every arm's last network, and of the ensemble of its networks at the ends of cycles."""
    runs = first_draws(frames["runs"])
    runs = runs[runs.labels == "true"]
    models, names = models_of(runs), names_of(runs)
    figure, axes = _columns(len(models), len(names))
    kinds = {"test_error": "last network", "ensemble_error": "ensemble of the ends of cycles"}
    for panel, model in zip(axes, models, strict=True):
        for place, (arm, height) in enumerate(names):
            of_arm = runs[(runs.model == model) & (runs.arm == arm) & (runs.height == height)]
            for at, (column, words) in enumerate(kinds.items()):
                _interval(panel, 100 * of_arm[column], place + 0.24 * at - 0.12, at, words)
        panel.set(title=LABELS["model"][model], xlabel="test error (%)")
    _named(axes[0], [label(arm, height) for arm, height in names])
    legend(figure, axes)
    seeds = counted(runs.groupby(["model", "arm", "height"]).seed.nunique())
    text = (
        f"End of every arm's runs (left is better): mean with 95 % t interval, {seeds} seeds; dots: single seeds. The "
        "ensemble of an arm without cycles is of its networks at the same steps."
    )
    return titled(figure, text)


@house()
def on_the_way(frames: Frames) -> Figure:
    """Test error at any step, were the run to stop there."""
    rows = frames["looks"].dropna(subset="test_error")
    models = models_of(rows)
    figure = Page(figsize=(4.2 * len(models) + 0.4, 3.8), layout="constrained")
    axes = figure.subplots(1, len(models), squeeze=False)[0]
    for panel, model in zip(axes, models, strict=True):
        for place, arm in enumerate(ARMS):
            of_arm = rows[(rows.model == model) & (rows.arm == arm)]
            for _, run in of_arm.groupby("seed"):
                panel.plot(run.step, 100 * run.test_error, color=PALETTE[place], linewidth=0.4, alpha=0.3)
            mean = 100 * of_arm.groupby("step").test_error.mean()
            look = {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": DASHES[place], "markersize": 3.5}
            if len(mean):
                panel.plot(mean.index, mean, label=ARMS[arm], **look)
        for end in _ends(frames, model):
            panel.axvline(end, color="0.6", linewidth=0.8, linestyle=":")
        panel.set(title=LABELS["model"][model], xlabel="step", ylabel="test error (%)", yscale="log")
        _plain(panel)
    legend(figure, axes)
    seeds = counted(rows.groupby(["model", "arm"]).seed.nunique())
    text = f"Test error on the way. Thin: single seeds, {seeds}; thick: their mean; dotted: ends of the growing cycles."
    return titled(figure, text)


def _ends(frames: Frames, model: str) -> Sequence[int]:
    rows = frames["lines"]
    of_arm = rows[(rows.model == model) & (rows.arm == "restarts")]
    return sorted({*of_arm.begin, *of_arm.end})


def _plain(panel: Axes) -> None:
    """Percentages written plainly on a logarithmic axis."""
    low, high = panel.get_ylim()
    ticks = [tick for tick in (1, 2, 5, 10, 20, 30, 50, 70, 90) if low <= tick <= high]
    panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.set_yticks([], minor=True)


def _columns(columns: int, rows: int) -> tuple[Figure, np.ndarray]:
    figure = Page(figsize=(3.0 * columns + 2.4, 0.36 * rows + 1.7), layout="constrained")
    return figure, figure.subplots(1, columns, sharey=True, squeeze=False)[0]


def _named(panel: Axes, names: Sequence[str]) -> None:
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)


def _interval(panel: Axes, values: pd.Series, place: float, look: int, words: str) -> None:
    """Single seeds, and their mean with its interval."""
    values = values.dropna().astype(float)
    if not len(values):
        return
    found = statistics.mean(values)
    reach = None if np.isnan(found.low) else found.high - found.estimate
    panel.plot(values, np.full(len(values), place), ".", color=PALETTE[look], markersize=3, alpha=0.5)
    style = {"color": PALETTE[look], "marker": MARKERS[look], "markersize": 4, "linestyle": "none"}
    panel.errorbar(found.estimate, place, xerr=reach, capsize=2, label=words, **style)
