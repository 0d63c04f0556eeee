"""This project's measures: Lanczos to a residual, Hutchinson with and without a Krylov basis, Lanczos quadrature."""

from importlib.metadata import version

from torch import Tensor

from benchmarks.ladders import DENSITIES, PRODUCTS, TOLERANCES
from benchmarks.serving import Measure, serve
from conformance.problems import Problem
from nonconvex.losses import cross_entropy
from nonconvex.measure import spectrum
from nonconvex.measure.density import density as quadrature
from nonconvex.measure.objective import Objective
from nonconvex.measure.operators import Hessian
from nonconvex.models.stacked import Stacked


def hessian(problem: Problem) -> Hessian:
    """A cohort of one member."""
    params = {name: value.detach()[None] for name, value in problem.model.named_parameters()}
    statistics = {name: value[None] for name, value in problem.model.named_buffers()}
    batches = [(x[None], y[None]) for x, y in problem.batches]
    return Hessian(Objective(Stacked(problem.model), cross_entropy, batches, statistics), params)


def lambda_max(problem: Problem, seed: int, tolerance: float) -> float:
    found = spectrum.extreme_eigenvalues(hessian(problem), 100, tolerance, seed, ends="largest")
    return float(found.largest.value)


def trace(problem: Problem, seed: int, products: int, lanczos: float) -> float:
    """`lanczos` is the share of the products that go into a basis."""
    operator, steps = hessian(problem), round(lanczos * products)
    known = spectrum.extreme_eigenvalues(operator, steps, 0.0, seed) if steps else None
    return float(spectrum.trace(operator, products - steps, seed, known).value)


def density(problem: Problem, seed: int, steps: int, probes: int) -> tuple[list[float], list[float]]:
    found = quadrature(hessian(problem), steps, probes, seed)
    return listed(found.nodes), listed(found.weights / probes)


def listed(values: Tensor) -> list[float]:
    return values.flatten().tolist()


MEASURES = {
    "lambda_max": Measure(lambda_max, [[{"tolerance": value} for value in TOLERANCES]]),
    "trace": Measure(trace, [[{"products": n, "lanczos": share} for n in PRODUCTS] for share in (0.0, 1 / 3, 2 / 3)]),
    "density": Measure(density, [[{"steps": m, "probes": k} for k in DENSITIES if k > 1] for m in DENSITIES[1:]]),
}

if __name__ == "__main__":
    serve(version("nonconvex"), MEASURES)
