"""From λ_max along training to the effects, gates and findings of the claims on progressive sharpening.

Rises are logs of ratios of λ_max within a run; arms are compared run by run of one seed. Frames hold the records of
`observations.progressive_sharpening` by file name.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK, MLP = "progressive_sharpening", "property_progressive_sharpening", "mlp"
EARLY = 0.05  # share of a run that counts as its beginning
FITTED = 0.01  # training error at which a training set counts as learned
SHARPER = np.log(1.5)
RUN = ["loss", "share", "arm", "seed"]
LOSSES = ("squared_error", "cross_entropy")
ROLES = {  # of an effect -> the arms whose difference it is
    "claim": ("cosine", "constant"),
    "same_arm": ("jostled", "constant"),
    "shuffled_labels": ("shuffled_cosine", "shuffled"),
}
Frames = Mapping[str, pd.DataFrame]


# Within a run


def early(run: pd.DataFrame) -> float:
    """log of the smallest λ_max in the first EARLY of the run."""
    return float(np.log(run.sharpness[run.step <= EARLY * run.step.max()].min(skipna=False)))


def rise_to_end(run: pd.DataFrame) -> float:
    """log λ_max at the end, minus `early`."""
    return float(np.log(run.sharpness.iloc[-1])) - early(run)


def rise_to_fit(run: pd.DataFrame) -> float:
    """log λ_max at the first reading at which the training set is learned, minus `early`; NaN if it never is."""
    learned = run.sharpness[run.train_error <= FITTED]
    return float(np.log(learned.iloc[0])) - early(run) if len(learned) else np.nan


def peak(run: pd.DataFrame) -> float:
    """log of the largest λ_max after the first EARLY of the run."""
    return float(np.log(run.sharpness[run.step > EARLY * run.step.max()].max(skipna=False)))


def at_loss(run: pd.DataFrame, level: float) -> float:
    """log λ_max where the run's training loss first comes down to `level`, between readings by the logs of both.

    NaN for a run that never does.
    """
    below = np.flatnonzero(run.train_loss.to_numpy() <= level * (1 + 1e-9))
    if not len(below):
        return np.nan
    x, y = np.log(run.train_loss.to_numpy()), np.log(run.sharpness.to_numpy())
    j = below[0]
    if j == 0 or x[j] == x[j - 1]:
        return float(y[j])
    # y = y_(j-1) + (y_j - y_(j-1)) (log l - x_(j-1)) / (x_j - x_(j-1))
    return float(y[j - 1] + (y[j] - y[j - 1]) * (np.log(level) - x[j - 1]) / (x[j] - x[j - 1]))


def matched(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """log λ_max of run a minus that of run b, where each first has the lowest training loss that both reach."""
    level = max(a.train_loss.min(skipna=False), b.train_loss.min(skipna=False))
    return at_loss(a, level) - at_loss(b, level)


# Runs of the frames


def run_of(points: pd.DataFrame, **which: object) -> dict[int, pd.DataFrame]:
    """The points of every seed of an arm, in order."""
    chosen = points[np.logical_and.reduce([points[name] == value for name, value in which.items()])]
    return {int(seed): run.sort_values("step") for seed, run in chosen.groupby("seed")}


def each(runs: Mapping[int, pd.DataFrame], number: Callable) -> pd.Series:
    """A number of every run, by seed."""
    return pd.Series({seed: number(run) for seed, run in runs.items()}, dtype=float)


def both(a: Mapping[int, pd.DataFrame], b: Mapping[int, pd.DataFrame], number: Callable) -> pd.Series:
    """A number of every pair of runs of one seed."""
    return pd.Series({seed: number(a[seed], b[seed]) for seed in a if seed in b}, dtype=float)


def small(points: pd.DataFrame, loss: str) -> dict[int, pd.DataFrame]:
    """The runs at the smallest rate."""
    share = points.share[points.loss == loss].min()
    return run_of(points, loss=loss, share=share, arm="constant")


def large(points: pd.DataFrame, loss: str, arm: str = "constant") -> dict[int, pd.DataFrame]:
    """The runs of the comparison of decays."""
    share = points.share[(points.loss == loss) & (points.arm == "cosine")].max()
    return run_of(points, loss=loss, share=share, arm=arm)


def sgd_groups(sgd: pd.DataFrame, model: str) -> dict[str, dict[int, pd.DataFrame]]:
    """The groups of minibatch runs: `low` rate, `high` rate, high at another `order`, high at the large `batch`."""
    rows = sgd[sgd.model == model]
    rates, sizes = sorted(set(rows.rate)), sorted(set(rows.batch_size))
    keys = {
        "low": (rates[0], sizes[0], 0),
        "high": (rates[-1], sizes[0], 0),
        "order": (rates[-1], sizes[0], 1),
        "batch": (rates[-1], sizes[-1], 0),
    }
    return {name: run_of(rows, rate=r, batch_size=b, order=o) for name, (r, b, o) in keys.items()}


# The claims


def effects(frames: Frames) -> list[Effect]:
    """Everything that the claims are judged by, one effect per seed."""
    return [*rises(frames), *stochastic(frames), *drops(frames), *benefits(frames)]


def rises(frames: Frames) -> list[Effect]:
    """rise and end at the smallest rate, end_large at the largest."""
    points, found = frames["points"], []
    for loss in LOSSES:
        found += _effects(f"rise.{loss}", each(small(points, loss), rise_to_fit))
        found += _effects(f"end.{loss}", each(small(points, loss), rise_to_end))
        found += _effects(f"end_large.{loss}", each(large(points, loss), rise_to_end))
    return found


def stochastic(frames: Frames) -> list[Effect]:
    """What a larger rate and a smaller batch do to λ_max along minibatch training, and another data order does not."""
    found = []
    for model in sorted(set(frames["sgd"].model)):
        groups = sgd_groups(frames["sgd"], model)
        found += _effects(f"rise.{model}", each(groups["low"], rise_to_end))
        for name, arm in (("rate", "low"), ("batch", "batch")):
            for suffix, number in (("", higher_peak), ("_matched", matched)):
                claim = f"{name}{suffix}.{model}"
                found += _effects(claim, both(groups[arm], groups["high"], number))
                found += _effects(claim, both(groups["order"], groups["high"], number), "same_arm")
    return found


def higher_peak(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """`peak` of run a minus that of run b."""
    return peak(a) - peak(b)


def drops(frames: Frames) -> list[Effect]:
    """λ_max after a drop of the rate against the rate kept: at the end, and at the same training loss."""
    points, found = frames["points"], []
    for loss in LOSSES:
        kept, dropped, jostled = (large(points, loss, arm) for arm in ("constant", "dropped", "jostled"))
        found += _effects(f"drop.{loss}", both(dropped, kept, higher_end))
        found += _effects(f"drop.{loss}", both(jostled, kept, higher_end), "same_arm")
        found += _effects(f"drop_matched.{loss}", both(parted(dropped, kept), parted(kept, dropped), matched))
    return found


def higher_end(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """log λ_max at the end of run a minus that of run b."""
    return float(np.log(a.sharpness.iloc[-1]) - np.log(b.sharpness.iloc[-1]))


def parted(runs: Mapping[int, pd.DataFrame], others: Mapping[int, pd.DataFrame]) -> dict[int, pd.DataFrame]:
    """Every run from the last reading on at which it is still the same as the other of its seed."""
    found = {}
    for seed, run in runs.items():
        if seed in others:
            same = run.train_loss.to_numpy() == others[seed].train_loss.to_numpy()
            found[seed] = run.iloc[max(int(np.argmin(same)) - 1, 0) :] if not same.all() else run.iloc[-1:]
    return found


def benefits(frames: Frames) -> list[Effect]:
    """Test scores under cosine against a constant rate: under each loss, and the difference between the losses."""
    runs, found = frames["runs"], []
    for role, arms in ROLES.items():
        squared, entropy = (change(runs, loss, arms, "test_error") for loss in LOSSES)
        found += _effects("benefit_error", squared - entropy, role)
        found += _effects("decay_error.squared_error", squared, role)
        found += _effects("decay_error.cross_entropy", entropy, role)
        logs = [change(runs, loss, arms, "log_test_loss") for loss in LOSSES]
        found += _effects("benefit_loss", logs[0] - logs[1], role)
    return found


def change(runs: pd.DataFrame, loss: str, arms: tuple[str, str], column: str) -> pd.Series:
    """A score of the first arm minus that of the second, by seed, at the rate that decays are compared at."""
    runs = runs[runs.loss == loss].assign(log_test_loss=np.log(runs.test_loss))
    share = runs.share[runs.arm == "cosine"].max()
    a, b = (runs[(runs.arm == arm) & (runs.share == share)].set_index("seed")[column] for arm in arms)
    return a - b


def _effects(claim: str, values: pd.Series, role: str = "claim") -> list[Effect]:
    return evidence.effects(f"{ROW}.{claim}", values, role)


# The gates


def gates(frames: Frames) -> list[GateValue]:
    """Whether runs learned their training set, stayed off the edge or could be matched, and how exact λ_max is."""
    return [*flow_gates(frames), *drop_gates(frames), *sgd_gates(frames), *benefit_gates(frames)]


def flow_gates(frames: Frames) -> list[GateValue]:
    """Of rise, end and end_large."""
    points, rates, found = frames["points"], frames["runs"][[*RUN, "rate"]], []
    for loss in LOSSES:
        runs = small(points, loss)
        learned = each(runs, lambda run: (run.train_error <= FITTED).any()).mean()
        ratio = _all(runs, points).merge(rates, on=RUN)
        # λ_max η / 2
        free = {"edge_free": (ratio.sharpness * ratio.rate / 2).max(skipna=False)} if loss == "squared_error" else {}
        exact = {"residual": _residual(runs, points)}
        found += _gates(f"rise.{loss}", {"fitted": learned, **free, **exact})
        found += _gates(f"end.{loss}", exact)
        found += _gates(f"end_large.{loss}", {"residual": _residual(large(points, loss), points)})
    return found


def drop_gates(frames: Frames) -> list[GateValue]:
    """Of drop and drop_matched."""
    points, found = frames["points"], []
    for loss in LOSSES:
        kept, dropped = large(points, loss), large(points, loss, "dropped")
        exact = max(_residual(kept, points), _residual(dropped, points))
        share = both(parted(dropped, kept), parted(kept, dropped), matched).notna().mean()
        found += _gates(f"drop.{loss}", {"residual": exact})
        found += _gates(f"drop_matched.{loss}", {"matched_pairs": share, "residual": exact})
    return found


def sgd_gates(frames: Frames) -> list[GateValue]:
    """Of the claims on minibatch training."""
    found, rows = [], frames["sgd"]
    for model in sorted(set(rows.model)):
        groups, exact = sgd_groups(rows, model), {"residual": rows[rows.model == model].residual.max(skipna=False)}
        for name in ("rise", "rate", "batch"):
            found += _gates(f"{name}.{model}", exact)
        for name, arm in (("rate", "low"), ("batch", "batch")):
            share = both(groups[arm], groups["high"], matched).notna().mean()
            found += _gates(f"{name}_matched.{model}", {"matched_pairs": share, **exact})
    return found


def benefit_gates(frames: Frames) -> list[GateValue]:
    """Does the surface sharpen under squared error, and not under cross-entropy, where the benefits are compared?"""
    squared, entropy = (each(large(frames["points"], loss), rise_to_end) for loss in LOSSES)
    share = ((squared >= SHARPER) & (entropy < SHARPER)).mean()
    names = ("benefit_error", "benefit_loss")
    return [gate for name in names for gate in _gates(name, {"sharpening_contrast": share})]


def _all(runs: Mapping[int, pd.DataFrame], points: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(runs.values()) if runs else points.head(0)


def _residual(runs: Mapping[int, pd.DataFrame], points: pd.DataFrame) -> float:
    return float(_all(runs, points).residual.max(skipna=False)) if runs else np.nan


def _gates(claim: str, values: Mapping[str, float]) -> list[GateValue]:
    return evidence.gates(f"{ROW}.{claim}", values)


# What the notebook found


def findings(frames: Frames) -> list[Finding]:
    """Factors by which λ_max rises, what a drop of the rate does to it, and test scores under both schedules."""
    points, found = frames["points"], []
    for loss in LOSSES:
        for share in sorted(set(points.share[points.loss == loss])):
            runs = run_of(points, loss=loss, share=share, arm="constant")
            for what, number in (("99 % training accuracy", rise_to_fit), ("the end", rise_to_end)):
                factor = np.exp(each(runs, number))
                found.append(_finding(f"lambda_max at {what} over its early minimum, {loss}, share {share:g}", factor))
        kept, dropped = large(points, loss), large(points, loss, "dropped")
        factor = np.exp(both(dropped, kept, higher_end))
        found.append(_finding(f"lambda_max at the end, rate dropped over rate kept, {loss}", factor))
        gain = change(frames["runs"], loss, ROLES["claim"], "test_error")
        found.append(_finding(f"test error, cosine minus constant, {loss}", gain))
    for model in sorted(set(frames["sgd"].model)):
        for name, runs in sgd_groups(frames["sgd"], model).items():
            found.append(_finding(f"largest lambda_max after the first 5 %, {name}", np.exp(each(runs, peak)), model))
    return found


def _finding(quantity: str, values: pd.Series, model: str = MLP) -> Finding:
    return evidence.finding(ROW, model, quantity, values, NOTEBOOK)
