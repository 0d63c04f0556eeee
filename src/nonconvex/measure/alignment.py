"""Weight matching: renumber the units of one network so that its weights lie closest to those of another.

Two runs may have found the same function with their units in a different order; the straight line between them
then has a barrier that says nothing about the functions. Ainsworth, Hayase & Srinivasa 2023 (Git Re-Basin,
section 3.2) solve one linear assignment problem per group of units that move together, in turn, until no group
brings the networks closer.
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from nonconvex.measure.permutation import (
    Axes,
    Axis,
    Permutations,
    Spec,
    group_sizes,
    identity,
    permute,
    permute_axes,
    permuted,
)
from nonconvex.models.stacked import Params

SLACK = 1e-10  # a gain below this share of the squared norm is rounding


def align(a: Params, b: Params, spec: Spec, generator: torch.Generator) -> Params:
    """`b` with its units renumbered to lie close to `a` in Euclidean distance, member by member."""
    return permute(b, spec, match(a, b, spec, generator))


def match(a: Params, b: Params, spec: Spec, generator: torch.Generator) -> Permutations:
    """The permutations of `b` that `align` applies.

    Coordinate descent ends in a local optimum, so it starts twice and the closer end wins: from `b` as it is, and
    from a pairing by features of each unit that no renumbering of the others changes. The second start finds a
    renumbered copy at once, where the first often stops short in residual networks. `generator` (on the CPU)
    draws the order of the groups in each sweep, the same for all members.
    """
    a, b = ({name: value.double() for name, value in params.items()} for params in (a, b))
    starts = identity(b, spec), _pairing(a, b, spec)
    start = {group: torch.cat([one[group] for one in starts]) for group in starts[0]}
    found = _descend(_twice(a), _twice(b), spec, start, generator)
    ends = [{group: p.chunk(2)[i] for group, p in found.items()} for i in (0, 1)]
    first, second = (_agreement(a, permute(b, spec, end)) for end in ends)
    return {group: torch.where((second > first)[:, None], ends[1][group], ends[0][group]) for group in found}


def _descend(a: Params, b: Params, spec: Spec, start: Permutations, generator: torch.Generator) -> Permutations:
    """Sweeps over the groups until one changes no member; a member takes only what brings it closer."""
    current, groups, moved = dict(start), list(start), True
    reached, slack = _agreement(a, permute(b, spec, current)), SLACK * _agreement(a, a)
    while moved:
        moved = False
        for i in torch.randperm(len(groups), generator=generator).tolist():
            tried = current | {groups[i]: _assign(_gains(a, b, spec, groups[i], current))}
            agreement = _agreement(a, permute(b, spec, tried))
            better = agreement > reached + slack
            reached = torch.where(better, agreement, reached)
            current[groups[i]] = torch.where(better[:, None], tried[groups[i]], current[groups[i]])
            moved |= bool(better.any())
    return current


def _gains(a: Params, b: Params, spec: Spec, group: str, current: Permutations) -> Tensor:
    """(E, n, n): inner product of unit i of `a` with unit j of `b`, whose other axes are permuted already."""
    products = []
    for name, dim, axis in _uses(spec, group):
        moved = permute_axes(b[name], spec[name], current, keep=dim)
        products.append(_by_unit(a[name], dim, axis) @ _by_unit(moved, dim, axis).mT)
    return sum(products)


def _pairing(a: Params, b: Params, spec: Spec) -> Permutations:
    """Units paired by their weights, these sorted along every other axis that some group moves."""
    return {group: _assign(_likeness(a, b, spec, group)) for group in group_sizes(a, spec)}


def _likeness(a: Params, b: Params, spec: Spec, group: str) -> Tensor:
    """(E, n, n): inner product of unit i of `a` with unit j of `b`, the same however the others are permuted."""
    products = []
    for name, dim, axis in _uses(spec, group):
        left, right = (_by_unit(_sorted(params[name], spec[name], dim), dim, axis) for params in (a, b))
        products.append(left @ right.mT)
    return sum(products)


def _sorted(value: Tensor, axes: Axes, keep: int) -> Tensor:
    for dim, axis in permuted(axes):
        if dim != keep:
            value = axis.split(value, dim).sort(dim + 1).values.flatten(dim, dim + 2)
    return value


def _by_unit(value: Tensor, dim: int, axis: Axis) -> Tensor:
    """(E, n, features): all weights of each unit along one axis."""
    return axis.split(value, dim).movedim(dim + 1, 1).flatten(2)


def _uses(spec: Spec, group: str) -> Iterator[tuple[str, int, Axis]]:
    """(parameter, dimension, axis) wherever the group acts."""
    for name, axes in spec.items():
        yield from ((name, dim, axis) for dim, axis in permuted(axes) if axis.group == group)


def _assign(gains: Tensor) -> Tensor:
    """(E, n): for each unit of `a` the unit of `b`, one to one, of the largest total gain."""
    columns = [linear_sum_assignment(one, maximize=True)[1] for one in gains.cpu().numpy()]
    return torch.from_numpy(np.stack(columns)).to(gains.device)


def _agreement(a: Params, b: Params) -> Tensor:
    """(E,): <a, b>, largest where the distance is smallest because renumbering changes no norm."""
    return sum((a[name] * b[name]).flatten(1).sum(1) for name in a)


def _twice(params: Params) -> Params:
    return {name: torch.cat([value, value]) for name, value in params.items()}
