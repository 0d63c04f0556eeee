"""What the study of linear connectivity says about its claims: one contrast per claim, all of them in CONTRASTS.

Frames are those of `observations.linear_connectivity` by file name. A contrast is a series indexed by seed, one value
per parent; a family with a diverged run is missing from every one.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK = "linear_mode_connectivity", "property_linear_connectivity"
BEDS = {"resnet": "error", "transformer": "loss"}  # what is compared on the test split
UNFORKED, EARLY = 0.0, 0.05  # shares of the run that siblings share
STABLE = 0.02  # barrier of the error below which Frankle et al. 2020, section 3, call siblings stable
TOLERANCE = 1e-3  # of the earlier end's loss: a rise that does not count
LEARNED = 0.5  # of the initial loss: a run that ends below has learned

Frames = Mapping[str, pd.DataFrame]


def of_bed(frames: Frames, model: str) -> dict[str, pd.DataFrame]:
    """The rows of one model."""
    return {name: frame[frame.model == model] for name, frame in frames.items()}


def barrier(bed: Frames, kind: str, fork: float, split: str = "train", definition: str = "mean") -> pd.Series:
    """Error barriers of siblings; `mean`, over the mean of the ends, is the definition of Frankle et al. 2020."""
    rows = bed["barriers"]
    rows = rows[(rows.kind == kind) & (rows.split == split) & (rows.metric == "error") & np.isclose(rows.fork, fork)]
    return rows.set_index("seed")[definition]


def siblings_drop(bed: Frames) -> pd.Series:
    """How much lower the barrier is between siblings that share 5 % of the run."""
    return barrier(bed, "siblings", UNFORKED) - barrier(bed, "siblings", EARLY)


def siblings_stable(bed: Frames) -> pd.Series:
    """How far their barrier stays below the criterion."""
    return STABLE - barrier(bed, "siblings", EARLY)


def siblings_full_length(bed: Frames) -> pd.Series:
    """The drop when as many steps remain after the fork as a whole run has."""
    return barrier(bed, "siblings", UNFORKED) - barrier(bed, "full_length", EARLY)


def with_monotone(lines: pd.DataFrame) -> pd.DataFrame:
    """The lines with whether their loss never rises on the way from the earlier end to the later."""
    return lines.assign(monotone=(lines.climb <= TOLERANCE * lines.loss_earlier).astype(float))


def connected(lines: pd.DataFrame) -> pd.Series:
    """Whether the error stays less than 2 points above the line between its ends, which may differ."""
    return (lines.error_line < STABLE).astype(float)


def checkpoint_lines(bed: Frames) -> pd.DataFrame:
    """All pairs of checkpoints of all runs."""
    lines = with_monotone(bed["lines"])
    return lines[lines.start == "checkpoint"]


def within_run_monotone(bed: Frames) -> pd.Series:
    """Share of a run's pairs of checkpoints with falling loss, above one half."""
    return checkpoint_lines(bed).groupby("seed").monotone.mean() - 0.5


def within_run_barrier(bed: Frames) -> pd.Series:
    """Share of a run's pairs of checkpoints without a barrier, above one half."""
    lines = checkpoint_lines(bed)
    return connected(lines).groupby(lines.seed).mean() - 0.5


def from_start(bed: Frames, start: str, column: str = "monotone") -> pd.Series:
    """A column of the lines to the end from `own`, `other`, `zero` or `noise`."""
    lines = with_monotone(bed["lines"])
    return lines[lines.start == start].set_index("seed")[column]


def init_own_monotone(bed: Frames) -> pd.Series:
    """Whether the loss falls all along the line from the own initialisation, above one half."""
    return from_start(bed, "own") - 0.5


def init_specific(bed: Frames) -> pd.Series:
    """Monotone from the own initialisation but not from another."""
    return from_start(bed, "own") - from_start(bed, "other")


def init_specific_height(bed: Frames) -> pd.Series:
    """How much more the loss rises on the line from another initialisation."""
    return from_start(bed, "other", "climb") - from_start(bed, "own", "climb")


def init_beyond_scaling(bed: Frames) -> pd.Series:
    """Monotone from the own initialisation but not from the origin."""
    return from_start(bed, "own") - from_start(bed, "zero")


def init_beyond_noise(bed: Frames) -> pd.Series:
    """Monotone from the own initialisation but not from noise of its length."""
    return from_start(bed, "own") - from_start(bed, "noise")


def averaging(bed: Frames, arm: str, a: str, b: str, fork: float | None = None) -> pd.Series:
    """Test score of `a` minus that of `b`, each of last, members, average and ensemble."""
    rows = bed["averages"]
    rows = rows[rows.arm == arm].set_index("seed")
    rows = rows if fork is None else rows[np.isclose(rows.fork, fork)]
    metric = BEDS.get(next(iter(rows.model), ""), "error")
    return rows[f"{a}_{metric}"] - rows[f"{b}_{metric}"]


def average_beats_last(bed: Frames) -> pd.Series:
    """Weight average minus last checkpoint, constant rate."""
    return averaging(bed, "constant", "average", "last")


def average_beats_last_cosine(bed: Frames) -> pd.Series:
    """The same where the rate decays to zero."""
    return averaging(bed, "cosine", "average", "last")


def ensemble_beats_last(bed: Frames) -> pd.Series:
    """Ensemble minus last checkpoint, constant rate."""
    return averaging(bed, "constant", "ensemble", "last")


def average_equals_ensemble(bed: Frames) -> pd.Series:
    """Weight average minus ensemble, constant rate."""
    return averaging(bed, "constant", "average", "ensemble")


