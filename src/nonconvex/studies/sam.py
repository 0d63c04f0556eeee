"""Does SAM lower the worst-case loss around its weights, and does it generalise better than plain training?

Plain training of as many steps and of as many gradient evaluations, SAM with the same minibatches, the same
perturbation in random directions; every arm tuned with as many trials. At the ends, and where the training loss of the
runs is the same, worst cases within SAM's radius and curvature; along SAM's runs, what one step of ascent misses.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.measure.crossing import Nearest, nearest_crossing
from nonconvex.models.stacked import Stacked, select
from nonconvex.observations.sam import Ascent, Neighbourhood, PerturbedRun, Reach
from nonconvex.observations.tuning import TuningTrial
from nonconvex.optimizers import OPTIMIZERS
from nonconvex.strategies.base import Strategy
from nonconvex.studies.choices import (
    COMMON,
    DOUBLE,
    EQUAL,
    PLAIN,
    RANDOM,
    SAM,
    Choices,
    Setting,
    chosen_settings,
    settings_of,
)
from nonconvex.studies.draws import Drawn
from nonconvex.studies.neighbourhoods import Surveyor, looks
from nonconvex.studies.perturbations import beside, from_each, kept, sam
from nonconvex.studies.training import Recipe, cohort, scores, with_examples, with_shuffled_labels
from nonconvex.studies.trajectories import rounded
from nonconvex.study_settings.sam import PerturbedBed
from nonconvex.study_settings.sam import Sam as Study
from nonconvex.tensors import Params

MODELS = ("mlp", "resnet", "transformer")
COST = {"mlp": 1, "resnet": 5, "transformer": 10}  # of a gradient, about: costly jobs go first
SURVEYED = (SAM, PLAIN, DOUBLE, EQUAL)  # arms whose ends are surveyed; the first two at the matched level too
DIGITS = 6


@dataclass(frozen=True)
class Cell(Drawn):
    """One training."""

    model: str
    criterion: str
    setting: Setting
    labels: str
    draw: str
    seed: int


Found = tuple[list[PerturbedRun], list[Neighbourhood], list[Reach], list[Ascent]]


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: tuning, tuned, chosen, runs, neighbourhoods, reaches, ascents."""
    trials = [row for rows in spread(settings, tuning_jobs(settings)) for row in rows]
    chosen = all_chosen(settings, trials)
    found = spread(settings, reported_jobs(settings, chosen))
    parts = zip(("runs", "neighbourhoods", "reaches", "ascents"), zip(*found, strict=True), strict=True)
    rows = {name: sorted((row for part in found for row in part), key=_key) for name, found in parts}
    lines = [line for of_bed in chosen.values() for line in of_bed[0].lines]
    kept = {"tuning": [trial for line in lines for trial in line.trials], "tuned": [line.arm for line in lines]}
    return kept | {"chosen": [arm for of_bed in chosen.values() for by in of_bed for arm in by.arms]} | rows


def _key(row: PerturbedRun | Neighbourhood | Reach | Ascent) -> tuple:
    return tuple(getattr(row, name) for name in row.KEY)


# A cohort


def bed_for(settings: Settings, model: str) -> Bed:
    """The bed with the part of its training examples that is trained on, and normalisation statistics over it."""
    bed, how = bed_of(settings, model), settings.strategies.sam.beds[model]
    if how.training_set is None:
        return bed
    whole = replace(bed, training=bed.training.model_copy(update={"statistics_examples": None}))
    return with_examples(whole, how.training_set)


def steps_of(how: PerturbedBed, arm: str) -> int:
    return 2 * how.steps if arm == DOUBLE else how.steps


def gradients_of(how: PerturbedBed, arm: str) -> int:
    """Gradient evaluations of a whole run."""
    return 2 * how.steps if arm in (DOUBLE, SAM, COMMON) else how.steps


def made_of(bed: Bed, how: PerturbedBed, cells: Sequence[Cell], at: Sequence[int]) -> tuple:
    """Network, initial weights and cohort of cells of one kind of arm; SAM keeps its weights `at` some steps."""
    arm, options = cells[0].setting.arm, dict(bed.training.optimizer.options)
    if how.weight_decay is not None:
        options["weight_decay"] = how.weight_decay
    perturbed, radii = arm in (SAM, COMMON), [cell.setting.radius for cell in cells]
    recipe = Recipe(
        steps_of(how, arm),
        how.batch_size,
        "cosine",
        OPTIMIZERS[bed.training.optimizer.name](**options),
        sam(radii, at) if perturbed else Strategy(),
    )
    network, params, made = cohort(bed, recipe, [c.start for c in cells], [c.setting.rate for c in cells])
    if cells[0].labels == "shuffled":
        made = replace(made, batch=from_each([own_bed(bed, cell).data.train for cell in cells], how.batch_size))
    return network, params, beside(made, radii, params) if arm in (RANDOM, EQUAL) else made


def own_bed(bed: Bed, cell: Cell) -> Bed:
    """The bed with the labels that the cell is trained on."""
    return with_shuffled_labels(bed, cell.seed) if cell.labels == "shuffled" else bed


