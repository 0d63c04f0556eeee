"""Which strategy leaves a bad region, and after how many gradient evaluations?

Every strategy, and plain SGD, from the same weights: next to a strict saddle, on a flat plateau, at a sharp minimum,
at a bad global minimum. Each at the peak rate at which it leaves soonest on tuning seeds, and at plain SGD's.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nonconvex.beds import spread
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate
from nonconvex.measure.barriers import over_line, profile
from nonconvex.measure.curves import linear
from nonconvex.measure.objective import Objective, shared
from nonconvex.models.stacked import flatten, members, select, stack
from nonconvex.observations.bad_starts import EscapeRun, EscapeTrial, RegionPoint, SharpLook
from nonconvex.observations.tuning import TunedArm
from nonconvex.studies.bad_regions import Starts, bad_minimum, bed_for, starts
from nonconvex.studies.escape_runs import SCHEDULED, STRATEGIES, Begin, Ended, Trip, budget, largest, travelled
from nonconvex.studies.trajectories import rounded
from nonconvex.study_settings.bad_starts import REGIONS
from nonconvex.tensors import Params

MODELS = ("mlp",)
NORMAL = ("normal", "none")  # region and arm of plain SGD from normal weights
COMMON = ("sgd_noise", "warmup", "restarts", "clipping", "sam")  # those whose iterates are not plain SGD's
CONTROLLED = ("none", "restarts", "sam")  # arms that are also run on shuffled labels, from the bad minimum
OVERSHOT = ("plateau", "sharp")  # regions where spikes are also counted at the next rate above plain SGD's
Rates = dict[tuple[str, str], float]  # region, arm -> tuned peak


@dataclass(frozen=True)
class Ground:
    """All starts, and for each seed what plain SGD from normal weights comes to, on the split that is looked at."""

    at: dict[tuple[str, int], Params]  # region or normal, seed -> weights (1, *shape)
    points: dict[tuple[str, int], RegionPoint]
    reference: dict[int, float]  # error

    def begin(self, trip: Trip) -> Begin:
        """Where the trip starts. The rule is that of the region even where the start is normal."""
        point = self.points[trip.region, trip.seed]
        where = trip.region if trip.start == "region" else "normal"
        if trip.labels == "shuffled":
            where = "shuffled"
        error = self.reference.get(trip.seed, -math.inf)  # nothing is known yet of runs that will be the reference
        return Begin(self.at[where, trip.seed], point.train_loss, point.sharpness, error)


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: points, tuning, tuned, runs, looks."""
    study = settings.strategies.bad_starts
    ground = grounds(settings, [*study.seeds, *study.tuning])
    normal = chosen(*NORMAL, tried(settings, ground, [NORMAL]), study.bad_minimum.within)
    ground = with_reference(settings, ground, normal.rate)
    arms = [(region, arm) for region in REGIONS for arm in STRATEGIES]
    trials = tried(settings, ground, arms)
    tuned = [chosen(*arm, trials, study.bad_minimum.within) for arm in arms]
    trips = reported(settings, {at: one.rate for at, one in zip([*arms, NORMAL], [*tuned, normal], strict=True)})
    found = spread(settings, jobs(settings, ground, trips, run))
    runs, looks = ([row for pair in found for row in pair[i]] for i in (0, 1))
    own = [
        replace(p, reference_error=ground.reference[p.seed]) for p in ground.points.values() if p.seed in study.seeds
    ]
    files = {"points": own, "tuning": trials, "tuned": [normal, *tuned], "runs": runs, "looks": looks}
    return {name: sorted(rows, key=_key) for name, rows in files.items()}


def _key(row: object) -> tuple:
    return tuple(getattr(row, name) for name in row.KEY)


# Where runs start


