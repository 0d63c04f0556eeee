"""The linear models of the study of implicit regularization: where they come to rest, and what they pass through."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nonconvex.measure import least_squares, linear_modes, max_margin
from nonconvex.observations import implicit_regularization as rows
from nonconvex.optimizers import AdamW, Sgd
from nonconvex.studies.trajectories import evenly, rounded
from nonconvex.study_settings.implicit_regularization import ImplicitRegularization, LeastSquares

Rows = dict[str, list]
Optimizer = Sgd | AdamW | least_squares.Adagrad | least_squares.SignDescent
EXACT = 9  # significant digits of a distance to a closed form


def observe_limits(s: ImplicitRegularization, seeds: tuple[int, ...]) -> Rows:
    """Every optimizer from zero and from a random start, both in one stack."""
    torch.set_num_threads(1)
    how = s.least_squares
    once = least_squares.problems(seeds, how.examples, how.dimension, how.noise)
    made = least_squares.Problems(*(torch.cat([part, part]) for part in (once.x, once.y, once.teacher)))
    random = how.start * least_squares.drawn(seeds, (how.dimension,), 3) / how.dimension**0.5
    start = torch.cat([torch.zeros_like(random), random])
    lowest = torch.tensor([least_squares.least_maximum(x, y) for x, y in zip(once.x, once.y, strict=True)] * 2)
    names, found = [(kind, seed) for kind in ("zero", "random") for seed in seeds], []
    for name, steps in how.steps.items():
        optimizer, batch_size, rate = arm(how, made, name)
        end = least_squares.descend(made, optimizer, start, rate, steps, batch_size, seeds * 2)
        values = resting_place(made, start, end, lowest)
        found += [
            rows.Limit(name, kind, seed, steps, *(rounded(v, EXACT) for v in values[:, e]))
            for e, (kind, seed) in enumerate(names)
        ]
    return {"limits": found}


def arm(
    how: LeastSquares, made: least_squares.Problems, name: str
) -> tuple[Optimizer, int | None, Callable[[int], Tensor]]:
    """(optimizer, batch size, rate of every step) of an arm, from the problems' curvature where theory has a rate."""
    largest, smallest = made.curvatures()
    if name.startswith("sgd_"):
        size = int(name.removeprefix("sgd_"))
        stable = made.stable_rate(size)
        return Sgd(), size, lambda step: stable
    if name == "adam":
        fall, rates = math.log(how.adam_fall) / how.steps[name], torch.full_like(largest, how.adam_rate)
        return AdamW(weight_decay=0.0), None, lambda step: rates * math.exp(fall * step)
    optimizer, rates = {
        "gd": (Sgd(), 2 / (largest + smallest)),
        "momentum": (Sgd(momentum=how.momentum), 1 / largest),
        "adagrad": (least_squares.Adagrad(), torch.full_like(largest, how.adagrad_rate)),
        # |u|_inf <= 1 gives u^T H u <= d λ_max
        "sign": (least_squares.SignDescent(), 1 / (how.dimension * largest)),
    }[name]
    return optimizer, None, lambda step: rates


def resting_place(made: least_squares.Problems, start: Tensor, end: Tensor, lowest: Tensor) -> Tensor:
    """(6, E): what `rows.Limit` holds of every member's end; `lowest` (E,) is the least maximum norm of a solution."""
    nearest, least = made.nearest(start), made.nearest(torch.zeros_like(start))
    distances = [(end - target).norm(dim=1) / target.norm(dim=1) for target in (nearest, least, made.teacher)]
    norms = [end.norm(dim=1) / least.norm(dim=1), end.abs().amax(1) / lowest]
    return torch.stack([made.residual(end), *distances[:2], *norms, distances[2]])


def observe_directions(s: ImplicitRegularization) -> Rows:
    """Gradient flow up to times that no steps could reach, and descent beside it where they can."""
    how = s.separable
    z = max_margin.separable(s.seeds, how.examples, how.dimension, how.shift)
    best = [max_margin.hard_margin(one) for one in z]
    far = np.repeat(np.geomspace(1, how.until, how.levels)[:, None], len(z), 1)
    at = sorted({round(step) for step in np.geomspace(10, how.steps, how.looks)})
    near, descent = max_margin.gradient_descent(z, max_margin.stable_rates(z), at)
    paths = {
        "flow": (far, max_margin.flow(z, far, how.step)),
        "descent": (near, descent),
        "flow_beside": (near, max_margin.flow(z, near, how.step / 4)),
    }
    found = []
    for path, (times, w) in paths.items():
        for e, seed in enumerate(s.seeds):
            angles = max_margin.angle(w[:, e], best[e].direction)
            gaps = max_margin.margin_gap(z[e], w[:, e], best[e].margin)
            found += [
                rows.Direction(path, seed, place, *(rounded(v, EXACT) for v in numbers))
                for place, numbers in enumerate(zip(times[:, e], angles, gaps, strict=True))
            ]
    solved = [
        rows.Separator(seed, rounded(one.margin, EXACT), one.support, rounded(one.gap, EXACT))
        for seed, one in zip(s.seeds, best, strict=True)
    ]
    return {"separators": solved, "directions": found}


