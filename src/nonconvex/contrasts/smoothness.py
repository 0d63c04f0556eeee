"""Numbers per run that say how simple a landscape is, from the records of the study of the landscape. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import pandas as pd
from scipy import stats

from nonconvex import records
from nonconvex.observations import landscape as rows
from nonconvex.paths import Results

RUN = ["model", "arm", "seed"]


@dataclass(frozen=True)
class Frames:
    """One frame per kind of record."""

    arms: pd.DataFrame
    trials: pd.DataFrame
    runs: pd.DataFrame
    curvature: pd.DataFrame
    gradient: pd.DataFrame
    planes: pd.DataFrame
    surface: pd.DataFrame

    @classmethod
    def read(cls, files: Results) -> Self:
        """The study's records as it wrote them."""
        types = (rows.Arm, rows.Trial, rows.TunedRun, rows.Curvature, rows.GradientStep, rows.Plane, rows.SurfacePoint)
        names = [field.name for field in fields(cls)]
        return cls(
            *(records.read(files.observations("landscape", n), kind) for n, kind in zip(names, types, strict=True))
        )


def largest_rates(frames: Frames) -> pd.DataFrame:
    """Per run the largest rate that trains, NaN unless a larger one was tried and did not (`edge`)."""
    trials = frames.trials[frames.trials.phase == "reported"].merge(frames.arms[["model", "arm", "trained_below"]])
    trained = trials[trials.train_loss < trials.trained_below]
    found = trials.groupby(RUN).rate.max().to_frame("highest").join(trained.groupby(RUN).rate.max().rename("largest"))
    found["edge"] = found.largest < found.highest
    return found.assign(rate=found.largest.where(found.edge))


def rate(frames: Frames) -> pd.Series:
    """log10 of the largest trainable rate."""
    return np.log10(largest_rates(frames).rate)


def nonconvexity(frames: Frames) -> pd.Series:
    """ln |λ_min| / λ_max of the filter-normalised Hessian (the ratio that Li et al. 2018 map)."""
    ends = frames.curvature.set_index(RUN)
    return log(ends.lambda_min.abs() / ends.lambda_max)


def curvature(frames: Frames) -> pd.Series:
    """ln λ_max of the filter-normalised Hessian."""
    return log(frames.curvature.set_index(RUN).lambda_max)


def gradient_range(frames: Frames) -> pd.Series:
    """ln of (max - min) L along the gradient over |g| times the longest step; 0 where the loss is linear."""
    steps = frames.gradient
    runs = steps.groupby(RUN)
    highest = np.maximum(runs.loss.max(), runs.start_loss.first())
    lowest = np.minimum(runs.loss.min(), runs.start_loss.first())
    reach = runs.gradient_norm.first() * runs.length.max() * runs.weight_norm.first()
    complete = runs.loss.count() == runs.size()
    return log(((highest - lowest) / reach).where(complete))


def gradient_change(frames: Frames) -> pd.Series:
    """ln of the mean over steps of |g' - g| / |g|."""
    runs = frames.gradient.groupby(RUN).change
    return log(runs.mean().where(runs.count() == runs.size()))


def plane(frames: Frames) -> pd.Series:
    """Share of a random filter-normalised plane where it curves down in some direction."""
    return frames.planes.set_index(RUN).nonconvex_share


def loss(frames: Frames) -> pd.Series:
    """Training loss at the end of the run at the tuned rate, in nats."""
    return frames.runs.set_index(RUN).final_loss


READERS = {
    "rate": rate,
    "nonconvexity": nonconvexity,
    "curvature": curvature,
    "gradient_range": gradient_range,
    "gradient_change": gradient_change,
    "plane": plane,
    "loss": loss,
}


def table(values: pd.Series, frames: Frames, model: str) -> pd.DataFrame:
    """One quantity of one bed: seeds down, arms across, NaN where there is no number."""
    seeds = frames.runs.seed[frames.runs.model == model].unique()
    arms = frames.arms.arm[frames.arms.model == model]
    wide = values[values.index.get_level_values("model") == model].droplevel("model").unstack("arm")
    return wide.reindex(index=seeds, columns=arms).astype(float)


def contrast(values: pd.DataFrame, weights: Mapping[str, float]) -> pd.Series:
    """Σ weight · value over the arms, by seed; NaN where an arm has none."""
    return sum(weight * values[arm] for arm, weight in weights.items())


def compared(frames: Frames) -> pd.DataFrame:
    """The ResNet's runs with both curvature ratio and final loss; the twin repeats an arm and is left out."""
    both = pd.DataFrame({"nonconvexity": nonconvexity(frames), "loss": loss(frames)}).dropna().reset_index()
    return both[(both.model == "resnet") & (both.arm != "twin")]


def geometry(frames: Frames) -> pd.Series:
    """Spearman's rank correlation, over a seed's architectures, of ln |λ_min| / λ_max and final training loss."""
    by_seed = compared(frames).groupby("seed")
    found = {seed: _spearman(runs.nonconvexity, runs.loss) for seed, runs in by_seed if len(runs) > 2}
    return pd.Series(found, dtype=float)


def _spearman(x: pd.Series, y: pd.Series) -> float:
    return float(stats.spearmanr(x, y).statistic) if x.nunique() > 1 and y.nunique() > 1 else np.nan


def log(values: pd.Series) -> pd.Series:
    return np.log(values.where(values > 0))
