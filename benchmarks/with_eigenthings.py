"""hessian-eigenthings: Lanczos with re-orthogonalisation, Hutchinson and Hutch++, Lanczos quadrature's raw weights."""

from importlib.metadata import version

from hessian_eigenthings import HessianOperator, lanczos, spectral_density, supervised_loss
from hessian_eigenthings import trace as estimated

from benchmarks.ladders import DENSITIES, PRODUCTS
from benchmarks.serving import Measure, serve
from conformance.problems import Problem

METHODS = ("hutchinson", "hutch++")


def operator(problem: Problem) -> HessianOperator:
    return HessianOperator(problem.model, problem.batches, supervised_loss(problem.criterion))


def lambda_max(problem: Problem, seed: int, steps: int) -> float:
    """Its tolerance labels the answer and stops nothing, so the number of steps has to be known in advance."""
    how = {"max_iter": steps, "reorthogonalize": True, "which": "LA", "seed": seed}
    return float(lanczos(operator(problem), k=1, **how).eigenvalues[0])


def trace(problem: Problem, seed: int, products: int, method: str) -> float:
    return float(estimated(operator(problem), num_matvecs=products, method=method, seed=seed).estimate)


def density(problem: Problem, seed: int, steps: int, probes: int) -> tuple[list[float], list[float]]:
    found = spectral_density(operator(problem), num_runs=probes, lanczos_steps=steps, seed=seed)
    return found.raw_eigenvalues.flatten().tolist(), (found.raw_weights.flatten() / probes).tolist()


MEASURES = {
    "lambda_max": Measure(lambda_max, [[{"steps": n} for n in (*range(4, 21), 25, 30, 50, 100)]]),
    "trace": Measure(trace, [[{"products": n, "method": method} for n in PRODUCTS] for method in METHODS]),
    "density": Measure(density, [[{"steps": m, "probes": k} for k in (1, *DENSITIES)] for m in DENSITIES[1:]]),
}

if __name__ == "__main__":
    serve(version("hessian-eigenthings"), MEASURES)
