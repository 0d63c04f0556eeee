"""Does it matter in which order a run takes its learning rates, and does the order fit the landscape?

Schedules with warm-up and decay against the same rates reversed in time and shuffled, against a constant rate, and
against each half alone, every arm's peak tuned on tuning seeds; along some of the MLP's runs, the largest curvature.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.models.stacked import Stacked
from nonconvex.observations.progressive_learning import CurvaturePoint, OrderedRun
from nonconvex.observations.tuning import TuningTrial
from nonconvex.optimizers import OPTIMIZERS
from nonconvex.studies.draws import Drawn
from nonconvex.studies.orders import arm_factory, arms_of, common_arms, looks, phase
from nonconvex.studies.training import Recipe, cohort, scores, trained, with_shuffled_labels
from nonconvex.studies.trajectories import Probe, Reading, readings, rounded
from nonconvex.studies.tuning import Tuned, chosen
from nonconvex.study_settings.progressive_learning import OrderedRates
from nonconvex.tensors import Params

MODELS = ("mlp", "resnet", "transformer")
FIRST = ("transformer", "resnet", "mlp")  # the costly ones, so that all cores end together
FOLLOWED = ("constant", "wsd", "wsd_reversed")  # arms of the MLP along whose runs curvature is read
SCORES = ("train_loss", "train_error", "test_loss", "test_error")


@dataclass(frozen=True)
class Cell(Drawn):
    """One training."""

    model: str
    accounting: str
    arm: str
    labels: str
    draw: str
    seed: int
    rate: float

    @property
    def followed(self) -> bool:
        """Whether curvature is read along the run."""
        return (self.model, self.accounting, self.labels, self.draw) == ("mlp", "tuned", "true", "own") and (
            self.arm in FOLLOWED
        )


Found = tuple[list[OrderedRun], list[CurvaturePoint]]


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: tuning, tuned, runs, curvature."""
    trials = [row for rows in spread(settings, tuning_jobs(settings)) for row in rows]
    arms = tuned_arms(settings, trials)
    found = spread(settings, reported_jobs(settings, {(t.arm.model, t.arm.arm): t.rate for t in arms}))
    runs, points = ([row for pair in found for row in pair[i]] for i in (0, 1))
    kept = {"tuning": [trial for arm in arms for trial in arm.trials], "tuned": [arm.arm for arm in arms]}
    return kept | {"runs": sorted(runs, key=_key), "curvature": sorted(points, key=_key)}


def _key(row: OrderedRun | CurvaturePoint) -> tuple:
    return tuple(getattr(row, name) for name in row.KEY)


def names_of(how: OrderedRates) -> list[str]:
    return arms_of(how.shapes, how.halves, how.rising)


# Tuning


def tuning_jobs(settings: Settings) -> list[Callable]:
    """Every arm at every rate of its bed's grid on the tuning seeds, in cohorts."""
    study, jobs = settings.factors.progressive_learning, []
    for model in (name for name in FIRST if name in study.beds):
        how = study.beds[model]
        seeds = study.tuning[: how.tuning_seeds]
        members = [(arm, rate, seed) for arm in names_of(how) for rate in how.rates for seed in seeds]
        jobs += [partial(tune, settings, model, part) for part in dealt(members, study.cohort)]
    return jobs


