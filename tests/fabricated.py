"""A complete set of records for a small grid, made of seeded random numbers; no network is trained."""

from types import SimpleNamespace as Bag

import numpy as np

from nonconvex import plan
from nonconvex.judging import Verdict
from nonconvex.paths import Results
from nonconvex.records import Barrier, CurvePoint, MeasurementRow, PathPoint, Run, write
from nonconvex.summaries import FLATNESS

RATES = (0.01, 0.03, 0.1, 0.3)
STEPS = 60
SHARES = {("train", "loss"): 1.1, ("train", "error"): 0.2, ("test", "loss"): 1.0, ("test", "error"): 0.2}
BARRIER = {"linear": 1.2, "aligned": 0.5, "curve": 0.05, "siblings": 0.2}


def settings() -> Bag:
    """Two models, three schedules, three strategies; five seeds along the baseline, three elsewhere."""
    return Bag(
        profile=Bag(name="tiny", root=".", params="params.yaml"),
        grid=Bag(
            models=("resnet", "transformer"),
            schedules=("constant", "cosine", "wsd"),
            strategies=("none", "warmup", "sam"),
            baseline=Bag(schedule="cosine", strategy="none"),
        ),
        seeds=Bag(reported=(0, 1, 2, 3, 4), cross=(0, 1, 2), connected=(0, 1), tuning=(10, 11)),
        train={name: Bag(rates=RATES, steps=STEPS, batch_size=8) for name in ("resnet", "transformer")},
    )


def fabricate(files: Results, asked: Bag) -> None:
    """Write all records of a profile; no claim is judged. Every run of resnet/sam/wsd diverges, and one of warmup's."""
    for number, model in enumerate(asked.grid.models):
        for place, strategy in enumerate(asked.grid.strategies):
            rng = np.random.default_rng([number, place])
            _stage(files, asked, model, strategy, rng)
        _paths(files, asked, model, np.random.default_rng(number))
    write(files.verdicts(), [], Verdict)


def _stage(files: Results, asked: Bag, model: str, strategy: str, rng: np.random.Generator) -> None:
    tuning = [_run(asked, model, strategy, m, rng) for m in plan.tuning_members(asked, model, strategy)]
    chosen = plan.chosen_rates(tuning)
    members = plan.reported_members(asked, strategy, chosen)
    reported = [_run(asked, model, strategy, m, rng) for m in members]
    write(files.runs(model, strategy), [*tuning, *reported])
    kept = [run for run in reported if run.phase == "reported"]
    write(files.curves(model, strategy), [point for run in kept for point in _curve(run, rng)])
    rows = [_measurement(run, name, rng) for run in kept for name in FLATNESS]
    write(files.measurements(model, strategy), rows)


def _run(asked: Bag, model: str, strategy: str, m: plan.Member, rng: np.random.Generator) -> Run:
    schedule = asked.grid.schedules.index(m.schedule)
    away = np.log10(m.rate / (0.3 if m.schedule == "wsd" else 0.1)) ** 2
    level = (0.6 if model == "resnet" else 2.0) + 0.1 * away - 0.03 * schedule - 0.03 * (strategy == "sam")
    losses = level + np.array([-0.2, 0.0, 0.01]) + 0.02 * rng.normal(size=3) + 0.01 * (m.seed % 10)
    lost = m.phase == "reported" and (
        (model, strategy, m.schedule) == ("resnet", "sam", "wsd") or (strategy, m.seed) == ("warmup", 1)
    )
    values = [None] * 6 if lost else [v for loss in losses for v in (loss, 1 - np.exp(-loss / 4))]
    if m.phase == "tuning":
        values[0:2], values[4:6] = [None] * 2, [None] * 2
    steps = asked.train[model].steps
    cost = steps * (2 if strategy == "sam" else 1)
    return Run(model, strategy, m.schedule, m.phase, m.seed, m.rate, steps, cost, 7 if lost else None, *values)


def _curve(run: Run, rng: np.random.Generator) -> list[CurvePoint]:
    arm, end = (run.model, run.strategy, run.schedule, run.seed), run.train_loss or 3.0
    falling = lambda step: end + 2 * np.exp(-step / 12) + 0.02 * rng.random()  # noqa: E731
    return [CurvePoint(*arm, step, run.rate, falling(step)) for step in range(1, STEPS, 2)]


def _measurement(run: Run, name: str, rng: np.random.Generator) -> MeasurementRow:
    size = {"lambda_max": 12.0, "lambda_min": -1.5, "trace": 60.0, "keskar_sharpness": 40.0}.get(name, 0.08)
    value = size * (1 + 0.1 * rng.normal())  # of a diverged run too: it is frozen at weights that can be measured
    return MeasurementRow(
        run.model, run.strategy, run.schedule, run.seed, run.rate, name, value, None, 1e-4, 30,
        "lanczos", "cross_entropy", "mean", 500, "ab12", "recomputed", "all", "float32",
    )  # fmt: skip


def _paths(files: Results, asked: Bag, model: str, rng: np.random.Generator) -> None:
    barriers, points = [], []
    for strategy, schedule in plan.baseline_arms(asked):
        for kind, height in BARRIER.items():
            for a, b in _pairs(asked, kind):
                tall = height * (1 + 0.2 * rng.random())
                pair = (model, strategy, schedule, kind, a, b)
                barriers += [Barrier(*pair, *where, share * tall) for where, share in SHARES.items()]
                for t in np.linspace(0, 1, 9):
                    rise = 4 * t * (1 - t) * tall
                    points.append(PathPoint(*pair, t, 0.4 + 1.1 * rise, 0.1, 0.6 + rise, 0.2))
    write(files.connectivity(model), barriers)
    write(files.paths(model), points)


def _pairs(asked: Bag, kind: str) -> list[tuple[int, int]]:
    if kind == "siblings":
        return [(seed, seed) for seed in asked.seeds.connected]
    seeds = asked.seeds.reported
    return [(seed, seeds[(i + 1) % len(seeds)]) for i, seed in enumerate(seeds)]
