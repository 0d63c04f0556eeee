"""What the study of normalization says about its claims. No torch.

A claim is two arms and a quantity (QUANTITIES: how one number per run is read). Its effect in a seed is the difference
of that seed's arms, signed as the claim words it: positive is what the text says of the first arm.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import pandas as pd

from nonconvex import records
from nonconvex.contrasts import evidence, smoothness, tuning
from nonconvex.contrasts.smoothness import RUN, largest_rates, log, table
from nonconvex.observations import normalization as rows
from nonconvex.observations.landscape import GradientStep
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.paths import Results
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK = "normalization", "factor_normalization"


@dataclass(frozen=True)
class Frames:
    """One frame per kind of record."""

    arms: pd.DataFrame
    trials: pd.DataFrame
    tuning: pd.DataFrame
    tuned: pd.DataFrame
    runs: pd.DataFrame
    gradient: pd.DataFrame
    shifts: pd.DataFrame

    @classmethod
    def read(cls, files: Results) -> Self:
        """The study's records as it wrote them."""
        types = (rows.Arm, rows.ShortRun, TuningTrial, TunedArm, rows.NormalizedRun, GradientStep, rows.Shift)
        named = zip((field.name for field in fields(cls)), types, strict=True)
        return cls(*(records.read(files.observations(ROW, name), kind) for name, kind in named))


def rate(frames: Frames) -> pd.Series:
    """log10 of the largest rate that trains; NaN where no edge was found."""
    return np.log10(largest_rates(frames).rate)


def effective_rate(frames: Frames) -> pd.Series:
    """log10 of rate / |w|² at the end of the short run at the largest rate that trains, w the matrices and filters."""
    rates = largest_rates(frames).rate.rename("rate").reset_index()
    ends = frames.trials[frames.trials.phase == "reported"]
    found = rates.merge(ends[[*RUN, "rate", "weight_norm"]], how="left", on=[*RUN, "rate"]).set_index(RUN)
    return np.log10(found.rate / found.weight_norm**2)


def gradient_range(frames: Frames) -> pd.Series:
    """ln of the range of the loss along the gradient, over what it would be if the loss were linear."""
    return smoothness.gradient_range(frames)


def gradient_change(frames: Frames) -> pd.Series:
    """ln of the mean over steps along the gradient of |g' - g| / |g|."""
    return smoothness.gradient_change(frames)


def beta(frames: Frames) -> pd.Series:
    """ln of max over steps of |g' - g| |w| / t, t being the step's length over |w|: β-smoothness in units of 1 / |w|².

    A common factor on scale-invariant weights divides g by itself and multiplies |w|, so it cancels.
    """
    steps = frames.gradient
    # β |w|² = max_t |g' - g| / (t |w|) |w|²
    values = steps.change * steps.gradient_norm * steps.weight_norm / steps.length
    by_run = values.groupby([steps[name] for name in RUN])
    return log(by_run.max().where(by_run.count() == by_run.size()))


def loss(frames: Frames) -> pd.Series:
    """Training loss at the end of the run at the tuned rate, in nats; the noise, if any, at its mean."""
    return frames.runs.set_index(RUN).train_loss


def noisy_loss(frames: Frames) -> pd.Series:
    """The same with the noise on, for the arm that has it."""
    runs = frames.runs.set_index(RUN)
    noisy = runs.index.get_level_values("arm") == "noisy"
    return runs.train_loss.where(~noisy, runs.noisy_loss)


def accuracy(frames: Frames) -> pd.Series:
    """Share of test examples that are classified rightly at the end of the run at the tuned rate."""
    return 1 - frames.runs.set_index(RUN).test_error


def shift(frames: Frames) -> pd.Series:
    """ln of how far a step moves the moments of the layer inputs, mean over places along the run."""
    return log(frames.shifts.groupby(RUN)["shift"].mean())


QUANTITIES = {
    "rate": rate,
    "effective_rate": effective_rate,
    "range": gradient_range,
    "change": gradient_change,
    "beta": beta,
    "loss": loss,
    "noisy_loss": noisy_loss,
    "accuracy": accuracy,
    "shift": shift,
}
RATES, SMOOTH = ("rate", "effective_rate"), ("range", "change", "beta")


@dataclass(frozen=True)
class Contrast:
    """A claim `ROW.name.model`: `quantity` of `arm` minus that of `reference`, times `sign`."""

    name: str
    quantity: str
    arm: str
    reference: str
    sign: int = 1
    model: str = "resnet"
    kind: str = "contrast"

    @property
    def claim(self) -> str:
        return f"{ROW}.{self.name}.{self.model}"

    @property
    def arms(self) -> list[str]:
        return [self.arm, self.reference]

    @property
    def same_arm(self) -> bool:
        """Whether the same contrast between the twin and its counterpart is a control of the claim."""
        return self.model == "resnet" and self.kind == "contrast"


