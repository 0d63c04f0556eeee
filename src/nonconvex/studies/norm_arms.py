"""The arms of the study of normalization, how a cohort of one is trained, and which learning rates train it."""

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log, sqrt

from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.measure.objective import Objective, shared
from nonconvex.models.altered import altered
from nonconvex.models.stacked import Params, Stacked, stack
from nonconvex.observations import normalization as rows
from nonconvex.observations.tuning import TuningTrial
from nonconvex.studies import norm_noise, trainability
from nonconvex.studies.trainability import TWIN, resnet
from nonconvex.studies.training import Recipe, cohort, with_architecture
from nonconvex.studies.tuning import Tuned, chosen
from nonconvex.tensors import member_norm


@dataclass(frozen=True)
class Normalised:
    """An arm: a bed with a norm. `altered` is what is done to its batch norms, `offset` is added to every seed."""

    model: str
    arm: str
    norm: str
    altered: str = ""
    offset: int = 0
    searched: bool = True  # for its largest rate
    control: bool = False  # has fewer replicates


# the costly ones first; the twin differs from the arm without norm in its seeds only
ARMS = (
    Normalised("resnet", "layer", "layer"),
    Normalised("resnet", "batch", "batch"),
    Normalised("resnet", "group", "group", control=True),
    Normalised("resnet", "none", "none"),
    Normalised("resnet", "noisy", "batch", "noisy", searched=False),
    Normalised("resnet", "frozen", "batch", "frozen", control=True),
    Normalised("resnet", "twin", "none", offset=TWIN, control=True),
    Normalised("transformer", "layer", "layer", searched=False),
    Normalised("transformer", "none", "none", searched=False),
)


@dataclass(frozen=True)
class AlteredBed(Bed):
    """A bed whose batch norms are replaced by a layer of `models.altered`, if any is named."""

    altered: str = ""

    def build(self):
        return altered(super().build(), self.altered) if self.altered else super().build()


@dataclass(frozen=True)
class Cohort:
    """A run per member. `buffers` go along with the weights wherever the network is evaluated; they are not trained."""

    network: Stacked
    params: Params  # at the start
    buffers: Params
    made: train.Cohort

    def at(self, state: train.State) -> Params:
        """All that the network needs at a state of the run."""
        return {**state.params, **self.buffers}


@dataclass(frozen=True)
class Scores:
    """A cohort's ends on one split, (E,) each."""

    losses: Tensor
    errors: Tensor


