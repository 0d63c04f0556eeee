"""Numbers about the spectrum of an operator, for E members in lockstep: both ends, trace, conditioning."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nonconvex.measure.estimate import Estimate, gaussian, signs
from nonconvex.measure.operators import Operator

SMALLEST, LARGEST = 0, 1
ENDS = {"both": [SMALLEST, LARGEST], "largest": [LARGEST], "smallest": [SMALLEST]}


@dataclass(frozen=True)
class Extremes:
    """The two ends of a spectrum by sign, not by magnitude: column 0 holds the smallest, column 1 the largest.

    `residuals` = ‖Av - λv‖ for the unit `vectors`: some eigenvalue lies within that distance of the value, and the
    value lies inside the spectrum. `basis` spans the Krylov space at the step where the member stopped (zero rows after
    it); `inside` is the trace of A on that space.
    """

    values: Tensor  # (E, 2) float64
    residuals: Tensor  # (E, 2) float64
    vectors: Tensor  # (E, 2, P)
    iterations: Tensor  # (E,)
    basis: Tensor  # (E, m, P)
    inside: Tensor  # (E,) float64

    @property
    def smallest(self) -> Estimate:
        return self._end(SMALLEST)

    @property
    def largest(self) -> Estimate:
        return self._end(LARGEST)

    def _end(self, end: int) -> Estimate:
        value, residual = self.values[:, end], self.residuals[:, end]
        return Estimate(value, "lanczos", residual=residual, iterations=self.iterations)


def extreme_eigenvalues(
    operator: Operator, iterations: int = 30, tolerance: float = 1e-2, seed: int = 0, ends: str = "both"
) -> Extremes:
    """Smallest and largest eigenvalue by Lanczos with full re-orthogonalisation (Parlett 1998, ch. 13).

    A member stops when the residual of each of the asked `ends` (both, largest or smallest) is at most
    `tolerance` times that end's own |λ|, or after `iterations` products, and its residuals say how far it
    got. Relative to the largest |λ| the rule would stop the small end inside the bulk of a network's
    spectrum, long before the first negative eigenvalue is seen. The error of a value is of the order of
    residual² / gap, so 1e-2 gives 3 to 4 digits. A stopped member is frozen, so it does not depend on its
    neighbours; one whose products are not finite gets NaN.
    """
    if ends not in ENDS:
        raise ValueError(f"unknown ends {ends!r}; known: {', '.join(ENDS)}")
    steps = min(iterations, operator.shape[1])
    krylov = _Krylov(operator, steps, seed)
    for step in range(steps):
        krylov.extend(step)
        krylov.keep_ritz_pairs(step + 1)
        if krylov.stop(tolerance, ENDS[ends]):
            break
    return krylov.result()


class _Krylov:
    """An orthonormal basis Q that grows by one vector a step, with AQ and QᵀAQ.

    Keeping AQ costs memory but no products; it makes the residuals true ones, and lets the basis go on with a
    fresh random vector where the Krylov space is exhausted (repeated eigenvalues, a zero matrix).
    """

    def __init__(self, operator: Operator, steps: int, seed: int):
        e, size = operator.shape
        self.operator, self.seed = operator, seed
        self.basis = operator.like.new_zeros(e, steps, size)
        self.images = torch.zeros_like(self.basis)
        self.projected = self.basis.new_zeros(e, steps, steps, dtype=torch.float64)  # upper triangle
        self.running = torch.ones(e, dtype=torch.bool, device=self.basis.device)
        self.failed = ~self.running
        self.iterations = torch.zeros_like(self.running, dtype=torch.int64)
        self.values, self.residuals = self.projected.new_zeros(2, e, 2)
        self.vectors = self.basis.new_zeros(e, 2, size)

    def extend(self, step: int) -> None:
        """Append the next basis vector and its image."""
        vector, image, column = self.basis[:, step], self.images[:, step], self.projected[:, : step + 1, step]
        vector[:] = self._next(step)
        image[:] = self.operator @ vector
        column[:] = _inner(self.basis[:, : step + 1], image).double()
        broken = ~torch.isfinite(column).all(1)
        self.failed |= broken & self.running
        for part in (vector, image, column):
            part[broken] = 0.0

    def _next(self, step: int) -> Tensor:
        fresh = gaussian(self.operator.like, self.seed, f"lanczos {step}")
        if step == 0:
            return fresh / fresh.norm(dim=1, keepdim=True)
        image, basis = self.images[:, step - 1], self.basis[:, :step]
        vector = _outside(image, basis)
        rounding = 100 * torch.finfo(vector.dtype).eps * image.norm(dim=1)
        exhausted = vector.norm(dim=1) <= rounding
        vector = torch.where(exhausted[:, None], fresh, vector)
        for _ in range(2):  # twice is enough (Parlett 1998, sec. 6.9)
            vector = _outside(vector / vector.norm(dim=1, keepdim=True), basis)
        return vector / vector.norm(dim=1, keepdim=True)

    def keep_ritz_pairs(self, count: int) -> None:
        """Best approximations to both ends in the span of `count` vectors, for members still running."""
        values, rotations = torch.linalg.eigh(self.projected[:, :count, :count], UPLO="U")
        values, rotations = values[:, [0, -1]], rotations[..., [0, -1]].mT.to(self.basis.dtype)
        vectors = rotations @ self.basis[:, :count]
        # r = A v - λ v
        errors = rotations @ self.images[:, :count] - values[..., None].to(vectors.dtype) * vectors
        kept = (self.values, values), (self.residuals, errors.norm(dim=2).double()), (self.vectors, vectors)
        for old, new in kept:
            old[self.running] = new[self.running]
        self.iterations[self.running] = count

    def stop(self, tolerance: float, ends: list[int]) -> bool:
        """Let go of members that are done; whether none runs any more."""
        size = self.values.abs()
        rounding = 100 * torch.finfo(self.basis.dtype).eps * size.amax(1, keepdim=True)
        done = (self.residuals <= tolerance * size + rounding)[:, ends].all(1)
        self.running = self.running & ~done & ~self.failed
        return not self.running.any()

    def result(self) -> Extremes:
        inside = torch.arange(self.basis.shape[1], device=self.basis.device) < self.iterations[:, None]
        trace = (self.projected.diagonal(dim1=1, dim2=2) * inside).sum(1)
        for part in (self.values, self.residuals, self.vectors, trace):
            part[self.failed] = torch.nan
        basis = self.basis * inside[..., None]
        return Extremes(self.values, self.residuals, self.vectors, self.iterations, basis, trace)


def trace(operator: Operator, probes: int = 8, seed: int = 0, known: Extremes | None = None) -> Estimate:
    """tr A by Hutchinson's estimator, mean of zᵀAz over random signs z, with its standard error.

    With the `known` Krylov basis Q of a Lanczos run on the same operator,
    tr A = tr QᵀAQ + E zᵀ(I - QQᵀ)A(I - QQᵀ)z: the outlying eigenvalues are counted exactly and only the bulk
    is sampled (the idea of Hutch++, Meyer et al. 2021, with a subspace that is paid for already). The probes
    are independent of Q, so the estimate stays unbiased.
    """
    if probes < 2:
        raise ValueError(f"a standard error needs at least 2 probes, found {probes}")
    vectors = torch.stack([signs(operator.like, seed, f"trace {i}") for i in range(probes)], dim=1)
    if known is not None:
        vectors = vectors - (vectors @ known.basis.mT) @ known.basis
    samples = (vectors * (operator @ vectors)).sum(2).double()
    value = samples.mean(1) + (0.0 if known is None else known.inside)
    method = "hutchinson" if known is None else "hutchinson+lanczos"
    error, count = samples.std(1) / probes**0.5, torch.full_like(value, probes, dtype=torch.int64)
    return Estimate(value, method, standard_error=error, iterations=count)


def condition_number(largest: Estimate, total: Estimate, size: int) -> Estimate:
    """λ_max / (tr A / P): how far the sharpest direction exceeds the average one; 1 for the identity.

    The usual λ_max / λ_min is infinite for the degenerate Hessian of a network. NaN where the trace is not
    positive.
    """
    # κ = P λ_max / tr A
    value = torch.where(total.value > 0, size * largest.value / total.value, torch.nan)
    error = value.abs() * total.standard_error / total.value  # first order in the error of the trace
    return Estimate(value, "lambda_max/(trace/P)", standard_error=error, iterations=largest.iterations)


def _inner(basis: Tensor, vector: Tensor) -> Tensor:
    """(E, k) coefficients of vector (E, P) in basis (E, k, P)."""
    return (basis @ vector[..., None])[..., 0]


def _outside(vector: Tensor, basis: Tensor) -> Tensor:
    """The part of vector (E, P) that is orthogonal to the rows of basis (E, k, P)."""
    return vector - (_inner(basis, vector)[:, None] @ basis)[:, 0]
