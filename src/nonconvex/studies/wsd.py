"""What does WSD gain by not knowing its horizon, what do runs lose that have to know theirs, and which part counts?

One trunk per seed, with a peak tuned for one horizon, and decays from it for three; beside them WSD, warm-up + cosine
and warm-up + linear planned and tuned for each horizon, cosine runs also stopped halfway and restarted at their end.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.models.stacked import Stacked
from nonconvex.observations.tuning import TuningTrial
from nonconvex.observations.wsd import HorizonRun, LossWindow
from nonconvex.plan import dealt
from nonconvex.progress import counted
from nonconvex.schedules import WARMUP, warmup_steps
from nonconvex.studies.horizons import (
    SHAPES,
    Decay,
    Grown,
    Plan,
    decays,
    grow,
    horizons,
    own_schedule,
    part_of,
    restarted,
    risen,
    windows,
)
from nonconvex.studies.training import Recipe, scores, trained
from nonconvex.studies.trajectories import rounded
from nonconvex.studies.tuning import Tuned, chosen
from nonconvex.study_settings.wsd import DECAY, HorizonBed
from nonconvex.tensors import Params

MODELS = ("mlp", "resnet", "transformer")
FIRST = ("transformer", "resnet", "mlp")  # the costly ones, so that all cores end together
DIGITS = 6
Found = dict[str, list]


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: tuning, tuned, runs, windows."""
    trials = [row for rows in spread(settings, tuning_jobs(settings)) for row in rows]
    arms = tuned_arms(settings, trials)
    rates = {(arm.arm.model, arm.arm.arm): arm.rate for arm in arms}
    parts = spread(settings, reported_jobs(settings, rates))
    key = lambda row: tuple(-1 if (value := getattr(row, name)) is None else value for name in row.KEY)  # noqa: E731
    found = {name: sorted((row for part in parts for row in part[name]), key=key) for name in ("runs", "windows")}
    return found | {"tuning": [trial for arm in arms for trial in arm.trials], "tuned": [arm.arm for arm in arms]}


# Tuning


def arms_for(how: HorizonBed, name: str) -> list[str]:
    """The arms that are planned for a horizon: short, middle or long."""
    wsd = ["wsd"] if name == "middle" or how.replanned else []
    more = ["warmup_linear"] + (["no_warmup", "long_warmup"] if name == "middle" else []) if how.full else []
    return [*wsd, "warmup_cosine", *more]


def tuning_jobs(settings: Settings) -> list[Callable]:
    """Every arm for every horizon at every rate of its bed's grid on the tuning seeds; a cohort is a horizon's."""
    beds = settings.schedules.wsd.beds
    names = [(model, name) for model in FIRST if model in beds for name in reversed(horizons(beds[model].planned))]
    return [partial(tune, settings, model, name) for model, name in names]


def scored_bed(settings: Settings, model: str) -> tuple[Bed, HorizonBed]:
    """The bed, with as many examples behind its normalisation statistics as the study has."""
    bed, how = bed_of(settings, model), settings.schedules.wsd.beds[model]
    return replace(bed, training=bed.training.model_copy(update={"statistics_examples": how.statistics_examples})), how


def tune(settings: Settings, model: str, name: str) -> list[TuningTrial]:
    """Train the tuning runs of one horizon and score them on validation data."""
    torch.set_num_threads(1)
    study, (bed, how) = settings.schedules.wsd, scored_bed(settings, model)
    seeds = study.tuning[: how.tuning_seeds]
    members = [(arm, rate, seed) for arm in arms_for(how, name) for rate in how.rates for seed in seeds]
    arms, rates, starts = zip(*members, strict=True)
    schedules = [own_schedule(arm, study.long_warmup) for arm in arms]
    end = trained(bed, Recipe(horizons(how.planned)[name], how.batch_size), starts, rates, schedules)
    losses, errors = scores(bed, end.network, end.params, "validation", how.validation_examples)
    rows = []
    for i, (arm, rate, seed) in enumerate(members):
        at = int(end.diverged[i])
        values = [None] * 3 if at >= 0 else [None, rounded(losses[i], 9), rounded(errors[i], 9)]
        rows.append(TuningTrial(model, f"{arm}_{name}", seed, rate, at if at >= 0 else None, *values))
    return rows


