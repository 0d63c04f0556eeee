"""Cohorts whose members are clipped at thresholds of their own, and what is read from every update."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of
from nonconvex.config import Settings
from nonconvex.data.splits import Arrays, permutation
from nonconvex.measure.gradient_norms import Recorded
from nonconvex.models.gru import Gru
from nonconvex.models.stacked import Stacked, flatten
from nonconvex.optimizers import OPTIMIZERS, AdamW, Sgd
from nonconvex.strategies.base import value_and_gradient
from nonconvex.studies.training import LABELS, Recipe, cohort, full_batch
from nonconvex.studies.training import with_examples as on_examples
from nonconvex.tensors import Params

WINDOW, FACTOR = 20, 2.0  # a spike: more than FACTOR times the mean of the WINDOW losses before


class GruBed(Bed):
    """The bed of the recurrent network, on the data of the MLP."""

    def build(self) -> torch.nn.Module:
        return Gru(classes=self.data.classes, **self.training.architecture)


def clipped_bed(settings: Settings, name: str) -> tuple[Bed, Sgd | AdamW]:
    """A bed by its name in the study's settings, and its optimizer."""
    how = settings.strategies.clipping
    if not name.startswith("gru"):
        bed = bed_of(settings, name)
        return bed, OPTIMIZERS[bed.training.optimizer.name](**bed.training.optimizer.options)
    bed = bed_of(settings, "mlp")
    architecture = {"hidden": how.gru.hidden, "read": how.gru.read, "length": bed.data.train.x.shape[1]}
    training = bed.training.model_copy(update={"architecture": architecture})
    optimizer = Sgd(momentum=how.gru.momentum) if name == "gru_sgd" else AdamW(weight_decay=0.0)
    return GruBed(name, training, bed.data, bed.device), optimizer


class OwnLabels(Arrays):
    """Examples whose labels are dealt out at random, to every seed of data order in its own way."""

    def batch(self, seeds: Sequence[int], step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        places = Arrays(self.x, torch.arange(len(self), device=self.y.device))
        x, index = places.batch(seeds, step, batch_size)
        dealt = np.stack([permutation(len(self), seed, LABELS) for seed in seeds])
        return x, self.y[torch.from_numpy(dealt).to(index.device).gather(1, index)]


def with_own_labels(bed: Bed) -> Bed:
    """The bed whose every seed has training labels shuffled in its own way."""
    return replace(bed, data=replace(bed.data, train=OwnLabels(bed.data.train.x, bed.data.train.y)))


@dataclass(frozen=True)
class Watched:
    """A cohort at its end, its minibatch losses (steps, E), and the norms and factors of its gradients."""

    network: Stacked
    end: train.State
    losses: Tensor
    gradients: Recorded

    @property
    def spikes(self) -> Tensor:
        """(E,) number of updates whose loss was above FACTOR times the mean of the WINDOW before; a divergence is one.

        No update among the first WINDOW can be one.
        """
        if len(self.losses) <= WINDOW:
            return (self.end.diverged >= 0).long()
        before = self.losses.double().unfold(0, WINDOW, 1).mean(-1)[:-1]
        return (self.losses[WINDOW:] > FACTOR * before).sum(0) + (self.end.diverged >= 0)


def watched(
    bed: Bed,
    optimizer: Sgd | AdamW,
    size: tuple[int, int],
    seeds: Sequence[int],
    rates: Sequence[float],
    thresholds: Sequence[float],
) -> Watched:
    """Train a run per seed, peak rate and threshold at constant rates; `size` is (steps, batch size)."""
    strategy = Recorded(torch.tensor(thresholds, device=bed.device))
    recipe = Recipe(*size, optimizer=optimizer, strategy=strategy)
    network, params, made = cohort(bed, recipe, seeds, rates)
    losses = []
    for end in train.train(made, train.start(made, params)):
        losses.append(end.losses)
    return Watched(network, end, torch.stack(losses), strategy)


def local_smoothness(
    bed: Bed, optimizer: Sgd | AdamW, size: tuple[int, int], members: tuple, points: int, examples: int
) -> tuple[list[int], Tensor]:
    """Steps, and (points, 3, E): |g|, L = |g(w + d) - g(w)| / |d| and |d| for the update d that follows each step.

    Zhang et al. 2020, arXiv 1905.11881, section 5, at the far end of the update only; g is the gradient on the same
    `examples` training examples before and after. `members` are (seeds, rates); training is without clipping.
    """
    seeds, rates = members
    network, params, made = cohort(bed, Recipe(*size, optimizer=optimizer), seeds, rates)
    x, y = full_batch(on_examples(bed, examples))(seeds, 0)
    last = size[0] - 1
    steps = sorted({round(i * last / (points - 1)) for i in range(points)})
    state, read = train.start(made, params), []
    for step in range(last + 1):
        begin, state = state, train.advance(made, state, step)
        if step in steps:
            read.append(_change(lambda at: bed.loss(network(at, x), y).mean(1), begin.params, state))
    return steps, torch.stack(read)


def _change(loss, before: Params, after: train.State) -> Tensor:
    """(3, E): |g|, L and |d|; NaN for a frozen member."""
    g, h = (flatten(value_and_gradient(at, loss)[1]).double() for at in (before, after.params))
    d = (flatten(after.params).double() - flatten(before).double()).norm(dim=1)
    found = torch.stack([g.norm(dim=1), (h - g).norm(dim=1) / d, d])
    return found.masked_fill(after.diverged >= 0, torch.nan)
