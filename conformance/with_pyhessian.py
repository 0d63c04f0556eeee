"""PyHessian: power iteration, Hutchinson, stochastic Lanczos quadrature, each far beyond its default effort.

It offers the eigenvalues of largest magnitude and no smallest one. A data set of one batch is passed as `data`, several
as a loader, as its tutorial does.
"""

from importlib.metadata import version

import numpy as np
from pyhessian import hessian

from conformance.answers import PRODUCTS, RUNS, STEPS, Answer, report
from conformance.problems import Problem


def computer(problem: Problem) -> hessian:
    if len(problem.batches) == 1:
        return hessian(problem.model, problem.criterion, data=problem.batches[0], cuda=False)
    return hessian(problem.model, problem.criterion, dataloader=problem.batches, cuda=False)


def lambda_max(problem: Problem) -> Answer:
    values, _ = computer(problem).eigenvalues(maxIter=5000, tol=1e-10, top_n=1)
    return Answer(values[0], "eigenvalues(maxIter=5000, tol=1e-10, top_n=1)")


def trace(problem: Problem) -> Answer:
    samples = computer(problem).trace(maxIter=PRODUCTS, tol=0)
    return Answer(float(np.mean(samples)), f"mean of trace(maxIter={PRODUCTS}, tol=0): {len(samples)} samples")


def mass_near_zero(problem: Problem) -> Answer:
    steps = min(STEPS, problem.size)
    nodes, weights = (np.array(part) for part in computer(problem).density(iter=steps, n_v=RUNS))
    settings = f"density(iter=min({STEPS}, P), n_v={RUNS}), raw weights"
    return Answer(float((weights * (abs(nodes) <= problem.near)).sum(1).mean()), settings)


if __name__ == "__main__":
    measures = [lambda_max, trace, mass_near_zero]
    report(version("pyhessian"), {measure.__name__: measure for measure in measures})
