"""Curvature matrices that are never formed: objects that know how to multiply vectors, for E members at once.

`operator @ v` takes v (E, P), or k probes (E, k, P), and gives the same shape. Any algorithm of `spectrum.py`
works on any operator here. Members are independent, so the derivative of the sum over members holds each
member's own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd import grad

from nonconvex.measure.objective import Objective
from nonconvex.models.stacked import Params


class Operator(ABC):
    """E symmetric matrices P x P; `like` (E, P) carries their size, type and device."""

    def __init__(self, like: Tensor):
        self.like = like.detach()

    @property
    def shape(self) -> tuple[int, int]:
        """(E, P)."""
        return tuple(self.like.shape)

    @abstractmethod
    def product(self, vectors: Tensor) -> Tensor:
        """Matrix times vector (E, P) for every member."""

    def __matmul__(self, vectors: Tensor) -> Tensor:
        if vectors.dim() == 3:
            return torch.stack([self.product(probe) for probe in vectors.unbind(1)], dim=1)
        return self.product(vectors)


class Hessian(Operator):
    """∇²L at `params`, by differentiating the gradient (Pearlmutter 1994: Hv = ∇(∇L · v)).

    The graph of the gradient is built once and kept, which makes a product about 40 % cheaper; with
    `keep_graph=False` it is rebuilt for every product and only one batch of it lives at a time.
    """

    def __init__(self, objective: Objective, params: Params, keep_graph: bool = True):
        self._point = objective.flat(params).detach().requires_grad_()
        super().__init__(self._point)
        self._objective, self._params = objective, params
        self._kept = list(self._slopes()) if keep_graph else None

    def product(self, vectors: Tensor) -> Tensor:
        kept = self._kept is not None
        total = torch.zeros_like(vectors)
        for slope in self._kept if kept else self._slopes():
            if slope.requires_grad:  # a loss that is linear in the parameters has no second derivative
                total += _pull(slope, self._point, vectors, retain_graph=kept)
        return total

    def _slopes(self) -> Iterator[Tensor]:
        """Each batch's part (E, P) of the gradient, differentiable."""
        for logits, targets in self._objective.outputs(self._objective.at(self._params, self._point)):
            yield _pull(self._objective.share(logits, targets), self._point, create_graph=True)


class GaussNewton(Operator):
    """Jᵀ H_out J, with J the Jacobian of the logits and H_out the Hessian of the loss in the logits.

    The part of the Hessian that remains when the residuals vanish (Schraudolph 2002), positive semi-definite
    for a convex loss. For cross-entropy H_out = diag(p) - p pᵀ does not contain the label; for squared error
    it is I. Jv is the derivative of w ↦ vᵀJᵀw, so both factors come from reverse mode and both graphs are
    kept.
    """

    def __init__(self, objective: Objective, params: Params, keep_graph: bool = True):
        self._point = objective.flat(params).detach().requires_grad_()
        super().__init__(self._point)
        self._objective, self._params = objective, params
        self._kept = list(self._graphs()) if keep_graph else None

    def product(self, vectors: Tensor) -> Tensor:
        total = torch.zeros_like(vectors)
        for logits, cotangent, pulled, inner, slope in self._graphs() if self._kept is None else self._kept:
            tangent = _pull(pulled, cotangent, vectors)  # Jv
            if slope.requires_grad:
                total += _pull(logits, self._point, _pull(slope, inner, tangent))  # Jᵀ (H_out Jv)
        return total

    def _graphs(self) -> Iterator[tuple[Tensor, ...]]:
        for logits, targets in self._objective.outputs(self._objective.at(self._params, self._point)):
            cotangent = torch.zeros_like(logits, requires_grad=True)
            pulled = _pull(logits, self._point, cotangent, create_graph=True)  # Jᵀw
            inner = logits.detach().requires_grad_()
            slope = _pull(self._objective.share(inner, targets), inner, create_graph=True)
            yield logits, cotangent, pulled, inner, slope


class Preconditioned(Operator):
    """D^(-1/2) A D^(-1/2) for a positive diagonal D (E, P): what an adaptive optimizer's step size meets."""

    def __init__(self, operator: Operator, diagonal: Tensor):
        super().__init__(operator.like)
        self._operator, self._scale = operator, diagonal.rsqrt()

    def product(self, vectors: Tensor) -> Tensor:
        return self._scale * (self._operator @ (self._scale * vectors))


def _pull(outputs: Tensor, inputs: Tensor, vectors: Tensor | None = None, retain_graph: bool = True, **how) -> Tensor:
    """(∂ outputs / ∂ inputs)ᵀ vectors, of the sum where there are none; zero where they are not connected.

    The inner product is taken first: given `grad_outputs` instead, torch imports a computer algebra system.
    """
    total = (outputs if vectors is None else outputs * vectors).sum()
    return grad(total, inputs, retain_graph=retain_graph, materialize_grads=True, **how)[0]
