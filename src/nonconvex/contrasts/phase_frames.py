"""Numbers by seed from the records of the study of three phases. No torch."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import pandas as pd

from nonconvex import records
from nonconvex.observations import three_phases as rows
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.paths import Results

PHASES = ("warmup", "stable", "decay")
PLACES = {"start": ("trunk", "start"), "warm": ("trunk", "warm"), "fork": ("trunk", "fork"), "end": ("decay", "end")}


@dataclass(frozen=True)
class Frames:
    """One frame per kind of record."""

    points: pd.DataFrame
    looks: pd.DataFrame
    lines: pd.DataFrame
    line_points: pd.DataFrame
    curvature: pd.DataFrame
    tuning: pd.DataFrame
    tuned: pd.DataFrame

    @classmethod
    def read(cls, files: Results) -> Self:
        """The study's records as it wrote them."""
        types = (rows.PhasePoint, rows.Look, rows.PhaseLine, rows.PhaseLinePoint, rows.PhaseCurvature)
        names = [field.name for field in fields(cls)]
        kinds = (*types, TuningTrial, TunedArm)
        paths = [files.observations("three_phases", name) for name in names]
        return cls(*(records.read(path, kind) for path, kind in zip(paths, kinds, strict=True)))

    @property
    def beds(self) -> list[str]:
        return list(dict.fromkeys(self.tuned.arm))


def point(frames: Frames, bed: str, arm: str, place: str, column: str, labels: str = "true") -> pd.Series:
    """A column of `PhasePoint` by seed."""
    found = frames.points
    chosen = (found.bed == bed) & (found.labels == labels) & (found.arm == arm) & (found.place == place)
    return found[chosen].set_index("seed")[column].astype(float)


def boundary(frames: Frames, bed: str, place: str, column: str) -> pd.Series:
    """The same along the whole schedule, at one of PLACES."""
    return point(frames, bed, *PLACES[place], column)


def line(frames: Frames, bed: str, phase: str, column: str) -> pd.Series:
    """A column of `PhaseLine` by seed."""
    found = frames.lines
    return found[(found.bed == bed) & (found.phase == phase)].set_index("seed")[column].astype(float)


def curvature(frames: Frames, bed: str, arm: str, at: str, column: str) -> pd.Series:
    """A column of `PhaseCurvature` by seed."""
    found = frames.curvature
    chosen = (found.bed == bed) & (found.arm == arm) & (found["at"] == at)
    return found[chosen].set_index("seed")[column].astype(float)


def log(values: pd.Series) -> pd.Series:
    """ln, NaN where a value is not positive."""
    return np.log(values.where(values > 0))


def gains(values: dict[str, pd.Series]) -> pd.DataFrame:
    """How far a quantity falls in every phase, by seed, from its values at PLACES."""
    ends = list(PLACES)
    return pd.DataFrame({phase: values[ends[i]] - values[ends[i + 1]] for i, phase in enumerate(PHASES)})


def falls(frames: Frames, bed: str, quantity: str) -> pd.DataFrame:
    """How much of a quantity every phase learns: training `loss`, its `log_loss`, or test `accuracy`."""
    column = "test_error" if quantity == "accuracy" else "train_loss"
    values = {place: boundary(frames, bed, place, column) for place in PLACES}
    return gains({place: log(one) for place, one in values.items()} if quantity == "log_loss" else values)


def shares(frames: Frames, bed: str, quantity: str) -> pd.DataFrame:
    """The phases' shares of what the whole run learns; NaN where it learns nothing."""
    found = falls(frames, bed, quantity)
    total = found.sum(axis=1, skipna=False)
    return found.div(total.where(total > 0), axis=0)


def lengths(frames: Frames, bed: str) -> dict[str, float]:
    """Updates per phase; NaN where a bed has no rows."""
    return {phase: line(frames, bed, phase, "steps").max() for phase in PHASES}
