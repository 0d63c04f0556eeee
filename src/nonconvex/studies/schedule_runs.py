"""Training and scoring of runs under planned schedules: one cohort per length, whatever schedules, peaks and labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.models.stacked import Stacked, select
from nonconvex.observations.tournament import ScheduledRun
from nonconvex.schedules import Factory
from nonconvex.studies.draws import Drawn
from nonconvex.studies.schedule_arms import ARMS, natural, planned
from nonconvex.studies.training import Recipe, cohort, snapshots, with_architecture, with_shuffled_labels
from nonconvex.tensors import Params

BED = "mlp"  # the bed that is compared in full; the others are the grid's
HORIZONS = {"quarter": 0.25, "half": 0.5, "three_quarters": 0.75}  # shares of a whole run


@dataclass(frozen=True)
class Cell(Drawn):
    """One training, in the words of `ScheduledRun`; a whole run `goes_on` to twice its length."""

    model: str
    use: str
    arm: str
    seed: int
    rate: float
    labels: str = "true"
    draw: str = "own"
    goes_on: bool = False

    @property
    def own_labels(self) -> int:
        """What tells the labels of two cells apart: the seed under which they were dealt, -1 for the true ones."""
        return self.seed if self.labels == "shuffled" else -1


def bed_for(settings: Settings, model: str) -> Bed:
    """The study's own bed with its own widths, or one of the grid's as it is there."""
    bed = bed_of(settings, model)
    return with_architecture(bed, widths=settings.schedules.tournament.widths) if model == BED else bed


def planned_steps(settings: Settings, model: str, use: str) -> int:
    """Steps that a use's schedule is planned for."""
    study = settings.schedules.tournament
    if use == "fine_tuning":
        return study.fine_tuning.steps
    parts = {**HORIZONS, "double": 2, "fast": study.fast, "short": study.short}
    return round(parts.get(use, 1) * (study.steps if model == BED else settings.train[model].steps))


def looks_of(settings: Settings, cell: Cell) -> dict[int, str]:
    """Number of updates -> name of every look at a run like this."""
    end = planned_steps(settings, cell.model, cell.use)
    found = {2 * end: "double"} if cell.use == "natural" else {end: "end"}
    if (cell.model, cell.use, cell.labels, cell.draw) == (BED, "whole", "true", "own"):
        found |= {planned_steps(settings, BED, horizon): horizon for horizon in HORIZONS}
    if cell.use == "fine_tuning":
        found[0] = "start"
    return found | ({2 * end: "double"} if cell.goes_on else {})


def length(settings: Settings, cell: Cell) -> int:
    """Steps of the run. Cells of a model and a length fit into one cohort."""
    return max(looks_of(settings, cell))


def factory_of(settings: Settings, model: str, use: str, arm: str) -> Factory:
    """The arm's schedule as the use plans it."""
    steps = planned_steps(settings, model, use)
    return natural(ARMS[arm], steps) if use == "natural" else planned(ARMS[arm], steps)


def started(
    settings: Settings, bed: Bed, cells: Sequence[Cell], weights: Params | None = None
) -> tuple[Stacked, Params, train.Cohort]:
    """The cohort of the cells before its first update, from initial weights where no others are given."""
    schedules = [factory_of(settings, cell.model, cell.use, cell.arm) for cell in cells]
    starts, rates = [cell.start for cell in cells], [cell.rate for cell in cells]
    size = settings.schedules.tournament.batch_size if bed.name == BED else bed.training.batch_size
    recipe = Recipe(max(length(settings, cell) for cell in cells), size)
    network, params, made = cohort(bed, recipe, starts, rates, schedules=schedules)
    parts = [(labelled(bed, own), len(list(part))) for own, part in groupby(cells, lambda cell: cell.own_labels)]
    return network, params if weights is None else weights, replace(made, batch=partial(batch, parts, size))


def labelled(bed: Bed, own_labels: int) -> Bed:
    """The bed with the labels that `Cell.own_labels` tells."""
    return bed if own_labels < 0 else with_shuffled_labels(bed, own_labels)


def batch(parts: Sequence[tuple[Bed, int]], size: int, order: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
    """The minibatches of neighbours that share their labels, one group after the other along the member axis."""
    found, rest = [], list(order)
    for bed, count in parts:
        own, rest = rest[:count], rest[count:]
        found.append(bed.data.train.batch(own, step, size))
    x, y = zip(*found, strict=True)
    return torch.cat(x), torch.cat(y)


def run(settings: Settings, cells: Sequence[Cell]) -> list[ScheduledRun]:
    """Train a cohort of cells of one model and length and score each at its own looks."""
    torch.set_num_threads(1)
    bed, cells = bed_for(settings, cells[0].model), sorted(cells, key=lambda cell: cell.own_labels)
    return followed(settings, bed, cells, started(settings, bed, cells))


def followed(
    settings: Settings, bed: Bed, cells: Sequence[Cell], begun: tuple[Stacked, Params, train.Cohort]
) -> list[ScheduledRun]:
    """The rows of a cohort that is trained to its end."""
    network, params, made = begun
    looks, rows = [looks_of(settings, cell) for cell in cells], []
    for state in snapshots(made, params, sorted({step for own in looks for step in own})):
        seen = [i for i, own in enumerate(looks) if state.step in own]
        values = scored(settings, bed, network, select(state.params, seen), cells[0].use)
        for i, found in zip(seen, values, strict=True):
            rows.append(_row(cells[i], looks[i][state.step], state.step, int(state.diverged[i]), found))
    return rows


def _row(cell: Cell, look: str, step: int, gone: int, found: Sequence[float]) -> ScheduledRun:
    """A diverged run has its step instead of scores, and one on shuffled labels no score on them."""
    key = (cell.model, cell.use, cell.arm, cell.labels, cell.draw, cell.seed, look, cell.rate, step)
    if gone >= 0:
        return ScheduledRun(*key, gone, None, None, None, None)
    fitted = found[:2] if cell.labels == "true" else (None, None)
    return ScheduledRun(*key, None, *fitted, *found[2:])


def scored(settings: Settings, bed: Bed, network: Stacked, params: Params, use: str) -> list[list[float]]:
    """(train_loss, train_error, test_loss, test_error) of every member."""
    own = settings.schedules.tournament if bed.name == BED else bed.training
    train_count, test_count = (None, None) if use == "fine_tuning" else (own.train_examples, own.test_examples)
    statistics = recomputed(network, params, bed.statistics_inputs())
    splits = (bed.data.train.examples(train_count), bed.data.test.examples(test_count))
    columns = [part for split in splits for part in evaluate(network, params, statistics, split, bed.loss)]
    return torch.stack(columns, 1).tolist()
