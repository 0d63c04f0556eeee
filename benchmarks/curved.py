"""Networks whose curvature is measured, small enough that the whole Hessian can be written down."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from conformance.problems import Problem, flat_loss
from nonconvex import config
from nonconvex.beds import bed_of
from nonconvex.data import mnist1d
from nonconvex.evaluation import recomputed
from nonconvex.models.mlp import Mlp
from nonconvex.models.stacked import stack

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "results" / "cpu" / "endpoints" / "resnet-none.safetensors"
RUN = "cosine/0/reported/"


def mlp() -> Problem:
    """40-32-32-10 with ReLU, 100 full-batch steps in float64, so that rounding moves its Hessian nowhere."""
    x, y = mnist1d.load().train.examples(1000)
    network, _ = stack(lambda: Mlp(widths=(32, 32), skip=False), [0])
    model = network.module.double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x.double()), y).backward()
        optimizer.step()
    return _problem("mlp", "an MLP of 40-32-32-10 ReLU units after 100 steps", model.float(), (x, y))


def resnet() -> Problem:
    """The grid's baseline run of seed 0 as it is committed, batch norm at statistics recomputed there."""
    settings = config.read(ROOT / "params.yaml")
    bed = bed_of(settings, "resnet")
    network, _ = stack(bed.build, [0])
    weights = load_file(WEIGHTS)
    params = {name: weights[RUN + name].float()[None] for name, _ in network.module.named_parameters()}
    buffers = recomputed(network, params, bed.statistics_inputs())
    network.module.load_state_dict({name: value[0] for name, value in (params | buffers).items()})
    examples = bed.data.train.examples(settings.measure["resnet"].examples)
    return _problem("resnet", "the default ResNet-8 at the end of a run, batch norm fixed", network.module, examples)


def _problem(name: str, about: str, model: nn.Module, examples: tuple[Tensor, Tensor]) -> Problem:
    return Problem(name, about, model.eval(), nn.CrossEntropyLoss(), [examples], near=0.0)


PROBLEMS: dict[str, Callable[[], Problem]] = {"mlp": mlp, "resnet": resnet}


@cache
def problem(name: str) -> Problem:
    return PROBLEMS[name]()


@dataclass(frozen=True)
class Exact:
    """From the whole Hessian in float64; `eigenvalues` (P,) ascend, `off_diagonal` is the sum of squares off it.

    `loss` tells whether these are the answers to a problem.
    """

    loss: float
    eigenvalues: np.ndarray
    trace: float
    off_diagonal: float

    @property
    def range(self) -> float:
        return float(self.eigenvalues[-1] - self.eigenvalues[0])

    @property
    def probe_error(self) -> float:
        """Standard deviation of one Hutchinson probe over the trace: Var zᵀHz = 2 Σ_{i≠j} H_ij²."""
        return (2 * self.off_diagonal) ** 0.5 / abs(self.trace)


def exact(chosen: Problem) -> Exact:
    """Row by row; the largest network takes minutes, and `save` keeps what was found."""
    loss, point = flat_loss(chosen)
    value = loss(point.requires_grad_())
    slope = torch.autograd.grad(value, point, create_graph=True)[0]
    matrix = torch.stack([torch.autograd.grad(entry, point, retain_graph=True)[0] for entry in slope])
    off = matrix - matrix.diagonal().diag()
    eigenvalues = torch.linalg.eigvalsh(matrix).numpy()
    return Exact(value.item(), eigenvalues, float(matrix.trace()), float(off.square().sum()))


def save(found: Exact, path: Path) -> None:
    np.savez(path, **vars(found))


def load(path: Path) -> Exact:
    with np.load(path, allow_pickle=False) as file:
        return Exact(float(file["loss"]), file["eigenvalues"], float(file["trace"]), float(file["off_diagonal"]))


def belongs(found: Exact, chosen: Problem) -> bool:
    """Whether the answers are those of this problem, up to the rounding by which machines differ."""
    loss, point = flat_loss(chosen)
    return abs(float(loss(point)) / found.loss - 1) < 1e-5
