"""What the study of progressive learning says about its claims: the order of rates, each half of a schedule, geometry.

An order is compared by three scores of a run's end, each so that better is positive; two arms are compared seed by
seed. Frames hold the study's records by file name: tuning, tuned, runs, curvature.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence, tuning
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK, TABLE = "progressive_learning", "factor_progressive_learning", "factors"
SHAPES = ("wsd", "warmup_cosine")  # the arms with warm-up and decay
SCORES = {  # what is compared -> column, sign in which more is better
    "accuracy": ("test_error", -1),
    "loss": ("test_loss", -1),
    "train_loss": ("train_loss", -1),
}
BEST = "best"  # the arm, on either side, that does best on the tuning seeds
Frames = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Comparison:
    """A claim: `arm` against `control`, by `score`, both at their own tuned peaks or both at the arm's."""

    name: str
    model: str
    score: str
    arm: str
    control: str
    accounting: str = "tuned"

    @property
    def claim(self) -> str:
        return f"{ROW}.{self.name}_{self.score}.{self.model}"


PAIRS = {  # short name -> arm, control
    "best": (BEST, BEST),
    "constant": ("wsd", "constant"),
    "reversed": ("wsd", "wsd_reversed"),
    "shuffled": ("wsd", "wsd_shuffled"),
    "cosine_reversed": ("warmup_cosine", "warmup_cosine_reversed"),
    "cosine_shuffled": ("warmup_cosine", "warmup_cosine_shuffled"),
    "rising": ("warmup_cosine_decay_only", "rising"),
    "warmup_adds": ("wsd", "wsd_decay_only"),
    "decay_adds": ("wsd", "warmup_only"),
}
COMMON = {"constant": "constant", "mean": "wsd_mean", "reversed": "wsd_reversed", "shuffled": "wsd_shuffled"}
CLAIMED = {  # model -> short name -> scores
    "mlp": {
        "best": ("accuracy", "loss", "train_loss"),
        **dict.fromkeys(("constant", "reversed", "shuffled", "warmup_adds", "decay_adds"), ("accuracy", "train_loss")),
        **dict.fromkeys(("cosine_reversed", "cosine_shuffled", "rising"), ("accuracy",)),
    },
    "resnet": {
        "best": ("accuracy", "train_loss"),
        **dict.fromkeys(("constant", "reversed", "shuffled"), ("accuracy",)),
    },
    "transformer": {
        "best": ("loss", "train_loss"),
        **dict.fromkeys(("constant", "reversed", "shuffled", "warmup_adds", "decay_adds"), ("loss",)),
    },
}


def comparisons(frames: Frames) -> Iterator[Comparison]:
    """Every comparison that is claimed on a bed that the frames have; `best` arms by name."""
    for model, by_name in CLAIMED.items():
        if model not in set(frames["tuned"].model):
            continue
        for name, scores in by_name.items():
            arm, control = best_pair(frames, model) if name == "best" else PAIRS[name]
            yield from (Comparison(name, model, score, arm, control) for score in scores)
        if model == "mlp":
            yield from (Comparison(f"common_{n}", model, "accuracy", "wsd", c, "common") for n, c in COMMON.items())


def best_pair(frames: Frames, model: str) -> tuple[str, str]:
    """The best arm with warm-up and decay and the best control, both on the tuning seeds."""
    found = frames["tuned"].set_index("model").loc[[model]].arm
    controls = [arm for arm in found if arm == "constant" or arm.endswith(("_reversed", "_shuffled"))]
    return best(frames, model, [arm for arm in found if arm in SHAPES]), best(frames, model, controls)


def best(frames: Frames, model: str, arms: list[str]) -> str:
    """The arm of least mean tuning criterion at its own tuned rate; the first of equals."""
    return min(arms, key=lambda arm: (criterion(frames, model, arm), arms.index(arm)))


def criterion(frames: Frames, model: str, arm: str) -> float:
    """Mean over the tuning seeds of the criterion at the rate that it chose; infinite where a seed diverged."""
    tuned = frames["tuned"].query("model == @model and arm == @arm").iloc[0]
    trials = frames["tuning"].query("model == @model and arm == @arm and rate == @tuned.rate")
    mean = trials[tuned.criterion].mean(skipna=False)
    return float(mean) if np.isfinite(mean) else np.inf


def score(frames: Frames, at: Comparison, arm: str, draw: str = "own", labels: str = "true") -> pd.Series:
    """One arm's score by seed, better being larger. At a common peak the schedule itself is at its own tuned one."""
    rows = frames["runs"]
    accounting = "tuned" if arm == at.arm else at.accounting
    chosen = (rows.model == at.model) & (rows.accounting == accounting) & (rows.arm == arm)
    column, sign = SCORES[at.score]
    return sign * rows[chosen & (rows.draw == draw) & (rows.labels == labels)].set_index("seed")[column]


def advantage(frames: Frames, at: Comparison, labels: str = "true") -> pd.Series:
    """How much better the arm is than its control, by seed."""
    return score(frames, at, at.arm, labels=labels) - score(frames, at, at.control, labels=labels)


def same_arm(frames: Frames, at: Comparison) -> pd.Series:
    """How much better the schedule of the arm's shape is than itself from other weights in another order of data."""
    shape = at.arm.removesuffix("_decay_only")
    return score(frames, at, shape, draw="own") - score(frames, at, shape, draw="other")


