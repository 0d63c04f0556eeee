"""The empirical neural tangent kernel: inner products of the gradients of a network's outputs (Jacot et al. 2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from nonconvex.models.normalisation import BatchNorm
from nonconvex.models.stacked import Params, Stacked, members


def jacobian(
    network: Stacked, params: Params, x: Tensor, member: int = 0, logits: Sequence[int] | None = None
) -> Tensor:
    """(N K, P): one member's ∂f_k(x_i)/∂θ, examples x (N, ...) outermost, of all its K outputs or of the `logits`.

    Exact, by one backward pass per output. ValueError for batch normalisation, where an output belongs to no example.
    """
    if any(isinstance(module, BatchNorm) for module in network.module.modules()):
        raise ValueError("the tangent kernel needs outputs that depend on their own example; found batch normalisation")
    chosen = slice(None) if logits is None else list(logits)
    weights = {name: value[member].detach() for name, value in params.items()}

    def outputs(weights: Params, one: Tensor) -> Tensor:
        return functional_call(network.module, weights, (one[None],))[0][chosen]

    slopes = vmap(jacrev(outputs), (None, 0))(weights, x)  # name -> (N, K, *shape)
    return torch.cat([slope.flatten(2) for slope in slopes.values()], 2).flatten(0, 1)


def tangent_kernel(network: Stacked, params: Params, x: Tensor, logits: Sequence[int] | None = None) -> Tensor:
    """(E, N K, N K): Θ = J Jᵀ of every member on its own examples x (E, N, ...).

    Row i K + k belongs to output k of example i.
    """
    slopes = (jacobian(network, params, x[e], e, logits) for e in range(members(params)))
    return torch.stack([_gram(rows) for rows in slopes])


def _gram(rows: Tensor) -> Tensor:
    return rows @ rows.T


def relative_change(before: Tensor, after: Tensor) -> Tensor:
    """(E,): ‖Θ_T - Θ_0‖ / ‖Θ_0‖ in the Frobenius norm, of kernels (E, M, M)."""
    return (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)


def spectrum(kernel: Tensor) -> Tensor:
    """(E, M): eigenvalues of symmetric kernels (E, M, M), rising."""
    return torch.linalg.eigvalsh(kernel)
