"""What the study of the landscape says about its claims. No torch.

A claim is a change of architecture (CHANGES: which arms it compares) and a quantity (QUANTITIES: how one number per run
is read, and which sign means a simpler landscape). Its effect in a seed is the weighted sum of that seed's arms, signed
so that the text's direction is positive.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from nonconvex.contrasts import evidence
from nonconvex.contrasts.smoothness import READERS, RUN, Frames, compared, contrast, geometry, largest_rates, log, table
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK = "landscape_simplification", "property_landscape"
CHANGES: dict[str, dict[str, dict[str, float]]] = {  # model -> change -> arm -> weight
    "resnet": {
        "batch_norm": {
            "deep_skip_batch": 0.5,
            "shallow_skip_batch": 0.5,
            "deep_skip_none": -0.5,
            "shallow_skip_none": -0.5,
        },
        "deep_batch_norm": {"deep_skip_batch": 1, "deep_skip_none": -1},
        "skip": {"deep_skip_batch": 1, "deep_plain_batch": -1},
        "width": {"wide": 1, "narrow": -1},
        # what the skip does to the deep network beyond what it does to the shallow one
        "skip_depth": {
            "deep_skip_batch": 1,
            "deep_plain_batch": -1,
            "shallow_skip_batch": -1,
            "shallow_plain_batch": 1,
        },
    },
    "transformer": {
        "layer_norm": {"skip_layer": 1, "skip_none": -1},
        "skip": {"skip_layer": 1, "plain_layer": -1},
    },
}
SAME = {"twin": 1, "shallow_skip_batch": -1}
QUANTITIES = {  # sign in which the landscape is simpler
    "rate": 1,
    "nonconvexity": -1,
    "curvature": -1,
    "gradient_range": -1,
    "gradient_change": -1,
    "plane": -1,
    "loss": -1,
}
MEASURED = {  # change -> quantities that it is put to the test on
    "resnet": {
        "batch_norm": ("rate", "nonconvexity", "curvature", "gradient_range", "gradient_change", "loss"),
        "deep_batch_norm": ("plane",),
        "skip": ("rate", "nonconvexity", "curvature", "gradient_range", "plane", "loss"),
        "width": ("rate", "nonconvexity", "curvature", "gradient_range", "loss"),
        "skip_depth": ("rate", "loss"),
    },
    "transformer": {
        "layer_norm": ("rate", "nonconvexity"),
        "skip": ("rate", "nonconvexity", "loss"),
    },
}
GEOMETRY = "geometry_loss"  # the claim that orders arms by their curvature


def claimed() -> Iterator[tuple[str, str, str, str]]:
    """(claim, model, change, quantity) of every claim that compares arms."""
    for model, changes in MEASURED.items():
        for change, quantities in changes.items():
            yield from ((f"{ROW}.{change}_{quantity}.{model}", model, change, quantity) for quantity in quantities)


def values_of(frames: Frames, model: str, quantity: str, weights: Mapping[str, float]) -> pd.Series:
    """The signed effect by seed."""
    return QUANTITIES[quantity] * contrast(table(READERS[quantity](frames), frames, model), weights)


def effects(frames: Frames) -> list[Effect]:
    """Every claim's contrast, and the same quantity between two arms that differ in their seeds only."""
    found = []
    for claim, model, change, quantity in claimed():
        found += evidence.effects(claim, values_of(frames, model, quantity, CHANGES[model][change]))
        if model == "resnet" and quantity != "plane":
            found += evidence.effects(claim, values_of(frames, model, quantity, SAME), "same_arm")
    return found + evidence.effects(f"{ROW}.{GEOMETRY}.resnet", geometry(frames))


def gates(frames: Frames) -> list[GateValue]:
    """What the gates of every claim were measured to be."""
    found = []
    for claim, model, change, quantity in claimed():
        found += evidence.gates(claim, gate_values(frames, model, quantity, CHANGES[model][change]))
    arms = [arm for arm in frames.arms.arm[frames.arms.model == "resnet"] if arm != "twin"]
    sizes = compared(frames).groupby("seed").size()
    values = {
        "residual": residual(frames, "resnet", arms),
        "rate_interior": rate_interior(frames, "resnet", arms),
        "arms_compared": sizes.reindex(frames.runs.seed.unique(), fill_value=0).min(),
    }
    return found + evidence.gates(f"{ROW}.{GEOMETRY}.resnet", values)


def gate_values(frames: Frames, model: str, quantity: str, weights: Mapping[str, float]) -> dict[str, float]:
    """The gates that a quantity needs, measured on the arms behind one contrast."""
    arms = list(weights)
    if quantity == "rate":
        return {"edge_found": edge_found(frames, model, arms)}
    values = {"rate_interior": rate_interior(frames, model, arms)}
    if quantity == "loss":
        return values | {"equal_tuning": equal_tuning(frames, model, arms)}
    if quantity == "plane":
        return values
    values |= {"trained": trained(frames, model, arms), "matched_loss": matched_loss(frames, model, weights)}
    return values | ({"residual": residual(frames, model, arms)} if quantity in ("nonconvexity", "curvature") else {})


def edge_found(frames: Frames, model: str, arms: list[str]) -> float:
    """Share of runs whose trials show a rate that trains below one that does not."""
    return float(_of(largest_rates(frames).reset_index(), model, arms).edge.mean())


def rate_interior(frames: Frames, model: str, arms: list[str]) -> float:
    """1 if every tuned rate lies strictly inside its grid."""
    of = _of(frames.arms, model, arms)
    return float(((of.tuned_rate > of.lowest_rate) & (of.tuned_rate < of.highest_rate)).all())


def equal_tuning(frames: Frames, model: str, arms: list[str]) -> float:
    """1 if every arm had as many tuning runs as the others."""
    return float(_of(frames.arms, model, arms).tuning_trials.nunique() == 1)


def trained(frames: Frames, model: str, arms: list[str]) -> float:
    """Share of runs at the tuned rate that reached the loss at which arms are compared."""
    return float(_of(frames.runs, model, arms).matched_loss.notna().mean())


def matched_loss(frames: Frames, model: str, weights: Mapping[str, float]) -> float:
    """|mean over seeds| of the contrast's own weights on the ln of the loss at which its arms were measured."""
    logs = log(frames.runs.set_index(RUN).matched_loss)
    return float(abs(contrast(table(logs, frames, model), weights).mean()))


def residual(frames: Frames, model: str, arms: list[str]) -> float:
    """Largest residual of either end of a spectrum, relative to that end's eigenvalue."""
    of = _of(frames.curvature, model, arms)
    relative = [of.residual_max / of.lambda_max.abs(), of.residual_min / of.lambda_min.abs()]
    return float(np.max(relative)) if len(of) else np.nan


def findings(frames: Frames) -> list[Finding]:
    """Mean and interval of every effect, and of every quantity in every arm."""
    found = [
        evidence.finding(
            ROW, model, f"{change}: {quantity}", values_of(frames, model, quantity, CHANGES[model][change]), NOTEBOOK
        )
        for _, model, change, quantity in claimed()
    ]
    found.append(evidence.finding(ROW, "resnet", "rank correlation of curvature and loss", geometry(frames), NOTEBOOK))
    for quantity, read in READERS.items():
        for (model, arm), values in read(frames).groupby(["model", "arm"]):
            found.append(evidence.finding(ROW, model, f"{quantity} of {arm}", values, NOTEBOOK))
    return found


def _of(frame: pd.DataFrame, model: str, arms: list[str]) -> pd.DataFrame:
    return frame[(frame.model == model) & frame.arm.isin(arms)]
