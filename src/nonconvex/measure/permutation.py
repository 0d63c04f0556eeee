"""Permutation symmetries: renumbering the hidden units of a network leaves its function unchanged.

A specification names, for every axis of every parameter, the group of units that moves it; `symmetries.py` has
those of our models. Permutations are dictionaries group -> (E, n) of indices: new unit i is old unit p[i].
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nonconvex.models.stacked import Params, members

Permutations = dict[str, Tensor]  # group -> (E, n)


@dataclass(frozen=True)
class Axis:
    """An axis of length before * n * after, laid out in this order, whose n units are permuted by `group`.

    A plain axis has before = after = 1. After an image of 5 pixels is flattened, a channel is 5 neighbours:
    after = 5. Queries, keys and values in one matrix, head by head: before = 3, after = width of a head.
    """

    group: str
    before: int = 1
    after: int = 1

    def units(self, length: int) -> int:
        """n, the number of units along an axis of this length. Raises ValueError if that is not whole."""
        count, left = divmod(length, self.before * self.after)
        if left:
            raise ValueError(f"{self.group}: {length} found, a multiple of {self.before * self.after} allowed")
        return count

    def split(self, value: Tensor, dim: int) -> Tensor:
        """`value` with dimension `dim` unfolded into (before, n, after)."""
        return value.unflatten(dim, (self.before, -1, self.after))

    def permute(self, value: Tensor, dim: int, permutation: Tensor) -> Tensor:
        """`value` (E, ...) with the units along dimension `dim` in the order of `permutation` (E, n)."""
        split = self.split(value, dim)
        shape = [1] * split.dim()
        shape[0], shape[dim + 1] = permutation.shape
        return split.take_along_dim(permutation.view(shape), dim + 1).flatten(dim, dim + 2)


Axes = tuple[Axis | None, ...]  # one entry per axis of a parameter, the member axis left out
Spec = dict[str, Axes]  # by parameter name


def permute(params: Params, spec: Spec, permutations: Permutations) -> Params:
    """The same functions with their units renumbered."""
    group_sizes(params, spec)
    return {name: permute_axes(value, spec[name], permutations) for name, value in params.items()}


def permute_axes(value: Tensor, axes: Axes, permutations: Permutations, keep: int | None = None) -> Tensor:
    """One stacked parameter with its units renumbered, except along dimension `keep`."""
    for dim, axis in permuted(axes):
        if dim != keep:
            value = axis.permute(value, dim, permutations[axis.group])
    return value


def permuted(axes: Axes) -> Iterator[tuple[int, Axis]]:
    """(dimension of the stacked tensor, axis) of every axis that some group moves."""
    return ((dim, axis) for dim, axis in enumerate(axes, start=1) if axis is not None)


def group_sizes(params: Params, spec: Spec) -> dict[str, int]:
    """Number of units of every group. Raises ValueError where specification and parameters disagree."""
    if params.keys() != spec.keys():
        raise ValueError(f"only in parameters or specification: {', '.join(params.keys() ^ spec.keys())}")
    sizes: dict[str, int] = {}
    for name, axes in spec.items():
        shape = params[name].shape
        if len(axes) != len(shape) - 1:
            raise ValueError(f"{name}: {len(axes)} axes specified, {len(shape) - 1} found")
        for dim, axis in permuted(axes):
            found = axis.units(shape[dim])
            if sizes.setdefault(axis.group, found) != found:
                raise ValueError(f"{name}: {found} units of {axis.group} found, {sizes[axis.group]} elsewhere")
    return sizes


def identity(params: Params, spec: Spec) -> Permutations:
    """Every unit where it is."""
    device, e = next(iter(params.values())).device, members(params)
    return {group: torch.arange(n, device=device).expand(e, n) for group, n in group_sizes(params, spec).items()}


def random_permutations(params: Params, spec: Spec, generator: torch.Generator) -> Permutations:
    """A uniform draw for every member and group, on the generator's device."""
    draws = {
        group: torch.rand(members(params), n, generator=generator, device=generator.device)
        for group, n in group_sizes(params, spec).items()
    }
    return {group: draw.argsort(1) for group, draw in draws.items()}