def _against_none() -> Iterator[Contrast]:
    """Every norm of the ResNet against none: rates, then smoothness; less of the latter is smoother."""
    for norm in ("batch", "layer", "group"):
        yield Contrast(f"{norm}_rate", "rate", norm, "none")
        yield Contrast(f"{norm}_rate_tenfold", "rate", norm, "none")
        yield Contrast(f"{norm}_effective_rate", "effective_rate", norm, "none")
        yield from (Contrast(f"{norm}_{quantity}", quantity, norm, "none", -1) for quantity in SMOOTH)


CONTRASTS = (
    *_against_none(),
    *(Contrast(f"layer_{quantity}", quantity, "layer", "none", -1, "transformer") for quantity in (*SMOOTH, "loss")),
    *(Contrast(f"{norm}_loss", "loss", norm, "none", -1) for norm in ("layer", "group")),
    Contrast("frozen_rate", "rate", "batch", "frozen"),
    Contrast("frozen_none_rate", "rate", "frozen", "none", kind="equivalence"),
    *(Contrast(f"frozen_{quantity}", quantity, "batch", "frozen", -1) for quantity in SMOOTH),
    Contrast("noisy_none_loss", "loss", "noisy", "none", -1),
    Contrast("noisy_loss", "loss", "noisy", "batch", kind="equivalence"),
    Contrast("noisy_loss_with_noise", "noisy_loss", "noisy", "batch", kind="equivalence"),
    Contrast("noisy_accuracy", "accuracy", "noisy", "batch", kind="equivalence"),
)


def values_of(frames: Frames, one: Contrast, arm: str | None = None, reference: str | None = None) -> pd.Series:
    """The signed effect by seed, NaN where an arm has no number; of two other arms if these are named."""
    values = table(QUANTITIES[one.quantity](frames), frames, one.model)
    return one.sign * (values[arm or one.arm] - values[reference or one.reference])


def effects(frames: Frames) -> list[Effect]:
    """Every claim's contrast, and the same between two arms without norm that differ in their seeds only."""
    found = []
    for one in CONTRASTS:
        found += evidence.effects(one.claim, values_of(frames, one))
        if one.same_arm:
            found += evidence.effects(one.claim, values_of(frames, one, "twin", "none"), "same_arm")
    return found


def gates(frames: Frames) -> list[GateValue]:
    """What the gates of every claim were measured to be."""
    return [gate for one in CONTRASTS for gate in evidence.gates(one.claim, gate_values(frames, one))]


def gate_values(frames: Frames, one: Contrast) -> dict[str, float]:
    """The gates that a claim's quantity needs, measured on its arms."""
    if one.quantity in RATES:
        return {"edge_found": edge_found(frames, one)}
    tuned = tuning.gates(frames.tuned[frames.tuned.model == one.model], one.arms)
    if one.quantity in SMOOTH:
        matched = {"trained": trained(frames, one), "matched_loss": matched_loss(frames, one)}
        return {"rate_interior": tuned["rate_interior"], **matched}
    return tuned | ({"normalization_shift": noise_shift(frames)} if one.arm == "noisy" else {})


def edge_found(frames: Frames, one: Contrast) -> float:
    """Share of the claim's runs whose trials show a rate that trains below one that does not."""
    return float(_of(largest_rates(frames).reset_index(), one).edge.mean())


def trained(frames: Frames, one: Contrast) -> float:
    """Share of the claim's tuned runs that reached the loss at which arms are compared."""
    return float(_of(frames.runs, one).matched_loss.notna().mean())


def matched_loss(frames: Frames, one: Contrast) -> float:
    """|mean over seeds of the difference of ln training loss at the states that are compared|."""
    logs = table(log(frames.runs.set_index(RUN).matched_loss), frames, one.model)
    return float(abs((logs[one.arm] - logs[one.reference]).mean()))


def noise_shift(frames: Frames) -> float:
    """Least over seeds of ln shift with noise minus the larger of batch norm's and no norm's; NaN if any is missing."""
    values = table(shift(frames), frames, "resnet")
    found = values["noisy"] - values[["batch", "none"]].max(axis=1, skipna=False)
    return float(found.min(skipna=False)) if len(found) else np.nan


def findings(frames: Frames) -> list[Finding]:
    """Mean and interval of every effect, and of every quantity in every arm."""
    found = [
        evidence.finding(ROW, one.model, f"effect: {one.name}", values_of(frames, one), NOTEBOOK, "factors")
        for one in CONTRASTS
    ]
    for quantity, read in QUANTITIES.items():
        for (model, arm), values in read(frames).groupby(["model", "arm"]):
            found.append(evidence.finding(ROW, model, f"{quantity} of {arm}", values, NOTEBOOK, "factors"))
    return found


def _of(frame: pd.DataFrame, one: Contrast) -> pd.DataFrame:
    return frame[(frame.model == one.model) & frame.arm.isin(one.arms)]
