"""What the study of clipping says about its claims: smoothness, edges of stability, spikes, and scores at tuned rates.

Every contrast is signed so that clipping helping is positive, except those of clipping too hard, where costing is.
Frames hold the study's records by file name: tuning, tuned, thresholds, runs, smoothness, curves, quadratic.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence, tuning
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK, TABLE = "clipping", "strategy_clipping", "strategies"
RECURRENT, FORWARD, TRANSFORMER = "gru_sgd", "mlp", "transformer"
NONE, CLIPPED, MEDIAN, HARD = "none", "clipped", "median", "hard"
SCORES = {"accuracy": "test_error", "loss": "test_loss"}  # what is compared -> column, less being better
CLAIMED = ("accuracy.gru_sgd", "loss.gru_sgd", "accuracy.gru_adam", "loss.transformer", "accuracy.mlp")
Frames = Mapping[str, pd.DataFrame]


# Which runs


def models(frames: Frames) -> list[str]:
    return list(dict.fromkeys(frames["tuned"].model))


def rate(frames: Frames, model: str, arm: str) -> float:
    """An arm's tuned rate; that of `clipped` is its best threshold's."""
    return float(frames["tuned"].set_index(["model", "arm"]).rate[model, arm])


def best(frames: Frames, model: str) -> str:
    """The threshold that did best on the tuning seeds."""
    rows = frames["thresholds"]
    return str(rows[(rows.model == model) & (rows.chosen == 1)].arm.iloc[0])


def far(frames: Frames) -> float:
    """The multiple of the rate tuned without clipping at which spikes are counted, to four digits."""
    return float(frames["curves"].rate.iloc[0])


def runs(frames: Frames, model: str, arm: str, labels: str = "true", draw: str = "own") -> pd.DataFrame:
    """The runs of one arm, whatever their rate."""
    rows = frames["runs"]
    chosen = (rows.model == model) & (rows.arm == arm) & (rows.labels == labels) & (rows.draw == draw)
    return rows[chosen].set_index("seed")


def at(rows: pd.DataFrame, peak: float) -> pd.DataFrame:
    return rows[np.isclose(rows.rate, peak, rtol=1e-3)]


# Local smoothness (Zhang et al. 2020)


def slope(frames: Frames, model: str) -> pd.Series:
    """Least-squares slope of ln L on ln |g| along each run, by seed."""
    return _by_seed(frames, model, lambda x, y: np.cov(x, y)[0, 1] / np.var(x, ddof=1))


def spread(frames: Frames, model: str) -> float:
    """The smallest standard deviation of ln |g| along any run: without spread there is no slope to see."""
    return float(_by_seed(frames, model, lambda x, y: np.std(x, ddof=1)).min())


def _by_seed(frames: Frames, model: str, statistic) -> pd.Series:
    rows = frames["smoothness"]
    rows = rows[(rows.model == model) & (rows.gradient_norm > 0) & (rows.smoothness > 0)]
    found = {
        seed: statistic(np.log(run.gradient_norm), np.log(run.smoothness))
        for seed, run in rows.groupby("seed")
        if len(run) > 2
    }
    return pd.Series(found, dtype=float)


# The largest stable rate


def edge(frames: Frames, model: str, arm: str, draw: str = "own") -> pd.Series:
    """log10 of the largest rate at which a run ended trained, by seed; no entry for a seed that never did."""
    return np.log10(_at_edge(frames, model, arm, draw).rate)


def effective_edge(frames: Frames, model: str, arm: str) -> pd.Series:
    """log10 of that rate times the mean factor by which the run's gradients were cut."""
    rows = _at_edge(frames, model, arm)
    return np.log10(rows.rate * rows.factor)


def _at_edge(frames: Frames, model: str, arm: str, draw: str = "own") -> pd.DataFrame:
    rows = searched(frames, model, arm, draw)
    stable = rows[rows.stable == 1].sort_values("rate")
    return stable.groupby("seed").tail(1).set_index("seed").sort_index()


def searched(frames: Frames, model: str, arm: str, draw: str = "own") -> pd.DataFrame:
    """An arm's runs at the rates at which the edge is looked for, of the seeds that ran at every one of them.

    These are the rates that both none and median ran at, without the one that is for spikes alone.
    """
    rates = np.intersect1d(runs(frames, model, NONE).rate, runs(frames, model, MEDIAN).rate)
    if model == RECURRENT:
        rates = rates[~np.isclose(rates, far(frames), rtol=1e-3)]
    rows = runs(frames, model, arm, draw=draw).reset_index()
    rows = rows[rows.rate.isin(rates)]
    return rows[rows.groupby("seed").rate.transform("size") == len(rates)]


