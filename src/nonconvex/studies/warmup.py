"""What does a warm-up buy, and is it owed to Adam's second moments?

Warm-ups of several lengths at every rate of a grid, for Adam and for SGD with momentum; Adam without warm-up whose
second moments were made otherwise; curvature early in the run and at equal loss; and how far second moments depend on
the order of the data.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.models.stacked import Stacked
from nonconvex.observations.tuning import TuningTrial
from nonconvex.observations.warmup import WarmedRun
from nonconvex.plan import dealt
from nonconvex.studies import moment_spread, warmed_curvature
from nonconvex.studies.training import Recipe, scores, trained, with_shuffled_labels
from nonconvex.studies.trajectories import rounded
from nonconvex.studies.tuning import Tuned, chosen
from nonconvex.studies.warmed_arms import (
    NONE,
    VARIANTS,
    Begun,
    Cell,
    arm_name,
    arms_of,
    begun,
    compared_rates,
    early_steps,
    factory_of,
    high_rate,
    optimizer_of,
)
from nonconvex.study_settings.warmup import WarmedBed
from nonconvex.tensors import Params

MODELS = ("transformer", "mlp", "resnet")
FIRST = ("transformer", "resnet", "mlp", "mlp_sgd")  # the costly ones, so that all cores end together
DIGITS = 7
Rates = dict[tuple[str, str], float]  # tuned rate by bed and arm


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: tuning, tuned, runs, early, matched, moments, updates."""
    trials = [row for rows in spread(settings, tuning_jobs(settings)) for row in rows]
    arms = tuned_arms(settings, trials)
    rates = {(arm.arm.model, arm.arm.arm): arm.rate for arm in arms}
    found = {"runs": [], "early": [], "matched": [], "moments": [], "updates": []}
    for part in spread(settings, reported_jobs(settings, rates)):
        for name, rows in part.items():
            found[name] += rows
    found = {name: sorted(rows, key=lambda row: [getattr(row, key) for key in row.KEY]) for name, rows in found.items()}
    return found | {"tuning": [trial for arm in arms for trial in arm.trials], "tuned": [arm.arm for arm in arms]}


def beds_of(settings: Settings) -> list[str]:
    return [name for name in FIRST if name in settings.strategies.warmup.beds]


# Tuning


def tuning_jobs(settings: Settings) -> list[Callable]:
    """Every warm-up at every rate of its bed's grid on the tuning seeds, in cohorts."""
    study, jobs = settings.strategies.warmup, []
    for name in beds_of(settings):
        how = study.beds[name]
        seeds = study.tuning[: how.tuning_seeds]
        members = [(share, rate, seed) for share in how.shares for rate in how.rates for seed in seeds]
        jobs += [partial(tune, settings, name, part) for part in dealt(members, study.cohort)]
    return jobs


def tune(settings: Settings, name: str, members: Sequence[tuple[float, float, int]]) -> list[TuningTrial]:
    """Train one cohort of tuning runs and score them on validation data."""
    torch.set_num_threads(1)
    how = settings.strategies.warmup.beds[name]
    bed = bed_of(settings, how.model)
    shares, rates, seeds = zip(*members, strict=True)
    recipe = Recipe(how.steps, how.batch_size, optimizer=optimizer_of(how))
    end = trained(bed, recipe, seeds, rates, [factory_of(how, share) for share in shares])
    found = scores(bed, end.network, end.params, "validation", how.validated)
    rows = []
    for i, (share, rate, seed) in enumerate(members):
        step = int(end.diverged[i])
        values = [None, *(rounded(part[i], 9) if step < 0 else None for part in found)]
        rows.append(TuningTrial(name, arm_name(share), seed, rate, step if step >= 0 else None, *values))
    return rows


def tuned_arms(settings: Settings, trials: Sequence[TuningTrial]) -> list[Tuned]:
    """What the trials choose, bed by bed and arm by arm, by the bed's score on validation data."""
    beds, found = settings.strategies.warmup.beds, []
    for name, how in beds.items():
        criterion = how.score.replace("test", "validation")
        for arm in arms_of(how):
            of_arm = [trial for trial in trials if (trial.model, trial.arm) == (name, arm)]
            found.append(chosen(sorted(of_arm, key=lambda trial: (trial.rate, trial.seed)), criterion))
    return found


