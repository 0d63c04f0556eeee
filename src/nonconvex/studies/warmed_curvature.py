"""Curvature of runs with and without warm-up: early in the run at the high rate, and where their losses are equal."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from nonconvex import train
from nonconvex.beds import bed_of
from nonconvex.config import Settings
from nonconvex.measure.crossing import nearest_crossing
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.stability import threshold
from nonconvex.observations.warmup import EarlyPoint, MatchedPoint
from nonconvex.optimizers import AdamW, Sgd
from nonconvex.studies.trajectories import FEWER, Probe, Reading, rounded
from nonconvex.studies.warmed_arms import Cell, arm_name, begun, early_steps, optimizer_of
from nonconvex.study_settings.warmup import WarmedBed

WANTED = {"losses": 6, "sharpness": 6, "residual": FEWER}  # of a reading at equal loss, with their digits


def jobs(settings: Settings, name: str, tuned: float, high: float) -> list[Callable]:
    """Readings of a bed, a cohort an arm: early ones, and with a level those at equal loss of the first two arms."""
    study = settings.strategies.warmup
    how, seeds = study.beds[name], study.seeds[: study.beds[name].replicates]
    arms = [arm_name(share) for share in how.followed.shares]
    of = lambda arm, rate: [Cell(name, arm, "true", "own", seed, rate) for seed in seeds]  # noqa: E731
    early = [partial(early_points, settings, of(arm, high)) for arm in arms]
    return early + [partial(matched_points, settings, of(arm, tuned)) for arm in arms[:2] if how.followed.level]


def looks(how: WarmedBed) -> list[int]:
    """Updates after which curvature is read, in equal ratios from the first to the last of the run's first tenth."""
    last, count = early_steps(how), how.followed.looks
    return sorted({round(last ** (i / (count - 1))) for i in range(count)})


def early_points(settings: Settings, cells: Sequence[Cell]) -> dict[str, list[EarlyPoint]]:
    """Curvature in the first tenth of some runs; a run that diverged has no numbers from then on."""
    torch.set_num_threads(1)
    study = settings.strategies.warmup
    how = study.beds[cells[0].bed]
    bed, optimizer, rows = bed_of(settings, how.model), optimizer_of(how), []
    begin = begun(bed, how, cells)
    probes = {
        kind: Probe(bed, begin.network, kind, study.lanczos, how.followed.examples, how.followed.examples)
        for kind in dict.fromkeys((Sgd(), optimizer))
    }
    for state in train.train(begin.made, begin.state, max(looks(how))):
        if state.step in looks(how):
            nothing = torch.full_like(state.losses, torch.nan)
            plain = probes[Sgd()].read(state, nothing)
            met = probes[optimizer].read(state, nothing) if isinstance(optimizer, AdamW) else None
            rates = begin.made.rates[state.step - 1].cpu()
            rows += early_rows(cells, plain, met, threshold(optimizer, rates).tolist())
    return {"early": rows}


def early_rows(cells: Sequence[Cell], plain: Reading, met: Reading | None, limits: Sequence[float]) -> list[EarlyPoint]:
    """One row a run of a reading of the Hessian, and of Adam's preconditioned one where there is one."""
    rows = []
    for i, (cell, limit) in enumerate(zip(cells, limits, strict=True)):
        own, other = plain.cells(i), met.cells(i) if met else {"sharpness": None, "residual": None}
        faced = (met or plain).sharpness[i] / limit
        values = (own["train_loss"], own["sharpness"], own["residual"], other["sharpness"], other["residual"])
        rows.append(EarlyPoint(cell.bed, cell.arm, cell.seed, cell.rate, plain.step, *values, rounded(faced)))
    return rows


def matched_points(settings: Settings, cells: Sequence[Cell]) -> dict[str, list[MatchedPoint]]:
    """λ_max where each run's training loss comes nearest to the level, around where it first meets it."""
    torch.set_num_threads(1)
    study = settings.strategies.warmup
    how = study.beds[cells[0].bed]
    bed, look = bed_of(settings, how.model), how.followed
    begin = begun(bed, how, cells)
    watched = Objective(begin.network, bed.loss, shared(*bed.data.train.examples(look.examples)))
    _, found = nearest_crossing(begin.made, begin.state.params, watched, look.level, look.stride)
    state = train.State(1, found.params, {}, {}, torch.where(found.met, -1, 0), found.losses)
    probe = Probe(bed, begin.network, Sgd(), study.lanczos, look.examples, look.examples)
    read, rows = probe.read(state, torch.full_like(found.losses, torch.nan)), []
    for i, cell in enumerate(cells):
        step = int(found.steps[i])
        values = (rounded(getattr(read, name)[i], digits) for name, digits in WANTED.items())
        key = (cell.bed, cell.arm, cell.seed, cell.rate, look.level)
        rows.append(MatchedPoint(*key, step if step >= 0 else None, *values))
    return {"matched": rows}
