"""Gradient descent at the edge of stability as in Cohen et al. 2021 and their public code (locuslab/edge-of-stability).

A tanh network with two hidden layers of 200 and PyTorch's own initial weights, on the first 5,000 images of CIFAR-10,
under ½ ‖output - one-hot label‖², at constant rates with thresholds 2/η of 50, 100 and 200, followed up to 99 %
training accuracy. Every one of the 3,072 inputs has mean 0 and variance 1 over the 50,000 training images.
"""

from dataclasses import replace

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of
from nonconvex.config import Settings
from nonconvex.data.splits import Arrays
from nonconvex.observations.references import PublishedPoint
from nonconvex.optimizers import Sgd
from nonconvex.studies.training import Recipe, cohort, with_architecture, with_loss
from nonconvex.studies.trajectories import Probe, evenly, readings
from nonconvex.study_settings.references import PublishedEdge

MODEL = "mlp"
IMAGES = "resnet"  # the bed whose images it sees
LOW, HIGH = 0.9, 1.2  # of λ_max η / 2 at the edge: "at, or just above" 1 in the paper


def observe(settings: Settings) -> list[PublishedPoint]:
    """Every rate from every seed, in one cohort: λ_max, training loss and error along the way."""
    torch.set_num_threads(1)
    edge = settings.validation.edge
    bed, optimizer = edge_bed(settings, edge), Sgd()
    keys = [(rate, seed) for rate in edge.rates for seed in edge.seeds]
    recipe = Recipe(edge.steps, batch_size=0, optimizer=optimizer)
    network, params, made = cohort(bed, recipe, [seed for _, seed in keys], [rate for rate, _ in keys])
    probe, at = Probe(bed, network, optimizer, edge.lanczos), evenly(edge.steps, edge.readings)
    found = [reading for _, reading in readings(probe, made, train.start(made, params), at)]
    return [PublishedPoint(*key, reading.step, **reading.cells(i)) for i, key in enumerate(keys) for reading in found]


def edge_bed(settings: Settings, edge: PublishedEdge) -> Bed:
    """The published network on the published examples; in float32, whatever the bed trains in."""
    images, bed = bed_of(settings, IMAGES), bed_of(settings, MODEL)
    train_bytes, labels = images.data.train.x, images.data.train.y
    mean, deviation = moments(torch.cat([train_bytes, images.data.validation.x]))
    x = (train_bytes[: edge.examples].flatten(1).float() - mean) / deviation
    data = replace(images.data, train=Arrays(x, labels[: edge.examples]))
    shape = {"inputs": x.shape[1], "widths": edge.widths, "activation": "tanh", "gain": None, "skip": False}
    bed = with_loss(with_architecture(replace(bed, data=data), **shape), "squared_error")
    return replace(bed, training=bed.training.model_copy(update={"precision": "float32", "statistics_examples": None}))


def moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (inputs,) of every input over images of bytes (N, ...); 1 where it never varies."""
    flat = images.flatten(1)
    parts = flat.T.split(256)  # a few inputs at a time: in float64 all of them would take gigabytes
    found = [(part.double().mean(1), part.double().std(1, correction=0)) for part in parts]
    mean, deviation = (torch.cat(column).float() for column in zip(*found, strict=True))
    return mean, torch.where(deviation > 0, deviation, 1.0)
