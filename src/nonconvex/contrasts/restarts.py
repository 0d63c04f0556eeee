"""What the study of restarts says about its claims: barriers between ends of cycles, accuracy, ensembles.

Frames hold the study's records by file name: tuning, tuned, runs, lines, points, looks. Every contrast is a series by
seed, missing where a run diverged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import pandas as pd

from nonconvex.contrasts import evidence, tuning
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK, TABLE = "restarts", "strategy_restarts", "strategies"
LOW, ABOVE = 0.1, 1.5  # heights of later cycles that claims speak of, relative to the tuned peak
BOTH, MLP = ("mlp", "resnet"), ("mlp",)
Frames = Mapping[str, pd.DataFrame]


def by_line(
    frames: Frames, model: str, column: str, arm: str = "restarts", height: float = 1.0, draw: str = "own"
) -> pd.DataFrame:
    """A column of an arm's lines: a row per seed, a column per restart."""
    rows = frames["lines"]
    chosen = (rows.model == model) & (rows.arm == arm) & (rows.height == height) & (rows.draw == draw)
    return rows[chosen].pivot(index="seed", columns="line", values=column).astype(float)


def over_lines(frames: Frames, model: str, column: str = "barrier", **arm: str | float) -> pd.Series:
    """Mean over the lines between a run's consecutive ends of cycles."""
    return by_line(frames, model, column, **arm).mean(axis=1, skipna=False)


def accuracy(
    frames: Frames, model: str, arm: str, labels: str = "true", draw: str = "own", ensemble: bool = False
) -> pd.Series:
    """Test accuracy at the end, or of the ensemble of the networks at the ends of cycles, at height 1."""
    rows = frames["runs"]
    chosen = (rows.model == model) & (rows.arm == arm) & (rows.height == 1) & (rows.draw == draw)
    errors = rows[chosen & (rows.labels == labels)].set_index("seed")
    return 1 - (errors.ensemble_error if ensemble else errors.test_error).astype(float)


# Contrasts between ends of cycles


def control(frames: Frames, model: str, column: str, arm: str) -> pd.Series:
    """How much higher the restarted run's lines are than an arm's at the same steps."""
    return over_lines(frames, model, column) - over_lines(frames, model, column, arm=arm)


def early(frames: Frames, model: str) -> pd.Series:
    """Barrier over the first restart minus that over the last."""
    found = by_line(frames, model, "barrier")
    return found.iloc[:, 0] - found.iloc[:, -1]


def height(frames: Frames, model: str) -> pd.Series:
    """Barrier of restarts at the peak minus that of restarts at a tenth of it."""
    return over_lines(frames, model) - over_lines(frames, model, height=LOW)


def twin_lines(frames: Frames, model: str, column: str = "barrier") -> pd.Series:
    """The single cosine's lines minus those of its second draw: two arms that differ in nothing but the draw."""
    return over_lines(frames, model, column, arm="cosine") - over_lines(
        frames, model, column, arm="cosine", draw="other"
    )


# Contrasts between scores


def gain(frames: Frames, model: str, arm: str, labels: str = "true") -> pd.Series:
    """Accuracy of restarts minus that of an arm without."""
    return accuracy(frames, model, "restarts", labels) - accuracy(frames, model, arm, labels)


def ensemble_gain(frames: Frames, model: str, arm: str, labels: str = "true") -> pd.Series:
    """Accuracy of the ensemble of cycle ends minus that of an arm's last network."""
    return accuracy(frames, model, "restarts", labels, ensemble=True) - accuracy(frames, model, arm, labels)


def twin_accuracy(frames: Frames, model: str) -> pd.Series:
    """Accuracy of the single cosine minus that of its second draw."""
    return accuracy(frames, model, "cosine") - accuracy(frames, model, "cosine", draw="other")


# The claims


@dataclass(frozen=True)
class Contrast:
    """A claim on one or both beds: its effect, the tuned arms behind it, and its controls.

    `trials` says whether its arms' numbers of trials are compared, `visible` whether its bed has to show barriers.
    """

    name: str
    models: tuple[str, ...]
    effect: Callable[..., pd.Series]
    arms: tuple[str, ...] = ("restarts",)
    visible: bool = False
    trials: bool = False
    same_arm: Callable[[Frames, str], pd.Series] | None = None
    shuffled: bool = False

    def claim(self, model: str) -> str:
        return f"{ROW}.{self.name}.{model}"


def _line(name: str, effect: Callable, models: tuple[str, ...] = MLP, **options) -> Contrast:
    return Contrast(name, models, effect, visible=True, **options)


