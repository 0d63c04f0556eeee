"""Do periodic restarts of the learning rate lead out of basins, and does a run that restarts end better for it?

A cosine restarted in cycles against one cosine of the same length, WSD and a constant rate. Every peak is tuned on
tuning seeds; equal cycles, restarts at other heights and the constant rate take the peak of the restarted arm. From the
end of each cycle to that of the next: the loss along the straight line, predictions that differ, distance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from nonconvex.beds import bed_of, spread
from nonconvex.config import Settings
from nonconvex.observations.restarts import CycledRun, CycleLine, CycleLinePoint, CycleLook
from nonconvex.observations.tuning import TuningTrial
from nonconvex.plan import dealt
from nonconvex.studies.cycle_readings import Cell, Readings
from nonconvex.studies.cycles import arm_ends, arm_factory, look_steps
from nonconvex.studies.training import Recipe, cohort, scores, snapshots, trained, with_shuffled_labels
from nonconvex.studies.trajectories import rounded
from nonconvex.studies.tuning import Tuned, chosen
from nonconvex.study_settings.restarts import CycledBed
from nonconvex.study_settings.restarts import Restarts as Study

MODELS = ("mlp", "resnet")
FIRST = ("resnet", "mlp")  # the costly one, so that all cores end together
DIGITS = 9
FILES = {"runs": CycledRun, "lines": CycleLine, "points": CycleLinePoint, "looks": CycleLook}


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: tuning, tuned, runs, lines, points, looks."""
    trials = [row for rows in spread(settings, tuning_jobs(settings)) for row in rows]
    arms = tuned_arms(settings, trials)
    parts = spread(settings, reported_jobs(settings, {(t.arm.model, t.arm.arm): t.rate for t in arms}))
    key = lambda row: [getattr(row, name) for name in row.KEY]  # noqa: E731
    found = {name: sorted((row for part in parts for row in part[name]), key=key) for name in FILES}
    return {"tuning": [trial for arm in arms for trial in arm.trials], "tuned": [arm.arm for arm in arms]} | found


def beds_of(study: Study) -> list[tuple[str, CycledBed]]:
    return [(model, study.beds[model]) for model in FIRST if model in study.beds]


# Tuning


@dataclass(frozen=True)
class Trial:
    """A tuning run."""

    arm: str
    rate: float
    seed: int


def tuning_jobs(settings: Settings) -> list[Callable]:
    """Every tuned arm at every rate of its bed's grid on the tuning seeds, in cohorts."""
    study, jobs = settings.strategies.restarts, []
    for model, how in beds_of(study):
        seeds = study.tuning[: how.tuning_seeds]
        trials = [Trial(arm, rate, seed) for arm in how.arms for rate in how.rates for seed in seeds]
        jobs += [partial(tune, settings, model, part) for part in dealt(trials, study.cohort)]
    return jobs


def tune(settings: Settings, model: str, trials: Sequence[Trial]) -> list[TuningTrial]:
    """Train one cohort of tuning runs and score them on validation data."""
    torch.set_num_threads(1)
    study, bed = settings.strategies.restarts, bed_of(settings, model)
    how = study.beds[model]
    factories = [arm_factory(trial.arm, 1.0, study.cycles, study.growth) for trial in trials]
    rates, seeds = [trial.rate for trial in trials], [trial.seed for trial in trials]
    end = trained(bed, Recipe(how.steps, how.batch_size), seeds, rates, factories)
    found = scores(bed, end.network, end.params, "validation", how.validation_examples)
    rows = []
    for i, (trial, step) in enumerate(zip(trials, end.diverged.tolist(), strict=True)):
        values = [None, *(rounded(part[i], DIGITS) if step < 0 else None for part in found)]
        rows.append(TuningTrial(model, trial.arm, trial.seed, trial.rate, step if step >= 0 else None, *values))
    return rows


def tuned_arms(settings: Settings, trials: Sequence[TuningTrial]) -> list[Tuned]:
    """What the trials choose, bed by bed and arm by arm."""
    names = [(model, arm) for model, how in settings.strategies.restarts.beds.items() for arm in how.arms]
    order = lambda trial: (trial.rate, trial.seed)  # noqa: E731
    return [chosen(sorted((t for t in trials if (t.model, t.arm) == name), key=order)) for name in names]


# The reported runs


def reported_jobs(settings: Settings, rates: dict[tuple[str, str], float]) -> list[Callable]:
    """All reported runs in cohorts: every run of a seed together, a seed's shuffled labels by themselves."""
    study, jobs = settings.strategies.restarts, []
    for model, how in beds_of(study):
        seeds = study.seeds[: how.replicates]
        of_bed = {arm: rates[model, arm] for arm in how.arms}
        parts = [cells_of(how, of_bed, group, seeds[: how.variants]) for group in dealt(seeds, how.together)]
        parts += [shuffled_cells(of_bed, seed) for seed in seeds[: how.shuffled]]
        jobs += [partial(run, settings, model, part) for part in parts]
    return jobs


def cells_of(how: CycledBed, rates: dict[str, float], seeds: Sequence[int], varied: Sequence[int]) -> list[Cell]:
    """The runs on true labels from these seeds, of which the `varied` have variants too."""
    peak = rates["restarts"]
    arms = [(arm, 1.0, "own", rate) for arm, rate in rates.items()]
    arms += [("constant", 1.0, "own", peak), ("cosine", 1.0, "other", rates["cosine"])]
    variants = [("equal", 1.0, "own", peak)] * how.equal + [("restarts", h, "own", peak) for h in how.heights]
    pairs = [(arm, seed) for arm in arms for seed in seeds]
    pairs += [(arm, seed) for arm in variants for seed in seeds if seed in varied]
    return [Cell(arm, height, "true", draw, seed, rate) for (arm, height, draw, rate), seed in pairs]


def shuffled_cells(rates: dict[str, float], seed: int) -> list[Cell]:
    return [Cell(arm, 1.0, "shuffled", "own", seed, rate) for arm, rate in rates.items()]


def run(settings: Settings, model: str, cells: Sequence[Cell]) -> dict[str, list]:
    """Train one cohort and read it: ends and ensembles always; lines and looks of runs on true labels."""
    torch.set_num_threads(1)
    study, bed = settings.strategies.restarts, bed_of(settings, model)
    how, true = study.beds[model], cells[0].labels == "true"
    bed = bed if true else with_shuffled_labels(bed, cells[0].seed)
    factories = [arm_factory(cell.arm, cell.height, study.cycles, study.growth) for cell in cells]
    starts, rates = [cell.start for cell in cells], [cell.rate for cell in cells]
    network, params, made = cohort(bed, Recipe(how.steps, how.batch_size), starts, rates, schedules=factories)
    ends = [arm_ends(cell.arm, how.steps, study.cycles, study.growth) for cell in cells]
    at = look_steps(how.steps, how.looks, study.cycles, study.growth)
    states = {state.step: state for state in snapshots(made, params, at)}
    read = Readings(bed, how, study.points, network, cells, ends, states, made.rates)
    lines, points = read.lines() if true else ([], [])
    return {"runs": read.runs(), "lines": lines, "points": points, "looks": read.looks() if true else []}
