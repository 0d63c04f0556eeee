"""What every adapter shares: it asks one tool for each quantity of each problem and prints what came back.

The output is one JSON object a line: first the tool's version and the quantities it offers, then an answer or an error
for each of them. A quantity that is not offered gets no line.
"""

import json
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from conformance import problems

QUANTITIES = ("lambda_max", "lambda_min", "trace", "mass_near_zero")
PRODUCTS = 600  # Hessian-vector products that an estimate of the trace may take
RUNS = 50  # random starting vectors that an estimate of the density may take
STEPS = 100  # Lanczos steps for each of them, at most


@dataclass(frozen=True)
class Answer:
    """`standard_error` is the tool's own, where it gives one; `settings` is the call, in the tool's words."""

    value: float
    settings: str
    standard_error: float | None = None


Measure = Callable[[problems.Problem], Answer]


def report(version: str, measures: dict[str, Measure]) -> None:
    """Print the tool's lines; every measure starts from the same random state and a fresh copy of the problem."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(json.dumps({"version": version, "offers": list(measures)}), flush=True)
    for build in problems.PROBLEMS:
        for quantity, measure in measures.items():
            print(json.dumps({"problem": build.__name__, "quantity": quantity, **asked(measure, build())}), flush=True)


def asked(measure: Measure, problem: problems.Problem) -> dict:
    """The fields of the answer, or the error."""
    torch.manual_seed(0)
    try:
        return asdict(measure(problem))
    except Exception as error:  # whatever a tool raises is its answer
        return {"error": one_line(error)}


def one_line(error: Exception) -> str:
    """Type and message without line breaks, short enough for a table."""
    text = textwrap.shorten(str(error), 160, placeholder=" ...")
    return f"{type(error).__name__}: {text}".rstrip(": ")
