"""What a measurement returns for E members, and the random draws that it uses."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """One quantity of E members, each tensor (E,); None where a field does not apply to the method.

    `standard_error` is that of a Monte-Carlo mean over its draws, at fixed weights and examples; `residual`
    bounds the distance to an eigenvalue; `iterations` counts the method's unit: Lanczos steps, probes, ascent
    steps.
    """

    value: Tensor
    method: str
    standard_error: Tensor | None = None
    residual: Tensor | None = None
    iterations: Tensor | None = None


def gaussian(like: Tensor, seed: int, purpose: str) -> Tensor:
    """Standard normal numbers of the last axis's length, broadcast to `like` (E, P).

    All members meet the same draw, so a member measured alone equals the member measured in a cohort. The
    draw is made in float64 on the CPU: it is the same on every device and, up to rounding, in every
    precision.
    """
    draw = torch.randn(like.shape[-1], dtype=torch.float64, generator=_generator(seed, purpose))
    return draw.to(like).expand_as(like)


def signs(like: Tensor, seed: int, purpose: str) -> Tensor:
    """As `gaussian`, with independent signs ±1 (Rademacher)."""
    draw = torch.randint(2, like.shape[-1:], generator=_generator(seed, purpose))
    return (2 * draw - 1).to(like).expand_as(like)


def _generator(seed: int, purpose: str) -> torch.Generator:
    """A stream for each purpose: probes must not share bits with the vector that chose a subspace."""
    key = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:7]))
