"""Cohorts of runs spread over all cores: train, evaluate the final iterate, measure, and come back as records."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from nonconvex import checkpoints, train
from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.measure.contract import flatness
from nonconvex.measure.objective import Objective, shared
from nonconvex.models.stacked import Stacked, Statistics, select, stack
from nonconvex.optimizers import OPTIMIZERS
from nonconvex.plan import Member, dealt, on_baseline
from nonconvex.progress import counted
from nonconvex.records import CurvePoint, MeasurementRow, Run
from nonconvex.schedules import SCHEDULES
from nonconvex.strategies import strategy_class
from nonconvex.tensors import Params

SIBLING = 1 << 20  # added to the data-order seed of a sibling after the fork; above every seed in use
WINDOWS = 30  # points of a loss curve
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Outcome:
    """What runs leave: records, and the evaluated weights of those that connectivity starts from."""

    runs: list[Run]
    curves: list[CurvePoint]
    measurements: list[MeasurementRow]
    endpoints: dict[str, Tensor]


def run_all(
    settings: Settings, model: str, strategy: str, members: Sequence[Member], kept: Path | None = None
) -> Outcome:
    """Train `members` in cohorts over worker processes; the records come back in the order of `members`.

    With a folder `kept` an interrupted call leaves there what the next one goes on from (`checkpoints`).
    """
    parts = dealt(members, settings.train[model].cohort)
    job = partial(run_cohort, settings, model, strategy, total=len(members), kept=kept)
    outcomes = spread(settings, [partial(job, part) for part in parts])
    return merged([member for part in parts for member in part], members, outcomes)


def merged(found: Sequence[Member], wanted: Sequence[Member], outcomes: Sequence[Outcome]) -> Outcome:
    """Outcomes of members `found` as one, sorted into the order `wanted`."""
    place = {member: i for i, member in enumerate(wanted)}
    rank = {(m.schedule, m.seed): place[m] for m in wanted if m.phase == "reported"}
    key = lambda row: rank[row.schedule, row.seed]  # noqa: E731
    runs = [run for outcome in outcomes for run in outcome.runs]
    return Outcome(
        [run for _, run in sorted(zip(found, runs, strict=True), key=lambda pair: place[pair[0]])],
        sorted((point for outcome in outcomes for point in outcome.curves), key=key),
        sorted((row for outcome in outcomes for row in outcome.measurements), key=key),
        dict(sorted(item for outcome in outcomes for item in outcome.endpoints.items())),
    )


def run_cohort(
    settings: Settings,
    model: str,
    strategy: str,
    members: Sequence[Member],
    total: int = 0,
    kept: Path | None = None,
) -> Outcome:
    """Train one cohort to the end, evaluate its final iterate and measure its reported members.

    `total` is the number of members of all cohorts that share a progress line, `kept` the folder of checkpoints.
    """
    torch.set_num_threads(1)
    bed = bed_of(settings, model)
    network, params = stack(bed.build, [member.seed for member in members], bed.device)
    cohort = cohort_of(bed, network, strategy, members, settings.seeds.fork)
    file = kept and checkpoints.file_for(kept, strategy, bed.training, settings.seeds.fork, members, bed.device)
    with counted(f"{model}/{strategy} {members[0].phase}", (total or len(members)) * cohort.steps) as advance:
        told = lambda updates: advance(updates * len(members))  # noqa: E731
        state, losses = checkpoints.trained(cohort, train.start(cohort, params), file, told)
    params = cohort.strategy.evaluation_params(state.memory, state.params)
    statistics = recomputed(network, params, bed.statistics_inputs())
    trained = Trained(bed, network, strategy, members, cohort, params, statistics, state.diverged.tolist())
    runs = trained.records()
    return Outcome(
        runs,
        [p for i in trained.reported for p in curve(runs[i], cohort.rates[:, i], losses[:, i])],
        measured(settings, trained, runs),
        endpoints(settings, trained, runs),
    )


def cohort_of(bed: Bed, network: Stacked, strategy: str, members: Sequence[Member], fork: float) -> train.Cohort:
    """The loop's view of `members`: their batches, rates, optimizer and strategy."""
    training = bed.training
    chosen = strategy_class(strategy)(**training.strategies.get(strategy, {})).bind(training.steps)
    factories = [partial(SCHEDULES[m.schedule], **training.schedules.get(m.schedule, {})) for m in members]
    before = [m.seed for m in members]
    after = [m.seed + SIBLING if m.phase == "sibling" else m.seed for m in members]
    return train.Cohort(
        loss=bed.minibatch_losses(network),
        batch=lambda seeds, step: bed.data.train.batch(seeds, step, training.batch_size),
        rates=train.rate_table(factories, [m.rate for m in members], training.steps, chosen).to(bed.device),
        order=lambda step: before if step < fork * training.steps else after,
        optimizer=OPTIMIZERS[training.optimizer.name](**training.optimizer.options),
        strategy=chosen,
    )


