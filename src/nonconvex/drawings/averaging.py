"""Figures of averaging: tuning, scores arm by arm, gains, response to the rate, flatness, and the noisy quadratic.

Frames are those of the study, as `contrasts.averaging` takes them; `row` is swa or ema.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts import averaging_geometry as geometry
from nonconvex.contrasts.averaging import BEDS, Frames, advantage, comparisons, longest, score
from nonconvex.drawings import tuning
from nonconvex.panels import Page, counted, legend, plain_log, titled
from nonconvex.source_tables import LABELS
from nonconvex.style import DASHES, MARKERS, PALETTE, house

OWN = {"mlp": "accuracy", "resnet": "accuracy", "transformer": "loss"}  # the score that a bed is shown by
AXIS = {"accuracy": (-100, "test error (%)"), "loss": (-1, "test loss (nats)")}
UNITS = {"accuracy": (100, "test accuracy (points)"), "loss": (1, "test loss (nats)")}
MARGINS = {"accuracy": 0.005, "loss": 0.02, "flat": 0.2}  # as registered in claims.yaml
SHAPES = {"constant": "constant rate", "cosine": "cosine", "linear": "linear decay"}
MATCHED_TO = {"last": "own last iterate", "decayed": "decayed run"}
HIDDEN = ("like_decay", "long_horizon")  # the numbers of another claim; far off the scale of the others
COLUMNS = {"trace": "trace", "lambda_max": r"$\lambda_{\max}$", "adaptive_sharpness": "adaptive sharpness"}


def averages_of(frames: Frames, row: str) -> list[str]:
    """The last iterate and the averages of a row, as tuned; not the decay that has a table of its own."""
    names = dict.fromkeys(frames["tuned"].arm.str.split(" ").str[1])
    found = [name for name in names if name == "last" or name.startswith(row)]
    return [name for name in found if len(found) < 4 or name != longest(frames, "mlp")]


def label(average: str) -> str:
    return {"last": "Last iterate", "swa": "SWA"}.get(average, average.replace("ema_", "EMA "))


@house()
def responses(frames: Frames, row: str, ema: str) -> Figure:
    """How the tuning criterion of the compared arms answers to the peak rate."""
    arms = dict.fromkeys(frames["tuned"].arm)
    shown = {"last", "swa" if row == "swa" else ema}
    labels = {arm: f"{label(arm.split(' ')[1])}, {SHAPES[arm.split(' ')[0]]}" for arm in arms}
    kept = {arm: text for arm, text in labels.items() if arm.split(" ")[1] in shown}
    figure = tuning.responses(frames["tuning"], frames["tuned"], kept)
    for panel in figure.axes:
        plain_log(panel.xaxis)
    return figure


@house()
def scores(frames: Frames, row: str) -> Figure:
    """How every arm ends on every bed, at its own tuned peak."""
    models, averages = [m for m in BEDS if m in set(frames["tuned"].model)], averages_of(frames, row)
    shapes = [shape for shape in SHAPES if f"{shape} last" in set(frames["tuned"].arm)]
    figure, axes = _lines(len(models), len(shapes) * len(averages) * 0.55)
    for panel, model in zip(axes, models, strict=True):
        factor, axis = AXIS[OWN[model]]
        for place, shape in enumerate(shapes):
            for at, average in enumerate(averages):
                if f"{shape} {average}" in set(frames["tuned"][frames["tuned"].model == model].arm):
                    values = factor * score(frames, model, f"{shape} {average}", OWN[model])
                    _interval(panel, values, place + 0.7 * (at / len(averages)) - 0.25, at, label(average))
        panel.set(title=LABELS["model"][model], xlabel=axis)
    _named(axes[0], [SHAPES[shape] for shape in shapes])
    legend(figure, axes)
    return titled(
        figure,
        "End of every arm's runs at its own tuned peak (left is better): mean with 95 % t interval over "
        f"{_seeds(frames)} seeds; dots: single seeds.",
    )


@house()
def gains(frames: Frames, row: str, ema: str) -> Figure:
    """What the row's average gains on what it is compared with, paired by seed, against the margin."""
    found = [at for at in comparisons(frames, row, ema) if OWN[at.model] == at.score and at.name not in HIDDEN]
    models = [model for model in BEDS if any(at.model == model for at in found)]
    words = {at: f"{_arm(at.arm)} over {_arm(at.control)}" for at in found}
    rows = list(dict.fromkeys(words.values()))
    figure, axes = _lines(len(models), len(rows))
    for panel, model in zip(axes, models, strict=True):
        factor, axis = UNITS[OWN[model]]
        for at in (one for one in found if one.model == model):
            _interval(panel, factor * advantage(frames, at), rows.index(words[at]), 0)
        _margin(panel, factor * MARGINS[OWN[model]])
        panel.set(title=LABELS["model"][model], xlabel=f"gain in {axis}")
    _named(axes[0], rows)
    text = (
        "Gain (right is better for the text), each arm at its own tuned peak, paired by seed: mean with 95 % t "
        f"interval over {_seeds(frames)} seeds; dots: single seeds; dotted: the claims' margin."
    )
    return titled(figure, text)