def dealt(members: Sequence, size: int) -> list[Sequence]:
    """The members in as few cohorts of at most `size` as there must be, of nearly equal size."""
    count = -(-len(members) // size)
    return [members[i::count] for i in range(count)]


def costly_first(settings: Settings, jobs: Sequence[tuple[Callable, Sequence[Cell]]]) -> list[Callable]:
    """The jobs, a function and its cells each, that with most gradients first."""
    beds = settings.strategies.sam.beds
    cost = lambda cells: COST[cells[0].model] * gradients_of(beds[cells[0].model], cells[0].setting.arm)  # noqa: E731
    ordered = sorted(jobs, key=lambda job: -cost(job[1]) * len(job[1]))
    return [partial(job, settings, cells) for job, cells in ordered]


# Tuning


def tuning_jobs(settings: Settings) -> list[Callable]:
    """Every arm at every pair of rate and radius of its grid on the tuning seeds, in cohorts."""
    study, jobs = settings.strategies.sam, []
    for model, how in study.beds.items():
        for grid in settings_of(how).values():
            seeds = study.tuning[: how.tuning_seeds]
            cells = [Cell(model, how.criteria[0], setting, "true", "own", seed) for setting in grid for seed in seeds]
            jobs += [(tune, part) for part in dealt(cells, study.cohort)]
    return costly_first(settings, jobs)


def tune(settings: Settings, cells: Sequence[Cell]) -> list[TuningTrial]:
    """Train one cohort of tuning runs and score them on validation data."""
    torch.set_num_threads(1)
    model, how = cells[0].model, settings.strategies.sam.beds[cells[0].model]
    bed = bed_for(settings, model)
    network, params, made = made_of(bed, how, cells, ())
    (end,) = deque(train.train(made, train.start(made, params)), maxlen=1)
    found = scores(bed, network, end.params, "validation", how.validation_examples)
    rows = []
    for i, cell in enumerate(cells):
        step = int(end.diverged[i])
        values = [None, *(rounded(part[i], DIGITS) if step < 0 else None for part in found)]
        rows.append(
            TuningTrial(model, cell.setting.line, cell.seed, cell.setting.rate, step if step >= 0 else None, *values)
        )
    return rows


def all_chosen(settings: Settings, trials: Sequence[TuningTrial]) -> dict[str, list[Choices]]:
    """Every bed's choices, by each of its criteria."""
    beds = settings.strategies.sam.beds
    return {model: [chosen_settings(model, how, trials, by) for by in how.criteria] for model, how in beds.items()}


# The reported runs


def reported_jobs(settings: Settings, chosen: dict[str, list[Choices]]) -> list[Callable]:
    """All reported runs in cohorts of one kind of arm."""
    study, jobs = settings.strategies.sam, []
    for model, choices in chosen.items():
        cells = reported_cells(study, model, choices)
        radius = choices[0].settings[SAM].radius
        for kind in dict.fromkeys(map(kind_of, cells)):
            parts = dealt([cell for cell in cells if kind_of(cell) == kind], study.cohort)
            jobs += [(partial(run, radius=radius), part) for part in parts]
    return costly_first(settings, jobs)


def reported_cells(study: Study, model: str, choices: Sequence[Choices]) -> list[Cell]:
    """The reported runs of a bed, a second run of SAM from each seed, and runs on shuffled labels.

    At the choices by a second criterion only SAM and plain training.
    """
    how, (main, *others) = study.beds[model], choices
    seeds, found = study.seeds[: how.replicates], main.settings
    cell = partial(Cell, model, main.criterion)
    cells = [cell(setting, "true", "own", seed) for setting in found.values() for seed in seeds]
    cells += [cell(found[SAM], "true", "other", seed) for seed in seeds]
    shuffled = [arm for arm in (SAM, PLAIN, DOUBLE, EQUAL) if arm in found]
    cells += [cell(found[arm], "shuffled", "own", seed) for arm in shuffled for seed in seeds[: how.shuffled]]
    at = [(by.criterion, by.settings[arm]) for by in others for arm in (SAM, PLAIN, DOUBLE)]
    return cells + [Cell(model, *where, "true", "own", seed) for where in at for seed in seeds]


def kind_of(cell: Cell) -> tuple:
    """What the cells of a cohort share."""
    return cell.setting.arm, cell.criterion, cell.labels


def run(settings: Settings, cells: Sequence[Cell], radius: float) -> Found:
    """Train one cohort to the end, score it, and survey the weights' neighbourhoods within `radius` where asked."""
    torch.set_num_threads(1)
    study, model, arm = settings.strategies.sam, cells[0].model, cells[0].setting.arm
    bed, how = bed_for(settings, model), study.beds[model]
    main = cells[0].labels == "true" and cells[0].criterion == how.criteria[0]
    followed = how.followed and main and arm == SAM
    at = looks(study.looks, how.steps) if followed else []
    network, params, made = made_of(bed, how, cells, at)
    surveyor, begin = Surveyor(bed, network, how, study, radius), train.start(made, params)
    if how.level is not None and main and arm in (SAM, PLAIN):
        end, nearest = nearest_crossing(made, params, surveyor.watched(), how.level, how.every)
    else:
        (end,), nearest = deque(train.train(made, begin), maxlen=1), None
    rows = survey(surveyor, end, nearest, cells) if main and arm in SURVEYED else []
    reaches = reached(surveyor, end, cells) if main and arm in SURVEYED else []
    ascents = [row for step in at for row in ascended(surveyor, end, step, cells)]
    return ends(bed, how, network, end, cells), rows, reaches, ascents


def ends(bed: Bed, how: PerturbedBed, network: Stacked, end: train.State, cells: Sequence[Cell]) -> list[PerturbedRun]:
    """The scores of a cohort; those of training are on the labels that it was trained on."""
    if cells[0].labels == "shuffled":
        one = lambda i: select(end.params, [i])  # noqa: E731
        parts = [scored(own_bed(bed, cell), how, network, one(i)) for i, cell in enumerate(cells)]
        found = [torch.cat(values) for values in zip(*parts, strict=True)]
    else:
        found = scored(bed, how, network, end.params)
    rows = []
    for i, cell in enumerate(cells):
        step, at = int(end.diverged[i]), cell.setting
        values = [rounded(part[i], DIGITS) if step < 0 else None for part in found]
        costs = (steps_of(how, at.arm), gradients_of(how, at.arm), step if step >= 0 else None)
        rows.append(
            PerturbedRun(
                cell.model,
                cell.criterion,
                at.arm,
                cell.labels,
                cell.draw,
                cell.seed,
                at.radius,
                at.rate,
                *costs,
                *values,
            )
        )
    return rows


def scored(bed: Bed, how: PerturbedBed, network: Stacked, params: Params) -> list[Tensor]:
    """Loss and error (E,) on training and on test examples."""
    statistics = recomputed(network, params, bed.statistics_inputs())
    splits = (bed.data.train.examples(how.train_examples), bed.data.test.examples(how.test_examples))
    return [part for split in splits for part in evaluate(network, params, statistics, split, bed.loss)]


def survey(surveyor: Surveyor, end: train.State, nearest: Nearest | None, cells: Sequence[Cell]) -> list[Neighbourhood]:
    """The neighbourhoods of a cohort's ends, and of the weights nearest to the matched level."""
    alive = (end.diverged < 0).tolist()
    steps = [end.step if one else None for one in alive]
    rows = _rows("end", surveyor, surveyor.around(end.params, surveyor.how.followed), steps, cells)
    if nearest is None:
        return rows
    steps = [step if step >= 0 and one else None for step, one in zip(nearest.steps.tolist(), alive, strict=True)]
    return rows + _rows("matched", surveyor, surveyor.around(nearest.params, curvature=True), steps, cells)


def reached(surveyor: Surveyor, end: train.State, cells: Sequence[Cell]) -> list[Reach]:
    """The worst cases at a cohort's ends within every radius of its bed."""
    rows = []
    for radius in surveyor.how.radii:
        found = replace(surveyor, radius=radius).worst(end.params)
        for cell, value, step in zip(cells, found, end.diverged.tolist(), strict=True):
            names = (cell.model, cell.setting.arm, cell.draw, cell.seed, radius)
            rows.append(Reach(*names, rounded(value, DIGITS) if step < 0 else None))
    return rows


NUMBERS = (
    "train_loss",
    "worst_loss",
    "minibatch_worst_loss",
    "one_step_rise",
    "adaptive_rise",
    "sharpness",
    "residual",
    "trace",
    "trace_error",
)


def _rows(at: str, surveyor: Surveyor, found: dict[str, Tensor], steps: Sequence, cells: Sequence[Cell]) -> list:
    """Records of one place of every member; a member without a step there has no numbers."""
    rows = []
    for i, (cell, step) in enumerate(zip(cells, steps, strict=True)):
        there = [name in found and step is not None for name in NUMBERS]
        values = [rounded(found[name][i], DIGITS) if has else None for name, has in zip(NUMBERS, there, strict=True)]
        names = (cell.model, cell.setting.arm, cell.draw, cell.seed, at)
        rows.append(Neighbourhood(*names, step, surveyor.radius, *values))
    return rows


def ascended(surveyor: Surveyor, end: train.State, step: int, cells: Sequence[Cell]) -> list[Ascent]:
    """What one and many steps of ascent gain at the weights after `step` updates of SAM's own runs."""
    own, rows = [i for i, cell in enumerate(cells) if cell.draw == "own"], []
    params = select(kept(end.memory, step), own)
    for on, found in (("minibatches", surveyor.on_minibatches(params)), ("examples", surveyor.on_examples(params))):
        for place, i in enumerate(own):
            diverged = 0 <= int(end.diverged[i]) < step
            values = [None if diverged else rounded(part[place], DIGITS) for part in found]
            rows.append(Ascent(cells[i].model, cells[i].seed, step, on, surveyor.radius, *values))
    return rows
