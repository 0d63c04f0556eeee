"""Saddles of a two-layer linear network that learns from examples, and what minibatch noise does at them.

With whitened inputs, (1/n) Σ x xᵀ = I, and label noise ε that no input explains, (1/n) Σ ε xᵀ = 0, the regression
(1/2n) Σ_i ‖W₂W₁x_i - y_i‖² on y = Yx + ε equals ½‖W₂W₁ - Y‖² up to a constant: its critical points are those of
`measure.catalogue`, and yet it has minibatches. The gradient of example i, with r_i = W₂W₁x_i - y_i, is
(W₂ᵀ r_i x_iᵀ, r_i (W₁x_i)ᵀ): zero for every example at a unit whose in- and out-weights are zero.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nonconvex.measure import catalogue
from nonconvex.measure.catalogue import Subset
from nonconvex.measure.critical import LinearNetwork

ZERO = 1e-9  # an eigenvalue below -ZERO times the largest magnitude is negative
TIED = 1e-6  # relative distance within which eigenvalues are one


@dataclass(frozen=True)
class Regression:
    """Examples x (n, d), y (n, d) of the target Y = U diag(σ) Vᵀ (d, d) with all d modes, σ falling."""

    x: Tensor
    y: Tensor
    left: Tensor
    values: tuple[float, ...]
    right: Tensor

    @property
    def target(self) -> Tensor:
        return self.left @ torch.diag(torch.tensor(self.values, dtype=self.x.dtype)) @ self.right.mT


def regression(values: tuple[float, ...], examples: int, noise: float, generator: np.random.Generator) -> Regression:
    """Random singular vectors, inputs and label noise (standard deviation `noise` in every direction), in float64."""
    d = len(values)
    if examples < 2 * d:
        raise ValueError(f"examples is {examples}; allowed: {2 * d} or more, twice the number of modes")
    left, right = (_orthonormal(d, d, generator) for _ in range(2))
    columns = examples**0.5 * _orthonormal(examples, 2 * d, generator)
    x, unexplained = columns[:, :d], columns[:, d:]
    target = left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right.mT
    return Regression(x, x @ target.mT + noise * unexplained, left, tuple(values), right)


def _orthonormal(rows: int, columns: int, generator: np.random.Generator) -> Tensor:
    return torch.from_numpy(np.linalg.qr(generator.standard_normal((rows, columns)))[0])


def halves(points: Tensor, hidden: int) -> tuple[Tensor, Tensor]:
    """W₁ (E, h, d) and W₂ (E, d, h) of points (E, P), each written row by row."""
    first, second = points.chunk(2, 1)
    return first.unflatten(1, (hidden, -1)), second.unflatten(1, (-1, hidden))


def losses(points: Tensor, targets: Tensor, hidden: int) -> Tensor:
    """(E,) ½‖W₂W₁ - Y‖² for targets Y (E, d, d)."""
    first, second = halves(points, hidden)
    return (second @ first - targets).square().sum((1, 2)) / 2


def gradients(points: Tensor, targets: Tensor, hidden: int) -> Tensor:
    """(E, P) of `losses`, which is that over all examples: (W₂ᵀR, R W₁ᵀ), R = W₂W₁ - Y."""
    first, second = halves(points, hidden)
    residual = second @ first - targets
    return torch.cat([(second.mT @ residual).flatten(1), (residual @ first.mT).flatten(1)], 1)


def minibatch_gradients(points: Tensor, x: Tensor, y: Tensor, hidden: int) -> Tensor:
    """(E, P) mean gradient of the examples x, y (E, B, d)."""
    first, second = halves(points, hidden)
    units = x @ first.mT  # (E, B, h)
    residual = units @ second.mT - y
    parts = ((residual @ second).mT @ x, residual.mT @ units)
    return torch.cat([part.flatten(1) for part in parts], 1) / x.shape[1]


def example_gradients(point: Tensor, data: Regression, hidden: int) -> Tensor:
    """(n, P) gradient of every example at one point (P,)."""
    points = point.expand(len(data.x), -1)
    return minibatch_gradients(points, data.x[:, None], data.y[:, None], hidden)


@dataclass(frozen=True)
class Saddle:
    """A critical point (P,) of a regression, with what is known about leaving it.

    `strength` is σ of the most negative eigenvalue -σ, `next_loss` the loss of the critical level that its direction
    leads to, `negative` (P, k) orthonormal eigenvectors of the k negative eigenvalues, `inside` (P, P) the projector on
    the weights that carry chosen modes: full-batch descent that starts in its range stays there.
    """

    chosen: Subset
    point: Tensor
    loss: float
    next_loss: float
    strength: float
    sharpness: float
    eigenvalues: Tensor
    negative: Tensor
    inside: Tensor

    @property
    def fastest(self) -> Tensor:
        """(P, m) eigenvectors of the most negative eigenvalue, which idle units share."""
        close = self.eigenvalues < -(1 - TIED) * self.strength
        return self.negative[:, : int(close.sum())]

    def expected_negative(self, values: tuple[float, ...], hidden: int) -> Tensor:
        """(k,) the negative eigenvalues that the catalogue knows of: -σ_i for every idle unit, σ_j - σ_i, rising."""
        outside, inside = (
            [v for taken, v in zip(self.chosen, values, strict=True) if taken == of] for of in (False, True)
        )
        idle = [-value for value in outside for _ in range(hidden - len(inside))]
        swaps = [kept - value for value in outside for kept in inside if kept < value]
        return torch.tensor(sorted(idle + swaps), dtype=self.point.dtype)


def saddle(data: Regression, chosen: Subset, hidden: int) -> Saddle:
    """The balanced critical point of the chosen modes whose idle units are exactly zero.

    ValueError if it has no negative eigenvalue.
    """
    strength, following = fastest(chosen, data.values, hidden)
    point = balanced(data, chosen, hidden)
    eigenvalues, vectors = torch.linalg.eigh(LinearNetwork(data.target, hidden).hessians(point[None])[0])
    largest = eigenvalues.abs().max()
    kept = torch.tensor(chosen)
    # W₁ v_i = 0 and u_iᵀ W₂ = 0 for every mode i that is left out is kept by the gradient
    into, out = (part[:, kept] @ part[:, kept].mT for part in (data.right, data.left))
    eye = torch.eye(hidden, dtype=data.x.dtype)
    inside = torch.block_diag(torch.kron(eye, into), torch.kron(out, eye))
    return Saddle(
        chosen,
        point,
        catalogue.loss_of(chosen, data.values),
        catalogue.loss_of(following, data.values),
        strength,
        largest.item(),
        eigenvalues,
        vectors[:, eigenvalues < -ZERO * largest],
        inside,
    )


def balanced(data: Regression, chosen: Subset, hidden: int) -> Tensor:
    """(P,): a unit of its own, √σ_i v_i in and √σ_i u_i out, for every chosen mode i; idle units are exactly zero.

    `catalogue.representative` needs as many units as modes; here there may be fewer, down to one per chosen mode.
    ValueError for fewer than that.
    """
    modes = [i for i, taken in enumerate(chosen) if taken]
    if len(modes) > hidden:
        raise ValueError(f"{len(modes)} modes chosen; allowed: 0 to {hidden}, the number of hidden units")
    first, second = data.x.new_zeros(hidden, len(chosen)), data.x.new_zeros(len(chosen), hidden)
    for unit, mode in enumerate(modes):
        first[unit] = data.values[mode] ** 0.5 * data.right[:, mode]
        second[:, unit] = data.values[mode] ** 0.5 * data.left[:, mode]
    return torch.cat([first.flatten(), second.flatten()])


def fastest(chosen: Subset, values: tuple[float, ...], hidden: int) -> tuple[float, Subset]:
    """σ of the most negative eigenvalue -σ, and the modes that are learned where its direction leads.

    With an idle unit that is the largest mode left out, at -σ_i; without, it takes the unit of the smallest chosen
    mode j, at σ_j - σ_i.
    """
    outside = [i for i, taken in enumerate(chosen) if not taken]
    inside = [i for i, taken in enumerate(chosen) if taken]
    idle = hidden > len(inside)
    if not outside or (not idle and values[outside[0]] < values[inside[-1]]):
        raise ValueError(f"modes {inside} of {len(values)} with {hidden} hidden units are no saddle")
    given_up = None if idle else inside[-1]
    following = tuple((taken or i == outside[0]) and i != given_up for i, taken in enumerate(chosen))
    return values[outside[0]] - (0.0 if idle else values[given_up]), following