def observe_modes(s: ImplicitRegularization) -> Rows:
    """Gradient descent from three starts, and minibatches from one of them."""
    torch.set_num_threads(1)
    how = s.linear_modes
    target = linear_modes.targets(s.seeds, how.dimension, how.sigma, how.spread)
    small = linear_modes.balanced(s.seeds, how.dimension, how.hidden, how.small)
    starts = {
        "aligned": linear_modes.aligned(target, s.seeds, how.hidden, how.small),
        "balanced": small,
        "sgd": small,
        "large": linear_modes.balanced(s.seeds, how.dimension, how.hidden, how.large),
    }
    found = {name: [] for name in ("modes", "ranks", "halfway", "strengths")}
    for name, start in starts.items():
        second = moments(s) if name == "sgd" else None
        path = linear_modes.descend(target, start, how.rate, how.steps, second)
        walked = Walked(s, name, target, target.starts(*start), *path)
        for kind in found:
            found[kind] += getattr(walked, kind)()
    return found


def moments(s: ImplicitRegularization) -> Callable[[int], Tensor]:
    """Second moments of minibatches of white inputs: over all examples they are the identity."""
    how = s.linear_modes
    # X^T X = n I
    x = how.examples**0.5 * linear_modes.orthonormal(least_squares.drawn(s.seeds, (how.examples, how.dimension), 11))
    member = torch.arange(len(s.seeds))[:, None]

    def second(step: int) -> Tensor:
        batch = x[member, least_squares.minibatch(how.examples, s.seeds, step, how.batch_size)]
        return batch.transpose(1, 2) @ batch / how.batch_size

    return second


@dataclass(frozen=True)
class Walked:
    """An arm's networks on their way: `begins` (E, r), strengths (T + 1, E, r) and singular values (T + 1, E, d)."""

    s: ImplicitRegularization
    arm: str
    target: linear_modes.Target
    begins: Tensor
    strengths_: Tensor
    values: Tensor

    @property
    def rate(self) -> float:
        return self.s.linear_modes.rate

    def modes(self) -> list[rows.Mode]:
        sigma = self.target.sigma
        measured = linear_modes.crossing(self.strengths_, sigma / 2, self.rate)
        shares = self.next_shares(measured)
        values = torch.stack([sigma, self.begins, linear_modes.half_times(sigma, self.begins), measured, shares], 2)
        return [
            rows.Mode(self.arm, seed, i, *(rounded(v, 6) for v in values[e, i]))
            for e, seed in enumerate(self.s.seeds)
            for i in range(sigma.shape[1])
        ]

    def next_shares(self, measured: Tensor) -> Tensor:
        """a_(i+1) / σ_(i+1) after the step on which a_i passed σ_i / 2; NaN for the last mode and where none did."""
        step = (measured / self.rate).nan_to_num(0).ceil().long().clamp(max=len(self.values) - 1)
        shares = (self.strengths_ / self.target.sigma)[:, :, 1:].gather(0, step[None, :, :-1])[0]
        shares = shares.masked_fill(measured[:, :-1].isnan(), math.nan)
        return torch.cat([shares, torch.full_like(measured[:, :1], math.nan)], 1)

    def losses(self) -> Tensor:
        """(T + 1, E), relative to the start's."""
        sigma = self.target.sigma
        # |W2 W1 - M|² = |W2 W1|² - 2 Σ σ a + Σ σ²
        found = self.values.square().sum(2) - 2 * (sigma * self.strengths_).sum(2) + sigma.square().sum(1)
        return (found / found[0]).clamp(min=0)

    def halfway(self) -> list[rows.Halfway]:
        losses = self.losses()
        ranks, at = linear_modes.effective_rank(self.values), (losses <= 0.5).int().argmax(0)
        return [
            rows.Halfway(self.arm, seed, rounded(ranks[at[e], e], 6) if at[e] else None)
            for e, seed in enumerate(self.s.seeds)
        ]

    def ranks(self) -> list[rows.Rank]:
        losses, ranks = self.losses(), linear_modes.effective_rank(self.values)
        return [
            rows.Rank(self.arm, seed, *(rounded(v) for v in (t * self.rate, losses[t, e], ranks[t, e])))
            for e, seed in enumerate(self.s.seeds)
            for t in evenly(len(self.values) - 1, self.s.linear_modes.looks)
        ]

    def strengths(self) -> list[rows.Strength]:
        sigma, found = self.target.sigma[0], self.strengths_[:, 0]
        return [
            rows.Strength(self.arm, i, *(rounded(v) for v in (t * self.rate, sigma[i], found[t, i])))
            for i in range(len(sigma))
            for t in evenly(len(found) - 1, 4 * self.s.linear_modes.looks)
        ]
