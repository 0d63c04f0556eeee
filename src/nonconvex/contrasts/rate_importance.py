"""What the study of the rate's importance says about its claims: shares of variance, factor by factor.

A response is a number per run. A surrogate is fitted to all runs and, for the jackknife, to all blocks but one; a block
is a design of its own, so blocks are exchangeable and their pseudo-values are replicates of an index. Frames hold the
study's records by file name: factors, runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence
from nonconvex.contrasts.surrogate import Dimension, Surrogate, explained, fitted
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK, TABLE, MODEL = "rate_importance", "rate_importance", "prose", "mlp"
GUESS = float(np.log(10))  # loss of a guess among ten classes: no run is scored worse
LEARNED = 0.9  # share of it below which a run's training loss says that it has learned something
NEAR = 0.5  # decades to either side of the best rate
RATE, DUMMY = "rate", "dummy"
PERMUTED = 20  # seed of the permutation that deals out a response among all runs
REFINED = 40  # iterations of a fit that starts from the one to all runs
Frames = Mapping[str, pd.DataFrame]


# Responses


def capped(values: pd.Series) -> pd.Series:
    """Losses, none worse than that of a guess: a run that diverged counts as one that learned nothing."""
    return values.fillna(np.inf).clip(upper=GUESS)


def test_loss(runs: pd.DataFrame) -> pd.Series:
    return capped(runs.test_loss)


def test_rank(runs: pd.DataFrame) -> pd.Series:
    """Ranks of the test losses, the least first: what is left if only the order of runs counts."""
    return test_loss(runs).rank()


def train_loss(runs: pd.DataFrame) -> pd.Series:
    return capped(runs.train_loss)


def sharpness(runs: pd.DataFrame) -> pd.Series:
    """ln λ_max at the end of the runs that learned something; no number elsewhere."""
    return np.log(runs.sharpness.where(learned(runs) & (runs.sharpness > 0)))


def learned(runs: pd.DataFrame) -> pd.Series:
    return train_loss(runs) < LEARNED * GUESS


test_loss.__test__ = test_rank.__test__ = False
RESPONSES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "test_loss": test_loss,
    "test_rank": test_rank,
    "train_loss": train_loss,
    "sharpness": sharpness,
}
SHARED = ("train_loss", "sharpness")  # of which the text says that the rate controls them
NARROW = "near_best"  # the test loss again, of the runs whose rate is near the best one


# Coordinates


def dimensions(factors: pd.DataFrame) -> list[Dimension]:
    """The factors as the surrogate sees them, in the order of the records."""
    return [Dimension(int(f.levels), f.kind != "named") for f in factors.itertuples()]


def coordinates(factors: pd.DataFrame, runs: pd.DataFrame) -> np.ndarray:
    """(n, d): continuous factors on [0, 1], levels as 0, 1, ... in rising order."""
    return np.column_stack([_column(f, runs[f.factor]) for f in factors.itertuples()])


def _column(factor, values: pd.Series) -> np.ndarray:
    if factor.levels:
        return values.rank(method="dense").to_numpy() - 1
    values, ends = values.to_numpy(float), np.array([factor.low, factor.high])
    if factor.kind == "log":
        values, ends = np.log(values), np.log(ends)
    return (values - ends[0]) / (ends[1] - ends[0])


# Shares of variance


@dataclass(frozen=True)
class Shares:
    """The shares of variance of one response `y` (n,) over runs at `x` (n, d) that come in `blocks` (n,)."""

    names: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    x: np.ndarray
    y: np.ndarray
    blocks: np.ndarray

    @cached_property
    def whole(self) -> Surrogate:
        return fitted(self.dimensions, self.x, self.y)

    @cached_property
    def without(self) -> dict[int, Surrogate]:
        """The surrogate without each block, searched from the one with all."""
        keep = {int(block): self.blocks != block for block in np.unique(self.blocks)}
        start = self.whole.theta
        return {b: fitted(self.dimensions, self.x[k], self.y[k], start, REFINED) for b, k in keep.items()}

    @cached_property
    def total(self) -> pd.Series:
        return pd.Series(self.whole.total_order(), self.names)

    @cached_property
    def first(self) -> pd.Series:
        return pd.Series(self.whole.first_order(), self.names)

    @property
    def runner_up(self) -> str:
        """The factor of the largest total-order share beside the rate, over all runs."""
        return self.total.drop(RATE).idxmax()

    @cached_property
    def pseudo_values(self) -> pd.DataFrame:
        """Jackknife pseudo-values n T - (n - 1) T_(-i) of every total-order share, a row per block (Tukey 1958).

        No rows for fewer than two blocks.
        """
        n = len(np.unique(self.blocks))
        if n < 2:
            return pd.DataFrame(columns=list(self.names), dtype=float)
        left = pd.DataFrame({b: fit.total_order() for b, fit in self.without.items()}, self.names).T
        return n * self.total - (n - 1) * left

    def lead(self, over: str | None = None) -> pd.Series:
        """The rate's total-order share minus that of another factor, by default the runner-up, by block."""
        return self.pseudo_values[RATE] - self.pseudo_values[over or self.runner_up]

    def cross_validated(self) -> float:
        """R² of the runs of every block as predicted from all the others."""
        return explained(self.y, self.predicted) if len(self.pseudo_values) else np.nan

    @cached_property
    def predicted(self) -> np.ndarray:
        """(n,) every run as the fit without its block predicts it."""
        predicted = np.empty_like(self.y)
        for block, fit in self.without.items():
            predicted[self.blocks == block] = fit.predict(self.x[self.blocks == block])
        return predicted


