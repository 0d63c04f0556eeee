"""Test beds: a model on its data on one device, and how jobs on it spread over cores or machines."""

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


def spread(settings: Settings, jobs: Sequence[Callable]) -> list:
    """The results of the jobs, in order: from a process per core, from one on a GPU, or from a cluster's workers."""
    if settings.compute.backend.name == "dask":
        return cluster.spread(settings.compute.backend, jobs)
    workers = settings.compute.workers or (1 if chosen_device(settings.compute.device) == "cuda" else -1)
    return Parallel(n_jobs=workers)(delayed(job)() for job in jobs)