def effects(frames: Frames) -> list[Effect]:
    """Every claim's effect by seed, and those of its controls."""
    found = []
    for at in comparisons(frames):
        found += evidence.effects(at.claim, advantage(frames, at))
        found += evidence.effects(at.claim, same_arm(frames, at), "same_arm")
        if (at.model, at.score) == ("mlp", "accuracy"):
            found += evidence.effects(at.claim, advantage(frames, at, "shuffled"), "shuffled_labels")
    for name, (values, _) in geometry(frames).items():
        found += evidence.effects(f"{ROW}.{name}.mlp", values)
    return found


def gates(frames: Frames) -> list[GateValue]:
    """What every measured gate of every claim was found to be."""
    found = []
    for at in comparisons(frames):
        arms = frames["tuned"][frames["tuned"].model == at.model]
        names = [at.arm] if at.accounting == "common" else [at.arm, at.control]
        values = tuning.gates(arms, names)
        if at.accounting == "common":
            values.pop("equal_tuning")  # nothing was tuned for the controls
        found += evidence.gates(at.claim, values)
    for name, (_, arm) in geometry(frames).items():
        found += evidence.gates(f"{ROW}.{name}.mlp", geometry_gates(frames, arm))
    return found


# The landscape along a run


def log_sharpness(frames: Frames, arm: str) -> pd.DataFrame:
    """ln λ_max of an arm's runs with their step and phase; NaN where it is not positive."""
    rows = frames["curvature"][frames["curvature"].arm == arm]
    return rows.assign(value=np.log(rows.sharpness.where(rows.sharpness > 0)))


def by_phase(frames: Frames, arm: str) -> pd.DataFrame:
    """Mean ln λ_max in each phase, a row per seed; NaN where a reading is missing."""
    rows = log_sharpness(frames, arm)
    means = rows.groupby(["seed", "phase"]).value.agg(lambda values: values.mean(skipna=False)).unstack("phase")
    return means.reindex(columns=["warmup", "stable", "decay"])


def early(frames: Frames) -> pd.Series:
    """ln λ_max before the first update minus that at the end of the warm-up, along WSD."""
    rows = log_sharpness(frames, "wsd")
    after = rows[rows.phase == "stable"].sort_values("step").groupby("seed").head(1).set_index("seed").value
    return rows[rows.step == 0].set_index("seed").value - after


def late(frames: Frames) -> pd.Series:
    """ln λ_max in the last fifth of a run at a constant rate minus that in its middle, where WSD is at its peak."""
    means = by_phase(frames, "constant")
    return means.decay - means.stable


def match(frames: Frames) -> pd.Series:
    """The smaller of the two: how much sharper than its middle are beginning and end of a run at a constant rate."""
    means = by_phase(frames, "constant")
    return means[["warmup", "decay"]].sub(means.stable, axis=0).min(axis=1, skipna=False)


def geometry(frames: Frames) -> dict[str, tuple[pd.Series, str]]:
    """Claims on curvature: effects by seed, and the arm whose runs they are read from."""
    return {
        "geometry_match": (match(frames), "constant"),
        "early_sharpness": (early(frames), "wsd"),
        "late_sharpness": (late(frames), "constant"),
    }


def geometry_gates(frames: Frames, arm: str) -> dict[str, float]:
    tuned, rows = frames["tuned"], frames["curvature"]
    interior = tuned[(tuned.model == "mlp") & (tuned.arm == arm)].interior.min()
    return {"rate_interior": float(interior), "residual": float(rows[rows.arm == arm].residual.max(skipna=False))}


def stability(frames: Frames, momentum: float) -> pd.Series:
    """Largest share η_t λ_t / (2 + 2 β) of heavy ball's full-batch threshold along followed runs, by arm and seed."""
    rows = frames["curvature"]
    share = rows.rate * rows.sharpness / (2 + 2 * momentum)
    return share.groupby([rows.arm, rows.seed]).max()


# What the notebook found


def findings(frames: Frames) -> list[Finding]:
    """Every contrast, every arm's scores, and curvature by phase."""
    found = []
    for at in comparisons(frames):
        peak = ", common peak" if at.accounting == "common" else ""
        quantity = f"{at.score}, better by: {at.arm} than {at.control}{peak}"
        if at.name != "best":
            found.append(_finding(at.model, quantity, advantage(frames, at)))
        else:
            found.append(_finding(at.model, f"{quantity} (best on tuning seeds)", advantage(frames, at)))
    runs = frames["runs"]
    own = runs[(runs.labels == "true") & (runs.draw == "own")]
    for (model, accounting, arm), rows in own.groupby(["model", "accounting", "arm"], sort=False):
        for column in ("test_error", "test_loss", "train_loss"):
            found.append(_finding(model, f"{column} of {arm}, {accounting} peak", rows[column]))
    for arm in sorted(set(frames["curvature"].arm)):
        for phase, values in by_phase(frames, arm).items():
            found.append(_finding("mlp", f"mean ln lambda_max, {phase} phase, {arm}", values))
    return [one for one in found if one.n]


def _finding(model: str, quantity: str, values: pd.Series) -> Finding:
    return evidence.finding(ROW, model, quantity, values, NOTEBOOK, TABLE)
