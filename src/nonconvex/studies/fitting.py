"""Runs that learn a few examples by heart, each its own: how many updates until they fit, and where they then are."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed
from nonconvex.data.splits import Arrays, permutation
from nonconvex.measure.matched import Crossing
from nonconvex.models.stacked import Stacked
from nonconvex.optimizers import Sgd
from nonconvex.studies.training import LABELS, Recipe, cohort
from nonconvex.tensors import Params

SUBSET = LABELS + 1  # epoch number of the permutation that picks a replicate's examples
Over = Callable[[train.State, Tensor], bool]
DESCENT = Sgd()  # plain: no momentum, no weight decay


@dataclass(frozen=True)
class Member:
    """A run: `seed` draws its examples, their labels and the order of its minibatches, `start` its initial weights."""

    seed: int
    start: int
    labels: str  # clean or random
    rate: float


@dataclass(frozen=True)
class Examples:
    """Every member's own training set: x (E, n, *features), y (E, n)."""

    x: Tensor
    y: Tensor

    def full(self, seeds: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
        return self.x, self.y

    def minibatch(self, seeds: Sequence[int], step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Batch number `step` of each member, in the order of its seed."""
        places = torch.arange(self.x.shape[1])
        index, _ = Arrays(places, places).batch(seeds, step, batch_size)
        index, rows = index.to(self.x.device), torch.arange(len(index), device=self.x.device)[:, None]
        return self.x[rows, index], self.y[rows, index]


def examples_of(bed: Bed, members: Sequence[Member], count: int) -> Examples:
    """`count` training examples per member. Random labels are the clean ones dealt out anew among the same inputs."""
    x, y = bed.data.train.examples()
    parts = []
    for member in members:
        index = torch.from_numpy(permutation(len(y), member.seed, SUBSET)[:count].copy()).to(y.device)
        order = torch.from_numpy(permutation(count, member.seed, LABELS).copy()).to(y.device)
        parts.append((x[index], y[index][order] if member.labels == "random" else y[index]))
    return Examples(*(torch.stack(part) for part in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Race:
    """A cohort of members at its start."""

    network: Stacked
    params: Params  # initial
    examples: Examples
    made: train.Cohort
    stride: int  # updates between two looks at the training loss


@dataclass(frozen=True)
class Finish:
    """A race when it was stopped, after `steps` updates: a crossing per level, and the training losses (E,) then."""

    steps: int
    crossings: list[Crossing]
    state: train.State
    losses: Tensor

    def places(self) -> Params:
        """Every member's weights where it first met the first level, or its last ones."""
        reached, params = self.crossings[0].steps >= 0, self.crossings[0].params
        last = self.state.params
        return {n: torch.where(reached.view(-1, *[1] * (p.dim() - 1)), p, last[n]) for n, p in params.items()}


def race(bed: Bed, members: Sequence[Member], examples: int, steps: int, batch_size: int = 0) -> Race:
    """Members of the bed's architecture on `examples` examples each, looked at every step or every epoch."""
    recipe = Recipe(steps, batch_size, optimizer=DESCENT)
    rates, seeds = [member.rate for member in members], [member.seed for member in members]
    network, params, made = cohort(bed, recipe, [m.start for m in members], rates, lambda step: seeds)
    own = examples_of(bed, members, examples)
    batch = partial(own.minibatch, batch_size=batch_size) if batch_size else own.full
    return Race(network, params, own, replace(made, batch=batch), examples // batch_size if batch_size else 1)


def run(found: Race, levels: Sequence[float], over: Over) -> Finish:
    """Train until `over(state, updates to the first level (E,), -1 on the way there)` or to the end."""
    begin = train.start(found.made, found.params)
    never = torch.full_like(begin.diverged, -1)
    crossings = [Crossing(level, found.params, never, torch.full_like(begin.losses, torch.nan)) for level in levels]
    for state, losses in looks(found, begin):
        for i, crossing in enumerate(crossings):
            if bool(((losses <= crossing.level) & (crossing.steps < 0)).any()):
                crossings[i] = crossing.updated(state, losses)
        if over(state, crossings[0].steps):
            break
    return Finish(state.step, crossings, state, losses)


def looks(found: Race, begin: train.State) -> Iterator[tuple[train.State, Tensor]]:
    """States and their losses on all of the members' examples (E,), every `stride` updates from the start on.

    With full batches a step computes the loss of the weights that it starts from, so a look costs nothing.
    """
    states = itertools.chain([begin], train.train(found.made, begin))
    if found.stride == 1:
        for state, after in itertools.pairwise(states):
            yield state, after.losses
        yield after, training_losses(found, after.params)
    else:
        for state in states:
            if state.step % found.stride == 0:
                yield state, training_losses(found, state.params)


@torch.no_grad()
def training_losses(found: Race, params: Params) -> Tensor:
    """(E,) mean losses on the members' own examples."""
    return found.made.loss(params, found.examples.x, found.examples.y)


def all_home(state: train.State, steps: Tensor) -> bool:
    """Whether every member has fitted or diverged."""
    return bool(((steps >= 0) | (state.diverged >= 0)).all())


def patiently(groups: Sequence[Sequence[Sequence[int]]], patience: float) -> Over:
    """Whether each group has waited `patience` times the steps of its winner.

    A group is a list of teams, a team a list of places; it is won when all members of one team have fitted.
    """

    def over(state: train.State, steps: Tensor) -> bool:
        arrived = [min(_last(steps, team) for team in teams) for teams in groups]
        return state.step >= patience * max(arrived)

    return over


def _last(steps: Tensor, team: Sequence[int]) -> float:
    """When the last of the team fitted; infinite while one has not."""
    own = steps[list(team)]
    return float(own.max()) if bool((own >= 0).all()) else torch.inf
