"""Figures of the study of skip connections: losses by depth and by start, loss curves, two kinds of gradients."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex import statistics
from nonconvex.contrasts.skip_connections import LEVELS, Frames, train_loss
from nonconvex.panels import Page, counted, legend, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, Look, house

KINDS = {
    "skip_batch": "Residual, batch norm",
    "plain_batch": "Plain, batch norm",
    "skip_none": "Residual, no norm",
    "scaled_none": "Residual, scaled branches, no norm",
    "plain_none": "Plain, no norm",
    "orthogonal_none": "Plain, delta-orthogonal, no norm",
}
LOOKS = {
    kind: Look(label, PALETTE[i], MARKERS[i], DASHES[i])
    for kind, label, i in zip(KINDS, KINDS.values(), range(len(KINDS)), strict=True)
}
VARIANTS = {"": "", "_twin": ", other seeds", "_longer": ", more steps", "_shuffled": ", shuffled labels"}
BATCH_ARMS = {  # short, for the legends of narrow figures
    f"{level}_{kind}": f"{level} {name}"
    for kind, name in (("skip_batch", "residual"), ("plain_batch", "plain"))
    for level in LEVELS
}
OTHER_ARMS = {
    "deep_skip_none": "residual",
    "deep_scaled_none": "residual, scaled",
    "deep_plain_none": "plain",
    "deep_orthogonal_none": "plain, orthogonal",
}
CURVES = {"deep_skip_batch": "skip_batch", "deep_plain_batch": "plain_batch", "deep_plain_batch_longer": "plain_batch"}


@house()
def losses(frames: Frames) -> Figure:
    """Final training loss against depth with batch norm, and of every deep network."""
    table = train_loss(frames)
    figure = Page(figsize=(8.8, 3.9), layout="constrained")
    by_depth, by_kind = figure.subplots(1, 2, width_ratios=(1, 1.1))
    for shift, kind in ((-0.06, "skip_batch"), (0.06, "plain_batch")):
        values = [table.get(f"{level}_{kind}", pd.Series(dtype=float)).dropna() for level in LEVELS]
        _points(by_depth, [at + shift for at in range(len(LEVELS))], values, LOOKS[kind])
    depths = [str(frames.arms.depth[frames.arms.arm.str.startswith(level)].iloc[0]) for level in LEVELS]
    by_depth.set_xticks(range(len(LEVELS)), depths)
    by_depth.set(xlabel="depth (layers)", ylabel="final training loss (nats)", title="Batch norm")
    legend(figure, [by_depth])
    present = {
        f"deep_{kind}{variant}": label + more
        for kind, label in KINDS.items()
        for variant, more in VARIANTS.items()
        if f"deep_{kind}{variant}" in table and variant != "_shuffled"
    }
    for place, arm in enumerate(present):
        kind = next(kind for kind in sorted(KINDS, key=len, reverse=True) if arm.startswith(f"deep_{kind}"))
        _rows(by_kind, place, table[arm].dropna(), LOOKS[kind])
    by_kind.set_yticks(range(len(present)), list(present.values()))
    by_kind.set_ylim(len(present) - 0.5, -0.5)
    by_kind.set(xlabel="final training loss (nats)", title=f"Depth {depths[-1]}")
    seeds = counted(table.notna().sum())
    text = (
        f"Training loss at the end of runs at the tuned rate: mean with 95 % t interval over seeds ({seeds}); "
        "small: single runs."
    )
    return titled(figure, text)


def _points(panel: Axes, places: Sequence[float], groups: Sequence[pd.Series], look: Look) -> None:
    found = [statistics.mean(values) for values in groups]
    for place, values, one in zip(places, groups, found, strict=True):
        panel.plot([place] * len(values), values, look.marker, color=look.colour, markersize=2.5, alpha=0.5)
        panel.plot([place] * 2, [one.low, one.high], color=look.colour, linewidth=2)
    panel.plot(places, [one.estimate for one in found], marker=look.marker, **look.line)


def _rows(panel: Axes, place: int, values: pd.Series, look: Look) -> None:
    one = statistics.mean(values)
    panel.plot(values, [place] * len(values), look.marker, color=look.colour, markersize=2.5, alpha=0.5)
    panel.plot([one.low, one.high], [place] * 2, color=look.colour, linewidth=2)
    panel.plot([one.estimate], [place], look.marker, color=look.colour, markersize=7)


@house()
def curves(frames: Frames) -> Figure:
    """Minibatch losses of the deep networks with batch norm on their way, and of the longer plain runs."""
    figure = Page(figsize=(6.4, 3.6), layout="constrained")
    panel = figure.subplots()
    for i, (arm, kind) in enumerate(CURVES.items()):
        runs, look = frames.curves[frames.curves.arm == arm], LOOKS[kind]
        for _, run in runs.groupby("seed"):
            panel.plot(run.step, run.loss, color=look.colour, linewidth=0.5, alpha=0.35)
        label = KINDS[kind] + (", more steps" if arm.endswith("longer") else "")
        mean = runs.groupby("step").loss.mean()
        panel.plot(mean, color=look.colour, linestyle=DASHES[i], marker=MARKERS[i], markersize=3, label=label)
    panel.set(xscale="log", xlabel="step", ylabel="minibatch training loss (nats)")
    ticks = sorted(frames.curves.groupby("arm").step.max().unique())
    panel.set_xticks([ticks[0] / 8, ticks[0] / 4, ticks[0] / 2, *ticks])
    panel.set_xticklabels([f"{tick:g}" for tick in panel.get_xticks()])
    panel.set_xticks([], minor=True)
    legend(figure, [panel])
    seeds = counted(frames.curves[frames.curves.arm.isin(list(CURVES))].groupby("arm").seed.nunique())
    text = (
        f"Deep networks with batch norm, mean loss over stretches of a run. Thin: single seeds ({seeds}); thick: their "
        "mean. The rate falls to zero at the end of every run: compare ends."
    )
    return titled(figure, text)


@house()
def along_gradient(frames: Frames) -> Figure:
    """Change of the loss, and of its gradient, against the length of a step along the gradient."""
    figure = Page(figsize=(8.4, 3.4), layout="constrained")
    panels = figure.subplots(1, 2)
    steps = frames.gradient.assign(rise=frames.gradient.loss - frames.gradient.start_loss)
    columns = {"rise": "change of the loss (nats)", "change": "|g' - g| / |g|"}
    for panel, (column, label) in zip(panels, columns.items(), strict=True):
        for kind in ("skip_batch", "plain_batch"):
            _lines(panel, steps[steps.arm == f"deep_{kind}"], "length", column, LOOKS[kind])
        _log_axis(panel, sorted(steps.length.unique()))
        panel.set(xlabel="length / norm of the weights", ylabel=label)
    panels[0].axhline(0, color="0.4", linewidth=0.8)
    legend(figure, panels)
    kinds = steps[~steps.arm.str.endswith("_twin")]
    seeds = counted(kinds.groupby("arm").seed.nunique()) if len(kinds) else "n = 0"
    text = (
        "Deep networks with batch norm, steps along the negative gradient from states of equal training loss: what "
        f"they change. Thin: single seeds ({seeds}); thick: their mean."
    )
    return titled(figure, text)


def _lines(panel: Axes, rows: pd.DataFrame, x: str, y: str, look: Look) -> None:
    for _, run in rows.groupby("seed"):
        panel.plot(run[x], run[y], color=look.colour, linewidth=0.5, alpha=0.4)
    panel.plot(rows.groupby(x)[y].mean(), marker=look.marker, **look.line)


def _log_axis(panel: Axes, ticks: Sequence[float]) -> None:
    panel.set_xscale("log")
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.set_xticks([], minor=True)


@house()
def shattering(frames: Frames) -> Figure:
    """Correlation of input gradients against depth, a panel per distance between the inputs."""
    radii = sorted(frames.inputs.radius.unique())
    figure = Page(figsize=(max(2.9 * len(radii) + 0.4, 7), 4), layout="constrained")
    panels = figure.subplots(1, len(radii), sharey=True, squeeze=False)[0]
    for panel, radius in zip(panels, radii, strict=True):
        rows = frames.inputs[frames.inputs.radius == radius]
        for kind, look in LOOKS.items():
            _lines(panel, rows[rows.arm == kind], "depth", "correlation", look)
        _log_axis(panel, sorted(rows.depth.unique()))
        panel.set(xlabel="depth (layers)", title=f"Inputs {radius:g} of a norm apart")
        panel.axhline(0, color="0.4", linewidth=0.8)
    panels[0].set_ylabel("correlation of input gradients")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    known = frames.inputs[frames.inputs.arm.isin(list(KINDS))].dropna(subset="correlation")
    text = (
        "Gradients with respect to the input at two neighbouring inputs, before training: one where the network is "
        f"linear between them. Thin: single seeds ({counted(known.groupby(['arm', 'depth']).seed.nunique())}); thick: "
        "their mean."
    )
    return titled(figure, text)
