"""Figures of the study of three phases: losses, shares of learning, lines in weight space, and what a decay does."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nonconvex.contrasts.phase_frames import PHASES, Frames, shares
from nonconvex.contrasts.three_phases import CLAIMS
from nonconvex.panels import Page, counted, interval, legend, plain_log, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, Look, house

BEDS = {
    "resnet": "ResNet",
    "transformer": "Transformer",
    "mlp": "MLP, cross-entropy",
    "mlp_squared_error": "MLP, squared error",
}
ARMS = {"trunk": "Warm-up and stable phase", "decay": "Decay", "stay": "Stays", "other_order": "Stays, other order"}
PHASE_LABELS = {"warmup": "Warm-up", "stable": "Stable phase", "decay": "Decay", "stay": "Stays instead of decay"}
QUANTITIES = {"accuracy": "test accuracy", "loss": "training loss", "log_loss": "ln training loss"}
DECAY_EFFECTS = {
    "decay_slow_stay": "further fall of ln training loss",
    "decay_accuracy": "test accuracy",
    "decay_test_loss": "test loss",
}
SHARPNESS_EFFECTS = {
    "decay_flat_end": r"ln $\lambda_{\max}$, at the end",
    "decay_flat_matched": r"ln $\lambda_{\max}$, equal loss",
    "decay_trace_matched": "ln trace, equal loss",
    "decay_adaptive_matched": "ln adaptive sharpness, equal loss",
}


def looks_of(labels: Mapping[str, str]) -> dict[str, Look]:
    """How every name of a figure is drawn."""
    return {name: Look(label, PALETTE[i], MARKERS[i], DASHES[i]) for i, (name, label) in enumerate(labels.items())}


@house()
def losses(frames: Frames) -> Figure:
    """Training loss along the run, a panel per bed; the last quarter below, where the branches are."""
    figure, axes = _page(frames, rows=2)
    styles = looks_of(ARMS)
    for column, bed in enumerate(frames.beds):
        of_bed = frames.looks[frames.looks.bed == bed]
        late = 0.75 * of_bed.step.max()
        for arm, style in styles.items():
            runs = of_bed[of_bed.arm == arm]
            _runs(axes[0, column], runs, style)
            _runs(axes[1, column], runs[runs.step >= late], style)
        for panel in axes[:, column]:
            panel.set(yscale="log", xlabel="updates")
            for step in _boundaries(frames, bed):
                if step >= panel.get_xlim()[0]:
                    panel.axvline(step, color="0.4", linewidth=0.8)
            plain_log(panel.yaxis)
    for panel, label in zip(axes[:, 0], ("training loss", "its end, enlarged"), strict=True):
        panel.set_ylabel(label)
    legend(figure, axes.flat)
    text = (
        f"Training loss through the phases (grey: their boundaries). Thin: single runs; thick: their mean, "
        f"{_seeds(frames)} by bed."
    )
    return titled(figure, text)


def _runs(panel: Axes, runs: pd.DataFrame, style: Look) -> None:
    for _, run in runs.groupby("seed"):
        panel.plot(run.step, run.train_loss, color=style.colour, linewidth=0.4, alpha=0.4)
    panel.plot(runs.groupby("step").train_loss.mean(), **style.line)


def _boundaries(frames: Frames, bed: str) -> list[int]:
    """T_w and T_d."""
    trunk = frames.points[(frames.points.bed == bed) & (frames.points.arm == "trunk")]
    return sorted(trunk.step[trunk.place != "start"].unique())


@house()
def learned(frames: Frames) -> Figure:
    """Each phase's share of what a run learns, a panel per bed."""
    figure, axes = _page(frames)
    places = np.arange(len(QUANTITIES))
    for panel, bed in zip(axes[0], frames.beds, strict=True):
        for i, phase in enumerate(PHASES):
            style = looks_of(PHASE_LABELS)[phase]
            for place, quantity in zip(places, QUANTITIES, strict=True):
                found = shares(frames, bed, quantity)[phase].dropna()
                _column(panel, place + 0.25 * (i - 1), found, style)
        panel.axhline(0, color="0.4", linewidth=0.8)
        panel.set_xticks(places, [label.replace(" ", "\n", 1) for label in QUANTITIES.values()])
    axes[0, 0].set_ylabel("share of the run")
    legend(figure, axes.flat)
    text = (
        f"Share of each phase in what a run learns. Small: single seeds, {_seeds(frames)} by bed; large: their mean "
        "with 95 % t interval."
    )
    return titled(figure, text)