@dataclass(frozen=True)
class Trained:
    """A cohort at the end of its training: the weights to evaluate, with normalisation statistics recomputed there."""

    bed: Bed
    network: Stacked
    strategy: str
    members: Sequence[Member]
    cohort: train.Cohort
    params: Params
    statistics: Statistics
    diverged: list[int]  # step, -1 for a member that did not

    @property
    def reported(self) -> list[int]:
        return [i for i, member in enumerate(self.members) if member.phase == "reported"]

    def records(self) -> list[Run]:
        """One per member. Only reported runs are ever scored on training and test data."""
        finished = [i for i, step in enumerate(self.diverged) if step < 0]
        reported = [i for i in finished if i in self.reported]
        scored = [self._scores(split, finished if split == "validation" else reported) for split in SPLITS]
        return [self._record(i, {k: v for by_member in scored for k, v in by_member[i].items()}) for i in self._all]

    @property
    def _all(self) -> range:
        return range(len(self.members))

    def _record(self, i: int, scores: dict[str, float | None]) -> Run:
        member, steps = self.members[i], self.cohort.steps
        return Run(
            model=self.bed.name,
            strategy=self.strategy,
            **asdict(member),
            steps=steps,
            gradient_evaluations=steps * self.cohort.strategy.evaluations,
            diverged_step=self.diverged[i] if self.diverged[i] >= 0 else None,
            **scores,
        )

    def _scores(self, split: str, chosen: list[int]) -> list[dict[str, float | None]]:
        """Loss and error of every member on a split; None for those that are not chosen."""
        found: list[dict[str, float | None]] = [{f"{split}_loss": None, f"{split}_error": None} for _ in self._all]
        if chosen:
            examples = getattr(self.bed.data, split).examples(getattr(self.bed.training, f"{split}_examples"))
            params, statistics = select(self.params, chosen), select(self.statistics, chosen)
            pairs = torch.stack(evaluate(self.network, params, statistics, examples, self.bed.loss), 1)
            for i, pair in zip(chosen, pairs.tolist(), strict=True):
                found[i] = dict(zip(found[i], pair, strict=True))
        return found


def curve(run: Run, rates: Tensor, losses: Tensor) -> list[CurvePoint]:
    """Mean minibatch loss over about WINDOWS equal windows, each at its last step."""
    width = -(-len(losses) // WINDOWS)
    ends = [min(end, len(losses)) for end in range(width, len(losses) + width, width)]
    arm = (run.model, run.strategy, run.schedule, run.seed)
    return [
        CurvePoint(*arm, end - 1, float(rates[end - 1]), float(part.mean()))
        for end, part in zip(ends, losses.split(width), strict=True)
    ]


def measured(settings: Settings, trained: Trained, runs: Sequence[Run]) -> list[MeasurementRow]:
    """Flatness of the reported members: every measure on the baseline's row and column, elsewhere the spectrum."""
    how, bed, rows = settings.measure[trained.bed.name], trained.bed, []
    examples = shared(*bed.data.train.examples(how.examples))
    for level, outer in (("full", True), ("spectrum", False)):
        chosen = [i for i in trained.reported if on_baseline(settings, runs[i].schedule, runs[i].strategy) is outer]
        if chosen:
            objective = Objective(trained.network, bed.loss, examples, select(trained.statistics, chosen))
            found = flatness(objective, select(trained.params, chosen), how, level)
            rows += [row for i, one in zip(chosen, found, strict=True) for row in measurement_rows(runs[i], one)]
    return rows


def measurement_rows(run: Run, measurements) -> list[MeasurementRow]:
    """A run's measurements as records."""
    arm = (run.model, run.strategy, run.schedule, run.seed, run.rate)
    return [MeasurementRow(*arm, **asdict(measurement)) for measurement in measurements]


def endpoints(settings: Settings, trained: Trained, runs: Sequence[Run]) -> dict[str, Tensor]:
    """Evaluated weights by `schedule/seed/phase/parameter`, of the runs whose connectivity is measured.

    Rounded to half precision to keep the repository small: connectivity is measured between the rounded weights.
    """
    return {
        f"{run.schedule}/{run.seed}/{run.phase}/{name}": value[i].half().contiguous().cpu()
        for i, run in enumerate(runs)
        if run.phase != "tuning" and run.seed in settings.seeds.connected
        if on_baseline(settings, run.schedule, run.strategy)
        for name, value in trained.params.items()
    }


def save_endpoints(path: Path, weights: dict[str, Tensor]) -> None:
    """One safetensors file, replaced in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    save_file(weights, unfinished)
    unfinished.replace(path)


def describe(settings: Settings, model: str, strategy: str) -> dict[str, object]:
    """What the runs of a stage have in common, for a reader."""
    bed, seeds = bed_of(settings, model), settings.seeds
    chosen = strategy_class(strategy)(**bed.training.strategies.get(strategy, {}))
    return {
        "data": bed.data.name,
        "examples": {split: len(getattr(bed.data, split)) for split in SPLITS},
        "parameters": sum(p.numel() for p in bed.build().parameters()),
        "architecture": bed.training.architecture,
        "loss": bed.training.loss,
        "optimizer": {"name": bed.training.optimizer.name, **bed.training.optimizer.options},
        "strategy": {"name": strategy, **vars(chosen)},
        "steps": bed.training.steps,
        "gradient evaluations": bed.training.steps * chosen.evaluations,
        "batch size": bed.training.batch_size,
        "precision of minibatch gradients": bed.training.precision,
        "peak rates tried": list(bed.training.rates),
        "seeds": {"tuning": seeds.tuning, "reported": seeds.reported, "away from the baseline": seeds.cross},
    }
