"""Loss and error of stacked networks on fixed examples, with normalisation statistics recomputed at the weights in
question."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nonconvex.losses import errors
from nonconvex.models.stacked import Stacked, Statistics
from nonconvex.tensors import Params

CHUNK = 500  # examples per forward pass and member: small enough for the cache, the same everywhere so that sums agree


def chunks(x: Tensor, y: Tensor, size: int = CHUNK) -> Iterator[tuple[Tensor, Tensor]]:
    """The examples (N, ...) in order, `size` at a time; the last chunk may be smaller."""
    yield from zip(x.split(size), y.split(size), strict=True)


def shared(x: Tensor, e: int) -> Tensor:
    """The same examples (N, ...) for each of E members, (E, N, ...), without a copy."""
    return x.expand(e, *x.shape)


def recomputed(network: Stacked, params: Params, x: Tensor, size: int = CHUNK) -> Statistics:
    """Normalisation statistics of every member over the training inputs x (N, ...)."""
    e = len(next(iter(params.values())))
    return network.statistics(params, (shared(part, e) for part in x.split(size)))


@torch.no_grad()
def evaluate(
    network: Stacked, params: Params, statistics: Statistics, examples: tuple[Tensor, Tensor], loss: Callable
) -> tuple[Tensor, Tensor]:
    """(losses (E,), errors (E,)) over `examples` (x (N, ...), y (N, ...)), each example with equal weight."""
    e, total = len(next(iter(params.values()))), len(examples[0])
    sums = [torch.zeros(e, dtype=torch.float64), torch.zeros(e, dtype=torch.float64)]
    for x, y in chunks(*examples):
        logits, targets = network(params, shared(x, e), statistics), shared(y, e)
        for i, measure in enumerate((loss, errors)):
            sums[i] += measure(logits, targets).sum(1).double().cpu()
    return sums[0] / total, sums[1] / total
