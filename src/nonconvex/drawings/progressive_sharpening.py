"""Figures of progressive sharpening: frames of `contrasts.progressive_sharpening` in, pages out."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts.progressive_sharpening import FITTED, LOSSES, Frames, run_of, sgd_groups
from nonconvex.panels import Page, band, counted, legend, plain_log, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, house

LOSS_LABELS = {"squared_error": "Squared error", "cross_entropy": "Cross-entropy"}
ARM_LABELS = {"constant": "rate kept", "dropped": "rate dropped", "cosine": "cosine to zero"}
SCORED = {"constant": "constant", "jostled": "constant, pushed", "cosine": "cosine"}
GROUP_LABELS = {
    "low": "low rate, small batch",
    "high": "high rate, small batch",
    "order": "the same, other data order",
    "batch": "high rate, large batch",
}


@house()
def flows(frames: Frames) -> Figure:
    """λ_max along full-batch runs at constant rates, a panel per loss."""
    points = frames["points"].dropna(subset="sharpness")
    figure, axes = _page(len(LOSSES))
    for panel, loss in zip(axes, LOSSES, strict=True):
        for place, share in enumerate(sorted(set(points.share[points.loss == loss]))):
            runs = run_of(points, loss=loss, share=share, arm="constant")
            shares = {seed: run.assign(time=(run.step + 1) * share) for seed, run in runs.items()}
            _lines(panel, shares, "time", "sharpness", place, f"rate {share:g} of the initial threshold")
            for run in shares.values():
                learned = run[run.train_error <= FITTED].head(1)
                panel.plot(learned.time, learned.sharpness, MARKERS[place], color=PALETTE[place], markersize=4)
        panel.set(title=LOSS_LABELS[loss], xlabel="(step + 1) x rate / initial threshold", xscale="log", yscale="log")
        plain_log(panel.yaxis)
    axes[0].set_ylabel(r"$\lambda_{\max}$")
    legend(figure, axes)
    text = (
        f"Full-batch gradient descent at constant rates. Thin: single runs; thick: median with 95 % interval, "
        f"{_seeds(points)} seeds; dots: the first reading at 99 % training accuracy. Time is counted in rates: "
        "gradient flow would be one line."
    )
    return titled(figure, text)


@house()
def drops(frames: Frames) -> Figure:
    """λ_max with the rate kept, dropped once, and annealed: along training, and against the training loss."""
    points = frames["points"].dropna(subset="sharpness")
    points = points[points.share.isin(points.share[points.arm == "cosine"])]
    figure, axes = _page(len(LOSSES), rows=2)
    for column, loss in enumerate(LOSSES):
        for place, (arm, label) in enumerate(ARM_LABELS.items()):
            runs = run_of(points, loss=loss, arm=arm)
            _lines(axes[0, column], runs, "step", "sharpness", place, label)
            for run in runs.values():
                style = {"color": PALETTE[place], "linestyle": DASHES[place], "linewidth": 0.6}
                axes[1, column].plot(run.train_loss, run.sharpness, **style)
        axes[0, column].set(title=LOSS_LABELS[loss], xlabel="step", yscale="log")
        axes[1, column].set(xlabel="training loss (falls to the right)", xscale="log", yscale="log")
        _falling(axes[1, column])
        for panel in axes[:, column]:
            plain_log(panel.yaxis)
    for panel in axes[:, 0]:
        panel.set_ylabel(r"$\lambda_{\max}$")
    legend(figure, axes.flat)
    text = (
        f"What a lower rate does to the largest curvature. Above: thin, single runs; thick, median over seeds, "
        f"{_seeds(points)}. Below: every run at its own training loss."
    )
    return titled(figure, text)


@house()
def stochastic(frames: Frames) -> Figure:
    """λ_max along minibatch training, against the step and against the training loss, a row per model."""
    sgd = frames["sgd"].dropna(subset="sharpness")
    models = sorted(set(sgd.model))
    figure, axes = _page(2, rows=len(models))
    for row, model in zip(axes.reshape(len(models), 2), models, strict=True):
        for place, (name, runs) in enumerate(sgd_groups(sgd, model).items()):
            _lines(row[0], runs, "step", "sharpness", place, GROUP_LABELS[name])
            for run in runs.values():
                style = {"color": PALETTE[place], "linestyle": DASHES[place], "linewidth": 0.8}
                row[1].plot(run.train_loss, run.sharpness, marker=MARKERS[place], markersize=2, **style)
        row[0].set(title="along training", xlabel="step", yscale="log", ylabel=r"$\lambda_{\max}$")
        row[1].set(title="at the same training loss", xlabel="training loss (falls to the right)")
        row[1].set(xscale="log", yscale="log")
        _falling(row[1])
        for panel in row:
            plain_log(panel.yaxis)
    legend(figure, axes.flat)
    text = f"{', '.join(models)} under SGD. Thin: single runs; thick: median over seeds, {_seeds(sgd)}."
    return titled(figure, text)


@house()
def scores(frames: Frames) -> Figure:
    """Test error with the rate kept and annealed, a dot per seed, pairs joined, a panel per loss."""
    runs = frames["runs"]
    figure, axes = _page(len(LOSSES), sharey=True)
    for panel, loss in zip(axes, LOSSES, strict=True):
        share = runs.share[(runs.loss == loss) & (runs.arm == "cosine")].max()
        table = runs[(runs.loss == loss) & (runs.share == share)].pivot(
            index="seed", columns="arm", values="test_error"
        )
        table = 100 * table.reindex(columns=list(SCORED))
        for _, row in table.iterrows():
            panel.plot(range(len(SCORED)), row, color="0.6", linewidth=0.6, zorder=1)
        for place, arm in enumerate(SCORED):
            panel.plot(np.full(len(table), place), table[arm], MARKERS[place], color=PALETTE[place], markersize=4)
            panel.plot([place - 0.2, place + 0.2], [table[arm].mean()] * 2, color="black", linewidth=1.5)
        panel.set_xticks(range(len(SCORED)), list(SCORED.values()))
        panel.set_title(LOSS_LABELS[loss])
        panel.set_xlim(-0.5, len(SCORED) - 0.5)
    axes[0].set_ylabel("test error (%)")
    text = f"Test error at the end, a dot per seed ({_seeds(runs)}), one seed's runs joined; bars: means."
    return titled(figure, text)


def _page(columns: int, rows: int = 1, **shared: bool) -> tuple[Figure, np.ndarray]:
    figure = Page(figsize=(4.2 * columns + 0.4, 2.6 * rows + 1), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    return figure, axes if rows > 1 else axes[0]


def _falling(panel: Axes) -> None:
    """The training loss on a logarithmic axis that runs from high to low, as training does."""
    plain_log(panel.xaxis)
    panel.invert_xaxis()


def _lines(panel: Axes, runs: dict[int, pd.DataFrame], x: str, y: str, place: int, label: str) -> None:
    if not runs:
        return
    for run in runs.values():
        panel.plot(run[x], run[y], color=PALETTE[place], linewidth=0.4, alpha=0.6)
    table = pd.DataFrame({seed: run.set_index(x)[y] for seed, run in runs.items()}).T
    style = {"color": PALETTE[place], "linestyle": DASHES[place], "linewidth": 1.8, "label": label}
    band(panel, table, statistics.median, **style)


def _seeds(rows: pd.DataFrame) -> str:
    return counted([rows.seed.nunique()])
