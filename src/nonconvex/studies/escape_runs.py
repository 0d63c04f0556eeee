"""Runs that start in a bad region, in lockstep, and when each was first seen to have left.

Looks are at the same numbers of gradient evaluations for every strategy. What counts as having left is asked of the
weights that a strategy evaluates (an average's are not its iterate's, so that both are asked).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.measure.spectrum import extreme_eigenvalues
from nonconvex.models.stacked import select
from nonconvex.observations.bad_starts import SharpLook
from nonconvex.optimizers import Sgd
from nonconvex.schedules import cosine
from nonconvex.strategies.base import Strategy
from nonconvex.strategies.clipping import Clipping
from nonconvex.strategies.ema import Ema
from nonconvex.strategies.none import NoStrategy
from nonconvex.strategies.restarts import Restarts
from nonconvex.strategies.sam import Sam
from nonconvex.strategies.sgd_noise import SgdNoise
from nonconvex.strategies.swa import Swa
from nonconvex.strategies.warmup import Warmup
from nonconvex.studies.forks import OTHER_ORDER
from nonconvex.studies.training import PLAIN, Recipe, cohort
from nonconvex.studies.trajectories import rounded
from nonconvex.study_settings.bad_starts import BadStarts
from nonconvex.tensors import Params

STRATEGIES = {
    "none": NoStrategy,
    "sgd_noise": SgdNoise,
    "warmup": Warmup,
    "restarts": Restarts,
    "clipping": Clipping,
    "sam": Sam,
    "swa": Swa,
    "ema": Ema,
}
SCHEDULED = ("none", "warmup", "restarts")  # these change the schedule alone, and advance in one cohort
AVERAGED = ("swa", "ema")
FLATTER = ("warmup", "sam")  # along their runs from the sharp minimum curvature is looked at
NEAR = 4  # times the loss of the sharp minimum: up to there it is looked at


@dataclass(frozen=True)
class Trip:
    """One run. `start` is the region itself, or normal for normal weights that are held to the region's rule."""

    accounting: str
    start: str
    region: str
    arm: str
    labels: str
    draw: str
    seed: int
    rate: float

    @property
    def order(self) -> int:
        """The seed of its data order and its noise."""
        return self.seed + OTHER_ORDER * (self.draw == "other")

    @property
    def long(self) -> bool:
        """Whether it has longer to get to the loss of the sharp minimum, from normal weights."""
        return (self.start, self.region) == ("normal", "sharp")

    @property
    def followed(self) -> bool:
        """Whether curvature is looked at all along: plain SGD at its peak, and two strategies there."""
        wanted = (("tuned", "none"), *(("common", arm) for arm in FLATTER))
        return (self.region, self.labels) == ("sharp", "true") and (self.accounting, self.arm) in wanted


@dataclass(frozen=True)
class Begin:
    """Where a trip starts, and what its region's rule is held to.

    `loss` and `sharpness` are those of the region's start, `error` that which a normal start reaches on the split that
    is looked at.
    """

    params: Params  # (1, *shape)
    loss: float
    sharpness: float
    error: float


@dataclass(frozen=True)
class Ended:
    """A cohort of trips at its end: weights that are evaluated, first gradient evaluations out (-1: never), spikes."""

    params: Params
    diverged: Tensor  # (E,)
    left: Tensor  # (E,)
    iterate_left: Tensor  # (E,)
    spikes: Tensor  # (E,) share of updates
    looks: list[SharpLook] = field(default_factory=list)


def strategy_of(settings: Settings, arm: str) -> Strategy:
    """The arm's strategy with the options that the settings give it on this bed."""
    return STRATEGIES[arm](**settings.train["mlp"].strategies.get(arm, {}))


def budget(study: BadStarts, trip: Trip) -> int:
    """Gradient evaluations."""
    return study.evaluations * (study.sharp.longer if trip.long else 1)


def looks(study: BadStarts, whole: int) -> list[int]:
    """Even numbers of gradient evaluations, evenly spaced in their logarithm, the last of them the whole budget."""
    growth = math.log(whole / study.first) / (study.looks - 1)
    return sorted({2 * round(study.first * math.exp(i * growth) / 2) for i in range(study.looks)})


