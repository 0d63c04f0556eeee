"""What the study of skip connections says about its claims. No torch.

A claim is a quantity (QUANTITIES: one number per run) and weights on arms (CLAIMS); its effect in a seed is the
weighted sum of the runs of that seed, as the claim words it. Its controls are other weights on the same quantity.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
import pandas as pd

from nonconvex import records
from nonconvex.contrasts import evidence, smoothness, tuning
from nonconvex.observations import skip_connections as rows
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.paths import Results
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK, MODEL = "skip_connections", "factor_skip_connections", "resnet"
LEVELS = ("shallow", "middle", "deep")
VARIANTS = ("_twin", "_shuffled", "_longer")
Weights = Mapping[str, float]


@dataclass(frozen=True)
class Frames:
    """One frame per kind of record; `radius` is the distance between inputs that claims read."""

    arms: pd.DataFrame
    tuning: pd.DataFrame
    tuned: pd.DataFrame
    runs: pd.DataFrame
    curves: pd.DataFrame
    gradient: pd.DataFrame
    inputs: pd.DataFrame
    radius: float

    @classmethod
    def read(cls, files: Results, radius: float) -> Self:
        """The study's records as it wrote them."""
        types = (rows.Arm, TuningTrial, TunedArm, rows.Run, rows.CurvePoint, rows.GradientStep, rows.InputGradient)
        names = [one.name for one in fields(cls)][: len(types)]
        found = [records.read(files.observations(ROW, n), kind) for n, kind in zip(names, types, strict=True)]
        return cls(*found, radius)


def train_loss(frames: Frames) -> pd.DataFrame:
    """Training loss at the end, in nats: seeds down, arms across."""
    return frames.runs.pivot(index="seed", columns="arm", values="train_loss").astype(float)


def accuracy(frames: Frames) -> pd.DataFrame:
    """Test accuracy at the end."""
    return 1 - frames.runs.pivot(index="seed", columns="arm", values="test_error").astype(float)


def gradient_change(frames: Frames) -> pd.DataFrame:
    """ln of the mean over steps along the gradient of |g' - g| / |g|, at matched training loss."""
    return smoothness.gradient_change(frames).droplevel("model").unstack("arm")


def gradient_range(frames: Frames) -> pd.DataFrame:
    """ln of the range of the loss along the gradient over |g| times the longest step, at matched training loss."""
    return smoothness.gradient_range(frames).droplevel("model").unstack("arm")


def matched_loss(frames: Frames) -> pd.DataFrame:
    """ln of the training loss at the states that are compared."""
    return np.log(frames.runs.pivot(index="seed", columns="arm", values="matched_loss").astype(float))


def correlation(frames: Frames, radius: float | None = None) -> pd.DataFrame:
    """Correlation of gradients at neighbouring inputs before training, at a distance (the claims' by default).

    Columns are named like arms, by level and kind.
    """
    chosen = frames.inputs[np.isclose(frames.inputs.radius, radius or frames.radius)]
    chosen = chosen.assign(level=chosen.depth.map(levels(frames))).dropna(subset="level")
    chosen = chosen.assign(arm=chosen.level + "_" + chosen.arm)
    return chosen.pivot(index="seed", columns="arm", values="correlation").astype(float)


def levels(frames: Frames) -> dict[int, str]:
    """Level by depth."""
    return {depth: arm.partition("_")[0] for arm, depth in zip(frames.arms.arm, frames.arms.depth, strict=True)}


QUANTITIES: dict[str, Callable[[Frames], pd.DataFrame]] = {
    "loss": train_loss,
    "accuracy": accuracy,
    "gradient change": gradient_change,
    "gradient range": gradient_range,
    "correlation": correlation,
}


@dataclass(frozen=True)
class Contrast:
    """A claim's quantity and weights, those of its controls, and which gates are measured."""

    quantity: str
    weights: Weights
    same_arm: Weights = field(default_factory=dict)
    shuffled_labels: Weights = field(default_factory=dict)
    gates: tuple[str, ...] = ()


