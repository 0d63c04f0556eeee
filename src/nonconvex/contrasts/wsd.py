"""What the study of WSD says about its claims: equal scores, flexibility, lengths and shapes of decay, what is the key.

Scores are signed so that better is larger: minus the test error of the MLP and the ResNet, minus the test loss of the
transformer. Arms are compared seed by seed. Frames hold the study's records by file name: tuning, tuned, runs, windows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nonconvex import statistics
from nonconvex.contrasts import evidence, tuning
from nonconvex.records import Effect, Finding, GateValue

NOTEBOOK = "schedule_wsd"
TABLES = {"wsd": "schedules", "horizon": "prose"}  # row -> its table
SCORES = {"mlp": "test_error", "resnet": "test_error", "transformer": "test_loss"}
NAMES = ("short", "middle", "long")
DECAY = 0.2  # share of the run, the source text's figure
SHORTEST = 0.025  # MiniCPM's decay that is too short
TOLERATED = 0.01  # accuracy that a claim of being no worse may lose; for the transformer twice as many nats
NEAR = 2.1  # factor around the text's length and the tuned peak
Frames = Mapping[str, pd.DataFrame]


# Scores by seed


def horizons(frames: Frames, model: str) -> dict[str, int]:
    """The three horizons of a bed in steps, by name."""
    runs = frames["runs"]
    return dict(zip(NAMES, sorted(runs[(runs.model == model) & (runs.arm == "branch")].planned.unique()), strict=True))


def score(frames: Frames, model: str, labels: str = "true", **where: object) -> pd.Series:
    """The score of one arm by seed; `where` are the columns of `HorizonRun` that choose it."""
    rows, where = frames["runs"], {"model": model, "labels": labels, "order": "own"} | where
    chosen = np.logical_and.reduce([rows[name] == value for name, value in where.items()])
    return -rows[chosen].set_index("seed")[SCORES[model]]


def branch(frames: Frames, model: str, name: str, labels: str = "true", **where: object) -> pd.Series:
    """A decay from the trunk at a horizon; the text's unless `where` says otherwise."""
    where = {"decay": DECAY, "shape": "cosine"} | where
    return score(frames, model, labels, arm="branch", planned=horizons(frames, model)[name], **where)


def planned(frames: Frames, model: str, arm: str, name: str, labels: str = "true", at: str | None = None) -> pd.Series:
    """An arm that is planned for a horizon, at its end or where another horizon ends."""
    steps = horizons(frames, model)
    return score(frames, model, labels, arm=arm, planned=steps[name], at=steps[at or name])


def other_order(frames: Frames, model: str, names: tuple[str, ...]) -> pd.Series:
    """The text's decay minus itself on other minibatches, mean over horizons: two runs of one arm."""
    return _mean(
        branch(frames, model, name) - branch(frames, model, name, order="other", at=horizons(frames, model)[name])
        for name in names
    )


def _mean(values: Iterator[pd.Series]) -> pd.Series:
    return pd.concat(list(values), axis=1).mean(axis=1, skipna=False)


# Contrasts: functions of frames, bed and labels


def equal(name: str, arm: str = "warmup_cosine") -> Callable:
    """WSD from the trunk minus a run planned for the horizon."""
    return lambda frames, model, labels="true": (
        branch(frames, model, name, labels) - planned(frames, model, arm, name, labels)
    )


def on_average(arm: str, allowance: float = 0.0) -> Callable:
    """The same, mean over the three horizons, plus an allowance."""
    return lambda frames, model, labels="true": (
        _mean(equal(name, arm)(frames, model, labels) for name in NAMES) + allowance
    )


def flexible(name: str) -> Callable:
    """A branch from the trunk minus the same schedule planned and tuned for the horizon."""
    return equal(name, "wsd")


def halfway(name: str) -> Callable:
    """WSD decayed by a horizon minus a cosine run stopped there, halfway through its plan."""
    plan = NAMES[NAMES.index(name) + 1]
    return lambda frames, model, labels="true": (
        branch(frames, model, name, labels) - planned(frames, model, "warmup_cosine", plan, labels, name)
    )


def stopped(frames: Frames, model: str, labels: str = "true") -> pd.Series:
    """The same, mean of the short and the middle horizon."""
    return _mean(halfway(name)(frames, model, labels) for name in ("short", "middle"))


def extended(frames: Frames, model: str, labels: str = "true") -> pd.Series:
    """WSD decayed by the long horizon minus a cosine run that was planned for half of it and restarted at its end."""
    again = planned(frames, model, "restarted", "middle", labels, "long")
    return branch(frames, model, "long", labels) - again