# The reported runs


def reported_jobs(settings: Settings, rates: Rates) -> list[Callable]:
    """Everything on the reported seeds, in cohorts."""
    study, jobs = settings.strategies.warmup, []
    for name in beds_of(settings):
        how, tuned = study.beds[name], rates[name, NONE]
        high = high_rate(how, tuned, study.times)
        cells = reported_cells(settings, name, rates)
        plain = [cell for cell in cells if cell.labels == "true" and cell.arm not in VARIANTS]
        variants = [[cell for cell in cells if cell.arm == arm] for arm in VARIANTS]
        # one cohort a seed, as each seed has its own shuffled labels
        shuffled = [[c for c in cells if c.labels == "shuffled" and c.seed == seed] for seed in study.seeds]
        if how.followed:
            jobs += warmed_curvature.jobs(settings, name, tuned, high)
        jobs += [partial(run, settings, part) for part in (*dealt(plain, study.cohort), *variants, *shuffled) if part]
    return [partial(moment_spread.observed, settings, rates[moment_spread.BED, NONE]), *jobs]


def reported_cells(settings: Settings, name: str, rates: Rates) -> list[Cell]:
    """The reported runs of a bed and those of its controls, each once."""
    study = settings.strategies.warmup
    how, seeds = study.beds[name], study.seeds[: study.beds[name].replicates]
    tuned = {arm: rates[name, arm] for arm in arms_of(how)}
    grid, high = compared_rates(how, list(tuned.values())), high_rate(how, tuned[NONE], study.times)
    cells = [Cell(name, arm, "true", "own", seed, rate) for arm in tuned for rate in grid for seed in seeds]
    cells += [Cell(name, NONE, "true", "other", seed, rate) for rate in grid for seed in seeds[: how.twins]]
    if how.variants:
        cells += [Cell(name, arm, "true", "own", seed, high) for arm in VARIANTS for seed in seeds]
    pairs = [(NONE, tuned[NONE]), *((arm, tuned[arm]) for arm in list(tuned)[1:]), *((arm, high) for arm in tuned)]
    pairs = dict.fromkeys(pairs)  # the high rate may be one that an arm chose
    return cells + [Cell(name, arm, "shuffled", "own", s, r) for arm, r in pairs for s in seeds[: how.shuffled]]


def run(settings: Settings, cells: Sequence[Cell]) -> dict[str, list[WarmedRun]]:
    """Train one cohort to the end and score it."""
    torch.set_num_threads(1)
    how = settings.strategies.warmup.beds[cells[0].bed]
    bed = bed_of(settings, how.model)
    bed = with_shuffled_labels(bed, cells[0].seed) if cells[0].labels == "shuffled" else bed
    begin = begun(bed, how, cells)
    end, spikes = to_the_end(begin, early_steps(how))
    columns, rows = [*scored(bed, how, begin.network, end.params), spikes], []
    for i, (cell, step) in enumerate(zip(cells, end.diverged.tolist(), strict=True)):
        values = [rounded(column[i], DIGITS) if step < 0 else None for column in columns]
        key = (cell.bed, cell.arm, cell.labels, cell.draw, cell.seed, cell.rate)
        rows.append(WarmedRun(*key, step if step >= 0 else None, *values))
    return {"runs": rows}


def to_the_end(begin: Begun, early: int) -> tuple[train.State, Tensor]:
    """The last state; the largest rise (E,) of the minibatch loss over an earlier one in the first `early` updates."""
    lowest, spikes = torch.full_like(begin.state.losses, torch.inf), torch.zeros_like(begin.state.losses)
    for state in train.train(begin.made, begin.state):
        if state.step <= early:
            lowest = torch.minimum(lowest, state.losses)
            spikes = torch.maximum(spikes, state.losses - lowest)
    return state, spikes


def scored(bed: Bed, how: WarmedBed, network: Stacked, params: Params) -> tuple[Tensor, Tensor, Tensor]:
    """(E,) loss on training examples, loss and error on test examples."""
    statistics = recomputed(network, params, bed.statistics_inputs())
    loss, _ = evaluate(network, params, statistics, bed.data.train.examples(how.scored), bed.loss)
    return loss, *evaluate(network, params, statistics, bed.data.test.examples(how.tested), bed.loss)
