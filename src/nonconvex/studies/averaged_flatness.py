"""Curvature at an average of a constant-rate run, at that run's last iterate and at a run whose rate decays.

An average ends at a lower training loss than its iterates, and curvature falls with the loss. Two networks are
therefore also compared at one loss, that at which the higher of them ends; the other is taken where it is nearest to
it around its first crossing. A shorter run at a constant rate is the beginning of a longer one, so an earlier
average is that of a shorter run, over the same share of it; an earlier iterate is one on the way of its own run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nonconvex.beds import Bed, bed_of
from nonconvex.config import Settings
from nonconvex.evaluation import recomputed
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.measure.sharpness import worst_sharpness
from nonconvex.measure.spectrum import extreme_eigenvalues, trace
from nonconvex.models.stacked import Stacked, select
from nonconvex.observations.averaging import AveragedCurvature
from nonconvex.strategies.swa import Swa
from nonconvex.studies.averages import LAST, SWA
from nonconvex.studies.draws import OTHER
from nonconvex.studies.training import Recipe, cohort, snapshots
from nonconvex.studies.trajectories import rounded
from nonconvex.study_settings.averaging import AveragedRuns
from nonconvex.tensors import Params

DECAYED, SECOND = "decayed", "swa_other"
RUNS = (SWA, SECOND, DECAYED)  # the trainings of a seed


@dataclass(frozen=True)
class Path:
    """A network along a run: its weights by number of updates, rising, and its training loss there (looks, E)."""

    weights: Mapping[int, Params]
    losses: Tensor

    @property
    def steps(self) -> list[int]:
        return list(self.weights)

    def member(self, e: int, look: int = -1) -> Params:
        """One member's weights at a look, (1, *shape)."""
        return select(self.weights[self.steps[look]], [e])


def flatness_jobs(settings: Settings, rates: Mapping, baselines: Mapping[str, str]) -> list[Callable]:
    """A few seeds per job, on every bed whose curvature is measured."""
    study, jobs = settings.strategies.averaging, []
    for model in (name for name in study.beds if study.beds[name].flatness is not None):
        how, decayed = study.beds[model], baselines[model]
        shapes = {SWA: "constant", SECOND: "constant", DECAYED: decayed}
        constant = rates[model, "constant", SWA]
        peaks = {SWA: constant, SECOND: constant, DECAYED: rates[model, decayed, LAST]}
        seeds, size = study.seeds[: how.replicates], how.flatness.seeds_at_once
        parts = [seeds[i : i + size] for i in range(0, len(seeds), size)]
        jobs += [partial(curvatures, settings, model, shapes, peaks, part) for part in parts]
    return jobs


def curvatures(
    settings: Settings, model: str, shapes: Mapping[str, str], peaks: Mapping[str, float], seeds: Sequence[int]
) -> list[AveragedCurvature]:
    """Train every seed's runs in one cohort and measure the networks at their ends and at matched losses.

    A seed of which a run diverged has rows without numbers.
    """
    torch.set_num_threads(1)
    bed, study = bed_of(settings, model), settings.strategies.averaging
    how = study.beds[model]
    swa = Swa(study.start, study.every)
    network, states, finished = trained(bed, how, swa, (shapes, peaks), seeds)
    objective = partial(objective_at, bed, how, network)
    paths = networks(objective, states, how, swa)
    points = list(wanted(paths, len(seeds)))
    places = list(dict.fromkeys(place for _, place in points))  # a network that is compared twice is measured once
    stacked = [paths[name].member(e, look) for name, e, look in places]
    found = measured(objective, how, {n: torch.cat([one[n] for one in stacked]) for n in stacked[0]})
    values, rows = dict(zip(places, found, strict=True)), []
    for match, place in points:
        name, e, look = place
        cells = [paths[name].steps[look], *values[place]] if finished[e] else [None] * 7
        rows.append(AveragedCurvature(model, match, name, seeds[e], peaks.get(name, peaks[SWA]), *cells))
    return rows


def trained(
    bed: Bed, how: AveragedRuns, swa: Swa, arms: tuple[Mapping[str, str], Mapping[str, float]], seeds: Sequence[int]
) -> tuple[Stacked, dict[str, dict[int, Params]], list[bool]]:
    """The iterates of every run, by number of updates, and whether all runs of a seed stayed finite.

    `arms` are the schedule and the peak rate of each of RUNS; iterates are those at looks and in their averages.
    """
    starts = [seed + OTHER * (name == SECOND) for name in RUNS for seed in seeds]
    schedules, rates = ([of[name] for name in RUNS for _ in seeds] for of in arms)
    network, params, made = cohort(bed, Recipe(how.steps, how.batch_size), starts, rates, schedules=schedules)
    looks = looks_of(how)
    kept = list(snapshots(made, params, sorted({*looks, *(at for steps in looks for at in window(swa, steps))})))
    places = {name: list(range(i * len(seeds), (i + 1) * len(seeds))) for i, name in enumerate(RUNS)}
    states = {name: {s.step: select(s.params, part) for s in kept} for name, part in places.items()}
    alive = (kept[-1].diverged < 0).view(len(RUNS), -1).all(0)
    return network, states, alive.tolist()


