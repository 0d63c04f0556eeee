"""curvlinops: SciPy's eigsh on its operator, as its examples do, Hutch++, and Papyan's Lanczos density.

Its density is smoothed by bumps of a width that falls with the number of Lanczos steps; the mass is the area under it.
"""

from importlib.metadata import version

import numpy as np
import torch
from curvlinops import HessianLinearOperator, hutchinson_trace, hutchpp_trace, lanczos_approximate_spectrum
from scipy.sparse.linalg import eigsh

from conformance.answers import PRODUCTS, RUNS, STEPS, Answer, report
from conformance.problems import Problem

POINTS = 4096
FINEST = {torch.float64: 0, torch.float32: 1e-5}  # eigsh's tolerance; 0 is the rounding of float64


def operator(problem: Problem) -> HessianLinearOperator:
    return HessianLinearOperator(problem.model, problem.criterion, problem.parameters, problem.batches)


def end(problem: Problem, which: str) -> float:
    start = np.random.default_rng(0).standard_normal(problem.size)
    how = {"tol": FINEST[problem.dtype], "ncv": min(STEPS, problem.size), "v0": start, "return_eigenvectors": False}
    return float(eigsh(operator(problem).to_scipy(), k=1, which=which, **how)[0])


def lambda_max(problem: Problem) -> Answer:
    return Answer(end(problem, "LA"), settings(problem, "LA"))


def lambda_min(problem: Problem) -> Answer:
    return Answer(end(problem, "SA"), settings(problem, "SA"))


def settings(problem: Problem, which: str) -> str:
    return f'eigsh(to_scipy(), k=1, which="{which}", tol={FINEST[problem.dtype]:g}, ncv=min({STEPS}, P))'


def trace(problem: Problem) -> Answer:
    """It asks for fewer products than parameters, so the mean of several calls makes up the number."""
    each = min(3 * ((problem.size - 1) // 3), PRODUCTS)
    estimate, each = (hutchpp_trace, each) if each else (hutchinson_trace, 1)
    calls = -(-PRODUCTS // each)
    values = [float(estimate(operator(problem), each)) for _ in range(calls)]
    return Answer(float(np.mean(values)), f"mean of {calls} {estimate.__name__}(num_matvecs={each})")


def mass_near_zero(problem: Problem) -> Answer:
    ends = end(problem, "SA"), end(problem, "LA")
    steps = min(STEPS, problem.size)
    how = {"ncv": steps, "num_points": POINTS, "num_repeats": RUNS, "boundaries": ends}
    grid, density = lanczos_approximate_spectrum(operator(problem), **how)
    area = (density * (grid.abs() <= problem.near)).sum() * (grid[1] - grid[0])
    made = f"ncv=min({STEPS}, P), num_points={POINTS}, num_repeats={RUNS}"
    return Answer(float(area), f"area under lanczos_approximate_spectrum({made})")


if __name__ == "__main__":
    measures = [lambda_max, lambda_min, trace, mass_near_zero]
    report(version("curvlinops-for-pytorch"), {measure.__name__: measure for measure in measures})
