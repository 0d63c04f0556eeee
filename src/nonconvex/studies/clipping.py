"""Does clipping bound what an update does to the loss, and does that help recurrent networks and transformers most?

A recurrent network under SGD and Adam, a transformer, a feed-forward network and convex quadratics; thresholds are
multiples of each bed's own median gradient norm, and every arm's rate is tuned on tuning seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import inf, log
from statistics import median

import torch
from torch import Tensor

from nonconvex.beds import Bed, spread
from nonconvex.config import Settings
from nonconvex.measure.clipped_quadratic import Quadratics
from nonconvex.models.stacked import select
from nonconvex.observations import clipping as rows
from nonconvex.observations.tuning import TunedArm, TuningTrial
from nonconvex.studies.clipped_runs import Watched, clipped_bed, local_smoothness, watched, with_own_labels
from nonconvex.studies.draws import Drawn
from nonconvex.studies.training import scores
from nonconvex.studies.trajectories import rounded
from nonconvex.studies.tuning import Tuned, chosen
from nonconvex.study_settings.clipping import ClippedBed, Quadratic

MODELS = ("mlp", "transformer")
FIRST = ("transformer", "gru_sgd", "gru_adam", "mlp")  # the costly ones, so that all cores end together
DIGITS = 6  # significant ones of a score
NONE, CLIPPED = "none", "clipped"  # clipped: the threshold that does best on the tuning seeds


@dataclass(frozen=True)
class Cell(Drawn):
    """One run."""

    model: str
    arm: str
    labels: str
    draw: str
    seed: int
    rate: float


@dataclass(frozen=True)
class Choice:
    """What tuning says about a bed: each arm's rate and threshold, and the arm that clips best."""

    rates: dict[str, float]
    thresholds: dict[str, float]
    best: str


Found = tuple[list, list]


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: tuning, tuned, thresholds, runs, smoothness, curves, quadratic."""
    tuned, thresholds = tuned_arms(settings)
    choices = {name: choice(name, tuned, thresholds) for name in settings.strategies.clipping.beds}
    found = spread(settings, reported_jobs(settings, choices))
    runs, points, curves, edges = ([row for part in found for row in part if type(row) is kind] for kind in KINDS)
    return {
        "tuning": [trial for arm in tuned for trial in arm.trials],
        "tuned": [arm.arm for arm in tuned] + [best_arm(tuned, name, c.best) for name, c in choices.items()],
        "thresholds": thresholds,
        "runs": sorted(runs, key=_key),
        "smoothness": sorted(points, key=_key),
        "curves": sorted(curves, key=_key),
        "quadratic": edges,
    }


KINDS = (rows.ClippedRun, rows.SmoothnessPoint, rows.CurveLoss, rows.QuadraticEdge)


def _key(row) -> tuple:
    return tuple(getattr(row, name) for name in row.KEY)


def dealt(members: Sequence, size: int) -> list[Sequence]:
    """The members in as few cohorts of at most `size` as there must be, of nearly equal size."""
    count = -(-len(members) // size)
    return [members[i::count] for i in range(count)]


def beds_of(settings: Settings) -> list[str]:
    return [name for name in FIRST if name in settings.strategies.clipping.beds]


# Tuning


def tuned_arms(settings: Settings) -> tuple[list[Tuned], list[rows.ClippingThreshold]]:
    """First without clipping, which gives the thresholds; then at each of these."""
    study = settings.strategies.clipping
    plain, norms = _tuned(settings, [(name, NONE, inf) for name in beds_of(settings)])
    clipped, thresholds = [], []
    for arm in plain:
        norm = median(norms[arm.arm.model, NONE, seed, arm.rate] for seed in {t.seed for t in arm.trials})
        clipped += [(arm.arm.model, name, norm * multiple) for name, multiple in study.multiples.items()]
        thresholds += [(arm.arm.model, name, multiple, norm) for name, multiple in study.multiples.items()]
    more, _ = _tuned(settings, clipped)
    best = {name: min((a for a in more if a.arm.model == name), key=criterion).arm.arm for name in study.beds}
    kept = [rows.ClippingThreshold(*t, t[2] * t[3], int(best[t[0]] == t[1])) for t in thresholds]
    return plain + more, kept


def _tuned(settings: Settings, arms: Sequence[tuple[str, str, float]]) -> tuple[list[Tuned], dict]:
    """What is chosen for each (model, arm, threshold), and every run's median gradient norm."""
    study, jobs = settings.strategies.clipping, []
    for name in dict.fromkeys(model for model, _, _ in arms):
        bed = study.beds[name]
        members = [
            (arm, threshold, seed, rate)
            for model, arm, threshold in arms
            if model == name
            for rate in bed.rates
            for seed in study.tuning[: bed.tuning_seeds * (len(study.multiples) if arm == NONE else 1)]
        ]
        jobs += [partial(tune, settings, name, part) for part in dealt(members, study.cohort)]
    found = [pair for part in spread(settings, jobs) for pair in part]
    trials = sorted((trial for trial, _ in found), key=lambda t: (t.rate, t.seed))
    norms = {(t.model, t.arm, t.seed, t.rate): norm for t, norm in found}
    return [chosen([t for t in trials if (t.model, t.arm) == arm[:2]]) for arm in arms], norms


