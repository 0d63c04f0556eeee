"""Figures of the mode-connectivity study: the paths, their barriers, the width, and the controls."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from nonconvex import statistics
from nonconvex.panels import Page, counted, legend, panels, plain_log, titled
from nonconvex.source_tables import LABELS
from nonconvex.style import DASHES, MARKERS, PALETTE, Look, house

CRITERION = 0.02  # test error
PATHS = {
    "linear": "Straight line",
    "aligned": "Straight, aligned",
    "renumbered": "Straight, renumbered at random",
    "bezier": "Bezier curve",
    "autoneb": "AutoNEB chain",
}
ENDS = {
    "trained": "Both trained",
    "initial": "Both untrained",
    "shuffled": "Trained to trained on shuffled labels",
}


def _looks(names: Mapping[str, str]) -> dict[str, Look]:
    return {name: Look(names[name], PALETTE[i], MARKERS[i], DASHES[i]) for i, name in enumerate(names)}


LOOKS = _looks(PATHS) | _looks(ENDS)


@house()
def profiles(along: pd.DataFrame) -> Figure:
    """Test error along every path between trained networks; below, the learned paths alone, magnified."""
    rows = along[(along.ends == "trained") & (along.kind != "renumbered")]
    models = rows.model.unique()
    figure, axes = panels(models, height=2.5, rows=2, sharex=True)
    for column, model in zip(axes.T, models, strict=True):
        of_model = rows[rows.model == model]
        _lines(column[0], of_model, "kind", PATHS)
        _lines(column[1], of_model[of_model.kind.isin(["bezier", "autoneb"])], "kind", PATHS)
        column[1].set_xlabel("position on the path")
    axes[0, 0].set_ylabel("test error")
    axes[1, 0].set_ylabel("test error, learned paths")
    legend(figure, axes.ravel())
    pairs = counted(rows.groupby("model").seed.nunique())
    text = f"Test error along the paths between two trained networks. Thin: single pairs ({pairs}); thick: their mean."
    return titled(figure, text)


def _lines(panel: Axes, rows: pd.DataFrame, by: str, names: Iterable[str]) -> None:
    for name in (name for name in names if name in set(rows[by])):
        table = rows[rows[by] == name].pivot(index="t", columns="seed", values="test_error")
        style = LOOKS[name]
        panel.plot(table.index, table, color=style.colour, linestyle=style.dashes, linewidth=0.5, alpha=0.5)
        panel.plot(table.index, table.mean(axis=1), **style.line | {"linewidth": 2})
    panel.yaxis.set_major_formatter(PercentFormatter(1))


@house()
def barriers(heights: pd.DataFrame, widths: Mapping[str, int]) -> Figure:
    """Test-error barrier over the ends' mean of every kind of path, at the beds' own widths."""
    rows = heights[(heights.ends == "trained") & (heights.split == "test") & (heights.metric == "error")]
    rows = rows[rows.width == rows.model.map(widths)].dropna(subset="over_mean")
    figure, axes = panels(list(widths), height=2.2, sharey=True, sharex=True)
    kinds = [kind for kind in PATHS if kind in set(rows.kind)]
    for panel, model in zip(axes[0], widths, strict=True):
        for place, kind in enumerate(kinds):
            _dots(panel, rows[(rows.model == model) & (rows.kind == kind)].over_mean, place, LOOKS[kind])
        panel.axvline(CRITERION, color="0.3", linewidth=0.8)
        panel.set_xscale("symlog", linthresh=CRITERION)
        panel.xaxis.set_major_locator(FixedLocator([0, 0.01, CRITERION, 0.05, 0.1, 0.3, 1]))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        panel.set_xlabel("test-error barrier (logarithmic above 2 %)")
    axes[0, 0].set_yticks(range(len(kinds)), [PATHS[kind] for kind in kinds])
    axes[0, 0].set_ylim(len(kinds) - 0.5, -0.5)
    text = (
        "Barrier: highest test error on the path minus the mean of its ends. Dots: single pairs; bar: mean and 95 % "
        f"interval over pairs ({counted(rows.groupby(['model', 'kind']).size())}); upright line: the criterion, 2 %."
    )
    return titled(figure, text)


def _dots(panel: Axes, values: pd.Series, place: int, style: Look) -> None:
    if not len(values):
        return
    found = statistics.mean(values)
    panel.plot(values, np.full(len(values), place + 0.15), ".", color=style.colour, markersize=4, alpha=0.7)
    reach = None if np.isnan(found.low) else [[found.estimate - max(found.low, 0)], [found.high - found.estimate]]
    panel.errorbar(found.estimate, place - 0.15, xerr=reach, capsize=2, **style.point)


@house()
def width(heights: pd.DataFrame) -> Figure:
    """Training-loss barrier over the ends' mean against the width of the ResNet, a thin line per replicate."""
    rows = heights[(heights.model == "resnet") & (heights.ends == "trained") & heights.kind.isin(PATHS)]
    rows = rows[(rows.split == "train") & (rows.metric == "loss") & (rows.over_mean > 0)]
    figure = Page(figsize=(5.2, 3.4), layout="constrained")
    panel, counts = figure.subplots(), []
    for kind in ("linear", "aligned", "bezier"):
        table = rows[rows.kind == kind].pivot(index="width", columns="seed", values="over_mean").dropna(axis=1)
        style = LOOKS[kind]
        panel.plot(table.index, table, color=style.colour, linestyle=style.dashes, linewidth=0.5, alpha=0.6)
        mean = np.exp(np.log(table).mean(axis=1))
        panel.plot(table.index, mean, marker=style.marker, **style.line | {"linewidth": 2})
        counts.append(table.shape[1])
    panel.set(xscale="log", yscale="log", xlabel="width of the first stage", ylabel="training-loss barrier (nats)")
    panel.set_xticks(sorted(rows.width.unique()), [str(value) for value in sorted(rows.width.unique())])
    panel.xaxis.set_minor_locator(NullLocator())
    plain_log(panel.yaxis)
    legend(figure, [panel])
    return titled(
        figure, f"{LABELS['model']['resnet']}: thin, single pairs ({counted(counts)}); thick, geometric mean."
    )


@house()
def controls(along: pd.DataFrame) -> Figure:
    """Test error along Bezier curves of the ResNet, by what they join."""
    rows = along[(along.model == "resnet") & (along.kind == "bezier") & along.ends.isin(ENDS)]
    rows = rows[rows.seed.isin(rows[rows.ends == "initial"].seed)]
    figure = Page(figsize=(5.2, 3.4), layout="constrained")
    panel = figure.subplots()
    _lines(panel, rows, "ends", ENDS)
    panel.set(xlabel="position on the curve", ylabel="test error (share)", yscale="log")
    plain_log(panel.yaxis)
    legend(figure, [panel])
    text = (
        "ResNet, Bezier curves trained alike between different ends: test error on true labels. Thin: single pairs "
        f"({counted(rows.groupby('ends').seed.nunique())}); thick: their mean."
    )
    return titled(figure, text)
