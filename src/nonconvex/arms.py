"""The records of a profile's arms: every run that the settings ask for, and none that they do not."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from nonconvex import plan, records
from nonconvex.config import Settings
from nonconvex.paths import Results

ARM = ["model", "strategy", "schedule"]
RUN = [*ARM, "phase", "seed", "rate"]
LOSSES = ["train_loss", "train_error", "test_loss", "test_error"]


class IncompleteError(ValueError):
    """Runs that the settings ask for and the records lack."""


@dataclass(frozen=True)
class Records:
    """Frames of Run, CurvePoint, MeasurementRow, Barrier and PathPoint, in the grid's order.

    Rows about diverged runs are there, without values.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    measurements: pd.DataFrame
    barriers: pd.DataFrame
    points: pd.DataFrame

    @property
    def reported(self) -> pd.DataFrame:
        return self.runs[self.runs.phase == "reported"]

    @property
    def tuning(self) -> pd.DataFrame:
        return self.runs[self.runs.phase == "tuning"]


def load(files: Results, settings: Settings) -> Records:
    """The records that the settings ask for; what else a file holds is left out.

    Raises IncompleteError listing every missing run, and RecordError for a damaged file. Curves,
    measurements and paths may be absent: the tables say so where they would stand.
    """
    models, strategies = settings.grid.models, settings.grid.strategies
    stages = [(model, strategy) for model in models for strategy in strategies]
    found = [_stage(files, settings, *stage) for stage in stages]
    if missing := [line for _, lines in found for line in lines]:
        raise IncompleteError("runs missing:\n  " + "\n  ".join(missing))
    runs = pd.concat([frame for frame, _ in found], ignore_index=True)
    about = partial(_about, runs[runs.phase == "reported"])
    return Records(
        runs,
        about(_existing([files.curves(*stage) for stage in stages], records.CurvePoint), ["loss"]),
        about(_existing([files.measurements(*stage) for stage in stages], records.MeasurementRow), ["value"]),
        about(_existing([files.connectivity(model) for model in models], records.Barrier), ["barrier"]),
        about(_existing([files.paths(model) for model in models], records.PathPoint), LOSSES),
    )


def _stage(files: Results, settings: Settings, model: str, strategy: str) -> tuple[pd.DataFrame, list[str]]:
    """The wanted runs of one stage, and a line for each group of them that is missing.

    The reported runs are those at the rate that the tuning runs choose; runs of another length are of older
    settings.
    """
    path = files.runs(model, strategy)
    if not path.is_file():
        return records.empty(records.Run), [f"{path}: no such file"]
    found = records.read(path, records.Run)
    found = found[(found.steps == settings.train[model].steps) | found.diverged_step.notna()]
    tuning, missing = _pick(found, plan.tuning_members(settings, model, strategy), model, strategy)
    if missing:
        return tuning, missing
    chosen = plan.chosen_rates(tuning.astype(object).where(tuning.notna(), None).itertuples())
    members = [m for m in plan.reported_members(settings, strategy, chosen) if m.phase == "reported"]
    reported, missing = _pick(found, members, model, strategy)
    return pd.concat([tuning, reported]), missing


def _pick(
    found: pd.DataFrame, members: Iterable[plan.Member], model: str, strategy: str
) -> tuple[pd.DataFrame, list[str]]:
    """The runs of `members` among those found, and a line for each arm, phase and rate with runs missing."""
    wanted = pd.DataFrame([vars(member) for member in members]).assign(model=model, strategy=strategy)
    wanted["rate"] = [float(f"{rate:.9g}") for rate in wanted.rate]  # as records are written
    picked = wanted[RUN].merge(found, on=RUN, how="left", indicator="where")
    lost = picked[picked["where"] == "left_only"].groupby([*ARM, "phase", "rate"], sort=False)["seed"]
    lines = [
        f"{model}/{strategy}/{schedule}: {phase} at rate {rate:g}, seeds {', '.join(map(str, seeds))}"
        for (_, _, schedule, phase, rate), seeds in lost
    ]
    return picked[found.columns], lines


def _existing(paths: Iterable, record_type: type) -> pd.DataFrame:
    frames = [records.read(path, record_type) for path in paths if path.is_file()]
    return pd.concat(frames, ignore_index=True) if frames else records.empty(record_type)


def _about(reported: pd.DataFrame, frame: pd.DataFrame, values: list[str]) -> pd.DataFrame:
    """The rows of `frame` about reported runs, at both ends of a path, with no `values` where one diverged.

    A diverged run is frozen at weights that may be finite, and what was measured there says nothing about the arm.
    A sibling goes by the seed of the run that it shares a start with.
    """
    ends = [frame.seed] if "seed" in frame else [frame.seed_a, frame.seed_b]
    places = [pd.MultiIndex.from_arrays([*(frame[name] for name in ARM), end]) for end in ends]
    known, finished = (
        pd.MultiIndex.from_frame(runs[[*ARM, "seed"]]) for runs in (reported, reported[reported.diverged_step.isna()])
    )
    frame = frame.copy()
    frame.loc[~np.all([place.isin(finished) for place in places], axis=0), values] = np.nan
    return frame[np.all([place.isin(known) for place in places], axis=0)].reset_index(drop=True)
