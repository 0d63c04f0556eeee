"""How many updates the runs of the study of overparameterization took to fit, by seed and width. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import pandas as pd

from nonconvex import records
from nonconvex.observations import overparameterization as rows
from nonconvex.observations.tuning import TunedArm
from nonconvex.paths import Results

FACTOR = 8  # between the widths that the claims on steps compare
SINGULAR = 1e-9  # of the mean eigenvalue; what is below is zero up to rounding in double precision


@dataclass(frozen=True)
class Frames:
    """One frame per kind of record."""

    trials: pd.DataFrame
    tuned: pd.DataFrame
    runs: pd.DataFrame
    grams: pd.DataFrame
    pairs: pd.DataFrame

    @classmethod
    def read(cls, files: Results) -> Self:
        """The study's records as it wrote them."""
        types = (rows.FitTrial, TunedArm, rows.FitRun, rows.Gram, rows.Pair)
        names = [field.name for field in fields(cls)]
        return cls(
            *(
                records.read(files.observations("overparameterization", n), kind)
                for n, kind in zip(names, types, strict=True)
            )
        )

    def of(self, labels: str, method: str = "full_batch", shape: str = "square", start: str = "own") -> pd.DataFrame:
        """The reported runs of one kind, of every width."""
        runs = self.runs
        kind = (runs["labels"] == labels) & (runs.method == method) & (runs["shape"] == shape) & (runs.start == start)
        return runs[kind]


def table(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column of runs of one kind: seeds down, widths across, NaN where there is no number."""
    return runs.pivot(index="seed", columns="width", values=column).astype(float)


def log_steps(runs: pd.DataFrame) -> pd.DataFrame:
    """ln of the updates to a fit; NaN for a run that did not fit."""
    return np.log(table(runs, "steps"))


def fitted_widths(runs: pd.DataFrame) -> list[int]:
    """The widths at which every seed fitted."""
    all_fit = table(runs, "steps").notna().all()
    return all_fit.index[all_fit].tolist()


def narrow_and_wide(runs: pd.DataFrame) -> tuple[int, int] | None:
    """The narrow network and the one FACTOR times as wide; None where no network qualifies."""
    narrow = [width for width in fitted_widths(runs) if FACTOR * width in set(runs.width)]
    return (narrow[0], FACTOR * narrow[0]) if narrow else None


def easier(runs: pd.DataFrame) -> pd.Series:
    """ln steps of the narrow network minus ln steps of the wide one."""
    return _difference(log_steps(runs), narrow_and_wide(runs))


def last_doubling(runs: pd.DataFrame) -> pd.Series:
    """ln steps of the second widest network minus ln steps of the widest."""
    return _difference(log_steps(runs), sorted(runs.width.unique())[-2:])


def same_arm(frames: Frames, labels: str) -> pd.Series:
    """ln steps of the widest network minus ln steps of its twin, which differs in its initial draw alone."""
    own, twin = (log_steps(frames.of(labels, start=start)) for start in ("own", "twin"))
    return own[own.columns[-1]] - twin[own.columns[-1]] if len(twin.columns) else pd.Series(dtype=float)


def bottleneck(frames: Frames) -> pd.Series:
    """ln steps of the bottleneck network; a run that did not fit counts as all the steps allowed, which is too few."""
    runs = frames.of("clean", shape="bottleneck").set_index("seed")
    return np.log(runs.steps.astype(float).fillna(runs.allowed))


def counterpart(frames: Frames) -> tuple[int, float]:
    """Width of the network whose number of parameters is nearest to the bottleneck's, and their relative difference."""
    sizes = frames.of("clean").groupby("width").parameters.first()
    apart = (frames.of("clean", shape="bottleneck").parameters.iloc[0] / sizes - 1).abs()
    return int(apart.idxmin()), float(apart.min())


def wide_over_bottleneck(frames: Frames) -> pd.Series:
    """ln steps of the bottleneck minus ln steps of the wide network of equal size."""
    return bottleneck(frames) - log_steps(frames.of("clean"))[counterpart(frames)[0]]


def parameters_alone(frames: Frames) -> pd.Series:
    """ln steps of the narrow network minus ln steps of the bottleneck, which has more parameters."""
    found = narrow_and_wide(frames.of("clean"))
    return log_steps(frames.of("clean"))[found[0]] - bottleneck(frames) if found else pd.Series(dtype=float)


def reached(runs: pd.DataFrame) -> pd.DataFrame:
    """1 where a run fitted and classifies every training example correctly, else 0: seeds down, widths across."""
    return (table(runs, "steps").notna() & (table(runs, "train_error") == 0)).astype(float)


def slope(runs: pd.DataFrame, values: pd.Series) -> pd.Series:
    """By seed, the least-squares slope of ln `values` on ln width over the widths at which every seed fitted."""
    widths = fitted_widths(runs)
    logs = np.log(table(runs.assign(value=values), "value")[widths])
    if len(widths) < 2:
        return pd.Series(dtype=float)
    x = np.log(widths) - np.log(widths).mean()
    # b = sum (x - mean) y / sum (x - mean)^2
    return (logs * x).sum(axis=1, skipna=False) / np.square(x).sum()


def kernel_slope(runs: pd.DataFrame) -> pd.Series:
    return slope(runs, runs.kernel_change)


def distance_slope(runs: pd.DataFrame) -> pd.Series:
    """Of the distance from the initial weights relative to their norm."""
    return slope(runs, runs.distance / runs.initial_norm)


def threshold(runs: pd.DataFrame) -> pd.Series:
    """Parameters at which a seed's networks begin to fit: geometric mean of the widest below that do not and the first.

    NaN for a seed whose narrowest network fits already, or none does.
    """
    fits = table(runs, "steps").notna().to_numpy()
    sizes = runs.groupby("width").parameters.first().to_numpy(float)
    first = np.where(fits.any(axis=1), fits.argmax(axis=1), 0)
    # P* = sqrt(P_(k-1) P_k), k the first width that fits
    middle = np.where(first > 0, np.sqrt(sizes[first] * sizes[first - 1]), np.nan)
    return pd.Series(middle, table(runs, "steps").index)


def positive_definite(frames: Frames) -> pd.DataFrame:
    """1 where the kernel at the initial weights has no zero eigenvalue: seeds down, widths across."""
    spectra = frames.grams.assign(regular=frames.grams.smallest > SINGULAR * frames.grams["mean"])
    return table(spectra, "regular")


def disagreement(frames: Frames, labels: str) -> pd.Series:
    """By seed, the share of test inputs that own run and twin classify differently."""
    return frames.pairs[frames.pairs["labels"] == labels].set_index("seed").disagreement


def _difference(logs: pd.DataFrame, widths: Sequence[int] | None) -> pd.Series:
    """First minus second of two widths; nothing where they are not there."""
    return logs[widths[0]] - logs[widths[1]] if widths is not None and len(widths) == 2 else pd.Series(dtype=float)