def edge_found(frames: Frames, model: str) -> float:
    """Share of seeds and arms whose runs show a rate that trains below a larger one that does not."""
    found = []
    for arm in (NONE, MEDIAN):
        for _, rows in searched(frames, model, arm).groupby("seed"):
            stable = rows[rows.stable == 1].rate
            found.append(len(stable) > 0 and stable.max() < rows.rate.max())
    return float(np.mean(found)) if found else np.nan


def wider(frames: Frames, model: str) -> pd.Series:
    """How much further, in log10, the stable rates go with clipping at the median norm."""
    return (edge(frames, model, MEDIAN) - edge(frames, model, NONE)).dropna()


def wider_twin(frames: Frames, model: str) -> pd.Series:
    """The same between two runs without clipping that differ in weights and data order."""
    return (edge(frames, model, NONE) - edge(frames, model, NONE, "other")).dropna()


def quadratic(frames: Frames, optimizer: str) -> pd.Series:
    """The same on convex quadratics."""
    rows = frames["quadratic"]
    edges = np.log10(rows[rows.optimizer == optimizer].pivot(index="seed", columns="arm", values="edge_share"))
    return edges[MEDIAN] - edges[NONE]


# Spikes


def spiked(frames: Frames, arm: str, peak: float, draw: str = "own") -> pd.Series:
    """1 where a run of the recurrent network had a spike or diverged, else 0, by seed."""
    return (at(runs(frames, RECURRENT, arm, draw=draw), peak).spikes > 0).astype(float)


def spikes(frames: Frames, peak: float) -> pd.Series:
    """By how much clipping at the median norm lowers the share of runs with a spike."""
    return spiked(frames, NONE, peak) - spiked(frames, MEDIAN, peak)


def spikes_twin(frames: Frames, peak: float) -> pd.Series:
    return spiked(frames, NONE, peak) - spiked(frames, NONE, peak, "other")


# Scores


def better(frames: Frames, model: str, score: str, labels: str = "true") -> pd.Series:
    """How much better clipping ends than no clipping, each at its own tuned rate."""
    arm, column = best(frames, model), SCORES[score]
    clipped = at(runs(frames, model, arm, labels), rate(frames, model, CLIPPED))[column]
    return at(runs(frames, model, NONE, labels), rate(frames, model, NONE))[column] - clipped


def better_twin(frames: Frames, model: str, score: str) -> pd.Series:
    """How much better no clipping ends than itself from other weights in another order of data."""
    own, other = (at(runs(frames, model, NONE, draw=d), rate(frames, model, NONE)) for d in ("own", "other"))
    return other[SCORES[score]] - own[SCORES[score]]


def cost(frames: Frames, arm: str, labels: str = "true") -> pd.Series:
    """Accuracy without clipping minus that of clipping hard, at the tuned rate of `arm` (`hard`: each at its own)."""
    hard = at(runs(frames, RECURRENT, HARD, labels), rate(frames, RECURRENT, arm)).test_error
    return hard - at(runs(frames, RECURRENT, NONE, labels), rate(frames, RECURRENT, NONE)).test_error


def interaction(one: pd.Series, other: pd.Series) -> pd.Series:
    """An effect on one bed minus that on another, by the seeds that both have."""
    return (one - other).dropna()


# Claims


def contrasts(frames: Frames) -> dict[str, dict[str, pd.Series]]:
    """By claim (without the row's name) its effects and those of its controls, by role; on the beds that there are."""
    have, found = set(models(frames)), {}
    for model in ("gru_sgd", "mlp", "transformer"):
        if model in have & set(frames["smoothness"].model):
            found[f"smoothness_slope.{model}"] = {"claim": slope(frames, model)}
    for model in (name for name in ("gru_sgd", "gru_adam", "mlp") if name in have):
        found[f"edge.{model}"] = {"claim": wider(frames, model)}
        if len(twin := wider_twin(frames, model)):
            found[f"edge.{model}"]["same_arm"] = twin
    for optimizer in ("gradient_descent", "heavy_ball"):
        found[f"edge.quadratic_{optimizer}"] = {"claim": quadratic(frames, optimizer)}
    for name in CLAIMED:
        score, model = name.split(".")
        if model in have:
            found[name] = _scored(frames, model, score)
    return found | (_recurrent(frames) if RECURRENT in have else {}) | _more(frames, have)