def grounds(settings: Settings, seeds: Sequence[int]) -> Ground:
    """Every seed's starts, before anything is known of a reference."""
    half = -(-len(seeds) // 2)
    parts = [part for part in (seeds[:half], seeds[half:]) if part]
    made: list[Starts] = spread(settings, [partial(starts, settings, part) for part in parts])
    at = {
        (region, seed): select(params, [i])
        for one in made
        for region, params in one.params.items()
        for i, seed in enumerate(one.seeds)
    }
    return Ground(at, {(p.region, p.seed): p for one in made for p in one.points}, {})


def with_reference(settings: Settings, ground: Ground, rate: float) -> Ground:
    """The same with the error that plain SGD ends at from normal weights at its own tuned rate."""
    study, found = settings.strategies.bad_starts, {}
    for seeds, split in ((study.seeds, "test"), (study.tuning, "validation")):
        trips = [Trip("tuned", "normal", "bad_minimum", "none", "true", "own", seed, rate) for seed in seeds]
        found |= dict(zip(seeds, ending(settings, ground, trips, split)[1][1].tolist(), strict=True))
    return replace(ground, reference=found)


def ending(
    settings: Settings, ground: Ground, trips: Sequence[Trip], split: str
) -> tuple[Ended, tuple[Tensor, Tensor]]:
    """The trips of one cohort at their ends, and loss and error there on a split."""
    torch.set_num_threads(1)
    study, bed = settings.strategies.bad_starts, bed_for(settings, trips[0].labels)
    end = travelled(settings, bed, trips, [ground.begin(trip) for trip in trips], split)
    examples = getattr(bed.data, split).examples(study.test_examples if split == "test" else None)
    return end, evaluate(stack(bed.build, [0], bed.device)[0], end.params, {}, examples, bed.loss)


def jobs(settings: Settings, ground: Ground, trips: Iterable[Trip], job: Callable) -> list[Callable]:
    """The trips in cohorts that share strategy and labels, of nearly equal size; the costliest first."""
    groups: dict[tuple, list[Trip]] = {}
    for trip in trips:
        kind = "schedule" if trip.arm in SCHEDULED else trip.arm
        groups.setdefault((trip.labels, trip.accounting == "tuned", trip.long, kind), []).append(trip)
    parts = [part for group in groups.values() for part in dealt(group, settings.strategies.bad_starts.cohort)]
    costly = lambda part: (part[0].accounting == "tuned", part[0].arm not in SCHEDULED, len(part))  # noqa: E731
    return [partial(job, settings, ground, part) for part in sorted(parts, key=costly, reverse=True)]


def dealt(trips: Sequence[Trip], size: int) -> list[Sequence[Trip]]:
    """The trips in as few cohorts of at most `size` as there must be."""
    count = -(-len(trips) // size)
    return [trips[i::count] for i in range(count)]


# Tuning


def tried(settings: Settings, ground: Ground, arms: Sequence[tuple[str, str]]) -> list[EscapeTrial]:
    """Each region's arms at every rate of its grid, on the tuning seeds. Region normal has no rule."""
    study = settings.strategies.bad_starts
    rule = {"normal": ("normal", "bad_minimum")}
    trips = [
        Trip("tuned", *rule.get(region, ("region", region)), arm, "true", "own", seed, rate)
        for region, arm in arms
        for rate in study.rates[region]
        for seed in study.tuning
    ]
    return [row for rows in spread(settings, jobs(settings, ground, trips, trial)) for row in rows]


def trial(settings: Settings, ground: Ground, trips: Sequence[Trip]) -> list[EscapeTrial]:
    """One cohort of tuning runs."""
    end, scores = ending(settings, ground, trips, "validation")
    whole, rows = settings.strategies.bad_starts.evaluations, []
    for i, trip in enumerate(trips):
        region = trip.region if trip.start == "region" else "normal"
        step, left = int(end.diverged[i]), int(end.left[i])
        told = (left if left > 0 else None, rounded(math.log(left if left > 0 else whole), 6))
        told = (None, None) if region == "normal" else told
        values = [rounded(part[i]) if step < 0 else None for part in (end.spikes, *scores)]
        diverged = step if step >= 0 else None
        rows.append(EscapeTrial(region, trip.arm, trip.seed, trip.rate, diverged, *told, *values))
    return rows


def chosen(region: str, arm: str, trials: Sequence[EscapeTrial], within: float) -> TunedArm:
    """The rate at which the arm leaves the region soonest: least mean `log_evaluations`, the lower rate of equals.

    Where no run leaves at any rate it is the largest whose mean validation error is at most `within` above the least:
    the most that does no harm. In region normal it is the rate of least validation error. A rate at which a seed
    diverged is not chosen unless all are.
    """
    own = [t for t in trials if (t.region, t.arm) == (region, arm)]
    rates = sorted({t.rate for t in own})
    errors = {rate: _mean([t.validation_error for t in own if t.rate == rate]) for rate in rates}
    times = {rate: _mean([t.log_evaluations for t in own if t.rate == rate]) for rate in rates}
    times = {rate: math.inf if errors[rate] == math.inf else times[rate] for rate in rates}
    left, criterion = any(t.left is not None for t in own), "log_evaluations"
    if left:
        rate = min(rates, key=lambda rate: (times[rate], rate))
    else:
        least, criterion = min(errors.values()), "validation_error"
        allowance = 0.0 if region == "normal" else within
        rate = max(rate for rate in rates if errors[rate] <= least + allowance)
    return TunedArm("mlp", f"{region}/{arm}", criterion, rate, int(rates[0] < rate < rates[-1]), len(own))


def _mean(values: Sequence[float | None]) -> float:
    return math.inf if None in values else sum(values) / len(values)


# The reported runs


def reported(settings: Settings, rates: Rates) -> list[Trip]:
    """All of them: every arm at its own rate, at plain SGD's, and the controls."""
    study, trips = settings.strategies.bad_starts, []
    for seed in study.seeds:
        for region in REGIONS:
            at = partial(Trip, region=region, labels="true", seed=seed)
            plain = rates[region, "none"]
            trips += [at("tuned", "region", arm=a, draw="own", rate=rates[region, a]) for a in STRATEGIES]
            trips.append(at("tuned", "region", arm="none", draw="other", rate=plain))
            normal = rates[NORMAL] if region == "sharp" else plain
            trips.append(at("tuned", "normal", arm="none", draw="own", rate=normal))
            trips += [at("common", "region", arm=a, draw="own", rate=plain) for a in COMMON]
            if region in OVERSHOT:
                more = above(study.rates[region], plain)
                pairs = (("none", "own"), ("none", "other"), ("clipping", "own"))
                trips += [at("above", "region", arm=a, draw=d, rate=more) for a, d in pairs]
    few, start = study.seeds[: study.controls], ("tuned", "region", "bad_minimum")
    return trips + [Trip(*start, a, "shuffled", "own", s, rates["bad_minimum", a]) for a in CONTROLLED for s in few]


def above(grid: Sequence[float], rate: float) -> float:
    """The next rate of the grid, or one as far above its last."""
    place = grid.index(rate)
    return grid[place + 1] if place + 1 < len(grid) else rate * grid[-1] / grid[-2]


def run(settings: Settings, ground: Ground, trips: Sequence[Trip]) -> tuple[list[EscapeRun], list[SharpLook]]:
    """One cohort of reported runs: their rows, and the looks at those that are followed."""
    shaped = (trips[0].accounting, trips[0].labels) == ("tuned", "true")
    if trips[0].labels == "shuffled":
        ground = with_shuffled_starts(settings, ground, sorted({trip.seed for trip in trips}))
    end, (_, test) = ending(settings, ground, trips, "test")
    columns = [*ends(settings, ground, trips, end.params, shaped)]
    columns.insert(2, test)
    rows, count = [], budget(settings.strategies.bad_starts, trips[0])
    for i, trip in enumerate(trips):
        step = int(end.diverged[i])
        left = [int(part[i]) if part[i] > 0 and step < 0 else None for part in (end.left, end.iterate_left)]
        values = [rounded(part[i], 6) if step < 0 else None for part in (end.spikes, *columns)]
        key = (trip.accounting, trip.start, trip.region, trip.arm, trip.labels, trip.draw, trip.seed, trip.rate)
        rows.append(EscapeRun(*key, count, step if step >= 0 else None, *left, *values))
    return rows, end.looks


def with_shuffled_starts(settings: Settings, ground: Ground, seeds: Sequence[int]) -> Ground:
    """The same with bad minima of labels that mean nothing."""
    params, _ = bad_minimum(settings, bed_for(settings, "shuffled"), seeds)
    return replace(ground, at=ground.at | {("shuffled", seed): select(params, [i]) for i, seed in enumerate(seeds)})


def ends(settings: Settings, ground: Ground, trips: Sequence[Trip], params: Params, shaped: bool) -> tuple[Tensor, ...]:
    """Training loss and error; λ_max, its residual and the barrier (NaN unless `shaped`); distance. Each (E,)."""
    study, bed = settings.strategies.bad_starts, bed_for(settings, trips[0].labels)
    network, examples = stack(bed.build, [0], bed.device)[0], bed.data.train.examples()
    begins = [ground.begin(trip).params for trip in trips]
    start = {name: torch.cat([one[name] for one in begins]) for name in params}
    length = (flatten(params) - flatten(start)).norm(dim=1)
    scores = evaluate(network, params, {}, examples, bed.loss)
    if not shaped:
        unknown = torch.full((len(trips),), torch.nan)
        return *scores, unknown, unknown, unknown, length
    few = tuple(part[:1] for part in examples)  # the lines are about the training loss
    along = profile(network, bed.loss, linear(start, params), examples, few, study.points, members(params))
    top = largest(study, Objective(network, bed.loss, shared(*examples)), params)
    return *scores, *top, over_line(along.train_loss, along.t), length
