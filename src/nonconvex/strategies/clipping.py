"""Gradient clipping by global norm (Pascanu et al. 2013, arXiv 1211.5063, algorithm 1).

Formula: g <- g * min(1, c / ||g||). Cost: 1 gradient evaluation per step. Default c = 1, the usual choice for
language models. Not known to help: with an optimizer that normalises the gradient's scale anyway (Adam), or on a
convex quadratic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nonconvex.strategies.base import Strategy
from nonconvex.tensors import Params, member_norm, per_member


@dataclass(frozen=True)
class Clipping(Strategy):
    """Each member's gradient is scaled down to norm `max_norm` when it is longer."""

    max_norm: float = 1.0

    def before_step(self, grads: Params, seeds: Sequence[int], step: int) -> Params:
        # 1e-6 as in torch.nn.utils.clip_grad_norm_
        factor = (self.max_norm / (member_norm(grads) + 1e-6)).clamp(max=1.0)
        return {name: grad * per_member(factor, grad) for name, grad in grads.items()}
