"""Filter normalisation (Li et al. 2018): surfaces and curvature that rescaling a filter does not change.

What is normalised, and that biases are left out, was checked against the authors' code.

A filter is everything that feeds one output: a slice W[i] of a convolution kernel, a row of a matrix. Its direction
is drawn with independent normal entries and scaled to the filter's own norm. Biases and normalisation weights, which
have one axis, do not move.

Every loss here lets batch norm use the statistics of the measured examples at every point, and derivatives go
through these statistics: the surface is a function of the weights alone, and a batch-normalised filter may be
multiplied by any positive number without changing it.
"""

import torch
from torch import Tensor

from nonconvex.measure.objective import Objective
from nonconvex.measure.operators import Hessian, Operator, Preconditioned
from nonconvex.models.stacked import Params, flatten, members, select


def filters(params: Params) -> Params:
    """The parameters that have filters: two axes or more besides the members'."""
    return {name: value for name, value in params.items() if value.dim() > 2}


def filter_norms(value: Tensor) -> Tensor:
    """The norm of its filter at every entry of a parameter (E, filters, ...)."""
    norms = value.flatten(2).norm(dim=2)
    return norms.view(*norms.shape, *[1] * (value.dim() - 2)).expand_as(value)


def filter_direction(params: Params, seeds: list[int]) -> Params:
    """A random direction for every member, under its own seed, zero where there is no filter."""
    direction = {}
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for name, value in params.items():
        drawn = torch.stack([torch.randn(value.shape[1:], generator=generator) for generator in generators]).to(value)
        # d_i <- d_i |θ_i| / |d_i|
        moves = value.dim() > 2
        direction[name] = drawn * filter_norms(value) / filter_norms(drawn) if moves else torch.zeros_like(value)
    return direction


def filter_hessian(objective: Objective, params: Params) -> Operator:
    """S H S for the Hessian H of the filters and S = diag(|filter| / sqrt(entries of the filter)).

    A standard normal vector z makes S z a filter-normalised direction up to the fluctuation of |z| on a filter. The
    matrix, hence both ends of its spectrum, stays the same when a filter's scale does not matter to the loss.
    `objective.free` must name the filters.
    """
    scale = {name: filter_norms(value) / value[0, 0].numel() ** 0.5 for name, value in filters(params).items()}
    return Preconditioned(Hessian(objective, params), flatten(scale).square().reciprocal())


@torch.no_grad()
def surface(objective: Objective, params: Params, first: Params, second: Params, ticks: Tensor) -> Tensor:
    """(E, n, n): losses at θ + a first + b second for a (down) and b (across) in `ticks` (n,)."""
    found = []
    for e in range(members(params)):
        parts = [select(part, [e]) for part in (params, first, second)]
        found.append(torch.stack([objective.losses(_row(*parts, a, ticks)) for a in ticks]))
    return torch.stack(found)


def _row(centre: Params, first: Params, second: Params, a: Tensor, ticks: Tensor) -> Params:
    """The points of one row as n members."""
    points = {}
    for name, value in centre.items():
        b = ticks.to(value).view(-1, *[1] * (value.dim() - 1))
        points[name] = value + a.to(value) * first[name] + b * second[name]
    return points


def nonconvex_share(losses: Tensor, spacing: float) -> Tensor:
    """(E,): share of the inner points of surfaces (E, n, n) where the plane's Hessian has a negative eigenvalue.

    Second derivatives are central differences over neighbours at `spacing`. NaN for a surface that is not finite.
    """
    f = losses.double()
    centre = f[:, 1:-1, 1:-1]
    across = (f[:, 1:-1, 2:] - 2 * centre + f[:, 1:-1, :-2]) / spacing**2
    down = (f[:, 2:, 1:-1] - 2 * centre + f[:, :-2, 1:-1]) / spacing**2
    mixed = (f[:, 2:, 2:] - f[:, 2:, :-2] - f[:, :-2, 2:] + f[:, :-2, :-2]) / (4 * spacing**2)
    # λ_min = (h_aa + h_bb) / 2 - sqrt(((h_aa - h_bb) / 2)² + h_ab²)
    smallest = (down + across) / 2 - torch.hypot((down - across) / 2, mixed)
    share = (smallest < 0).double().flatten(1).mean(1)
    return torch.where(torch.isfinite(f).flatten(1).all(1), share, torch.nan)
