"""What happens in warm-up, stable phase and decay, and what the decay does that going on would not have done?

Every bed's peak rate is tuned on seeds of its own. A run per seed goes through warm-up and stable phase; from the
checkpoint at which the decay begins, the same weights go on with a decaying rate and with the one they had, on the same
minibatches. Losses, lines in weight space and curvature are taken where phases begin and end, and curvature also where
the training losses of the branches are equal.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.evaluation import recomputed
from nonconvex.measure.barriers import over_line, over_mean
from nonconvex.measure.curves import linear
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.measure.selection import measures
from nonconvex.models.stacked import Params, flatten, members
from nonconvex.observations import three_phases as rows
from nonconvex.plan import dealt
from nonconvex.progress import counted
from nonconvex.studies.phase_branches import Phases, Runs, gathered, grow, matched
from nonconvex.studies.training import Recipe, scores, with_loss, with_shuffled_labels
from nonconvex.studies.trajectories import evenly, rounded
from nonconvex.studies.tuning import Tuned, tuned
from nonconvex.study_settings.three_phases import PhasedBed

MODELS = ("resnet", "transformer", "mlp")
FILES = ("points", "looks", "lines", "line_points", "curvature")
MEASURES = ("lambda_max", "trace", "adaptive_sharpness")
DIGITS = 6
LABELS_SEED = 0  # of the permutation of the shuffled labels


def observe(settings: Settings) -> dict[str, list]:
    """The records of every bed, by file name; the slowest jobs come first."""
    beds = settings.rates.three_phases.beds
    arms = spread(settings, [partial(tune, settings, name) for name in beds])
    rates = {name: arm.rate for name, arm in zip(beds, arms, strict=True)}
    jobs = [partial(family_records, settings, name, group, rates[name]) for name, group in families(settings)]
    jobs += [partial(shuffled_records, settings, name, rates[name]) for name, how in beds.items() if how.shuffled]
    parts = spread(settings, jobs)
    key = lambda row: [getattr(row, name) for name in row.KEY]  # noqa: E731
    found = {name: sorted((row for part in parts for row in part.get(name, [])), key=key) for name in FILES}
    return found | {"tuning": [trial for arm in arms for trial in arm.trials], "tuned": [arm.arm for arm in arms]}


def families(settings: Settings) -> list[tuple[str, list[int]]]:
    """(bed, seeds) of every cohort."""
    study = settings.rates.three_phases
    groups = {name: dealt(study.seeds[: how.replicates], how.together) for name, how in study.beds.items()}
    return [(name, group) for name, of_bed in groups.items() for group in of_bed]


def phased_bed(settings: Settings, name: str) -> tuple[Bed, PhasedBed, Phases]:
    """The bed, how it is trained and measured, and where its phases end."""
    study = settings.rates.three_phases
    how = study.beds[name]
    return with_loss(bed_of(settings, how.model), how.loss), how, Phases(how.steps, study.warmup, study.decay)


def tune(settings: Settings, name: str) -> Tuned:
    """The peak rate of the whole schedule on a bed."""
    torch.set_num_threads(1)
    bed, how, phases = phased_bed(settings, name)
    recipe, seeds = Recipe(how.steps, schedule=phases.decaying), settings.rates.three_phases.tuning
    return tuned(bed, name, recipe, how.rates, seeds, how.criterion, examples=how.validated)


def family_records(settings: Settings, name: str, seeds: Sequence[int], rate: float) -> dict[str, list]:
    """Train and measure the runs of some seeds; a seed with a diverged run leaves no rows."""
    torch.set_num_threads(1)
    bed, how, phases = phased_bed(settings, name)
    with counted(f"{name} phases", 3 * how.replicates) as advance:
        family = Family(name, bed, how, phases, grown(bed, how, phases, seeds, rate))
        advance(len(seeds), "trained")
        found = {"points": family.points(), "looks": family.look_records()}
        found["lines"], found["line_points"] = family.lines()
        advance(len(seeds), "lines")
        found["curvature"] = family.curvature()
        advance(len(seeds), "curvature")
    finished = {seeds[i] for i in family.runs.finished}
    return {file: [row for row in found[file] if row.seed in finished] for file in FILES}


def grown(bed: Bed, how: PhasedBed, phases: Phases, seeds: Sequence[int], rate: float) -> Runs:
    """The runs with the states that are looked at."""
    return grow(bed, phases, seeds, rate, trunk_looks(how, phases), looks(how, phases))


def looks(how: PhasedBed, phases: Phases) -> list[int]:
    """Updates done at the looks at a branch, its end among them, the fork not."""
    return evenly(phases.end - phases.fork, how.looks, phases.fork)[1:]


def trunk_looks(how: PhasedBed, phases: Phases) -> list[int]:
    """Updates done at the looks at a trunk, all its boundaries among them."""
    return sorted({0, phases.warm, *evenly(phases.fork - phases.warm, how.trunk_looks, phases.warm)})


def shuffled_records(settings: Settings, name: str, rate: float) -> dict[str, list]:
    """Test scores of both branches after a training on shuffled labels."""
    torch.set_num_threads(1)
    bed, how, phases = phased_bed(settings, name)
    bed = with_shuffled_labels(bed, LABELS_SEED)
    seeds = settings.rates.three_phases.seeds[: how.replicates]
    runs = grow(bed, phases, seeds, rate, [], [], ("decay", "stay"))
    found = []
    for arm, states in runs.branches.items():
        losses, errors = scores(bed, runs.network, states[phases.end], "test", how.tested)
        place = (name, "shuffled", arm, "end")
        found += [
            rows.PhasePoint(*place, seeds[i], phases.end, None, losses[i].item(), errors[i].item(), None)
            for i in runs.finished
        ]
    return {"points": found}


@dataclass(frozen=True)
class Family:
    """The runs of some seeds on one bed, and what is read off them."""

    name: str
    bed: Bed
    how: PhasedBed
    phases: Phases
    runs: Runs

    @property
    def seeds(self) -> Sequence[int]:
        return self.runs.seeds

    @cached_property
    def objective(self) -> Objective:
        """The training loss; batch norm uses the statistics of the very examples that are scored."""
        return Objective(self.runs.network, self.bed.loss, shared(*self.bed.data.train.examples(self.how.scored)))

    @cached_property
    def places(self) -> dict[tuple[str, str], tuple[int, Params]]:
        """(arm, place) -> (updates done, weights)."""
        trunk, end = self.runs.trunk, self.phases.end
        steps = {"start": 0, "warm": self.phases.warm, "fork": self.phases.fork}
        found = {("trunk", place): (step, trunk[step]) for place, step in steps.items()}
        found |= {(arm, "end"): (end, states[end]) for arm, states in self.runs.branches.items()}
        return found | {("no_warmup", "warm"): (self.phases.warm, self.runs.cold)}

    def points(self) -> list[rows.PhasePoint]:
        """Losses, test error and length of the weights at every place."""
        found = []
        for (arm, place), (step, params) in self.places.items():
            tests = scores(self.bed, self.runs.network, params, "test", self.how.tested)
            columns = (self.objective.losses(params), *tests, flatten(params).norm(dim=1))
            values = list(zip(*(column.tolist() for column in columns), strict=True))
            for e in self.runs.cold_finished if arm == "no_warmup" else range(len(self.seeds)):
                cells = map(_number, values[e])
                found.append(rows.PhasePoint(self.name, "true", arm, place, self.seeds[e], step, *cells))
        return found

    @cached_property
    def branch_losses(self) -> dict[str, Tensor]:
        """Training losses (E, L) at the looks at every branch."""
        at = looks(self.how, self.phases)
        return {
            arm: torch.stack([self.objective.losses(states[step]) for step in at], 1).double()
            for arm, states in self.runs.branches.items()
        }

    def look_records(self) -> list[rows.Look]:
        """The training loss along the trunk and along every branch."""
        at = trunk_looks(self.how, self.phases)
        trunk = torch.stack([self.objective.losses(self.runs.trunk[step]) for step in at], 1)
        along = {"trunk": (at, trunk)}
        along |= {arm: (looks(self.how, self.phases), losses) for arm, losses in self.branch_losses.items()}
        return [
            rows.Look(self.name, arm, seed, step, _number(losses[e, i]))
            for arm, (steps, losses) in along.items()
            for (e, seed), (i, step) in itertools.product(enumerate(self.seeds), enumerate(steps))
        ]

    def lines(self) -> tuple[list[rows.PhaseLine], list[rows.PhaseLinePoint]]:
        """Every phase's straight line, and those of the branches that stay."""
        at = {place: params for (arm, place), (_, params) in self.places.items() if arm == "trunk"}
        ends, length = self.runs.branches, self.phases.end - self.phases.fork
        lines = {
            "warmup": (self.phases.warm, at["start"], at["warm"]),
            "stable": (self.phases.fork - self.phases.warm, at["warm"], at["fork"]),
            **{arm: (length, at["fork"], states[self.phases.end]) for arm, states in ends.items()},
        }
        hessian = Hessian(self.curved(at["fork"]), at["fork"])
        moved = {arm: flatten(lines[arm][2]) - flatten(at["fork"]) for arm in ends}
        curvatures = {arm: rayleigh(hessian, by) for arm, by in moved.items()}
        found = [self.line(phase, *line, curvatures.get(phase)) for phase, line in lines.items()]
        return [row for line, _ in found for row in line], [row for _, points in found for row in points]

    def line(
        self, phase: str, steps: int, a: Params, b: Params, curvature: Tensor | None
    ) -> tuple[list[rows.PhaseLine], list[rows.PhaseLinePoint]]:
        """One phase of every seed."""
        t, path = torch.linspace(0, 1, self.how.points, dtype=torch.float64), linear(a, b)
        losses = torch.stack([self.objective.losses(path(at.expand(members(a)))) for at in t], 1).double()
        distance = (flatten(b) - flatten(a)).norm(dim=1)
        readings = (over_line(losses, t), over_mean(losses, t), losses.amax(1) - losses[:, 0])
        columns = (distance, distance / flatten(a).norm(dim=1), *readings)
        extra = [None] * len(self.seeds) if curvature is None else curvature.tolist()
        name = (self.name, phase)
        lines = [
            rows.PhaseLine(*name, seed, steps, *map(_number, values), _number(last))
            for seed, *values, last in zip(self.seeds, *(column.tolist() for column in columns), extra, strict=True)
        ]
        points = [
            rows.PhaseLinePoint(*name, seed, place, _number(losses[e, i]))
            for (e, seed), (i, place) in itertools.product(enumerate(self.seeds), enumerate(t.tolist()))
        ]
        return lines, points

    def curved(self, params: Params) -> Objective:
        """The loss whose curvature is measured: batch norm fixed at statistics recomputed at `params`."""
        statistics = recomputed(self.runs.network, params, self.bed.statistics_inputs())
        examples = shared(*self.bed.data.train.examples(self.how.examples))
        return Objective(self.runs.network, self.bed.loss, examples, statistics)

    def curvature(self) -> list[rows.PhaseCurvature]:
        """Sharpness at the fork, at the branches' ends, and where their training losses are equal."""
        e = len(self.seeds)
        found = self.sharpness("trunk", "fork", [self.phases.fork] * e, self.runs.trunk)
        for arm, states in self.runs.branches.items():
            found += self.sharpness(arm, "end", [self.phases.end] * e, states)
        at, losses = looks(self.how, self.phases), self.branch_losses
        arms = ("stay", "decay", "other_order")
        for arm, place in zip(arms, matched(*(losses[arm] for arm in arms)), strict=True):
            steps = [at[i] for i in place]
            found += self.sharpness(arm, "matched", steps, self.runs.branches[arm])
        return found

    def sharpness(
        self, arm: str, at: str, steps: Sequence[int], states: Mapping[int, Params]
    ) -> list[rows.PhaseCurvature]:
        """Every measure of all members, each at its own one of `steps`."""
        params = gathered(states, steps)
        objective = self.curved(params)
        found = measures(objective, params, MEASURES)
        largest, trace = found["lambda_max"], found["trace"]
        columns = (largest.value, largest.residual, trace.value, trace.standard_error, found[MEASURES[2]].value)
        losses = self.objective.losses(params)
        return [
            rows.PhaseCurvature(self.name, arm, at, seed, step, objective.examples, *map(_number, values))
            for seed, step, *values in zip(
                self.seeds, steps, losses.tolist(), *(c.tolist() for c in columns), strict=True
            )
        ]


def rayleigh(hessian: Hessian, displacement: Tensor) -> Tensor:
    """dᵀHd / dᵀd (E,): the mean curvature that a displacement d (E, P) of the weights meets at its start."""
    return (displacement * (hessian @ displacement)).sum(1) / displacement.square().sum(1)


def _number(value: Tensor | float | None) -> float | None:
    return None if value is None else rounded(value, DIGITS)
