"""hessian-eigenthings: Lanczos of as many steps as parameters, Hutch++, stochastic Lanczos quadrature.

Its documentation asks for re-orthogonalisation where eigenvalues lie close together. The density's raw nodes and
weights are used, which it returns beside the smoothed curve, so that no smoothing enters.
"""

from importlib.metadata import version

from hessian_eigenthings import HessianOperator, lanczos, spectral_density, supervised_loss
from hessian_eigenthings import trace as hutchpp

from conformance.answers import PRODUCTS, RUNS, STEPS, Answer, report
from conformance.problems import Problem


def operator(problem: Problem) -> HessianOperator:
    return HessianOperator(problem.model, problem.batches, supervised_loss(problem.criterion))


def end(problem: Problem, which: str) -> Answer:
    found = lanczos(operator(problem), k=1, max_iter=problem.size, reorthogonalize=True, which=which, seed=0)
    settings = f'lanczos(k=1, max_iter=P, reorthogonalize=True, which="{which}")'
    return Answer(float(found.eigenvalues[0]), settings)


def lambda_max(problem: Problem) -> Answer:
    return end(problem, "LA")


def lambda_min(problem: Problem) -> Answer:
    return end(problem, "SA")


def trace(problem: Problem) -> Answer:
    found = hutchpp(operator(problem), num_matvecs=PRODUCTS, seed=0)
    return Answer(found.estimate, f'trace(num_matvecs={PRODUCTS}, method="hutch++")', found.stderr)


def mass_near_zero(problem: Problem) -> Answer:
    steps = min(STEPS, problem.size)
    found = spectral_density(operator(problem), num_runs=RUNS, lanczos_steps=steps, seed=0)
    near = found.raw_eigenvalues.abs() <= problem.near
    settings = f"spectral_density(num_runs={RUNS}, lanczos_steps=min({STEPS}, P)), raw weights"
    return Answer(float((found.raw_weights * near).sum(1).mean()), settings)


if __name__ == "__main__":
    measures = [lambda_max, lambda_min, trace, mass_near_zero]
    report(version("hessian-eigenthings"), {measure.__name__: measure for measure in measures})
