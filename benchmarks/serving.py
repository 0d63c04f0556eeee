"""A process that measures curvature with one tool on request, so that tools in separate environments take turns.

A request is a line of JSON with problem, quantity, setting and seed; the reply has the answer, the seconds from model
and batch to answer, processor seconds, and how far the resident memory rose meanwhile.
"""

import ctypes
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import curved
from conformance.answers import one_line

Setting = dict[str, float]
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Measure:
    """`call(problem, seed, **setting)` gives a number, or (places, weights) of a density.

    `ladders` are settings in rising order of cost, one list for each of the tool's methods.
    """

    call: Callable
    ladders: list[list[Setting]]


def serve(version: str, measures: dict[str, Measure]) -> None:
    """Answer until standard input ends; the first line of the output says what is on offer."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.stdout.reconfigure(line_buffering=True)
    print(json.dumps({"version": version, "offers": {name: m.ladders for name, m in measures.items()}}))
    for line in sys.stdin:
        print(json.dumps(answered(measures, json.loads(line))))


def answered(measures: dict[str, Measure], request: dict) -> dict:
    """The reply to a request; an exception is a reply too."""
    problem = curved.problem(request["problem"])
    torch.manual_seed(request["seed"])
    before = _settled()
    wall, processor = time.perf_counter(), time.process_time()
    try:
        answer = measures[request["quantity"]].call(problem, request["seed"], **request["setting"])
    except Exception as error:  # whatever a tool raises is its answer
        return {"error": one_line(error)}
    took = {"seconds": time.perf_counter() - wall, "processor": time.process_time() - processor}
    return {"answer": answer, **took, "megabytes": (_kilobytes("VmHWM") - before) / 1024}


def _settled() -> int:
    """Resident memory (kB) after what was freed has gone back to the system, the high-water mark lowered to it."""
    if CLEAR.exists():
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text("5")
    return _kilobytes("VmRSS")


def _kilobytes(name: str) -> int:
    if not STATUS.exists():
        return 0
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(name))