class Arm(trainability.Arm):
    """One arm on its bed. It looks for the largest rate as the arms of the study of the landscape do."""

    def __init__(self, settings: Settings, one: Normalised):
        # what the base takes from the settings of another study
        s = settings.factors.normalization
        self.architecture, self.how = one, s.beds[one.model]
        count = min(s.controls, self.how.replicates) if one.control else self.how.replicates
        self.s = s.model_copy(update={"seeds": s.seeds[:count]})
        bed = AlteredBed(**vars(bed_of(settings, one.model)), altered=one.altered)
        self.bed = with_architecture(bed, **self.options(bed))
        self.name = {"model": one.model, "arm": one.arm}
        guess = log(self.bed.data.classes)
        self.trained_below, self.matched_at = self.how.trained_share * guess, self.how.matched_share * guess

    def options(self, bed: Bed) -> dict:
        """Of the architecture: without norm the branches of a ResNet are scaled, as in the study of the landscape."""
        if self.architecture.model != "resnet":
            return {"norm": self.architecture.norm}
        sizes = (bed.training.architecture[name] for name in ("depth", "width"))
        return dict(resnet(*sizes, True, self.architecture.norm))

    def cohort(self, seeds: Sequence[int], rates: Sequence[float], recipe: Recipe) -> Cohort:
        """A run per seed and rate. Whatever goes along with the weights at a step is part of that step's batch."""
        weights = [seed + self.architecture.offset for seed in seeds]
        network, params, made = cohort(self.bed, recipe, weights, rates)
        buffers = self.buffers(network, weights)

        def batch(order: Sequence[int], step: int) -> tuple[tuple[Tensor, Params], Tensor]:
            x, y = made.batch(order, step)
            return (x, self.buffers_at(network, buffers, order, step, x.shape[1])), y

        def loss(params: Params, given: tuple[Tensor, Params], y: Tensor) -> Tensor:
            x, along = given
            return self.bed.loss(network({**params, **along}, x), y).mean(1)

        return Cohort(network, params, buffers, replace(made, batch=batch, loss=loss))

    def buffers(self, network: Stacked, weights: Sequence[int]) -> Params:
        """What goes along with weights when they are measured: frozen statistics, or the noise at its mean."""
        if self.architecture.altered == "frozen":
            return self.initial_statistics(weights)
        return norm_noise.mean(self.s.noise, network, len(weights)) if self.architecture.altered == "noisy" else {}

    def buffers_at(self, network: Stacked, resting: Params, seeds: Sequence[int], step: int, examples: int) -> Params:
        """What goes along with weights at a step of training, for so many examples."""
        if self.architecture.altered == "noisy":
            return norm_noise.drawn(self.s.noise, network, seeds, step, examples)
        return resting

    def initial_statistics(self, weights: Sequence[int]) -> Params:
        """Of batch norm at the initial weights, over `examples` training examples at once."""
        network, params = stack(replace(self.bed, altered="").build, weights, self.bed.device)
        x, _ = self.bed.data.train.examples(self.how.examples)
        return network.statistics(params, [x.expand(len(weights), *x.shape)])

    def objective(self, network: Stacked, count: int) -> Objective:
        """Training loss on `count` examples as a function of the parameters, batch norm with their own statistics."""
        free = [name for name, _ in network.module.named_parameters()]
        return Objective(network, self.bed.loss, shared(*self.bed.data.train.examples(count)), free=free)

    def ends(self, pairs: Sequence[tuple[int, float]], recipe: Recipe) -> tuple[Cohort, train.State]:
        """A run for each (seed, rate), trained to its end."""
        runs = self.cohort([seed for seed, _ in pairs], [rate for _, rate in pairs], recipe)
        (end,) = deque(train.train(runs.made, train.start(runs.made, runs.params)), maxlen=1)
        return runs, end

    def tuning(self) -> list[rows.ShortRun]:
        return self.trials("tuning", [(self.s.tuning[0], rate) for rate in self.how.rates])

    def refined(self, found: list[rows.ShortRun]) -> list[rows.ShortRun]:
        """`found`, and trials that halve (in ratio) the way from every seed's largest rate that trains to the next."""
        for _ in range(self.s.halvings):
            by_seed = [[trial for trial in found if trial.seed == seed] for seed in self.s.seeds]
            pairs = [pair for trials in by_seed for pair in self.between(trials)]
            found = found + (self.trials("reported", pairs) if pairs else [])
        return found

    def between(self, trials: Sequence[rows.ShortRun]) -> list[tuple[int, float]]:
        """(seed, rate) halfway between the largest rate that trains and the next one tried; none without an edge."""
        largest = max((trial.rate for trial in trials if self.has_trained(trial)), default=None)
        above = [trial.rate for trial in trials if largest is not None and trial.rate > largest]
        return [(trials[0].seed, sqrt(largest * min(above)))] if above else []

    def edge(self, trials: Sequence[rows.ShortRun]) -> float:
        """The largest rate at which a tuning run trained; the lowest rate where none did."""
        return max((trial.rate for trial in trials if self.has_trained(trial)), default=min(self.how.rates))

    def trials(self, phase: str, pairs: Sequence[tuple[int, float]]) -> list[rows.ShortRun]:
        """A short run at a constant rate for each (seed, rate)."""
        runs, end = self.ends(pairs, Recipe(self.how.steps))
        losses = self.objective(runs.network, self.how.examples).losses(runs.at(end))
        norms = member_norm({name: value for name, value in end.params.items() if value.dim() > 2})
        return [
            rows.ShortRun(**self.name, phase=phase, seed=seed, rate=rate, **_unless_diverged(step, loss, norm))
            for (seed, rate), step, loss, norm in zip(
                pairs, end.diverged.tolist(), losses.tolist(), norms.tolist(), strict=True
            )
        ]

    def tuned(self) -> Tuned:
        """The peak rate of least validation loss, each tried on every tuning seed."""
        pairs = list(itertools.product(self.s.tuning, self.how.tuned_rates))
        runs, end = self.ends(pairs, Recipe(self.how.tuned_steps, schedule="cosine"))
        train_, validation = self.scores(runs.network, runs.at(end), ("train", "validation"))
        columns = (end.diverged, train_.losses, validation.losses, validation.errors)
        numbers = zip(pairs, *(column.tolist() for column in columns), strict=True)
        return chosen([self._tuning_trial(*pair, *found) for pair, *found in numbers])

    def _tuning_trial(self, seed: int, rate: float, step: int, *found: float) -> TuningTrial:
        if step >= 0:
            return TuningTrial(**self.name, seed=seed, rate=rate, diverged_step=step, **dict.fromkeys(SCORED))
        scores = dict(zip(SCORED, found, strict=True))
        return TuningTrial(**self.name, seed=seed, rate=rate, diverged_step=None, **scores)

    def scores(self, network: Stacked, params: Params, splits: Sequence[str]) -> list[Scores]:
        """Losses and errors on each split, batch norm with statistics recomputed at these weights."""
        statistics = recomputed(network, params, self.bed.statistics_inputs())
        counts = [self.how.tested if split == "test" else self.how.scored for split in splits]
        examples = [getattr(self.bed.data, split).examples(n) for split, n in zip(splits, counts, strict=True)]
        return [Scores(*evaluate(network, params, statistics, one, self.bed.loss)) for one in examples]

    def record(self) -> rows.Arm:
        module, options = self.bed.build(), self.bed.training.architecture
        return rows.Arm(
            **self.name,
            norm=options["norm"],
            altered=self.architecture.altered or "no",
            branch_scale=options.get("branch_scale", 1.0),
            parameters=sum(p.numel() for p in module.parameters()),
            trained_below=self.trained_below,
            matched_at=self.matched_at,
        )


SCORED = ("train_loss", "validation_loss", "validation_error")


def _unless_diverged(step: int, loss: float, norm: float) -> dict:
    if step >= 0:
        return {"diverged_step": step, "train_loss": None, "weight_norm": None}
    return {"diverged_step": None, "train_loss": loss, "weight_norm": norm}
