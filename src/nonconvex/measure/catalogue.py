"""Every critical point of the two-layer linear network ½‖W₂W₁ - Y‖², up to its continuous symmetries.

With Y = U diag(σ) Vᵀ, σ₁ > ... > σ_r > 0, and at least r hidden units, the critical points with
W₂W₁ = Σ_{i∈S} σ_i u_i v_iᵀ form one family for every subset S of the modes (Baldi & Hornik 1989).
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

Subset = tuple[bool, ...]  # of the modes, from the largest singular value


def subsets(modes: int) -> list[Subset]:
    """All 2^r of them."""
    return list(product((False, True), repeat=modes))


def loss_of(chosen: Subset, values: Sequence[float]) -> float:
    # ½ Σ_{i∉S} σ_i²
    return sum(value**2 for inside, value in zip(chosen, values, strict=True) if not inside) / 2


def index_of(chosen: Subset, values: Sequence[float], hidden: int) -> int:
    """Number of negative eigenvalues at a point of the orbit; h is `hidden`.

    At a representative with idle units at zero, a left-out mode i couples an input and an output direction of each
    of the h - |S| idle units with eigenvalues ±σ_i, and it displaces every chosen mode j with σ_j < σ_i at σ_j - σ_i.
    """
    inside = [value for taken, value in zip(chosen, values, strict=True) if taken]
    outside = [value for taken, value in zip(chosen, values, strict=True) if not taken]
    # Σ_{i∉S} (h - |S|) + #{(i∉S, j∈S): σ_i > σ_j}
    return len(outside) * (hidden - len(inside)) + sum(left > kept for left in outside for kept in inside)


def representative(chosen: Subset, left: Tensor, values: Sequence[float], right: Tensor, mixing: Tensor) -> Tensor:
    """(P,) a critical point θ = (W₁, W₂) of the orbit: balanced, then carried along it by an invertible G (h, h).

    Y = `left` diag(values) `right`ᵀ; W₁ = G√Σ_S Vᵀ and W₂ = U√Σ_S G⁻¹.
    """
    root = mixing.new_zeros(len(mixing), len(values))
    for i, (taken, value) in enumerate(zip(chosen, values, strict=True)):
        root[i, i] = value**0.5 if taken else 0.0
    first = mixing @ root @ right.mT
    second = left @ root.mT @ torch.linalg.inv(mixing)
    return torch.cat([first.flatten(), second.flatten()])
