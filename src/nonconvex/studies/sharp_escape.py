"""From a sharp solution of full-batch descent on: does the noise of small batches lead away from it, or the rate?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nonconvex.beds import Bed, bed_of
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate
from nonconvex.measure.barriers import over_line, profile
from nonconvex.measure.crossing import nearest_crossing
from nonconvex.measure.curves import linear
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.measure.spectrum import extreme_eigenvalues
from nonconvex.models.stacked import Params, flatten, select
from nonconvex.observations.sgd_noise import ContinuedRun
from nonconvex.optimizers import Sgd
from nonconvex.strategies.base import Strategy
from nonconvex.studies.forks import OTHER_ORDER
from nonconvex.studies.matched_noise import MatchedNoise
from nonconvex.studies.training import (
    PLAIN,
    Recipe,
    cohort,
    trained,
    with_architecture,
    with_examples,
    with_loss,
    with_shuffled_labels,
)
from nonconvex.studies.trajectories import repeated, rounded
from nonconvex.study_settings.sgd_noise import Continuation, SgdNoise

SHUFFLE = 0  # seed of the one permutation of the labels that all runs of the control share
TEST_OF_LINE = 1  # the lines are about the training loss


def noise_bed(settings: Settings, loss: str, labels: str = "true") -> Bed:
    """The study's network on its examples. PyTorch's own initial weights start it far below the edge of stability."""
    study = settings.factors.sgd_noise
    bed = with_architecture(bed_of(settings, "mlp"), widths=study.widths, skip=False, gain=None)
    bed = with_loss(with_examples(bed, study.examples), loss)
    return with_shuffled_labels(bed, SHUFFLE) if labels == "shuffled" else bed


def mean_loss(bed: Bed, network: Callable) -> Callable[[Params, Tensor, Tensor], Tensor]:
    """(E,) losses of minibatches x, y (E, B, ...)."""
    return lambda params, x, y: bed.loss(network(params, x), y).mean(1)


@dataclass(frozen=True)
class Group:
    """Arms that advance in one cohort: they share batch size and strategy. `rates` are "new" or "old"."""

    batch_size: int  # 0: full
    arms: tuple[str, ...]
    rates: tuple[str, ...]
    orders: tuple[int, ...]
    noisy: bool = False


def groups(study: SgdNoise, labels: str) -> list[Group]:
    """All arms on true labels; on shuffled ones those of the control."""
    small = Group(study.small, ("small", "small_twin"), ("new", "new"), (0, 1))
    full, noise = Group(0, ("full", "full_old"), ("new", "old"), (0, 0)), Group(0, ("noise",), ("new",), (0,), True)
    if labels == "shuffled":
        return [replace(small, arms=("small",), rates=("new",), orders=(0,)), full, noise]
    return [small, Group(study.large, ("large",), ("new",), (0,)), full, noise]


def continued(settings: Settings, loss: str, labels: str, seeds: Sequence[int]) -> list[ContinuedRun]:
    """The start of every seed, and every arm that goes on from it."""
    torch.set_num_threads(1)
    study, bed = settings.factors.sgd_noise, noise_bed(settings, loss, labels)
    how = study.continuations[loss]
    recipe = Recipe(how.before, batch_size=0, optimizer=Sgd())
    begin = trained(bed, recipe, seeds, [how.rate] * len(seeds))
    scorer = Scorer(settings, bed, begin.network, begin.params)
    keys = [(loss, labels, "start", seed, "start", how.rate, study.examples) for seed in seeds]
    starts = scorer.rows(keys, begin.params, [how.before] * len(seeds), begin.diverged)
    rows = [replace(row, solved=int(row.train_loss is not None and row.train_loss <= how.solved)) for row in starts]
    for group in groups(study, labels):
        rows += followed(scorer, group, how, labels, seeds)
    return rows


def followed(
    scorer: "Scorer", group: Group, how: Continuation, labels: str, seeds: Sequence[int]
) -> list[ContinuedRun]:
    """One cohort from the start, where it first meets the level and at its end."""
    study, bed = scorer.study, scorer.bed
    members = [(arm, rate, order, seed) for arm, rate, order in zip(*_columns(group), strict=True) for seed in seeds]
    rates = [how.new_rate if rate == "new" else how.rate for _, rate, *_ in members]
    orders = [seed + order * OTHER_ORDER for *_, order, seed in members]
    strategy = noise_of(bed, scorer.network, study.small) if group.noisy else PLAIN
    recipe = Recipe(how.after, group.batch_size, optimizer=Sgd(), strategy=strategy)
    _, _, made = cohort(bed, recipe, [seed for *_, seed in members], rates, order=lambda step: orders)
    start = repeated(scorer.start, len(group.arms))
    state, crossing = nearest_crossing(made, start, scorer.objective, how.level, study.stride)
    size = group.batch_size or study.examples
    key = lambda at: [  # noqa: E731
        (bed.training.loss, labels, arm, seed, at, rate, size)
        for (arm, *_, seed), rate in zip(members, rates, strict=True)
    ]
    missing = torch.where(crossing.steps >= 0, -1, 0)  # a run that never got there has no numbers there
    rows = scorer.rows(key("level"), crossing.params, crossing.steps.tolist(), missing, accuracy=False)
    return rows + scorer.rows(key("end"), state.params, [how.after] * len(members), state.diverged)


def _columns(group: Group) -> tuple[tuple, ...]:
    return group.arms, group.rates, group.orders


def noise_of(bed: Bed, network: Callable, batch_size: int) -> Strategy:
    """Isotropic noise as long as that of minibatches of `batch_size`."""
    return MatchedNoise(bed.data.train, mean_loss(bed, network), batch_size)


class Scorer:
    """What is measured at weights: losses, test error, λ_max, and the line to the start.

    Members come arm by arm, each with the seeds in the order of the start's.
    """

    def __init__(self, settings: Settings, bed: Bed, network: Callable, start: Params):
        self.study, self.bed, self.network, self.start = settings.factors.sgd_noise, bed, network, start
        self.train = bed.data.train.examples()
        self.test = bed.data.test.examples(self.study.test_examples)
        self.objective = Objective(network, bed.loss, shared(*self.train))

    def rows(
        self, keys: Sequence[tuple], params: Params, steps: Sequence[int], broken: Tensor, accuracy: bool = True
    ) -> list[ContinuedRun]:
        """A record per member; one with `broken` >= 0 has none of its numbers."""
        kept = [i for i, step in enumerate(broken.tolist()) if step < 0]
        found = dict(zip(kept, self.measured(select(params, kept), kept, accuracy), strict=True)) if kept else {}
        blank = [None] * 7
        return [
            ContinuedRun(*key, step if i in found else None, *found.get(i, blank), None)
            for i, (key, step) in enumerate(zip(keys, steps, strict=True))
        ]

    def measured(self, params: Params, kept: Sequence[int], accuracy: bool) -> list[tuple]:
        """Training loss and error, test error, λ_max, its relative residual, barrier and distance of each member."""
        e, seeds = len(kept), len(next(iter(self.start.values())))
        start = select(self.start, [i % seeds for i in kept])
        losses, errors = evaluate(self.network, params, {}, self.train, self.bed.loss)
        unknown = torch.full((e,), torch.nan)
        test = evaluate(self.network, params, {}, self.test, self.bed.loss)[1] if accuracy else unknown
        lanczos = self.study.lanczos
        top = extreme_eigenvalues(
            Hessian(self.objective, params), lanczos.iterations, lanczos.tolerance, ends="largest"
        ).largest
        few = tuple(part[:TEST_OF_LINE] for part in self.train)
        along = profile(self.network, self.bed.loss, linear(start, params), self.train, few, self.study.points, e)
        columns = (
            losses,
            errors,
            test,
            top.value,
            top.residual / top.value.abs(),
            over_line(along.train_loss, along.t),
            (flatten(params) - flatten(start)).norm(dim=1),
        )
        return list(zip(*([rounded(value) for value in column] for column in columns), strict=True))
