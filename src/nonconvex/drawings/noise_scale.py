"""Figures of the study of noise scale."""

import numpy as np
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts.noise_scale import AGREES, Frames, is_small, losses
from nonconvex.panels import Page, band, counted, legend, plain_log, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, Look, house

TITLES = {"quadratic": "Noisy quadratic (exact)", "mlp": "MLP on MNIST-1D"}


def looks(values: list[float], name: str) -> dict[float, Look]:
    """A look per ratio, batch size or rate, in order."""
    return {v: Look(f"{name} {v:g}", PALETTE[i % 8], MARKERS[i % 8], DASHES[i % 8]) for i, v in enumerate(values)}


@house()
def stationary(frames: Frames) -> Figure:
    """Noise at rest against the rate, per example, without and with momentum, beside the closed form."""
    figure = Page(figsize=(8.4, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for panel, (momentum, of) in zip(axes, frames.stationary.groupby("momentum"), strict=True):
        of = of.assign(rate=of.rate * of.curvature / (1 - momentum), unit=of.curvature * of.batch_size / of.noise)
        for size, look in looks(sorted(of.batch_size.unique()), "batch").items():
            one = of[of.batch_size == size]
            panel.plot(one.rate, one.simulated * one.unit, **look.point, alpha=0.5)
        line = of.sort_values("rate").assign(limit=of.limit * of.unit).groupby("rate").limit.first()
        panel.plot(line, color="0.1", label="closed form")
        panel.plot(line.index, line.index / 2, color="0.5", linestyle=":", label="proportional to the rate")
        title = "without momentum" if momentum == 0 else f"momentum {momentum:g}, at {1 - momentum:g} times the rate"
        panel.set(xscale="log", yscale="log", xlabel="rate × curvature / (1 - momentum)", title=title)
    axes[0].set_ylabel("variance × B × curvature / noise")
    legend(figure, axes)
    seeds = counted([frames.stationary.seed.nunique()])
    text = (
        f"A scalar noisy quadratic at rest: every draw of curvature and noise ({seeds}), in units that make them alike."
    )
    return titled(figure, text)


@house()
def diagonals(frames: Frames) -> Figure:
    """ln loss relative to the smallest batch against the batch size, a line per ratio."""
    figure = Page(figsize=(8.4, 3.8), layout="constrained")
    axes = figure.subplots(1, 2)
    for panel, bed in zip(axes, TITLES, strict=True):
        grid, logs = frames.grid(bed), losses(frames, bed)
        panel.axhspan(-AGREES, AGREES, color="0.9")
        for i, (ratio, look) in enumerate(looks(list(grid.ratios), "").items()):
            of = logs[ratio].sub(logs[ratio, grid.batch_sizes[0]], axis=0)
            style = {"color": look.colour, "linestyle": look.dashes, "label": f"ratio {i + 1} of {len(grid.ratios)}"}
            band(panel, of, statistics.mean, **style)
            small = [size for size in grid.batch_sizes if is_small(grid, ratio, size)]
            panel.plot(small, of[small].mean(), "o", color=look.colour, markersize=6)
        panel.set(xscale="log", xlabel="batch size (rate = ratio × batch size)", title=TITLES[bed])
        panel.set_xticks(grid.batch_sizes, [str(size) for size in grid.batch_sizes])
        panel.set_xticks([], minor=True)
    axes[0].set_ylabel("ln loss - ln loss at the smallest batch")
    legend(figure, axes)
    seeds = counted([frames.cells.seed.nunique()])
    text = (
        f"Loss at equal ratio of rate to batch size, equal epochs. Mean with 95 % t interval ({seeds} seeds); dots: "
        "rates that count as small; grey: within 10 %. A diverged run counts with the loss of a guess."
    )
    return titled(figure, text)


@house()
def contours(frames: Frames) -> Figure:
    """Mean loss over rate and batch size: where its contours follow the dotted lines, only the ratio matters."""
    figure = Page(figsize=(8.8, 4.0), layout="constrained")
    axes = figure.subplots(1, 2)
    for panel, bed in zip(axes, TITLES, strict=True):
        grid, means = frames.grid(bed), losses(frames, bed).mean()
        values = means.unstack("batch_size").sort_index()
        sizes = np.array(values.columns, float)
        rates = np.array(values.index)[:, None] * sizes
        drawn = panel.contourf(rates, np.broadcast_to(sizes, rates.shape), values, 10, cmap="viridis")
        panel.contour(rates, np.broadcast_to(sizes, rates.shape), values, 10, colors="white", linewidths=0.6)
        for ratio in grid.ratios:
            panel.plot(ratio * sizes, sizes, ":", color="0.1", linewidth=1.0)
        panel.axvline(grid.small_rate, color="0.1", linewidth=0.8)
        panel.set(xscale="log", yscale="log", xlabel="rate", title=TITLES[bed])
        panel.set_yticks(grid.batch_sizes, [str(size) for size in grid.batch_sizes])
        panel.set_yticks([], minor=True)
        plain_log(panel.xaxis)
        panel.grid(False)
        figure.colorbar(drawn, ax=panel, format="%.2f").set_label("ln loss")
    axes[0].set_ylabel("batch size")
    seeds = counted([frames.cells.seed.nunique()])
    text = (
        f"ln loss at equal epochs, mean over seeds ({seeds}). Dotted: equal ratio of rate to batch size, along which a "
        "loss that depends on the ratio alone is constant; left of the solid line rates count as small."
    )
    return titled(figure, text)


@house()
def progress(frames: Frames) -> Figure:
    """Training loss of the network against rate times steps: what noise does at equal progress; and B_simple."""
    figure = Page(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    grid = frames.grid("mlp")
    of = frames.cells[(frames.cells.bed == "mlp") & (frames.cells.arm == "plain")]
    of = of.assign(time=of.rate * of.steps)
    sizes = [grid.batch_sizes[0], grid.batch_sizes[-1]]
    for ratio, look in looks(list(grid.ratios), "ratio").items():
        for size, dashes in zip(sizes, ("-", ":"), strict=True):
            means = of[(of.ratio == ratio) & (of.batch_size == size)].groupby("time").loss.mean()
            label = look.label if size == sizes[0] else None
            left.plot(means, color=look.colour, linestyle=dashes, marker=look.marker, markersize=4, label=label)
    left.set(xscale="log", xlabel="rate × steps", ylabel="training loss (nats)")
    plain_log(left.xaxis)
    for (ratio, runs), marker in zip(frames.scales.groupby("ratio"), MARKERS, strict=False):
        look = looks(list(grid.ratios), "ratio")[ratio]
        shift = 1.0 if ratio == grid.ratios[0] else 1.06
        places = runs.epochs.clip(lower=0.5) * shift
        right.plot(
            places, runs.simple.astype(float), marker, color=look.colour, alpha=0.6, markersize=4, linestyle="none"
        )
    right.set(xscale="log", yscale="log", xlabel="epochs (at the left: the start)", ylabel="B_simple = tr Σ / |G|²")
    epochs = sorted(frames.scales.epochs.unique())
    right.set_xticks([max(epoch, 0.5) for epoch in epochs], [f"{epoch:g}" for epoch in epochs])
    right.set_xticks([], minor=True)
    legend(figure, [left])
    seeds = counted([of.seed.nunique()])
    text = (
        f"MLP. Left: mean training loss at every doubling of the epochs ({seeds}), solid: batch size {sizes[0]}, "
        f"dotted: {sizes[1]}. Right: B_simple of single runs at batch size {frames.how.mlp.control}, lowest and "
        "highest ratio (colours as on the left); no point where the estimate of |G|² is not positive."
    )
    return titled(figure, text)