def tune(settings: Settings, name: str, members: Sequence[tuple]) -> list[tuple[TuningTrial, float]]:
    """Train one cohort of tuning runs; their scores on validation data and their median gradient norms."""
    torch.set_num_threads(1)
    how, (bed, optimizer) = settings.strategies.clipping.beds[name], clipped_bed(settings, name)
    arms, thresholds, seeds, rates = zip(*members, strict=True)
    run = watched(bed, optimizer, (how.steps, how.batch_size), seeds, rates, thresholds)
    found = scores(bed, run.network, run.end.params, "validation", how.validation_examples)
    trials = []
    for i, step in enumerate(run.end.diverged.tolist()):
        values = [None, *(rounded(part[i], DIGITS) if step < 0 else None for part in found)]
        trials.append(TuningTrial(name, arms[i], seeds[i], rates[i], step if step >= 0 else None, *values))
    return list(zip(trials, run.gradients.medians().tolist(), strict=True))


def criterion(arm: Tuned) -> float:
    """Mean over tuning seeds of what chose the arm's rate, there; infinite where a seed diverged."""
    values = [getattr(t, arm.arm.criterion) for t in arm.trials if t.rate == arm.rate]
    return inf if None in values else sum(values) / len(values)


def choice(name: str, tuned: Sequence[Tuned], thresholds: Sequence[rows.ClippingThreshold]) -> Choice:
    own = [t for t in thresholds if t.model == name]
    rates = {arm.arm.arm: arm.rate for arm in tuned if arm.arm.model == name}
    (best,) = (t.arm for t in own if t.chosen)
    return Choice(rates, {NONE: inf} | {t.arm: t.threshold for t in own}, best)


def best_arm(tuned: Sequence[Tuned], name: str, best: str) -> TunedArm:
    """The record of clipping as a whole: the best threshold's rate, and the trials at all of them."""
    own = {arm.arm.arm: arm.arm for arm in tuned if arm.arm.model == name and arm.arm.arm != NONE}
    at = own[best]
    return TunedArm(name, CLIPPED, at.criterion, at.rate, at.interior, sum(arm.trials for arm in own.values()))


# The reported runs


def reported_jobs(settings: Settings, choices: dict[str, Choice]) -> list[Callable]:
    """Pairs of norm and smoothness first, as they take longest; then all runs, in cohorts."""
    study, jobs = settings.strategies.clipping, []
    for name in beds_of(settings):
        if study.beds[name].points:
            jobs.append(partial(smoothness, settings, name, choices[name].rates[NONE]))
    for name in beds_of(settings):
        cells = reported_cells(settings, name, choices[name])
        for labels in ("true", "shuffled"):
            parts = dealt([cell for cell in cells if cell.labels == labels], study.cohort)
            jobs += [partial(run, settings, part, choices[name]) for part in parts if part]
    return [*jobs, partial(quadratic, settings)]


def reported_cells(settings: Settings, name: str, at: Choice) -> list[Cell]:
    """The reported runs of a bed, each once, and those of its controls."""
    study, how, r = settings.strategies.clipping, settings.strategies.clipping.beds[name], at.rates
    seeds, far = study.seeds[: how.replicates], study.spike_multiple * r[NONE]
    scored = [(NONE, r[NONE]), (at.best, r[at.best])]
    scored += [("hard", r["hard"]), ("hard", r[NONE])] if how.closely else []
    near_far = list(product((NONE, "median"), (r[NONE], far))) if how.closely else []
    cells = [Cell(name, arm, "true", "own", seed, rate) for arm, rate in [*scored, *near_far] for seed in seeds]
    again = (r[NONE], far) if how.closely else (r[NONE],)
    cells += [Cell(name, NONE, "true", "other", seed, rate) for rate in again for seed in seeds]
    cells += [Cell(name, arm, "shuffled", "own", s, rate) for arm, rate in scored for s in seeds[: how.shuffled]]
    edges = list(product((NONE, "median"), how.edge_rates))
    cells += [Cell(name, arm, "true", "own", s, rate) for arm, rate in edges for s in study.seeds[: how.edge_seeds]]
    twins = study.seeds[: how.edge_twins]
    cells += [Cell(name, NONE, "true", "other", s, rate) for rate in how.edge_rates for s in twins]
    return list(dict.fromkeys(cells))


def tested(cell: Cell, at: Choice) -> bool:
    """Whether a claim on generalisation needs the run: none and hard at two rates, the best threshold at its own."""
    own = {NONE: {at.rates[NONE]}, at.best: {at.rates[at.best]}}
    own["hard"] = {at.rates["hard"], at.rates[NONE]}
    return cell.rate in own.get(cell.arm, ())


