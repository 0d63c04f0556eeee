"""Cohorts of runs spread over all cores: train, evaluate the final iterate, measure, and come back as records."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from joblib import Parallel, delayed
from safetensors.torch import save_file
from torch import Tensor

from nonconvex import train
from nonconvex.config import Settings, Training
from nonconvex.data import Dataset, load_dataset
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.losses import LOSSES
from nonconvex.measure.contract import flatness
from nonconvex.measure.objective import Objective, shared
from nonconvex.models import model_class
from nonconvex.models.stacked import Stacked, select, stack
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


@dataclass(frozen=True)
class Bed:
    """A model on its data on one device: what every run of a stage shares."""

    name: str
    training: Training
    data: Dataset
    device: str

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        return LOSSES[self.training.loss]

    def build(self) -> torch.nn.Module:
        return model_class(self.name)(classes=self.data.classes, **self.training.architecture)

    def statistics_inputs(self) -> Tensor:
        return self.data.train.examples(self.training.statistics_examples)[0]


def bed_of(settings: Settings, model: str) -> Bed:
    """The model's test bed as the settings describe it, on the device they choose."""
    training, device = settings.train[model], chosen_device(settings.compute.device)
    return Bed(model, training, _dataset(training.dataset, training.architecture.get("context"), device), device)


@lru_cache(maxsize=2)
def _dataset(name: str, context: int | None, device: str) -> Dataset:
    return load_dataset(name, context).to(device)


def chosen_device(name: str) -> str:
    """`auto` is the GPU when there is one. Raises ValueError for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device is cuda but no CUDA device was found; allowed here: auto, cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def run_all(settings: Settings, model: str, strategy: str, members: Sequence[Member]) -> Outcome:
    """Train `members` in cohorts over worker processes; the records come back in the order of `members`."""
    parts = dealt(members, settings.train[model].cohort)
    job = partial(run_cohort, settings, model, strategy, total=len(members))
    outcomes = spread(settings, [partial(job, part) for part in parts])
    return merged([member for part in parts for member in part], members, outcomes)


def spread(settings: Settings, jobs: Sequence[Callable]) -> list:
    """The results of the jobs, in order: one single-threaded process per core, or one process on a GPU."""
    workers = settings.compute.workers or (1 if chosen_device(settings.compute.device) == "cuda" else -1)
    return Parallel(n_jobs=workers)(delayed(job)() for job in jobs)


def merged(found: Sequence[Member], wanted: Sequence[Member], outcomes: Sequence[Outcome]) -> Outcome:
    """Outcomes of members `found` as one, sorted into the order `wanted`."""
    place = {member: i for i, member in enumerate(wanted)}
    rank = {(m.schedule, m.rate, m.seed): place[m] for m in wanted if m.phase != "sibling"}
    key = lambda row: rank[row.schedule, row.rate, row.seed]  # noqa: E731
    runs = [run for outcome in outcomes for run in outcome.runs]
    return Outcome(
        [run for _, run in sorted(zip(found, runs, strict=True), key=lambda pair: place[pair[0]])],
        sorted((point for outcome in outcomes for point in outcome.curves), key=key),
        sorted((row for outcome in outcomes for row in outcome.measurements), key=key),
        dict(sorted((item for outcome in outcomes for item in outcome.endpoints.items()))),
    )


def run_cohort(settings: Settings, model: str, strategy: str, members: Sequence[Member], total: int = 0) -> Outcome:
    """Train one cohort to the end, evaluate its final iterate and measure its reported members."""
    torch.set_num_threads(1)
    bed = bed_of(settings, model)
    network, params = stack(bed.build, [member.seed for member in members], bed.device)
    cohort = cohort_of(bed, network, strategy, members, settings.seeds.fork)
    losses = []
    with counted(f"{model}/{strategy} {members[0].phase}", (total or len(members)) * cohort.steps) as advance:
        for state in train.train(cohort, train.start(cohort, params)):
            losses.append(state.losses)
            advance(len(members))
    params = cohort.strategy.evaluation_params(state.memory, state.params)
    statistics = recomputed(network, params, bed.statistics_inputs())
    runs = evaluated(bed, network, params, statistics, strategy, members, cohort, state.diverged.tolist())
    reported = [i for i, member in enumerate(members) if member.phase == "reported"]
    points = [p for i in reported for p in curve(runs[i], cohort.rates[:, i], torch.stack(losses)[:, i])]
    rows = measured(settings, bed, network, params, statistics, [(i, runs[i]) for i in reported])
    return Outcome(runs, points, rows, endpoints(settings, params, runs))


def cohort_of(bed: Bed, network: Stacked, strategy: str, members: Sequence[Member], fork: float) -> train.Cohort:
    """The loop's view of `members`: their batches, rates, optimizer and strategy."""
    training = bed.training
    chosen = strategy_class(strategy)(**training.strategies.get(strategy, {})).bind(training.steps)
    factories = [partial(SCHEDULES[m.schedule], **training.schedules.get(m.schedule, {})) for m in members]
    orders = [m.seed for m in members], [m.seed + SIBLING * (m.phase == "sibling") for m in members]
    return train.Cohort(
        loss=lambda params, x, y: bed.loss(network(params, x), y).mean(1),
        batch=lambda seeds, step: bed.data.train.batch(seeds, step, training.batch_size),
        rates=train.rate_table(factories, [m.rate for m in members], training.steps, chosen).to(bed.device),
        order=lambda step: orders[step >= fork * training.steps],
        optimizer=OPTIMIZERS[training.optimizer.name](**training.optimizer.options),
        strategy=chosen,
    )


