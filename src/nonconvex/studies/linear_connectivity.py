"""Linear connectivity of runs that part, of checkpoints of one run, and of a start with its end.

Three things that one sentence of the text mixes. Siblings (Frankle et al. 2020, section 3): how high is the line
between two runs that share everything up to a share of the run? Checkpoints: does the loss fall all along the line
from an earlier one to a later one? Starts (Goodfellow et al. 2015, section 3; Lucas et al. 2021): the same from the
initialisation to the end, with lines from elsewhere as controls. And what averaging is worth where the line is flat.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.measure.averaging import averages
from nonconvex.measure.barriers import BARRIERS, Profile, over_line, profile
from nonconvex.measure.curves import linear
from nonconvex.measure.monotonicity import REPLACEMENTS, climb, drop
from nonconvex.models.stacked import Params, select, stack
from nonconvex.observations.linear_connectivity import Averaged, Line, LinePoint, SiblingBarrier, SiblingPoint
from nonconvex.plan import dealt
from nonconvex.progress import counted
from nonconvex.studies.forks import OTHER_ORDER, Branch, Grown, grown, parting, scheduled, stretched
from nonconvex.studies.training import with_shuffled_labels
from nonconvex.study_settings.properties import LinearConnectivityBed

MODELS = ("resnet", "transformer")
FILES = ("barriers", "points", "lines", "line_points", "averages")
RUNS = {"cosine": "parent", "constant": "constant", "shuffled": "shuffled"}  # arm of an average -> branch
TWINS = {"first": 2, "second": 3}  # branch of full length -> its order of data
SAME_ORDER = 1.0  # the share of the run after which the same-order sibling parts: never
UNREAD = 1  # `profile` wants test examples where only the training loss is read


@dataclass(frozen=True)
class Family:
    """Parents of some seeds with every run that parts from them or differs from them."""

    bed: Bed
    how: LinearConnectivityBed
    seeds: Sequence[int]
    runs: Grown

    @property
    def steps(self) -> int:
        return self.bed.training.steps

    @property
    def ends(self) -> Mapping[str, Params]:
        return self.runs.states[self.steps]

    @property
    def finished(self) -> set[int]:
        """Seeds of which every run stayed finite."""
        fine = self.runs.finished.values()
        return {seed for i, seed in enumerate(self.seeds) if all(bool(one[i]) for one in fine if i < len(one))}


@dataclass(frozen=True)
class Lines:
    """Lines of one kind from `a` to `b` (E, ...), one per seed; `label` is what the rows of a record share."""

    label: tuple
    seeds: Sequence[int]
    a: Params
    b: Params


def observe(settings: Settings) -> dict[str, list]:
    """Records of every family, by file."""
    study = settings.properties.linear_connectivity
    jobs = [
        partial(family_records, settings, model, group)
        for model in MODELS
        for group in dealt(study.seeds[: study.beds[model].parents], study.beds[model].together)
    ]
    found = spread(settings, jobs)
    key = lambda row: [getattr(row, name) for name in row.KEY]  # noqa: E731
    return {name: sorted((row for one in found for row in one[name]), key=key) for name in FILES}


def family_records(settings: Settings, model: str, seeds: Sequence[int]) -> dict[str, list]:
    """Train and measure the families of some parents; a family with a diverged run leaves no rows."""
    torch.set_num_threads(1)
    with counted(f"{model} families", settings.properties.linear_connectivity.beds[model].parents * 4) as advance:
        family = family_of(bed_of(settings, model), settings.properties.linear_connectivity.beds[model], seeds)
        advance(len(seeds), "trained")
        found = dict(zip(FILES[:2], sibling_records(family), strict=True))
        advance(len(seeds), "siblings")
        found |= dict(zip(FILES[2:4], line_records(family), strict=True))
        advance(len(seeds), "lines")
        found["averages"] = average_records(family)
        advance(len(seeds), "averages")
    return {name: [row for row in rows if row.seed in family.finished] for name, rows in found.items()}


def family_of(bed: Bed, how: LinearConnectivityBed, seeds: Sequence[int]) -> Family:
    """All runs of some parents in one cohort, so that what is shared is shared bit for bit."""
    steps, branches = bed.training.steps, branches_of(bed, how, seeds)
    longest = max([0, *(round(fork * steps) for fork in how.full_length)])
    late = [steps + round(fork * steps) for fork in how.full_length]
    wanted = [0, *checkpoints(how, steps), *stretch(how, steps), *late]
    return Family(bed, how, seeds, grown(branches, steps + longest, wanted))


def branches_of(bed: Bed, how: LinearConnectivityBed, seeds: Sequence[int]) -> list[Branch]:
    """Parents; a child of each for every fork; one that never parts; twins of full length; runs at a constant rate."""
    steps = bed.training.steps
    same, never = scheduled("cosine", how.rates["cosine"], steps), parting(2 * steps)
    constant = scheduled("constant", how.rates["constant"], steps)
    branches = [Branch("parent", seeds, bed, same, never), Branch("same order", seeds[:1], bed, same, never)]
    for fork in how.forks:
        branches.append(Branch(_at("child", fork), seeds, bed, same, parting(round(fork * steps))))
    for fork in how.full_length:
        at = round(fork * steps)
        whole = stretched("cosine", how.rates["cosine"], steps, at)
        branches += [Branch(_at(twin, fork), seeds, bed, whole, parting(at, n)) for twin, n in TWINS.items()]
    branches.append(Branch("constant", seeds, bed, constant, never))
    if how.shuffled:
        branches.append(Branch("shuffled", seeds, with_shuffled_labels(bed, 0), constant, never))
    return branches


def _at(name: str, fork: float) -> str:
    return f"{name} {fork:g}"


def checkpoints(how: LinearConnectivityBed, steps: int) -> list[int]:
    """Evenly spaced over the run, the end among them, the start not."""
    return [round(i * steps / how.checkpoints) for i in range(1, how.checkpoints + 1)]


def stretch(how: LinearConnectivityBed, steps: int) -> list[int]:
    """The checkpoints that are averaged: evenly spaced over the last stretch, both of its ends among them."""
    gap = how.stretch / (how.averaged - 1)
    return [round((1 - how.stretch + i * gap) * steps) for i in range(how.averaged)]


def siblings(family: Family) -> list[Lines]:
    """Every two runs that part somewhere, labelled with kind and fork."""
    seeds, how, ends, steps = family.seeds, family.how, family.ends, family.steps
    lines = [Lines(("siblings", fork), seeds, ends["parent"], ends[_at("child", fork)]) for fork in how.forks]
    for fork in how.full_length:
        late = family.runs.states[steps + round(fork * steps)]
        lines.append(Lines(("full_length", fork), seeds, *(late[_at(twin, fork)] for twin in TWINS)))
    first = select(ends["parent"], slice(0, 1))
    return [*lines, Lines(("same_order", SAME_ORDER), seeds[:1], first, ends["same order"])]


def sibling_records(family: Family) -> tuple[list[SiblingBarrier], list[SiblingPoint]]:
    """Barriers by every definition, and the lines they are read from."""
    pairs, how = siblings(family), family.how
    along, labels = measured(family.bed, how, pairs, how.points, how.test_examples), labelled(family, pairs)
    columns = [(split, metric) for split in ("train", "test") for metric in ("loss", "error")]
    barriers = []
    for split, metric in columns:
        values = getattr(along, f"{split}_{metric}")
        heights = zip(*(barrier(values, along.t).tolist() for barrier in BARRIERS.values()), strict=True)
        ends = values[:, [0, -1]].mean(1).tolist()
        rows = zip(labels, ends, heights, strict=True)
        barriers += [SiblingBarrier(*label, split, metric, end, *height) for label, end, height in rows]
    table = torch.stack([getattr(along, f"{split}_{metric}") for split, metric in columns], -1).tolist()
    points = [
        SiblingPoint(*label, t, *values)
        for label, row in zip(labels, table, strict=True)
        for t, values in zip(along.t.tolist(), row, strict=True)
    ]
    return barriers, points


def line_records(family: Family) -> tuple[list[Line], list[LinePoint]]:
    """Lines between the parents' checkpoints, and from starts to their ends; the latter with their points."""
    how, begun = family.how, starts(family)
    within = [
        Lines(("checkpoint", a, b), family.seeds, *(family.runs.states[step]["parent"] for step in (a, b)))
        for a, b in itertools.combinations(checkpoints(how, family.steps), 2)
    ]
    along = measured(family.bed, how, begun, how.start_points)
    points = [
        LinePoint(family.bed.name, start, seed, *values)
        for i, (_, start, _, _, seed) in enumerate(labelled(family, begun))
        for values in zip(along.t.tolist(), along.train_loss[i].tolist(), along.train_error[i].tolist(), strict=True)
    ]
    rows = _lines(family, within, measured(family.bed, how, within, how.points)) + _lines(family, begun, along)
    return rows, points


