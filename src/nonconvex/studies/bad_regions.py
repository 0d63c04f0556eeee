"""Four regions that a run should not start in, built the same way for every seed: weights, and what is true of them.

saddle: the network without hidden units (it predicts class frequencies), embedded in the real one by zero weights; a
critical point of the smaller network is one of the larger (Fukumizu & Amari 2000, whose units are copies instead).
plateau: the last hidden layer saturated. sharp: the end of full-batch descent at a small rate. bad_minimum: every wrong
label learned first, then every true one (Liu, Papailiopoulos & Achlioptas 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.beds import Bed, bed_of
from nonconvex.config import Settings
from nonconvex.data.splits import draws
from nonconvex.evaluation import evaluate
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.measure.spectrum import extreme_eigenvalues
from nonconvex.models.stacked import Stacked, select, stack
from nonconvex.observations.bad_starts import RegionPoint
from nonconvex.optimizers import Sgd
from nonconvex.studies.training import Recipe, cohort, snapshots, with_shuffled_labels
from nonconvex.studies.trajectories import jostled, rounded, smooth_bed
from nonconvex.tensors import Params

LOSS = "cross_entropy"
WRONG, SHUFFLED = 1, 0  # seeds of the permutations that deal out wrong labels, and those of the control
SIGNS = 21  # stream of random numbers
SADDLE_PRODUCTS = 60  # of Lanczos at both ends: the saddle's smallest eigenvalues lie close together
LAST = "hidden.1"  # the layer before the output


@dataclass(frozen=True)
class Starts:
    """Of each of `seeds`: weights (E, *shape) by region, those of the exact saddle, and what was measured there."""

    seeds: tuple[int, ...]
    params: dict[str, Params]
    points: list[RegionPoint]


def bed_for(settings: Settings, labels: str = "true") -> Bed:
    """The study's network on its examples."""
    study = settings.strategies.bad_starts
    bed = smooth_bed(bed_of(settings, "mlp"), LOSS, study.examples, study.widths)
    return with_shuffled_labels(bed, SHUFFLED) if labels == "shuffled" else bed


def starts(settings: Settings, seeds: Sequence[int]) -> Starts:
    """All regions of every seed, and its normal weights."""
    torch.set_num_threads(1)
    study, bed = settings.strategies.bad_starts, bed_for(settings)
    network, normal = stack(bed.build, seeds, bed.device)
    saddle = at_saddle(bed, normal)
    sharp = descended(bed, normal, seeds, study.sharp.updates, study.sharp.rate)
    minimum, learned = bad_minimum(settings, bed, seeds)
    exact = {"normal": normal, "saddle": saddle, "plateau": saturated(bed, network, normal, seeds, study.plateau.bias)}
    exact |= {"sharp": sharp, "bad_minimum": minimum}
    points = [point for region, at in exact.items() for point in measured(settings, bed, network, region, at, seeds)]
    told = dict(zip(seeds, learned, strict=True))
    points = [with_solved(point, study.sharp.solved, told[point.seed]) for point in points]
    displaced = [jostled(select(saddle, [i]), study.saddle.displacement, seed) for i, seed in enumerate(seeds)]
    beside = {name: torch.cat([one[name] for one in displaced]) for name in saddle}
    return Starts(tuple(seeds), exact | {"saddle": beside}, points)


def at_saddle(bed: Bed, params: Params) -> Params:
    """No weights into and out of the last hidden layer, and output biases at the logarithm of class frequencies."""
    zero = {name: torch.zeros_like(params[name]) for name in (f"{LAST}.weight", f"{LAST}.bias", "head.weight")}
    return {**params, **zero, "head.bias": log_frequencies(bed).expand_as(params["head.bias"]).clone()}


def log_frequencies(bed: Bed) -> Tensor:
    """(classes,) ln of each class's share of the training examples, which has to be positive."""
    _, y = bed.data.train.examples()
    counts = torch.bincount(y, minlength=bed.data.classes)
    if not counts.all():
        raise ValueError(f"classes without training examples: {counts.tolist()} examples per class found")
    return (counts / len(y)).log()


def saddle_eigenvalue(bed: Bed, params: Params) -> Tensor:
    """λ_min (E,) at the saddle in closed form: -σ_max(C), C = (1/n) Σ_i (p - y_i) h_iᵀ, h the first hidden layer.

    There the Hessian couples the output weights of a unit with its input weights by C and with nothing else (tanh'(0) =
    1), and neither with themselves: eigenvalues ±σ(C), once per unit; the rest is positive semi-definite.
    """
    x, y = bed.data.train.examples()
    weights, shift = params["hidden.0.weight"], params["hidden.0.bias"]
    hidden = torch.tanh(torch.einsum("ehd,nd->enh", weights, x.to(weights)) + shift[:, None])
    residual = log_frequencies(bed).exp() - torch.nn.functional.one_hot(y, bed.data.classes)
    coupling = torch.einsum("nc,enh->ech", residual.to(hidden), hidden) / len(y)
    return -torch.linalg.matrix_norm(coupling, ord=2)


