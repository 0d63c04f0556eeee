"""Sharpness-aware minimization (Foret et al. 2021, arXiv 2010.01412, algorithm 1).

Formula: e = radius * g(w) / ||g(w)||;  w <- w - eta g(w + e). Cost: 2 gradient evaluations per step. Default radius
0.05, the paper's. Not known to help: at equal gradient evaluations on small problems, or at large batch (Kaur et al.
2022). Both gradients use the same minibatch, and each pass the batch statistics of its own weights.
"""

from dataclasses import dataclass

from torch import Tensor

from nonconvex.strategies.base import Loss, Strategy, value_and_gradient
from nonconvex.tensors import Params, member_norm, per_member


@dataclass(frozen=True)
class Sam(Strategy):
    """The gradient is taken at the (first-order) worst point within `radius`; the reported loss is the unperturbed
    one."""

    radius: float = 0.05
    evaluations = 2

    def gradients(self, params: Params, loss: Loss) -> tuple[Tensor, Params]:
        losses, grads = value_and_gradient(params, loss)
        factor = self.radius / member_norm(grads).clamp(min=1e-12)
        worst = {name: value + per_member(factor, value) * grads[name] for name, value in params.items()}
        return losses, value_and_gradient(worst, loss)[1]