def _scored(frames: Frames, model: str, score: str) -> dict[str, pd.Series]:
    roles = {"claim": better(frames, model, score), "same_arm": better_twin(frames, model, score)}
    return roles | ({"shuffled_labels": better(frames, model, score, "shuffled")} if score == "accuracy" else {})


def _recurrent(frames: Frames) -> dict[str, dict[str, pd.Series]]:
    """The claims that are made of the recurrent network alone."""
    effective = effective_edge(frames, RECURRENT, MEDIAN) - effective_edge(frames, RECURRENT, NONE)
    tuned, twin = rate(frames, RECURRENT, NONE), better_twin(frames, RECURRENT, "accuracy")
    peaks = {"spikes_tuned": tuned, "spikes_far": far(frames)}
    found = {f"{n}.gru_sgd": {"claim": spikes(frames, p), "same_arm": spikes_twin(frames, p)} for n, p in peaks.items()}
    found["effective_edge.gru_sgd"] = {"claim": effective, "same_arm": wider_twin(frames, RECURRENT)}
    for name, arm in (("hard_same_rate", NONE), ("hard_tuned", HARD)):
        shuffled = cost(frames, arm, "shuffled")
        found[f"{name}.gru_sgd"] = {"claim": cost(frames, arm), "same_arm": -twin, "shuffled_labels": shuffled}
    return found


def _more(frames: Frames, have: set[str]) -> dict[str, dict[str, pd.Series]]:
    """The effect on networks that the text names minus that on the feed-forward one."""
    found = {}
    if {RECURRENT, FORWARD} <= have:
        one, other = (_scored(frames, model, "accuracy") for model in (RECURRENT, FORWARD))
        found["more_accuracy.gru_sgd"] = {role: interaction(one[role], other[role]) for role in one}
        claim, twin = (interaction(f(frames, RECURRENT), f(frames, FORWARD)) for f in (wider, wider_twin))
        found["more_edge.gru_sgd"] = {"claim": claim, "same_arm": twin}
    if {TRANSFORMER, FORWARD} <= have:
        one, other = (_scored(frames, model, "loss") for model in (TRANSFORMER, FORWARD))
        found["more_loss.transformer"] = {role: interaction(one[role], other[role]) for role in one}
    return found


def effects(frames: Frames) -> list[Effect]:
    """Every claim's effect by seed, and those of its controls."""
    made = contrasts(frames)
    return [
        e for name, by in made.items() for role, s in by.items() for e in evidence.effects(f"{ROW}.{name}", s, role)
    ]


def gates(frames: Frames) -> list[GateValue]:
    """What every measured gate of every claim was found to be."""
    names = [name for name in contrasts(frames) if "quadratic" not in name]
    return [gate for name in names for gate in evidence.gates(f"{ROW}.{name}", claim_gates(frames, name))]


def claim_gates(frames: Frames, name: str) -> dict[str, float]:
    """A claim's gates; those of an interaction are the worse ones of its two beds."""
    short, model = name.split(".")
    if short.startswith("more_"):
        each = [claim_gates(frames, f"{short.removeprefix('more_')}.{bed}") for bed in (model, FORWARD)]
        return {gate: float(np.min([one[gate] for one in each])) for gate in each[0]}
    arms = frames["tuned"][frames["tuned"].model == model]
    if short in SCORES:
        return tuning.gates(arms, (NONE, CLIPPED))
    found = {"rate_interior": tuning.gates(arms, (NONE, HARD) if short == "hard_tuned" else (NONE,))["rate_interior"]}
    if short == "smoothness_slope":
        found["clipping_spread"] = spread(frames, model)
    return found | ({"edge_found": edge_found(frames, model)} if short.endswith("edge") else {})


# What the notebook found


def findings(frames: Frames) -> list[Finding]:
    """Every contrast, every arm's scores at its rates, and how often gradients were cut."""
    found = [_finding(name.split(".")[1], f"contrast {name}", by["claim"]) for name, by in contrasts(frames).items()]
    rows = frames["runs"]
    own = rows[(rows.labels == "true") & (rows.draw == "own")]
    for (model, arm, peak), part in own.groupby(["model", "arm", "rate"], sort=False):
        for column in ("train_loss", "test_error", "test_loss", "spikes", "clipped", "factor"):
            if part[column].notna().any():
                found.append(_finding(model, f"{column}, {arm} at rate {peak:.4g}", part[column]))
    return [one for one in found if one.n]


def _finding(model: str, quantity: str, values: pd.Series) -> Finding:
    return evidence.finding(ROW, model, quantity, values, NOTEBOOK, TABLE)
