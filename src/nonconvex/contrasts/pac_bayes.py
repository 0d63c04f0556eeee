"""What the study of PAC-Bayes bounds says: validity and size over training draws, and flatness in a trained family.

`frames` holds the study's records by file name. Every function returns one number per replicate, indexed by seed.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from nonconvex.contrasts import evidence
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK = "pac_bayes", "pac_bayes"
COVERAGE = 0.95
COIN = 0.5  # error of guessing one of two equally frequent classes
MEASURES = ("lambda_max", "trace", "tolerated")
FORMS = {"": "trained", ".rescaled": "rescaled"}  # suffix of a claim -> form of its networks

Frames = Mapping[str, pd.DataFrame]


def effects(frames: Frames) -> list[Effect]:
    """Every claim's contrast in every replicate, and those of its controls."""
    draws, family = frames["draws"], frames["family"]
    values = {
        "pac_bayes.valid.trained": coverage(draws) - COVERAGE,
        "pac_bayes.nonvacuous.trained": COIN - draws.groupby("seed").bound.mean(),
        "pac_bayes.nonvacuous.sgd": COIN - part(family, "true", "trained").groupby("seed").least_bound.mean(),
        "pac_bayes.beyond_holdout.trained": below_holdout(draws),
        "pac_bayes.invariant.rescaled": change_by_rescale(frames["rescaled"]),
    }
    rows = [row for claim, of_claim in values.items() for row in evidence.effects(claim, of_claim)]
    for claim, (x, y, form) in correlations().items():
        of_form = part(family, "true", form)
        rows += evidence.effects(claim, concordance(of_form, x, y))
        rows += evidence.effects(claim, concordance(of_form, x, y, mismatched=True), "same_arm")
        if y == "gap":
            shuffled = part(family, "shuffled", form)
            rows += evidence.effects(claim, concordance(shuffled, x, y), "shuffled_labels")
    return rows


def correlations() -> dict[str, tuple[str, str, str]]:
    """The claims on Kendall's tau: the two quantities, and the form of the networks."""
    found = {"pac_bayes.robust.lambda_max": ("lambda_max", "tolerated", "trained")}
    for suffix, form in FORMS.items():
        found |= {f"pac_bayes.gap.{name}{suffix}": (name, "gap", form) for name in (*MEASURES, "bound")}
        found |= {f"pac_bayes.tighter.{name}{suffix}": (name, "bound", form) for name in MEASURES}
    return found


