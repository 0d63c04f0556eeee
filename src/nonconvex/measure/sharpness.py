"""Sharpness by perturbation: how much the loss rises near a point, for E members at once.

Worst cases are maxima over the points that an ascent reaches: lower bounds of the true maximum, and never negative
because the centre counts. Perturbations move the free parameters; fixed normalisation statistics stay fixed.
"""

import numpy as np
import torch
from torch import Tensor

from nonconvex.measure.estimate import Estimate, gaussian, signs
from nonconvex.measure.objective import Objective
from nonconvex.models.stacked import Params, members, select

REACH = 100.0  # mean slope of the scaled loss in box units: how far beyond the box the first step aims


def worst_sharpness(
    objective: Objective, params: Params, radius: float, steps: int = 1, adaptive: bool = False
) -> Estimate:
    """max L(w + e) - L(w) over ‖e‖ ≤ radius, or over ‖e ⊘ |w|‖ ≤ radius when `adaptive`.

    Projected ascent with steps long enough to reach the boundary, e ← radius · T²g / ‖Tg‖ for the gradient g
    at the point reached. T = 1, one step: SAM (Foret et al. 2021, eq. 2); T = |w|: ASAM (Kwon et al. 2021,
    eq. 8). On a convex loss no step descends. A zero gradient gives no direction: the value is 0 there. The
    adaptive form is unchanged where one layer is multiplied by a constant and the next divided by it.
    """
    centre = objective.flat(params)
    scale = centre.abs() if adaptive else torch.ones_like(centre)
    start, gradient = objective.losses_and_gradients(params)
    highest = start
    for step in range(steps):
        # e = radius T² g / ‖T g‖
        move = radius * scale * _unit(scale * gradient)
        moved = objective.at(params, centre + move)
        if step < steps - 1:
            losses, gradient = objective.losses_and_gradients(moved)
        else:
            losses = objective.losses(moved)
        highest = torch.maximum(highest, losses)
    ball = "adaptive " if adaptive else ""
    count = torch.full_like(start, steps, dtype=torch.int64)
    return Estimate((highest - start).double(), f"{ball}ascent radius={radius:g}", iterations=count)


def average_sharpness(
    objective: Objective, params: Params, deviation: float, pairs: int = 8, seed: int = 0
) -> Estimate:
    """E L(w + e) - L(w) over e ~ N(0, deviation² I), with its standard error over antithetic `pairs` (e, -e).

    To second order ½ deviation² tr H. A pair cancels the terms of odd order, so the gradient adds no noise.
    """
    if pairs < 2:
        raise ValueError(f"a standard error needs at least 2 pairs, found {pairs}")
    centre, start = objective.flat(params), objective.losses(params)
    rises = []
    for pair in range(pairs):
        noise = deviation * gaussian(centre, seed, f"noise {pair}")
        both = [objective.losses(objective.at(params, centre + sign * noise)) for sign in (1, -1)]
        rises.append((sum(both) / 2 - start).double())
    samples = torch.stack(rises)
    error, count = samples.std(0) / pairs**0.5, torch.full_like(start, pairs, dtype=torch.int64)
    return Estimate(samples.mean(0), f"gaussian deviation={deviation:g}", standard_error=error, iterations=count)


def keskar_sharpness(
    objective: Objective, params: Params, box: float = 1e-3, iterations: int = 10, seed: int = 0
) -> Estimate:
    """φ = 100 (max f(w + z) - f(w)) / (1 + f(w)) in percent: Keskar et al. 2017, metric 2.1 in the full space.

    The maximum over |zᵢ| ≤ box (|wᵢ| + 1) is approximated by 10 iterations of L-BFGS-B, as there; for its starting
    point and scaling, which the paper leaves open, see `_climb`.
    """
    parts = [(objective.select([e]), select(params, [e])) for e in range(members(params))]
    values, counts = zip(*(_climb(*part, box, iterations, seed) for part in parts), strict=True)
    value = torch.tensor(values, dtype=torch.float64)
    return Estimate(value, f"l-bfgs-b box={box:g}", iterations=torch.tensor(counts))


def _climb(objective: Objective, params: Params, box: float, limit: int, seed: int) -> tuple[float, int]:
    """(φ, iterations done) of a single member; NaN where the loss or its gradient is not finite at the start.

    L-BFGS-B starts at u = 0, or half-way to a random corner where the gradient vanishes exactly. It sees the rise
    scaled so that the mean |∂/∂uᵢ| at the start is `REACH`: the first, steepest step then carries nearly every
    coordinate to its bound, and multiplying the loss by a constant does not change the path.
    """
    from scipy.optimize import Bounds, minimize  # slow to load, and most processes never get here

    centre, start = objective.flat(params), objective.losses(params).item()
    half = box * (centre.abs() + 1)

    def rise(u: np.ndarray) -> tuple[float, np.ndarray]:
        """f(w + z) - f(w) and its gradient in u = z / half, |uᵢ| ≤ 1."""
        point = centre + half * torch.from_numpy(u).to(centre)
        loss, gradient = objective.losses_and_gradients(objective.at(params, point))
        return loss.item() - start, (half * gradient)[0].double().cpu().numpy()

    u = np.zeros(centre.shape[1])
    slope = rise(u)[1]
    if not slope.any():
        u = signs(centre, seed, "keskar")[0].double().cpu().numpy() / 2
        slope = rise(u)[1]
    steepness = np.abs(slope).mean()
    if not np.isfinite(steepness) or not steepness:
        return 0.0 if steepness == 0 else np.nan, 0
    scale = -REACH / steepness
    found = minimize(
        lambda u: tuple(scale * part for part in rise(u)),
        u,
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(np.full_like(u, -1.0), np.full_like(u, 1.0)),
        options={"maxiter": limit, "maxfun": 3 * limit, "ftol": 0.0, "gtol": 0.0},
    )
    # φ = 100 (max f - f) / (1 + f)
    return 100 * max(found.fun / scale, 0.0) / (1 + start), found.nit


def _unit(vectors: Tensor) -> Tensor:
    """Rows (E, P) of length one; a zero row stays zero."""
    norms = vectors.norm(dim=1, keepdim=True)
    return torch.where(norms == 0, 0.0, vectors / norms)
