"""Mode connectivity: pairs of independent networks, and four kinds of path between the two of each pair.

Straight, straight after weight matching, a trained Bezier curve and AutoNEB. The learned paths cost the same number
of gradients, see training examples only, and batch-norm statistics are recomputed wherever a path is evaluated.
Controls: the straight line after a random renumbering of units; curves between the same networks before their
training; curves to a partner that was trained on shuffled labels; and curves from each pair to the next.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import log

import torch
from torch import Tensor

from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import ConnectivitySettings, Settings
from nonconvex.evaluation import shared
from nonconvex.measure.autoneb import Plan, Polyline, train_band
from nonconvex.measure.barriers import Profile, over_line, over_mean, over_worse_end, profile
from nonconvex.measure.connectivity import METRICS, SPLITS, Pair, Problem, aligned, curve, straight
from nonconvex.measure.curves import Path, linear
from nonconvex.measure.permutation import permute, random_permutations
from nonconvex.measure.symmetries import symmetries
from nonconvex.models.stacked import Params, Stacked, members, select, stack
from nonconvex.observations.mode_connectivity import Along, Endpoint, Height
from nonconvex.plan import dealt
from nonconvex.studies import training
from nonconvex.study_settings.properties import Band, Connected

MODELS = ("resnet", "transformer")
COHORT = 13  # pairs whose curves are trained in lockstep
DIGITS = 6  # of what is only drawn


@dataclass(frozen=True)
class Arm:
    """A model at a width."""

    model: str
    width: int


@dataclass(frozen=True)
class Network:
    """The weights, without a member axis, of one network before and after training, and its record."""

    record: Endpoint
    initial: dict[str, Tensor]
    final: dict[str, Tensor]


@dataclass(frozen=True)
class Joined:
    """A pair to be joined: replicate, kind of ends, and the two networks' seeds and weights."""

    seed: int
    ends: str
    seeds: tuple[int, int]
    a: dict[str, Tensor]
    b: dict[str, Tensor]


Found = tuple[list[Height], list[Along]]


def observe(settings: Settings) -> dict[str, list]:
    """All networks, then all paths: records `endpoints`, `heights` and, of the beds at their own width, `along`."""
    trained = [network for part in spread(settings, list(training_jobs(settings))) for network in part]
    found = spread(settings, list(path_jobs(settings, trained)))
    own = main_arms(settings)
    return {
        "endpoints": [network.record for network in trained],
        "heights": [row for heights, _ in found for row in heights],
        "along": [row for _, rows in found for row in rows if Arm(row.model, row.width) in own],
    }


def main_arms(settings: Settings) -> list[Arm]:
    """The beds at their own width."""
    return [Arm(model, settings.train[model].architecture["width"]) for model in MODELS]


def training_jobs(settings: Settings) -> Iterator[Callable[[], list[Network]]]:
    """A cohort per arm, side of the pairs and labels."""
    s, (resnet, transformer) = settings.properties.mode_connectivity, main_arms(settings)
    few, partners = s.seeds[: s.controls], [seed + s.partner for seed in s.seeds]
    for width in sorted(s.widths, reverse=True):
        yield partial(train_networks, settings, Arm("resnet", width), "true", [*few, *partners[: s.controls]])
    yield partial(train_networks, settings, transformer, "true", [*few, *partners[: s.controls]])
    for seeds in (s.seeds, partners):
        yield partial(train_networks, settings, resnet, "true", seeds)
    yield partial(train_networks, settings, resnet, "shuffled", partners[: s.controls])


def bed_at(settings: Settings, arm: Arm) -> Bed:
    """The arm's test bed."""
    return training.with_architecture(bed_of(settings, arm.model), width=arm.width)


def chosen(settings: Settings, arm: Arm) -> Connected:
    """The study's settings for the arm's model."""
    return getattr(settings.properties.mode_connectivity, arm.model)