def length(share: float) -> Callable:
    """The text's decay minus one over another share of the run, at the middle horizon."""
    return lambda frames, model, labels="true": (
        branch(frames, model, "middle", labels) - branch(frames, model, "middle", labels, decay=share)
    )


def undecayed(frames: Frames, model: str, labels: str = "true") -> pd.Series:
    """The text's decay minus the trunk where it ends, at the middle horizon."""
    steps = horizons(frames, model)["middle"]
    return branch(frames, model, "middle", labels) - score(frames, model, labels, arm="trunk", at=steps)


def warmup(arm: str) -> Callable:
    """WSD with the text's warm-up minus WSD with another, at the middle horizon."""
    return equal("middle", arm)


def shape(name: str) -> Callable:
    """A decay along another shape minus one along the text's cosine, from the same checkpoint."""
    return lambda frames, model, labels="true": (
        branch(frames, model, "middle", labels, shape=name) - branch(frames, model, "middle", labels)
    )


# What varies more


def by_length(frames: Frames, model: str, order: str = "own") -> pd.DataFrame:
    """Scores (seed, share) of the cosine decays of every length at the middle horizon."""
    rows = frames["runs"]
    at = horizons(frames, model)["middle"]
    rows = rows[(rows.model == model) & (rows.labels == "true") & (rows.arm == "branch") & (rows.planned == at)]
    rows = rows[(rows["shape"] == "cosine") & (rows.order == order)]
    return -rows.pivot(index="seed", columns="decay", values=SCORES[model])


def by_peak(frames: Frames, model: str) -> pd.DataFrame:
    """Scores (seed, peak rate) of the text's WSD for the middle horizon at every rate of the grid."""
    rows, own = frames["runs"], branch(frames, model, "middle")
    rows = rows[(rows.model == model) & (rows.labels == "true") & (rows.arm == "other_peak")]
    others = -rows.pivot(index="seed", columns="rate", values=SCORES[model])
    return others.assign(**{"own": own}).rename(columns={"own": peak(frames, model)}).sort_index(axis=1)


def peak(frames: Frames, model: str) -> float:
    """The trunk's rate."""
    arms = frames["tuned"]
    return float(arms[(arms.model == model) & (arms.arm == "wsd_middle")].rate.iloc[0])


def reach(table: pd.DataFrame) -> float:
    """Largest minus smallest mean score over the levels of a table (seed, level)."""
    means = table.mean()
    return float(means.max() - means.min())


def gap(first: pd.DataFrame, second: pd.DataFrame) -> pd.Series:
    """How much further the first table's means reach than the second's, as jackknife pseudo-values by seed.

    A level at which some seed diverged is left out of its table; tables of fewer than two levels or seeds give nothing.
    """
    first, second = (table.dropna(axis=1) for table in (first, second))
    seeds = first.index.intersection(second.index)
    if min(len(seeds), first.shape[1], second.shape[1]) < 2:
        return pd.Series(dtype=float)
    first, second = first.loc[seeds], second.loc[seeds]
    return pd.Series(statistics.pseudo_values(seeds, lambda kept: reach(first[kept]) - reach(second[kept])))


def near(table: pd.DataFrame, middle: float) -> pd.DataFrame:
    """The levels within a factor of two of `middle`."""
    return table.loc[:, [level for level in table.columns if max(level / middle, middle / level) < NEAR]]


def boundary(frames: Frames, model: str, labels: str = "true") -> pd.Series:
    """How much further scores reach over lengths of decay than over peak rates, each over all its levels."""
    return gap(by_length(frames, model), by_peak(frames, model))


def boundary_near(frames: Frames, model: str, labels: str = "true") -> pd.Series:
    """The same within a factor of two around the text's length and the tuned peak."""
    lengths, peaks = by_length(frames, model), by_peak(frames, model)
    return gap(near(lengths, DECAY), near(peaks, peak(frames, model)))


def same_reach(frames: Frames, model: str, wide: bool) -> pd.Series:
    """How much further scores reach over lengths of decay than over the same lengths on other minibatches."""
    pair = [by_length(frames, model, order) for order in ("own", "other")]
    return gap(*(pair if wide else (near(table, DECAY) for table in pair)))


# Claims


