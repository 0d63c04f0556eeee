"""What does an average of a run's weights gain, over the run's last iterate and over a run whose rate decays?

One training serves all averages, as none changes the trajectory. Every arm (a schedule with an average) has its peak
rate tuned on tuning seeds, by the same runs. Curvature is in `averaged_flatness`, theory in
`measure.averaged_variance`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch

from nonconvex import train
from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.measure import averaged_variance as theory
from nonconvex.models.stacked import Stacked, Statistics
from nonconvex.observations.averaging import AveragedEnd, VarianceFactor
from nonconvex.observations.tuning import TuningTrial
from nonconvex.strategies.ema import Ema
from nonconvex.strategies.swa import Swa
from nonconvex.studies.averaged_flatness import flatness_jobs
from nonconvex.studies.averages import LAST, SWA, averages_of, ema
from nonconvex.studies.draws import Drawn
from nonconvex.studies.training import Recipe, cohort, with_shuffled_labels
from nonconvex.studies.trajectories import rounded
from nonconvex.studies.tuning import Tuned, chosen
from nonconvex.study_settings.averaging import AveragedRuns, Averaging
from nonconvex.tensors import Params

MODELS = ("mlp", "resnet", "transformer")
FIRST = ("transformer", "resnet", "mlp")  # the costly ones, so that all cores end together
SETTLING = 8  # horizons of a moving average until it has forgotten where it began: exp(-16) of its variance


@dataclass(frozen=True)
class Cell(Drawn):
    """One training."""

    model: str
    schedule: str
    rate: float
    seed: int
    labels: str = "true"
    draw: str = "own"


Rates = dict[tuple[str, str, str], float]  # model, schedule, average -> tuned peak


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: tuning, tuned, runs, curvature, quadratic."""
    study = settings.strategies.averaging
    trials = [row for rows in spread(settings, tuning_jobs(settings)) for row in rows]
    arms = tuned_arms(study, trials)
    rates = {(t.arm.model, *t.arm.arm.split(" ")): t.rate for t in arms}
    flat = flatness_jobs(settings, rates, baselines(study, arms))
    jobs = flat + reported_jobs(settings, rates)
    found = spread(settings, jobs)
    records = {
        "tuning": [trial for arm in arms for trial in arm.trials],
        "tuned": [arm.arm for arm in arms],
        "runs": sorted(chain(*found[len(flat) :]), key=_key),
        "curvature": sorted(chain(*found[: len(flat)]), key=_key),
    }
    return records | {"quadratic": factors(study)}


def _key(row) -> tuple:
    return tuple(getattr(row, name) for name in row.KEY)


# Tuning


def tuning_jobs(settings: Settings) -> list[Callable]:
    """Every schedule at every rate of its bed's grid on the tuning seeds, in cohorts."""
    study, jobs = settings.strategies.averaging, []
    for model in (name for name in FIRST if name in study.beds):
        how = study.beds[model]
        seeds = study.tuning[: how.tuning_seeds]
        cells = [Cell(model, s, rate, seed) for s in how.schedules for rate in how.rates for seed in seeds]
        jobs += [partial(tune, settings, part) for part in dealt(cells, study.cohort)]
    return jobs