def starts(family: Family) -> list[Lines]:
    """Lines to the parents' ends from their own initialisation, another one, the origin and noise."""
    seeds, own, end = family.seeds, family.runs.states[0]["parent"], family.ends["parent"]
    other = stack(family.bed.build, [seed + OTHER_ORDER for seed in seeds], family.bed.device)[1]
    places = {"own": own, "other": other} | {name: make(own, seeds) for name, make in REPLACEMENTS.items()}
    return [Lines((name, 0, family.steps), seeds, place, end) for name, place in places.items()]


def _lines(family: Family, lines: Sequence[Lines], along: Profile) -> list[Line]:
    loss, error = along.train_loss, along.train_error
    heights = [barrier(error, along.t) for barrier in BARRIERS.values()]
    table = torch.stack([loss[:, 0], loss[:, -1], climb(loss), drop(loss), *heights], 1).tolist()
    labels = labelled(family, lines)
    return [
        Line(model, start, seed, earlier, later, *values)
        for (model, start, earlier, later, seed), values in zip(labels, table, strict=True)
    ]


def labelled(family: Family, lines: Sequence[Lines]) -> list[tuple]:
    """(model, *label, seed) of every line, in the order of `measured`."""
    return [(family.bed.name, *one.label, seed) for one in lines for seed in one.seeds]


