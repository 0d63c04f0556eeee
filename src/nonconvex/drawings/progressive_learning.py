"""Figures of progressive learning: scores arm by arm, what each arm gains on its controls, curvature along runs.

Frames are those of the study, as `contrasts.progressive_learning` takes them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts.progressive_learning import SHAPES, Comparison, Frames, advantage, comparisons
from nonconvex.drawings.tuning import mean_by_rate
from nonconvex.panels import Page, counted, legend, plain_log, titled
from nonconvex.source_tables import LABELS
from nonconvex.style import DASHES, MARKERS, PALETTE, house

ARMS = {
    "wsd": "WSD 5/75/20",
    "wsd_decay_only": "WSD without warm-up",
    "warmup_only": "Warm-up, then constant",
    "wsd_reversed": "WSD reversed",
    "wsd_shuffled": "WSD shuffled",
    "wsd_mean": "Constant at WSD's mean",
    "constant": "Constant",
    "warmup_cosine": "Warm-up + cosine",
    "warmup_cosine_decay_only": "Cosine without warm-up",
    "warmup_cosine_reversed": "Warm-up + cosine reversed",
    "warmup_cosine_shuffled": "Warm-up + cosine shuffled",
    "rising": "Cosine reversed (rising)",
}
ROLES = {  # what an arm is to the shape of its panel
    "SHAPE": "the schedule",
    "SHAPE_decay_only": "without warm-up",
    "warmup_only": "warm-up, then constant",
    "SHAPE_reversed": "reversed",
    "SHAPE_shuffled": "shuffled",
    "constant": "constant",
    "rising": "cosine reversed",
}
OWN = {"mlp": "test_error", "resnet": "test_error", "transformer": "test_loss"}  # what a bed's arms are shown by
AXIS = {"test_error": (100, "test error (%)"), "test_loss": (1, "test loss (nats)")}
UNITS = {"accuracy": (100, "test accuracy (points)"), "loss": (1, "test loss (nats)")}
MARGINS = {"accuracy": 0.01, "loss": 0.02}  # as registered in claims.yaml
SMALLEST = 1e-3  # share of the threshold that is drawn
ACCOUNTINGS = {"tuned": "own tuned peak", "common": "WSD's tuned peak"}


@house()
def responses(frames: Frames) -> Figure:
    """How the tuning criterion of every arm answers to its peak rate, a panel per bed and shape."""
    tuned = frames["tuned"]
    shapes = [(m, shape) for m in OWN for shape in SHAPES if shape in set(tuned.arm[tuned.model == m])]
    figure = Page(figsize=(8.0, 2.6 * -(-len(shapes) // 2) + 0.9), layout="constrained")
    axes = figure.subplots(-(-len(shapes) // 2), 2, squeeze=False).ravel()
    for panel, (model, shape) in zip(axes, shapes, strict=False):
        for place, (role, label) in enumerate(ROLES.items()):
            _response(panel, frames, model, role.replace("SHAPE", shape), place, label)
        panel.set(title=f"{LABELS['model'][model]}, {ARMS[shape]}", xscale="log", xlabel="peak rate")
        panel.set_ylabel("validation loss (nats)")
        plain_log(panel.xaxis)
    for panel in axes[len(shapes) :]:
        panel.set_visible(False)
    legend(figure, axes)
    seeds = counted(frames["tuning"].groupby("model").seed.nunique())
    return titled(
        figure, f"Tuning: mean over the bed's tuning seeds, {seeds}, none of them reported. Ring: the choice."
    )


def _response(panel: Axes, frames: Frames, model: str, arm: str, place: int, label: str) -> None:
    chosen = frames["tuned"].query("model == @model and arm == @arm")
    if len(chosen):
        trials = frames["tuning"].query("model == @model and arm == @arm")
        means = mean_by_rate(trials, "validation_loss")
        style = {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": DASHES[place]}
        panel.plot(means.index, means, label=label, **style)
        rates = list(chosen.rate)
        panel.plot(rates, means.loc[rates], "o", markersize=11, markerfacecolor="none", color=PALETTE[place])


@house()
def scores(frames: Frames) -> Figure:
    """How every arm ends on every bed, at its own tuned peak and at the common one."""
    runs = frames["runs"]
    runs = runs[(runs.labels == "true") & (runs.draw == "own")]
    models = [model for model in OWN if model in set(runs.model)]
    names = [arm for arm in ARMS if arm in set(runs.arm)]
    figure, axes = _lines(len(models), len(names))
    for panel, model in zip(axes, models, strict=True):
        factor, label = AXIS[OWN[model]]
        for at, accounting in enumerate(ACCOUNTINGS):
            for place, arm in enumerate(names):
                rows = runs[(runs.model == model) & (runs.arm == arm) & (runs.accounting == accounting)]
                _interval(panel, factor * rows[OWN[model]], place + 0.25 * at, at, ACCOUNTINGS[accounting])
        panel.set(title=LABELS["model"][model], xlabel=label)
    _named(axes[0], [ARMS[name] for name in names])
    legend(figure, axes)
    seeds = counted(runs.groupby("model").seed.nunique())
    text = (
        f"End of every arm's runs (left is better): mean with 95 % t interval over {seeds} seeds; dots: single seeds."
    )
    return titled(figure, text)


@house()
def advantages(frames: Frames) -> Figure:
    """What a schedule with warm-up and decay gains on each control, paired by seed, against the margin."""
    shown = {"mlp": "accuracy", "resnet": "accuracy", "transformer": "loss"}
    found = [at for at in comparisons(frames) if shown[at.model] == at.score]
    models = [model for model in shown if any(at.model == model for at in found)]
    rows = list(dict.fromkeys(_words(at) for at in found))
    figure, axes = _lines(len(models), len(rows))
    for panel, model in zip(axes, models, strict=True):
        factor, label = UNITS[shown[model]]
        for at in (one for one in found if one.model == model):
            _interval(panel, factor * advantage(frames, at), rows.index(_words(at)), int(at.accounting == "common"))
        panel.axvline(0, color="0.4", linewidth=0.8)
        panel.axvline(factor * MARGINS[shown[model]], color="0.4", linewidth=0.8, linestyle=":")
        panel.set(title=LABELS["model"][model], xlabel=f"gain in {label}")
    _named(axes[0], rows)
    seeds = counted(len(advantage(frames, at).dropna()) for at in found)
    text = (
        "Gain of a schedule with warm-up and decay (right is better for the text), paired by seed: mean with 95 % t "
        f"interval over {seeds} seeds (dots); dotted: the claims' margin. Squares: at the common peak."
    )
    return titled(figure, text)


def _words(at: Comparison) -> str:
    if at.name == "best":
        return "Best schedule over best control"
    peak = ", common peak" if at.accounting == "common" else ""
    return f"{ARMS[at.arm]} over {ARMS[at.control][0].lower() + ARMS[at.control][1:]}{peak}".replace("wSD", "WSD")


def _lines(columns: int, rows: int) -> tuple[Figure, np.ndarray]:
    figure = Page(figsize=(2.5 * columns + 2.6, 0.3 * rows + 1.7), layout="constrained")
    return figure, figure.subplots(1, columns, sharey=True, squeeze=False)[0]


def _named(panel: Axes, names: Sequence[str]) -> None:
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)


def _interval(panel: Axes, values: pd.Series, place: float, look: int, label: str | None = None) -> None:
    """Single seeds, and their mean with its interval."""
    values = values.dropna()
    if not len(values):
        return
    found = statistics.mean(values)
    reach = None if np.isnan(found.low) else found.high - found.estimate
    panel.plot(values, np.full(len(values), place), ".", color=PALETTE[look], markersize=3, alpha=0.5)
    style = {"color": PALETTE[look], "marker": MARKERS[look], "markersize": 4, "linestyle": "none"}
    panel.errorbar(found.estimate, place, xerr=reach, capsize=2, label=label, **style)


@house()
def curvature(frames: Frames, momentum: float) -> Figure:
    """λ_max along runs of the MLP, and the rate times it as a share of what full-batch heavy ball could stand."""
    rows = frames["curvature"].dropna(subset="sharpness")
    rows = rows.assign(share=rows.rate * rows.sharpness / (2 + 2 * momentum))
    figure = Page(figsize=(8.0, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    columns = {"sharpness": r"$\lambda_{\max}$", "share": r"$\eta_t \lambda_{\max} / (2 + 2\beta)$"}
    for panel, (column, label) in zip(axes, columns.items(), strict=True):
        for place, arm in enumerate(arm for arm in ARMS if arm in set(rows.arm)):
            _along(panel, rows[rows.arm == arm], column, place, ARMS[arm])
        _phases(panel, rows)
        panel.set(xlabel="step", ylabel=label, yscale="log")
    axes[1].set_ylim(bottom=SMALLEST)
    for panel in axes:
        plain_log(panel.yaxis)
    legend(figure, axes)
    text = (
        "MLP, each arm at its tuned peak. Thin: single runs; thick: their geometric mean, "
        f"{counted(rows.groupby('arm').seed.nunique())} seeds. Grey: the first 5 and the last 20 % of the run. "
        f"Right: shares below {SMALLEST:g} are not shown."
    )
    return titled(figure, text)


def _along(panel: Axes, rows: pd.DataFrame, column: str, place: int, label: str) -> None:
    for _, run in rows.groupby("seed"):
        panel.plot(run.step, run[column], color=PALETTE[place], linewidth=0.5, alpha=0.4)
    middle = np.exp(np.log(rows[column]).groupby(rows.step).mean())
    style = {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": DASHES[place]}
    panel.plot(middle.index, middle, label=label, **style)


def _phases(panel: Axes, rows: pd.DataFrame) -> None:
    """Grey over what a schedule with warm-up and decay calls its warm-up and its decay."""
    stable, last = rows[rows.phase == "stable"].step, rows.step.max()
    for low, high in ((0, stable.min()), (stable.max(), last)):
        panel.axvspan(low, high, color="0.9", zorder=0)
