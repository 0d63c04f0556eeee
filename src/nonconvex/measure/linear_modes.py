"""Two-layer linear networks in float64: the modes of the target are learned one after the other from a small start.

f(x) = W2 W1 x with W1 (h, d), W2 (d, h); inputs are white, so the loss is |W2 W1 - M|² / 2 with M = Σ_i σ_i u_i v_i^T,
and a_i = u_i^T W2 W1 v_i is the strength of mode i. With p_i = W1 v_i and q_i = W2^T u_i gradient flow reads
p' = (σ - a) q, q' = (σ - a) p while other modes do not interfere. Balanced and aligned (p = q, a = |p|²) that is
a' = 2 a (σ - a), whose solution passes σ/2 at t = ln(σ/a_0 - 1) / 2σ (Saxe et al. 2014). From a small start in any
position p and q first grow together along p + q at the rate σ, which is the same with a_0 = |p + q|² / 4. Members
are stacked: W1 (E, h, d), W2 (E, d, h).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nonconvex.measure.least_squares import drawn


@dataclass(frozen=True)
class Target:
    """M = U diag(σ) V^T of every member: U and V (E, d, r) with orthonormal columns, σ (E, r) falling."""

    left: Tensor
    right: Tensor
    sigma: Tensor

    @property
    def matrix(self) -> Tensor:
        return self.left * self.sigma[:, None] @ self.right.transpose(1, 2)

    def strengths(self, w1: Tensor, w2: Tensor) -> Tensor:
        """a_i = u_i^T W2 W1 v_i, (E, r)."""
        # a_i = p_i·q_i
        return (w1 @ self.right * (w2.transpose(1, 2) @ self.left)).sum(1)

    def starts(self, w1: Tensor, w2: Tensor) -> Tensor:
        """The a_0 of the closed form at a small start, |W1 v_i + W2^T u_i|² / 4, (E, r)."""
        return (w1 @ self.right + w2.transpose(1, 2) @ self.left).square().sum(1) / 4


Weights = tuple[Tensor, Tensor]


def targets(seeds: Sequence[int], dimension: int, sigma: Sequence[float], spread: float) -> Target:
    """One target per seed: random singular vectors, and values around `sigma`, each times exp(spread · uniform(±1))."""
    left, right = (orthonormal(drawn(seeds, (dimension, len(sigma)), stream)) for stream in (6, 7))
    # Φ(z) is uniform for a normal z
    uniform = 2 * torch.special.ndtr(drawn(seeds, (len(sigma),), 8)) - 1
    return Target(left, right, torch.tensor(sigma, dtype=torch.float64) * (spread * uniform).exp())


def orthonormal(matrix: Tensor) -> Tensor:
    """Columns (E, a, b), a >= b, made orthonormal; uniform for Gaussian matrices because signs are fixed."""
    q, r = torch.linalg.qr(matrix)
    return q * r.diagonal(dim1=1, dim2=2).sign()[:, None]


def aligned(target: Target, seeds: Sequence[int], hidden: int, strength: float) -> Weights:
    """Balanced and aligned with the target: every mode has strength `strength`, and none meets another."""
    root = strength**0.5 * orthonormal(drawn(seeds, (hidden, target.sigma.shape[1]), 9))
    return root @ target.right.transpose(1, 2), target.left @ root.transpose(1, 2)


def balanced(seeds: Sequence[int], dimension: int, hidden: int, strength: float) -> Weights:
    """W1 W1^T = W2^T W2, all singular values of W2 W1 equal to `strength`, in directions that know no target."""
    root = strength**0.5 * orthonormal(drawn(seeds, (hidden, dimension), 9))
    return root, orthonormal(drawn(seeds, (dimension, dimension), 10)) @ root.transpose(1, 2)


def half_times(sigma: Tensor, start: Tensor) -> Tensor:
    """t at which a' = 2 a (σ - a), a(0) = start < σ/2, passes σ/2."""
    # t = ln(σ / a_0 - 1) / 2σ
    return (sigma / start - 1).log() / (2 * sigma)


def descend(
    target: Target, weights: Weights, rate: float, steps: int, covariance: Callable[[int], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """(strengths (T + 1, E, r), singular values (T + 1, E, d) of W2 W1) of gradient descent after each step.

    `covariance(step)` (E, d, d) is the second moment of a minibatch of inputs, the identity by default.
    """
    w1, w2 = weights
    wanted = target.matrix
    strengths, values = [target.strengths(w1, w2)], [torch.linalg.svdvals(w2 @ w1)]
    for step in range(steps):
        # ∇ of tr((W2 W1 - M) C (W2 W1 - M)^T) / 2
        error = w2 @ w1 - wanted
        if covariance is not None:
            error = error @ covariance(step)
        w1, w2 = w1 - rate * w2.transpose(1, 2) @ error, w2 - rate * error @ w1.transpose(1, 2)
        strengths.append(target.strengths(w1, w2))
        values.append(torch.linalg.svdvals(w2 @ w1))
    return torch.stack(strengths), torch.stack(values)


def crossing(strengths: Tensor, level: Tensor, step: float) -> Tensor:
    """(E, r): when strengths (T + 1, E, r), `step` apart, first pass `level` (E, r), between steps by a straight line.

    0 where they begin above it, NaN where they never get there.
    """
    above = strengths >= level
    first = above.int().argmax(0)
    at = first.clamp(min=1)
    low, high = (strengths.gather(0, (at - k)[None])[0] for k in (1, 0))
    time = (at - 1 + (level - low) / (high - low)) * step
    return torch.where(above.any(0), torch.where(first == 0, 0.0, time), torch.nan)


def effective_rank(values: Tensor) -> Tensor:
    """exp of the entropy of the singular values (..., d), taken as shares of their sum (Roy & Vetterli 2007)."""
    shares = values / values.sum(-1, keepdim=True)
    # exp(-Σ p ln p)
    return torch.special.entr(shares).sum(-1).exp()
