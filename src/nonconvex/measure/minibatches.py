"""One objective per minibatch: every member met once by each, so that a measurement answers for each separately.

SAM climbs on a minibatch, not on the training set, and the mean of the worst cases of minibatches is not the worst
case of their mean (m-sharpness; Foret et al. 2021, section 4.1, from memory, unchecked).
"""

from collections.abc import Callable

from torch import Tensor

from nonconvex.measure.objective import Objective
from nonconvex.models.stacked import Stacked, members
from nonconvex.tensors import Params


def by_minibatch(
    network: Stacked,
    loss: Callable[[Tensor, Tensor], Tensor],
    params: Params,
    examples: tuple[Tensor, Tensor],
    size: int,
) -> tuple[Objective, Params]:
    """Member e on minibatch k as member e K + k, for the K whole minibatches of `size` in `examples` (N, ...).

    Batch norm uses each minibatch's own statistics, as in training. ValueError where there is no whole minibatch.
    """
    e, count = members(params), len(examples[0]) // size
    if not count:
        raise ValueError(f"{len(examples[0])} examples found, at least one minibatch of {size} allowed")
    cut = [part[: count * size].unflatten(0, (count, size)) for part in examples]
    batch = tuple(part.repeat(e, *[1] * (part.dim() - 1)) for part in cut)
    return Objective(network, loss, [batch]), {name: v.repeat_interleave(count, 0) for name, v in params.items()}


def over_minibatches(values: Tensor, e: int) -> Tensor:
    """(E,) means over its minibatches of each of `e` members, from values (E K,)."""
    return values.view(e, -1).mean(1)
