"""Numbers by seed of the study of gradient noise: escape times, curvature, barriers, accuracies, gates. No torch."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import pandas as pd

from nonconvex import records
from nonconvex.contrasts import tuning
from nonconvex.observations import sgd_noise as rows
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.paths import Results


@dataclass(frozen=True)
class Frames:
    """One frame per kind of record."""

    saddles: pd.DataFrame
    saddle_runs: pd.DataFrame
    continued: pd.DataFrame
    scratch: pd.DataFrame
    tuning: pd.DataFrame
    tuned: pd.DataFrame

    @classmethod
    def read(cls, files: Results) -> Self:
        """The study's records as it wrote them."""
        types = (rows.SaddlePoint, rows.SaddleRun, rows.ContinuedRun, rows.ScratchRun, TuningTrial, TunedArm)
        names = [field.name for field in fields(cls)]
        return cls(
            *(records.read(files.observations("sgd_noise", n), kind) for n, kind in zip(names, types, strict=True))
        )


def escape_times(frames: Frames, kind: str, start: str = "displaced") -> pd.DataFrame:
    """Updates until a run left, an arm a column, by (seed, saddle); one that stayed counts with its whole length."""
    of = frames.saddles[frames.saddles.kind == kind].set_index(["seed", "saddle"])
    runs = frames.saddle_runs[frames.saddle_runs.start == start]
    times = runs.pivot(index=["seed", "saddle"], columns="arm", values="escaped").astype(float)
    times = times.reindex(of.index)
    return times.apply(lambda arm: arm.fillna(of.steps))


def speedup(frames: Frames, kind: str, arm: str) -> pd.Series:
    """ln(t_GD / t_arm), mean over a seed's saddles."""
    times = escape_times(frames, kind)
    return by_seed(np.log(times.gd / times[arm]))


def left_exactly(frames: Frames, kind: str) -> pd.Series:
    """Share of the saddles that SGD leaves when started exactly there, minus gradient descent's share."""
    of = frames.saddles[frames.saddles.kind == kind].set_index(["seed", "saddle"])
    runs = frames.saddle_runs[frames.saddle_runs.start == "exact"]
    left = runs.pivot(index=["seed", "saddle"], columns="arm", values="escaped").notna().astype(float)
    return by_seed((left.sgd - left.gd).reindex(of.index))


def theory(frames: Frames, kind: str, column: str = "expected") -> pd.Series:
    """t_GD over what ln(1/δ) / ln(1 + ησ) gives, minus one; `expected_projected` for δ along the fastest direction."""
    of = frames.saddles[frames.saddles.kind == kind].set_index(["seed", "saddle"])
    return by_seed(escape_times(frames, kind).gd / of[column] - 1)


def by_seed(values: pd.Series) -> pd.Series:
    """The mean over saddles; NaN where one is missing."""
    return values.groupby("seed").agg(lambda of_seed: of_seed.mean(skipna=False))


def saddle_gates(frames: Frames, kind: str) -> dict[str, float]:
    """Whether the saddles are the catalogue's, their noise is what the claim is about, and plain descent leaves."""
    of = frames.saddles[frames.saddles.kind == kind]
    runs = frames.saddle_runs.merge(of[["seed", "saddle"]], on=["seed", "saddle"])
    plain = runs[(runs.start == "displaced") & (runs.arm == "gd")]
    share = of.noise_escaping / of.noise
    heard = {"sgd_noise_heard": float(share.min())}
    silent = {"sgd_noise_silent": float(max(share.max(), of.idle_gradient.max()))}
    return {
        "sgd_noise_catalogue": float(of.eigenvalue_error.max()),
        "sgd_noise_left": float(plain.escaped.notna().mean()),
        **(heard if kind == "active" else silent),
    }


def at(frames: Frames, loss: str, place: str, column: str, labels: str = "true") -> pd.DataFrame:
    """A number of the continued runs, an arm a column, by seed."""
    of = frames.continued
    of = of[(of.loss == loss) & (of["at"] == place) & (of.labels == labels)]
    return of.pivot(index="seed", columns="arm", values=column).astype(float)


def lambda_fall(frames: Frames, loss: str, place: str, arm: str, reference: str = "full") -> pd.Series:
    """ln λ_max of the reference minus that of the arm."""
    found = positive(at(frames, loss, place, "sharpness"))
    return np.log(found[reference]) - np.log(found[arm])


def positive(values: pd.DataFrame) -> pd.DataFrame:
    """NaN where there is no logarithm."""
    return values.where(values > 0)


def barrier(frames: Frames, loss: str, arm: str = "small", place: str = "end") -> pd.Series:
    """Height of the training loss on the line from the start, over the line between its ends."""
    return at(frames, loss, place, "barrier")[arm]


def gained(frames: Frames, loss: str, arm: str, reference: str, labels: str = "true") -> pd.Series:
    """Test accuracy of the arm minus the reference's at the end."""
    errors = at(frames, loss, "end", "test_error", labels)
    return errors[reference] - errors[arm]


def sharp_gates(frames: Frames, loss: str, place: str = "", arms: tuple[str, ...] = ()) -> dict[str, float]:
    """The start is a solution at its own edge of stability; eigenvalues (of `arms` at `place`) are converged."""
    of = frames.continued[(frames.continued.loss == loss) & (frames.continued.labels == "true")]
    starts = of[of.arm == "start"]
    gates = {
        "trained": float(starts.solved.mean()),
        "sgd_noise_sharp": float((starts.sharpness * starts.rate / 2).mean()),
    }
    if not place:
        return gates
    measured = of[(of["at"] == place) & of.arm.isin(arms)]
    return gates | {"residual": float(pd.concat([measured.residual, starts.residual]).max())}


def matched_loss(frames: Frames, loss: str, arm: str) -> float:
    """|mean over seeds| of the ln ratio of the losses at which full batches and the arm are compared."""
    found = np.log(positive(at(frames, loss, "level", "train_loss")))
    return float(abs((found.full - found[arm]).mean()))


def scratch_accuracy(frames: Frames, arm: str, reference: str, labels: str = "true") -> pd.Series:
    """Test accuracy of the arm minus the reference's, each at its tuned rate."""
    of = frames.scratch[(frames.scratch.labels == labels) & (frames.scratch.draw == "own")]
    errors = of.pivot(index="seed", columns="arm", values="test_error").astype(float)
    return errors[reference] - errors[arm]


def scratch_twins(frames: Frames) -> pd.Series:
    """The same of two sets of seeds, small batches both."""
    of = frames.scratch[(frames.scratch.labels == "true") & (frames.scratch.arm == "small")]
    errors = of.pivot(index="seed", columns="draw", values="test_error").astype(float)
    return errors.other - errors.own


def scratch_gates(frames: Frames, arms: tuple[str, str]) -> dict[str, float]:
    """How the two arms were tuned, and the share of their runs that trained."""
    of = frames.scratch[(frames.scratch.labels == "true") & (frames.scratch.draw == "own")]
    return tuning.gates(frames.tuned, arms) | {"trained": float(of[of.arm.isin(arms)].fitted.mean())}
