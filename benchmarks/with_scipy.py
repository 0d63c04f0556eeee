"""No tool but SciPy: eigsh, or a loop of Hutchinson probes, over a product by double backward, its graph built once."""

from collections.abc import Callable

import numpy as np
import scipy
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from benchmarks.ladders import PRODUCTS, SPACES, TOLERANCES
from benchmarks.serving import Measure, serve
from conformance.problems import Problem


def product(problem: Problem) -> Callable[[Tensor], Tensor]:
    """v (P,) -> ∇(∇L · v)."""
    (x, y), parameters = problem.batches[0], problem.parameters
    gradient = flat(torch.autograd.grad(problem.criterion(problem.model(x), y), parameters, create_graph=True))
    return lambda v: flat(torch.autograd.grad(gradient @ v, parameters, retain_graph=True))


def flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def lambda_max(problem: Problem, seed: int, tolerance: float, space: int) -> float:
    times = product(problem)
    matrix = LinearOperator(
        (problem.size, problem.size), dtype=np.float32, matvec=lambda v: times(torch.from_numpy(v.reshape(-1))).numpy()
    )
    start = np.random.default_rng(seed).standard_normal(problem.size).astype(np.float32)
    return float(eigsh(matrix, 1, which="LA", tol=tolerance, ncv=space, v0=start, return_eigenvectors=False)[0])


def trace(problem: Problem, seed: int, products: int) -> float:
    times = product(problem)
    probes = (torch.randint(2, (problem.size,)).float() * 2 - 1 for _ in range(products))
    return sum(float(z @ times(z)) for z in probes) / products


MEASURES = {
    "lambda_max": Measure(lambda_max, [[{"tolerance": t, "space": n} for t in TOLERANCES[3:]] for n in SPACES]),
    "trace": Measure(trace, [[{"products": n} for n in PRODUCTS]]),
}

if __name__ == "__main__":
    serve(scipy.__version__, MEASURES)