def _score(name: str, effect: Callable, models: tuple[str, ...] = BOTH, **options) -> Contrast:
    return Contrast(name, models, effect, same_arm=twin_accuracy, shuffled=True, **options)


WITH_COSINE = {"arms": ("restarts", "cosine"), "trials": True}
CONTRASTS = (
    _line("barrier", over_lines, BOTH),
    _line("barrier_rise", partial(over_lines, column="rise")),
    _line("barrier_error", partial(over_lines, column="error_barrier")),
    _line("barrier_control", partial(control, column="barrier", arm="constant"), BOTH, same_arm=twin_lines),
    _line("barrier_cosine", partial(control, column="barrier", arm="cosine"), same_arm=twin_lines, **WITH_COSINE),
    _line("barrier_early", early),
    _line("barrier_height", height, BOTH, same_arm=twin_lines),
    _line("barrier_above", partial(over_lines, height=ABOVE)),
    _line("barrier_equal", partial(over_lines, arm="equal")),
    Contrast(
        "disagreement",
        MLP,
        partial(control, column="disagreement", arm="constant"),
        same_arm=partial(twin_lines, column="disagreement"),
    ),
    _score("accuracy", partial(gain, arm="cosine"), **WITH_COSINE),
    _score("accuracy_wsd", partial(gain, arm="wsd"), MLP, arms=("restarts", "wsd"), trials=True),
    _score("ensemble_last", partial(ensemble_gain, arm="restarts")),
    _score("ensemble_cosine", partial(ensemble_gain, arm="cosine"), **WITH_COSINE),
)


def beds(frames: Frames, contrast: Contrast) -> list[str]:
    """The contrast's beds that the frames have."""
    return [model for model in contrast.models if model in set(frames["tuned"].model)]


def effects(frames: Frames) -> list[Effect]:
    """Every claim's effect by seed, and those of its controls."""
    found = []
    for at in CONTRASTS:
        for model in beds(frames, at):
            found += evidence.effects(at.claim(model), at.effect(frames, model))
            if at.same_arm:
                found += evidence.effects(at.claim(model), at.same_arm(frames, model), "same_arm")
            if at.shuffled and model == "mlp":
                values = at.effect(frames, model, labels="shuffled")
                found += evidence.effects(at.claim(model), values, "shuffled_labels")
    return found


def gates(frames: Frames) -> list[GateValue]:
    """What every measured gate of every claim was found to be."""
    found = []
    for at in CONTRASTS:
        for model in beds(frames, at):
            arms = frames["tuned"][frames["tuned"].model == model]
            values = tuning.gates(arms, at.arms)
            if not at.trials:
                values.pop("equal_tuning")
            if at.visible:
                values["restarts_visible"] = visible(frames, model)
            found += evidence.gates(at.claim(model), values)
    return found


def visible(frames: Frames, model: str) -> float:
    """Mean barrier between the ends of the single cosine's two draws."""
    return float(over_lines(frames, model, arm="independent").mean())


# What the notebook found

ENDS = {"barrier": "train-loss barrier", "disagreement": "disagreement", "displacement": "relative displacement"}
SCORES = ("train_loss", "test_loss", "test_error", "ensemble_error")


def findings(frames: Frames) -> list[Finding]:
    """Every contrast; every line of every arm; every arm's scores and those of its ensemble."""
    found = [
        _finding(model, f"contrast of {at.claim(model)}", at.effect(frames, model))
        for at in CONTRASTS
        for model in beds(frames, at)
    ]
    lines, runs = (first_draws(frames[name]) for name in ("lines", "runs"))
    for (model, arm, at, line), rows in lines.groupby(["model", "arm", "height", "line"]):
        name = f"{named(arm, at)}, line {line}"
        for column, words in ENDS.items():
            found.append(_finding(model, f"{words} of {name}", rows[column]))
        found.append(_finding(model, f"train loss at the end of {name}", rows.loss_end))
    for (model, arm, at), rows in runs[runs.labels == "true"].groupby(["model", "arm", "height"]):
        for column in SCORES:
            found.append(_finding(model, f"{column} of {named(arm, at)}", rows[column]))
    return [one for one in found if one.n]


def first_draws(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows.draw == "own"]


def named(arm: str, height: float) -> str:
    """An arm in words."""
    return arm if height == 1 else f"{arm} at height {height:g}"


def _finding(model: str, quantity: str, values: pd.Series) -> Finding:
    return evidence.finding(ROW, model, quantity, values.astype(float), NOTEBOOK, TABLE)