DEEP = {"deep_plain_batch": 1, "deep_skip_batch": -1}
BETTER = {"deep_skip_batch": 1, "deep_plain_batch": -1}
SHATTERED = {"shallow_plain_batch": 1, "deep_plain_batch": -1, "shallow_skip_batch": -1, "deep_skip_batch": 1}
TWIN = {"deep_skip_batch_twin": 1, "deep_skip_batch": -1}
SCALED_TWIN = {"deep_scaled_none_twin": 1, "deep_scaled_none": -1}
TUNING = ("rate_interior", "equal_tuning")
MATCHED = ("rate_interior", "trained", "matched_loss")
CLAIMS = {
    "deep_loss": Contrast("loss", DEEP, TWIN, gates=TUNING),
    # what the skip does to the deep network beyond what it does to the shallow one
    "depth_loss": Contrast("loss", DEEP | {"shallow_plain_batch": -1, "shallow_skip_batch": 1}, TWIN, gates=TUNING),
    "longer_loss": Contrast("loss", {"deep_plain_batch_longer": 1, "deep_skip_batch": -1}, TWIN, gates=TUNING),
    "plain_depth": Contrast("loss", {"deep_plain_batch": 1, "shallow_plain_batch": -1}, TWIN, gates=TUNING),
    "residual_depth": Contrast("loss", {"deep_skip_batch": 1, "shallow_skip_batch": -1}, TWIN, gates=TUNING),
    "unscaled_loss": Contrast("loss", {"deep_plain_none": 1, "deep_skip_none": -1}, SCALED_TWIN, gates=TUNING),
    "scaled_loss": Contrast("loss", {"deep_plain_none": 1, "deep_scaled_none": -1}, SCALED_TWIN, gates=TUNING),
    "orthogonal_gap": Contrast("loss", {"deep_orthogonal_none": 1, "deep_scaled_none": -1}, SCALED_TWIN, gates=TUNING),
    "orthogonal_gain": Contrast("loss", {"deep_plain_none": 1, "deep_orthogonal_none": -1}, SCALED_TWIN, gates=TUNING),
    "accuracy": Contrast(
        "accuracy", BETTER, TWIN, {"deep_skip_batch_shuffled": 1, "deep_plain_batch_shuffled": -1}, TUNING
    ),
    "gradient_change": Contrast("gradient change", DEEP, TWIN, gates=MATCHED),
    "gradient_range": Contrast("gradient range", DEEP, TWIN, gates=MATCHED),
    "shattering": Contrast("correlation", BETTER, TWIN),
    "shattering_depth": Contrast("correlation", SHATTERED, TWIN),
    "residual_shattering": Contrast("correlation", {"shallow_skip_batch": 1, "deep_skip_batch": -1}),
    "scaled_shattering": Contrast("correlation", {"shallow_scaled_none": 1, "deep_scaled_none": -1}),
}


def claim(short: str) -> str:
    return f"{ROW}.{short}.{MODEL}"


def values(table: pd.DataFrame, weights: Weights) -> pd.Series:
    """Σ weight · value over the arms, by seed; NaN where an arm has none."""
    wide = table.reindex(columns=list(weights))
    return sum(weight * wide[arm] for arm, weight in weights.items())


def effects(frames: Frames) -> list[Effect]:
    """Every claim's contrast and those of its controls, one per seed."""
    found = []
    for short, one in CLAIMS.items():
        table = QUANTITIES[one.quantity](frames)
        found += evidence.effects(claim(short), values(table, one.weights))
        for role in ("same_arm", "shuffled_labels"):
            if weights := getattr(one, role):
                found += evidence.effects(claim(short), values(table, weights), role)
    return found


def gates(frames: Frames) -> list[GateValue]:
    """What the gates of every claim were measured to be."""
    found = []
    for short, one in CLAIMS.items():
        if one.gates:
            measured = gate_values(frames, one.weights)
            found += evidence.gates(claim(short), {name: measured[name] for name in one.gates})
    return found


def gate_values(frames: Frames, weights: Weights) -> dict[str, float]:
    """All gates of a contrast between arms: of their tuning, and of the states of equal loss."""
    runs = frames.runs[frames.runs.arm.isin(list(weights))]
    return tuning.gates(frames.tuned, sorted({tuned_arm(arm) for arm in weights})) | {
        "trained": float(runs.matched_loss.notna().mean()),
        "matched_loss": float(abs(values(matched_loss(frames), weights).mean())),
    }


def tuned_arm(arm: str) -> str:
    """The arm whose tuning a run's rate comes from."""
    for variant in VARIANTS:
        arm = arm.removesuffix(variant)
    return arm


def findings(frames: Frames) -> list[Finding]:
    """Mean and interval of every effect, of losses and accuracies in every arm, and of all correlations."""
    found = []
    for short, one in CLAIMS.items():
        found.append(_finding(short.replace("_", " "), values(QUANTITIES[one.quantity](frames), one.weights)))
    for quantity in ("loss", "accuracy"):
        found += [_finding(f"{quantity} of {arm}", runs) for arm, runs in QUANTITIES[quantity](frames).items()]
    for (arm, depth, radius), of_arm in frames.inputs.groupby(["arm", "depth", "radius"], sort=False):
        text = f"correlation at {radius:g}, {arm}, depth {depth}"
        found.append(_finding(text, of_arm.correlation.astype(float)))
    return found


def _finding(quantity: str, numbers: pd.Series) -> Finding:
    return evidence.finding(ROW, MODEL, quantity, numbers, NOTEBOOK, "factors")
