"""AutoNEB: a chain of networks between two ends, relaxed across its own direction and refined where it is high.

Draxler et al. 2018 (Essentially No Barriers in Neural Network Energy Landscape, section 3) on the nudged elastic band
of Jonsson, Mills & Jacobsen 1998, with the tangent of Henkelman & Jonsson 2000 (Improved tangent estimate in the
nudged elastic band method, equations 8 to 11). The springs are infinitely stiff, as in the authors' released
settings: after every step the pivots return to fixed shares of the chain's length. Two differences: every refinement
inserts the same number of pivots into every chain, so that chains stay stacked, and the rate falls along one cosine
instead of in three stages.

A chain is a tensor (E, K, P): E paths through K points, both ends included, of P parameters each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nonconvex.models.stacked import Params, flatten, unflatten
from nonconvex.optimizers import Sgd
from nonconvex.schedules import cosine

BETWEEN = 3  # places between two neighbours where a refinement looks for height
MOMENTUM = 0.9

Losses = Callable[[Params, int], Tensor]  # (E * k stacked networks, path by path; step) -> (E * k,)


@dataclass(frozen=True)
class Polyline:
    """Straight segments through the points of a chain, each the same share of [0, 1]; used like `curves.Path`."""

    chain: Tensor
    like: Params  # any stacked parameters of that architecture, for names and shapes

    def __call__(self, t: Tensor) -> Params:
        """The stacked parameters at t (E,), each member at its own place."""
        segments = self.chain.shape[1] - 1
        place = t.to(self.chain.device, torch.float64) * segments
        left, member = place.floor().long().clamp(0, segments - 1), torch.arange(self.members)
        share = (place - left).to(self.chain.dtype)[:, None]
        return unflatten(torch.lerp(self.chain[member, left], self.chain[member, left + 1], share), self.like)

    @property
    def members(self) -> int:
        """E, the number of paths."""
        return len(self.chain)

    def select(self, index: Tensor | Sequence[int]) -> "Polyline":
        """The paths of the chosen members, in that order."""
        return Polyline(self.chain[index], self.like)


@dataclass(frozen=True)
class Plan:
    """How a chain is trained: `cycles` of `steps` updates, from `pivots` inner points, `inserted` more every cycle."""

    cycles: int
    steps: int
    pivots: int
    inserted: int
    rate: float

    @property
    def gradients(self) -> int:
        """Gradient evaluations per chain."""
        return self.steps * sum(self.pivots + cycle * self.inserted for cycle in range(self.cycles))


def train_band(losses: Losses, heights: Callable[[Params], Tensor], a: Params, b: Params, plan: Plan) -> Polyline:
    """The chain from `a` to `b` after all cycles, begun on the straight line.

    `losses(params, step)` gives minibatch losses, the same minibatch for all points of a path; `heights(params)` the
    losses on fixed training examples that decide where pivots are inserted. Both get networks path by path.
    """
    on_fixed = lambda points: _on_chain(heights, points, a)  # noqa: E731
    shares = torch.linspace(0, 1, plan.pivots + 2, dtype=flatten(a).dtype, device=flatten(a).device)
    shares = shares.repeat(len(flatten(a)), 1)
    chain = torch.lerp(flatten(a)[:, None], flatten(b)[:, None], shares[..., None])
    rate = cosine(plan.cycles * plan.steps)
    for cycle in range(plan.cycles):
        if cycle:
            chain, shares = refined(chain, shares, on_fixed, plan.inserted)
        ends, state, optimizer = on_fixed(chain[:, [0, -1]]), {}, Sgd(MOMENTUM)
        for step in range(cycle * plan.steps, (cycle + 1) * plan.steps):
            values, slopes = _slopes(losses, chain[:, 1:-1], a, step)
            values = torch.cat([ends[:, :1], values, ends[:, 1:]], 1)
            push = {"chain": across(slopes, tangents(chain, values))}
            inner, rates = {"chain": chain[:, 1:-1]}, torch.full((len(chain),), plan.rate * rate(step))
            moved, state = optimizer.update(inner, push, state or optimizer.init(inner), rates.to(chain.device), step)
            chain = spaced(torch.cat([chain[:, :1], moved["chain"], chain[:, -1:]], 1), shares)
    return Polyline(chain, a)


def tangents(chain: Tensor, values: Tensor) -> Tensor:
    """(E, K - 2, P) unit vectors along the chain at its inner points, `values` (E, K) being the losses of all points.

    The segment towards the higher neighbour; at a maximum or minimum both, weighted by the changes of the loss.
    """
    steps, rise = chain.diff(dim=1), values.diff(dim=1)
    back, ahead = rise[:, :-1], rise[:, 1:]  # V_i - V_(i-1), V_(i+1) - V_i
    low, high = (f(back.abs(), ahead.abs()) for f in (torch.minimum, torch.maximum))
    uphill = values[:, 2:] > values[:, :-2]
    onward, extremum = torch.where(uphill, 1.0, 0.0), back * ahead <= 0
    # tau = w+ tau+ + w- tau-,  (w+, w-) = (max |dV|, min |dV|) where V_(i+1) > V_(i-1), else the other way round
    flat = (high == 0).to(values.dtype)
    forward = torch.where(extremum, torch.where(uphill, high, low) + flat, onward)
    backward = torch.where(extremum, torch.where(uphill, low, high) + flat, 1 - onward)
    along = forward[..., None] * steps[:, 1:] + backward[..., None] * steps[:, :-1]
    return torch.nn.functional.normalize(along, dim=-1)


def across(slopes: Tensor, tangent: Tensor) -> Tensor:
    """The part of the gradients (E, k, P) that is perpendicular to the chain."""
    # g - (g . tau) tau
    return slopes - (slopes * tangent).sum(-1, keepdim=True) * tangent


def spaced(chain: Tensor, shares: Tensor) -> Tensor:
    """The points moved along their own chain to `shares` (E, K) of its length, rising from 0 to 1; ends stay."""
    along = _lengths(chain)
    left = (torch.searchsorted(along, shares.contiguous(), right=True) - 1).clamp(0, chain.shape[1] - 2)
    start, end = (along.gather(1, index) for index in (left, left + 1))
    share = ((shares - start) / (end - start).clamp_min(torch.finfo(chain.dtype).tiny)).clamp(0, 1)
    member = torch.arange(len(chain))[:, None]
    moved = torch.lerp(chain[member, left], chain[member, left + 1], share[..., None])
    return torch.cat([chain[:, :1], moved[:, 1:-1], chain[:, -1:]], 1)


def refined(chain: Tensor, shares: Tensor, heights: Callable[[Tensor], Tensor], count: int) -> tuple[Tensor, Tensor]:
    """The chain and its shares with `count` more points, in the segments that bulge most above their two ends.

    A bulge is the largest excess of the loss over its linear interpolation at BETWEEN places of a segment, and the
    new point lies there. `heights` maps points (E, m, P) to losses (E, m). At most one per segment.
    """
    e, k, _ = chain.shape
    s = torch.arange(1, BETWEEN + 1, dtype=chain.dtype, device=chain.device) / (BETWEEN + 1)
    points = torch.lerp(chain[:, :-1, None], chain[:, 1:, None], s[:, None])  # (E, K - 1, BETWEEN, P)
    values, found = heights(chain), heights(points.flatten(1, 2)).view(e, k - 1, BETWEEN)
    bulge, at = (found - torch.lerp(values[:, :-1, None], values[:, 1:, None], s)).max(-1)
    segment = bulge.topk(count, dim=1).indices
    member, at = torch.arange(e)[:, None], at.gather(1, segment)
    places = torch.lerp(shares.gather(1, segment), shares.gather(1, segment + 1), s[at])
    shares, order = torch.cat([shares, places], 1).sort(1)
    return torch.cat([chain, points[member, segment, at]], 1)[member, order], shares


def _lengths(chain: Tensor) -> Tensor:
    """(E, K): the share of the chain's length up to every point."""
    along = torch.nn.functional.pad(chain.diff(dim=1).norm(dim=-1).cumsum(1), (1, 0))
    return along / along[:, -1:]


def _on_chain(heights: Callable[[Params], Tensor], points: Tensor, like: Params) -> Tensor:
    """(E, m) losses of points (E, m, P)."""
    return heights(unflatten(points.flatten(0, 1), like)).view(points.shape[:2]).to(points.dtype)


def _slopes(losses: Losses, points: Tensor, like: Params, step: int) -> tuple[Tensor, Tensor]:
    """Minibatch losses (E, k) and their gradients (E, k, P) at points (E, k, P)."""
    flat = points.detach().flatten(0, 1).requires_grad_()
    found = losses(unflatten(flat, like), step)
    (slopes,) = torch.autograd.grad(found.sum(), flat)
    return found.detach().view(points.shape[:2]), slopes.view(points.shape)