@dataclass(frozen=True)
class Contrast:
    """A claim `<row>.<name>` on each of `models`: its effect in words, the tuned arms behind it, and its controls.

    `same` are the horizons over which the text's decay is compared with itself on other minibatches, or `wide` or
    `near` for reaches; `shuffled` says whether the claim is about generalisation.
    """

    row: str
    name: str
    words: str
    models: tuple[str, ...]
    value: Callable
    tuned: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    shuffled: bool = False

    def claim(self, model: str) -> str:
        return f"{self.row}.{self.name}.{model}"

    def same_arm(self, frames: Frames, model: str) -> pd.Series:
        if self.same in (("wide",), ("near",)):
            return same_reach(frames, model, self.same == ("wide",))
        return other_order(frames, model, self.same)


def cosine_arms(*names: str, arm: str = "warmup_cosine") -> tuple[str, ...]:
    """The trunk's tuned arm and those that are planned for horizons."""
    return ("wsd_middle", *(f"{arm}_{name}" for name in names))


MLP, BEDS = ("mlp",), tuple(SCORES)
OVER = "WSD from the trunk than warm-up + cosine"
LOSS = ("mlp", "transformer")
CONTRASTS = (
    Contrast("wsd", "equal_short", f"{OVER}, short horizon", MLP, equal("short"), cosine_arms("short")),
    Contrast("wsd", "equal_long", f"{OVER}, long horizon", BEDS, equal("long"), cosine_arms("long")),
    Contrast("wsd", "not_worse", "", MLP, on_average("warmup_cosine", TOLERATED), cosine_arms(*NAMES)),
    Contrast("wsd", "not_worse", "", ("transformer",), on_average("warmup_cosine", 2 * TOLERATED), cosine_arms(*NAMES)),
    Contrast(
        "wsd",
        "equal_linear",
        "WSD from the trunk than warm-up + linear, mean of three horizons",
        MLP,
        on_average("warmup_linear"),
        cosine_arms(*NAMES, arm="warmup_linear"),
    ),
    Contrast(
        "wsd",
        "boundary_over_peak",
        "range over lengths of decay than over peak rates, all levels",
        MLP,
        boundary,
        cosine_arms(),
        ("wide",),
    ),
    Contrast(
        "wsd",
        "boundary_over_peak_near",
        "range over lengths of decay than over peak rates, within a factor of two",
        MLP,
        boundary_near,
        cosine_arms(),
        ("near",),
    ),
    Contrast(
        "horizon",
        "flexible_short",
        "WSD from the trunk than WSD planned for the short horizon",
        LOSS,
        flexible("short"),
        cosine_arms("short", arm="wsd"),
    ),
    Contrast(
        "horizon",
        "flexible_long",
        "WSD from the trunk than WSD planned for the long horizon",
        LOSS,
        flexible("long"),
        cosine_arms("long", arm="wsd"),
    ),
    Contrast(
        "horizon",
        "stopped",
        "WSD from the trunk than warm-up + cosine stopped at half its plan, mean of two horizons",
        BEDS,
        stopped,
        cosine_arms("middle", "long"),
        ("short", "middle"),
        True,
    ),
    Contrast(
        "horizon",
        "extended",
        "WSD from the trunk than warm-up + cosine restarted at the end of its plan, long horizon",
        MLP,
        extended,
        cosine_arms("middle"),
        ("long",),
        True,
    ),
    Contrast("horizon", "decay_40", "decay over 20 % of the run than over 40 %", MLP, length(0.4), cosine_arms()),
    Contrast("horizon", "decay_10", "decay over 20 % of the run than over 10 %", MLP, length(0.1), cosine_arms()),
    Contrast(
        "horizon",
        "decay_2",
        "decay over 20 % of the run than over 2.5 %",
        ("mlp", "resnet"),
        length(SHORTEST),
        cosine_arms(),
        ("middle",),
        True,
    ),
    Contrast(
        "horizon",
        "no_warmup",
        "WSD than WSD without warm-up",
        MLP,
        warmup("no_warmup"),
        cosine_arms("middle", arm="no_warmup"),
        ("middle",),
        True,
    ),
    Contrast(
        "horizon",
        "long_warmup",
        "WSD than WSD with twice its warm-up",
        MLP,
        warmup("long_warmup"),
        cosine_arms("middle", arm="long_warmup"),
    ),
    Contrast(
        "horizon",
        "sqrt",
        "decay along 1 - sqrt than along a cosine",
        LOSS,
        shape("sqrt"),
        cosine_arms(),
        ("middle",),
        True,
    ),
    Contrast(
        "horizon",
        "linear",
        "decay along a line than along a cosine",
        MLP,
        shape("linear"),
        cosine_arms(),
        ("middle",),
        True,
    ),
)
UNCLAIMED = (
    Contrast("wsd", "equal_middle", f"{OVER}, middle horizon", BEDS, equal("middle")),
    Contrast("wsd", "equal", f"{OVER}, mean of three horizons", BEDS, on_average("warmup_cosine")),
    Contrast("horizon", "stopped_short", f"{OVER} stopped at half its plan, short horizon", BEDS, halfway("short")),
    Contrast("horizon", "stopped_middle", f"{OVER} stopped at half its plan, middle horizon", BEDS, halfway("middle")),
    Contrast("horizon", "decay_5", "decay over 20 % of the run than over 5 %", BEDS, length(0.05)),
    Contrast("horizon", "decay_none", "decay over 20 % of the run than none", BEDS, undecayed),
)


