"""The loop that a user of PyTorch would write, one run at a time, as the opponent of a cohort.

The same architecture, initial weights, batches, rates and optimizer as the cohort's member. What favours the loop: its
batches are drawn before the clock starts, layers of torch's own stand in for this project's where they are faster, the
optimizer is torch's fastest on the device, nothing waits for the device or is checked or recorded but the loss.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nonconvex.models.normalisation import BatchNorm
from nonconvex.models.resnet import Convolution
from nonconvex.models.transformer import Transformer

Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Loop:
    """A model, its optimizer and the function from a batch to its mean loss."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[Tensor, Tensor], Tensor]

    def run(self, batches: Batches, rates: list[float]) -> list[Tensor]:
        """One update per batch; the losses that they were computed from."""
        losses = []
        for (x, y), rate in zip(batches, rates, strict=True):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = self.loss(x, y)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        return losses


def loop(model: nn.Module, optimizer: str, options: dict, compiled: bool = False) -> Loop:
    """The loop on a copy of `model`, in training mode; `compiled` passes forward and backward through torch.compile."""
    model = native(model).train()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x).flatten(0, -2), y.flatten())

    return Loop(model, OPTIMIZERS[optimizer](model.parameters(), options), _compiled(loss) if compiled else loss)


def _compiled(loss: Callable) -> Callable:
    """For one shape of batch. Forgetting what was compiled before keeps it below the number of variants allowed."""
    torch.compiler.reset()
    return torch.compile(loss, dynamic=False)


def sgd(parameters, options: dict) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.0, fused=True, **options)


def adamw(parameters, options: dict) -> torch.optim.Optimizer:
    betas = options["beta1"], options["beta2"]
    return torch.optim.AdamW(parameters, lr=0.0, betas=betas, weight_decay=options["weight_decay"], fused=True)


OPTIMIZERS = {"sgd": sgd, "adamw": adamw}


def native(model: nn.Module) -> nn.Module:
    """A copy with torch's own layers in the place of this project's, computing the same."""
    model = copy.deepcopy(model)
    for module in model.modules():
        for name, child in module.named_children():
            setattr(module, name, _twin(child))
    if isinstance(model, Transformer):
        model.forward = _looked_up.__get__(model)
    return model


def _twin(module: nn.Module) -> nn.Module:
    if isinstance(module, Convolution):
        return _convolution(module)
    return _batch_norm(module) if isinstance(module, BatchNorm) else module


def _convolution(ours: Convolution) -> nn.Module:
    out, channels, *kernel = ours.weight.shape
    kind = {1: nn.Conv1d, 2: nn.Conv2d}[len(kernel)]
    theirs = kind(channels, out, ours.kernel, ours.stride, padding=ours.kernel // 2, bias=False)
    theirs.weight = ours.weight
    return theirs


def _batch_norm(ours: BatchNorm) -> nn.Module:
    """For signals and images alike; running averages kept, as by default."""
    theirs = SpatialBatchNorm(len(ours.weight), ours.eps).to(ours.weight)
    theirs.weight, theirs.bias = ours.weight, ours.bias
    return theirs


class SpatialBatchNorm(nn.modules.batchnorm._BatchNorm):
    """torch's batch norm over any number of axes."""

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"batch norm needs (B, C, *space), found {x.dim()} axes")


def _looked_up(self: Transformer, tokens: Tensor) -> Tensor:
    """The transformer with its tokens looked up, which is faster than their product with the table."""
    return self.head(self.norm(self.blocks(self.token(tokens))))
