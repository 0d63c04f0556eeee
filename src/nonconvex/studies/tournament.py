"""Which schedule is best for what: all of them tuned, at a common low peak, stopped early, and run on.

The MLP is compared in full. Of the grid's models, whose runs under all schedules are records already, only variants
of some schedules are trained, exactly as the grid trains. Beside the networks stands an exact theory.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import numpy as np
import torch

from nonconvex.beds import spread
from nonconvex.config import Settings
from nonconvex.measure import schedule_oracle as oracle
from nonconvex.models.stacked import select
from nonconvex.observations.tournament import ScheduledRun, TheoryColumn, TheoryResponse
from nonconvex.observations.tuning import TuningTrial
from nonconvex.plan import dealt
from nonconvex.schedules import SCHEDULES, wsd
from nonconvex.studies.schedule_runs import BED, HORIZONS, Cell, bed_for, followed, length, run, started
from nonconvex.studies.schedule_tuning import choice, trials, tune, tuning_name
from nonconvex.studies.shifted import shifted
from nonconvex.studies.training import Recipe, trained
from nonconvex.studies.tuning import Tuned

MODELS = ("mlp", "resnet", "transformer")
COSTLY = ("transformer", "resnet", "mlp")  # by what a step costs
FEW = 8  # members of a cohort of a grid's model: its runs are the longest
PLANNED = ("cosine", "linear")  # what a run is compared with that was planned for where it stops
TUNED = {  # use -> the MLP's arms that are tuned for it
    "whole": (*SCHEDULES, "cosine_floor"),
    **dict.fromkeys(HORIZONS, PLANNED),
    "fast": ("cosine", "one_cycle"),
    "short": ("constant", "cosine"),
}
SHUFFLED = {  # use -> arms that are also trained on shuffled labels
    "whole": ("constant", "cosine", "linear", "cosine_floor"),
    "common": ("constant", "cosine"),
    "fast": ("cosine", "one_cycle"),
}
FINE_TUNED = ("constant", "cosine")
THEORY = {**SCHEDULES, "wsd_sqrt": partial(wsd, shape="sqrt")}  # the last is a decay shape that the text lacks

Rates = dict[tuple[str, str, str], float]  # (model, use, arm) -> tuned peak


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: tuning, tuned, runs, theory, responses."""
    found = [row for rows in spread(settings, tuning_jobs(settings)) for row in rows]
    arms = tuned_arms(settings, found)
    rates = {key: arm.rate for key, arm in arms.items()}
    jobs = [*reported_jobs(settings, rates), partial(fine_tuned, settings, rates[BED, "whole", "cosine"])]
    *parts, (fine_arms, fine_runs) = spread(settings, jobs)
    kept, runs = [*arms.values(), *fine_arms], [row for part in (*parts, fine_runs) for row in part]
    return {
        "tuning": [trial for arm in kept for trial in arm.trials],
        "tuned": [arm.arm for arm in kept],
        "runs": sorted(runs, key=lambda row: tuple(getattr(row, name) for name in row.KEY)),
        "theory": theory(settings),
        "responses": responses(settings),
    }


# Tuning


def uses(settings: Settings) -> list[tuple[str, str, Sequence[str]]]:
    """(model, use, arms) of everything that is tuned from initial weights; the costly first."""
    variants = settings.schedules.tournament.variants
    grids = [(model, "whole", variants[model]) for model in COSTLY if model in variants]
    return [*grids, *((BED, use, arms) for use, arms in TUNED.items())]


def tuning_jobs(settings: Settings) -> list[Callable]:
    """Every arm at every rate of its grid on the tuning seeds, in cohorts."""
    study, jobs = settings.schedules.tournament, []
    for model, use, arms in uses(settings):
        seeds = study.tuning if model == BED else settings.seeds.tuning
        rates = grid(settings, model, use)
        cells = [Cell(model, use, arm, seed, rate) for arm in arms for rate in rates for seed in seeds]
        jobs += [partial(tune, settings, part) for part in dealt(cells, study.cohort if model == BED else FEW)]
    return jobs


def grid(settings: Settings, model: str, use: str) -> Sequence[float]:
    """The peaks that are tried."""
    study = settings.schedules.tournament
    if model != BED:
        return settings.train[model].rates
    return study.short_rates if use in ("fast", "short") else study.rates


def tuned_arms(settings: Settings, found: Sequence[TuningTrial]) -> dict[tuple[str, str, str], Tuned]:
    """What the trials choose, by model, use and arm."""
    names = [(model, use, arm) for model, use, arms in uses(settings) for arm in arms]
    return {(model, use, arm): choice(found, model, tuning_name(arm, use)) for model, use, arm in names}


# The reported runs


