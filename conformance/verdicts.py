"""Which answers are right. Every tolerance is here, the same for every tool, this project's included."""

import math
from dataclasses import dataclass

import torch

from conformance.answers import QUANTITIES
from conformance.problems import FLOOR, Exact, Problem

EIGENVALUE = {torch.float64: 1e-5, torch.float32: 1e-3}  # relative
SIGMAS = 3.0  # standard errors
PROBES = 200  # a trace is judged by the standard error of so many plain Hutchinson probes
MASS = 0.05  # of the share of eigenvalues in the band

OK, WRONG, FAILED, MISSING = "ok", "wrong", "failed", "not offered"
UNITS = dict(zip(QUANTITIES, ("relative", "relative", "standard errors", "share"), strict=True))


@dataclass(frozen=True)
class Row:
    """One tool's answer to one question. `error` and `tolerance` are in `unit`; None where there is no answer."""

    problem: str
    parameters: int
    quantity: str
    tool: str
    version: str
    exact: float
    value: float | None
    unit: str
    error: float | None
    tolerance: float
    standard_error: float | None
    outcome: str
    settings: str
    note: str


def judged(problem: Problem, exact: Exact, quantity: str, tool: str, version: str, answer: dict | None) -> Row:
    """The row of an answer as an adapter prints it; None is a quantity that the tool does not offer."""
    value = answer.get("value") if answer else None
    row = {"problem": problem.name, "parameters": problem.size, "quantity": quantity, "tool": tool, "version": version}
    row |= {"exact": getattr(exact, quantity), "value": value, "unit": UNITS[quantity]}
    row |= {"error": None, "tolerance": tolerance(quantity, problem.dtype), "standard_error": None}
    if answer is None:
        return Row(**row, outcome=MISSING, settings="", note="")
    if "error" in answer:
        return Row(**row, outcome=FAILED, settings="", note=answer["error"])
    row |= {"error": error(quantity, exact, value), "standard_error": answer["standard_error"]}
    note = fault(exact, row, problem.dtype)
    return Row(**row, outcome=WRONG if note else OK, settings=answer["settings"], note=note)


def tolerance(quantity: str, dtype: torch.dtype) -> float:
    return {"trace": SIGMAS, "mass_near_zero": MASS}.get(quantity, EIGENVALUE[dtype])


def error(quantity: str, exact: Exact, value: float) -> float:
    """|value - exact| in the quantity's unit.

    An eigenvalue's unit is the exact one, or FLOOR times the largest |eigenvalue| where that is larger; a trace's the
    standard error of PROBES probes, or rounding where the matrix is diagonal.
    """
    truth, unit = getattr(exact, quantity), 1.0
    if quantity == "trace":
        unit = max(exact.probe_error / PROBES**0.5, rounding(exact, torch.float64))
    elif quantity != "mass_near_zero":
        unit = max(abs(truth), FLOOR * exact.scale)
    return abs(value - truth) / unit


def fault(exact: Exact, row: dict, dtype: torch.dtype) -> str:
    """What is wrong with an answer, empty if nothing is."""
    if not math.isfinite(row["value"]):
        return "not a finite number"
    if row["error"] > row["tolerance"]:
        return "outside the tolerance"
    own = row["standard_error"]
    allowed = math.inf if own is None else SIGMAS * own + rounding(exact, dtype)
    if abs(row["value"] - row["exact"]) > allowed:
        return f"more than {SIGMAS:g} of its own standard errors away"
    return ""


def rounding(exact: Exact, dtype: torch.dtype) -> float:
    return EIGENVALUE[dtype] * exact.scale
