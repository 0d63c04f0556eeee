"""What the GPU profile asks of a device, counted on its own networks and settings; nothing is timed.

    python benchmarks/gpu_budget.py [--params profiles/gpu/params.yaml]

One update of a cohort is run on tensors that have shapes and no numbers, in the profile's precision, and every kernel
is counted: its multiplications and additions (of matrix products alone), the bytes that it reads and writes, and that
it is started. The plan says how often updates are taken. The table that comes out stands in docs/gpu.md; its seconds
rest on the assumptions below. Takes a few seconds of one core.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from nonconvex import config, plan
from nonconvex.beds import Bed
from nonconvex.config import Settings
from nonconvex.data.splits import Dataset
from nonconvex.models.stacked import stack
from nonconvex.optimizers import OPTIMIZERS
from nonconvex.strategies import strategy_class
from nonconvex.strategies.base import value_and_gradient
from nonconvex.tensors import Params

SHAPES = {"cifar10": ((3, 32, 32), 10), "tinyshakespeare": (None, 65)}  # of an example (None: tokens), and classes

# Assumptions about one H100 (SXM, 80 GB), none of them measured by this project.
PEAK = {"float32": 67e12, "bfloat16": 989e12}  # operations per second, dense; from the data sheet
BANDWIDTH = 3.35e12  # bytes per second, from the data sheet
SHARE_OF_PEAK, SHARE_OF_BANDWIDTH = 0.15, 0.6  # that small products and element-wise kernels are taken to reach
START = 12e-6  # seconds in which Python gets one kernel under way; kernels of other cohorts cannot overlap

PRODUCTS = 140  # gradients' worth of the full set of flatness measures of one run: 80 products, most of them Hessian's
FORWARD = 1 / 3  # of a gradient's cost


@dataclass(frozen=True)
class Cost:
    """Of one update of a cohort."""

    operations: float
    bytes: float
    kernels: float

    def seconds(self, precision: str) -> float:
        """The slowest of computing, moving and starting, which overlap."""
        computing = self.operations / (PEAK[precision] * SHARE_OF_PEAK)
        return max(computing, self.bytes / (BANDWIDTH * SHARE_OF_BANDWIDTH), self.kernels * START)


class Traffic(TorchDispatchMode):
    """Counts kernels and the bytes of their arguments and results; views are neither."""

    def __init__(self):
        super().__init__()
        self.kernels, self.bytes = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if not function.is_view and function.namespace == "aten":  # `prim` asks a tensor what it is
            tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor)]
            self.kernels += 1
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return found


def counted(act: Callable[[], object]) -> Cost:
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        act()
    return Cost(flops.get_total_flops(), traffic.bytes, traffic.kernels)


def update(settings: Settings, model: str, members: int, batch_size: int) -> Cost:
    """One update of a cohort of `members` on batches of `batch_size`, without drawing the batch."""
    training = settings.train[model]
    shape, classes = SHAPES[training.dataset]
    bed = Bed(model, training, Dataset(training.dataset, *[None] * 3, classes=classes), "cpu")  # type: ignore[arg-type]
    network, drawn = stack(bed.build, [0] * members)
    optimizer = OPTIMIZERS[training.optimizer.name](**training.optimizer.options)
    context = training.architecture.get("context")
    with FakeTensorMode(allow_non_fake_inputs=True):
        params = {name: torch.empty(value.shape) for name, value in drawn.items()}
        x = torch.empty(members, batch_size, *shape) if shape else torch.zeros(members, batch_size, context).long()
        y = torch.zeros(x.shape if shape is None else x.shape[:2]).long()
        rates, state = torch.zeros(members, dtype=torch.float64), optimizer.init(params)
        loss = bed.minibatch_losses(network)

        def act() -> Params:
            _, grads = value_and_gradient(params, lambda params: loss(params, x, y))
            return optimizer.update(params, grads, state, rates, 1)[0]

        return counted(act)


@dataclass(frozen=True)
class Demand:
    """What a profile asks of one model: runs, and the gradients on one minibatch that they and all else come to."""

    runs: int
    updates: dict[str, int]  # by strategy, whose runs are a stage
    evaluating: float
    measuring: float
    joining: float


def demand(settings: Settings, model: str) -> Demand:
    """Counted from the plan. At every point of a path statistics, training and test examples are passed forward."""
    training, measure, paths = settings.train[model], settings.measure[model], settings.connectivity[model]
    rates = dict.fromkeys(settings.grid.schedules, training.rates[0])
    runs, updates, examples = 0, {}, 0
    for strategy in settings.grid.strategies:
        tuned = plan.tuning_members(settings, model, strategy)
        others = plan.reported_members(settings, strategy, rates)
        count = len(tuned) + len(others)
        runs += count
        updates[strategy] = count * training.steps * strategy_class(strategy).evaluations
        examples += count * ((training.statistics_examples or 0) + training.validation_examples)
        reported = sum(member.phase == "reported" for member in others)
        examples += reported * (training.train_examples + training.test_examples)
    evaluating = examples * FORWARD / training.batch_size
    arms, seeds = len(plan.baseline_arms(settings)), settings.seeds
    measuring = arms * len(seeds.reported) * PRODUCTS * measure.examples / training.batch_size
    pairs, passed = arms * len(seeds.connected), 2 * paths.train_examples + paths.test_examples
    profiles = 4 * pairs * paths.points * passed * FORWARD / training.batch_size  # three kinds, and siblings
    curves = pairs * paths.curve_steps * paths.batch_size / training.batch_size
    return Demand(runs, updates, evaluating, measuring, profiles + curves)


def with_cross(settings: Settings) -> Settings:
    seeds = settings.seeds.model_copy(update={"cross": settings.seeds.connected})
    return settings.model_copy(update={"seeds": seeds})


def lines(settings: Settings) -> list[str]:
    """The table in Markdown."""
    head = ["| | " + " | ".join(settings.grid.models) + " |", "|---|" + "---|" * len(settings.grid.models)]
    columns = [column(settings, model) for model in settings.grid.models]
    return head + [f"| {name} | " + " | ".join(cells[name] for cells in columns) + " |" for name in columns[0]]


def column(settings: Settings, model: str) -> dict[str, str]:
    training = settings.train[model]
    cost = update(settings, model, training.cohort, training.batch_size)
    together = settings.measure[model].members_at_once
    exact = update(with_precision(settings, model, "float32"), model, together, training.batch_size)
    per_gradient = cost.seconds(training.precision) / training.cohort
    cells = {
        "updates of a run": f"{training.steps} on batches of {training.batch_size}",
        "counted: operations of an update, per member": f"{cost.operations / training.cohort:.3g}",
        "counted: bytes moved by it, per member": f"{cost.bytes / training.cohort:.3g}",
        f"counted: kernels of an update of {training.cohort} members": f"{cost.kernels:,}",
        "assumed: seconds of a run in its cohort": f"{per_gradient * training.steps:.1f}",
    }
    for name, asked in {"row and column": settings, "full cross": with_cross(settings)}.items():
        found = demand(asked, model)
        rest = (found.evaluating + found.measuring + found.joining) * exact.seconds("float32") / together
        cells[f"{name}: runs"] = f"{found.runs}"
        cells[f"{name}: minutes of training"] = f"{sum(found.updates.values()) * per_gradient / 60:.1f}"
        cells[f"{name}: of them the longest stage"] = f"{max(found.updates.values()) * per_gradient / 60:.1f}"
        cells[f"{name}: minutes of evaluating, measuring and paths"] = f"{rest / 60:.1f}"
    return cells


def with_precision(settings: Settings, model: str, precision: str) -> Settings:
    training = settings.train[model].model_copy(update={"precision": precision})
    return settings.model_copy(update={"train": {**settings.train, model: training}})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Count what the GPU profile asks of a device.")
    parser.add_argument("--params", default="profiles/gpu/params.yaml")
    print("\n".join(lines(config.read(parser.parse_args(arguments).params))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