@house()
def rates(frames: Frames, averages: Sequence[str]) -> Figure:
    """Test error of the MLP against a constant rate, and the usable range of each average."""
    figure = Page(figsize=(6.4, 4.0), layout="constrained")
    panel = figure.subplots()
    for at, average in enumerate(averages):
        table = 100 * geometry.errors_by_rate(frames, average)
        style = {"color": PALETTE[at], "marker": MARKERS[at], "linestyle": DASHES[at]}
        panel.plot(table.columns, table.T, color=PALETTE[at], linewidth=0.4, alpha=0.5)
        panel.plot(table.columns, table.mean(axis=0, skipna=False), label=label(average), **style)
        ends = geometry.usable(frames, average).mean()
        if np.isfinite(ends).all():
            bar = {"color": PALETTE[at], "linewidth": 3, "solid_capstyle": "butt"}
            panel.plot(10**ends, [0.03 * (at + 1)] * 2, transform=panel.get_xaxis_transform(), **bar)
    panel.set(xscale="log", xlabel="constant rate", ylabel="test error (%)")
    plain_log(panel.xaxis)
    panel.set_ylim(bottom=panel.get_ylim()[0] - 0.2 * np.ptp(panel.get_ylim()))
    legend(figure, [panel])
    text = (
        f"MLP. Thin: single seeds; thick: their mean, {counted([geometry.errors_by_rate(frames, 'last').shape[0]])}. "
        f"Bars below: usable rates (error at most {100 * geometry.TOLERANCE:g} points above the least of the same "
        "seed's last iterates), mean of their ends."
    )
    return titled(figure, text)


@house()
def flatness(frames: Frames) -> Figure:
    """By how much the average is flatter than the last iterate and than the decayed run, matched and at the ends."""
    models = list(dict.fromkeys(frames["curvature"].model))
    rows = [(other, column) for other in MATCHED_TO for column in COLUMNS]
    figure, axes = _lines(len(models), 1.4 * len(rows))
    for panel, model in zip(axes, models, strict=True):
        for place, (other, column) in enumerate(rows):
            _interval(panel, geometry.flatter(frames, model, other, column), place - 0.12, 0, "equal training loss")
            _interval(panel, geometry.flatter(frames, model, "end", column, other), place + 0.18, 1, "ends of the runs")
        _margin(panel, MARGINS["flat"])
        panel.set(title=LABELS["model"][model], xlabel="ln(other / SWA)")
    _named(axes[0], [f"{COLUMNS[column]}, {MATCHED_TO[other]}" for other, column in rows])
    legend(figure, axes)
    text = (
        "How much flatter the average is (right is better for the text), paired by seed: mean with 95 % t interval, "
        f"{counted(frames['curvature'].groupby('model').seed.nunique())}; dots: single seeds; dotted: the margin."
    )
    return titled(figure, text)


@house()
def theory(frames: Frames, row: str) -> Figure:
    """The variance factor of the noisy quadratic: closed form and simulation."""
    rows = frames["quadratic"][frames["quadratic"].average == row]
    figure = Page(figsize=(6.0, 3.4), layout="constrained")
    panel = figure.subplots()
    for at, (horizon, part) in enumerate(rows.groupby("horizon")):
        name = f"decay {horizon:g}" if row == "ema" else f"{horizon:g} iterates"
        panel.plot(part["product"], part.closed_form, color=PALETTE[at], linestyle=DASHES[at])
        panel.plot(part["product"], part.simulated, MARKERS[at], color=PALETTE[at], label=name)
    panel.set(xscale="log", yscale="log", xlabel=r"rate $\times$ curvature", ylabel="variance over that of the iterate")
    plain_log(panel.xaxis)
    legend(figure, [panel])
    chains = counted(rows.chains).replace("n = ", "")
    return titled(figure, f"Noisy quadratic, stationary. Lines: closed form; markers: {chains} simulated runs.")


def _arm(arm: str) -> str:
    schedule, average = arm.split(" ")
    return f"{label(average) if average != 'last' else 'last iterate'}, {SHAPES[schedule]}"


def _seeds(frames: Frames) -> str:
    runs = frames["runs"]
    return counted(runs[(runs.labels == "true") & (runs.draw == "own")].groupby("model").seed.nunique())


def _lines(columns: int, rows: float) -> tuple[Figure, np.ndarray]:
    figure = Page(figsize=(2.4 * columns + 2.6, 0.34 * rows + 1.8), layout="constrained")
    return figure, figure.subplots(1, columns, sharey=True, squeeze=False)[0]


def _named(panel: Axes, names: Sequence[str]) -> None:
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)


def _margin(panel: Axes, margin: float) -> None:
    panel.axvline(0, color="0.4", linewidth=0.8)
    panel.axvline(margin, color="0.4", linewidth=0.8, linestyle=":")


def _interval(panel: Axes, values: pd.Series, place: float, look: int, text: str | None = None) -> None:
    """Single seeds, and their mean with its interval."""
    values = values.dropna()
    if not len(values):
        return
    found = statistics.mean(values)
    reach = None if np.isnan(found.low) else found.high - found.estimate
    panel.plot(values, np.full(len(values), place), ".", color=PALETTE[look], markersize=4, alpha=0.5)
    style = {"color": PALETTE[look], "marker": MARKERS[look], "markersize": 4, "linestyle": "none"}
    panel.errorbar(found.estimate, place, xerr=reach, capsize=2, label=text, **style)