def evaluated(bed, network, params, statistics, strategy, members, cohort, diverged) -> list[Run]:
    """One record per member. Only reported runs ever see training and test scores; a diverged run has no scores."""
    scored = [scores(bed, network, params, statistics, members, split, diverged) for split in SPLITS]
    return [
        Run(
            model=bed.name, strategy=strategy, schedule=m.schedule, phase=m.phase, seed=m.seed, rate=m.rate,
            steps=cohort.steps, gradient_evaluations=cohort.steps * cohort.strategy.evaluations,
            diverged_step=diverged[i] if diverged[i] >= 0 else None,
            **{name: value for by_member in scored for name, value in by_member[i].items()},
        )
        for i, m in enumerate(members)
    ]  # fmt: skip


def scores(bed, network, params, statistics, members, split: str, diverged) -> list[dict[str, float | None]]:
    """Each member's loss and error on one split; None where it is not to be known or the run diverged."""
    found: list[dict[str, float | None]] = [{f"{split}_loss": None, f"{split}_error": None} for _ in members]
    wanted = [i for i, m in enumerate(members) if diverged[i] < 0 and (m.phase == "reported" or split == "validation")]
    if wanted:
        examples = getattr(bed.data, split).examples(getattr(bed.training, f"{split}_examples"))
        losses, errors = evaluate(network, select(params, wanted), select(statistics, wanted), examples, bed.loss)
        for i, loss, error in zip(wanted, losses.tolist(), errors.tolist(), strict=True):
            found[i] = {f"{split}_loss": loss, f"{split}_error": error}
    return found


def curve(run: Run, rates: Tensor, losses: Tensor) -> list[CurvePoint]:
    """Mean minibatch loss over about WINDOWS equal windows, each at its last step."""
    width = -(-len(losses) // WINDOWS)
    ends = [min(end, len(losses)) for end in range(width, len(losses) + width, width)]
    return [
        CurvePoint(run.model, run.strategy, run.schedule, run.seed, end - 1, float(rates[end - 1]), float(part.mean()))
        for end, part in zip(ends, losses.split(width), strict=True)
    ]


def endpoints(settings: Settings, params: Params, runs: Sequence[Run]) -> dict[str, Tensor]:
    """Evaluated weights by `schedule/seed/phase/parameter`, of the arms whose connectivity is measured."""
    return {
        f"{run.schedule}/{run.seed}/{run.phase}/{name}": value[i].contiguous().cpu()
        for i, run in enumerate(runs)
        if run.phase != "tuning" and on_baseline(settings, run.schedule, run.strategy)
        for name, value in params.items()
    }


def measured(settings, bed, network, params, statistics, reported: Sequence[tuple[int, Run]]) -> list[MeasurementRow]:
    """Flatness of the reported members: every measure on the row and column through the baseline, elsewhere the spectrum."""
    how = settings.measure[bed.name]
    rows = []
    for level, outer in (("full", True), ("spectrum", False)):
        chosen = [(i, run) for i, run in reported if on_baseline(settings, run.schedule, run.strategy) is outer]
        if not chosen:
            continue
        index = [i for i, _ in chosen]
        objective = Objective(network, bed.loss, shared(*bed.data.train.examples(how.examples)), select(statistics, index))
        found = flatness(objective, select(params, index), how, level)
        rows += [
            MeasurementRow(run.model, run.strategy, run.schedule, run.seed, run.rate, **asdict(measurement))
            for (_, run), measurements in zip(chosen, found, strict=True)
            for measurement in measurements
        ]
    return rows


def save_endpoints(path: Path, endpoints: dict[str, Tensor]) -> None:
    """One safetensors file, replaced in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_copy = path.with_suffix(".partial")
    save_file(endpoints, partial_copy)
    partial_copy.replace(path)


def describe(settings: Settings, model: str, strategy: str) -> dict[str, object]:
    """What the runs of a stage have in common, for a reader."""
    bed = bed_of(settings, model)
    training, module = bed.training, bed.build()
    chosen = strategy_class(strategy)(**training.strategies.get(strategy, {}))
    return {
        "data": f"{bed.data.name}: {len(bed.data.train)} training, {len(bed.data.validation)} validation, {len(bed.data.test)} test",
        "parameters": sum(p.numel() for p in module.parameters()),
        "architecture": training.architecture,
        "loss": training.loss,
        "optimizer": {"name": training.optimizer.name, **training.optimizer.options},
        "strategy": (chosen.__doc__ or "").strip(),
        "steps": training.steps,
        "gradient evaluations": training.steps * chosen.evaluations,
        "batch size": training.batch_size,
        "peak rates tried": list(training.rates),
        "tuning seeds": list(settings.seeds.tuning),
        "reported seeds": list(settings.seeds.reported),
        "seeds away from the baseline": list(settings.seeds.cross),
    }