def dealt(members: Sequence, size: int) -> list[Sequence]:
    """The members in as few cohorts of at most `size` as there must be, of nearly equal size."""
    count = -(-len(members) // size)
    return [members[i::count] for i in range(count)]


def recipe_of(how: OrderedRates) -> Recipe:
    return Recipe(how.steps, how.batch_size)


def tune(settings: Settings, model: str, members: Sequence[tuple[str, float, int]]) -> list[TuningTrial]:
    """Train one cohort of tuning runs and score them on validation data."""
    torch.set_num_threads(1)
    bed, how = bed_of(settings, model), settings.factors.progressive_learning.beds[model]
    arms, rates, seeds = zip(*members, strict=True)
    schedules = [arm_factory(arm, seed) for arm, seed in zip(arms, seeds, strict=True)]
    end = trained(bed, recipe_of(how), seeds, rates, schedules)
    found = scores(bed, end.network, end.params, "validation", how.validation_examples)
    rows = []
    for i, (arm, rate, seed) in enumerate(members):
        step = int(end.diverged[i])
        values = [None, *(rounded(part[i], 9) if step < 0 else None for part in found)]
        rows.append(TuningTrial(model, arm, seed, rate, step if step >= 0 else None, *values))
    return rows


def tuned_arms(settings: Settings, trials: Sequence[TuningTrial]) -> list[Tuned]:
    """What the trials choose, bed by bed and arm by arm."""
    beds = settings.factors.progressive_learning.beds
    names = [(model, arm) for model, how in beds.items() for arm in names_of(how)]
    order = lambda trial: (trial.rate, trial.seed)  # noqa: E731
    return [chosen(sorted((t for t in trials if (t.model, t.arm) == name), key=order)) for name in names]


# The reported runs


def reported_jobs(settings: Settings, rates: dict[tuple[str, str], float]) -> list[Callable]:
    """All reported runs in cohorts: those that are followed first, as they take longest."""
    study, jobs = settings.factors.progressive_learning, []
    for model in (name for name in FIRST if name in study.beds):
        cells = reported_cells(settings, model, rates)
        followed = [[c for c in cells if c.followed and c.arm == arm] for arm in FOLLOWED]
        plain = dealt([c for c in cells if not c.followed and c.labels == "true"], study.cohort)
        # one cohort a seed, as each seed has its own shuffled labels
        shuffled = [[c for c in cells if c.labels == "shuffled" and c.seed == seed] for seed in study.seeds]
        parts = [part for part in (*followed, *plain, *shuffled) if part]
        jobs += [partial(run, settings, part) for part in parts]
    return jobs


def reported_cells(settings: Settings, model: str, rates: dict[tuple[str, str], float]) -> list[Cell]:
    """The reported runs of a bed and those of its controls."""
    study = settings.factors.progressive_learning
    how, seeds = study.beds[model], study.seeds[: study.beds[model].replicates]
    at = [("tuned", arm, rates[model, arm]) for arm in names_of(how)]
    if how.common:
        at += [("common", arm, rates[model, how.shapes[0]]) for arm in common_arms(how.shapes[0])]
    cells = [Cell(model, kind, arm, "true", "own", seed, rate) for kind, arm, rate in at for seed in seeds]
    cells += [Cell(model, *a[:2], "shuffled", "own", seed, a[2]) for a in at for seed in seeds[: how.shuffled]]
    again = [("tuned", shape, "true", "other", seed, rates[model, shape]) for shape in how.shapes for seed in seeds]
    return cells + [Cell(model, *rest) for rest in again]


def run(settings: Settings, cells: Sequence[Cell]) -> Found:
    """Train one cohort to the end and score it; read curvature on the way where it is followed."""
    torch.set_num_threads(1)
    study, bed = settings.factors.progressive_learning, bed_of(settings, cells[0].model)
    how, bed = study.beds[bed.name], with_shuffled_labels(bed, cells[0].seed) if cells[0].labels == "shuffled" else bed
    schedules = [arm_factory(cell.arm, cell.start) for cell in cells]
    starts, rates = [cell.start for cell in cells], [cell.rate for cell in cells]
    network, params, made = cohort(bed, recipe_of(how), starts, rates, schedules=schedules)
    begin = train.start(made, params)
    if not cells[0].followed:
        (end,) = deque(train.train(made, begin), maxlen=1)
        return ends(bed, how, network, end, cells), []
    optimizer, look = OPTIMIZERS[bed.training.optimizer.name](**bed.training.optimizer.options), study.curvature
    probe = Probe(bed, network, optimizer, look.lanczos, look.examples, look.examples)
    found = list(readings(probe, made, begin, looks(how.steps)))
    points = [_point(read, made.rates, how.steps, i, cell) for _, read in found for i, cell in enumerate(cells)]
    return ends(bed, how, network, found[-1][0], cells), points


def _point(reading: Reading, rates: Tensor, steps: int, member: int, cell: Cell) -> CurvaturePoint:
    rate = float(rates[min(reading.step, steps - 1), member])
    cells = reading.cells(member)
    values = (cells[name] for name in ("sharpness", "residual", "train_loss"))
    return CurvaturePoint(cell.arm, cell.seed, reading.step, phase(reading.step, steps), rounded(rate, 6), *values)


def ends(bed: Bed, how: OrderedRates, network: Stacked, end: train.State, cells: Sequence[Cell]) -> list[OrderedRun]:
    """One row per run; a diverged one has only its step."""
    columns, rows = scored(bed, how, network, end.params), []
    for i, (cell, step) in enumerate(zip(cells, end.diverged.tolist(), strict=True)):
        values = [rounded(column[i], 9) if step < 0 else None for column in columns]
        key = (cell.model, cell.accounting, cell.arm, cell.labels, cell.draw, cell.seed, cell.rate, how.steps)
        rows.append(OrderedRun(*key, step if step >= 0 else None, *values))
    return rows


def scored(bed: Bed, how: OrderedRates, network: Stacked, params: Params) -> list[Tensor]:
    """Loss and error (E,) on training and on test examples."""
    statistics = recomputed(network, params, bed.statistics_inputs())
    splits = (bed.data.train.examples(how.train_examples), bed.data.test.examples(how.test_examples))
    return [part for split in splits for part in evaluate(network, params, statistics, split, bed.loss)]
