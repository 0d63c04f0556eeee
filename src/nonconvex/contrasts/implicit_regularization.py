"""What the study of implicit regularization says about its claims. No torch.

Claims about closed forms take the distance to the closed form as their effect, one per seed, and are equivalences.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import pandas as pd

from nonconvex import records
from nonconvex.config import Settings
from nonconvex.contrasts import evidence
from nonconvex.observations import implicit_regularization as rows
from nonconvex.paths import Results
from nonconvex.records import Effect, Finding, GateValue
from nonconvex.study_settings.implicit_regularization import Separable

ROW, NOTEBOOK = "implicit_regularization", "factor_implicit_regularization"
STEEPEST = ("gd", "momentum", "sgd_1", "sgd_8")  # whose updates stay in the span of the examples
OTHERS = ("adam", "adagrad", "sign")
EXACT = ("aligned", "balanced", "sgd")  # starts of linear networks that the closed form is for
MEASURES = ("explained", "agreement", "excess")


@dataclass(frozen=True)
class Frames:
    """One frame per kind of record, and how the directions' slopes are fitted."""

    limits: pd.DataFrame
    separators: pd.DataFrame
    directions: pd.DataFrame
    modes: pd.DataFrame
    ranks: pd.DataFrame
    halfway: pd.DataFrame
    strengths: pd.DataFrame
    predictions: pd.DataFrame
    late: float  # ln(1 + t) from which on the flow's slope is fitted
    practical: float  # share of the descent's steps from which on its slope is

    @classmethod
    def read(cls, files: Results, settings: Settings) -> Self:
        """The study's records as it wrote them."""
        types = (
            rows.Limit,
            rows.Separator,
            rows.Direction,
            rows.Mode,
            rows.Rank,
            rows.Halfway,
            rows.Strength,
            rows.Prediction,
        )
        names = [field.name for field in fields(cls)][: len(types)]
        parts = [records.read(files.observations(ROW, n), kind) for n, kind in zip(names, types, strict=True)]
        how: Separable = settings.factors.implicit_regularization.separable
        return cls(*parts, how.late, how.practical / how.steps)


def effects(frames: Frames) -> list[Effect]:
    """Every claim's effect, one per seed."""
    found = []
    for claim, values in claimed(frames).items():
        found += evidence.effects(f"{ROW}.{claim}", values)
    early = at_linear_accuracy(frames)
    for measure in MEASURES:
        found += evidence.effects(f"{ROW}.linear_first_{measure}.mlp", between_twins(early, measure), "same_arm")
    return found


def claimed(frames: Frames) -> dict[str, pd.Series]:
    """Claim (without its row) -> effect by seed."""
    found = {f"minimum_norm.{name}": distance(frames, name, "zero", "to_nearest") for name in (*STEEPEST, *OTHERS)}
    found |= {f"nearest.{name}": distance(frames, name, "random", "to_nearest") for name in STEEPEST}
    found["any_start.sgd_1"] = distance(frames, "sgd_1", "random", "to_least")
    for column, short in (("angle", "angle"), ("margin_gap", "gap")):
        found[f"max_margin_{short}.flow"] = slopes(late(frames), column) + 1
        found[f"max_margin_{short}.descent"] = slopes(practical(frames), column) + 1
    found |= {f"mode_times.{arm}": worst_time(frames, arm) for arm in EXACT}
    found |= {f"mode_order.{arm}": ordered_pairs(frames, arm) - 0.5 for arm in ("balanced", "sgd")}
    found["sequential.start"] = overlap(frames, "large") - overlap(frames, "balanced")
    ranks = frames.halfway.set_index(["arm", "seed"]).effective_rank
    found["low_rank.start"] = ranks["large"] - ranks["balanced"]
    early, end = at_linear_accuracy(frames), last(frames)
    for measure in MEASURES:
        found[f"linear_first_{measure}.mlp"] = (early[measure] - end[measure])["network"]
    return found


def distance(frames: Frames, optimizer: str, start: str, column: str) -> pd.Series:
    """A column of where an optimizer came to rest, by seed."""
    of = frames.limits[(frames.limits.optimizer == optimizer) & (frames.limits.start == start)]
    return of.set_index("seed")[column]


def late(frames: Frames) -> pd.DataFrame:
    """The flow where the claim is about."""
    return frames.directions[(frames.directions.path == "flow") & (frames.directions.log_time >= frames.late * 0.999)]


def practical(frames: Frames) -> pd.DataFrame:
    """Gradient descent from a share of its own time on: times that training might reach."""
    of = frames.directions[frames.directions.path == "descent"]
    times = np.expm1(of.log_time)
    return of[times >= 0.999 * frames.practical * times.groupby(of.seed).transform("max")]


def slopes(directions: pd.DataFrame, column: str) -> pd.Series:
    """b of ln(column) = a + b ln ln(1 + t) by seed: -1 where it falls as 1/ln t."""
    return pd.Series(
        {
            seed: np.polyfit(np.log(of.log_time), np.log(of[column]), 1)[0] if (of[column] > 0).all() else np.nan
            for seed, of in directions.groupby("seed")
        },
        dtype=float,
    )


def worst_time(frames: Frames, arm: str) -> pd.Series:
    """max over modes of |measured / predicted - 1| by seed; missing where a mode never got halfway."""
    of = frames.modes[frames.modes.arm == arm]
    return (of.measured / of.predicted - 1).abs().groupby(of.seed).agg(lambda v: v.max(skipna=False))