def train_networks(settings: Settings, arm: Arm, labels: str, seeds: Sequence[int]) -> list[Network]:
    """A network per seed, trained on the true labels or on one shuffling of them, and scored on the true ones."""
    torch.set_num_threads(1)
    bed, s = bed_at(settings, arm), chosen(settings, arm)
    taught = bed if labels == "true" else training.with_shuffled_labels(bed, seeds[0])
    initial = stack(bed.build, seeds, bed.device)[1]
    end = training.trained(taught, training.Recipe(s.steps, schedule="cosine"), seeds, [s.rate] * len(seeds))
    finished = end.diverged < 0
    scores = [
        torch.stack(training.scores(bed, end.network, end.params, split, count), 1).tolist()
        for split, count in (("train", s.train_examples), ("test", s.test_examples))
    ]
    records = [
        Endpoint(
            *(arm.model, arm.width, labels, seed, s.rate, s.steps),
            None if finished[i] else int(end.diverged[i]),
            log(bed.data.classes),
            *([*scores[0][i], *scores[1][i]] if finished[i] else [None] * 4),
        )
        for i, seed in enumerate(seeds)
    ]
    return [Network(record, _one(initial, i), _one(end.params, i)) for i, record in enumerate(records)]


def _one(params: Params, i: int) -> dict[str, Tensor]:
    return {name: value[i].cpu() for name, value in params.items()}


