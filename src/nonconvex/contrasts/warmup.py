"""What the study of warm-up says about its claims: rates that become usable, sharp regions, and second moments.

Scores are negated test errors or losses, so that better is larger; arms are compared seed by seed. Frames hold the
study's records by file name: tuning, tuned, runs, early, matched, moments, updates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence, tuning
from nonconvex.records import Effect, Finding, GateValue

ROW, PROSE, NOTEBOOK = "warmup", "second_moments", "strategy_warmup"
NONE, SHORT, LONG = "none", "warm5", "warm20"
BEDS = {"mlp": "mlp", "mlp_sgd": "mlp", "transformer": "transformer"}  # bed -> the model that claims name
TOLERANCE = {"test_error": 0.02, "test_loss": 0.05}  # how far from the best a usable rate may end
RECOVERED = 0.5  # share of a warm-up's gain that what it is owed to should recover
CLAIMED = {  # row -> short name -> models; SGD's are those of the MLP that end in _sgd
    ROW: {
        "early_sharpness": ("mlp", "transformer"),
        **dict.fromkeys(("early_sharpness_long", "early_sharpness_sgd", "early_preconditioned"), ("mlp",)),
        **dict.fromkeys(("spike", "end_sharpness", "tuned_score_sgd", "usable_rate_long_sgd"), ("mlp",)),
        **dict.fromkeys(("usable_rate", "usable_rate_long", "tuned_score", "high_rate"), ("mlp", "transformer")),
    },
    PROSE: {
        **dict.fromkeys(("variation", "first_update", "rectified", "gradient_initialised", "restarted"), ("mlp",)),
        "preaccumulated": ("mlp", "transformer"),
        "adam_over_sgd": ("mlp",),
    },
}
Frames = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Evidence:
    """A claim: effects by seed, those of its controls, and the values of its measured gates."""

    claim: str
    values: pd.Series
    same_arm: pd.Series | None = None
    shuffled: pd.Series | None = None
    gates: Mapping[str, float] = field(default_factory=dict)


def effects(frames: Frames) -> list[Effect]:
    """Every claim's effect by seed, and those of its controls."""
    found = []
    for one in claimed(frames):
        found += evidence.effects(one.claim, one.values)
        found += [] if one.same_arm is None else evidence.effects(one.claim, one.same_arm, "same_arm")
        found += [] if one.shuffled is None else evidence.effects(one.claim, one.shuffled, "shuffled_labels")
    return found


def gates(frames: Frames) -> list[GateValue]:
    """What every measured gate of every claim was found to be."""
    return [value for one in claimed(frames) for value in evidence.gates(one.claim, one.gates)]


def claimed(frames: Frames) -> list[Evidence]:
    """The evidence on claims that were registered; the rest is for findings alone."""
    names = {f"{row}.{name}.{model}" for row, of in CLAIMED.items() for name, models in of.items() for model in models}
    return [one for one in evidences(frames) if one.claim in names]


def evidences(frames: Frames) -> Iterator[Evidence]:
    """Everything that the frames say about the claims, bed by bed."""
    for bed in BEDS:
        if bed in set(frames["tuned"].model):
            yield from scores_of(frames, bed)
            yield from landscape_of(frames, bed)
    if len(frames["moments"]):
        yield from moments_of(frames)
    for bed in ("mlp", "transformer"):
        if bed in set(frames["tuned"].model):
            yield from mechanisms_of(frames, bed)
    if {"mlp", "mlp_sgd"} <= set(frames["tuned"].model):
        yield adam_over_sgd(frames)


def named(row: str, name: str, bed: str) -> str:
    """`<row>.<name>.<model>`; what is trained by SGD where Adam is too says so."""
    return f"{row}.{name}{'_sgd' if bed.endswith('_sgd') else ''}.{BEDS[bed]}"


# Scores


def measured_by(frames: Frames, bed: str) -> str:
    """The column that scores a bed: the test's counterpart of its tuning criterion."""
    arms = frames["tuned"]
    return arms[arms.model == bed].criterion.iloc[0].replace("validation", "test")


def tuned_rate(frames: Frames, bed: str, arm: str) -> float:
    return float(frames["tuned"].set_index(["model", "arm"]).rate[bed, arm])


def high_rate(frames: Frames, bed: str) -> float:
    """The rate at which curvature was followed: about three times the tuned one without warm-up."""
    return float(frames["early"].set_index("bed").rate.loc[[bed]].iloc[0])


def runs_of(frames: Frames, bed: str, arm: str, draw: str = "own", labels: str = "true") -> pd.DataFrame:
    rows = frames["runs"]
    return rows[(rows.bed == bed) & (rows.arm == arm) & (rows.draw == draw) & (rows.labels == labels)]


