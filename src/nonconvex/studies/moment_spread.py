"""How far Adam's second moments depend on which minibatches they have seen, and what that does to a first update."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of
from nonconvex.config import Settings
from nonconvex.models.stacked import flatten
from nonconvex.observations.warmup import FirstUpdate, MomentSpread
from nonconvex.optimizers import AdamW
from nonconvex.studies.draws import OTHER
from nonconvex.studies.training import Recipe, cohort, snapshots
from nonconvex.studies.trajectories import rounded
from nonconvex.studies.warmed_arms import NONE, VARIANTS, Cell, begun, factory_of, optimizer_of
from nonconvex.study_settings.warmup import WarmedBed
from nonconvex.tensors import Params

BED = "mlp"
FIRST_UPDATES = (NONE, *VARIANTS[:2])  # the variants that change it for the sake of second moments


def observed(settings: Settings, tuned: float) -> dict[str, list]:
    """Records of the spread of second moments and of first updates, every seed of the bed by itself."""
    torch.set_num_threads(1)
    study = settings.strategies.warmup
    how, orders = study.beds[BED], study.second_moments.orders
    bed, seeds, moments = bed_of(settings, how.model), study.seeds[: how.replicates], []
    for seed in seeds:
        for weights, rate in (("frozen", 0.0), ("trained", tuned)):
            for step, second in seconds(bed, how, seed, orders, rate, study.second_moments.steps):
                moments.append(MomentSpread(BED, weights, seed, step, orders, rounded(variation(second))))
    return {"moments": moments, "updates": first_updates(bed, how, seeds, tuned)}


def seconds(
    bed: Bed, how: WarmedBed, seed: int, orders: int, rate: float, steps: Sequence[int]
) -> list[tuple[int, Tensor]]:
    """(step, bias-corrected second moments (orders, P)) of runs from the weights of `seed`, each with its own order.

    At rate zero the weights stay where they are.
    """
    recipe = Recipe(how.steps, how.batch_size, factory_of(how, 0.0), optimizer_of(how))
    own = [seed + OTHER * place for place in range(orders)]
    _, params, made = cohort(bed, recipe, [seed] * orders, [rate] * orders, lambda step: own)
    made = replace(made, rates=made.rates[: max(steps)])
    # v / (1 - b2^t)
    return [(s.step, corrected(made.optimizer, s)) for s in snapshots(made, params, steps)]


def corrected(optimizer: AdamW, state: train.State) -> Tensor:
    """(E, P) second moments with Adam's correction of their bias."""
    return flatten(state.optimizer["second"]).double() / (1 - optimizer.beta2**state.step)


def variation(second: Tensor) -> float:
    """Median over parameters of standard deviation over mean, along the first axis of (orders, P).

    Parameters without a gradient in any order (behind a unit that is off) have no say.
    """
    mean = second.mean(0)
    alive = mean > 0
    return (second.std(0)[alive] / mean[alive]).median().item()


def first_updates(bed: Bed, how: WarmedBed, seeds: Sequence[int], rate: float) -> list[FirstUpdate]:
    """Length of the first update of Adam and of two variants."""
    rows = []
    for arm in FIRST_UPDATES:
        begin = begun(bed, how, [Cell(BED, arm, "true", "own", seed, rate) for seed in seeds])
        (after,) = deque(train.train(begin.made, begin.state, 1), maxlen=1)
        lengths = moved(begin.state.params, after.params) / rate
        rows += [FirstUpdate(BED, arm, seed, rounded(x, 7)) for seed, x in zip(seeds, lengths.tolist(), strict=True)]
    return rows


def moved(before: Params, after: Params) -> Tensor:
    """(E,) root mean square over parameters of the way between two points."""
    return (flatten(after).double() - flatten(before).double()).square().mean(1).sqrt()
