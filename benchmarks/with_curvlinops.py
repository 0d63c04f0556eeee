"""curvlinops: SciPy's eigsh on its operator, its three estimators of a trace, Papyan's smoothed Lanczos density."""

from importlib.metadata import version

import numpy as np
from curvlinops import (
    HessianLinearOperator,
    hutchinson_trace,
    hutchpp_trace,
    lanczos_approximate_spectrum,
    xtrace,
)
from scipy.sparse.linalg import eigsh

from benchmarks.ladders import DENSITIES, PRODUCTS, SPACES, TOLERANCES
from benchmarks.serving import Measure, serve
from conformance.problems import Problem

METHODS = {"hutchinson": hutchinson_trace, "hutch++": hutchpp_trace, "xtrace": xtrace}
EVEN = {"xtrace": 2}
POINTS = 1024


def operator(problem: Problem) -> HessianLinearOperator:
    """Its check that a product comes out the same twice would cost two more products; a user may skip it."""
    how = {"check_deterministic": False}
    return HessianLinearOperator(problem.model, problem.criterion, problem.parameters, problem.batches, **how)


def lambda_max(problem: Problem, seed: int, tolerance: float, space: int) -> float:
    start = np.random.default_rng(seed).standard_normal(problem.size).astype(np.float32)
    how = {"tol": tolerance, "ncv": space, "v0": start, "return_eigenvectors": False}
    return float(eigsh(operator(problem).to_scipy(), k=1, which="LA", **how)[0])


def trace(problem: Problem, seed: int, products: int, method: str) -> float:
    return float(METHODS[method](operator(problem), products))


def density(problem: Problem, seed: int, steps: int, probes: int) -> tuple[list[float], list[float]]:
    how = {"ncv": steps, "num_points": POINTS, "num_repeats": probes}
    grid, heights = lanczos_approximate_spectrum(operator(problem), **how)
    return grid.tolist(), (heights / heights.sum()).tolist()


MEASURES = {
    "lambda_max": Measure(lambda_max, [[{"tolerance": t, "space": n} for t in TOLERANCES[3:]] for n in SPACES]),
    "trace": Measure(trace, [[{"products": n + n % EVEN.get(m, 1), "method": m} for n in PRODUCTS] for m in METHODS]),
    "density": Measure(
        density, [[{"steps": m, "probes": k} for k in (1, *DENSITIES)] for m in (*DENSITIES[2:], 128, 256)]
    ),
}

if __name__ == "__main__":
    serve(version("curvlinops-for-pytorch"), MEASURES)