def claimed(frames: Frames) -> Iterator[tuple[Contrast, str]]:
    """Every contrast with each of its beds that the frames have."""
    beds = set(frames["tuned"].model)
    return ((contrast, model) for contrast in CONTRASTS for model in contrast.models if model in beds)


def effects(frames: Frames) -> list[Effect]:
    """Every claim's effect by seed, and those of its controls."""
    found, runs = [], frames["runs"]
    shuffled = set(runs[runs.labels == "shuffled"].model)
    for contrast, model in claimed(frames):
        claim = contrast.claim(model)
        found += evidence.effects(claim, contrast.value(frames, model))
        if contrast.same:
            found += evidence.effects(claim, contrast.same_arm(frames, model), "same_arm")
        if contrast.shuffled and model in shuffled:
            found += evidence.effects(claim, contrast.value(frames, model, "shuffled"), "shuffled_labels")
    return found


def gates(frames: Frames) -> list[GateValue]:
    """What every measured gate of every claim was found to be; a single tuned arm has nothing to be equal to."""
    found = []
    for contrast, model in claimed(frames):
        values = tuning.gates(frames["tuned"][frames["tuned"].model == model], contrast.tuned)
        if len(contrast.tuned) == 1:
            values.pop("equal_tuning")
        found += evidence.gates(contrast.claim(model), values)
    return found


# Cost, in gradient evaluations


def trunk_cost(at: Mapping[str, int]) -> int:
    """Steps of one trunk to its last fork, and of the text's decay for every horizon."""
    forks = {steps: round((1 - DECAY) * steps) for steps in at.values()}
    # max_H T_d(H) + sum_H (H - T_d(H))
    return max(forks.values()) + sum(steps - fork for steps, fork in forks.items())


def costs(frames: Frames, model: str) -> pd.Series:
    """Gradient evaluations per seed for scores at all three horizons, and of the tuning behind them."""
    at, arms = horizons(frames, model), frames["tuned"]
    trials = arms[arms.model == model].set_index("arm").trials
    return pd.Series(
        {
            "one trunk, three decays": trunk_cost(at),
            "three cosine runs": sum(at.values()),
            "tuning of the trunk": int(trials["wsd_middle"]) * at["middle"],
            "tuning of three cosine runs": sum(int(trials[f"warmup_cosine_{name}"]) * at[name] for name in NAMES),
        }
    )


# What the notebook found


def findings(frames: Frames) -> list[Finding]:
    """Every contrast on every bed that has its arms, the scores at every horizon, and what they cost."""
    found, beds = [], list(dict.fromkeys(frames["tuned"].model))
    for contrast in (one for one in (*CONTRASTS, *UNCLAIMED) if one.words):
        for model in beds:
            more = "wider" if contrast.words.startswith("range") else "better"
            quantity = f"{'loss' if model == 'transformer' else 'accuracy'}, {more} by: {contrast.words}"
            found.append(_finding(contrast.row, model, quantity, contrast.value(frames, model)))
    for model in beds:
        found += [_finding("wsd", model, *one) for one in ends(frames, model)]
        found += [_finding("horizon", model, f"gradients: {k}", [v]) for k, v in costs(frames, model).items()]
    return [one for one in found if one.n]


def ends(frames: Frames, model: str) -> Iterator[tuple[str, pd.Series]]:
    """Test error or loss of what is compared at every horizon."""
    for name in NAMES:
        yield f"{SCORES[model]} of WSD from the trunk, {name} horizon", -branch(frames, model, name)
        for arm in ("wsd", "warmup_cosine", "warmup_linear"):
            yield f"{SCORES[model]} of {arm} planned for it, {name} horizon", -planned(frames, model, arm, name)


def _finding(row: str, model: str, quantity: str, values: Iterable[float]) -> Finding:
    return evidence.finding(row, model, quantity, values, NOTEBOOK, TABLES[row])
