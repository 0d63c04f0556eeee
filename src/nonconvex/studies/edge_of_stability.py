"""Full-batch training held against the largest curvature that its optimizer can stand (Cohen et al. 2021, 2022).

Gradient descent, heavy ball, Nesterov and Adam, under squared error and cross-entropy, at several constant rates; and
gradient descent whose rate is changed at the edge, against itself with the rate kept.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from nonconvex import train
from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.measure.stability import threshold
from nonconvex.observations.edge_of_stability import ChangePoint, EdgePoint, EdgeRun
from nonconvex.optimizers import AdamW, Sgd
from nonconvex.studies.training import Recipe, cohort
from nonconvex.studies.trajectories import Probe, branched, evenly, pushed, readings, rounded, smooth_bed
from nonconvex.study_settings.properties import EdgeOfStability, RateChange

MODELS = ("mlp",)
PARTS = 2  # cohorts that the seeds of an arm are dealt into


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: runs, their points, and the points after a change of the rate."""
    study = settings.properties.edge_of_stability
    seeds = [study.seeds[i::PARTS] for i in range(PARTS)]
    arms = [(loss, name) for loss, of_loss in study.descents.items() for name in of_loss]
    arms.sort(
        key=lambda arm: -study.descents[arm[0]][arm[1]].steps
    )  # the longest first, so that all cores end together
    whole = [partial(descend, settings, *arm, part) for arm in arms for part in seeds if part]
    changed = [partial(change_rate, settings, loss, part) for loss in study.changes for part in seeds if part]
    found = spread(settings, changed + whole)
    points = sorted((row for rows in found[: len(changed)] for row in rows), key=_order)
    runs, along = ([row for pair in found[len(changed) :] for row in pair[i]] for i in (0, 1))
    return {"runs": sorted(runs, key=_order), "points": sorted(along, key=_order), "changes": points}


def _order(row: EdgeRun | EdgePoint | ChangePoint) -> tuple:
    return tuple(getattr(row, name) for name in row.KEY)


def optimizers(study: EdgeOfStability) -> dict[str, Sgd | AdamW]:
    """The optimizers by the names that settings and records give them; none decays the weights."""
    return {
        "gd": Sgd(),
        "heavy_ball": Sgd(study.momentum),
        "nesterov": Sgd(study.momentum, nesterov=True),
        "adam": AdamW(weight_decay=0.0),
    }


def edge_bed(settings: Settings, loss: str) -> Bed:
    """The study's network and examples under a loss."""
    study = settings.properties.edge_of_stability
    return smooth_bed(bed_of(settings, "mlp"), loss, study.examples, study.widths)


def descend(settings: Settings, loss: str, name: str, seeds: Sequence[int]) -> tuple[list[EdgeRun], list[EdgePoint]]:
    """One cohort: every rate of an optimizer under a loss, on the given seeds."""
    torch.set_num_threads(1)
    study, bed = settings.properties.edge_of_stability, edge_bed(settings, loss)
    arm, optimizer = study.descents[loss][name], optimizers(study)[name]
    keys = [(loss, name, rate, seed) for rate in arm.rates for seed in seeds]
    rates = [rate for _, _, rate, _ in keys]
    recipe = Recipe(arm.steps, batch_size=0, optimizer=optimizer)
    network, params, made = cohort(bed, recipe, [seed for *_, seed in keys], rates)
    at = [step for step in evenly(arm.steps, study.readings) if step or name != "adam"]  # no preconditioner at 0
    found = list(readings(Probe(bed, network, optimizer, study.lanczos), made, train.start(made, params), at))
    points = [EdgePoint(*key, read.step, **_point(read.cells(i))) for _, read in found for i, key in enumerate(keys)]
    limits = threshold(optimizer, torch.tensor(rates, dtype=torch.float64))
    ends = zip(keys, limits, found[-1][0].diverged.tolist(), found[-1][1].errors, strict=True)
    runs = [EdgeRun(*key, arm.steps, rounded(x), step if step >= 0 else None, rounded(e)) for key, x, step, e in ends]
    return runs, points


def _point(cells: dict[str, float | None]) -> dict[str, float | None]:
    return {name: value for name, value in cells.items() if name != "train_error"}


def change_rate(settings: Settings, loss: str, seeds: Sequence[int]) -> list[ChangePoint]:
    """Gradient descent to a checkpoint, and on from there in every arm of the intervention."""
    torch.set_num_threads(1)
    study, bed = settings.properties.edge_of_stability, edge_bed(settings, loss)
    change = study.changes[loss]
    factors = rate_factors(change)
    recipe = Recipe(change.before + change.after, batch_size=0, optimizer=Sgd())
    network, params, made = cohort(bed, recipe, seeds, [change.rate] * len(seeds))
    (checkpoint,) = deque(train.train(made, train.start(made, params), change.before), maxlen=1)
    rates = [change.rate * factor for factor in factors.values() for _ in seeds]
    _, _, after = cohort(bed, recipe, [*seeds] * len(factors), rates)
    begin = branched(checkpoint, len(factors))
    begin = replace(begin, params=pushed(begin.params, list(factors).index("jostled"), len(seeds), change.jostle))
    keys = [(loss, arm, seed) for arm in factors for seed in seeds]
    probe, points = Probe(bed, network, Sgd(), study.lanczos), []
    at = evenly(change.after, change.readings, change.before)
    for _, reading in readings(probe, after, begin, at):
        for i, (key, rate) in enumerate(zip(keys, rates, strict=True)):
            cells = reading.cells(i)
            kept = {name: cells[name] for name in ("sharpness", "residual", "train_loss")}
            points.append(ChangePoint(*key, reading.step, rounded(2 / rate), **kept))
    return points


def rate_factors(change: RateChange) -> dict[str, float]:
    """What each arm multiplies the rate by."""
    lower = {"much_lower": change.much_lower, "lower": change.lower}
    return {"keep": 1.0, "jostled": 1.0, **lower, "higher": change.higher}
