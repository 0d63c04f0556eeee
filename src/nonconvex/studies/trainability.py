"""The architectures that the study of the landscape compares, and which learning rates train each of them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from nonconvex.beds import Bed, bed_of
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.measure.objective import Objective, shared
from nonconvex.models.stacked import Params, Stacked
from nonconvex.observations import landscape as rows
from nonconvex.studies.training import Recipe, trained, with_architecture

TWIN = 5000  # added to the seeds of the arm that differs from its twin in nothing else


@dataclass(frozen=True)
class Architecture:
    """An arm: a bed with options of its architecture; `offset` is added to every seed."""

    model: str
    arm: str
    options: tuple[tuple[str, object], ...]
    offset: int = 0


def architectures(settings: Settings) -> list[Architecture]:
    """All arms, the costly ones first: spread over processes, the small ones then fill what is left."""
    s = settings.properties.landscape
    levels = {"shallow": s.depths[0], "deep": s.depths[1]}
    grid = itertools.product(("deep", "shallow"), ("skip", "plain"), ("batch", "none"))
    made = [
        Architecture("resnet", f"{level}_{skip}_{norm}", resnet(levels[level], s.width, skip == "skip", norm))
        for level, skip, norm in grid
    ]
    base = [resnet(s.depths[0], width, True, "batch") for width in (*s.widths, s.width)]
    made.insert(3, Architecture("resnet", "wide", base[1]))
    made += [Architecture("resnet", "narrow", base[0]), Architecture("resnet", "twin", base[2], TWIN)]
    transformers = {"skip_layer": (True, "layer"), "skip_none": (True, "none"), "plain_layer": (False, "layer")}
    for arm, (skip, norm) in transformers.items():
        made.append(Architecture("transformer", arm, (("skip", skip), ("norm", norm))))
    return made


def resnet(depth: int, width: int, skip: bool, norm: str) -> tuple[tuple[str, object], ...]:
    """Options of the ResNet; without norm the branches are scaled by the inverse root of the number of blocks.

    Unscaled, an unnormalised residual network starts with activations that double in variance in every block, and a
    comparison of skip connections would be one of initialisations.
    """
    scale = ((depth - 2) // 2) ** -0.5 if skip and norm == "none" else 1.0
    return (("depth", depth), ("width", width), ("skip", skip), ("norm", norm), ("branch_scale", scale))


class Arm:
    """One architecture on its bed: which runs it needs, and what they say about its rates."""

    def __init__(self, settings: Settings, architecture: Architecture):
        self.architecture, self.s = architecture, settings.properties.landscape
        self.how = getattr(self.s, architecture.model)
        self.bed: Bed = with_architecture(bed_of(settings, architecture.model), **dict(architecture.options))
        self.name = {"model": architecture.model, "arm": architecture.arm}
        guess = log(self.bed.data.classes)  # loss of a network that knows nothing
        self.trained_below, self.matched_at = self.how.trained_share * guess, self.how.matched_share * guess

    def objective(self, network: Stacked, count: int, free: Sequence[str] | None = None) -> Objective:
        """Training loss on `count` examples, batch norm using their own statistics at whatever weights."""
        return Objective(network, self.bed.loss, shared(*self.bed.data.train.examples(count)), free=free)

    def tuning(self) -> list[rows.Trial]:
        return self.trials("tuning", list(itertools.product(self.s.tuning, self.how.rates)))

    def search(self, edge: float) -> list[rows.Trial]:
        """Short runs of the reported seeds around `edge`, and further out where these have all trained or none has."""
        found = self.trials("reported", [(seed, edge * factor) for seed in self.s.seeds for factor in self.s.window])
        for _ in range(self.s.extensions):
            by_seed = [[t for t in found if t.seed == seed] for seed in self.s.seeds]
            pairs = [pair for of_seed in by_seed for pair in self.further(of_seed)]
            found += self.trials("reported", pairs) if pairs else []
        return found

    def further(self, trials: Sequence[rows.Trial]) -> list[tuple[int, float]]:
        """(seed, rate) of the next two rates where one seed's trials show no edge; none below the grid's lowest."""
        seed, rates = trials[0].seed, sorted(t.rate for t in trials)
        trained = [t.rate for t in trials if self.has_trained(t)]
        if not trained:
            return [(seed, rates[0] / 2), (seed, rates[0] / 4)] if rates[0] > min(self.how.rates) else []
        return [(seed, rates[-1] * 2), (seed, rates[-1] * 4)] if max(trained) == rates[-1] else []

    def has_trained(self, trial: rows.Trial) -> bool:
        return trial.train_loss is not None and trial.train_loss < self.trained_below

    def trials(self, phase: str, pairs: Sequence[tuple[int, float]]) -> list[rows.Trial]:
        """A short run for each (seed, rate)."""
        weights = [seed + self.architecture.offset for seed, _ in pairs]
        end = trained(self.bed, Recipe(self.how.steps), weights, [rate for _, rate in pairs])
        losses = self.objective(end.network, self.how.examples).losses(end.params).tolist()
        validation = self.validation(end.network, end.params) if phase == "tuning" else [None] * len(pairs)
        return [
            rows.Trial(**self.name, phase=phase, seed=seed, rate=rate, **_unless_diverged(step, loss, other))
            for (seed, rate), step, loss, other in zip(pairs, end.diverged.tolist(), losses, validation, strict=True)
        ]

    def validation(self, network: Stacked, params: Params) -> list[float]:
        """Losses on validation data, batch-norm statistics recomputed on as many training examples."""
        count = self.s.validation_examples
        statistics = recomputed(network, params, self.bed.data.train.examples(count)[0])
        examples = self.bed.data.validation.examples(count)
        return evaluate(network, params, statistics, examples, self.bed.loss)[0].tolist()

    def tuned_rate(self, trials: Sequence[rows.Trial]) -> float:
        """The rate of the lowest mean validation loss; a rate at which a run diverged does not count."""
        means = {rate: _mean([t.validation_loss for t in trials if t.rate == rate]) for rate in self.how.rates}
        return min(means, key=means.get)

    def edge(self, trials: Sequence[rows.Trial]) -> float:
        """The largest rate at which a tuning run trained; the tuned rate where none did."""
        return max((t.rate for t in trials if self.has_trained(t)), default=self.tuned_rate(trials))

    def record(self, tuned: float) -> rows.Arm:
        module, options = self.bed.build(), self.bed.training.architecture
        return rows.Arm(
            **self.name,
            depth=options["depth" if "depth" in options else "layers"],
            width=options["width"],
            skip="yes" if options.get("skip", True) else "no",
            norm=options["norm"],
            parameters=sum(p.numel() for p in module.parameters()),
            trained_below=self.trained_below,
            matched_at=self.matched_at,
            tuning_trials=len(self.how.rates) * len(self.s.tuning),
            lowest_rate=min(self.how.rates),
            highest_rate=max(self.how.rates),
            tuned_rate=tuned,
        )


def _unless_diverged(step: int, train: float, validation: float | None) -> dict:
    if step >= 0:
        return {"diverged_step": step, "train_loss": None, "validation_loss": None}
    return {"diverged_step": None, "train_loss": train, "validation_loss": validation}


def _mean(losses: Sequence[float | None]) -> float:
    known = [loss for loss in losses if loss is not None and loss == loss]
    return sum(known) / len(known) if len(known) == len(losses) else float("inf")
