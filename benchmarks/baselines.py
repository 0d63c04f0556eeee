"""Published baselines of MNIST-1D, trained anew with our data, models, losses and loop.

    python benchmarks/baselines.py [--out results/cpu/baselines.csv]

Upstream's executed notebooks (github.com/greydanus/mnist1d) train with Adam at rate 1e-2 without weight decay
on batches of 100 taken in order, for 6,000 steps, and print the accuracy on the frozen 1,000 test examples. A
model passes when its mean over five seeds is as close to that number as its tolerance says; the exit status
is 1 if one fails. Two minutes of one core.
"""

import argparse
import csv
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from nonconvex import train
from nonconvex.data import mnist1d
from nonconvex.data.splits import Arrays
from nonconvex.evaluation import evaluate
from nonconvex.losses import cross_entropy
from nonconvex.models.cnn import Cnn
from nonconvex.models.mlp import Mlp
from nonconvex.models.stacked import flatten, stack
from nonconvex.optimizers import AdamW
from nonconvex.progress import counted
from nonconvex.strategies import strategy_class

SEEDS, STEPS, BATCH, RATE = range(5), 6_000, 100, 1e-2


@dataclass(frozen=True)
class Baseline:
    """A model in PyTorch's own initialisation, and the test accuracy that the notebook prints for it."""

    build: Callable[[], nn.Module]
    published: float
    tolerance: float = 0.015


BASELINES = {
    "logistic": Baseline(partial(Mlp, widths=(), gain=None), 0.315, 0.007),
    "mlp": Baseline(partial(Mlp, gain=None), 0.646),
    "cnn": Baseline(Cnn, 0.923),
}


@dataclass(frozen=True)
class Row:
    """Accuracies are shares; `deviation` is the standard deviation over the seeds."""

    model: str
    parameters: int
    seeds: int
    steps: int
    published: float
    tolerance: float
    accuracy: float
    deviation: float
    passed: bool


def run(name: str, data: Arrays, test: Arrays, steps: int = STEPS) -> Row:
    """Train one cohort of five seeds and compare its accuracy on `test` with the published one."""
    baseline = BASELINES[name]
    network, params = stack(baseline.build, SEEDS)
    cohort = train.Cohort(
        loss=lambda params, x, y: cross_entropy(network(params, x), y).mean(1),
        batch=partial(in_order, data),
        rates=torch.full((steps, len(SEEDS)), RATE, dtype=torch.float64),
        order=lambda step: SEEDS,
        optimizer=AdamW(weight_decay=0.0),
        strategy=strategy_class("none")(),
    )
    with counted(name, steps) as advance:
        for state in train.train(cohort, train.start(cohort, params)):  # noqa: B007
            advance()
    _, errors = evaluate(network, state.params, {}, test.examples(), cross_entropy)
    accuracy, deviation = float(1 - errors.mean()), float(errors.std())
    passed = abs(accuracy - baseline.published) <= baseline.tolerance
    size = flatten(params).shape[1]
    return Row(name, size, len(SEEDS), steps, baseline.published, baseline.tolerance, accuracy, deviation, passed)


def in_order(data: Arrays, seeds: range, step: int) -> tuple[Tensor, Tensor]:
    """Batch number `step` of the unshuffled data, the same for every seed: x (E, B, 40), y (E, B)."""
    start = step * BATCH % len(data)
    x, y = (part[start : start + BATCH] for part in (data.x, data.y))
    return x.expand(len(seeds), *x.shape), y.expand(len(seeds), *y.shape)


def write(rows: list[Row], path: Path) -> None:
    """One CSV row per model, floats with 9 significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = asdict(row).items()
            writer.writerow({key: f"{value:.9g}" if isinstance(value, float) else value for key, value in cells})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train the published MNIST-1D baselines anew.")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    parser.add_argument("--steps", type=int, default=STEPS, help="other than %(default)s is no fair comparison")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data, test = mnist1d.load().train, mnist1d.frozen_test()
    rows = [run(name, data, test, options.steps) for name in BASELINES]
    for row in rows:
        spread = f"{100 * row.accuracy:.1f} % ± {100 * row.deviation:.1f} over {row.seeds} seeds"
        verdict = "within" if row.passed else "NOT within"
        print(f"{row.model}: {spread}, published {100 * row.published:.1f} %, {verdict} {row.tolerance:.3f}")
    if options.out:
        write(rows, options.out)
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
