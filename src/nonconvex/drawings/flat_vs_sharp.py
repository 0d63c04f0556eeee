"""Figures of the study of flat and sharp minima: rate responses, batch sizes, curvature, and the zoo of models.

Frames are those of the study, as `contrasts.flat_vs_sharp` takes them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts import flat_vs_sharp, flat_zoo
from nonconvex.panels import Page, counted, legend, plain_log, titled
from nonconvex.source_tables import LABELS
from nonconvex.style import MARKERS, PALETTE, house

ACCOUNTINGS = {
    "tuned_steps": "equal steps",
    "tuned_epochs": "equal epochs",
    "same_rate_epochs": "equal epochs, one rate",
}
QUANTITIES = {"lambda_max": r"$\lambda_{\max}$", "gauss_newton_max": "Gauss-Newton"}
FORMS = {"rate, batch": (), "rate, batch, training loss": ("train_loss",)}


def _page(columns: int, height: float = 2.8) -> tuple[Figure, np.ndarray]:
    figure = Page(figsize=(3 * columns + 0.6, height + 0.8), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _style(sizes: Sequence[int], size: int) -> dict:
    at = sorted(sizes).index(size)
    return {"color": PALETTE[at], "marker": MARKERS[at], "label": f"batch {size}"}


@house()
def rate_response(trials: pd.DataFrame, arms: pd.DataFrame) -> Figure:
    """Validation error at the end of the tuning runs against the rate, a line per batch size."""
    groups = list(trials.groupby(["model", "budget"]))
    figure, axes = _page(len(groups))
    for panel, ((model, budget), rows) in zip(axes, groups, strict=True):
        for size, of_size in rows.groupby("batch_size"):
            style = _style(trials.batch_size.unique(), size)
            means = of_size.groupby("rate").validation_error.apply(lambda errors: errors.mean(skipna=False))
            panel.plot(means.index, 100 * means, markersize=4, **style)
            panel.plot(of_size.rate, 100 * of_size.validation_error, ".", color=style["color"], markersize=2)
            (rate,) = arms.query(f"accounting == 'tuned_{budget}' and model == @model and batch_size == @size").rate
            panel.plot(rate, 100 * means[rate], marker=style["marker"], color=style["color"], markersize=10)
        panel.set(xscale="log", xlabel="rate", ylabel="validation error (%)")
        panel.set_title(f"{LABELS['model'][model]}, equal {budget}")
        plain_log(panel.xaxis)
    legend(figure, axes)
    seeds = trials.groupby(["model", "budget", "batch_size", "rate"]).seed.nunique()
    text = f"Rates tried, mean over {counted(seeds)} tuning seeds (dots: single ones). Large marker: the chosen rate."
    return titled(figure, text)


@house()
def accuracy_by_batch(frames: flat_zoo.Frames) -> Figure:
    """Test accuracy against the batch size under every accounting of every bed."""
    groups = list(frames["arms"].groupby(["model", "accounting"], sort=False).groups)
    figure, axes = _page(len(groups))
    for panel, (model, accounting) in zip(axes, groups, strict=True):
        rows = flat_vs_sharp.accuracy(frames, model, accounting)
        rows = rows[(rows.draw == "own") & (rows.labels == "true")]
        _by_batch(panel, rows.assign(value=100 * rows.value), PALETTE[0], "o", None)
        panel.set(xlabel="batch size", ylabel="test accuracy (%)")
        panel.set_title(f"{LABELS['model'][model]}, {ACCOUNTINGS[accounting]}")
    seeds = frames["endpoints"].groupby("model").seed.nunique()
    return titled(figure, f"Test accuracy: mean with 95 % t interval over {counted(seeds)} seeds (dots: single runs).")


def _by_batch(panel: Axes, rows: pd.DataFrame, colour: str, marker: str, label: str | None, shift: float = 0) -> None:
    """Single runs, and their mean with its interval, at evenly spaced batch sizes; on a log axis values are log10."""
    on_axis = (lambda v: 10**v) if panel.get_yscale() == "log" else (lambda v: v)
    sizes = sorted(rows.batch_size.unique())
    for at, size in enumerate(sizes):
        values = rows[rows.batch_size == size].value.dropna()
        if len(values):
            found, at = statistics.mean(values), at + shift
            panel.plot(np.full(len(values), at - 0.08), on_axis(values), ".", color=colour, markersize=3, alpha=0.6)
            middle, low, high = on_axis(np.array([found.estimate, found.low, found.high]))
            reach = None if np.isnan(low) else [[middle - low], [high - middle]]
            panel.errorbar(at + 0.08, middle, reach, color=colour, marker=marker, capsize=2, label=label)
    panel.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    panel.set_xlim(-0.5, len(sizes) - 0.5)


@house()
def curvature_by_batch(frames: flat_zoo.Frames) -> Figure:
    """Largest eigenvalues against the batch size, at the end of training and where the training loss met a level."""
    models = list(frames["arms"].model.unique())
    figure, axes = _page(2 * len(models))
    for place, panel in enumerate(axes):
        model, matched = models[place // 2], place % 2 == 1
        for at, (quantity, label) in enumerate(QUANTITIES.items()):
            rows = flat_vs_sharp.logarithms(frames, model, flat_vs_sharp.ACCOUNTING[model], quantity, matched)
            panel.set_yscale("log")
            rows = rows[rows.draw == "own"]
            _by_batch(panel, rows, PALETTE[at], MARKERS[at], label, shift=0.2 * at)
        where = f"first loss of {rows.level.min():g} or less" if matched else "at the end"
        panel.set(xlabel="batch size", ylabel="largest eigenvalue")
        panel.set_title(f"{LABELS['model'][model]}, {where}")
        if panel.has_data():
            plain_log(panel.yaxis)
    legend(figure, axes)
    seeds = frames["sharpness"].groupby("model").seed.nunique()
    text = (
        f"Curvature by batch size, tuned rates: geometric mean with 95 % t interval over {counted(seeds)} seeds (dots: "
        "single runs; at a level, those that met it). MLP at equal steps, ResNet at equal epochs."
    )
    return titled(figure, text)


@house()
def zoo(models: pd.DataFrame, measures: Sequence[str] = ("lambda_max", "trace", "adaptive_sharpness")) -> Figure:
    """Test accuracy of every model of the zoo against measures of its flatness."""
    figure, axes = _page(len(measures))
    for panel, measure in zip(axes, measures, strict=True):
        for size, rows in models.groupby("batch_size"):
            panel.plot(rows[measure], 100 * rows.accuracy, linestyle="none", **_style(models.batch_size.unique(), size))
        panel.set(xscale="log", xlabel=measure.replace("_", " "), ylabel="test accuracy (%)")
        plain_log(panel.xaxis)
    legend(figure, axes)
    text = f"The zoo: {len(models)} MLPs at the end of equally many steps, three rates per batch size. Flat is left."
    return titled(figure, text)


@house()
def taus(models: pd.DataFrame) -> Figure:
    """How each measure of flatness goes with test accuracy, with what is held fixed."""
    measures = [name for name in flat_zoo.MEASURES if models[name].notna().any()]
    figure, (panel,) = _page(1, height=0.5 * len(measures) + 0.6)
    figure.set_figwidth(6.6)
    statistic = {f"given {form}": lambda rows, name, g=given: flat_zoo.tau(rows, name, given=g)
                 for form, given in FORMS.items()} | {"among seeds of an arm": flat_zoo.within}  # fmt: skip
    for at, (label, of) in enumerate(statistic.items()):
        for place, name in enumerate(measures):
            values = flat_zoo.over_seeds(models, lambda rows, name=name, of=of: of(rows, name)).dropna()
            found = statistics.mean(values)
            reach = None if np.isnan(found.low) else found.high - found.estimate
            style = {"color": PALETTE[at], "marker": MARKERS[at], "label": label, "linestyle": "none"}
            panel.errorbar(found.estimate, place + 0.22 * (at - 1), xerr=reach, capsize=2, **style)
    panel.axvline(0, color="0.4", linewidth=0.8)
    panel.set_yticks(range(len(measures)), [name.replace("_", " ") for name in measures])
    panel.set_ylim(len(measures) - 0.5, -0.5)
    panel.set_xlabel(r"Kendall $\tau$ of flatness and test accuracy (right: flat goes with accurate)")
    legend(figure, [panel])
    over = f"jackknife over {models.seed.nunique()} seeds, 95 % t intervals"
    text = f"Flatness and test accuracy of {len(models)} MLPs: {over}."
    return titled(figure, text)