def average_needs_connection(bed: Frames) -> pd.Series:
    """What the average of two siblings loses against their ensemble: at k = 0 minus at k = 5 %."""
    gap = [averaging(bed, "siblings", "average", "ensemble", fork) for fork in (UNFORKED, EARLY)]
    return gap[0] - gap[1]


CONTRASTS: dict[str, Callable[[Frames], pd.Series]] = {
    contrast.__name__: contrast
    for contrast in (
        siblings_drop,
        siblings_stable,
        siblings_full_length,
        within_run_monotone,
        within_run_barrier,
        init_own_monotone,
        init_specific,
        init_specific_height,
        init_beyond_scaling,
        init_beyond_noise,
        average_beats_last,
        average_beats_last_cosine,
        ensemble_beats_last,
        average_equals_ensemble,
        average_needs_connection,
    )
}


def same_arm(bed: Frames, arm: str) -> pd.Series:
    """Last checkpoint of a run minus last checkpoint of another, in pairs that share no run: nothing to find."""
    rows = bed["averages"]
    rows = rows[rows.arm == arm].sort_values("seed")
    last = rows.set_index("seed")[f"last_{BEDS.get(next(iter(rows.model), ''), 'error')}"]
    count = len(last) // 2
    return last.iloc[:count] - last.iloc[count : 2 * count].to_numpy()


def controls(bed: Frames) -> dict[tuple[str, str], pd.Series]:
    """(claim, role) of every control: pairs of equal arms, and the same contrast on shuffled labels."""
    found = {
        ("average_beats_last", "same_arm"): same_arm(bed, "constant"),
        ("ensemble_beats_last", "same_arm"): same_arm(bed, "constant"),
        ("average_beats_last_cosine", "same_arm"): same_arm(bed, "cosine"),
    }
    for name in ("average", "ensemble"):
        found[f"{name}_beats_last", "shuffled_labels"] = averaging(bed, "shuffled", name, "last")
    return found


def effects(frames: Frames) -> list[Effect]:
    """Every claim's contrast on every bed, then its controls."""
    found = []
    for model in BEDS:
        bed = of_bed(frames, model)
        for short, contrast in CONTRASTS.items():
            found += evidence.effects(claim(short, model), contrast(bed))
        for (short, role), values in controls(bed).items():
            found += evidence.effects(claim(short, model), values, role)
    return found


def claim(short: str, model: str) -> str:
    """The name of a claim in the ledger."""
    return f"{ROW}.{short}.{model}"


def same_order(bed: Frames) -> float | None:
    """The largest barrier, by any definition, between siblings that never part."""
    rows = bed["barriers"]
    rows = rows[rows.kind == "same_order"][["line", "mean", "worse_end"]].abs()
    return float(rows.to_numpy().max()) if len(rows) else None


def trained(bed: Frames, parents: int) -> float:
    """Share of `parents` that finished and learned."""
    lines = bed["lines"][bed["lines"].start == "own"]
    return float((lines.loss_later < LEARNED * lines.loss_earlier).sum() / parents)


def stretch_connected(bed: Frames, arm: str) -> float | None:
    """Share of an arm's runs whose averaged checkpoints are connected."""
    barriers = bed["averages"][bed["averages"].arm == arm].barrier
    return float((barriers < STABLE).mean()) if len(barriers) else None


def gates(frames: Frames, parents: Mapping[str, int]) -> list[GateValue]:
    """What the gates of every claim were measured to be; `parents` is how many runs there should be by model."""
    found = []
    for model in BEDS:
        bed = of_bed(frames, model)
        for short in CONTRASTS:
            found += evidence.gates(claim(short, model), gates_of(short, bed, parents[model]))
    return found


def gates_of(short: str, bed: Frames, parents: int) -> dict[str, float | None]:
    """By name: all need networks that learned, siblings an exact control, averages a flat line."""
    measured: dict[str, float | None] = {"trained": trained(bed, parents)}
    if short.startswith("siblings") or short == "average_needs_connection":
        measured["same_order"] = same_order(bed)
    elif short.startswith(("average", "ensemble")):
        measured["connected"] = stretch_connected(bed, "cosine" if short.endswith("cosine") else "constant")
    return measured


def findings(frames: Frames) -> list[Finding]:
    """Means with their intervals, for the table of the text's row."""
    return [
        evidence.finding(ROW, model, quantity, values, NOTEBOOK)
        for model in BEDS
        for quantity, values in quantities(of_bed(frames, model), BEDS[model]).items()
    ]


def quantities(bed: Frames, metric: str) -> dict[str, pd.Series]:
    """What is printed beside the text's row, in words; losses in nats, errors as shares."""
    found = {
        f"train error barrier between siblings, k = {f:.0%}": barrier(bed, "siblings", f) for f in (UNFORKED, EARLY)
    }
    found[f"train error barrier, k = {EARLY:.0%}, full length"] = barrier(bed, "full_length", EARLY)
    found["share of checkpoint pairs with falling train loss"] = within_run_monotone(bed) + 0.5
    found["share of checkpoint pairs with error barrier below 2 points"] = within_run_barrier(bed) + 0.5
    for start in ("own", "other", "zero", "noise"):
        found[f"share of lines to the end with falling train loss, start {start}"] = from_start(bed, start)
    for a, b in (("average", "last"), ("ensemble", "last"), ("average", "ensemble")):
        for arm in ("constant", "cosine"):
            found[f"test {metric}, {a} minus {b}, {arm} rate"] = averaging(bed, arm, a, b)
    return found