def measured(bed: Bed, how: LinearConnectivityBed, lines: Sequence[Lines], points: int, test: int = UNREAD) -> Profile:
    """All lines of all kinds at once."""
    a, b = ({name: torch.cat([getattr(one, side)[name] for one in lines]) for name in lines[0].a} for side in "ab")
    examples = bed.data.train.examples(how.train_examples), bed.data.test.examples(test)
    network = stack(bed.build, [0], bed.device)[0]
    return profile(network, bed.loss, linear(a, b), *examples, points=points, at_once=how.at_once)


def average_records(family: Family) -> list[Averaged]:
    """Averages and ensembles of the last stretch of every run, and of siblings."""
    how, states, ends, rows = family.how, family.runs.states, family.ends, []
    for arm, name in RUNS.items():
        if name in ends:
            group = [states[step][name] for step in stretch(how, family.steps)]
            rows += averaged(family, arm, 1 - how.stretch, group, _stretch_barriers(family, arm, group))
    for fork in how.forks:
        group = [ends[_at("child", fork)], ends["parent"]]
        rows += averaged(family, "siblings", fork, group, [None] * len(family.seeds))
    return rows


def averaged(
    family: Family, arm: str, fork: float, group: Sequence[Params], barriers: Sequence[float | None]
) -> list[Averaged]:
    """One record per seed; the last of the group is the network that the others are held against."""
    how, data = family.how, family.bed.data
    inputs, examples = data.train.examples(how.train_examples)[0], data.test.examples(how.averaging_examples)
    found = averages(family.runs.network, family.bed.loss, group, inputs, examples)
    # loss and error of the last, of the mean member, of the average, of the ensemble: (8, E)
    table = torch.cat([found.members[-1], found.members.mean(0), found.average, found.ensemble]).T.tolist()
    rows = zip(family.seeds, barriers, table, strict=True)
    return [Averaged(family.bed.name, arm, fork, seed, len(group), height, *row) for seed, height, row in rows]


def _stretch_barriers(family: Family, arm: str, group: Sequence[Params]) -> list[float]:
    """Of the training error, over the line from the first of the averaged checkpoints to the last."""
    bed = with_shuffled_labels(family.bed, 0) if arm == "shuffled" else family.bed
    along = measured(bed, family.how, [Lines((), family.seeds, group[0], group[-1])], family.how.points)
    return over_line(along.train_error, along.t).tolist()
