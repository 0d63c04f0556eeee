"""What the study of averaging says about its claims on scores: an average against iterates, decay, other averages.

An arm is a schedule with an average, at its own tuned peak rate; two arms are compared seed by seed, better being
positive. Frames hold the study's records by file name: tuning, tuned, runs, curvature, quadratic. `ema` is the name of
the moving average that the claims are about; curvature, rates and theory are in `averaging_geometry`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nonconvex.contrasts import averaging_geometry as geometry
from nonconvex.contrasts import evidence, tuning
from nonconvex.records import Effect, Finding, GateValue

TABLE, NOTEBOOKS = "strategies", {"swa": "strategy_swa", "ema": "strategy_ema"}
SCORES = {"accuracy": ("test_error", -1), "loss": ("test_loss", -1)}  # column, sign in which more is better
BEDS = ("mlp", "resnet", "transformer")
Frames = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Comparison:
    """A claim: `arm` is better than `control`; the claim's equality if `equal`, which has no controls."""

    row: str
    name: str
    model: str
    score: str
    arm: str
    control: str
    equal: bool = False

    @property
    def claim(self) -> str:
        return f"{self.row}.{self.name}_{self.score}.{self.model}"


# `decayed` is the best decayed schedule and `longest` the moving average of largest decay, `ema` that of the claims
COMPARED = {
    "swa": {
        "own_last": ("constant swa", "constant last", ("mlp accuracy", "resnet accuracy", "transformer loss")),
        "decayed": (
            "constant swa",
            "decayed last",
            ("mlp accuracy", "mlp loss", "resnet accuracy", "transformer loss"),
        ),
        "like_decay": ("constant swa", "decayed last", ("mlp accuracy",)),
    },
    "ema": {
        "own_last": ("constant ema", "constant last", ("mlp accuracy", "resnet accuracy", "transformer loss")),
        "like_swa": ("constant ema", "constant swa", ("mlp accuracy",)),
        "long_horizon": ("constant ema", "constant longest", ("mlp accuracy",)),
    },
}
INTERACTION = "ema.interaction_accuracy.mlp"
FALLING = "cosine"  # the schedule on which a moving average is not known to help


def comparisons(frames: Frames, row: str, ema: str) -> Iterator[Comparison]:
    """Every comparison that is claimed of a row on a bed that the frames have, its arms by name."""
    for name, (arm, control, places) in COMPARED[row].items():
        for model, score in map(str.split, places):
            if model in set(frames["tuned"].model):
                arms = (named(frames, model, template, ema) for template in (arm, control))
                yield Comparison(row, name, model, score, *arms, equal=name.startswith("like"))


def named(frames: Frames, model: str, template: str, ema: str) -> str:
    """The arm behind a template of COMPARED."""
    schedule, average = template.split(" ")
    schedule = best_decayed(frames, model) if schedule == "decayed" else schedule
    average = longest(frames, model) if average == "longest" else {"ema": ema}.get(average, average)
    return f"{schedule} {average}"


def longest(frames: Frames, model: str) -> str:
    """The moving average of largest decay on a bed."""
    names = frames["tuned"][frames["tuned"].model == model].arm.str.split(" ").str[1]
    return max((name for name in names if name.startswith("ema_")), key=lambda name: float(name.removeprefix("ema_")))


def best_decayed(frames: Frames, model: str) -> str:
    """The decayed schedule whose last iterate does best on the tuning seeds at its own peak; the first of equals."""
    arms = frames["tuned"][frames["tuned"].model == model].arm
    found = [arm for arm in arms if arm.endswith(" last") and arm != "constant last"]
    return min(found, key=lambda arm: (criterion(frames, model, arm), found.index(arm))).split(" ")[0]


def criterion(frames: Frames, model: str, arm: str) -> float:
    """Mean over the tuning seeds of the criterion at the rate that it chose; infinite where a seed diverged."""
    trials = frames["tuning"]
    chosen = (trials.model == model) & (trials.arm == arm) & (trials.rate == peak(frames, model, arm))
    mean = trials[chosen].validation_loss.mean(skipna=False)
    return float(mean) if np.isfinite(mean) else np.inf


def peak(frames: Frames, model: str, arm: str) -> float:
    tuned = frames["tuned"]
    return float(tuned[(tuned.model == model) & (tuned.arm == arm)].rate.iloc[0])


def score(
    frames: Frames,
    model: str,
    arm: str,
    kind: str,
    labels: str = "true",
    draw: str = "own",
    statistics: str = "recomputed",
    rate: float | None = None,
) -> pd.Series:
    """One arm's score by seed, better being larger, at its tuned peak or at another rate."""
    rows, (schedule, average) = frames["runs"], arm.split(" ")
    column, sign = SCORES[kind]
    wanted = {
        "model": model,
        "schedule": schedule,
        "average": average,
        "labels": labels,
        "draw": draw,
        "statistics": statistics,
        "rate": peak(frames, model, arm) if rate is None else rate,
    }
    chosen = np.logical_and.reduce([rows[name] == value for name, value in wanted.items()])
    return sign * rows[chosen].set_index("seed")[column]


def advantage(frames: Frames, at: Comparison, labels: str = "true") -> pd.Series:
    """How much better the arm is than its control, by seed."""
    return score(frames, at.model, at.arm, at.score, labels) - score(frames, at.model, at.control, at.score, labels)


