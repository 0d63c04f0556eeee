"""Under-determined least squares in float64: which of the many solutions does an optimizer reach?

E problems are stacked: X (E, n, d) with n < d, y (E, n), L(w) = |X w - y|² / 2n. Every w with X w = y is a minimum. An
update that stays in the span of the rows of X can reach only one of them, the nearest to its start,
w0 + X⁺(y - X w0); from zero that is the one of least norm. Gradient descent, SGD and momentum have such updates;
what rescales coordinates (AdaGrad, Adam) or takes signs does not (Gunasekar et al. 2018).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linprog
from torch import Tensor

from nonconvex.data.splits import permutation
from nonconvex.optimizers import AdamW, Sgd, State
from nonconvex.tensors import Params, per_member


@dataclass(frozen=True)
class Adagrad:
    """AdaGrad (Duchi et al. 2011), as torch.optim.Adagrad without decay; `accumulated` is its initial sum."""

    epsilon: float = 1e-10
    accumulated: float = 0.0

    def init(self, params: Params) -> State:
        return {"sum": {name: torch.full_like(p, self.accumulated) for name, p in params.items()}}

    def update(self, params: Params, grads: Params, state: State, rates: Tensor, step: int) -> tuple[Params, State]:
        # s <- s + g²;  w <- w - eta g / (sqrt(s) + eps)
        total = {name: state["sum"][name] + grads[name].square() for name in params}
        moved = {
            name: w - per_member(rates, w) * grads[name] / (total[name].sqrt() + self.epsilon)
            for name, w in params.items()
        }
        return moved, {"sum": total}


@dataclass(frozen=True)
class SignDescent:
    """Steepest descent in the maximum norm (Boyd & Vandenberghe 2004, section 9.4.2): signs times |g|₁."""

    def init(self, params: Params) -> State:
        return {}

    def update(self, params: Params, grads: Params, state: State, rates: Tensor, step: int) -> tuple[Params, State]:
        length = sum(g.abs().flatten(1).sum(1) for g in grads.values())
        # w <- w - eta |g|_1 sign(g)
        return {name: w - per_member(rates * length, w) * grads[name].sign() for name, w in params.items()}, state


@dataclass(frozen=True)
class Problems:
    """E problems and the vector `teacher` (E, d) that their targets were made with, before noise."""

    x: Tensor  # (E, n, d)
    y: Tensor  # (E, n)
    teacher: Tensor  # (E, d)

    def nearest(self, start: Tensor) -> Tensor:
        """(E, d): the solution nearest to `start` (E, d); from zero the one of least norm."""
        # w0 + X⁺ (y - X w0)
        return start + times(torch.linalg.pinv(self.x), self.y - times(self.x, start))

    def residual(self, w: Tensor) -> Tensor:
        """(E,) |X w - y| / |y|."""
        return (times(self.x, w) - self.y).norm(dim=1) / self.y.norm(dim=1)

    def gradient(self, w: Tensor, index: Tensor | None = None) -> Tensor:
        """(E, d): the gradient of the mean over the examples `index` (E, B), all by default."""
        x, y = self.x, self.y
        if index is not None:
            member = torch.arange(len(x))[:, None]
            x, y = x[member, index], y[member, index]
        # g = X^T (X w - y) / B
        return times(x.transpose(1, 2), times(x, w) - y) / x.shape[1]

    def curvatures(self) -> tuple[Tensor, Tensor]:
        """(E,) largest and smallest non-zero eigenvalue of the Hessian X^T X / n."""
        values = torch.linalg.svdvals(self.x).square() / self.x.shape[1]
        return values[:, 0], values[:, -1]

    def stable_rate(self, batch_size: int) -> Tensor:
        """(E,) a rate at which every batch of the size contracts: one over a bound on its curvature."""
        gram = self.x @ self.x.transpose(1, 2)
        diagonal = gram.diagonal(dim1=1, dim2=2)
        other = (gram - torch.diag_embed(diagonal)).abs().flatten(1).amax(1)
        # Gershgorin: λ_max(X_B X_B^T / B) <= (max_i |x_i|² + (B - 1) max_ij |x_i . x_j|) / B
        return batch_size / (diagonal.amax(1) + (batch_size - 1) * other)


def problems(seeds: Sequence[int], examples: int, dimension: int, noise: float) -> Problems:
    """One problem per seed: Gaussian inputs, a teacher of length about one, and noise of that deviation on targets."""
    x, teacher = drawn(seeds, (examples, dimension), 0), drawn(seeds, (dimension,), 1) / dimension**0.5
    y = times(x, teacher) + noise * drawn(seeds, (examples,), 2)
    return Problems(x, y, teacher)


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """(E, a): every member's matrix (E, a, b) times its vector (E, b)."""
    return torch.bmm(matrix, vector[..., None])[..., 0]


def drawn(seeds: Sequence[int], shape: tuple[int, ...], stream: int) -> Tensor:
    """(E, *shape) standard normal numbers, each member's from its own seed; streams share nothing."""
    generators = [torch.Generator().manual_seed(1000 * seed + stream) for seed in seeds]
    return torch.stack([torch.randn(shape, dtype=torch.float64, generator=one) for one in generators])


def descend(
    made: Problems,
    optimizer: Sgd | AdamW | Adagrad | SignDescent,
    start: Tensor,
    rate: Callable[[int], Tensor],
    steps: int,
    batch_size: int | None = None,
    seeds: Sequence[int] = (),
) -> Tensor:
    """(E, d) after `steps` updates from `start` at the rates `rate(step)` (E,), full batch or minibatches.

    Minibatches are consecutive pieces of a permutation of the examples, a new one every epoch, keyed by `seeds`.
    """
    params = {"w": start.clone()}
    state = optimizer.init(params)
    for step in range(steps):
        index = None if batch_size is None else minibatch(made.x.shape[1], seeds, step, batch_size)
        grads = {"w": made.gradient(params["w"], index)}
        params, state = optimizer.update(params, grads, state, rate(step), step)
    return params["w"]


def minibatch(examples: int, seeds: Sequence[int], step: int, batch_size: int) -> Tensor:
    """(E, B) indices of batch number `step` of every seed; a ragged rest of an epoch is dropped."""
    epoch, place = divmod(step, examples // batch_size)
    part = slice(place * batch_size, (place + 1) * batch_size)
    return torch.stack([torch.from_numpy(permutation(examples, seed, epoch)[part].copy()) for seed in seeds])


def least_maximum(x: Tensor, y: Tensor) -> float:
    """The smallest max_j |w_j| of any solution of X w = y, X (n, d), by linear programming (HiGHS)."""
    n, d = x.shape
    # min s  over  p, q >= 0, w = p - q:  X (p - q) = y,  p + q + slack = s
    eye = torch.eye(d, dtype=x.dtype)
    top = torch.cat([x, -x, torch.zeros(n, 1, dtype=x.dtype)], 1)
    bound = torch.cat([eye, eye, -torch.ones(d, 1, dtype=x.dtype)], 1)
    cost = torch.zeros(2 * d + 1, dtype=x.dtype)
    cost[-1] = 1
    found = linprog(cost.numpy(), bound.numpy(), torch.zeros(d).numpy(), top.numpy(), y.numpy(), method="highs")
    return float(found.fun)
