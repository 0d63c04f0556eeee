"""Loss and error along paths between networks, and three readings of how high the path rises.

At every point of a path the batch-norm statistics are recomputed over the training examples at that very point. Those
of an end, or averages of both ends', belong to no network on the path and raise barriers that are not there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nonconvex.evaluation import evaluate, recomputed
from nonconvex.measure.curves import Path
from nonconvex.models.stacked import Params, Stacked

Loss = Callable[[Tensor, Tensor], Tensor]  # (logits, targets) -> (E, B)
Examples = tuple[Tensor, Tensor]  # x (N, *features), y (N, *positions)


@dataclass(frozen=True)
class Profile:
    """Means over examples (E, points), in float64, along E paths at the places `t` (points,)."""

    t: Tensor
    train_loss: Tensor
    train_error: Tensor
    test_loss: Tensor
    test_error: Tensor


def profile(
    network: Stacked,
    loss: Loss,
    path: Path,
    train: Examples,
    test: Examples,
    points: int = 25,
    at_once: int = 4,
) -> Profile:
    """Every path at `points` evenly spaced places, both ends included; `at_once` networks are in memory together."""
    t = torch.linspace(0, 1, points, dtype=torch.float64)
    chunks = torch.cartesian_prod(torch.arange(path.members), torch.arange(points)).split(at_once)
    values = [_evaluate(network, loss, path.select(e)(t[i]), train, test) for e, i in (chunk.T for chunk in chunks)]
    return Profile(t, *torch.cat(values).view(path.members, points, 4).unbind(-1))


def _evaluate(network: Stacked, loss: Loss, params: Params, train: Examples, test: Examples) -> Tensor:
    """(E, 4): train loss, train error, test loss, test error."""
    statistics = recomputed(network, params, train[0])
    values = [value for examples in (train, test) for value in evaluate(network, params, statistics, examples, loss)]
    return torch.stack(values, dim=1)


def over_line(values: Tensor, t: Tensor) -> Tensor:
    """(E,): max_t L(t) - [(1 - t) L(0) + t L(1)], zero or more; the one that is recorded."""
    return (values - torch.lerp(values[:, :1], values[:, -1:], t)).amax(1)


def over_mean(values: Tensor, t: Tensor) -> Tensor:
    """(E,): max_t L(t) - [L(0) + L(1)] / 2 (Frankle et al. 2020, section 2)."""
    return values.amax(1) - (values[:, 0] + values[:, -1]) / 2


def over_worse_end(values: Tensor, t: Tensor) -> Tensor:
    """(E,): max_t L(t) - max(L(0), L(1)), the height of the pass above the higher end (Draxler et al. 2018)."""
    return values.amax(1) - torch.maximum(values[:, 0], values[:, -1])


BARRIERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "line": over_line,
    "mean": over_mean,
    "worse_end": over_worse_end,
}
