"""Figures of SAM: tuning, gains over plain training, worst cases by radius, flatness at equal loss, one-step ascents.

Frames are those of the study, as `contrasts.sam` takes them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts import sam as contrasts
from nonconvex.contrasts.sam import COMMON, DOUBLE, EQUAL, PLAIN, RANDOM, SAM, Frames
from nonconvex.drawings.tuning import mean_by_rate
from nonconvex.panels import Page, counted, legend, plain_log, titled
from nonconvex.source_tables import LABELS
from nonconvex.style import DASHES, MARKERS, PALETTE, house

MODELS = ("mlp", "resnet", "transformer")
ARMS = {
    SAM: "SAM",
    PLAIN: "plain, as many steps",
    DOUBLE: "plain, as many gradients",
    EQUAL: "random direction, SAM's radius",
    RANDOM: "random direction, own radius",
    COMMON: "SAM at plain's rate",
}
LOOKS = {arm: (PALETTE[i], MARKERS[i], DASHES[i]) for i, arm in enumerate(ARMS)}
MARGINS = {"accuracy": 0.01, "loss": 0.02, "ln": 0.2}  # as registered in claims.yaml
UNITS = {"accuracy": (100, "test accuracy (points)"), "loss": (1, "test loss (nats)")}
QUANTITIES = {
    "lambda": r"$\lambda_{\max}$",
    "trace": "trace",
    "rise": "worst-case rise",
    "adaptive": "adaptive sharpness",
}


def _shown(frames: Frames) -> list[str]:
    return [model for model in MODELS if model in set(frames["chosen"].model)]


@house()
def responses(frames: Frames, arm: str = SAM) -> Figure:
    """How a bed's tuning criterion answers to the peak rate: plain training, and `arm` at each of its radii."""
    tuned = frames["tuned"]
    models = [m for m in _shown(frames) if tuned.arm[tuned.model == m].str.startswith(f"{arm} ").any()]
    figure = Page(figsize=(max(5.4, 3.1 * len(models) + 0.4), 3.9), layout="constrained")
    for panel, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        lines = tuned[tuned.model == model]
        radii = [name for name in lines.arm if name.startswith(f"{arm} ")]
        names = {PLAIN: "plain", DOUBLE: "plain, 2x steps"} | {n: f"radius {n.split()[1]}" for n in radii}
        for place, (line, label) in enumerate(names.items()):
            _response(panel, frames, lines[lines.arm == line].iloc[0], place, label)
        criterion = lines.criterion.iloc[0].replace("_", " ")
        panel.set(title=LABELS["model"][model], xscale="log", xlabel="peak rate", ylabel=criterion)
        plain_log(panel.xaxis)
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=7)
    what = "SAM" if arm == SAM else "random directions"
    seeds = counted(frames["tuning"].groupby("model").seed.nunique())
    text = (
        f"Tuning of plain training and of {what} by radius: mean over the bed's tuning seeds, {seeds}, none reported."
    )
    return titled(figure, f"{text} Ring: the best rate of the line.")