def path_jobs(settings: Settings, trained: Sequence[Network]) -> Iterator[Callable[[], Found]]:
    """Every kind of path that an arm is given, in cohorts; the dearest first."""
    s, (resnet, transformer) = settings.properties.mode_connectivity, main_arms(settings)
    few, pairs = s.seeds[: s.controls], partial(joined, s.partner, trained)
    own = pairs(resnet, "trained", s.seeds)
    beyond = {ends: pairs(resnet, ends, few) for ends in ("next", "initial", "shuffled")}
    cohorts = [("bezier", resnet, part) for part in dealt([*own, *itertools.chain(*beyond.values())], COHORT)]
    cohorts += [("bezier", Arm("resnet", w), pairs(Arm("resnet", w), "trained", few)) for w in s.widths]
    cohorts += [("autoneb", resnet, part) for part in dealt(own, COHORT // 2)]
    cohorts += [("bezier", transformer, pairs(transformer, "trained", few))]
    cohorts += [("linear", resnet, [*own, *beyond["shuffled"]]), ("aligned", resnet, own)]
    for kind in ("linear", "aligned"):
        cohorts += [(kind, Arm("resnet", w), pairs(Arm("resnet", w), "trained", few)) for w in s.widths]
        cohorts += [(kind, transformer, pairs(transformer, "trained", few))]
    cohorts += [("renumbered", arm, pairs(arm, "trained", few)) for arm in (resnet, transformer)]
    return (partial(measure, settings, *cohort) for cohort in cohorts if cohort[-1])


def joined(partner: int, trained: Sequence[Network], arm: Arm, ends: str, seeds: Sequence[int]) -> list[Joined]:
    """A pair per seed and its partner; `next` joins each partner to the following seed, around the ring.

    A pair that lacks an end, because it diverged, is left out.
    """
    labels = "shuffled" if ends == "shuffled" else "true"
    found = {(_arm(n), n.record.labels, n.record.seed): n for n in trained if n.record.diverged_step is None}
    following = dict(zip(seeds, [*seeds[1:], seeds[0]], strict=True))
    pairs = []
    for seed in seeds:
        a, b = (seed + partner, following[seed]) if ends == "next" else (seed, seed + partner)
        first, last = found.get((arm, "true", a)), found.get((arm, labels, b))
        if first and last:
            weights = (n.initial if ends == "initial" else n.final for n in (first, last))
            pairs.append(Joined(seed, ends, (a, b), *weights))
    return pairs


def _arm(network: Network) -> Arm:
    return Arm(network.record.model, network.record.width)


def measure(settings: Settings, kind: str, arm: Arm, pairs: Sequence[Joined]) -> Found:
    """One kind of path between the ends of every pair, and what was found along it."""
    torch.set_num_threads(1)
    s, bed = chosen(settings, arm), bed_at(settings, arm)
    module = bed.build().to(bed.device)
    problem = Problem(Stacked(module), symmetries(module), bed.loss, bed.data, _as_connectivity(s))
    a, b = (_stacked([getattr(pair, side) for pair in pairs], bed.device) for side in "ab")
    draws = [Pair(arm.model, "none", "cosine", *pair.seeds).seed for pair in pairs]
    path = PATHS[kind](problem, a, b, draws, settings.properties.mode_connectivity.band)
    train, test = bed.data.train.examples(s.train_examples), bed.data.test.examples(s.test_examples)
    found = profile(problem.network, bed.loss, path, train, test, s.points, s.at_once)
    cost = s.curve_steps if kind in LEARNED else 0
    names = [(arm.model, arm.width, pair.ends, kind, pair.seed) for pair in pairs]
    return list(heights(names, found, cost)), list(along(names, found))


def _as_connectivity(s: Connected) -> ConnectivitySettings:
    return ConnectivitySettings(curve_steps=s.curve_steps, curve_rate=s.curve_rate, batch_size=s.batch_size)


def _stacked(weights: Sequence[dict[str, Tensor]], device: str) -> Params:
    return {name: torch.stack([one[name] for one in weights]).to(device) for name in weights[0]}


def renumbered(problem: Problem, a: Params, b: Params, seeds: Sequence[int], band: Band) -> Path:
    """The straight line to `b` with its units renumbered at random: other weights, the same function."""
    generator = torch.Generator().manual_seed(seeds[0])
    return linear(a, permute(b, problem.spec, random_permutations(b, problem.spec, generator)))


def autoneb(problem: Problem, a: Params, b: Params, seeds: Sequence[int], band: Band) -> Polyline:
    """The AutoNEB chain; all networks of a chain see the same minibatches."""
    s, (x, y) = problem.settings, problem.data.train.examples(band.examples)

    def losses(params: Params, step: int) -> Tensor:
        each = members(params) // len(seeds)
        batch = (part.repeat_interleave(each, 0) for part in problem.data.train.batch(seeds, step, s.batch_size))
        inputs, targets = batch
        return problem.loss(problem.network(params, inputs), targets).mean(1)

    @torch.no_grad()
    def levels(params: Params) -> Tensor:
        parts = [select(params, i) for i in torch.arange(members(params)).split(s.at_once)]
        on = [(problem.network(p, shared(x, members(p))), shared(y, members(p))) for p in parts]
        return torch.cat([problem.loss(*one).mean(1) for one in on])

    steps = s.curve_steps // band.gradients
    return train_band(losses, levels, a, b, Plan(band.cycles, steps, band.pivots, band.inserted, band.rate))


def _plain(path: Callable) -> Callable:
    return lambda problem, a, b, seeds, band: path(problem, a, b, seeds)


PATHS: dict[str, Callable[[Problem, Params, Params, Sequence[int], Band], Path | Polyline]] = {
    "linear": _plain(straight),
    "aligned": _plain(aligned),
    "bezier": _plain(curve),
    "renumbered": renumbered,
    "autoneb": autoneb,
}
LEARNED = ("bezier", "autoneb")


def heights(names: Sequence[tuple], found: Profile, cost: int) -> Iterator[Height]:
    """One record per path, split and metric."""
    for split, metric in itertools.product(SPLITS, METRICS):
        values = getattr(found, f"{split}_{metric}")
        columns = [values[:, 0], values[:, -1], values.amax(1), values.amin(1)]
        columns += [barrier(values, found.t) for barrier in (over_line, over_mean, over_worse_end)]
        for name, row in zip(names, torch.stack(columns, 1).tolist(), strict=True):
            yield Height(*name, split, metric, cost, *row)


def along(names: Sequence[tuple], found: Profile) -> Iterator[Along]:
    """One record per path and place."""
    table = torch.stack([getattr(found, f"{split}_{metric}") for split in SPLITS for metric in METRICS], -1).tolist()
    for name, rows in zip(names, table, strict=True):
        for t, values in zip(found.t.tolist(), rows, strict=True):
            yield Along(*name, t, *(float(f"{value:.{DIGITS}g}") for value in values))
