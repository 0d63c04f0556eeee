"""Critical points of small surfaces, of any index, by a second-order method; and how far to believe them.

A surface knows the loss, gradient and exact Hessian of E points (E, P) at once, in float64. The method minimises
½‖∇L‖², whose own minima include gradient-flat points where ∇L ≠ 0 lies in the kernel of the Hessian (Frye et al. 2021);
so every end point carries its gradient norm, and `outside_range` tells the two apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

DAMPING = 1e-2  # at the start
GOOD, POOR = 0.75, 0.25  # ratios of actual to predicted decrease above and below which the damping moves
ACCEPTED = 1e-4
LEAST, MOST = 1e-20, 1e6  # damping


class Surface(Protocol):
    """A smooth function of P parameters."""

    def losses(self, points: Tensor) -> Tensor:
        """(E,)."""

    def gradients(self, points: Tensor) -> Tensor:
        """(E, P)."""

    def hessians(self, points: Tensor) -> Tensor:
        """(E, P, P)."""


@dataclass(frozen=True)
class TanhNetwork:
    """L = (1/2n) Σ (Σ_k a_k tanh(w_k·x_i + b_k) + c - y_i)² + ½ decay ‖θ‖²; derivatives in closed form.

    θ = (w and b of each of K hidden units in turn; a; c), P = K (d + 2) + 1; `x` (n, d), `y` (n,).
    """

    x: Tensor
    y: Tensor
    hidden: int
    decay: float = 0.0

    @property
    def parameters(self) -> int:
        return self.hidden * (self.x.shape[1] + 2) + 1

    def losses(self, points: Tensor) -> Tensor:
        return self._forward(points)[-1].square().mean(1) / 2 + self.decay * points.square().sum(1) / 2

    def gradients(self, points: Tensor) -> Tensor:
        jacobian, (*_, residual) = self._jacobian(points)
        return (jacobian.mT @ residual[..., None])[..., 0] / len(self.x) + self.decay * points

    def hessians(self, points: Tensor) -> Tensor:
        """JᵀJ/n + (1/n) Σ_i r_i ∇²f(x_i) + decay I; ∇²f couples no two hidden units."""
        jacobian, (inputs, heads, units, residual) = self._jacobian(points)
        n, d = inputs.shape
        hessian = jacobian.mT @ jacobian / n
        weighted = residual[..., None] * (1 - units.square())  # r tanh'
        # ∂²f/∂w∂w = a tanh'' x xᵀ, tanh'' = -2 tanh tanh'; ∂²f/∂w∂a = tanh' x
        outer = (inputs[:, :, None] * inputs[:, None, :]).flatten(1)
        curved = ((-2 * units * weighted * heads[:, None]).mT @ outer / n).unflatten(-1, (d, d))
        mixed = weighted.mT @ inputs / n
        for k in range(self.hidden):
            own, head = slice(k * d, (k + 1) * d), self.hidden * d + k
            hessian[:, own, own] += curved[:, k]
            hessian[:, own, head] += mixed[:, k]
            hessian[:, head, own] += mixed[:, k]
        return hessian + self.decay * torch.eye(self.parameters, dtype=points.dtype)

    def _forward(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Inputs with a one (n, d + 1), heads a (E, K), hidden units (E, n, K), residuals (E, n)."""
        inputs = torch.cat([self.x, self.x.new_ones(len(self.x), 1)], 1)
        weights, heads, shift = points.split([self.hidden * inputs.shape[1], self.hidden, 1], 1)
        units = torch.tanh(inputs @ weights.unflatten(1, (self.hidden, -1)).mT)
        return inputs, heads, units, (units @ heads[..., None])[..., 0] + shift - self.y

    def _jacobian(self, points: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Derivatives of the outputs (E, n, P), and `_forward`."""
        inputs, heads, units, residual = found = self._forward(points)
        slopes = (1 - units.square()) * heads[:, None]
        weights = (slopes[..., None] * inputs[None, :, None]).flatten(2)
        return torch.cat([weights, units, torch.ones_like(residual)[..., None]], 2), found


@dataclass(frozen=True)
class LinearNetwork:
    """L = ½‖W₂W₁ - Y‖² for W₁ (h, d), W₂ (d, h) and a square target Y (d, d); derivatives by automatic differentiation.

    θ = (W₁, W₂) row by row.
    """

    target: Tensor
    hidden: int

    @property
    def parameters(self) -> int:
        return 2 * self.hidden * len(self.target)

    def loss(self, point: Tensor) -> Tensor:
        """Of one point (P,)."""
        first, second = point.split(self.parameters // 2)
        return (second.view(-1, self.hidden) @ first.view(self.hidden, -1) - self.target).square().sum() / 2

    def losses(self, points: Tensor) -> Tensor:
        return torch.func.vmap(self.loss)(points)

    def gradients(self, points: Tensor) -> Tensor:
        return torch.func.vmap(torch.func.grad(self.loss))(points)

    def hessians(self, points: Tensor) -> Tensor:
        return torch.func.vmap(torch.func.jacrev(torch.func.grad(self.loss)))(points)


@dataclass(frozen=True)
class Search:
    """Where E searches ended: points (E, P), gradients (E, P), Hessians (E, P, P), steps that were accepted (E,)."""

    points: Tensor
    gradients: Tensor
    hessians: Tensor
    steps: Tensor

    @property
    def slopes(self) -> Tensor:
        """(E,) ‖∇L‖."""
        return self.gradients.norm(dim=1)


def search(surface: Surface, starts: Tensor, iterations: int, tolerance: float) -> Search:
    """Minimise ½‖∇L‖² from starts (E, P) by Levenberg-Marquardt with the exact Hessian H as Jacobian of ∇L.

    A step solves (H² + μI) p = -H∇L; μ follows the ratio of actual to predicted decrease (Nocedal & Wright 2006,
    sec. 10.3). A search stops at ‖∇L‖ ≤ `tolerance`, and does not depend on its neighbours.
    """
    points, gradients, hessians = starts.clone(), surface.gradients(starts), surface.hessians(starts)
    damping, steps = torch.full_like(points[:, 0], DAMPING), torch.zeros(len(points), dtype=torch.int64)
    identity = torch.eye(points.shape[1], dtype=points.dtype)
    for _ in range(iterations):
        active = (gradients.norm(dim=1) > tolerance).nonzero()[:, 0]
        if not len(active):
            break
        slope, curvature = gradients[active][..., None], hessians[active]
        # (H² + μI) p = -H∇L
        matrix = curvature @ curvature + damping[active, None, None] * identity
        move = -_solved(matrix, curvature @ slope)
        tried = points[active] + move[..., 0]
        there = surface.gradients(tried)
        before = slope.square().sum((1, 2))
        predicted = before - (slope + curvature @ move).square().sum((1, 2))
        ratio = (before - there.square().sum(1)) / predicted.clamp(min=torch.finfo(points.dtype).tiny)
        change = torch.where(ratio > GOOD, 0.2, torch.where(ratio > POOR, 1.0, 4.0))
        damping[active] = (damping[active] * change).clamp(LEAST, MOST)
        better = ratio > ACCEPTED
        moved = active[better]
        if len(moved):
            points[moved], gradients[moved] = tried[better], there[better]
            hessians[moved] = surface.hessians(points[moved])
            steps[moved] += 1
    return Search(points, gradients, hessians, steps)


def _solved(matrices: Tensor, sides: Tensor) -> Tensor:
    """Solutions (E, P, 1); NaN for a matrix that is singular to rounding: a step that is refused and damped more."""
    found, info = torch.linalg.solve_ex(matrices, sides)
    return torch.where(info[:, None, None] == 0, found, torch.nan)


@dataclass(frozen=True)
class Spectra:
    """Signs of the eigenvalues of E Hessians, those within `zero` of the largest magnitude counting as zero."""

    values: Tensor  # (E, P) ascending
    negative: Tensor  # (E,) the index
    near_zero: Tensor  # (E,)


def spectra(hessians: Tensor, zero: float) -> Spectra:
    """Counts by sign. `zero` is a share of the largest magnitude in each spectrum."""
    values = torch.linalg.eigvalsh(hessians)
    scale = zero * values.abs().amax(1, keepdim=True)
    return Spectra(values, (values < -scale).sum(1), (values.abs() <= scale).sum(1))


def outside_range(gradients: Tensor, hessians: Tensor, cutoffs: Sequence[float]) -> Tensor:
    """(E, cutoffs): r = ‖g - HH⁺g‖ / ‖g‖, the share of the gradient that no Newton step can remove.

    The pseudo-inverse drops eigenvalues within a cut-off of the largest magnitude. r near 1 where ‖g‖ > 0 is a
    gradient-flat point (Frye et al. 2021 take r > 0.9).
    """
    values, vectors = torch.linalg.eigh(hessians)
    shares = (vectors.mT @ gradients[..., None])[..., 0].square()
    relative = values.abs() / values.abs().amax(1, keepdim=True)
    dropped = relative[:, None] <= torch.as_tensor(cutoffs, dtype=values.dtype)[None, :, None]
    return ((shares[:, None] * dropped).sum(2) / shares.sum(1, keepdim=True)).sqrt()


def newton_steps(gradients: Tensor, hessians: Tensor, zero: float) -> Tensor:
    """(E,) ‖H⁺g‖, how far the next Newton step would go: to first order the distance to the exact critical point."""
    values, vectors = torch.linalg.eigh(hessians)
    along = (vectors.mT @ gradients[..., None])[..., 0]
    kept = values.abs() > zero * values.abs().amax(1, keepdim=True)
    return torch.where(kept, along / torch.where(kept, values, 1.0), 0.0).norm(dim=1)
