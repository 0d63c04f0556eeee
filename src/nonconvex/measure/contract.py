"""What must be said about a number for it to mean something, and the standard set of flatness measurements.

The same weights give curvatures that differ manifold with the reduction of the loss, the examples, the
normalisation mode or the sign convention, so every measurement carries them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from nonconvex.config import FlatnessSettings
from nonconvex.measure.estimate import Estimate
from nonconvex.measure.objective import Objective
from nonconvex.measure.operators import GaussNewton, Hessian
from nonconvex.measure.sharpness import average_sharpness, keskar_sharpness, worst_sharpness
from nonconvex.measure.spectrum import condition_number, extreme_eigenvalues, trace
from nonconvex.models.stacked import Params, members, select

SPECTRUM = ("lambda_max", "lambda_min", "trace")
FULL = (
    *SPECTRUM,
    "condition_number",
    "gauss_newton_max",
    "sam_sharpness",
    "worst_sharpness",
    "average_sharpness",
    "adaptive_sharpness",
    "keskar_sharpness",
)
LEVELS = {"spectrum": SPECTRUM, "full": FULL}
UNMEASURED = {
    "value": math.nan,
    "standard_error": None,
    "residual": None,
    "iterations": None,
    "method": "not measured",
}


@dataclass(frozen=True)
class Measurement:
    """One number about one member, with everything that it depends on.

    `value` is NaN where it does not exist (a diverged member); `standard_error`, `residual` and `iterations`
    are None where they do not apply. The loss is the mean over examples, without weight decay.
    """

    quantity: str
    value: float
    standard_error: float | None
    residual: float | None
    iterations: int | None
    method: str
    loss: str
    reduction: str
    examples: int
    examples_sha256: str
    normalisation: str
    parameters: str
    dtype: str


def flatness(
    objective: Objective, params: Params, settings: FlatnessSettings, level: str = "spectrum"
) -> list[list[Measurement]]:
    """For each member the measurements of a level of `LEVELS`, in that order.

    A member whose weights are not finite gets NaN for every quantity; the others do not notice it.
    """
    if level not in LEVELS:
        raise ValueError(f"unknown level {level!r}; known: {', '.join(LEVELS)}")
    finite = torch.isfinite(objective.flat(params)).all(1).nonzero()[:, 0].tolist()
    found = [dict.fromkeys(LEVELS[level], UNMEASURED)] * members(params)
    for start in range(0, len(finite), settings.members_at_once):
        chosen = finite[start : start + settings.members_at_once]
        estimates = dict(_estimates(objective.select(chosen), select(params, chosen), settings, level))
        for place, member in enumerate(chosen):
            found[member] = {name: _cells(estimate, place) for name, estimate in estimates.items()}
    context = _context(objective, params)
    return [
        [
            Measurement(name, **cells[name], **context, examples_sha256=objective.fingerprint(member))
            for name in LEVELS[level]
        ]
        for member, cells in enumerate(found)
    ]


def _estimates(
    objective: Objective, params: Params, settings: FlatnessSettings, level: str
) -> Iterator[tuple[str, Estimate]]:
    s, hessian = settings, Hessian(objective, params)
    ends = extreme_eigenvalues(hessian, s.lanczos_iterations, s.tolerance, s.seed)
    total = trace(hessian, s.probes, s.seed, ends)
    yield from zip(SPECTRUM, (ends.largest, ends.smallest, total), strict=True)
    if level == "full":
        yield "condition_number", condition_number(ends.largest, total, hessian.shape[1])
        del hessian  # its graph is the largest thing in memory
        yield from _further(objective, params, s)


def _further(objective: Objective, params: Params, s: FlatnessSettings) -> Iterator[tuple[str, Estimate]]:
    point = objective, params
    inner = extreme_eigenvalues(GaussNewton(*point), s.lanczos_iterations, s.tolerance, s.seed, ends="largest")
    yield "gauss_newton_max", inner.largest
    yield "sam_sharpness", worst_sharpness(*point, s.sam_radius)
    yield "worst_sharpness", worst_sharpness(*point, s.sam_radius, s.ascent_steps)
    yield "average_sharpness", average_sharpness(*point, s.noise, s.noise_pairs, s.seed)
    yield "adaptive_sharpness", worst_sharpness(*point, s.adaptive_radius, s.ascent_steps, adaptive=True)
    yield "keskar_sharpness", keskar_sharpness(*point, s.keskar_box, s.keskar_iterations, s.seed)


def _cells(estimate: Estimate, member: int) -> dict:
    """The fields of a measurement that differ between members."""
    cells: dict = {"method": estimate.method}
    for name in ("value", "standard_error", "residual", "iterations"):
        column = getattr(estimate, name)
        cells[name] = None if column is None else column[member].item()
    if not math.isfinite(cells["value"]):
        cells["value"] = math.nan
    return cells


def _context(objective: Objective, params: Params) -> dict:
    return {
        "loss": objective.loss.__name__,
        "reduction": objective.reduction,
        "examples": objective.examples,
        "normalisation": objective.normalisation,
        "parameters": objective.parameters,
        "dtype": str(objective.flat(params).dtype).removeprefix("torch."),
    }
