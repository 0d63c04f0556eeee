"""The peak of every schedule, chosen on tuning seeds for every length that it is planned for."""

from collections import deque
from collections.abc import Sequence

import torch

from nonconvex import train
from nonconvex.beds import Bed
from nonconvex.config import Settings
from nonconvex.models.stacked import Stacked
from nonconvex.observations.tuning import TuningTrial
from nonconvex.studies.schedule_runs import BED, Cell, bed_for, started
from nonconvex.studies.training import scores
from nonconvex.studies.tuning import Tuned, chosen
from nonconvex.tensors import Params


def tuning_name(arm: str, use: str) -> str:
    """How the tuning records call an arm: by its name, with the use where it is not a whole run."""
    return arm if use == "whole" else f"{arm}@{use}"


def tune(settings: Settings, cells: Sequence[Cell]) -> list[TuningTrial]:
    """Train one cohort of cells of one use from initial weights and score it on validation data."""
    torch.set_num_threads(1)
    bed = bed_for(settings, cells[0].model)
    return trials(settings, bed, cells, started(settings, bed, cells))


def trials(
    settings: Settings, bed: Bed, cells: Sequence[Cell], begun: tuple[Stacked, Params, train.Cohort]
) -> list[TuningTrial]:
    """A record per member of a cohort that is trained to its end."""
    network, params, made = begun
    (end,) = deque(train.train(made, train.start(made, params)), maxlen=1)
    own = settings.schedules.tournament if bed.name == BED else bed.training
    count = None if cells[0].use == "fine_tuning" else own.validation_examples
    columns = [part.tolist() for part in scores(bed, network, end.params, "validation", count)]
    return [
        _trial(cell, step, values)
        for cell, step, values in zip(cells, end.diverged.tolist(), zip(*columns, strict=True), strict=True)
    ]


def _trial(cell: Cell, step: int, values: Sequence[float]) -> TuningTrial:
    key = (cell.model, tuning_name(cell.arm, cell.use), cell.seed, cell.rate)
    return TuningTrial(*key, None, None, *values) if step < 0 else TuningTrial(*key, step, None, None, None)


def choice(found: Sequence[TuningTrial], model: str, name: str) -> Tuned:
    """What the trials of one arm choose, in a fixed order."""
    own = (trial for trial in found if (trial.model, trial.arm) == (model, name))
    return chosen(sorted(own, key=lambda trial: (trial.rate, trial.seed)))