def _response(panel: Axes, frames: Frames, line: pd.Series, place: int, label: str) -> None:
    trials = frames["tuning"]
    means = mean_by_rate(trials[(trials.model == line.model) & (trials.arm == line.arm)], line.criterion)
    style = {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": DASHES[place], "markersize": 4}
    panel.plot(means.index, means, label=label, **style)
    panel.plot([line.rate], means.loc[[line.rate]], "o", markersize=10, markerfacecolor="none", color=PALETTE[place])


@house()
def gains(frames: Frames) -> Figure:
    """What SAM gains in accuracy and in test loss on every control, paired by seed, against the margin."""
    found = list(contrasts.scored(frames))
    kinds = [(score, m) for score in UNITS for m in MODELS if any((a.score, a.model) == (score, m) for a in found)]
    rows = list(dict.fromkeys(_words(at) for at in found))
    figure, axes = _columns(len(kinds), len(rows))
    for panel, (score, model) in zip(axes, kinds, strict=True):
        factor, label = UNITS[score]
        for at in (one for one in found if (one.score, one.model) == (score, model)):
            _interval(panel, factor * contrasts.advantage(frames, at), rows.index(_words(at)))
        _zero_and_margin(panel, factor * MARGINS[score])
        panel.set(title=LABELS["model"][model], xlabel=f"gain in\n{label}")
    _named(axes[0], rows)
    seeds = counted(len(contrasts.advantage(frames, at).dropna()) for at in found)
    text = (
        f"Gain (right is better for SAM), paired by seed: mean with 95 % t interval over {seeds} seeds (dots); dotted: "
        "the claims' margin. Accuracies: arms tuned by validation error; losses: by validation loss."
    )
    return titled(figure, text)


def _words(at: contrasts.Scored) -> str:
    return f"{ARMS[at.arm]} over {ARMS[at.control]}"


@house()
def worst_cases(frames: Frames) -> Figure:
    """The largest training loss within a radius of the end of every arm's runs, by radius."""
    models, rows = _shown(frames), frames["reaches"]
    figure = Page(figsize=(max(5.4, 3.1 * len(models) + 0.4), 3.4), layout="constrained")
    axes = figure.subplots(1, len(models), squeeze=False)[0]
    for panel, model in zip(axes, models, strict=True):
        of_bed = rows[(rows.model == model) & (rows.draw == "own")].dropna()
        for arm in (arm for arm in ARMS if arm in set(of_bed.arm)):
            _by_radius(panel, of_bed[of_bed.arm == arm], arm)
        chosen = frames["neighbourhoods"]
        panel.axvline(chosen.radius[chosen.model == model].iloc[0], color="0.4", linewidth=0.8, linestyle=":")
        panel.set(title=LABELS["model"][model], xscale="log", yscale="log", xlabel="radius")
        panel.set_ylabel("worst training loss (nats)")
        plain_log(panel.xaxis)
        plain_log(panel.yaxis)
    legend(figure, axes)
    seeds = counted(rows.groupby("model").seed.nunique())
    text = "Largest training loss that ascent finds within a radius of the end of a run: geometric mean over seeds, "
    return titled(figure, f"{text}{seeds}; thin: single seeds; dotted: SAM's tuned radius.")


def _by_radius(panel: Axes, rows: pd.DataFrame, arm: str) -> None:
    colour, marker, dashes = LOOKS[arm]
    for _, run in rows.groupby("seed"):
        panel.plot(run.radius, run.worst_loss, color=colour, linewidth=0.5, alpha=0.4)
    middle = np.exp(np.log(rows.worst_loss).groupby(rows.radius).mean())
    panel.plot(middle.index, middle, color=colour, marker=marker, linestyle=dashes, label=ARMS[arm])


@house()
def flatness(frames: Frames) -> Figure:
    """How much flatter SAM is at the matched training loss, by measure, and what one step of ascent finds."""
    found = [at for at in contrasts.around(frames) if at.at == "matched"]
    rows = list(dict.fromkeys(_measure(at) for at in found))
    figure = Page(figsize=(8.0, 0.3 * len(rows) + 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for at in found:
        _interval(left, contrasts.lowering(frames, at), rows.index(_measure(at)))
    _zero_and_margin(left, MARGINS["ln"])
    _named(left, rows)
    left.set(title="At the matched training loss", xlabel="ln(plain / SAM): right is flatter with SAM")
    for place, (on, label) in enumerate({"minibatches": "minibatches", "examples": "all examples"}.items()):
        _quality(right, contrasts.one_step(frames, on).dropna(), place, label)
    right.axhline(contrasts.ENOUGH, color="0.4", linewidth=0.8, linestyle=":")
    right.set(title="Along SAM's runs", xlabel="step", ylabel="share of the rise found\nby one step of ascent")
    right.legend(loc="lower right")
    text = (
        "Left: mean with 95 % t interval, paired by seed; dots: single seeds; dotted: the claims' margin. Right: mean "
        f"over {counted([frames['ascents'].seed.nunique()])} seeds of the MLP, dots single seeds, dotted what the "
        "claim asks for."
    )
    return titled(figure, text)


def _measure(at: contrasts.Around) -> str:
    return f"{LABELS['model'][at.model]}: {QUANTITIES[at.quantity]}"


def _quality(panel: Axes, rows: pd.DataFrame, place: int, label: str) -> None:
    rows = rows[rows.model == "mlp"]
    panel.plot(rows.step, rows.share, ".", color=PALETTE[place], markersize=3, alpha=0.5)
    means = rows.groupby("step").share.mean()
    style = {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": DASHES[place]}
    panel.plot(means.index, means, label=label, **style)


@house()
def caps(frames: Frames) -> Figure:
    """What the tuning seeds would have said of SAM had the grids of rates ended earlier."""
    models = _shown(frames)
    figure = Page(figsize=(max(5.4, 3.1 * len(models) + 0.4), 2.9), layout="constrained")
    axes = figure.subplots(1, len(models), squeeze=False)[0]
    for panel, model in zip(axes, models, strict=True):
        criterion = contrasts.first_criterion(frames, model)
        factor, unit = (100, "points") if criterion == "validation_error" else (1, "nats")
        for arm in (PLAIN, DOUBLE):
            found, (colour, marker, dashes) = factor * contrasts.truncated(frames, model, arm), LOOKS[arm]
            panel.plot(found.index, found, color=colour, marker=marker, linestyle=dashes, label=f"over {ARMS[arm]}")
        panel.axhline(0, color="0.4", linewidth=0.8)
        panel.set(title=LABELS["model"][model], xscale="log", xlabel="largest rate allowed")
        panel.set_ylabel(f"SAM's gain, {criterion.replace('_', ' ')}\n({unit})")
        plain_log(panel.xaxis)
    legend(figure, axes)
    seeds = counted(frames["tuning"].groupby("model").seed.nunique())
    text = "Best setting of SAM over the best of plain training among rates up to a cap (the last: all): mean over the "
    return titled(figure, f"{text}bed's tuning seeds, {seeds}. Above zero SAM is better.")


def _columns(columns: int, rows: int) -> tuple[Figure, np.ndarray]:
    figure = Page(figsize=(1.7 * columns + 3.6, 0.3 * rows + 1.9), layout="constrained")
    return figure, figure.subplots(1, columns, sharey=True, squeeze=False)[0]


def _named(panel: Axes, names: Sequence[str]) -> None:
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)


def _zero_and_margin(panel: Axes, margin: float) -> None:
    panel.axvline(0, color="0.4", linewidth=0.8)
    panel.axvline(margin, color="0.4", linewidth=0.8, linestyle=":")


def _interval(panel: Axes, values: pd.Series, place: float) -> None:
    """Single seeds, and their mean with its interval."""
    values = values.dropna()
    if not len(values):
        return
    found = statistics.mean(values)
    reach = None if np.isnan(found.low) else found.high - found.estimate
    panel.plot(values, np.full(len(values), place), ".", color=PALETTE[0], markersize=3, alpha=0.5)
    panel.errorbar(found.estimate, place, xerr=reach, capsize=2, color=PALETTE[0], marker="o", markersize=4)