def ordered_pairs(frames: Frames, arm: str) -> pd.Series:
    """Share of the pairs of modes of which the larger got halfway first, by seed; one that never did is last."""
    times = frames.modes[frames.modes.arm == arm].pivot(index="seed", columns="mode", values="measured").fillna(np.inf)
    first, second = np.triu_indices(times.shape[1], 1)
    values = times.to_numpy()
    return pd.Series((values[:, first] < values[:, second]).mean(1), times.index)


def overlap(frames: Frames, arm: str) -> pd.Series:
    """How much of the next mode was there when a mode passed half, as a share, mean over modes, by seed."""
    of = frames.modes[(frames.modes.arm == arm) & (frames.modes["mode"] < frames.modes["mode"].max())]
    return of.groupby("seed").next_share.agg(lambda v: v.mean(skipna=False))


def at_linear_accuracy(frames: Frames) -> pd.DataFrame:
    """Each run's first reading with no more test error than softmax regression, by arm and seed."""
    of = frames.predictions[frames.predictions.error <= frames.predictions.linear_error]
    return _with_excess(of.sort_values("step").groupby(["arm", "seed"]).first())


def last(frames: Frames) -> pd.DataFrame:
    """Each run's last reading, by arm and seed."""
    return _with_excess(frames.predictions.sort_values("step").groupby(["arm", "seed"]).last())


def _with_excess(readings: pd.DataFrame) -> pd.DataFrame:
    return readings.assign(excess=readings.agreement - readings.independent)


def between_twins(early: pd.DataFrame, measure: str) -> pd.Series:
    """The same early reading of two networks that differ in nothing but their seed."""
    by_arm = early[measure].unstack("arm").reindex(columns=["network", "twin"])
    return by_arm.network - by_arm.twin


def gates(frames: Frames) -> list[GateValue]:
    """What the gates of every claim were measured to be."""
    found = []
    for claim in claimed(frames):
        found += evidence.gates(f"{ROW}.{claim}", gate_values(frames, *claim.split(".")))
    return found


def gate_values(frames: Frames, short: str, arm: str) -> dict[str, float]:
    """The gates of one claim."""
    if short in ("minimum_norm", "nearest", "any_start"):
        start = "zero" if short == "minimum_norm" else "random"
        return {"implicit_residual": distance(frames, arm, start, "residual").max(skipna=False)}
    if short.startswith("max_margin"):
        solved = {"implicit_separator": frames.separators.gap.max()}
        return solved | ({"implicit_flow": flow_mismatch(frames)} if arm == "flow" else {})
    if short.startswith("linear_first"):
        return {"implicit_overtaken": overtaken(frames)}
    return {}


def flow_mismatch(frames: Frames) -> float:
    """Largest |ln ratio| of the angles of descent and flow at equal times, over the later half of the descent."""
    sides = frames.directions.set_index(["path", "seed", "place"]).angle
    ratio = np.log(sides["descent"] / sides["flow_beside"])
    place = ratio.index.get_level_values("place")
    return float(ratio[place >= place.max() / 2].abs().max())


def overtaken(frames: Frames) -> float:
    """Share of runs that reached softmax regression's test error before their end, and ended 5 points below it."""
    early, end = at_linear_accuracy(frames), last(frames)
    step = early.step.reindex(end.index)
    return float(((step < end.step) & (end.error <= end.linear_error - 0.05)).mean())


def findings(frames: Frames) -> list[Finding]:
    """Mean and interval of every effect, and of what stands beside them."""
    found = [_finding(model(claim), claim, values) for claim, values in claimed(frames).items()]
    for (start, optimizer), of in frames.limits.groupby(["start", "optimizer"], sort=False):
        for column in ("norm", "maximum", "to_teacher"):
            found.append(_finding("least squares", f"{column} of {optimizer} from {start}", of[column]))
    for path, of in frames.directions.groupby("path"):
        end = of.sort_values("place").groupby("seed").last()
        found.append(_finding("logistic", f"final angle (radians), {path}", end.angle))
        found.append(_finding("logistic", f"final ln(1 + t), {path}", end.log_time))
    for arm in ("aligned", "balanced", "sgd", "large"):
        found.append(_finding("linear network", f"share of the next mode, {arm}", overlap(frames, arm)))
        ranks = frames.halfway[frames.halfway.arm == arm].effective_rank
        found.append(_finding("linear network", f"effective rank at half the loss, {arm}", ranks))
    for when, readings in (("early", at_linear_accuracy(frames)), ("last", last(frames))):
        for column in (*MEASURES, "error", "step"):
            values = readings[column][readings.index.get_level_values("arm") == "network"]
            found.append(_finding("mlp", f"{column} ({when})", values))
    return found


def model(claim: str) -> str:
    """The bed that a claim is about, as findings name it."""
    beds = {"max_margin": "logistic", "linear_first": "mlp"} | dict.fromkeys(
        ("mode_times", "mode_order", "sequential", "low_rank"), "linear network"
    )
    return next((bed for start, bed in beds.items() if claim.startswith(start)), "least squares")


def _finding(model: str, quantity: str, values: pd.Series) -> Finding:
    return evidence.finding(ROW, model, quantity, values, NOTEBOOK, table="factors")
