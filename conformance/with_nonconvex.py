"""This project's own measures. Lanczos until the residual is at rounding, then the trace with its basis."""

from importlib.metadata import version

from torch import Tensor, nn

from conformance.answers import PRODUCTS, RUNS, STEPS, Answer, report
from conformance.problems import Problem
from nonconvex.losses import cross_entropy
from nonconvex.measure import spectrum
from nonconvex.measure.density import density
from nonconvex.measure.objective import Objective
from nonconvex.measure.operators import Hessian
from nonconvex.models.stacked import Stacked

TOLERANCE = 1e-6
LANCZOS = f"extreme_eigenvalues(iterations=P, tolerance={TOLERANCE:g})"


def hessian(problem: Problem) -> Hessian:
    """A cohort of one member. `statistics={}` is evaluation mode: nothing for the module's own layers to replace."""
    model = problem.model
    params = {name: value.detach()[None] for name, value in model.named_parameters()}
    free = [name for name, value in model.named_parameters() if value.requires_grad]
    batches = [(x[None], y[None]) for x, y in problem.batches]
    loss = squared if isinstance(problem.criterion, nn.MSELoss) else cross_entropy
    return Hessian(Objective(Stacked(model), loss, batches, statistics={}, free=free), params)


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """(E, B): MSELoss of each example."""
    return (outputs - targets).square().flatten(2).mean(2)


def ends(problem: Problem, operator: Hessian) -> spectrum.Extremes:
    return spectrum.extreme_eigenvalues(operator, iterations=problem.size, tolerance=TOLERANCE)


def lambda_max(problem: Problem) -> Answer:
    return Answer(float(ends(problem, hessian(problem)).largest.value), LANCZOS)


def lambda_min(problem: Problem) -> Answer:
    return Answer(float(ends(problem, hessian(problem)).smallest.value), LANCZOS)


def trace(problem: Problem) -> Answer:
    operator = hessian(problem)
    found = spectrum.trace(operator, probes=PRODUCTS, known=ends(problem, operator))
    settings = f"trace(probes={PRODUCTS}, known={LANCZOS})"
    return Answer(float(found.value), settings, float(found.standard_error))


def mass_near_zero(problem: Problem) -> Answer:
    found = density(hessian(problem), iterations=STEPS, probes=RUNS).mass(-problem.near, problem.near)
    settings = f"density(iterations=min({STEPS}, P), probes={RUNS})"
    return Answer(float(found.value), settings, float(found.standard_error))


MEASURES = {measure.__name__: measure for measure in (lambda_max, lambda_min, trace, mass_near_zero)}

if __name__ == "__main__":
    report(version("nonconvex"), MEASURES)