def shares(frames: Frames, response: str) -> Shares:
    """The shares of one of RESPONSES over all runs that have it."""
    factors, runs = frames["factors"], frames["runs"]
    values = RESPONSES[response](runs)
    kept = values.notna().to_numpy()
    names, of_runs = tuple(factors.factor), (coordinates(factors, runs), values.to_numpy(float), runs.block.to_numpy())
    return Shares(names, tuple(dimensions(factors)), *(part[kept] for part in of_runs))


def permuted(of: Shares) -> Shares:
    """The same runs with their responses dealt out at random: no factor has anything to do with them."""
    order = np.random.Generator(np.random.Philox(PERMUTED)).permutation(len(of.y))
    return replace(of, y=of.y[order])


def best_rate(frames: Frames, of: Shares) -> float:
    """The rate of least response, averaged over everything else, among 200 of the range."""
    places = (np.arange(200) + 0.5) / 200
    at = places[np.argmin(of.whole.main_effect(of.names.index(RATE), places))]
    low, high = np.log10(_range(frames))
    return float(10 ** (low + at * (high - low)))


def near_best(frames: Frames, of: Shares) -> Shares:
    """The shares of the test loss where the rate is known to half a decade: over rates near the best one only."""
    middle, ends = np.log10(best_rate(frames, of)), np.log10(_range(frames))
    low, high = (np.clip(middle + step, *ends) for step in (-NEAR, NEAR))
    # from places in the whole range to places in the narrow one
    low, high = ((end - ends[0]) / (ends[1] - ends[0]) for end in (low, high))
    at = of.names.index(RATE)
    kept = (of.x[:, at] >= low) & (of.x[:, at] <= high)
    x = of.x[kept]
    x[:, at] = (x[:, at] - low) / (high - low)
    return replace(of, x=x, y=of.y[kept], blocks=of.blocks[kept])


def _range(frames: Frames) -> np.ndarray:
    """Lowest and highest rate of the design."""
    return frames["factors"].set_index("factor").loc[RATE, ["low", "high"]].to_numpy(float)


def analysed(frames: Frames) -> dict[str, Shares]:
    """The shares of every response; slow to ask for the first time, so ask once."""
    found = {response: shares(frames, response) for response in RESPONSES}
    return found | {NARROW: near_best(frames, found["test_loss"])}


# Evidence


def effects(found: Mapping[str, Shares]) -> list[Effect]:
    """The rate's lead in every response, and its lead where responses are dealt out at random."""
    parts = []
    for response, of in found.items():
        at_random = permuted(of)
        for name, over in claimed(response).items():
            parts += evidence.effects(name, of.lead(over))
            parts += evidence.effects(name, at_random.lead(over), "same_arm")
    return parts


def claimed(response: str) -> dict[str, str | None]:
    """The claims on a response, and the factor over which the rate leads in each: the runner-up, or the idle one."""
    found = {f"{ROW}.{response}.{MODEL}": None}
    return found | ({f"{ROW}.{response}_share.{MODEL}": DUMMY} if response in SHARED else {})


def gates(frames: Frames, found: Mapping[str, Shares]) -> list[GateValue]:
    """How well each surrogate predicts, what it gives to the factor that does nothing, and how sound λ_max is."""
    parts = []
    for response, of in found.items():
        values = {"importance_fit": of.cross_validated(), "importance_dummy": abs(float(of.total[DUMMY]))}
        if response == "sharpness":
            runs = frames["runs"][learned(frames["runs"])]
            values |= {"importance_learned": float(learned(frames["runs"]).mean())}
            values |= {"residual": float(runs.residual.max(skipna=False)) if len(runs) else np.nan}
        parts += [gate for name in claimed(response) for gate in evidence.gates(name, values)]
    return parts


def findings(found: Mapping[str, Shares]) -> list[Finding]:
    """Total-order shares with their jackknife intervals, and the rate's lead."""
    parts = []
    for response, of in found.items():
        words = response.replace("_", " ")
        for name in of.names:
            parts.append(_finding(f"total-order share of {name.replace('_', ' ')}: {words}", of.pseudo_values[name]))
        parts.append(_finding(f"lead of the rate over {of.runner_up.replace('_', ' ')}: {words}", of.lead()))
    return parts


def _finding(quantity: str, values: pd.Series) -> Finding:
    return evidence.finding(ROW, MODEL, quantity, values, NOTEBOOK, TABLE)
