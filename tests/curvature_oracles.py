"""Functions whose curvature is known on paper, and references that share no code with `nonconvex.measure`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Operator
from nonconvex.models.stacked import Params, Stacked, stack


def assert_same(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """Equal shapes, and differences within `tolerance` of the largest entry."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


class Linear(nn.Module):
    """x (B, P) -> x · w, as logits (B, 1)."""

    def __init__(self, size: int):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.w)[:, None]


def half_square(logits: Tensor, targets: Tensor) -> Tensor:
    """(E, B): ½ (logit - target)²."""
    return 0.5 * (logits[..., 0] - targets).square()


def weighted_square(logits: Tensor, targets: Tensor) -> Tensor:
    """(E, B): ½ target · logit²; a negative target is a negative eigenvalue."""
    return 0.5 * targets * logits[..., 0].square()


def quadratic(eigenvalues: Tensor, points: Tensor, basis: Tensor | None = None) -> tuple[Objective, Params]:
    """L(w) = ½ Σ_i h_i (q_i · w)² with q_i the rows of `basis` (default: axes), at `points` (E, P)."""
    size = len(eigenvalues)
    basis = torch.eye(size, dtype=points.dtype) if basis is None else basis
    objective = Objective(Stacked(Linear(size)), weighted_square, shared(basis, size * eigenvalues))
    return objective, {"w": points}


class Dense(Operator):
    """The matrices (E, P, P) themselves."""

    def __init__(self, matrices: Tensor):
        super().__init__(matrices[..., 0])
        self.matrices = matrices

    def product(self, vectors: Tensor) -> Tensor:
        return (self.matrices @ vectors[..., None])[..., 0]


def rotation(size: int, seed: int = 0) -> Tensor:
    """A random orthogonal matrix in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0]


def planted(*spectra: Tensor) -> Dense:
    """One member for each spectrum, in random orthogonal bases."""
    bases = [rotation(len(spectrum), seed) for seed, spectrum in enumerate(spectra)]
    return Dense(torch.stack([q @ torch.diag(s.double()) @ q.T for q, s in zip(bases, spectra, strict=True)]))


def dense(operator: Operator) -> Tensor:
    """(E, P, P), by multiplying the identity."""
    e, size = operator.shape
    return operator @ torch.eye(size, dtype=operator.like.dtype).expand(e, size, size)


def doubled(build, members: int) -> tuple[Stacked, Params]:
    """`members` of a network in float64, its buffers too, moved off their initial symmetries."""
    network, params = stack(build, range(members))
    network.module.double()
    generator = torch.Generator().manual_seed(1)
    noise = {k: torch.randn(v.shape, dtype=torch.float64, generator=generator) for k, v in sorted(params.items())}
    return network, {name: value.double() + 0.1 * noise[name] for name, value in params.items()}


def plain_loss(module: nn.Module, params: Params, member: int, x: Tensor, y: Tensor, buffers=None):
    """L(θ) = mean cross-entropy of one member as a function of its flat parameters, without stacking."""
    shapes = {name: value.shape[1:] for name, value in params.items()}

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes.values()])
        state = {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        module.train(buffers is None)
        logits = functional_call(module, {**state, **{k: v[member] for k, v in (buffers or {}).items()}}, (x,))
        return F.cross_entropy(logits.flatten(0, -2), y.flatten())

    return loss, torch.cat([value[member].flatten() for value in params.values()])
