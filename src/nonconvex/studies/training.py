"""Cohorts for studies: runs of one bed that differ in seed and rate, from any start, with any batch size."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed
from nonconvex.data.splits import Arrays, permutation
from nonconvex.evaluation import evaluate, recomputed, shared
from nonconvex.models.stacked import Stacked, stack
from nonconvex.optimizers import OPTIMIZERS, AdamW, Sgd
from nonconvex.schedules import SCHEDULES, Factory
from nonconvex.strategies.base import Strategy
from nonconvex.tensors import Params

PLAIN = Strategy()
LABELS = 1 << 30  # epoch number of the permutation that shuffles labels: no training run gets there


@dataclass(frozen=True)
class Recipe:
    """How the runs of a cohort are trained; what is None is the bed's own. `batch_size=0` is the full batch.

    `schedule` is a name of SCHEDULES or a factory like those there.
    """

    steps: int
    batch_size: int | None = None
    schedule: str | Factory = "constant"
    optimizer: Sgd | AdamW | None = None
    strategy: Strategy = PLAIN


@dataclass(frozen=True)
class Trained:
    """A cohort at the end of its training; `diverged` holds the step at which a member was frozen, -1 for none."""

    network: Stacked
    params: Params
    diverged: Tensor  # (E,)


def cohort(
    bed: Bed,
    recipe: Recipe,
    seeds: Sequence[int],
    rates: Sequence[float],
    order: Callable | None = None,
    schedules: Sequence[str | Factory] | None = None,
) -> tuple[Stacked, Params, train.Cohort]:
    """The stacked network at its initial weights, and the loop's view of a run per seed and peak rate.

    `order(step)` gives the seeds of data order where they are not those of the initial weights; `schedules` each
    member's own schedule where they are not all the recipe's.
    """
    network, params = stack(bed.build, seeds, bed.device)
    size = bed.training.batch_size if recipe.batch_size is None else recipe.batch_size
    factories = [factory(schedule) for schedule in schedules or [recipe.schedule] * len(rates)]
    made = train.Cohort(
        loss=bed.minibatch_losses(network),
        batch=partial(bed.data.train.batch, batch_size=size) if size else full_batch(bed),
        rates=train.rate_table(factories, rates, recipe.steps, recipe.strategy).to(bed.device),
        order=order or (lambda step: seeds),
        optimizer=recipe.optimizer or OPTIMIZERS[bed.training.optimizer.name](**bed.training.optimizer.options),
        strategy=recipe.strategy.bind(recipe.steps),
    )
    return network, params, made


def factory(schedule: str | Factory) -> Factory:
    """The schedule behind a name of SCHEDULES; a factory stays what it is."""
    return SCHEDULES[schedule] if isinstance(schedule, str) else schedule


def full_batch(bed: Bed) -> Callable[[Sequence[int], int], tuple[Tensor, Tensor]]:
    """Every training example at every step."""
    x, y = bed.data.train.examples()
    return lambda seeds, step: (shared(x, len(seeds)), shared(y, len(seeds)))


def trained(
    bed: Bed,
    recipe: Recipe,
    seeds: Sequence[int],
    rates: Sequence[float],
    schedules: Sequence[str | Factory] | None = None,
) -> Trained:
    """A run per seed and peak rate, trained to the end."""
    network, params, made = cohort(bed, recipe, seeds, rates, schedules=schedules)
    (end,) = deque(train.train(made, train.start(made, params)), maxlen=1)
    return Trained(network, made.strategy.evaluation_params(end.memory, end.params), end.diverged)


def scores(bed: Bed, network: Stacked, params: Params, split: str, count: int | None = None) -> tuple[Tensor, Tensor]:
    """(losses (E,), errors (E,)) on a split, with normalisation statistics recomputed at `params`."""
    statistics = recomputed(network, params, bed.statistics_inputs())
    return evaluate(network, params, statistics, getattr(bed.data, split).examples(count), bed.loss)


def with_architecture(bed: Bed, **changes) -> Bed:
    """The bed with some of its architecture's options changed."""
    architecture = {**bed.training.architecture, **changes}
    return replace(bed, training=bed.training.model_copy(update={"architecture": architecture}))


def with_loss(bed: Bed, name: str) -> Bed:
    """The bed with another loss, a name of LOSSES."""
    return replace(bed, training=bed.training.model_copy(update={"loss": name}))


def with_examples(bed: Bed, count: int) -> Bed:
    """The bed with `count` evenly spaced training examples."""
    return replace(bed, data=replace(bed.data, train=Arrays(*bed.data.train.examples(count))))


def with_shuffled_labels(bed: Bed, seed: int) -> Bed:
    """The bed with its training labels dealt out at random: nothing can be learned but by heart."""
    x, y = bed.data.train.examples()
    order = torch.from_numpy(permutation(len(y), seed, LABELS).copy()).to(y.device)
    return replace(bed, data=replace(bed.data, train=Arrays(x, y[order])))


def snapshots(made: train.Cohort, params: Params, steps: Sequence[int]) -> Iterator[train.State]:
    """The states after the given numbers of updates, in order, the start (0) among them if asked for."""
    begin, wanted = train.start(made, params), set(steps)
    states = itertools.chain([begin], train.train(made, begin))
    yield from (state for state in states if state.step in wanted)
