"""The spectral density of an operator: where its eigenvalues lie, and which share lies in an interval.

Stochastic Lanczos quadrature (Golub & Welsch 1969; Ghorbani, Krishnan & Xiao 2019, section 2): after m steps from a
random unit vector v, the eigenvalues of the tridiagonal matrix and the squares of the first components of its
eigenvectors are nodes and weights of a Gauss rule for the measure that v sees; its mean over v is the density.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from nonconvex.measure.estimate import Estimate, gaussian
from nonconvex.measure.operators import Operator

TINY = 1e-37  # for `normalize`: a zero vector stays zero, any other gets length one
# share of the largest entry so far below which a coupling is rounding, and the rule exact
EXHAUSTED = {torch.float64: 1e-10, torch.float32: 1e-3}


@dataclass(frozen=True)
class Density:
    """Nodes and weights (E, probes, m), in float64, of a quadrature rule per probe; a probe's weights add up to one.

    `size` is P, the number of eigenvalues.
    """

    nodes: Tensor
    weights: Tensor
    size: int

    def mass(self, low: float, high: float) -> Estimate:
        """Share of the eigenvalues in [low, high], with its standard error over the probes.

        A random direction has Beta(Ps/2, P(1-s)/2) of its square in a subspace that holds the share s. Few draws of so
        skewed a variable understate their spread, so the error is the larger of theirs and that distribution's.
        """
        inside = (self.nodes >= low) & (self.nodes <= high)
        samples = (self.weights * inside).sum(2)
        probes, share = samples.shape[1], samples.mean(1)
        # Var = 2 s (1 - s) / (P + 2)
        spread = torch.sqrt(2 * share * (1 - share).clamp(min=0) / (self.size + 2))
        error = torch.maximum(samples.std(1), spread) / probes**0.5
        count = torch.full_like(share, probes, dtype=torch.int64)
        return Estimate(share, "stochastic lanczos quadrature", standard_error=error, iterations=count)


def density(operator: Operator, iterations: int = 50, probes: int = 10, seed: int = 0) -> Density:
    """The rules of `probes` Gaussian directions after `iterations` products each (P at most)."""
    if probes < 2:
        raise ValueError(f"a standard error needs at least 2 probes, found {probes}")
    starts = (gaussian(operator.like, seed, f"density {probe}") for probe in range(probes))
    rules = [_rule(operator, start, min(iterations, operator.shape[1])) for start in starts]
    nodes, weights = (torch.stack(parts, 1) for parts in zip(*rules, strict=True))
    return Density(nodes, weights, operator.shape[1])


def _rule(operator: Operator, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """(nodes, weights), each (E, m), of Lanczos with full re-orthogonalisation from `start` (E, P).

    Where the Krylov space is exhausted the coupling to what follows is set to zero, and with it the weights there.
    """
    basis = normalize(start, eps=TINY)[:, None]
    tridiagonal = start.new_zeros(len(start), steps, steps, dtype=torch.float64)
    for step in range(steps):
        image = operator @ basis[:, step]
        tridiagonal[:, step, step] = (image * basis[:, step]).sum(1).double()
        if step < steps - 1:
            for _ in range(2):  # twice is enough (Parlett 1998, sec. 6.9)
                image = image - ((basis @ image[..., None])[..., 0][:, None] @ basis)[:, 0]
            coupling = image.norm(dim=1)
            alive = coupling > EXHAUSTED[start.dtype] * tridiagonal.abs().amax((1, 2)).to(coupling)
            tridiagonal[:, step + 1, step] = torch.where(alive, coupling, 0.0).double()
            basis = torch.cat([basis, normalize(image, eps=TINY)[:, None]], 1)
    nodes, vectors = torch.linalg.eigh(tridiagonal)  # of the lower triangle
    return nodes, vectors[:, 0].square()
