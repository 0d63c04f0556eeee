"""The paper that figures are drawn on: one panel per model, a title that wraps, a legend beside no data."""

import io
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from nonconvex import statistics
from nonconvex.source_tables import LABELS
from nonconvex.style import PALETTE, house

CHARACTERS = 14  # of the title per inch
TOGETHER = re.compile(r"(?<=\d) (?=%)|(?<=\bn) (?== )|(?<=\bn =) ")  # spaces in `95 %` and `n = 5`, where no line ends
HANDLE, LETTER = 0.6, 0.065  # inches that an entry of a legend takes beside its label, and a letter of it
LINEAR = MaxNLocator(4)
SCREEN = 66  # dots per inch in a notebook


class Page(Figure):
    """A figure that a notebook shows by itself; it belongs to no window and no global list."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with house():
            self.savefig(buffer, format="png", dpi=SCREEN, metadata={"Software": None})
        return buffer.getvalue()


def panels(models: Sequence[str], height: float, rows: int = 1, **shared: bool | str) -> tuple[Figure, np.ndarray]:
    """A figure with axes (rows, models), each `height` inches high; the top row carries the models' names."""
    if not len(models):
        raise ValueError("nothing to draw: the frame has no measured rows")
    figure = Page(figsize=(4.2 * len(models) + 0.4, height * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, len(models), squeeze=False, **shared)
    for panel, model in zip(axes[0], models, strict=True):
        panel.set_title(LABELS["model"][model])
    return figure, axes


def titled(figure: Figure, text: str) -> Figure:
    """The finished figure: `text` above it, wrapped to its width, and everything where it will stay.

    Each further layout would move things by a hair, and the bytes of a file depend on what was drawn before it.
    """
    whole = TOGETHER.sub("\N{NO-BREAK SPACE}", text)
    lines = textwrap.wrap(whole, int(CHARACTERS * figure.get_figwidth()))
    figure.suptitle("\n".join(lines).replace("\N{NO-BREAK SPACE}", " "), x=0.01, horizontalalignment="left")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """One entry per label of any panel, below them all."""
    entries = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    width = HANDLE + LETTER * max(map(len, entries), default=0)
    columns = min(len(entries), max(1, int(figure.get_figwidth() / width)))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def plain_log(axis: Axis) -> None:
    """A few round numbers, written plainly, on a logarithmic axis whose data are drawn."""
    low, high = axis.get_view_interval()
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    choices = [
        decades,
        np.outer(decades, [1, 2, 5]),
        np.outer(decades, [1, 1.5, 2, 3, 4, 5, 7]),
        LINEAR.tick_values(low, high),
    ]
    inside = [ticks[(ticks >= low) & (ticks <= high)] for ticks in map(np.ravel, choices)]
    ticks = next((ticks for ticks in inside if len(ticks) > 2), inside[-1])
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())


def counted(counts: Iterable[int]) -> str:
    """`n = 5`, or `n = 3 to 5`; `n = 0` of nothing."""
    seen = sorted({int(n) for n in counts}) or [0]
    return f"n = {seen[0]}" + (f" to {seen[-1]}" if len(seen) > 1 else "")


def interval(
    panel: Axes,
    place: float,
    values: ArrayLike,
    of: Callable[[np.ndarray], statistics.Interval] = statistics.mean,
    upright: bool = False,
    **style: Any,
) -> None:
    """A marker at the mean of the numbers among the values, and its interval if it has one; nothing without numbers.

    `place` is where on the other axis; `of` may be another estimate than the mean.
    """
    numbers = np.asarray(values, float)
    found = of(numbers[~np.isnan(numbers)])
    if found.n:
        reach = None if np.isnan(found.low) else [[found.estimate - found.low], [found.high - found.estimate]]
        x, y = (place, found.estimate) if upright else (found.estimate, place)
        reaches = {"yerr" if upright else "xerr": reach}
        panel.errorbar(x, y, **reaches, **{"linestyle": "none", "capsize": 2} | style)


def strips(panel: Axes, rows: Mapping[str, pd.Series]) -> None:
    """A line per label: single values in grey, and over them their mean with its interval."""
    for place, values in enumerate(rows.values()):
        panel.plot(values, np.full(len(values), place + 0.25), ".", color="0.5", markersize=4)
        interval(panel, place, values, color=PALETTE[0], marker="D", markersize=4)
    panel.set_yticks(range(len(rows)), list(rows))
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.locator_params(axis="x", nbins=5)
    panel.margins(x=0.08)


def band(panel: Axes, runs: pd.DataFrame, of: Callable[[np.ndarray], statistics.Interval], **style: Any) -> None:
    """A line through the estimates of `runs` (replicates, places), and their intervals as a band around it."""
    found = [of(runs[place].dropna()) for place in runs]
    panel.plot(runs.columns, [one.estimate for one in found], **style)
    low, high = [one.low for one in found], [one.high for one in found]
    panel.fill_between(runs.columns, low, high, color=style["color"], alpha=0.2, linewidth=0)


def save(figure: Figure, path: Path) -> Figure:
    """The figure itself, and under the name of `path` as PNG, PDF and, what its title says, as a caption in Markdown.

    The same bytes for the same figure: no date, no version.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with house():
        figure.savefig(path.with_suffix(".png"), metadata={"Software": None})
        figure.savefig(path.with_suffix(".pdf"), metadata=dict.fromkeys(["CreationDate", "Creator", "Producer"]))
    path.with_suffix(".md").write_text(figure.get_suptitle().replace("\n", " ") + "\n", encoding="utf-8")
    return figure