def looks_of(how: AveragedRuns) -> list[int]:
    """Numbers of updates, `stride` apart, the last of them the whole run."""
    return list(range(how.steps, 0, -how.flatness.stride))[::-1]


def window(swa: Swa, steps: int) -> range:
    """Numbers of updates after which a run of `steps` steps adds to its average."""
    return range(swa.bind(steps).first + 1, steps + 1, swa.every)


def networks(
    objective: Callable, states: Mapping[str, Mapping[int, Params]], how: AveragedRuns, swa: Swa
) -> dict[str, Path]:
    """The compared networks: averages and iterates at every look, the second run's average at its end alone."""
    looks, count = looks_of(how), how.flatness.loss_examples
    weights = {
        SWA: {at: averaged(swa, states[SWA], at) for at in looks},
        LAST: {at: states[SWA][at] for at in looks},
        DECAYED: {at: states[DECAYED][at] for at in looks},
        SECOND: {how.steps: averaged(swa, states[SECOND], how.steps)},
    }
    losses = lambda at: torch.stack([objective(params, count).losses(params) for params in at.values()])  # noqa: E731
    return {name: Path(at, losses(at)) for name, at in weights.items()}


def averaged(swa: Swa, iterates: Mapping[int, Params], steps: int) -> Params:
    """What the strategy evaluates at the end of a run of `steps` steps."""
    bound, state = swa.bind(steps), {}
    for at in window(swa, steps):
        state = bound.after_step(state, at - 1, iterates[at])
    return bound.evaluation_params(state, iterates[steps])


def wanted(paths: Mapping[str, Path], seeds: int) -> Iterator[tuple[str, tuple[str, int, int]]]:
    """What every row is matched to, and its network, member and look."""
    for e in range(seeds):
        yield from (("end", (name, e, -1)) for name in paths)
        for other in (LAST, DECAYED):
            yield from ((other, (name, e, look)) for name, look in matched(paths, (SWA, other), e).items())


def matched(paths: Mapping[str, Path], pair: tuple[str, str], e: int) -> dict[str, int]:
    """The looks at which a pair's training losses are equal: the end of the higher, the nearest of the other."""
    higher = max(pair, key=lambda name: float(paths[name].losses[-1, e]))
    (lower,) = set(pair) - {higher}
    return {higher: -1, lower: nearest(paths[lower].losses[:, e], float(paths[higher].losses[-1, e]))}


def nearest(losses: Tensor, level: float) -> int:
    """Of the first loss at or below the level and the one before, the nearer in ratio; from the end, so that -1 is it.

    The end where none is below.
    """
    below = (losses <= level).nonzero()
    first = int(below[0]) if len(below) else len(losses) - 1
    around = (losses[max(first - 1, 0) : first + 1] / level).log().abs()
    return first + 1 - len(around) + int(around.argmin()) - len(losses)


def objective_at(bed: Bed, how: AveragedRuns, network: Stacked, params: Params, examples: int) -> Objective:
    """Mean loss over training examples, normalisation statistics recomputed at `params`."""
    statistics = recomputed(network, params, bed.data.train.examples(how.statistics_examples)[0])
    return Objective(network, bed.loss, shared(*bed.data.train.examples(examples)), statistics)


def measured(objective: Callable, how: AveragedRuns, params: Params) -> list[list[float | None]]:
    """Per member: training loss, λ_max, its relative residual, trace, its standard error, adaptive sharpness."""
    look, rows, count = how.flatness, [], len(next(iter(params.values())))
    for first in range(0, count, look.seeds_at_once):
        part = select(params, list(range(first, min(first + look.seeds_at_once, count))))
        losses, at = objective(part, look.loss_examples).losses(part), objective(part, look.examples)
        hessian = Hessian(at, part)
        ends = extreme_eigenvalues(hessian, look.lanczos.iterations, look.lanczos.tolerance, ends="largest")
        total, top = trace(hessian, look.probes, known=ends), ends.largest
        adaptive = worst_sharpness(at, part, look.adaptive_radius, look.ascent_steps, adaptive=True).value
        columns = (losses, top.value, top.residual / top.value.abs(), total.value, total.standard_error, adaptive)
        rows += [[rounded(column[e], 6) for column in columns] for e in range(len(losses))]
    return rows
