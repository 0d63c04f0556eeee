"""Are critical points mostly saddles, and are the signs of Hessian eigenvalues independent? Four places to look."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonconvex.beds import spread
from nonconvex.config import Settings
from nonconvex.measure import catalogue, critical, ensembles
from nonconvex.measure.critical import LinearNetwork, Search, Spectra, TanhNetwork
from nonconvex.observations.critical_points import (
    CatalogueEntry,
    CriticalPoint,
    DrawnMatrices,
    KnownSearch,
    PositiveProbability,
    SearchCount,
    StalledSearches,
)
from nonconvex.study_settings.properties import CriticalPoints

MODELS = ()
FLAT = 0.9  # r above which a stalled point is gradient-flat (Frye et al. 2021)
SAME = 8  # significant digits in which the losses of one critical point agree
COARSE = 100  # times the cut-off for zero
LOSS_TOLERANCE = 1e-9  # of a loss of the catalogue
TEACHER_SCALE = 1.5  # standard deviation of the teacher's weights into its hidden units


def observe(settings: Settings) -> dict[str, list[Any]]:
    chosen = settings.properties.critical_points
    jobs = [partial(of_seed, chosen, seed) for seed in chosen.seeds]
    exact = [PositiveProbability(n, ensembles.log_probability_positive(n)) for n in chosen.dimensions]
    found = spread(settings, jobs)
    names = ("drawn", "catalogue", "points", "searches", "stalled", "known")
    return {"exact": exact} | {name: list(chain.from_iterable(part[name] for part in found)) for name in names}


def of_seed(chosen: CriticalPoints, seed: int) -> dict[str, list[Any]]:
    """Everything of one replicate, by file name."""
    torch.set_num_threads(1)
    parts = {"drawn": drawn(chosen, seed), "catalogue": orbits(chosen, seed), "known": [known(chosen, seed)]}
    arms = [tanh_points(chosen, seed, decay) for decay in chosen.decays]
    return parts | {name: [row for arm in arms for row in arm[name]] for name in ("points", "searches", "stalled")}


def drawn(chosen: CriticalPoints, seed: int) -> list[DrawnMatrices]:
    """Random matrices of every dimension."""
    rows = []
    for dimension, draws in chosen.drawn.items():
        index = ensembles.negative_eigenvalues(dimension, draws, _generator(seed, dimension))
        moments = float(index.mean()), float(index.var(ddof=1))
        rows.append(DrawnMatrices(seed, dimension, draws, int((index == 0).sum()), *moments))
    return rows


def linear_network(chosen: CriticalPoints, seed: int) -> tuple[LinearNetwork, list[float], Tensor, Tensor]:
    """A target with random singular vectors U, V and values 1, 2, ... times a random factor, falling."""
    generator, modes = _generator(seed, 1000), chosen.modes
    left, right = (np.linalg.qr(generator.standard_normal((modes, modes)))[0] for _ in range(2))
    values = [(modes - i) * factor for i, factor in enumerate(generator.uniform(0.8, 1.2, modes))]
    left, right = torch.from_numpy(left), torch.from_numpy(right)
    values = sorted(values, reverse=True)
    target = left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right.T
    return LinearNetwork(target, chosen.bottleneck), values, left, right


def orbits(chosen: CriticalPoints, seed: int) -> list[CatalogueEntry]:
    """The catalogue, each entry measured at a random point of its orbit."""
    surface, values, left, right = linear_network(chosen, seed)
    generator, size = _generator(seed, 1001), chosen.bottleneck
    mixing = np.linalg.qr(generator.standard_normal((size, size)))[0] * generator.uniform(0.5, 2, size)
    mixing = torch.from_numpy(mixing)
    rows = []
    for subset in catalogue.subsets(chosen.modes):
        point = catalogue.representative(subset, left, values, right, mixing)[None]
        index = critical.spectra(surface.hessians(point), chosen.zero).negative.item()
        rows.append(
            CatalogueEntry(
                seed,
                "".join(str(int(taken)) for taken in subset),
                surface.parameters,
                surface.gradients(point).norm().item(),
                catalogue.loss_of(subset, values),
                surface.losses(point).item(),
                catalogue.index_of(subset, values, chosen.bottleneck),
                index,
            )
        )
    return rows


def known(chosen: CriticalPoints, seed: int) -> KnownSearch:
    """The search let loose where the answer is known."""
    surface, values, *_ = linear_network(chosen, seed)
    size = (chosen.known_starts, surface.parameters)
    starts = torch.from_numpy(_generator(seed, 1002).standard_normal(size))
    ends = critical.search(surface, starts, chosen.iterations, chosen.tolerance)
    points = ends.points[ends.slopes <= chosen.tolerance]
    index = critical.spectra(surface.hessians(points), chosen.zero).negative.tolist() if len(points) else []
    entries = [
        (catalogue.loss_of(subset, values), catalogue.index_of(subset, values, chosen.bottleneck))
        for subset in catalogue.subsets(chosen.modes)
    ]
    matched = [
        any(abs(loss - entry) <= LOSS_TOLERANCE and negative == of_entry for entry, of_entry in entries)
        for loss, negative in zip(surface.losses(points).tolist(), index, strict=True)
    ]
    return KnownSearch(seed, len(starts), len(points), sum(matched), len(entries))


def tanh_points(chosen: CriticalPoints, seed: int, decay: float) -> dict[str, list[Any]]:
    """Critical points of one tiny network, where the searches for more stalled, and how many there were of each."""
    surface = TanhNetwork(*teacher(chosen, seed), chosen.hidden, decay)
    starts, on_trajectories = beginnings(chosen, surface, seed)
    ends = critical.search(surface, starts, chosen.iterations, chosen.tolerance)
    converged = ends.slopes <= chosen.tolerance
    counts = [
        SearchCount(decay, seed, name, int(of_kind.sum()), int((of_kind & converged).sum()))
        for name, of_kind in (("random", ~on_trajectories), ("trajectory", on_trajectories))
    ]
    points = list(distinct(chosen, surface, seed, _part(ends, converged), on_trajectories[converged]))
    return {"points": points, "searches": counts, "stalled": stalled(chosen, seed, decay, _part(ends, ~converged))}


def teacher(chosen: CriticalPoints, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (n, d) from N(0, I) and targets (n,): a random tanh network's outputs, standardised, plus noise."""
    generator = _generator(seed, 1003)
    draw = lambda *shape: torch.from_numpy(generator.standard_normal(shape))  # noqa: E731
    x = draw(chosen.examples, chosen.inputs)
    hidden = torch.tanh(x @ (TEACHER_SCALE * draw(chosen.inputs, chosen.teacher)) + draw(chosen.teacher) / 2)
    y = hidden @ draw(chosen.teacher)
    return x, (y - y.mean()) / y.std() + chosen.noise * draw(chosen.examples)


