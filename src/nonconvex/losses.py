"""Per-example losses on stacked logits. Every reduction elsewhere is a weighted mean of these."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """(E, B): -log softmax(logits)[target] in nats, averaged over positions where there are any.

    `logits` (E, B, *positions, C), `targets` (E, B, *positions) of class indices.
    """
    flat = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    return flat.view(targets.shape).flatten(2).mean(-1) if targets.dim() > 2 else flat.view(targets.shape)


def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    """(E, B): ½ ‖logits - one_hot(target)‖², averaged over positions where there are any."""
    onehot = F.one_hot(targets, logits.shape[-1]).to(logits.dtype)
    each = 0.5 * (logits - onehot).square().sum(-1)
    return each.flatten(2).mean(-1) if targets.dim() > 2 else each


def errors(logits: Tensor, targets: Tensor) -> Tensor:
    """(E, B): share of positions whose most likely class is wrong."""
    wrong = (logits.argmax(-1) != targets).to(logits.dtype)
    return wrong.flatten(2).mean(-1) if targets.dim() > 2 else wrong


LOSSES = {"cross_entropy": cross_entropy, "squared_error": squared_error}
