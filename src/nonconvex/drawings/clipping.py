"""Figures of clipping: responses to the rate, edges, smoothness, spikes, and what clipping adds.

Frames are those of the study, as `contrasts.clipping` takes them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts import clipping as contrasts
from nonconvex.contrasts.clipping import MEDIAN, NONE, Frames
from nonconvex.drawings.tuning import mean_by_rate
from nonconvex.panels import Page, counted, legend, plain_log, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, house

BEDS = {"gru_sgd": "GRU, SGD", "gru_adam": "GRU, Adam", "mlp": "MLP, SGD", "transformer": "Transformer, AdamW"}
ARMS = {"none": "no clipping", "loose": "10 x median norm", "median": "1 x median norm", "hard": "0.1 x median norm"}
CHANGES = {  # what is drawn in each panel of the changes: claims with their labels, margin, factor, axis
    "largest stable rate": (
        {
            "edge.gru_sgd": "GRU, SGD",
            "effective_edge.gru_sgd": "GRU, SGD, effective rate",
            "edge.gru_adam": "GRU, Adam",
            "edge.mlp": "MLP, SGD",
            "more_edge.gru_sgd": "GRU minus MLP",
            "edge.quadratic_gradient_descent": "quadratic, GD",
            "edge.quadratic_heavy_ball": "quadratic, heavy ball",
        },
        0.176,
        1,
        "gain in log10 rate",
    ),
    "test accuracy at tuned rates": (
        {
            "accuracy.gru_sgd": "GRU, SGD",
            "accuracy.gru_adam": "GRU, Adam",
            "accuracy.mlp": "MLP, SGD",
            "more_accuracy.gru_sgd": "GRU, SGD minus MLP",
        },
        0.01,
        100,
        "gain in points",
    ),
    "test loss at tuned rates": (
        {
            "loss.gru_sgd": "GRU, SGD",
            "loss.transformer": "Transformer, AdamW",
            "more_loss.transformer": "Transformer minus MLP",
        },
        0.02,
        1,
        "gain in nats",
    ),
}


def _panels(names: Sequence[str], height: float = 2.8) -> tuple[Figure, Mapping[str, Axes]]:
    """A page with a panel for each bed, two in a row."""
    if not names:
        raise ValueError("nothing to draw: the frame has no measured rows")
    rows = -(-len(names) // 2)
    figure = Page(figsize=(8.0, height * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False).ravel()
    for panel in axes[len(names) :]:
        panel.set_visible(False)
    for panel, name in zip(axes, names, strict=False):
        panel.set_title(BEDS[name])
    return figure, dict(zip(names, axes, strict=False))


def _look(arm: str) -> dict:
    place = list(ARMS).index(arm)
    return {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": DASHES[place]}


@house()
def responses(frames: Frames) -> Figure:
    """Validation loss against the rate, a panel per bed and a line per threshold."""
    figure, axes = _panels([bed for bed in BEDS if bed in contrasts.models(frames)])
    for bed, panel in axes.items():
        for arm, label in ARMS.items():
            means = mean_by_rate(shared_trials(frames, bed).query("arm == @arm"), "validation_loss")
            panel.plot(means.index, means, label=label, **_look(arm))
            chosen = [contrasts.rate(frames, bed, arm)]
            ring = {"markerfacecolor": "none", "color": _look(arm)["color"]}
            panel.plot(chosen, means.loc[chosen], "o", markersize=11, **ring)
        _logarithmic(panel, "rate", "validation loss (nats)")
    legend(figure, axes.values())
    seeds = counted(shared_trials(frames, bed).seed.nunique() for bed in axes)
    text = (
        f"Tuning: mean over the tuning seeds that all arms of a bed have, {seeds}, none of them reported. Ring: the "
        "chosen rate, for which no clipping has more seeds, as many as all thresholds together."
    )
    return titled(figure, text)


def shared_trials(frames: Frames, bed: str) -> pd.DataFrame:
    """The bed's tuning trials from those seeds that every arm was tuned on."""
    rows = frames["tuning"].query("model == @bed")
    return rows[rows.groupby("seed").arm.transform("nunique") == rows.arm.nunique()]


def _logarithmic(panel: Axes, x: str, y: str) -> None:
    panel.set(xlabel=x, ylabel=y)
    if np.isfinite(panel.dataLim.get_points()).all():
        panel.set(xscale="log", yscale="log")
        plain_log(panel.xaxis)
        plain_log(panel.yaxis)


@house()
def edges(frames: Frames) -> Figure:
    """Final training loss of the reported seeds against the rate, with and without clipping; stable runs are filled."""
    claims = contrasts.contrasts(frames)
    beds = [bed for bed in BEDS if f"edge.{bed}" in claims]
    figure, axes = _panels(beds)
    for bed, panel in axes.items():
        for arm in (NONE, MEDIAN):
            _responses(panel, contrasts.searched(frames, bed, arm).dropna(subset="train_loss"), arm)
        _logarithmic(panel, "rate", "final training loss (nats)")
    legend(figure, axes.values())
    seeds = [contrasts.searched(frames, bed, NONE).seed.nunique() for bed in beds]
    text = (
        f"Reported runs. Lines: median over seeds, {counted(seeds)}; points: single seeds, filled where the loss ends "
        "below the settings' share of what knowing nothing gives, which is called stable."
    )
    return titled(figure, text)