def run(settings: Settings, cells: Sequence[Cell], at: Choice) -> list:
    """Train one cohort to the end: its rows, and the loss curves of those whose curves are kept."""
    torch.set_num_threads(1)
    study, name = settings.strategies.clipping, cells[0].model
    how, (bed, optimizer) = study.beds[name], clipped_bed(settings, name)
    used = with_own_labels(bed) if cells[0].labels == "shuffled" else bed
    columns = ([cell.start for cell in cells], [c.rate for c in cells], [at.thresholds[c.arm] for c in cells])
    made = watched(used, optimizer, (how.steps, how.batch_size), *columns)
    found = ends(bed, how, cells, made, at)
    far = study.spike_multiple * at.rates[NONE] if how.closely else None
    kept = study.seeds[: study.curves]
    for i, cell in enumerate(cells):
        if (cell.rate, cell.draw, cell.labels) == (far, "own", "true") and cell.seed in kept:
            found += curve(cell, made.losses[:, i])
    return found


def ends(bed: Bed, how: ClippedBed, cells: Sequence[Cell], made: Watched, at: Choice) -> list[rows.ClippedRun]:
    """One row per run; a diverged one has only its step."""
    train_losses, test = _scores(bed, how, made, [tested(cell, at) for cell in cells])
    factors, level = made.gradients.factors(), how.trained_share * log(bed.data.classes)
    found = []
    for i, (cell, step) in enumerate(zip(cells, made.end.diverged.tolist(), strict=True)):
        values = (train_losses[i], *test.get(i, (torch.nan, torch.nan)))
        values = [rounded(value, DIGITS) if step < 0 else None for value in values]
        shares = (rounded((factors[:, i] < 1).double().mean()), rounded(factors[:, i].double().mean()))
        stable = int(values[0] is not None and values[0] < level)
        key = (cell.model, cell.arm, cell.labels, cell.draw, cell.seed, cell.rate, len(factors))
        spikes = int(made.spikes[i])
        found.append(rows.ClippedRun(*key, step if step >= 0 else None, spikes, *shares, stable, *values))
    return found


def _scores(bed: Bed, how: ClippedBed, made: Watched, wanted: Sequence[bool]) -> tuple[Tensor, dict]:
    """Training losses (E,), and (test loss, test error) by place of the members that are wanted.

    On shuffled labels too, training losses are those of the true ones.
    """
    train_losses, _ = scores(bed, made.network, made.end.params, "train", how.train_examples)
    places = [i for i, one in enumerate(wanted) if one]
    if not places:
        return train_losses, {}
    test = scores(bed, made.network, select(made.end.params, places), "test", how.test_examples)
    return train_losses, dict(zip(places, zip(*test, strict=True), strict=True))


def curve(cell: Cell, losses: Tensor) -> list[rows.CurveLoss]:
    key = (cell.model, cell.arm, cell.seed, rounded(cell.rate))
    return [rows.CurveLoss(*key, step, rounded(loss)) for step, loss in enumerate(losses)]


def smoothness(settings: Settings, name: str, rate: float) -> list[rows.SmoothnessPoint]:
    """Pairs of gradient norm and local smoothness along plain training of a bed at its tuned rate."""
    torch.set_num_threads(1)
    study = settings.strategies.clipping
    how, (bed, optimizer) = study.beds[name], clipped_bed(settings, name)
    seeds = study.seeds[: how.replicates]
    members = (seeds, [rate] * len(seeds))
    steps, read = local_smoothness(bed, optimizer, (how.steps, how.batch_size), members, how.points, how.examples)
    places = product(enumerate(seeds), enumerate(steps))
    return [
        rows.SmoothnessPoint(name, seed, step, *(rounded(read[at, column, i]) for column in range(3)))
        for (i, seed), (at, step) in places
    ]


def quadratic(settings: Settings) -> list[rows.QuadraticEdge]:
    """The largest stable rate on convex quadratics, one a seed, without clipping and at the median gradient norm.

    By gradient descent, and by heavy ball with the recurrent network's momentum.
    """
    torch.set_num_threads(1)
    study, found = settings.strategies.clipping, []
    for optimizer, momentum in (("gradient_descent", 0.0), ("heavy_ball", study.gru.momentum)):
        made = Quadratics(study.seeds, study.quadratic.dimension, study.quadratic.condition, momentum)
        norms = made.median_norms(made.edge / 2, study.quadratic.threshold_steps)
        for arm, thresholds in ((NONE, made.never), ("median", study.multiples["median"] * norms)):
            edges = quadratic_edges(study.quadratic, made, thresholds)
            for seed, threshold, edge in zip(study.seeds, thresholds.tolist(), edges, strict=True):
                found.append(rows.QuadraticEdge(optimizer, arm, seed, threshold if threshold < inf else None, edge))
    return found


def quadratic_edges(how: Quadratic, made: Quadratics, thresholds: Tensor) -> list[float | None]:
    """Each quadratic's largest stable rate as a share of the closed form."""
    # half a step of 0.01 in log10 to either side of the closed form, so that no rate lies on it
    shares = 10.0 ** ((torch.arange(-how.looks, how.looks, dtype=torch.float64) + 0.5) / 100)
    edges = made.edges(made.edge * shares, thresholds, how.steps, how.level)
    return [edge / made.edge if edge else None for edge in edges]
