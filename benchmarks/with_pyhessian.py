"""PyHessian: power iteration, Hutchinson, stochastic Lanczos quadrature; one batch, so that it keeps its graph."""

from importlib.metadata import version

import numpy as np
from pyhessian import hessian

from benchmarks.ladders import DENSITIES, PRODUCTS, TOLERANCES
from benchmarks.serving import Measure, serve
from conformance.problems import Problem


def computer(problem: Problem) -> hessian:
    problem.model.zero_grad()
    return hessian(problem.model, problem.criterion, data=problem.batches[0], cuda=False)


def lambda_max(problem: Problem, seed: int, tolerance: float) -> float:
    return float(computer(problem).eigenvalues(maxIter=1000, tol=tolerance, top_n=1)[0][0])


def trace(problem: Problem, seed: int, products: int) -> float:
    return float(np.mean(computer(problem).trace(maxIter=products, tol=0)))


def density(problem: Problem, seed: int, steps: int, probes: int) -> tuple[list[float], list[float]]:
    nodes, weights = (np.array(part) for part in computer(problem).density(iter=steps, n_v=probes))
    return nodes.flatten().tolist(), (weights.flatten() / probes).tolist()


MEASURES = {
    "lambda_max": Measure(lambda_max, [[{"tolerance": value} for value in TOLERANCES]]),
    "trace": Measure(trace, [[{"products": n} for n in PRODUCTS]]),
    "density": Measure(density, [[{"steps": m, "probes": k} for k in (1, *DENSITIES)] for m in DENSITIES[1:]]),
}

if __name__ == "__main__":
    serve(version("pyhessian"), MEASURES)
