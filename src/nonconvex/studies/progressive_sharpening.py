"""λ_max along training: does it rise, from gradient-flow-like to large rates, and what does a decay of the rate do?

Full-batch gradient descent under squared error and cross-entropy (Cohen et al. 2021 named the rise), and a ResNet under
minibatch SGD at two rates and two batch sizes (Jastrzębski et al. 2020: what keeps λ_max low).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate
from nonconvex.models.stacked import Stacked, stack
from nonconvex.observations.progressive_sharpening import FlowPoint, FlowRun, SgdPoint
from nonconvex.optimizers import Sgd
from nonconvex.schedules import Factory, constant, cosine, step_decay
from nonconvex.studies.draws import OTHER
from nonconvex.studies.training import PLAIN, Recipe, cohort, with_shuffled_labels
from nonconvex.studies.trajectories import (
    Probe,
    Reading,
    evenly,
    initial_sharpness,
    pushed,
    readings,
    rounded,
    smooth_bed,
)
from nonconvex.study_settings.properties import Decay, Flow, ProgressiveSharpening, SgdArms
from nonconvex.train import rate_table

MODELS = ("mlp", "resnet")
SHUFFLE = 0  # seed of the one permutation of the labels that all runs of the control share
ENDS = 2  # readings: the start and the end


def observe(settings: Settings) -> dict[str, list]:
    """Records by file name: full-batch runs and their points, and the points of minibatch runs."""
    study = settings.properties.progressive_sharpening
    sgd = [partial(minibatch, settings, model, arm) for model, arms in study.sgd.items() for arm in sgd_arms(arms)]
    flows = [(loss, at) for loss, every in study.flows.items() for at in every]
    flows.sort(key=lambda one: -one[1].steps)  # the longest first, so that all cores end together
    full = [partial(flow, settings, *one) for one in flows] + [partial(decays, settings, loss) for loss in study.decays]
    found = spread(settings, sgd + full)
    points = [row for rows in found[: len(sgd)] for row in rows]
    runs, along = ([row for pair in found[len(sgd) :] for row in pair[i]] for i in (0, 1))
    return {"runs": sorted(runs, key=_order), "points": sorted(along, key=_order), "sgd": sorted(points, key=_order)}


def _order(row: FlowRun | FlowPoint | SgdPoint) -> tuple:
    return tuple(getattr(row, name) for name in row.KEY)


Pair = tuple[list[FlowRun], list[FlowPoint]]


def flow_bed(settings: Settings, loss: str) -> Bed:
    """The study's network and examples under a loss."""
    study = settings.properties.progressive_sharpening
    return smooth_bed(bed_of(settings, "mlp"), loss, study.examples, study.widths)


def flow(settings: Settings, loss: str, at: Flow) -> Pair:
    """One cohort at a constant rate, followed to the end."""
    torch.set_num_threads(1)
    return follow(
        settings,
        flow_bed(settings, loss),
        at,
        {"constant": constant},
        settings.properties.progressive_sharpening.readings,
    )


def decays(settings: Settings, loss: str) -> Pair:
    """What a decay does at one peak rate, with the controls: labels that hold nothing, and weights pushed a little."""
    torch.set_num_threads(1)
    at, bed = settings.properties.progressive_sharpening.decays[loss], flow_bed(settings, loss)
    drop = partial(step_decay, milestones=(at.drop_at,), factor=at.factor)
    arms = {"constant": constant, "jostled": constant, "cosine": cosine, "dropped": drop}
    true = follow(settings, bed, at, arms, at.readings)
    shuffled = with_shuffled_labels(bed, SHUFFLE)
    control = follow(settings, shuffled, at, {"shuffled": constant, "shuffled_cosine": cosine}, ENDS)
    return true[0] + control[0], true[1] + control[1]


