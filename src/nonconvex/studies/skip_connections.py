"""Do ResNets train where plain networks fail, and is their loss smoother? One job per arm.

An arm's tuning seeds train at every rate of its grid. At the best rate by validation loss its reported seeds train,
with them the arm's twins and its runs on shuffled labels, and after them, for longer, the deep plain network. Gradients
of the two deep networks with batch norm are taken where a run's training loss is first seen down at a common level;
gradients with respect to inputs are those of networks that have not been trained, at more depths.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, spread
from nonconvex.config import Settings
from nonconvex.measure.descent import along_gradient
from nonconvex.measure.matched import Crossing
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.shattering import gradient_correlations
from nonconvex.models.stacked import Params, Stacked, members, select, stack
from nonconvex.observations import skip_connections as rows
from nonconvex.studies.residual_arms import KINDS, LEVELS, TWIN, Arm, Group, arms, batches, bed_for, groups, record
from nonconvex.studies.training import Recipe, cohort, scores
from nonconvex.studies.trajectories import rounded
from nonconvex.studies.tuning import tuned

MODELS = ("resnet",)
FILES = ("arms", "tuning", "tuned", "runs", "curves", "gradient", "inputs")
SCHEDULE = "cosine"


def observe(settings: Settings) -> dict[str, list]:
    """The records of every arm, by file name."""
    jobs = [partial(observe_arm, settings, arm) for arm in arms()]
    jobs += [partial(observe_inputs, settings, kind) for kind in KINDS]
    parts = spread(settings, jobs)
    return {name: [row for part in parts for row in part.get(name, [])] for name in FILES}


def observe_arm(settings: Settings, arm: Arm) -> dict[str, list]:
    """Tune one arm, train its groups of runs at the tuned rate and measure."""
    torch.set_num_threads(1)
    s = settings.factors.skip_connections
    bed = bed_for(settings, arm.kind, s.depths[LEVELS.index(arm.level)])
    recipe = Recipe(s.steps, s.batch_size, SCHEDULE)
    choice = tuned(bed, arm.name, recipe, s.rates[arm.kind], s.tuning, examples=s.examples)
    runs = [trained_groups(settings, bed, groups(arm, bed, s.seeds, s.controls), recipe, choice.rate, arm.matched)]
    if "longer" in arm.variants:
        longer = [Group(f"{arm.name}_longer", s.seeds, s.seeds, bed.data.train)]
        runs.append(trained_groups(settings, bed, longer, replace(recipe, steps=s.longer * s.steps), choice.rate))
    return {
        "arms": [record(arm, bed)],
        "tuning": choice.trials,
        "tuned": [choice.arm],
        "runs": [row for one in runs for row in one.records()],
        "curves": [row for one in runs for row in one.curves()],
        "gradient": runs[0].gradient_steps(),
    }


@dataclass(frozen=True)
class Runs:
    """Groups of runs after training: the end, minibatch losses (windows, E) on the way, and states of equal loss."""

    settings: Settings
    bed: Bed
    groups: Sequence[Group]
    rate: float
    steps: int
    network: Stacked
    end: train.State
    windows: Tensor
    crossing: Crossing

    @property
    def names(self) -> list[tuple[str, int]]:
        """(arm, seed) of every member."""
        return [(group.arm, seed) for group in self.groups for seed in group.seeds]

    def records(self) -> list[rows.Run]:
        s = self.settings.factors.skip_connections
        found = [
            *scores(self.bed, self.network, self.end.params, "train", s.examples),
            *scores(self.bed, self.network, self.end.params, "test", s.test_examples),
        ]
        return [self._record(e, [part[e].item() for part in found]) for e in range(len(self.names))]

    def _record(self, e: int, found: Sequence[float]) -> rows.Run:
        step, matched = self.end.diverged[e].item(), self.crossing.steps[e].item()
        scored = [None] * len(found) if step >= 0 else [rounded(value, 6) for value in found]
        return rows.Run(
            *self.names[e],
            self.rate,
            self.steps,
            step if step >= 0 else None,
            *scored,
            matched_step=matched if matched >= 0 else None,
            matched_loss=rounded(self.crossing.losses[e], 6) if matched >= 0 else None,
        )

    def curves(self) -> list[rows.CurvePoint]:
        length = self.steps // len(self.windows)
        ends = [self.steps - length * later for later in reversed(range(len(self.windows)))]
        return [
            rows.CurvePoint(*name, end, rounded(loss))
            for e, name in enumerate(self.names)
            for end, loss in zip(ends, self.windows[:, e].tolist(), strict=True)
        ]

    def gradient_steps(self) -> list[rows.GradientStep]:
        """Loss and gradient along the gradient from every matched state."""
        there, s = self.crossing.reached, self.settings.factors.skip_connections
        if not there:
            return []
        objective = training_loss(self.bed, self.network, s.gradient_examples)
        found = along_gradient(objective, select(self.crossing.params, there), s.lengths)
        return [
            rows.GradientStep(
                self.bed.name,
                *self.names[member],
                length,
                start_loss=rounded(found.start[e], 6),
                gradient_norm=rounded(found.gradient_norm[e], 6),
                weight_norm=rounded(found.weight_norm[e], 6),
                loss=rounded(found.losses[e, t], 6),
                change=rounded(found.change[e, t], 6),
                cosine=rounded(found.cosine[e, t], 6),
            )
            for e, member in enumerate(there)
            for t, length in enumerate(found.lengths)
        ]


def training_loss(bed: Bed, network: Stacked, count: int) -> Objective:
    """The loss on `count` training examples, batch norm using their own statistics at whatever weights."""
    return Objective(network, bed.loss, shared(*bed.data.train.examples(count)))


def trained_groups(
    settings: Settings, bed: Bed, parts: Sequence[Group], recipe: Recipe, rate: float, matched: bool = False
) -> Runs:
    """All groups in one cohort; if `matched`, the states at which those on true labels meet the common loss."""
    s = settings.factors.skip_connections
    drawn = [seed for part in parts for seed in part.drawn]
    network, params, made = cohort(bed, recipe, drawn, [rate] * len(drawn))
    made = replace(made, batch=batches(parts, recipe.batch_size))
    watched = [matched and not part.arm.endswith("shuffled") for part in parts for _ in part.drawn]
    objective = training_loss(bed, network, s.gradient_examples)
    level = s.matched_share * math.log(bed.data.classes)
    end, crossing, losses = followed(made, params, objective, level, s.every, torch.tensor(watched))
    return Runs(settings, bed, parts, rate, recipe.steps, network, end, averaged(losses, s.windows), crossing)


def followed(
    made: train.Cohort, params: Params, objective: Objective, level: float, every: int, watched: Tensor
) -> tuple[train.State, Crossing, Tensor]:
    """Train to the end: the last state, the first states down at `level`, and minibatch losses (steps, E).

    Every `every` steps those `watched` (E,) are looked at that have not been there yet: a look costs as much as a step.
    """
    begin = train.start(made, params)
    crossing = Crossing(level, params, torch.full_like(begin.diverged, -1), torch.full_like(begin.losses, torch.nan))
    losses = []
    for state in train.train(made, begin):
        losses.append(state.losses)
        left = (watched & (crossing.steps < 0).cpu()).nonzero()[:, 0].tolist()
        if left and state.step % every == 0:
            found = torch.full_like(state.losses, torch.inf)
            found[left] = objective.losses(select(state.params, left))
            crossing = crossing.updated(state, found)
    return state, crossing, torch.stack(losses)


def averaged(losses: Tensor, windows: int) -> Tensor:
    """(windows, E): means of losses (steps, E) over stretches of equal length, the last ending with the run."""
    windows = min(windows, len(losses))
    length = len(losses) // windows
    return losses[len(losses) - windows * length :].view(windows, length, -1).mean(1)


def observe_inputs(settings: Settings, kind: str) -> dict[str, list]:
    """Correlations of gradients at neighbouring inputs, for one kind of network at every depth."""
    torch.set_num_threads(1)
    s = settings.factors.skip_connections
    names = [(kind, seed, seed) for seed in s.seeds]
    if kind == "skip_batch":
        names += [(f"{kind}_twin", seed, seed + TWIN) for seed in s.seeds[: s.controls]]
    found = []
    for depth in s.shattering.depths:
        values = input_correlations(settings, kind, depth, [drawn for _, _, drawn in names])
        for (name, seed, _), of_member in zip(names, values.tolist(), strict=True):
            pairs = zip(s.shattering.radii, of_member, strict=True)
            found += [rows.InputGradient(name, depth, seed, radius, rounded(value)) for radius, value in pairs]
    return {"inputs": found}


def input_correlations(settings: Settings, kind: str, depth: int, seeds: Sequence[int]) -> Tensor:
    """(E, radii) of networks as the seeds initialise them, batch norm using training examples' statistics."""
    how, bed = settings.factors.skip_connections.shattering, bed_for(settings, kind, depth)
    network, params = stack(bed.build, seeds, bed.device)
    train_x, _ = bed.data.train.examples(how.statistics_examples)
    statistics = network.statistics(params, [train_x.expand(members(params), *train_x.shape)])
    x, _ = bed.data.train.examples(how.examples)
    return gradient_correlations(network, params, statistics, x, how.radii)
