"""The house style, and one colour, marker, line and label per schedule, strategy and kind of path.

Colours are seaborn's "colorblind" palette without its two palest; markers and dashes tell arms apart in grey.
"""

from dataclasses import dataclass
from functools import partial

import matplotlib
import seaborn

from nonconvex.source_tables import LABELS, SCHEDULES, STRATEGIES
from nonconvex.summaries import KINDS

HOUSE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.titlesize": 9,
    "savefig.dpi": 150,
    "pdf.fonttype": 42,
}
house = partial(matplotlib.rc_context, HOUSE)  # `@house()` draws in the house style and leaves no trace
PALETTE = [seaborn.color_palette("colorblind").as_hex()[i] for i in (0, 1, 2, 3, 4, 5, 7, 9)]
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "*")
DASHES = ("-", "--", ":", "-.", (0, (6, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 1, 2)))
NAMES = {
    "schedule": [row.key for row in SCHEDULES.rows],
    "strategy": [row.key for row in STRATEGIES.rows],
    "kind": list(KINDS),
}
KIND_LABELS = {
    "linear": "Straight line",
    "aligned": "After alignment",
    "curve": "Trained curve",
    "siblings": "Siblings",
}


@dataclass(frozen=True)
class Look:
    """How one name is drawn, in every figure."""

    label: str
    colour: str
    marker: str
    dashes: str | tuple

    @property
    def line(self) -> dict:
        """Keyword arguments of a line without markers."""
        return {"color": self.colour, "linestyle": self.dashes, "label": self.label}

    @property
    def point(self) -> dict:
        """Keyword arguments of markers without a line."""
        return {"color": self.colour, "marker": self.marker, "linestyle": "none", "label": self.label}


def look(axis: str, name: str) -> Look:
    """The look of a schedule, strategy or kind of path. KeyError naming the known ones for another."""
    known = NAMES[axis]
    if name not in known:
        raise KeyError(f"no look for {axis} {name!r}; known: {', '.join(known)}")
    at = known.index(name)
    return Look((LABELS | {"kind": KIND_LABELS})[axis][name], PALETTE[at], MARKERS[at], DASHES[at])
