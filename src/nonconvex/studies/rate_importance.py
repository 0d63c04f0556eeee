"""Which hyperparameter decides how a run ends: a space-filling design over seven of them, and one that does nothing.

Every run sees as many training examples as every other. Runs of one batch size and width train in lockstep; all other
hyperparameters, and the seed, are each member's own.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.measure.spectrum import extreme_eigenvalues
from nonconvex.models.stacked import Stacked
from nonconvex.observations.rate_importance import DesignRun, Factor
from nonconvex.studies.designs import MemberSgd, Point, block, scaled
from nonconvex.studies.training import Recipe, cohort, with_architecture
from nonconvex.studies.trajectories import rounded
from nonconvex.study_settings.rate_importance import Ranges, RateImportance
from nonconvex.tensors import Params

MODELS = ("mlp",)
NUMBERS = ("train_loss", "train_error", "test_loss", "test_error", "sharpness", "residual")


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: factors, runs."""
    study = settings.rates.rate_importance
    points = [point for seed in study.seeds for point in block(study, seed)]
    found = [row for rows in spread(settings, jobs(settings, points)) for row in rows]
    return {"factors": factors(study.ranges), "runs": sorted(found, key=lambda row: (row.block, row.row))}


def factors(ranges: Ranges) -> list[Factor]:
    """What varies, and over what."""
    kinds = {"rate": "log", "momentum": "linear", "weight_decay": "log", "gain": "log"}
    found = [Factor(name, kind, *getattr(ranges, name), 0) for name, kind in kinds.items()]
    found += [Factor("batch_size", "ordered", None, None, len(ranges.batch_sizes))]
    found += [Factor("width", "ordered", None, None, len(ranges.widths))]
    return [*found, Factor("schedule", "named", None, None, len(ranges.schedules)), Factor("dummy", "linear", 0, 1, 0)]


def jobs(settings: Settings, points: Sequence[Point]) -> list[partial]:
    """A cohort per batch size and width: those of small batches take most steps and go first, wide ones before."""
    groups: dict[tuple[int, int], list[Point]] = {}
    for point in points:
        groups.setdefault((point.batch_size, -point.width), []).append(point)
    return [partial(run, settings, groups[key]) for key in sorted(groups)]


def steps_of(study: RateImportance, batch_size: int, examples: int) -> int:
    """Updates of a run: its epochs, each a pass over whole minibatches."""
    return study.epochs * (examples // batch_size)


def run(settings: Settings, points: Sequence[Point]) -> list[DesignRun]:
    """Train one cohort to the end, score it and measure its curvature."""
    torch.set_num_threads(1)
    study, first = settings.rates.rate_importance, points[0]
    bed = with_architecture(bed_of(settings, "mlp"), widths=(first.width, first.width), gain=1.0)
    network, end = trained(bed, study, points)
    columns = [*scores(bed, study, network, end.params), *curvature(bed, study, network, end.params)]
    rows = []
    for i, (point, step) in enumerate(zip(points, end.diverged.tolist(), strict=True)):
        values = [rounded(column[i], 6) if step < 0 else None for column in columns]
        numbers = dict(zip(NUMBERS, values, strict=True))
        rows.append(DesignRun(**_rounded(point), steps=end.step, diverged_step=step if step >= 0 else None, **numbers))
    return rows


def _rounded(point: Point) -> dict:
    return {name: rounded(value, 9) if isinstance(value, float) else value for name, value in asdict(point).items()}


def trained(bed: Bed, study: RateImportance, points: Sequence[Point]) -> tuple[Stacked, train.State]:
    """The network and the last state of a cohort whose members differ in all but batch size and width."""
    first = points[0]
    own = [torch.tensor([getattr(p, name) for p in points], device=bed.device) for name in ("momentum", "weight_decay")]
    recipe = Recipe(steps_of(study, first.batch_size, len(bed.data.train)), first.batch_size)
    seeds, schedules = [p.seed for p in points], [p.schedule for p in points]
    network, params, made = cohort(bed, recipe, seeds, [p.rate for p in points], schedules=schedules)
    made = replace(made, optimizer=MemberSgd(*own))
    begin = train.start(made, scaled(params, [p.gain for p in points]))
    (end,) = deque(train.train(made, begin), maxlen=1)
    return network, end


def scores(bed: Bed, study: RateImportance, network: Stacked, params: Params) -> list[Tensor]:
    """Loss and error (E,) on training and on test examples."""
    splits = (bed.data.train.examples(study.train_examples), bed.data.test.examples(study.test_examples))
    return [part for split in splits for part in evaluate(network, params, {}, split, bed.loss)]


def curvature(bed: Bed, study: RateImportance, network: Stacked, params: Params) -> tuple[Tensor, Tensor]:
    """λ_max (E,) of the training loss, and its residual relative to it; NaN where the loss is not finite."""
    objective = Objective(network, bed.loss, shared(*bed.data.train.examples(study.curvature_examples)))
    how = study.lanczos
    found = extreme_eigenvalues(Hessian(objective, params), how.iterations, how.tolerance, ends="largest").largest
    return found.value, found.residual / found.value.abs()
