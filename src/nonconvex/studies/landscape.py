"""Do batch norm, skip connections and width smooth the landscape? One job per architecture ("arm").

An arm's tuning seeds train at every rate of a grid; the best rate by validation loss is the arm's tuned rate. Its
reported seeds train at rates around the largest that trained there, until a rate that trains lies below one that
does not, and once, for longer, at the tuned rate. Gradients and curvature are taken where that run's training loss
crossed a level that is the same for all arms; the surface lies around the run's end.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import log

import torch
from torch import Tensor

from nonconvex.beds import spread
from nonconvex.config import Settings
from nonconvex.measure.descent import along_gradient
from nonconvex.measure.spectrum import extreme_eigenvalues
from nonconvex.measure.surface import filter_direction, filter_hessian, filters, nonconvex_share, surface
from nonconvex.models.stacked import Params, Stacked, select
from nonconvex.observations import landscape as rows
from nonconvex.studies.trainability import Architecture, Arm, architectures
from nonconvex.studies.training import Recipe, cohort, snapshots

MODELS = ("resnet", "transformer")
FILES = ("arms", "trials", "runs", "curvature", "gradient", "planes", "surface")
PLANES = ("deep_skip_batch", "deep_plain_batch", "deep_skip_none", "deep_plain_none")  # whose surfaces are drawn


def observe(settings: Settings) -> dict[str, list]:
    """The records of every arm, by file name."""
    parts = spread(settings, [partial(observe_arm, settings, one) for one in architectures(settings)])
    return {name: [row for part in parts for row in part[name]] for name in FILES}


def observe_arm(settings: Settings, architecture: Architecture) -> dict[str, list]:
    """Tune one arm, find the largest rate that trains, train at the tuned rate and measure."""
    torch.set_num_threads(1)
    arm = Arm(settings, architecture)
    tuning = arm.tuning()
    tuned = arm.tuned_rate(tuning)
    found = {name: [] for name in FILES}
    found["arms"] = [arm.record(tuned)]
    found["trials"] = tuning + arm.search(arm.edge(tuning))
    runs = tuned_runs(arm, tuned)
    found["runs"] = runs.records()
    found["gradient"], found["curvature"] = runs.gradient_steps(), runs.curvature()
    if architecture.arm in PLANES:
        found["planes"], found["surface"] = runs.planes()
    return found


def tuned_runs(arm: Arm, rate: float) -> "TunedRuns":
    """The reported seeds at one rate, for longer, with the states that are looked at on the way."""
    seeds = [seed + arm.architecture.offset for seed in arm.s.seeds]
    steps = arm.how.tuned_steps
    network, params, made = cohort(arm.bed, Recipe(steps), seeds, [rate] * len(seeds))
    objective = arm.objective(network, arm.how.examples)
    states = list(snapshots(made, params, [*range(0, steps, arm.how.every), steps]))
    losses = torch.stack([objective.losses(state.params) for state in states], 1).double()
    return TunedRuns(arm, rate, network, [state.params for state in states], losses, states[-1].diverged)


@dataclass(frozen=True)
class TunedRuns:
    """An arm's reported seeds at its tuned rate: T states with their training losses (E, T)."""

    arm: Arm
    rate: float
    network: Stacked
    states: list[Params]
    losses: Tensor
    diverged: Tensor

    @property
    def seeds(self) -> Sequence[int]:
        return self.arm.s.seeds

    @property
    def steps(self) -> list[int]:
        """Updates done at every state."""
        return [min(i * self.arm.how.every, self.arm.how.tuned_steps) for i in range(len(self.states))]

    @property
    def matched(self) -> list[int | None]:
        """Each run's state nearest to where its loss first fell below the common level; None if it never did."""
        return [nearest_to_crossing(one, self.arm.matched_at) for one in self.losses.tolist()]

    def records(self) -> list[rows.TunedRun]:
        return [
            rows.TunedRun(
                **self.arm.name,
                seed=seed,
                rate=self.rate,
                diverged_step=step if step >= 0 else None,
                initial_loss=losses[0],
                final_loss=None if step >= 0 else losses[-1],
                matched_step=None if at is None else self.steps[at],
                matched_loss=None if at is None else losses[at],
            )
            for seed, step, losses, at in zip(
                self.seeds, self.diverged.tolist(), self.losses.tolist(), self.matched, strict=True
            )
        ]

    def at_match(self) -> tuple[list[int], Params]:
        """(seeds, stacked parameters) of the matched states of the runs that have one."""
        found = [(e, at) for e, at in enumerate(self.matched) if at is not None]
        chosen = [select(self.states[at], [e]) for e, at in found]
        stacked = {name: torch.cat([one[name] for one in chosen]) for name in chosen[0]} if chosen else {}
        return [self.seeds[e] for e, _ in found], stacked

    def gradient_steps(self) -> list[rows.GradientStep]:
        """Loss and gradient along the gradient from every matched state."""
        seeds, params = self.at_match()
        if not seeds:
            return []
        objective = self.arm.objective(self.network, self.arm.how.curvature_examples)
        found = along_gradient(objective, params, self.arm.s.lengths)
        return [
            rows.GradientStep(
                **self.arm.name,
                seed=seed,
                length=length,
                start_loss=found.start[e].item(),
                gradient_norm=found.gradient_norm[e].item(),
                weight_norm=found.weight_norm[e].item(),
                loss=found.losses[e, t].item(),
                change=_finite(found.change[e, t].item()),
                cosine=found.cosine[e, t].item(),
            )
            for (e, seed), (t, length) in itertools.product(enumerate(seeds), enumerate(found.lengths))
        ]

    def curvature(self) -> list[rows.Curvature]:
        """Both ends of the filter-normalised Hessian's spectrum at every matched state, one run at a time."""
        seeds, params = self.at_match()
        return [self._curvature(seed, select(params, [e])) for e, seed in enumerate(seeds)]

    def _curvature(self, seed: int, params: Params) -> rows.Curvature:
        how = self.arm.s.lanczos
        objective = self.arm.objective(self.network, self.arm.how.curvature_examples, list(filters(params)))
        ends = extreme_eigenvalues(filter_hessian(objective, params), how.iterations, how.tolerance)
        return rows.Curvature(
            **self.arm.name,
            seed=seed,
            examples=objective.examples,
            normalisation=objective.normalisation,
            loss=objective.losses(params).item(),
            lambda_max=ends.largest.value.item(),
            lambda_min=ends.smallest.value.item(),
            residual_max=_finite(ends.largest.residual.item()),
            residual_min=_finite(ends.smallest.residual.item()),
            iterations=ends.iterations.item(),
        )

    def planes(self) -> tuple[list[rows.Plane], list[rows.SurfacePoint]]:
        """A random plane through the end of every run that did not diverge; the first seed's point by point."""
        s, planes, points = self.arm.s, [], []
        ticks = torch.linspace(-s.plane_reach, s.plane_reach, s.plane_points, dtype=torch.float64)
        objective = self.arm.objective(self.network, self.arm.how.curvature_examples)
        for e in (self.diverged < 0).nonzero()[:, 0].tolist():
            name = {**self.arm.name, "seed": self.seeds[e]}
            centre = select(self.states[-1], [e])
            directions = (filter_direction(centre, [2 * self.seeds[e] + i]) for i in (0, 1))
            losses = surface(objective, centre, *directions, ticks)
            share = _finite(nonconvex_share(losses, (ticks[1] - ticks[0]).item()).item())
            loss = objective.losses(centre).item()
            planes.append(rows.Plane(**name, examples=objective.examples, loss=loss, nonconvex_share=share))
            if e == 0:
                places = itertools.product(ticks.tolist(), ticks.tolist())
                values = zip(places, losses.flatten().tolist(), strict=True)
                points = [rows.SurfacePoint(**name, a=a, b=b, loss=value) for (a, b), value in values]
        return planes, points


def nearest_to_crossing(losses: Sequence[float], level: float) -> int | None:
    """Of the first loss below `level` and the one before it, the place of the nearer in ratio; None without one."""
    below = next((i for i, loss in enumerate(losses) if loss < level), None)
    if not below:
        return below
    return min((below - 1, below), key=lambda i: abs(log(losses[i] / level)))


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