def saturated(bed: Bed, network: Stacked, params: Params, seeds: Sequence[int], bias: float) -> Params:
    """Biases ±`bias` in the last hidden layer; those of the output so that class frequencies are predicted on average.

    What is left of the gradient is then what the saturated units let through.
    """
    count = params[f"{LAST}.bias"].shape[1]
    signs = [1 - 2 * (draws(count, seed, 0, SIGNS) & 1).astype("int64") for seed in seeds]
    pushed = bias * torch.stack([torch.from_numpy(one) for one in signs]).to(params[f"{LAST}.bias"])
    moved = {**params, f"{LAST}.bias": pushed}
    x, _ = bed.data.train.examples()
    with torch.no_grad():
        logits = network(moved, x.expand(len(seeds), *x.shape)).mean(1)
    return {**moved, "head.bias": moved["head.bias"] + log_frequencies(bed) - logits}


def descended(bed: Bed, begin: Params, seeds: Sequence[int], updates: int, rate: float) -> Params:
    """Full-batch gradient descent."""
    return _end(bed, Recipe(updates, 0, optimizer=Sgd()), begin, seeds, rate)


def bad_minimum(settings: Settings, bed: Bed, seeds: Sequence[int]) -> tuple[Params, list[bool]]:
    """Weights at the end, and whether every wrong label had been learned before the true ones came."""
    study, (network, begin) = settings.strategies.bad_starts, stack(bed.build, seeds, bed.device)
    how, wrong = study.bad_minimum, with_shuffled_labels(bed, WRONG)
    recipe = lambda steps: Recipe(steps, study.batch_size, optimizer=Sgd(how.momentum))  # noqa: E731
    misled = _end(wrong, recipe(how.wrong), begin, seeds, how.rate)
    _, errors = evaluate(network, misled, {}, wrong.data.train.examples(), wrong.loss)
    return _end(bed, recipe(how.right), misled, seeds, how.rate), (errors == 0).tolist()


def _end(bed: Bed, recipe: Recipe, begin: Params, seeds: Sequence[int], rate: float) -> Params:
    _, _, made = cohort(bed, recipe, seeds, [rate] * len(seeds))
    *_, end = snapshots(made, begin, [recipe.steps])
    return _finite(end)


def _finite(end: train.State) -> Params:
    if bool((end.diverged >= 0).any()):
        raise ValueError(f"the way to a region diverged at steps {end.diverged.tolist()}, -1 for none; a smaller rate")
    return end.params


def measured(
    settings: Settings, bed: Bed, network: Stacked, region: str, params: Params, seeds: Sequence[int]
) -> list[RegionPoint]:
    """Gradient and spectrum in float64, losses and errors. `solved` is not yet said."""
    study = settings.strategies.bad_starts
    x, y = bed.data.train.examples()
    objective = Objective(network, bed.loss, shared(x.double(), y))
    exact = {name: value.double() for name, value in params.items()}
    columns = [objective.gradients(exact).norm(dim=1), *spectrum(settings, bed, objective, region, exact)]
    columns += evaluate(network, params, {}, (x, y), bed.loss)
    columns.append(evaluate(network, params, {}, bed.data.test.examples(study.test_examples), bed.loss)[1])
    rows = zip(*([rounded(value, 6) for value in column] for column in columns), strict=True)
    return [RegionPoint(region, seed, *row, None, None) for seed, row in zip(seeds, rows, strict=True)]


def spectrum(settings: Settings, bed: Bed, objective: Objective, region: str, params: Params) -> list[Tensor]:
    """λ_min and λ_max, each with its relative residual, and λ_min in closed form; λ_min at the saddle only."""
    lanczos, at_saddle = settings.strategies.bad_starts.lanczos, region == "saddle"
    products, ends = (SADDLE_PRODUCTS, "both") if at_saddle else (lanczos.iterations, "largest")
    found = extreme_eigenvalues(Hessian(objective, params), products, lanczos.tolerance, ends=ends)
    low, high = ([end.value, end.residual / end.value.abs()] for end in (found.smallest, found.largest))
    unknown = torch.full_like(high[0], torch.nan)
    return [*low, *high, saddle_eigenvalue(bed, params)] if at_saddle else [unknown, unknown, *high, unknown]


def with_solved(point: RegionPoint, sharp: float, learned: bool) -> RegionPoint:
    """With the answer to whether a minimum is one: a loss of at most `sharp`, or no errors now and none before."""
    if point.region == "sharp":
        return replace(point, solved=int(point.train_loss <= sharp))
    if point.region == "bad_minimum":
        return replace(point, solved=int(learned and point.train_error == 0))
    return point