def reported_cells(settings: Settings, rates: Rates) -> list[Cell]:
    """All reported runs but those that are fine-tuned."""
    study, cells = settings.schedules.tournament, []
    seeds, first = study.seeds, study.seeds[: study.extended]
    for model, use, arms in uses(settings):
        on = first if (model, use) == (BED, "whole") else ()
        for arm in arms:
            own = seeds if model == BED else settings.seeds.reported
            going = on if arm in SCHEDULES else ()
            cells += [Cell(model, use, arm, seed, rates[model, use, arm], goes_on=seed in going) for seed in own]
    cells += [Cell(BED, "common", arm, seed, study.common) for arm in SCHEDULES for seed in seeds]
    cells += [Cell(BED, "double", arm, seed, rates[BED, "whole", arm]) for arm in PLANNED for seed in first]
    cells += [Cell(BED, "natural", "inverse_sqrt", seed, rates[BED, "whole", "inverse_sqrt"]) for seed in first]
    return cells + controls(settings, rates)


def controls(settings: Settings, rates: Rates) -> list[Cell]:
    """Second runs of the cosine schedule from other seeds, and runs on shuffled labels."""
    study = settings.schedules.tournament
    again = [(use, seed) for use in ("whole", "fast") for seed in study.seeds]
    cells = [Cell(BED, use, "cosine", seed, rates[BED, use, "cosine"], draw="other") for use, seed in again]
    for use, arms in SHUFFLED.items():
        at = {arm: study.common if use == "common" else rates[BED, use, arm] for arm in arms}
        seeds = study.seeds[: study.shuffled]
        cells += [Cell(BED, use, arm, seed, rate, "shuffled") for arm, rate in at.items() for seed in seeds]
    return cells


def reported_jobs(settings: Settings, rates: Rates) -> list[Callable]:
    """The reported runs in cohorts, those of the grid's models and then the longest first."""
    order = lambda cell: (COSTLY.index(cell.model), -length(settings, cell))  # noqa: E731
    jobs = []
    for _, part in groupby(sorted(reported_cells(settings, rates), key=order), key=order):
        cells = list(part)
        size = settings.schedules.tournament.cohort if cells[0].model == BED else FEW
        jobs += [partial(run, settings, cohort) for cohort in dealt(cells, size)]
    return jobs


# Fine-tuning


def fine_tuned(settings: Settings, peak: float) -> tuple[list[Tuned], list[ScheduledRun]]:
    """Pretrain under the cosine schedule at `peak`, then tune and run short runs on the shifted signals."""
    torch.set_num_threads(1)
    study, how = settings.schedules.tournament, settings.schedules.tournament.fine_tuning
    bed, seeds = bed_for(settings, BED), [*study.tuning, *study.seeds]
    recipe = Recipe(study.steps, study.batch_size, "cosine")
    before = trained(bed, recipe, seeds, [peak] * len(seeds)).params
    target, place = shifted(bed, how), {seed: i for i, seed in enumerate(seeds)}
    begin = lambda cells: started(settings, target, cells, select(before, [place[c.seed] for c in cells]))  # noqa: E731
    tried = [Cell(BED, "fine_tuning", arm, s, rate) for arm in FINE_TUNED for rate in how.rates for s in study.tuning]
    found = [row for cells in dealt(tried, study.cohort) for row in trials(settings, target, cells, begin(cells))]
    arms = {arm: choice(found, BED, tuning_name(arm, "fine_tuning")) for arm in FINE_TUNED}
    cells = [Cell(BED, "fine_tuning", name, seed, arm.rate) for name, arm in arms.items() for seed in study.seeds]
    return list(arms.values()), followed(settings, target, cells, begin(cells))


# Theory


def problem_of(settings: Settings) -> tuple[oracle.NoisyQuadratic, np.ndarray]:
    """The noisy quadratic, and the peaks that are tried on it."""
    how = settings.schedules.tournament.theory
    peaks = np.geomspace(how.lowest, how.highest, how.peaks)
    return oracle.NoisyQuadratic(oracle.spectrum(how.eigenvalues, how.decades), noise=how.noise), peaks


def theory(settings: Settings) -> list[TheoryColumn]:
    """Every schedule at its best peak and at the common one."""
    how, (problem, peaks) = settings.schedules.tournament.theory, problem_of(settings)
    rows = []
    for name, factory in THEORY.items():
        shape = oracle.table(factory, how.steps)
        best = oracle.tuned(oracle.expected_losses(problem, shape, peaks), peaks)
        (common,) = oracle.expected_losses(problem, shape, [how.common])
        deviation = best.loss / oracle.closed_form(problem, shape, best.peak) - 1
        values = (best.peak, int(best.interior), best.loss, float(common), deviation, float(shape.mean()))
        rows.append(TheoryColumn(name, *values))
    return rows


def responses(settings: Settings) -> list[TheoryResponse]:
    """Every schedule at every peak."""
    how, (problem, peaks) = settings.schedules.tournament.theory, problem_of(settings)
    rows = []
    for name, factory in SCHEDULES.items():
        losses = oracle.expected_losses(problem, oracle.table(factory, how.steps), peaks)
        rows += [TheoryResponse(name, float(peak), float(loss)) for peak, loss in zip(peaks, losses, strict=True)]
    return rows