def same_arm(frames: Frames, at: Comparison) -> pd.Series:
    """How much better the arm is than itself from other weights in another order of data."""
    return score(frames, at.model, at.arm, at.score) - score(frames, at.model, at.arm, at.score, draw="other")


def gain(frames: Frames, schedule: str, ema: str, labels: str = "true") -> pd.Series:
    """What the moving average adds to a schedule on the MLP, in accuracy, each at its own tuned peak."""
    average, last = (score(frames, "mlp", f"{schedule} {name}", "accuracy", labels) for name in (ema, "last"))
    return average - last


def interaction(frames: Frames, ema: str, labels: str = "true") -> pd.Series:
    """How much more the moving average adds at a constant rate than on a decayed one."""
    return gain(frames, "constant", ema, labels) - gain(frames, FALLING, ema, labels)


def same_run(frames: Frames, model: str, average: str, of: str, kind: str) -> pd.Series:
    """An average minus the last iterate of the same constant-rate run, at the tuned peak of `of`."""
    rate = peak(frames, model, f"constant {of}")
    return score(frames, model, f"constant {average}", kind, rate=rate) - score(
        frames, model, "constant last", kind, rate=rate
    )


def stale(frames: Frames, model: str, average: str) -> pd.Series:
    """Accuracy that an average gains by normalisation statistics of its own, over those of the last iterate."""
    arm = f"constant {average}"
    return score(frames, model, arm, "accuracy") - score(frames, model, arm, "accuracy", statistics="last")


def effects(frames: Frames, row: str, ema: str) -> list[Effect]:
    """Every claim's effect by seed, and those of its controls."""
    found = []
    for at in comparisons(frames, row, ema):
        found += evidence.effects(at.claim, advantage(frames, at))
        if not at.equal:
            found += evidence.effects(at.claim, same_arm(frames, at), "same_arm")
            if (at.model, at.score) == ("mlp", "accuracy"):
                found += evidence.effects(at.claim, advantage(frames, at, "shuffled"), "shuffled_labels")
    if row == "ema":
        own = Comparison("ema", "own_last", "mlp", "accuracy", f"constant {ema}", "constant last")
        found += evidence.effects(INTERACTION, interaction(frames, ema))
        found += evidence.effects(INTERACTION, same_arm(frames, own), "same_arm")
        found += evidence.effects(INTERACTION, interaction(frames, ema, "shuffled"), "shuffled_labels")
    return found + geometry.effects(frames, row, ema)


def gates(frames: Frames, row: str, ema: str) -> list[GateValue]:
    """What every measured gate of every claim was found to be."""
    arms, found = frames["tuned"], []
    for at in comparisons(frames, row, ema):
        found += evidence.gates(at.claim, tuning.gates(arms[arms.model == at.model], [at.arm, at.control]))
    if row == "ema":
        names = [f"{schedule} {average}" for schedule in ("constant", FALLING) for average in (ema, "last")]
        found += evidence.gates(INTERACTION, tuning.gates(arms[arms.model == "mlp"], names))
    baseline = {model: f"{best_decayed(frames, model)} last" for model in arms.model.unique()}
    return found + geometry.gates(frames, row, ema, baseline)


# What the notebooks found


def findings(frames: Frames, row: str, ema: str) -> list[Finding]:
    """Every contrast of the row, the scores of its arms, and controls."""
    found = []
    for at in comparisons(frames, row, ema):
        if at.name != "like_decay":  # the same numbers as `decayed`
            quantity = f"{at.score}, better by: {at.arm} than {at.control}"
            found.append(_finding(row, at.model, quantity, advantage(frames, at)))
    for model in (name for name in BEDS if name in set(frames["tuned"].model)):
        found += _of_bed(frames, row, ema, model)
    if row == "ema":
        for schedule in ("constant", FALLING):
            quantity = f"accuracy, better by: {schedule} {ema} than {schedule} last"
            if schedule != "constant":
                found.append(_finding(row, "mlp", quantity, gain(frames, schedule, ema)))
        found.append(
            _finding(row, "mlp", f"accuracy, that gain at a constant rate minus {FALLING}", interaction(frames, ema))
        )
    found += [_finding(row, *rest) for rest in geometry.findings(frames, row, ema)]
    return [one for one in found if one.n]


def _of_bed(frames: Frames, row: str, ema: str, model: str) -> Iterator[Finding]:
    tuned = frames["tuned"][frames["tuned"].model == model]
    for arm in tuned.arm:
        average = arm.split(" ")[1]
        if average == "last" or average.startswith(row):
            for kind, (column, sign) in SCORES.items():
                yield _finding(row, model, f"{column} of {arm}, own peak", sign * score(frames, model, arm, kind))
    average = "swa" if row == "swa" else ema
    for of in dict.fromkeys(("last", average)):
        for kind in SCORES:
            quantity = f"{kind}, better by: {average} than last iterate of the same run, peak of {of}"
            yield _finding(row, model, quantity, same_run(frames, model, average, of, kind))
    quantity = f"accuracy, better by: statistics recomputed than those of the last iterate, {average}"
    yield _finding(row, model, quantity, stale(frames, model, average))


def _finding(row: str, model: str, quantity: str, values: pd.Series) -> Finding:
    return evidence.finding(row, model, quantity, values, NOTEBOOKS[row], TABLE)