@house()
def lines(frames: Frames) -> Figure:
    """Training loss on the straight line from every phase's start to its end, a panel per bed."""
    figure, axes = _page(frames)
    for panel, bed in zip(axes[0], frames.beds, strict=True):
        of_bed = frames.line_points[frames.line_points.bed == bed]
        for phase, style in looks_of(PHASE_LABELS).items():
            of_phase = of_bed[of_bed.phase == phase]
            for _, run in of_phase.groupby("seed"):
                panel.plot(run.t, run.train_loss, color=style.colour, linewidth=0.4, alpha=0.4)
            panel.plot(of_phase.groupby("t").train_loss.mean(), **style.line)
        panel.set(xlabel="place on the line", yscale="log")
        plain_log(panel.yaxis)
    axes[0, 0].set_ylabel("training loss")
    legend(figure, axes.flat)
    text = (
        "Training loss on the straight line from the weights at a phase's start (0) to those at its end (1). Thin: "
        f"single runs, {_seeds(frames)} by bed; thick: their mean."
    )
    return titled(figure, text)


@house()
def decays(frames: Frames) -> Figure:
    """What a decay does beyond staying, seed by seed, with the control; a row per effect."""
    text = (
        f"The branch that decays against the one that stays. Small: single seeds, {_seeds(frames)} by bed; large: "
        "their mean with its 95 % interval; grey band: the claims' margins."
    )
    return titled(_effects(frames, DECAY_EFFECTS), text)


@house()
def sharpness(frames: Frames) -> Figure:
    """ln sharpness of the decaying branch over that of the one that stays, with the control; a row per measure."""
    text = (
        f"Sharpness of the branch that decays over that of the one that stays. Small: single seeds, {_seeds(frames)} "
        "by bed; large: their mean with its 95 % interval; grey band: the claims' margins. Below zero the decay is "
        "flatter."
    )
    return titled(_effects(frames, SHARPNESS_EFFECTS), text)


def _effects(frames: Frames, labels: Mapping[str, str]) -> Figure:
    """A panel per effect: for every bed the effect, and beside it its control."""
    figure = Page(figsize=(3.0 * len(labels) + 0.4, 3.6), layout="constrained")
    axes = figure.subplots(1, len(labels), squeeze=False)[0]
    styles = looks_of({"effect": "Decay against stay", "control": "Other order against stay"})
    for panel, (short, label) in zip(axes, labels.items(), strict=True):
        beds = [bed for bed in frames.beds if bed in CLAIMS[short].beds]
        for place, bed in enumerate(beds):
            margin = CLAIMS[short].margin_of(bed)
            panel.fill_between([place - 0.4, place + 0.4], -margin, margin, color="0.85", linewidth=0)
            for shift, (which, style) in zip((-0.18, 0.18), styles.items(), strict=True):
                found = getattr(CLAIMS[short], which)(frames, bed).dropna()
                _column(panel, place + shift, found, style)
        panel.axhline(0, color="0.4", linewidth=0.8)
        panel.set_xticks(range(len(beds)), [BEDS[bed].replace(", ", ",\n") for bed in beds], rotation=30)
        panel.set_title(label)
    axes[0].set_ylabel("difference of the branches")
    legend(figure, axes)
    return figure


def _column(panel: Axes, place: float, values: pd.Series, style: Look) -> None:
    """Single seeds, and beside them their mean with its interval."""
    panel.plot(np.full(len(values), place), values, ".", color=style.colour, markersize=3, alpha=0.5)
    interval(panel, place + 0.08, values, upright=True, **style.point)


def _page(frames: Frames, rows: int = 1) -> tuple[Figure, np.ndarray]:
    """A column of panels per bed."""
    figure = Page(figsize=(2.7 * len(frames.beds) + 0.4, 2.6 * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, len(frames.beds), squeeze=False)
    for panel, bed in zip(axes[0], frames.beds, strict=True):
        panel.set_title(BEDS[bed])
    return figure, axes


def _seeds(frames: Frames) -> str:
    return counted(_per_bed(frames.points))


def _per_bed(points: pd.DataFrame) -> Sequence[int]:
    found = points[points.labels == "true"].groupby("bed").seed.nunique()
    return list(found) or [0]
