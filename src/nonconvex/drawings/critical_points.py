"""Figures of the notebook on saddles."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nonconvex.panels import Page, counted, interval, legend, plain_log, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, house

ARMS = {False: ("no weight decay", PALETTE[1], MARKERS[1]), True: ("weight decay", PALETTE[0], MARKERS[0])}


@house()
def probability_of_positive(exact: pd.DataFrame, drawn: pd.DataFrame) -> Figure:
    """P(all eigenvalues > 0) against the dimension: exact, drawn, for independent signs and for large N."""
    figure = Page(figsize=(5.6, 3.6), layout="constrained")
    axes, n = figure.subplots(), exact.dimension
    axes.plot(n, exact.log_probability / np.log(10), color=PALETTE[0], marker="o", label="exact")
    axes.plot(n, n * np.log10(0.5), color=PALETTE[1], linestyle=DASHES[1], label=r"independent signs, $2^{-N}$")
    # ln P ~ -(ln 3 / 4) N²
    axes.plot(n, -(n**2) * np.log10(3) / 4, color=PALETTE[2], linestyle=DASHES[2], label=r"leading order, $3^{-N^2/4}$")
    totals = drawn[drawn.dimension <= n.max()].groupby("dimension")[["positive", "draws"]].sum()
    totals = totals[totals.positive > 0]
    logs = np.log10(totals.positive / totals.draws)
    axes.plot(totals.index, logs, color="0.1", marker="x", markersize=8, linestyle="none", label="drawn")
    axes.set(xlabel="dimension N", ylabel=r"$\log_{10} P$(all eigenvalues > 0)")
    axes.legend()
    seeds = counted([drawn.seed.nunique()])
    return titled(figure, f"Random symmetric matrices: how likely is a minimum? Drawn: {seeds} replicates pooled.")


@house()
def index_variance(drawn: pd.DataFrame) -> Figure:
    """Variance of the number of negative eigenvalues against the dimension, a dot per replicate."""
    figure = Page(figsize=(5.6, 3.4), layout="constrained")
    axes, rows = figure.subplots(), drawn[drawn.dimension >= 10]
    axes.plot(rows.dimension, rows.index_variance, ".", color=PALETTE[0], label="drawn, one replicate")
    n = np.geomspace(10, max(rows.dimension.max(), 11), 50)
    axes.plot(n, n / 4, color=PALETTE[1], linestyle=DASHES[1], label="independent signs, N/4")
    # Var ~ ln N / π² + 1/4 (the constant measured)
    axes.plot(n, np.log(n) / np.pi**2 + 0.25, color=PALETTE[2], linestyle=DASHES[2], label=r"$\ln N / \pi^2 + 0.25$")
    axes.set(xscale="log", yscale="log", xlabel="dimension N", ylabel="variance of the index")
    axes.legend()
    seeds = counted([rows.seed.nunique()])
    return titled(
        figure, f"Random symmetric matrices: spread of the number of negative eigenvalues, {seeds} replicates."
    )


@house()
def loss_against_index(points: pd.DataFrame, catalogue: pd.DataFrame) -> Figure:
    """Share of negative eigenvalues against the loss, a dot per critical point; a panel per surface."""
    figure = Page(figsize=(9.6, 3.4), layout="constrained")
    panels = figure.subplots(1, 3)
    spread = np.random.Generator(np.random.Philox(0)).uniform(-0.15, 0.15, len(points))
    points = points.assign(height=points["index"] + spread)
    for panel, decayed in zip(panels, (True, False), strict=False):
        name, colour, marker = ARMS[decayed]
        rows = points[(points.decay > 0) == decayed]
        size = {"markersize": 3.5, "alpha": 0.6, "markeredgewidth": 0, "linestyle": "none"}
        panel.plot(rows.loss, rows.height, color=colour, marker=marker, **size)
        panel.set_xscale("log")
        plain_log(panel.xaxis)
        panel.set(title=f"tanh network, {name}", xlabel="loss", ylabel="negative eigenvalues")
        panel.axhline(0, color="0.4", linewidth=0.8)
    first = catalogue[catalogue.seed == catalogue.seed.min()]
    panels[2].plot(first.loss, first.index_measured, color=PALETTE[3], marker="D", linestyle="none")
    for row in first.to_dict("records"):
        place = (row["loss"], row["index_measured"])
        panels[2].annotate(row["subset"], place, (4, 4), textcoords="offset points", fontsize=7)
    panels[2].set(title="linear network, all families", xlabel="loss", ylabel="negative eigenvalues")
    panels[2].axhline(0, color="0.4", linewidth=0.8)
    panels[2].margins(0.15)
    text = (
        f"Loss and index of critical points. Tanh networks: distinct points of {points.seed.nunique()} seeds together, "
        "moved apart vertically at random. Linear network: one seed; digits: which modes are learnt, from the largest."
    )
    return titled(figure, text)


@house()
def index_against_coins(points: pd.DataFrame) -> Figure:
    """Variance of the index over that of fair coins, per seed; and histograms of index over P."""
    figure = Page(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (3, 2)})
    bins = np.linspace(0, 1, 27)
    for decayed, (name, colour, marker) in ARMS.items():
        rows = points[(points.decay > 0) == decayed]
        share = rows["index"] / rows.parameters
        style = {"color": colour, "linestyle": DASHES[int(decayed)], "label": name}
        left.hist(share, bins, density=True, histtype="step", linewidth=1.4, **style)
        grouped = rows.groupby("seed")
        ratios = grouped["index"].var() / (grouped.parameters.first() / 4)
        dots = {"color": colour, "marker": marker}
        right.plot(np.full(len(ratios), int(decayed) - 0.1), ratios, linestyle="none", markersize=3, alpha=0.5, **dots)
        interval(right, int(decayed) + 0.1, ratios, upright=True, **dots)
    size = float(points.parameters.max())
    grid = np.linspace(0, 1, 200)
    coins = np.exp(-2 * size * (grid - 0.5) ** 2) * np.sqrt(2 * size / np.pi)
    left.plot(grid, coins, color="0.3", linestyle=DASHES[2], label="fair coins")
    left.set(xlabel="share of negative eigenvalues", ylabel="density")
    right.axhline(1, color="0.3", linestyle=DASHES[2])
    right.set(xlim=(-0.5, 1.5), ylim=(0, None), ylabel="variance / variance of fair coins")
    right.set_xticks([0, 1], [ARMS[False][0], ARMS[True][0]])
    legend(figure, [left])
    text = (
        f"Index at the critical points of tanh networks with {size:.0f} weights, {counted([points.seed.nunique()])} "
        "seeds. Left: all seeds together; right: small, one marker per seed; large, their mean with 95 % t interval; "
        "the line is what independent signs give."
    )
    return titled(figure, text)


@house()
def audit(stalled: pd.DataFrame) -> Figure:
    """Share of stalled searches that are gradient-flat against the cut-off, a line per seed."""
    figure = Page(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.subplots()
    for decayed, (name, colour, marker) in ARMS.items():
        rows = stalled[(stalled.decay > 0) == decayed].dropna(subset=["flat"])
        for _, of_seed in rows.groupby("seed"):
            axes.plot(of_seed.cutoff, of_seed.flat, color=colour, linewidth=0.5, alpha=0.4)
        means = rows.groupby("cutoff").flat.mean()
        axes.plot(means.index, means, color=colour, marker=marker, linestyle=DASHES[int(decayed)], label=name)
    axes.axvline(1e-5, color="0.4", linewidth=0.8)
    axes.set(
        xscale="log", ylim=(0, 1.02), xlabel="cut-off of the pseudo-inverse", ylabel="share gradient-flat (r > 0.9)"
    )
    axes.legend(loc="lower right")
    seeds = counted([stalled.seed.nunique()])
    text = (
        f"Searches that stalled: is the gradient in the kernel of the Hessian? Thin: seeds ({seeds}); "
        "thick: their mean; vertical line: the registered cut-off."
    )
    return titled(figure, text)