def follow(settings: Settings, bed: Bed, at: Flow | Decay, arms: Mapping[str, Factory], count: int) -> Pair:
    """One cohort, a member per arm and seed, with `count` readings along the way and scores at the end."""
    study = settings.properties.progressive_sharpening
    keys = [(bed.training.loss, at.share, arm, seed) for arm in arms for seed in study.seeds]
    begin = torch.cat([peaks(bed, study, at.share)] * len(arms))
    recipe = Recipe(at.steps, batch_size=0, optimizer=Sgd())
    network, params, made = cohort(bed, recipe, [seed for *_, seed in keys], begin.tolist())
    table = rate_table([factory for factory in arms.values() for _ in study.seeds], begin.tolist(), at.steps, PLAIN)
    made = replace(made, rates=table.to(bed.device))
    if "jostled" in arms:
        params = pushed(params, list(arms).index("jostled"), len(study.seeds), at.jostle)
    probe = Probe(bed, network, Sgd(), study.lanczos)
    found = list(readings(probe, made, train.start(made, params), evenly(at.steps, count)))
    points = [FlowPoint(*key, read.step, **_cells(read, i)) for _, read in found for i, key in enumerate(keys)]
    return _runs(bed, network, found[-1], keys, begin, at.steps), points


def peaks(bed: Bed, study: ProgressiveSharpening, share: float) -> Tensor:
    """(E,) in float64: `share` of each seed's own 2 / λ_max at its initial weights."""
    network, params = stack(bed.build, study.seeds, bed.device)
    return share * 2 / initial_sharpness(bed, network, params, study.lanczos)


def _runs(
    bed: Bed, network: Stacked, end: tuple[train.State, Reading], keys: list[tuple], rates: Tensor, steps: int
) -> list[FlowRun]:
    state, last = end
    test = evaluate(network, state.params, {}, bed.data.test.examples(bed.training.test_examples), bed.loss)
    rows = []
    for i, (key, frozen) in enumerate(zip(keys, state.diverged.tolist(), strict=True)):
        scores = [last.losses[i], last.errors[i], *(part[i] if frozen < 0 else torch.nan for part in test)]
        rows.append(FlowRun(*key, rounded(rates[i]), steps, frozen if frozen >= 0 else None, *map(rounded, scores)))
    return rows


def _cells(reading: Reading, member: int) -> dict[str, float | None]:
    return {name: value for name, value in reading.cells(member).items() if name != "rises"}


@dataclass(frozen=True)
class SgdArm:
    """Runs of one batch size in lockstep: `rates` and `orders` of the groups, one member per seed each."""

    batch_size: int
    rates: tuple[float, ...]
    orders: tuple[int, ...]


def sgd_arms(arms: SgdArms) -> list[SgdArm]:
    """Both rates at the small batch, with the control of another data order; the high rate at the large batch."""
    (low, high), (small, large) = arms.rates, arms.batch_sizes
    return [SgdArm(small, (low, high, high), (0, 0, 1)), SgdArm(large, (high,), (0,))]


def minibatch(settings: Settings, model: str, arm: SgdArm) -> list[SgdPoint]:
    """One cohort of a model under SGD without momentum or weight decay."""
    torch.set_num_threads(1)
    study, bed = settings.properties.progressive_sharpening, bed_of(settings, model)
    how = study.sgd[model]
    seeds, kinds = study.seeds[: how.replicates], zip(arm.rates, arm.orders, strict=True)
    groups = [(rate, order, seed) for rate, order in kinds for seed in seeds]
    recipe = Recipe(how.steps, arm.batch_size, optimizer=Sgd())
    orders = [seed + order * OTHER for _, order, seed in groups]
    network, params, made = cohort(bed, recipe, [g[2] for g in groups], [g[0] for g in groups], lambda step: orders)
    probe, points = Probe(bed, network, Sgd(), study.lanczos, how.examples, how.scored), []
    for _, read in readings(probe, made, train.start(made, params), evenly(how.steps, how.readings)):
        keys = enumerate((model, rate, arm.batch_size, order, seed, read.step) for rate, order, seed in groups)
        points += [SgdPoint(*key, **_cells(read, i)) for i, key in keys]
    return points