def every_concordance(family: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau of every claimed pair (x, y) per seed; `arm` is a form, or a control of the trained one."""
    rows = []
    for x, y, form in correlations().values():
        arms = {form: (part(family, "true", form), False)}
        if form == "trained":
            arms["shuffled labels"] = part(family, "shuffled", form), False
            arms["dealt at random"] = arms[form][0], True
        for arm, (members, mismatched) in arms.items():
            found = concordance(members, x, y, mismatched)
            rows += [(x, y, arm, seed, tau) for seed, tau in found.items()]
    return pd.DataFrame(rows, columns=["x", "y", "arm", "seed", "tau"])


def part(family: pd.DataFrame, labels: str, form: str) -> pd.DataFrame:
    """The members that reached the common loss, with their true `gap`."""
    rows = family[(family.labels == labels) & (family.form == form)].dropna(subset=["bound"])
    return rows.assign(gap=rows.true_error - rows.train_error)


def concordance(members: pd.DataFrame, x: str, y: str, mismatched: bool = False) -> pd.Series:
    """Kendall's tau-b of two quantities over each seed's family.

    `mismatched` pairs the first quantity of every member with the second of another one: what is left when there is
    nothing to find.
    """

    def of_seed(seed: int, rows: pd.DataFrame) -> float:
        first, second = ordered(rows, x), ordered(rows, y)
        if mismatched:
            second = second[np.random.Generator(np.random.Philox(seed)).permutation(len(second))]
        return float(stats.kendalltau(first, second).statistic)

    return pd.Series({seed: of_seed(seed, rows) for seed, rows in members.groupby("seed")}, dtype=float)


def ordered(rows: pd.DataFrame, name: str) -> np.ndarray:
    """A column, or the order of bounds: those that are 1 to nine digits still differ in their divergence."""
    if name != "bound":
        return rows[name].to_numpy(float)
    return rows.groupby(["bound", "divergence"]).ngroup().to_numpy(float)


def coverage(draws: pd.DataFrame) -> pd.Series:
    """Share of a seed's draws in which the bound is at least the true risk."""
    return draws.assign(holds=draws.bound >= draws.true_error).groupby("seed").holds.mean()


def below_holdout(draws: pd.DataFrame) -> pd.Series:
    return draws.assign(gain=draws.holdout - draws.bound).groupby("seed").gain.mean()


def change_by_rescale(rescaled: pd.DataFrame, column: str = "rescaled") -> pd.Series:
    return rescaled.assign(change=rescaled[column] - rescaled.bound).groupby("seed").change.mean()


def gates(frames: Frames) -> list[GateValue]:
    """What every gate was measured to be, for each claim that names it."""
    draws = frames["draws"]
    interior = {"interior_deviation": float(draws.grid_place.between(1, draws.grid_size - 2).mean())}
    can_fail = {"check_can_fail": float((draws.gibbs_error < draws.true_error).mean())}
    reached = {"trained": share_trained(frames["family"])}
    of_claims = {
        "pac_bayes.valid.trained": can_fail | interior,
        "pac_bayes.nonvacuous.trained": interior,
        "pac_bayes.nonvacuous.sgd": reached,
        "pac_bayes.beyond_holdout.trained": interior,
        "pac_bayes.invariant.rescaled": {"same_function": float(frames["rescaled"].changed_answers.max())},
    }
    for claim, (x, _, form) in correlations().items():
        members = part(frames["family"], "true", form)
        of_claims[claim] = reached | {"matched_family": loss_spread(members)}
        if x in ("lambda_max", "trace"):
            of_claims[claim] |= {"residual": float(members.residual.max()) if len(members) else None}
    return [row for claim, values in of_claims.items() for row in evidence.gates(claim, values)]


def share_trained(family: pd.DataFrame) -> float:
    """Share of the members with true labels that reached the common training loss."""
    rows = family[(family.labels == "true") & (family.form == "trained")]
    return float(rows.steps.notna().mean())


def loss_spread(members: pd.DataFrame) -> float | None:
    """Standard deviation of the training loss within a seed over its mean, averaged over seeds."""
    losses = members.groupby("seed").train_loss
    return float((losses.std() / losses.mean()).mean()) if len(members) else None


def findings(frames: Frames) -> list[Finding]:
    """The numbers behind the verdicts."""
    draws, family = frames["draws"], part(frames["family"], "true", "trained")
    of_draws, of_family = draws.groupby("seed"), family.groupby("seed")
    rows = {
        ("trained for the bound", "bound"): of_draws.bound.mean(),
        ("trained for the bound", "bound without inversion"): of_draws.pinsker.mean(),
        ("trained for the bound", "true error of the randomised network"): of_draws.true_error.mean(),
        ("trained for the bound", "true error of the network itself"): of_draws.network_error.mean(),
        ("trained for the bound", "hold-out bound of the prior"): of_draws.holdout.mean(),
        ("trained for the bound", "share of draws in which the bound holds"): coverage(draws),
        ("trained for the bound", "rise of the bound by a rescale"): change_by_rescale(frames["rescaled"]),
        ("trained for the bound", "rise where the prior moves along"): change_by_rescale(frames["rescaled"], "moved"),
        ("plainly trained", "least bound"): of_family.least_bound.mean(),
        ("plainly trained", "least bound, prior at the initial weights"): of_family.initial_bound.mean(),
        ("plainly trained", "true error"): of_family.true_error.mean(),
        ("plainly trained", "training error"): of_family.train_error.mean(),
    }
    pairs = [("lambda_max", "tolerated"), ("lambda_max", "squared_distance"), ("squared_distance", "bound")]
    pairs += [(name, "true_error") for name in (*MEASURES, "bound")]
    rows |= {("plainly trained", f"tau of {x} and {y}"): concordance(family, x, y) for x, y in pairs}
    return [evidence.finding(ROW, bed, name, values, NOTEBOOK, "prose") for (bed, name), values in rows.items()]
