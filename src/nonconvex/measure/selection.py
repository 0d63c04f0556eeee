"""Measures of flatness chosen by name, a few members at a time.

Radii, probes and box are the defaults of FlatnessSettings, as in `contract`. There the two ends of the spectrum are
measured together, which takes three times the products of the largest eigenvalue alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial

import torch

from nonconvex.config import FlatnessSettings
from nonconvex.measure.estimate import Estimate
from nonconvex.measure.objective import Objective
from nonconvex.measure.operators import GaussNewton, Hessian
from nonconvex.measure.sharpness import average_sharpness, keskar_sharpness, worst_sharpness
from nonconvex.measure.spectrum import extreme_eigenvalues, trace
from nonconvex.models.stacked import Params, members, select

S = FlatnessSettings()
SPECTRAL = ("lambda_max", "trace")
OTHERS: dict[str, Callable[[Objective, Params], Estimate]] = {
    "gauss_newton_max": lambda objective, params: largest(GaussNewton(objective, params)).largest,
    "sam_sharpness": partial(worst_sharpness, radius=S.sam_radius),
    "average_sharpness": partial(average_sharpness, deviation=S.noise, pairs=S.noise_pairs, seed=S.seed),
    "adaptive_sharpness": partial(worst_sharpness, radius=S.adaptive_radius, steps=S.ascent_steps, adaptive=True),
    "keskar_sharpness": partial(keskar_sharpness, box=S.keskar_box, iterations=S.keskar_iterations, seed=S.seed),
}
MEASURES = (*SPECTRAL, *OTHERS)
largest = partial(
    extreme_eigenvalues, iterations=S.lanczos_iterations, tolerance=S.tolerance, seed=S.seed, ends="largest"
)


def measures(objective: Objective, params: Params, names: Sequence[str]) -> dict[str, Estimate]:
    """The named measures of every member, in the order of `names`. ValueError for a name not in MEASURES."""
    if unknown := [name for name in names if name not in MEASURES]:
        raise ValueError(f"unknown measures {', '.join(unknown)}; known: {', '.join(MEASURES)}")
    starts = range(0, members(params), S.members_at_once)
    chunks = [list(range(members(params)))[i : i + S.members_at_once] for i in starts]
    parts = [dict(_some(objective.select(chunk), select(params, chunk), names)) for chunk in chunks]
    return {name: joined([part[name] for part in parts]) for name in names}


def _some(objective: Objective, params: Params, names: Sequence[str]) -> Iterator[tuple[str, Estimate]]:
    if set(names) & set(SPECTRAL):
        hessian = Hessian(objective, params)
        ends = largest(hessian)
        yield "lambda_max", ends.largest
        if "trace" in names:
            yield "trace", trace(hessian, S.probes, S.seed, ends)
        del hessian  # its graph is the largest thing in memory
    for name in names:
        if name in OTHERS:
            yield name, OTHERS[name](objective, params)


def joined(parts: Sequence[Estimate]) -> Estimate:
    """One estimate of the members of several."""
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Estimate) if f.name != "method"}
    tensors = {name: None if column[0] is None else torch.cat(column) for name, column in columns.items()}
    return Estimate(method=parts[0].method, **tensors)
