"""Arithmetic on stacked parameters: dictionaries name -> (E, *shape) with one leading member axis."""

from torch import Tensor

Params = dict[str, Tensor]


def per_member(values: Tensor, like: Tensor) -> Tensor:
    """Values (E,) shaped to multiply a tensor (E, *shape)."""
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))


def member_norm(values: Params) -> Tensor:
    """(E,) Euclidean norm over all parameters of each member."""
    return sum(value.flatten(1).square().sum(1) for value in values.values()).sqrt()
