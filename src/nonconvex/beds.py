"""Test beds: a model on its data on one device, and how jobs on it spread over cores or machines.

Sums on a GPU come in a fixed order and in full float32 (`exact`): the same machine gives the same bytes there too.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from joblib import Parallel, delayed
from torch import Tensor

from nonconvex import cluster
from nonconvex.config import Settings, Training
from nonconvex.data import Dataset, load_dataset
from nonconvex.losses import LOSSES
from nonconvex.models import model_class
from nonconvex.tensors import Params


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

    def minibatch_losses(self, network: Callable[..., Tensor]) -> Callable[[Params, Tensor, Tensor], Tensor]:
        """(params, x, y) -> (E,) mean losses, as training sees them: in the bed's precision.

        In bfloat16 the matrix products alone are rounded; weights, their gradients and the loss stay float32. Nothing
        that is evaluated or measured comes through here.
        """
        if self.training.precision == "float32":
            return lambda params, x, y: self.loss(network(params, x), y).mean(1)

        def losses(params: Params, x: Tensor, y: Tensor) -> Tensor:
            with torch.autocast(x.device.type, torch.bfloat16):
                logits = network(params, x)
            return self.loss(logits.float(), y).mean(1)

        return losses

    def build(self) -> torch.nn.Module:
        return model_class(self.name)(classes=self.data.classes, **self.training.architecture)

    def statistics_inputs(self) -> Tensor:
        return self.data.train.examples(self.training.statistics_examples)[0]


def bed_of(settings: Settings, model: str) -> Bed:
    """The model's test bed as the settings describe it, on the device they choose."""
    training, device = settings.train[model], exact(chosen_device(settings.compute.device))
    return Bed(model, training, _dataset(training.dataset, training.architecture.get("context"), device), device)


@lru_cache(maxsize=2)
def _dataset(name: str, context: int | None, device: str) -> Dataset:
    return load_dataset(name, context).to(device)


def chosen_device(name: str) -> str:
    """`auto` is the GPU when there is one. Raises ValueError for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device is cuda but no CUDA device was found; allowed here: auto, cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


@lru_cache
def exact(device: str) -> str:
    """The device, told once per process to repeat itself bit for bit and to round no float32 product to TF32."""
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS sums in a fixed order; read at its start
        # a warning and no error: what has no deterministic kernel runs, and says so
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # costs a pass, and nothing here reads such memory
        torch.set_float32_matmul_precision("highest")
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    return device


def spread(settings: Settings, jobs: Sequence[Callable]) -> list:
    """The results of the jobs, in order: from a process per core, from one on a GPU, or from a cluster's workers."""
    if settings.compute.backend.name == "dask":
        return cluster.spread(settings.compute.backend, jobs)
    workers = settings.compute.workers or (1 if chosen_device(settings.compute.device) == "cuda" else -1)
    return Parallel(n_jobs=workers)(delayed(job)() for job in jobs)