def score(frames: Frames, bed: str, arm: str, rate: float, draw: str = "own", labels: str = "true") -> pd.Series:
    """One arm's score at a rate by seed, better being larger."""
    rows = runs_of(frames, bed, arm, draw, labels)
    return -rows[np.isclose(rows.rate, rate)].set_index("seed")[measured_by(frames, bed)]


def tuned_score(frames: Frames, bed: str, arm: str, draw: str = "own", labels: str = "true") -> pd.Series:
    return score(frames, bed, arm, tuned_rate(frames, bed, arm), draw, labels)


def gain(frames: Frames, bed: str, arm: str, labels: str = "true") -> pd.Series:
    """What an arm's score at the high rate has over that of no warm-up, by seed."""
    high = high_rate(frames, bed)
    return score(frames, bed, arm, high, labels=labels) - score(frames, bed, NONE, high, labels=labels)


def again(frames: Frames, bed: str, rate: float) -> pd.Series:
    """No warm-up against itself: from other weights, in another order of the data."""
    return score(frames, bed, NONE, rate, draw="other") - score(frames, bed, NONE, rate)


def scores_of(frames: Frames, bed: str) -> Iterator[Evidence]:
    """Claims on how well a bed ends: at own tuned rates, at the high rate, and up to which rate."""
    rate, high = tuned_rate(frames, bed, NONE), high_rate(frames, bed)
    labelled = bed == "mlp"
    yield Evidence(
        named(ROW, "tuned_score", bed),
        tuned_score(frames, bed, SHORT) - tuned_score(frames, bed, NONE),
        again(frames, bed, rate),
        tuned_score(frames, bed, SHORT, labels="shuffled") - tuned_score(frames, bed, NONE, labels="shuffled")
        if labelled
        else None,
        tuned_gates(frames, bed, [NONE, SHORT]),
    )
    yield Evidence(
        named(ROW, "high_rate", bed),
        gain(frames, bed, LONG),
        again(frames, bed, high),
        gain(frames, bed, LONG, "shuffled") if labelled else None,
        tuned_gates(frames, bed, [NONE]),
    )
    for name, arm in (("usable_rate", SHORT), ("usable_rate_long", LONG)):
        yield Evidence(
            named(ROW, name, bed),
            usable_gain(frames, bed, arm),
            usable_again(frames, bed),
            gates=tuned_gates(frames, bed, [NONE, arm]) | edge_gate(frames, bed, [NONE, arm]),
        )


def arms_of(frames: Frames, bed: str) -> list[str]:
    """The arms that were tuned: no warm-up and every length of it."""
    return list(frames["tuned"][frames["tuned"].model == bed].arm)


def tuned_gates(frames: Frames, bed: str, arms: Sequence[str]) -> dict[str, float]:
    return tuning.gates(frames["tuned"][frames["tuned"].model == bed], arms)


# The largest usable rate


def responses(frames: Frames, bed: str, arm: str, draw: str = "own") -> pd.DataFrame:
    """Score by seed and rate, the rates rising."""
    rows = runs_of(frames, bed, arm, draw)
    return -rows.pivot(index="seed", columns="rate", values=measured_by(frames, bed)).sort_index(axis=1)


def usable(frames: Frames, bed: str, arm: str, draw: str = "own") -> pd.DataFrame:
    """By seed, log10 of the largest usable rate (`edge`), and whether an unusable one above it was `found`.

    Usable: the score is within the tolerance of that of no warm-up at its tuned rate, same seed and draw.
    """
    limits = tuned_score(frames, bed, NONE, draw) - TOLERANCE[measured_by(frames, bed)]
    rows = responses(frames, bed, arm, draw)
    found = [last_within(row, limits.get(seed, np.nan)) for seed, row in rows.iterrows()]
    return pd.DataFrame(found, columns=["edge", "found"], index=rows.index)


def last_within(scores: pd.Series, limit: float) -> tuple[float, bool]:
    """log10 of the rate (the index) at which scores last leave [limit, inf), and whether they do.

    Between two rates of the grid scores are taken as straight in log rate; a diverged run's (NaN) is a step.
    """
    rates, values = np.log10(scores.index.to_numpy(float)), scores.to_numpy(float)
    inside = np.flatnonzero(values >= limit)
    if not len(inside):
        return np.nan, False
    at = inside[-1]
    if at == len(values) - 1:
        return rates[at], False
    # x = x_k + (s_k - limit) / (s_k - s_(k+1)) (x_(k+1) - x_k)
    share = (values[at] - limit) / (values[at] - values[at + 1])
    return rates[at] + np.nan_to_num(share) * (rates[at + 1] - rates[at]), True


