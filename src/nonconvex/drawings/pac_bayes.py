"""Figures of the notebook on PAC-Bayes bounds."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex.panels import Page, counted, interval, legend, plain_log, titled
from nonconvex.style import MARKERS, PALETTE, house

NAMES = {
    "lambda_max": r"$\lambda_{\max}$",
    "trace": r"tr $H$",
    "tolerated": "tolerated deviation",
    "bound": "bound",
    "gap": "true gap",
    "divergence": "KL(Q‖P) of the bound (nats)",
}
LOGARITHMIC = ("lambda_max", "trace", "tolerated", "divergence")


@house()
def validity(draws: pd.DataFrame) -> Figure:
    """Bound against true risk, a dot per training draw, beside the empirical risk and the hold-out bound."""
    figure = Page(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, label, place in (("bound", "bound", 0), ("gibbs_error", "empirical risk, no bound", 1)):
        dots = {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": "none", "markersize": 3}
        left.plot(draws.true_error, draws[name], alpha=0.6, label=label, **dots)
    reach = [draws.true_error.min(), draws.true_error.max()]
    left.plot(reach, reach, color="0.3", linewidth=0.8, label="equal to the truth")
    left.set(xlabel="true risk of the randomised network", ylabel="risk")
    left.legend(fontsize=7)
    columns = {
        "true_error": "true risk",
        "network_error": "true error,\nno noise",
        "holdout": "hold-out bound\nof the prior",
        "bound": "PAC-Bayes\nbound",
        "pinsker": "the same,\nnot inverted",
    }
    for place, name in enumerate(columns):
        _strip(right, place, draws.groupby("seed")[name].mean(), place)
    right.axhline(0.5, color="0.4", linewidth=0.8)
    right.set_xticks(range(len(columns)), columns.values(), fontsize=7)
    right.set_ylabel("error")
    text = (
        f"Left: {len(draws)} training draws, a marker each; below the line a bound would fail. Right: mean per seed "
        f"({counted([draws.seed.nunique()])}); the line at one half is guessing."
    )
    return titled(figure, text)


@house()
def rescale(rescaled: pd.DataFrame) -> Figure:
    """The bound before and after a rescale that changes no output, a line per draw."""
    figure = Page(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.subplots()
    columns = {"bound": "as trained", "moved": "rescaled,\nprior rescaled along", "rescaled": "rescaled,\nprior stays"}
    for row in rescaled[list(columns)].to_numpy():
        axes.plot(range(3), row, color=PALETTE[0], marker="o", markersize=3, linewidth=0.6, alpha=0.5)
    axes.axhline(0.5, color="0.4", linewidth=0.8)
    axes.set_xticks(range(3), columns.values())
    axes.set(xlim=(-0.3, 2.3), ylabel="PAC-Bayes bound")
    factor, changed = rescaled.factor.iloc[0], rescaled.changed_answers.max()
    text = (
        f"One function, three bounds: first layer times {factor:g}, second divided by it. {len(rescaled)} draws "
        f"of {rescaled.seed.nunique()} seeds, a line each; at most {changed:.2%} of the answers change."
    )
    return titled(figure, text)


@house()
def family(members: pd.DataFrame, x: str, y: str) -> Figure:
    """One quantity of the family against another, as trained and rescaled; a colour and marker per rate."""
    forms = [form for form in ("trained", "rescaled") if form in set(members.form)]
    figure = Page(figsize=(4.4 * len(forms) + 0.6, 3.6), layout="constrained")
    panels = figure.subplots(1, len(forms), squeeze=False)[0]
    for panel, form in zip(panels, forms, strict=True):
        rows = members[members.form == form]
        for place, (rate, of_rate) in enumerate(rows.groupby("rate")):
            look = {"color": PALETTE[place % 8], "marker": MARKERS[place % 8], "linestyle": "none"}
            panel.plot(of_rate[x], of_rate[y], markersize=3.5, alpha=0.7, label=f"rate {rate:g}", **look)
        panel.set(title={"trained": "as trained", "rescaled": "after a random rescale"}[form], xlabel=NAMES[x])
        panel.set(xscale=_scale(x), yscale=_scale(y))
        for axis, name in ((panel.xaxis, x), (panel.yaxis, y)):
            if name in LOGARITHMIC:
                plain_log(axis)
    panels[0].set_ylabel(NAMES[y])
    panels[0].legend(fontsize=7)
    count, seeds = len(members) // len(forms), members.seed.nunique()
    text = (
        f"{NAMES[y]} against {NAMES[x]}: {count} networks of {seeds} seeds, a marker each, at a common training loss."
    )
    return titled(figure, text[0].upper() + text[1:])


@house()
def concordances(table: pd.DataFrame) -> Figure:
    """Kendall's tau per seed, a row per pair of quantities (`contrasts.pac_bayes.every_concordance`)."""
    table = table.assign(pair=table.x.map(NAMES) + " and " + table.y.map(NAMES))
    pairs, names = list(table.pair.unique()), list(table.arm.unique())
    figure = Page(figsize=(7.2, 0.42 * len(pairs) + 1.2), layout="constrained")
    axes = figure.subplots()
    shifts = np.linspace(-0.25, 0.25, len(names))
    for place, (arm, shift) in enumerate(zip(names, shifts, strict=True)):
        rows = table[table.arm == arm]
        heights = rows.pair.map(pairs.index) + shift
        dots = {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": "none"}
        axes.plot(rows.tau, heights, markersize=2.5, alpha=0.4, **dots)
        for pair, of in rows.groupby("pair", sort=False):
            interval(axes, pairs.index(pair) + shift, of.tau, markersize=5, label=arm, **dots)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(pairs)), pairs)
    axes.set(ylim=(len(pairs) - 0.5, -0.5), xlim=(-1.05, 1.05), xlabel="Kendall's tau within a seed's family")
    legend(figure, [axes])
    text = (
        "Do two quantities rank networks alike? Kendall's tau within a seed's family. Small: seeds "
        f"({counted([table.seed.nunique()])}); large: their mean with 95 % t interval."
    )
    return titled(figure, text)


def _scale(name: str) -> str:
    return "log" if name in LOGARITHMIC else "linear"


def _strip(axes: Axes, place: int, values: pd.Series, look: int) -> None:
    style = {"color": PALETTE[look], "marker": MARKERS[look], "linestyle": "none"}
    axes.plot(np.full(len(values), place), values, markersize=3.5, alpha=0.7, **style)
    axes.plot([place - 0.3, place + 0.3], [values.mean()] * 2, color=PALETTE[look])