def dealt(cells: Sequence[Cell], size: int) -> list[Sequence[Cell]]:
    """The cells in as few cohorts of at most `size` as there must be, of nearly equal size."""
    count = -(-len(cells) // size)
    return [cells[i::count] for i in range(count)]


def trained(settings: Settings, cells: Sequence[Cell]) -> tuple[Bed, Stacked, train.State, dict[str, Params]]:
    """One cohort at its end, with all its averages by name."""
    torch.set_num_threads(1)
    study, bed = settings.strategies.averaging, bed_of(settings, cells[0].model)
    bed = with_shuffled_labels(bed, cells[0].seed) if cells[0].labels == "shuffled" else bed
    how = study.beds[bed.name]
    recipe = Recipe(how.steps, how.batch_size, strategy=averages_of(study, bed.name))
    starts, rates, shapes = ([getattr(c, name) for c in cells] for name in ("start", "rate", "schedule"))
    network, params, made = cohort(bed, recipe, starts, rates, schedules=shapes)
    (end,) = deque(train.train(made, train.start(made, params)), maxlen=1)
    return bed, network, end, made.strategy.averages(end.memory, end.params)


def statistics_at(bed: Bed, how: AveragedRuns, network: Stacked, params: Params) -> Statistics:
    return recomputed(network, params, bed.data.train.examples(how.statistics_examples)[0])


def tune(settings: Settings, cells: Sequence[Cell]) -> list[TuningTrial]:
    """Train one cohort of tuning runs and score all its averages on validation data."""
    bed, network, end, averages = trained(settings, cells)
    how, rows = settings.strategies.averaging.beds[bed.name], []
    examples = bed.data.validation.examples(how.validation_examples)
    for average, params in averages.items():
        found = evaluate(network, params, statistics_at(bed, how, network, params), examples, bed.loss)
        for i, (cell, step) in enumerate(zip(cells, end.diverged.tolist(), strict=True)):
            values = [rounded(part[i], 9) if step < 0 else None for part in found]
            arm = f"{cell.schedule} {average}"
            rows.append(TuningTrial(bed.name, arm, cell.seed, cell.rate, step if step >= 0 else None, None, *values))
    return rows


def tuned_arms(study: Averaging, trials: Sequence[TuningTrial]) -> list[Tuned]:
    """What the trials choose, bed by bed, schedule by schedule, average by average."""
    names = [
        (model, f"{schedule} {average}")
        for model, how in study.beds.items()
        for schedule in how.schedules
        for average in averages_of(study, model).parts
    ]
    order = lambda trial: (trial.rate, trial.seed)  # noqa: E731
    return [chosen(sorted((t for t in trials if (t.model, t.arm) == name), key=order)) for name in names]


def baselines(study: Averaging, arms: Sequence[Tuned]) -> dict[str, str]:
    """Each bed's decayed schedule whose last iterate does best on the tuning seeds at its own peak."""
    best = {}
    for model, how in study.beds.items():
        scores = {
            arm.arm.arm.split(" ")[0]: _criterion(arm)
            for arm in arms
            if arm.arm.model == model and arm.arm.arm in [f"{s} {LAST}" for s in how.schedules[1:]]
        }
        best[model] = min(scores, key=scores.get)
    return best


def _criterion(arm: Tuned) -> float:
    values = [trial.validation_loss for trial in arm.trials if trial.rate == arm.rate]
    return float("inf") if None in values else sum(values) / len(values)


# The reported runs


def reported_jobs(settings: Settings, rates: Rates) -> list[Callable]:
    study, jobs = settings.strategies.averaging, []
    for model in (name for name in FIRST if name in study.beds):
        cells = reported_cells(study, model, rates)
        plain = dealt([c for c in cells if c.labels == "true"], study.cohort)
        # one cohort a seed, as each seed has its own shuffled labels
        shuffled = [[c for c in cells if c.labels == "shuffled" and c.seed == seed] for seed in study.seeds]
        jobs += [partial(run, settings, part) for part in (*plain, *shuffled) if part]
    return jobs


def peaks(study: Averaging, model: str, schedule: str, rates: Rates) -> list[float]:
    """The tuned peaks of the arms of a schedule that are compared, each once; at a constant rate all arms are."""
    names = averages_of(study, model).parts if schedule == "constant" else (LAST, SWA, ema(study.decay))
    return sorted({rates[model, schedule, average] for average in names})


def reported_cells(study: Averaging, model: str, rates: Rates) -> list[Cell]:
    """The reported runs of a bed and those of its controls."""
    how = study.beds[model]
    seeds, cells = study.seeds[: how.replicates], []
    for schedule in how.schedules:
        tuned = peaks(study, model, schedule, rates)
        every = how.rates if how.response and schedule == "constant" else tuned
        cells += [Cell(model, schedule, rate, seed) for rate in every for seed in seeds]
        cells += [Cell(model, schedule, rate, seed, "shuffled") for rate in tuned for seed in seeds[: how.shuffled]]
    again = sorted({rates[model, "constant", average] for average in (SWA, ema(study.decay))})
    return cells + [Cell(model, "constant", rate, seed, draw="other") for rate in again for seed in seeds]


def run(settings: Settings, cells: Sequence[Cell]) -> list[AveragedEnd]:
    """Train one cohort to its end and score all its averages, with and (the control) without their own statistics."""
    bed, network, end, averages = trained(settings, cells)
    how = settings.strategies.averaging.beds[bed.name]
    stale, rows = statistics_at(bed, how, network, averages[LAST]), []
    for average, params in averages.items():
        kinds = {"recomputed": statistics_at(bed, how, network, params)}
        if stale and average != LAST:
            kinds["last"] = stale
        for kind, statistics in kinds.items():
            rows += ends(bed, how, (network, params, statistics), end.diverged.tolist(), cells, (average, kind))
    return rows


def ends(
    bed: Bed,
    how: AveragedRuns,
    evaluated: tuple[Stacked, Params, Statistics],
    diverged: Sequence[int],
    cells: Sequence[Cell],
    names: tuple[str, str],
) -> list[AveragedEnd]:
    """One row per run; a diverged one has only its step."""
    splits = (bed.data.train.examples(how.train_examples), bed.data.test.examples(how.test_examples))
    columns = [part for split in splits for part in evaluate(*evaluated, split, bed.loss)]
    rows = []
    for i, (cell, step) in enumerate(zip(cells, diverged, strict=True)):
        values = [rounded(column[i], 7) if step < 0 else None for column in columns]
        key = (cell.model, cell.schedule, cell.rate, cell.labels, cell.draw, cell.seed, *names)
        rows.append(AveragedEnd(*key, step if step >= 0 else None, *values))
    return rows


# The noisy quadratic


def factors(study: Averaging) -> list[VarianceFactor]:
    """Closed form, exact covariance and simulation of every average at every product of rate and curvature."""
    torch.set_num_threads(1)
    how, rows = study.quadratic, []
    for seed, product in enumerate(how.products):
        a = 1 - product
        for decay in how.decays:
            closed, exact = theory.ema_factor(decay, a), theory.exact_ema_factor(decay, a)
            steps = round(SETTLING / (1 - decay))
            simulated = theory.simulated_factor(Ema(decay), a, steps, how.chains, seed)
            rows.append(VarianceFactor("ema", decay, product, closed, exact / closed - 1, simulated, how.chains))
        for count in how.counts:
            closed, exact = theory.swa_factor(count, a), theory.exact_swa_factor(count, a)
            simulated = theory.simulated_factor(Swa(0.0, 1), a, count, how.chains, seed)
            rows.append(VarianceFactor("swa", count, product, closed, exact / closed - 1, simulated, how.chains))
    return rows