def usable_gain(frames: Frames, bed: str, arm: str) -> pd.Series:
    return usable(frames, bed, arm).edge - usable(frames, bed, NONE).edge


def usable_again(frames: Frames, bed: str) -> pd.Series:
    """No warm-up against itself: from other weights, in another order of the data."""
    return usable(frames, bed, NONE, "other").edge - usable(frames, bed, NONE).edge


def edge_gate(frames: Frames, bed: str, arms: Sequence[str]) -> dict[str, float]:
    return {"edge_found": float(np.mean([usable(frames, bed, arm).found.mean() for arm in arms]))}


# Sharp regions


def highest(frames: Frames, bed: str, arm: str, column: str = "sharpness") -> pd.Series:
    """ln of the largest reading in the first tenth of the runs at the high rate, by seed; NaN where one is missing."""
    rows = frames["early"]
    values = np.log(rows[column].where(rows[column] > 0))[(rows.bed == bed) & (rows.arm == arm)]
    return values.groupby(rows.seed).agg(lambda one: one.max(skipna=False))


def spike(frames: Frames, bed: str, arm: str, draw: str = "own") -> pd.Series:
    """Largest rise of the minibatch loss in the first tenth of the runs at the high rate, by seed."""
    rows = runs_of(frames, bed, arm, draw)
    return rows[np.isclose(rows.rate, high_rate(frames, bed))].set_index("seed").spike


def matched(frames: Frames, bed: str, arm: str, column: str = "sharpness") -> pd.Series:
    """ln of a column where the runs' training losses are nearest to the level, by seed."""
    rows = frames["matched"]
    rows = rows[(rows.bed == bed) & (rows.arm == arm)].set_index("seed")[column]
    return np.log(rows.where(rows > 0))


def neighbours(values: pd.Series) -> pd.Series:
    """Odd seeds minus the even ones before them: two runs of one arm that share nothing."""
    pairs = [seed for seed in values.index if seed % 2 and seed - 1 in values.index]
    return pd.Series({seed: values[seed] - values[seed - 1] for seed in pairs}, dtype=float)


def landscape_of(frames: Frames, bed: str) -> Iterator[Evidence]:
    """Claims on curvature and loss early in the run, and on curvature where losses are equal."""
    early = frames["early"][frames["early"].bed == bed]
    followed, adam = set(early.arm), early.preconditioned.notna().any()
    gate = {"residual": float(early.residual.max(skipna=False))}
    for name, arm in (("early_sharpness", SHORT), ("early_sharpness_long", LONG)):
        if arm in followed:
            without = highest(frames, bed, NONE)
            yield Evidence(named(ROW, name, bed), without - highest(frames, bed, arm), neighbours(without), gates=gate)
    if adam:
        without = highest(frames, bed, NONE, "preconditioned")
        values = without - highest(frames, bed, SHORT, "preconditioned")
        gate = {"residual": float(early.preconditioned_residual.max(skipna=False))}
        yield Evidence(named(ROW, "early_preconditioned", bed), values, neighbours(without), gates=gate)
    twins = spike(frames, bed, NONE, "other") - spike(frames, bed, NONE)
    yield Evidence(named(ROW, "spike", bed), spike(frames, bed, NONE) - spike(frames, bed, SHORT), twins)
    if bed in set(frames["matched"].bed):
        yield end_sharpness(frames, bed)


def end_sharpness(frames: Frames, bed: str) -> Evidence:
    """How much sharper a run without warm-up is than one with it, at the same training loss and peak rate."""
    rows = frames["matched"]
    losses = matched(frames, bed, NONE, "train_loss") - matched(frames, bed, SHORT, "train_loss")
    residual = rows[(rows.bed == bed) & rows.arm.isin([NONE, SHORT])].residual.max(skipna=False)
    without = matched(frames, bed, NONE)
    gates = {"residual": float(residual), "matched_loss": float(abs(losses.mean(skipna=False)))}
    return Evidence(
        named(ROW, "end_sharpness", bed), without - matched(frames, bed, SHORT), neighbours(without), gates=gates
    )


# Second moments


def variations(frames: Frames, weights: str) -> pd.DataFrame:
    """How far second moments differ between orders of the data: a row per seed, a column per step."""
    rows = frames["moments"]
    return rows[rows.weights == weights].pivot(index="seed", columns="step", values="variation").sort_index(axis=1)


