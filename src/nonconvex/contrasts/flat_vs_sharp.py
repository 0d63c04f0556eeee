"""What the study of flat and sharp minima says about its claims: batch sizes compared, correlations, rescalings.

Every function takes the study's frames by name: trials, arms, endpoints, sharpness, rescalings.
"""

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence, flat_zoo
from nonconvex.contrasts.flat_zoo import NOTEBOOK, ROW, Frames, claim, residual
from nonconvex.records import Effect, Finding, GateValue

ARM = ["model", "budget", "batch_size", "rate"]
ACCOUNTING = {"mlp": "tuned_steps", "resnet": "tuned_epochs"}  # that sharpness and accuracy are compared under
ACCURACY = {  # claim -> bed and accounting
    "batch_accuracy.mlp": ("mlp", "tuned_steps"),
    "batch_accuracy.resnet": ("resnet", "tuned_epochs"),
    "batch_accuracy_tuned_epochs.mlp": ("mlp", "tuned_epochs"),
    "batch_accuracy_same_rate.mlp": ("mlp", "same_rate_epochs"),
}


def effects(frames: Frames) -> list[Effect]:
    """The contrasts of every claim and of its controls, one per replicate."""
    parts = (accuracies, curvatures, flat_zoo.correlations, flat_zoo.rescalings)
    return [effect for part in parts for effect in part(frames)]


def of_accounting(rows: pd.DataFrame, arms: pd.DataFrame, model: str, accounting: str) -> pd.DataFrame:
    """The rows of an accounting's runs, with the role of their batch size."""
    chosen = arms[(arms.model == model) & (arms.accounting == accounting)]
    return rows.merge(chosen[[*ARM, "role"]], on=ARM)


def column(rows: pd.DataFrame, role: str, draw: str = "own", labels: str = "true") -> pd.Series:
    """The numbers of one arm by seed; `rows` have a `value`."""
    chosen = rows[(rows.role == role) & (rows.draw == draw) & (rows.labels == labels)]
    return chosen.set_index("seed").value


def accuracy(frames: Frames, model: str, accounting: str) -> pd.DataFrame:
    """Runs with test accuracy as their value."""
    rows = of_accounting(frames["endpoints"], frames["arms"], model, accounting)
    return rows.assign(value=1 - rows.test_error)


def accuracies(frames: Frames) -> list[Effect]:
    """Test accuracy of the small batch minus that of the large one, and the two controls of each."""
    found = []
    for name, (model, accounting) in ACCURACY.items():
        rows = accuracy(frames, model, accounting)
        small = column(rows, "small")
        shuffled = column(rows, "small", labels="shuffled") - column(rows, "large", labels="shuffled")
        found += evidence.effects(claim(name), small - column(rows, "large"))
        found += evidence.effects(claim(name), small - column(rows, "small", draw="other"), "same_arm")
        found += evidence.effects(claim(name), shuffled, "shuffled_labels")
    return found


def logarithms(
    frames: Frames, model: str, accounting: str, quantity: str = "lambda_max", matched: bool = False
) -> pd.DataFrame:
    """Runs with log10 of a measure as their value: at the end, or where the loss met the last level."""
    rows = of_accounting(frames["sharpness"], frames["arms"], model, accounting)
    rows = rows[rows.quantity == quantity]
    rows = rows[rows.level == rows.level.min()] if matched else rows[rows.level.isna()]
    return rows.assign(value=np.log10(rows.value.where(rows.value > 0)))


def contrasted(frames: Frames) -> dict[str, pd.DataFrame]:
    """Claim on curvature -> the runs that it compares."""
    found = {}
    for model, accounting in ACCOUNTING.items():
        for short, quantity in (("lambda", "lambda_max"), ("gauss_newton", "gauss_newton_max")):
            found[f"{short}_matched.{model}"] = logarithms(frames, model, accounting, quantity, matched=True)
        found[f"lambda_end.{model}"] = logarithms(frames, model, accounting)
    found["lambda_end_same_rate.mlp"] = logarithms(frames, "mlp", "same_rate_epochs")
    return found


def curvatures(frames: Frames) -> list[Effect]:
    """log10 curvature of the large batch minus that of the small one; the control is the small one's second run."""
    found = []
    for name, rows in contrasted(frames).items():
        small = column(rows, "small")
        found += evidence.effects(claim(name), column(rows, "large") - small)
        found += evidence.effects(claim(name), column(rows, "small", draw="other") - small, "same_arm")
    return found


def gates(frames: Frames) -> list[GateValue]:
    """What every measured gate of every claim was found to be."""
    found = []
    for name, (model, accounting) in ACCURACY.items():
        found += evidence.gates(claim(name), tuning(frames, model, accounting))
    for name, rows in contrasted(frames).items():
        model = name.rpartition(".")[2]
        accounting = "same_rate_epochs" if "same_rate" in name else ACCOUNTING[model]
        measured = tuning(frames, model, accounting) | {"residual": residual(compared(rows))}
        found += evidence.gates(claim(name), measured | (meeting(rows) if "matched" in name else {}))
    return found + flat_zoo.gates(frames) + flat_zoo.rescaling_gates(frames)


def tuning(frames: Frames, model: str, accounting: str) -> dict[str, float]:
    """Whether the two arms' rates are interior and equally tuned; a shared rate was tuned for one of them."""
    arms = frames["arms"].query("model == @model and accounting == @accounting and role != 'other'")
    found = {"rate_interior": float(arms.interior.min()), "equal_tuning": float(arms.trials.nunique() == 1)}
    return {"rate_interior": found["rate_interior"]} if accounting.startswith("same_rate") else found


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows.role != "other") & (rows.draw == "own")]


def meeting(rows: pd.DataFrame) -> dict[str, float]:
    """How many of the compared runs met the level, and how far apart the arms' losses are there."""
    rows = compared(rows)
    losses = rows.groupby("role").loss.mean()
    gap = (losses.get("large", np.nan) - losses.get("small", np.nan)) / rows.level.min()
    return {"trained": float(rows.step.notna().mean()), "matched": float(gap)}


def findings(frames: Frames) -> list[Finding]:
    """Means and intervals that the tables quote."""
    found = [
        *_batch_findings(frames, "test accuracy", ACCURACY.values()),
        *_curvature_findings(frames),
        *flat_zoo.findings(frames),
    ]
    return [one for one in found if one.n]


def _batch_findings(frames: Frames, what: str, accountings) -> list[Finding]:
    found = []
    for model, accounting in accountings:
        rows = accuracy(frames, model, accounting)
        rows = rows[(rows.draw == "own") & (rows.labels == "true")]
        for size, arm in rows.groupby("batch_size"):
            quantity = f"{what}, batch {size}, {accounting.replace('_', ' ')}"
            found.append(evidence.finding(ROW, model, quantity, arm.value, NOTEBOOK))
    return found


def _curvature_findings(frames: Frames) -> list[Finding]:
    found = []
    for name, rows in contrasted(frames).items():
        short, _, model = name.partition(".")
        gap = column(rows, "large") - column(rows, "small")
        quantity = f"log10 ratio of curvature, large over small batch: {short.replace('_', ' ')}"
        found.append(evidence.finding(ROW, model, quantity, gap, NOTEBOOK))
    return found