def travelled(settings: Settings, bed: Bed, trips: Sequence[Trip], begins: Sequence[Begin], split: str) -> Ended:
    """All trips of one cohort to their ends.

    They share budget and strategy, but for those that change the schedule alone. Accuracy is that on `split`.
    """
    study = settings.strategies.bad_starts
    arms = [strategy_of(settings, trip.arm) for trip in trips]
    strategy = PLAIN if trips[0].arm in SCHEDULED else arms[0]
    whole = budget(study, trips[0])
    steps = whole // strategy.evaluations
    orders, rates = [trip.order for trip in trips], [trip.rate for trip in trips]
    recipe = Recipe(steps, study.batch_size, optimizer=Sgd(), strategy=strategy)
    schedules = [arm.wrap(cosine) for arm in arms]
    network, _, made = cohort(bed, recipe, [0] * len(trips), rates, lambda step: orders, schedules)
    start = {name: torch.cat([one.params[name] for one in begins]) for name in begins[0].params}
    watch = Watch(settings, bed, network, trips, begins, split)
    at, spikes = {look // strategy.evaluations: look for look in looks(study, whole)}, torch.zeros(len(trips))
    for state in train.train(made, train.start(made, start)):
        spikes += (state.losses.cpu() > study.spike * watch.losses) & (state.diverged < 0).cpu()
        if state.step in at:
            watch.look(at[state.step], made.strategy.evaluation_params(state.memory, state.params), state)
    end = made.strategy.evaluation_params(state.memory, state.params)
    return Ended(end, state.diverged.cpu(), watch.left, watch.iterate_left, spikes / steps, watch.kept)


class Watch:
    """The rule of every trip's region, and who was first seen to have left at which number of gradient evaluations."""

    def __init__(self, settings, bed, network, trips, begins, split):
        self.study, self.bed, self.network, self.trips = settings.strategies.bad_starts, bed, network, trips
        self.followed, self.kept = torch.tensor([trip.followed for trip in trips]), []
        self.train = bed.data.train.examples()
        self.scored = getattr(bed.data, split).examples(self.study.test_examples if split == "test" else None)
        self.objective = Objective(network, bed.loss, shared(*self.train))
        self.losses, self.sharpness, self.error = (
            torch.tensor([getattr(one, name) for one in begins]) for name in ("loss", "sharpness", "error")
        )
        fall = {"saddle": self.study.saddle.fall, "plateau": self.study.plateau.fall}
        self.levels = self.losses * torch.tensor([1 - fall.get(trip.region, 0.0) for trip in trips])
        self.of = {r: torch.tensor([trip.region == r for trip in trips]) for r in ("sharp", "bad_minimum")}
        self.levels[self.of["bad_minimum"]] = torch.inf
        self.left, self.iterate_left = (torch.full((len(trips),), -1) for _ in range(2))

    def look(self, evaluations: int, params: Params, state: train.State) -> None:
        """Ask every trip that still runs, at the weights that its strategy evaluates and at its iterate."""
        alive = (state.diverged < 0).cpu()
        self.left = self._first(self.left, evaluations, params, alive)
        if self.trips[0].arm in AVERAGED:
            self.iterate_left = self._first(self.iterate_left, evaluations, state.params, alive)
        else:
            self.iterate_left = self.left

    def _first(self, left: Tensor, evaluations: int, params: Params, alive: Tensor) -> Tensor:
        losses = self.objective.losses(params).cpu()
        out = alive & (left < 0) & (losses <= self.levels)
        shown = self.followed & alive
        asked = (self.of["sharp"] & out) | (shown & (losses <= NEAR * self.levels))
        tops, residuals = self._tops(params, asked)
        out &= ~self.of["sharp"] | (tops <= self.study.sharp.fall * self.sharpness)
        out &= ~self.of["bad_minimum"] | (self._errors(params, out & self.of["bad_minimum"]) <= self._allowed())
        self._keep(evaluations, losses, tops, residuals, shown)
        return torch.where(out, evaluations, left)

    def _allowed(self) -> Tensor:
        return self.error + self.study.bad_minimum.within

    def _tops(self, params: Params, asked: Tensor) -> tuple[Tensor, Tensor]:
        """λ_max (E,) and its relative residual of the members asked for, NaN for the others."""
        values, residuals = (torch.full((len(asked),), torch.nan) for _ in range(2))
        if asked.any():
            found = largest(self.study, self.objective, select(params, asked))
            values[asked], residuals[asked] = (part.float().cpu() for part in found)
        return values, residuals

    def _errors(self, params: Params, asked: Tensor) -> Tensor:
        values = torch.full((len(asked),), torch.nan)
        if asked.any():
            values[asked] = evaluate(self.network, select(params, asked), {}, self.scored, self.bed.loss)[1].float()
        return values

    def _keep(self, evaluations: int, losses: Tensor, tops: Tensor, residuals: Tensor, shown: Tensor) -> None:
        for i in shown.nonzero()[:, 0].tolist():
            trip, numbers = self.trips[i], (rounded(part[i]) for part in (losses, tops, residuals))
            self.kept.append(SharpLook(trip.start, trip.arm, trip.draw, trip.seed, evaluations, *numbers))


def largest(study: BadStarts, objective: Objective, params: Params) -> tuple[Tensor, Tensor]:
    """λ_max (E,) of the training loss, and its residual relative to it."""
    products, tolerance = study.lanczos.iterations, study.lanczos.tolerance
    top = extreme_eigenvalues(Hessian(objective, params), products, tolerance, ends="largest").largest
    return top.value, top.residual / top.value.abs()