def moments_of(frames: Frames) -> Iterator[Evidence]:
    """Claims on Adam's second moments at the start of a run."""
    rows = variations(frames, "trained")
    gate = tuned_gates(frames, "mlp", [NONE])
    yield Evidence(
        f"{PROSE}.variation.mlp", rows.iloc[:, 0] - rows.iloc[:, -1], neighbours(rows.iloc[:, 0]), gates=gate
    )
    lengths = np.log(frames["updates"].pivot(index="seed", columns="arm", values="length"))
    yield Evidence(f"{PROSE}.first_update.mlp", lengths[NONE] - lengths.preaccumulated, neighbours(lengths[NONE]))


def recovered(frames: Frames, bed: str, variant: str) -> pd.Series:
    """Gain of a variant at the high rate minus half of the long warm-up's, by seed."""
    # d = (s_variant - s_none) - (s_warm - s_none) / 2
    return gain(frames, bed, variant) - RECOVERED * gain(frames, bed, LONG)


def lost(frames: Frames, bed: str) -> pd.Series:
    """Half of the long warm-up's gain minus what is left of it when Adam is restarted at its end."""
    return RECOVERED * gain(frames, bed, LONG) - gain(frames, bed, "restarted")


def mechanisms_of(frames: Frames, bed: str) -> Iterator[Evidence]:
    """Claims on what of a warm-up's gain at the high rate is owed to second moments."""
    how: dict[str, Callable[[], pd.Series]] = {
        name: lambda name=name: recovered(frames, bed, name)
        for name in ("preaccumulated", "rectified", "gradient_initialised")
    }
    for name, values in (how | {"restarted": lambda: lost(frames, bed)}).items():
        yield Evidence(
            f"{PROSE}.{name}.{bed}",
            values(),
            again(frames, bed, high_rate(frames, bed)),
            gates=tuned_gates(frames, bed, [NONE]) | gain_gate(frames, bed),
        )


def gain_gate(frames: Frames, bed: str) -> dict[str, float]:
    """Mean gain of the long warm-up at the high rate, in units of the tolerance."""
    return {"warmup_gain": float(gain(frames, bed, LONG).mean() / TOLERANCE[measured_by(frames, bed)])}


def adam_over_sgd(frames: Frames) -> Evidence:
    """How much more the largest usable rate gains from a long warm-up under Adam than under SGD, which has none."""
    gates = {
        name: min(edge_and_tuning(frames, bed)[name] for bed in ("mlp", "mlp_sgd"))
        for name in ("rate_interior", "equal_tuning", "edge_found")
    }
    values = usable_gain(frames, "mlp", LONG) - usable_gain(frames, "mlp_sgd", LONG)
    twins = usable_again(frames, "mlp") - usable_again(frames, "mlp_sgd")
    return Evidence(f"{PROSE}.adam_over_sgd.mlp", values, twins, gates=gates)


def edge_and_tuning(frames: Frames, bed: str) -> dict[str, float]:
    return tuned_gates(frames, bed, [NONE, LONG]) | edge_gate(frames, bed, [NONE, LONG])


# What the notebook found


def findings(frames: Frames) -> list[Finding]:
    """Every contrast, every arm's score at its tuned and at the high rate, and its largest usable rate."""
    found = [_finding(one.claim, "effect as in the claim", one.values) for one in evidences(frames)]
    for bed in (bed for bed in BEDS if bed in set(frames["tuned"].model)):
        under = "SGD" if bed.endswith("_sgd") else "Adam"
        column, high = measured_by(frames, bed), high_rate(frames, bed)
        for arm in arms_of(frames, bed):
            claim = f"{ROW}.{arm}.{BEDS[bed]}"
            found.append(_finding(claim, f"{column} at the tuned rate, {under}", -tuned_score(frames, bed, arm)))
            found.append(_finding(claim, f"{column} at the high rate, {under}", -score(frames, bed, arm, high)))
            found.append(_finding(claim, f"log10 largest usable rate, {under}", usable(frames, bed, arm).edge))
        for arm in ("preaccumulated", "gradient_initialised", "rectified", "restarted"):
            values = -score(frames, bed, arm, high)
            found.append(_finding(f"{PROSE}.{arm}.{BEDS[bed]}", f"{column} at the high rate, {under}", values))
    for weights in ("frozen", "trained"):
        for step, values in variations(frames, weights).items():
            found.append(
                _finding(f"{PROSE}.step {step}.mlp", f"variation of second moments, {weights} weights", values)
            )
    return [one for one in found if one.n]


def _finding(claim: str, quantity: str, values: pd.Series) -> Finding:
    row, name, model = claim.split(".")
    table = "strategies" if row == ROW else "prose"
    return evidence.finding(row, model, f"{name}: {quantity}", values, NOTEBOOK, table)
