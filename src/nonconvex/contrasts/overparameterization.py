"""What the study of overparameterization says about its claims. No torch.

Every effect is one number per seed. "Narrow" is the narrowest network that fitted in every seed and has one FACTOR
times as wide beside it; which one that is depends on labels and method, and is read from the records.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence, tuning
from nonconvex.contrasts.fits import (
    Frames,
    counterpart,
    disagreement,
    distance_slope,
    easier,
    fitted_widths,
    kernel_slope,
    last_doubling,
    narrow_and_wide,
    parameters_alone,
    positive_definite,
    reached,
    same_arm,
    threshold,
    wide_over_bottleneck,
)
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK, BED = "overparameterization", "factor_overparameterization", "mlp"
ACCURATE = 0.01  # training error up to which a run has learned its examples


def claims(frames: Frames) -> dict[str, pd.Series]:
    """Every claim's effect by seed, in the sign in which the claim words it."""
    clean, random, sgd = frames.of("clean"), frames.of("random"), frames.of("clean", "minibatch")
    ends = [random.width.max(), random.width.min()]
    return {
        "steps": easier(clean),
        "steps_random": easier(random),
        "steps_sgd": easier(sgd),
        "last_doubling": last_doubling(clean),
        "wide_over_bottleneck": wide_over_bottleneck(frames),
        "parameters_alone": parameters_alone(frames),
        "reaches": reached(random)[ends[0]],
        "created": reached(random)[ends[0]] - reached(random)[ends[1]],
        "distinct": disagreement(frames, "random"),
        "threshold": np.log(threshold(random) / random.examples.iloc[0]),
        "gram": positive_definite(frames)[ends[0]],
        "kernel": kernel_slope(clean),
        "distance": distance_slope(clean),
    }


def effects(frames: Frames) -> list[Effect]:
    """Every claim's contrast, and for claims on steps the same between own runs and twins of the widest network."""
    found = [effect for name, values in claims(frames).items() for effect in evidence.effects(_claim(name), values)]
    controls = {"clean": ("steps", "last_doubling", "wide_over_bottleneck"), "random": ("steps_random",)}
    for labels, names in controls.items():
        for name in names:
            found += evidence.effects(_claim(name), same_arm(frames, labels), "same_arm")
    return found


def gates(frames: Frames) -> list[GateValue]:
    """What the gates of every claim were measured to be."""
    clean, random, sgd = frames.of("clean"), frames.of("random"), frames.of("clean", "minibatch")
    all_fit, widths = fitted_widths(clean), sorted(random.width.unique())
    like, apart = counterpart(frames)
    narrow = narrow_and_wide(clean)
    small = frames.of("clean", shape="bottleneck")
    both = pd.concat([_at(clean, [like]), small])
    pairs = pd.concat([_at(random, widths[-1:]), frames.of("random", start="twin")])
    found = {
        **{name: _descent(frames, runs, narrow_and_wide(runs)) for name, runs in _compared(clean, random, sgd)},
        "last_doubling": _descent(frames, clean, widths[-2:]),
        "wide_over_bottleneck": {**_tuning(frames, both), "overparameterization_equal_size": apart},
        "parameters_alone": _tuning(frames, pd.concat([_at(clean, narrow[:1]), small]) if narrow else None),
        "reaches": _interior(frames, _at(random, widths[-1:])),
        "created": _tuning(frames, _at(random, [widths[0], widths[-1]])),
        "distinct": {**_interior(frames, pairs), "fitted": _fitted(pairs)},
        "threshold": _tuning(frames, random),
        "gram": {},
        "kernel": {**_descent(frames, clean, all_fit), "overparameterization_widths": len(all_fit)},
        "distance": {**_descent(frames, clean, all_fit), "overparameterization_widths": len(all_fit)},
    }
    return [gate for name, values in found.items() for gate in evidence.gates(_claim(name), values)]


def findings(frames: Frames) -> list[Finding]:
    """Mean and interval of every effect, and of what was measured at every width."""
    found = {f"effect: {name}": values for name, values in claims(frames).items()}
    for labels in ("clean", "random"):
        runs = frames.of(labels)
        easy = runs.assign(steps=runs.easy_steps)
        found[f"{labels} labels: effect on steps at the higher loss level"] = easier(easy)
        found[f"{labels} labels: threshold per example and class"] = threshold(runs) / per_label(runs)
        found[f"{labels} labels: disagreement of twins"] = disagreement(frames, labels)
        for width, run in runs.groupby("width"):
            found |= {f"{labels} labels: {name} at width {width}": values for name, values in _numbers(run).items()}
    return [evidence.finding(ROW, BED, name, values, NOTEBOOK, table="factors") for name, values in found.items()]


def per_label(runs: pd.DataFrame) -> int:
    """n C: one equation for every example and class."""
    return int(runs.examples.iloc[0] * runs.classes.iloc[0])


def _numbers(runs: pd.DataFrame) -> dict[str, pd.Series]:
    """What is said of the runs of one width."""
    steps = runs.steps.astype(float)
    return {
        "share that fitted": steps.notna().astype(float),
        "steps": steps,
        "steps times parameters": steps * runs.parameters,
        "test error": runs.test_error.where(steps.notna()),
        "relative change of the kernel": runs.kernel_change,
        "distance": runs.distance.where(steps.notna()),
    }


def _claim(name: str) -> str:
    return f"{ROW}.{name}.{BED}"


def _compared(clean: pd.DataFrame, random: pd.DataFrame, sgd: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [("steps", clean), ("steps_random", random), ("steps_sgd", sgd)]


def _at(runs: pd.DataFrame, widths: Sequence[int]) -> pd.DataFrame:
    return runs[runs.width.isin(list(widths))]


def _arms(runs: pd.DataFrame) -> list[str]:
    kinds = runs[["shape", "width", "labels", "method"]].drop_duplicates()
    return ["_".join(map(str, kind)) for kind in kinds.itertuples(index=False)]


def _tuning(frames: Frames, runs: pd.DataFrame | None) -> dict[str, float | None]:
    """`rate_interior` and `equal_tuning` of the arms of some runs; no value without runs."""
    if runs is None or runs.empty:
        return {"rate_interior": None, "equal_tuning": None}
    return tuning.gates(frames.tuned, _arms(runs))


def _interior(frames: Frames, runs: pd.DataFrame) -> dict[str, float | None]:
    return {"rate_interior": _tuning(frames, runs)["rate_interior"]}


def _fitted(runs: pd.DataFrame) -> float:
    return float((runs.train_error <= ACCURATE).mean()) if len(runs) else np.nan


def _descent(frames: Frames, runs: pd.DataFrame, widths: Sequence[int] | None) -> dict[str, float | None]:
    """The gates of a contrast of steps between some widths."""
    chosen = _at(runs, widths or ())
    return {**_tuning(frames, chosen), "fitted": _fitted(chosen)}
