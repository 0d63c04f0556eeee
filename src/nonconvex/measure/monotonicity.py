"""How far a sequence of losses is from being monotone, and starts of a line whose end is a trained network."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nonconvex.models.stacked import Params, flatten, members, unflatten


def climb(values: Tensor) -> Tensor:
    """(E,): max_{s <= t} L(t) - L(s) of losses (E, points), 0 exactly where they never rise."""
    return (values - values.cummin(1).values).amax(1)


def drop(values: Tensor) -> Tensor:
    """(E,): max_{s <= t} L(s) - L(t) of losses (E, points), 0 exactly where they never fall."""
    return climb(-values)


def zero(start: Params, seeds: Sequence[int]) -> Params:
    """The origin: the line from there only scales the trained weights."""
    return {name: torch.zeros_like(value) for name, value in start.items()}


def noise(start: Params, seeds: Sequence[int]) -> Params:
    """A Gaussian direction over all weights at once, as long as `start` (E, ...); member e draws under `seeds[e]`.

    Unlike another initialisation it knows nothing of layers: scales, biases and kernels look alike.
    """
    flat = flatten(start)
    drawn = [torch.randn(flat.shape[1], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    direction = torch.stack(drawn).to(flat)
    # n <- n |theta_0| / |n|
    return unflatten(direction * (flat.norm(dim=1) / direction.norm(dim=1))[:, None], start)


def alike(a: Params, b: Params) -> bool:
    """Whether two sets of stacked weights are the same bit for bit."""
    return members(a) == members(b) and all(torch.equal(a[name], b[name]) for name in a)


REPLACEMENTS: dict[str, Callable[[Params, Sequence[int]], Params]] = {"zero": zero, "noise": noise}