def beginnings(chosen: CriticalPoints, surface: TanhNetwork, seed: int) -> tuple[Tensor, Tensor]:
    """Starts (E, P), and which of them (E,) lie near trajectories: at steps 0, 1, 3, ... of gradient descent."""
    generator, count = _generator(seed, 1004), chosen.starts // 2
    draw = lambda rows: torch.from_numpy(generator.standard_normal((rows, surface.parameters)))  # noqa: E731
    random = draw(chosen.starts - count)
    stops = np.geomspace(1, chosen.descent_steps + 1, count).astype(int) - 1
    noise = torch.tensor(chosen.perturbations, dtype=torch.float64)[torch.arange(count) % len(chosen.perturbations)]
    near = states(surface, draw(count), chosen.descent_rate, stops) + noise[:, None] * draw(count)
    return torch.cat([random, near]), torch.arange(chosen.starts) >= len(random)


def states(surface: critical.Surface, points: Tensor, rate: float, stops: Sequence[int]) -> Tensor:
    """Gradient descent from `points` (E, P), member e for `stops[e]` steps, which rise."""
    points, stops = points.clone(), torch.as_tensor(stops)
    for step in range(int(stops.max())):
        going = stops > step
        points[going] -= rate * surface.gradients(points[going])
    return points


def distinct(
    chosen: CriticalPoints, surface: TanhNetwork, seed: int, ends: Search, on_trajectories: Tensor
) -> Iterator[CriticalPoint]:
    """One record for all points that agree in loss, index and zeros: what hidden units' order and signs leave equal."""
    if not len(ends.points):
        return
    losses, found = surface.losses(ends.points).tolist(), critical.spectra(ends.hessians, chosen.zero)
    groups: dict[tuple, list[int]] = {}
    for i, loss in enumerate(losses):
        key = (f"{loss:.{SAME}g}", found.negative[i].item(), found.near_zero[i].item())
        groups.setdefault(key, []).append(i)
    describe = _describe(chosen, surface, ends, found)
    for number, members in enumerate(sorted(groups.values(), key=lambda members: (losses[members[0]], members[0]))):
        starts = len(members), int(on_trajectories[members].sum())
        identity = surface.decay, seed, number, surface.parameters
        yield CriticalPoint(*identity, *starts, losses[members[0]], *describe(members[0]))


def _describe(chosen: CriticalPoints, surface: TanhNetwork, ends: Search, found: Spectra) -> Callable[[int], tuple]:
    coarse = critical.spectra(ends.hessians, COARSE * chosen.zero).negative
    newton = critical.newton_steps(ends.gradients, ends.hessians, chosen.zero)
    columns = [found.negative, found.near_zero, coarse, ends.slopes, newton, ends.points.norm(dim=1)]
    columns += [found.values[:, 0], found.values[:, -1]]
    return lambda i: tuple(column[i].item() for column in columns)


def stalled(chosen: CriticalPoints, seed: int, decay: float, ends: Search) -> list[StalledSearches]:
    """The audit of the searches that stopped short, over all cut-offs of the pseudo-inverse."""
    count = len(ends.points)
    if not count:
        return [StalledSearches(decay, seed, cutoff, 0, None, None, None) for cutoff in chosen.cutoffs]
    residuals = critical.outside_range(ends.gradients, ends.hessians, chosen.cutoffs)
    slope, flat = ends.slopes.median().item(), (residuals > FLAT).double().mean(0)
    middle = residuals.median(0).values
    return [
        StalledSearches(decay, seed, cutoff, count, flat[i].item(), middle[i].item(), slope)
        for i, cutoff in enumerate(chosen.cutoffs)
    ]


def _part(ends: Search, chosen: Tensor) -> Search:
    return Search(ends.points[chosen], ends.gradients[chosen], ends.hessians[chosen], ends.steps[chosen])


def _generator(seed: int, purpose: int) -> np.random.Generator:
    """A stream for each seed and purpose."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose]))