def tuned_arms(settings: Settings, trials: Sequence[TuningTrial]) -> list[Tuned]:
    """What the trials choose, bed by bed, horizon by horizon and arm by arm."""
    beds = settings.schedules.wsd.beds
    names = [(m, f"{arm}_{name}") for m, how in beds.items() for name in horizons(2) for arm in arms_for(how, name)]
    order = lambda trial: (trial.rate, trial.seed)  # noqa: E731
    return [chosen(sorted((t for t in trials if (t.model, t.arm) == name), key=order)) for name in names]


# The reported runs


def reported_jobs(settings: Settings, rates: dict[tuple[str, str], float]) -> list[Callable]:
    """Families of seeds, the runs on shuffled labels last."""
    study, jobs = settings.schedules.wsd, []
    for model in (name for name in FIRST if name in study.beds):
        how = study.beds[model]
        peaks = {arm: rate for (of, arm), rate in rates.items() if of == model}
        groups = dealt(study.seeds[: how.replicates], how.together)
        jobs += [partial(family, settings, model, seeds, peaks, "true") for seeds in groups]
        if how.shuffled:
            jobs.append(partial(family, settings, model, study.seeds[: how.shuffled], peaks, "shuffled"))
    return jobs


def family(
    settings: Settings, model: str, seeds: Sequence[int], peaks: dict[str, float], labels: str
) -> dict[str, list]:
    """Train and score all runs of some seeds on one bed."""
    torch.set_num_threads(1)
    bed, how = scored_bed(settings, model)
    cohorts = plans(how, peaks, settings.schedules.wsd.long_warmup, labels == "true")
    found = {"runs": [], "windows": []}
    with counted(f"{model} horizons, {labels} labels", len(seeds) * (len(cohorts) + 1)) as advance:
        for steps, of_steps in cohorts.items():
            grown = grow(bed, of_steps, seeds, steps, how.batch_size, labels == "shuffled")
            place = Place(bed, how, labels, seeds, grown.network)
            for part in planned_runs(place, grown, of_steps):
                _add(found, part)
            if of_steps[0].arm == "trunk":
                for part in branch_runs(place, grown, of_steps[0]):
                    _add(found, part)
            advance(len(seeds))
    return found if labels == "true" else found | {"windows": []}


def _add(found: Found, part: Found) -> None:
    for name, rows in part.items():
        found[name] += rows


