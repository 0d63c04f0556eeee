"""Every claim's effect on one page, in units of its own margin."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex.claims import WORDS
from nonconvex.panels import Page, titled
from nonconvex.style import PALETTE, house

COLOURS = dict(zip(WORDS, (PALETTE[2], PALETTE[1], PALETTE[3], PALETTE[6]), strict=True))
MARKERS = dict(zip(WORDS, "osXD", strict=True))
REACH = 20.0  # margins to either side; what lies beyond is drawn at the rim


@house()
def forest(judged: pd.DataFrame) -> Figure:
    """A line per claim that has an interval: effect and 95 % interval over the margin (records of judging.Verdict).

    A contrast is supported to the right of the dashed line, an equivalence between the two.
    """
    shown = judged[judged.low.notna()].reset_index(drop=True)
    figure = Page(figsize=(8.4, 0.19 * len(shown) + 1.6), layout="constrained")
    axes = figure.subplots()
    for word, part in shown.groupby("verdict"):
        _points(axes, part, word)
    for place, colour in ((-1.0, "0.6"), (0.0, "0.3"), (1.0, "0.6")):
        axes.axvline(place, color=colour, linewidth=0.8, linestyle="-" if place == 0 else "--", zorder=0)
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set(xlim=(-1.2 * REACH, 1.2 * REACH), ylim=(len(shown) - 0.4, -0.6), xlabel="effect / margin")
    ticks = [-10, -1, 0, 1, 10]
    axes.set_xticks(ticks, map(str, ticks))
    equal = shown.kind.map({"contrast": "", "equivalence": "  ="})
    axes.set_yticks(range(len(shown)), shown.claim + equal, fontsize=7)
    if len(shown):
        axes.legend(loc="lower center", bbox_to_anchor=(0.2, 1.0), ncols=len(WORDS), fontsize=7)
    return titled(figure, "Effects in units of their margins, 95 % intervals")


def _points(axes: Axes, part: pd.DataFrame, word: str) -> None:
    scale = part.margin.where(part.margin > 0, (part.high - part.low) / 2)  # without a margin: half widths
    low, middle, high = (np.clip(part[key] / scale, -REACH, REACH) for key in ("low", "estimate", "high"))
    axes.errorbar(
        middle,
        part.index,
        xerr=[middle - low, high - middle],
        fmt=MARKERS[word],
        color=COLOURS[word],
        markersize=4,
        linewidth=1,
        label=word,
    )
