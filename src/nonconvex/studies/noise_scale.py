"""Does only the ratio of rate and batch size matter?

A quadratic with additive noise is simulated and stepped exactly beside its closed forms, and walks the same kind of
grid as the network: every ratio with every batch size, at equal epochs. With equal epochs the product of rate and steps
is equal along a ratio too (steps = epochs · n / B, rate = ratio · B); across ratios it is made equal by reading a run
of a higher ratio earlier. Losses are those of the mean over examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nonconvex.beds import Bed, bed_of, spread
from nonconvex.config import Settings
from nonconvex.measure import noisy_quadratic
from nonconvex.measure.gradient_noise import batch_noise, noise_scale
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.measure.spectrum import extreme_eigenvalues
from nonconvex.models.stacked import Params, Stacked, select
from nonconvex.observations import noise_scale as rows
from nonconvex.optimizers import Sgd
from nonconvex.studies.training import Recipe, cohort, scores, snapshots, with_examples
from nonconvex.studies.trajectories import rounded
from nonconvex.study_settings.noise_scale import Grid, NetworkNoise, NoiseScale

MODELS = ("mlp",)
FILES = ("stationary", "cells", "sharpness", "scales", "noise")
OTHER = 5000  # added to a seed for its twin
EXACT = 9  # significant digits of what is compared with a closed form

Rows = dict[str, list]


def observe(settings: Settings) -> Rows:
    """The records of both beds, by file name; jobs in the order of their cost."""
    s = settings.rates.noise_scale
    sizes = [size for size in s.mlp.batch_sizes if size != s.mlp.control]
    jobs = [partial(observe_batch, settings, size, "plain") for size in sizes[:1]]
    jobs += [partial(observe_batch, settings, s.mlp.control, arm) for arm in ("plain", "momentum")]
    jobs += [partial(observe_batch, settings, size, "plain") for size in sizes[1:]]
    jobs.append(partial(observe_quadratic, s))
    parts = spread(settings, jobs)
    return {name: [row for part in parts for row in part.get(name, [])] for name in FILES}


def observe_quadratic(s: NoiseScale) -> Rows:
    """Stationary noise and the grid, a new draw of curvatures and noise per seed."""
    parts = [(stationary(s, seed), quadratic_cells(s, seed)) for seed in s.seeds]
    return {"stationary": [row for a, _ in parts for row in a], "cells": [row for _, b in parts for row in b]}


def stationary(s: NoiseScale, seed: int) -> list[rows.Stationary]:
    """Every rate and batch size, without momentum and with it at the rate that is to be equal."""
    q, generator = s.quadratic, np.random.Generator(np.random.Philox(key=[seed, 1]))
    h, c = np.exp(generator.uniform(-q.jitter, q.jitter, 2))
    found = []
    for momentum in (0.0, q.momentum):
        sizes, rates = (v.ravel() for v in np.meshgrid(q.batch_sizes, (1 - momentum) * np.array(q.rates) / h))
        start, noise = np.full(len(rates), c), c / sizes
        limit = noisy_quadratic.stationary(rates, h, noise, momentum)
        recursed = noisy_quadratic.recursion(q.recursion * (5 if momentum else 1), start, rates, h, noise, momentum)
        expected = limit if momentum else noisy_quadratic.after(q.recursion, start, rates, h, noise)
        deviation = np.abs(recursed / expected - 1)
        drawn = noisy_quadratic.simulated(generator, q.chains, q.steps, rates, h, noise, momentum)
        found += [
            rows.Stationary(
                seed,
                momentum,
                rounded(rate, EXACT),
                int(size),
                rounded(h, EXACT),
                rounded(c, EXACT),
                *(float(v) for v in values),
            )
            for rate, size, *values in zip(rates, sizes, limit, deviation, drawn, strict=True)
        ]
    return found


def quadratic_cells(s: NoiseScale, seed: int) -> list[rows.Cell]:
    """Exact expected losses of many curvatures at once, from x = 1 in each, with the noise c h of a minimum."""
    q, generator = s.quadratic, np.random.Generator(np.random.Philox(key=[seed, 2]))
    h = np.geomspace(1, q.lowest, q.curvatures) * np.exp(generator.uniform(-q.jitter, q.jitter, q.curvatures))
    h, c = h / h.max(), float(np.exp(generator.uniform(-q.jitter, q.jitter)))
    found = []
    for ratio in q.grid.ratios:
        for size in q.grid.batch_sizes:
            rate, full = ratio * size, q.time / (q.grid.ratios[0] * size)
            for epochs in readings(q.grid, 2 ** (len(q.grid.ratios) - 1)):
                steps = round(full * epochs / 2 ** (len(q.grid.ratios) - 1))
                loss = 0.5 * float((h * noisy_quadratic.after(steps, np.ones_like(h), rate, h, c * h / size)).sum())
                found.append(
                    rows.Cell(
                        "quadratic", "plain", ratio, size, seed, epochs, rate, steps, None, rounded(loss, EXACT), None
                    )
                )
    return found


def readings(grid: Grid, epochs: int) -> list[int]:
    """Where runs are read: at the last epoch, and at those at which a higher ratio is as far in rate times steps."""
    return [epochs >> k for k in reversed(range(len(grid.ratios)))]


def observe_batch(settings: Settings, batch_size: int, arm: str) -> Rows:
    """All ratios and seeds at one batch size, and what is measured along and after them."""
    torch.set_num_threads(1)
    made = Runs(settings, batch_size, arm)
    found = {"cells": []} | ({name: [] for name in FILES} if arm == "plain" else {})
    for epochs, state in made.states():
        found["cells"] += made.cells(epochs, state.params, state.diverged)
        if arm == "plain" and batch_size == made.how.control:
            found["scales"] += made.scales(epochs, state.params)
    if arm == "plain":
        if batch_size == made.how.control:
            found["noise"] += made.noise(state.params)
        found["sharpness"] += made.sharpness(state.params, state.diverged)
    return found


@dataclass(frozen=True)
class Runs:
    """The runs of one batch size: every ratio with every seed, and at the control's size twins of the middle ratio."""

    settings: Settings
    batch_size: int
    arm: str

    @property
    def s(self) -> NoiseScale:
        return self.settings.rates.noise_scale

    @property
    def how(self) -> NetworkNoise:
        return self.s.mlp

    @property
    def bed(self) -> Bed:
        return with_examples(bed_of(self.settings, "mlp"), self.how.examples)

    @property
    def middle(self) -> float:
        """The ratio of twins and of curvature: the one above the lowest."""
        return self.how.ratios[1]

    @property
    def members(self) -> list[tuple[str, float, int]]:
        """(arm, ratio, seed) of every run."""
        found = [(self.arm, ratio, seed) for ratio in self.how.ratios for seed in self.s.seeds]
        twins = self.arm == "plain" and self.batch_size == self.how.control
        return found + [("twin", self.middle, seed) for seed in self.s.seeds if twins]

    @property
    def sharp(self) -> bool:
        """Whether curvature is measured here: at the smallest batch, the largest of a small rate, and the largest."""
        small = [size for size in self.how.batch_sizes if self.middle * size <= self.how.small_rate * (1 + 1e-9)]
        return self.batch_size in (self.how.batch_sizes[0], small[-1], self.how.batch_sizes[-1])

    @property
    def network(self) -> Stacked:
        return Stacked(self.bed.build().to(self.bed.device))

    def states(self):
        """(epochs, state) at the start and at every reading."""
        momentum = self.how.momentum if self.arm == "momentum" else 0.0
        per_epoch = self.how.examples // self.batch_size
        recipe = Recipe(self.how.epochs * per_epoch, self.batch_size, optimizer=Sgd(momentum=momentum))
        seeds = [seed + OTHER * (arm == "twin") for arm, _, seed in self.members]
        rates = [ratio * self.batch_size * (1 - momentum) for _, ratio, _ in self.members]
        _, params, made = cohort(self.bed, recipe, seeds, rates)
        for state in snapshots(made, params, [k * per_epoch for k in (0, *readings(self.how, self.how.epochs))]):
            yield state.step // per_epoch, state

    def cells(self, epochs: int, params: Params, diverged: Tensor) -> list[rows.Cell]:
        """Training loss of every run, and at the end its test error."""
        if not epochs:
            return []
        last = epochs == self.how.epochs
        losses, _ = scores(self.bed, self.network, params, "train", self.how.scored)
        errors = [None] * len(losses)
        if last:
            errors = scores(self.bed, self.network, params, "test", self.how.test_examples)[1].tolist()
        found, steps = [], epochs * self.how.examples // self.batch_size
        for (arm, ratio, seed), step, loss, error in zip(
            self.members, diverged.tolist(), losses.tolist(), errors, strict=True
        ):
            ended = step < 0
            numbers = (rounded(loss, 6) if ended else None, rounded(error, 6) if ended and last else None)
            name = ("mlp", arm, ratio, self.batch_size, seed, epochs)
            found.append(rows.Cell(*name, ratio * self.batch_size, steps, None if ended else step, *numbers))
        return found

    def of_ratio(self, ratios: Sequence[float]) -> list[tuple[int, float, int]]:
        """(place, ratio, seed) of the plain runs with these ratios."""
        found = enumerate(self.members)
        return [(e, ratio, seed) for e, (arm, ratio, seed) in found if arm == "plain" and ratio in ratios]

    def scales(self, epochs: int, params: Params) -> list[rows.SimpleScale]:
        """B_simple of the lowest and the highest ratio."""
        x, y = self.bed.data.train.examples(self.how.noise_examples)
        found = []
        for e, ratio, seed in self.of_ratio((self.how.ratios[0], self.how.ratios[-1])):
            scale = noise_scale(self.network, self.bed.loss, select(params, [e]), x, y)
            numbers = (rounded(v, 6) for v in (scale.trace, scale.squared_gradient, scale.simple))
            found.append(rows.SimpleScale(ratio, self.batch_size, seed, epochs, scale.examples, *numbers))
        return found

    def noise(self, params: Params) -> list[rows.BatchNoise]:
        """What minibatches of every size show at the ends of the middle ratio's runs."""
        data, loss = self.bed.data.train, self.bed.loss
        found = []
        for e, _, seed in self.of_ratio((self.middle,)):
            one = select(params, [e])
            centre = Objective(self.network, loss, shared(*data.examples())).gradients(one)[0]
            for size in self.how.batch_sizes:
                count = min(self.how.noise_batches, self.how.examples // size)
                batches = [data.batch([seed], step, size) for step in range(count)]
                x, y = (torch.cat(part) for part in zip(*batches, strict=True))
                variance = batch_noise(self.network, loss, one, x, y, centre)
                found.append(rows.BatchNoise(seed, size, count, rounded(variance, 6)))
        return found

    def sharpness(self, params: Params, diverged: Tensor) -> list[rows.Sharpness]:
        """λ_max at the end of the middle ratio's runs, where it is wanted."""
        if not self.sharp:
            return []
        how, data = self.how, self.bed.data.train
        kept = [(e, ratio, seed) for e, ratio, seed in self.of_ratio((self.middle,)) if diverged[e] < 0]
        if not kept:
            return []
        chosen = select(params, [e for e, _, _ in kept])
        objective = Objective(self.network, self.bed.loss, shared(*data.examples(how.curvature_examples)))
        found = extreme_eigenvalues(
            Hessian(objective, chosen), how.lanczos.iterations, how.lanczos.tolerance, ends="largest"
        ).largest
        losses = objective.losses(chosen)
        return [
            rows.Sharpness(ratio, self.batch_size, seed, objective.examples, *(rounded(v, 6) for v in numbers))
            for (_, ratio, seed), *numbers in zip(
                kept, losses, found.value, found.residual / found.value.abs(), strict=True
            )
        ]