def plans(how: HorizonBed, peaks: dict[str, float], long_warmup: float, every: bool) -> dict[int, list[Plan]]:
    """The runs from the initial weights, by their number of steps; without `every` those that controls need.

    A cosine run is also looked at where the next shorter horizon ends. WSD planned for the middle horizon is not run:
    to the last bit it is a branch of the trunk, whose warm-up and peak are its own.
    """
    at = horizons(how.planned)
    forks = {decay.fork for decay in branches(how, every)}
    peak, warm = peaks["wsd_middle"], warmup_steps(how.planned, WARMUP)
    found = {at["long"]: [Plan("trunk", how.planned, peak, risen(warm), tuple({*forks, *at.values()}))]}
    for name, steps in reversed(at.items()):
        arms = arms_for(how, name) if every else [arm for arm in arms_for(how, name) if arm in CONTROLLED[name]]
        for arm in (arm for arm in arms if (arm, name) != ("wsd", "middle")):
            reads = (steps // 2, steps) if arm == "warmup_cosine" and name != "short" else (steps,)
            plan = Plan(arm, steps, peaks[f"{arm}_{name}"], own_schedule(arm, long_warmup), reads)
            found.setdefault(steps, []).append(plan)
    if how.full:
        again = restarted(how.planned)
        found[at["long"]].append(Plan("restarted", how.planned, peaks["warmup_cosine_middle"], again, (at["long"],)))
        others = [rate for rate in how.rates if rate != peak] if every else []
        found[at["middle"]] += [
            Plan("other_peak", how.planned, rate, own_schedule("other_peak", long_warmup), (how.planned,))
            for rate in others
        ]
    return found


CONTROLLED = {"short": (), "middle": ("warmup_cosine", "no_warmup"), "long": ("warmup_cosine",)}  # on shuffled labels


def branches(how: HorizonBed, every: bool) -> list[Decay]:
    """The decays from a trunk; without `every` those that controls need.

    The text's at every horizon, on either order of data, and every length and, at the text's length, every shape at the
    middle horizon. On a full bed every shape of every length there, and every length and shape at the others too.
    """
    found = []
    for name, steps in horizons(how.planned).items():
        wide = name == "middle" or how.full
        for share in how.lengths:
            text = share == DECAY
            shapes = SHAPES if (text and wide) or (name == "middle" and how.full) else SHAPES[:1]
            found += [Decay(steps, share, shape, "own") for shape in shapes if text or wide]
            if every and (text or (name == "middle" and how.full)):
                found.append(Decay(steps, share, SHAPES[0], "other"))
    if every:
        return found
    ends = (how.lengths[0], DECAY)
    return [d for d in found if d.textual or (d.horizon == how.planned and d.share in ends)]


@dataclass(frozen=True)
class Place:
    """What all rows of a cohort share."""

    bed: Bed
    how: HorizonBed
    labels: str
    seeds: Sequence[int]
    network: Stacked

    @property
    def model(self) -> str:
        return self.bed.name

    @property
    def window(self) -> int:
        """Steps behind a mean minibatch loss."""
        return 2 * self.how.planned // self.how.windows

    def rows(self, run: tuple, rate: float, params: Params, diverged: Tensor) -> list[HorizonRun]:
        """One row per seed; a diverged run has only its step. `run` is the key between labels and rate."""
        columns = scores(self.bed, self.network, params, "test", self.how.test_examples)
        rows = []
        for i, (seed, step) in enumerate(zip(self.seeds, diverged.tolist(), strict=True)):
            values = [rounded(column[i], DIGITS) if step < 0 else None for column in columns]
            rows.append(HorizonRun(self.model, self.labels, *run, rate, seed, step if step >= 0 else None, *values))
        return rows

    def windows(self, arm: str, planned: int, losses: Tensor, start: int = 0) -> list[LossWindow]:
        """Mean minibatch losses by window, of losses (steps, E) from step `start` on."""
        means = windows(losses, self.window)
        ends = [min(start + (i + 1) * self.window, start + len(losses)) for i in range(len(means))]
        return [
            LossWindow(self.model, arm, planned, seed, end, rounded(means[i, e], 4))
            for e, seed in enumerate(self.seeds)
            for i, end in enumerate(ends)
        ]


def planned_runs(place: Place, grown: Grown, of: Sequence[Plan]) -> Iterator[Found]:
    """Rows of the runs from the initial weights."""
    shares = {"trunk": 0.0, "wsd": DECAY, "no_warmup": DECAY, "long_warmup": DECAY, "other_peak": DECAY}
    shapes = {"trunk": "none", "warmup_linear": "linear"}
    looked = set(horizons(place.how.planned).values())
    for (i, at), state in grown.states.items():
        plan = of[i]
        if at in looked:
            run = (plan.arm, plan.planned, at, shares.get(plan.arm), shapes.get(plan.arm, "cosine"), "own")
            yield {"runs": place.rows(run, plan.rate, state.params, state.diverged)}
    for plan, losses in zip(of, grown.losses, strict=True):
        if plan.arm in ("trunk", "warmup_cosine"):
            yield {"windows": place.windows(plan.arm, plan.planned, losses)}


def branch_runs(place: Place, grown: Grown, trunk: Plan) -> Iterator[Found]:
    """Rows of the decays from the trunk, which is the first plan of `grown`; those of one fork train in lockstep."""
    every, warm = branches(place.how, place.labels == "true"), warmup_steps(place.how.planned, WARMUP)
    for horizon, share in dict.fromkeys((decay.horizon, decay.share) for decay in every):
        of = [decay for decay in every if (decay.horizon, decay.share) == (horizon, share)]
        at = grown.states[0, of[0].fork]
        end, losses = decays(at, grown.made, warm, trunk.rate, place.seeds, of)
        for i, decay in enumerate(of):
            part = slice(i * len(place.seeds), (i + 1) * len(place.seeds))
            own, run = part_of(end, part), ("branch", horizon, horizon, share, decay.shape, decay.order)
            yield {"runs": place.rows(run, trunk.rate, own.params, own.diverged)}
            if decay.textual:
                yield {"windows": place.windows("branch", horizon, losses[:, part], decay.fork)}