def _responses(panel: Axes, rows: pd.DataFrame, arm: str) -> None:
    middle, shift = rows.groupby("rate").train_loss.median(), 0.96 if arm == NONE else 1.04
    look = _look(arm)
    panel.plot(middle.index * shift, middle, color=look["color"], linestyle=look["linestyle"], label=ARMS[arm])
    for stable, part in rows.groupby("stable"):
        fill = look["color"] if stable else "none"
        style = {"marker": look["marker"], "color": look["color"], "markerfacecolor": fill, "linestyle": "none"}
        panel.plot(part.rate * shift, part.train_loss, markersize=3.5, **style)


@house()
def smoothness(frames: Frames) -> Figure:
    """Local smoothness against gradient norm along plain training, and each run's least-squares line."""
    rows = frames["smoothness"]
    rows = rows[(rows.gradient_norm > 0) & (rows.smoothness > 0)]
    figure, axes = _panels([bed for bed in BEDS if bed in set(rows.model)])
    for bed, panel in axes.items():
        own = rows[rows.model == bed]
        dots = panel.scatter(own.gradient_norm, own.smoothness, c=own.step, cmap="viridis", s=7)
        for seed, slope in contrasts.slope(frames, bed).items():
            _line(panel, own[own.seed == seed], slope)
        found = statistics.mean(contrasts.slope(frames, bed))
        panel.set_title(f"{BEDS[bed]}: slope {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}], n = {found.n}")
        _logarithmic(panel, "gradient norm |g|", "local smoothness L")
        figure.colorbar(dots, ax=panel, label="step")
    text = (
        "Change of the gradient along an update by the update's length, against the gradient's norm before it, both on "
        "fixed training examples. Lines: least squares within a seed; their slopes' mean with 95 % t interval."
    )
    return titled(figure, text)


def _line(panel: Axes, run: pd.DataFrame, slope: float) -> None:
    x, y = np.log(run.gradient_norm), np.log(run.smoothness)
    ends = np.array([x.min(), x.max()])
    panel.plot(np.exp(ends), np.exp(y.mean() + slope * (ends - x.mean())), color="0.4", linewidth=0.7)


@house()
def spikes(frames: Frames) -> Figure:
    """Loss curves of the recurrent network at the multiple of its tuned rate, without clipping and with it."""
    rows = frames["curves"]
    seeds = sorted(set(rows.seed))
    figure = Page(figsize=(8.0, 2.4 * len(seeds) + 0.8), layout="constrained")
    for panel, seed in zip(figure.subplots(len(seeds), 1, squeeze=False)[:, 0], seeds, strict=True):
        for arm in (NONE, MEDIAN):
            run = rows[(rows.seed == seed) & (rows.arm == arm)].dropna(subset="loss")
            look = _look(arm)
            panel.plot(run.step, run.loss, color=look["color"], linestyle=look["linestyle"], label=ARMS[arm])
        panel.set(yscale="log", xlabel="step", ylabel="minibatch loss (nats)", title=f"seed {seed}")
        plain_log(panel.yaxis)
    legend(figure, figure.axes)
    return titled(
        figure, f"{BEDS['gru_sgd']} at rate {contrasts.far(frames):g}: one run with its clipped twin a panel."
    )


@house()
def changes(frames: Frames) -> Figure:
    """What clipping adds, paired by seed, against the margins of the claims."""
    found = contrasts.contrasts(frames)
    shown = {name: len([c for c in part[0] if c in found]) for name, part in CHANGES.items()}
    figure = Page(figsize=(8.0, 0.32 * sum(shown.values()) + 3.6), layout="constrained")
    heights = [max(count, 1) for count in shown.values()]
    axes = figure.subplots(len(CHANGES), 1, height_ratios=heights, squeeze=False)[:, 0]
    for panel, (name, (claims, margin, factor, label)) in zip(axes, CHANGES.items(), strict=True):
        names = [claim for claim in claims if claim in found]
        for place, claim in enumerate(names):
            _interval(panel, factor * found[claim]["claim"].dropna(), place)
        panel.axvline(0, color="0.4", linewidth=0.8)
        panel.axvline(factor * margin, color="0.4", linewidth=0.8, linestyle=":")
        panel.set_yticks(range(len(names)), [claims[claim] for claim in names])
        panel.set_ylim(max(len(names), 1) - 0.5, -0.5)
        panel.set(title=name, xlabel=label)
    seeds = counted(len(of["claim"].dropna()) for of in found.values())
    text = (
        f"What clipping adds (right: it helps), paired by seed: mean with 95 % t interval over {seeds} seeds (dots); "
        "dotted: the claims' margin. Stable rates at 1 x the median norm; scores at the threshold that tuning chose."
    )
    return titled(figure, text)


def _interval(panel: Axes, values: pd.Series, place: int) -> None:
    if not len(values):
        return
    found = statistics.mean(values)
    reach = None if np.isnan(found.low) else found.high - found.estimate
    panel.plot(values, np.full(len(values), place + 0.25), ".", color=PALETTE[1], markersize=5)
    style = {"color": PALETTE[0], "marker": MARKERS[0], "markersize": 4, "linestyle": "none"}
    panel.errorbar(found.estimate, place, xerr=reach, capsize=2, **style)
