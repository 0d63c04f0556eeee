"""The function whose flatness is measured: one mean loss over fixed examples, in one normalisation mode."""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from nonconvex.models.normalisation import BatchNorm
from nonconvex.models.stacked import Params, Stacked, Statistics, flatten, members, select, unflatten

Batch = tuple[Tensor, Tensor]  # x (E or 1, B, *features), y (E or 1, B, *positions); 1: shared by all members


def shared(x: Tensor, y: Tensor, size: int | None = None) -> list[Batch]:
    """Examples x (N, ...), y (N, ...) that all members share, `size` at a time; the last may be fewer."""
    size = size or len(x)
    return [(x[None, i : i + size], y[None, i : i + size]) for i in range(0, len(x), size)]


class Objective:
    """L(θ) = (1/n) Σ_i ℓ(f_θ(x_i), y_i) for every member of stacked parameters.

    Every example weighs 1/n whatever its batch, so ragged batches give the value of the single full batch.
    `statistics` (from `Stacked.statistics`) fixes batch norm at constants, as in evaluation; None lets every
    batch normalise itself, as in training, and then the batches are part of the definition. `free` names the
    parameters that may vary, all by default: the others are constants, and P counts the free ones alone.
    """

    reduction = "mean"

    def __init__(
        self,
        network: Stacked,
        loss: Callable[[Tensor, Tensor], Tensor],
        batches: Sequence[Batch],
        statistics: Statistics | None = None,
        free: Sequence[str] | None = None,
    ):
        self.network, self.loss, self.batches = network, loss, list(batches)
        self.statistics, self.free = statistics, free
        self.examples = sum(x.shape[1] for x, _ in self.batches)  # n, per member
        if not self.examples:
            raise ValueError("an objective needs examples, found none in its batches")
        if free is not None:
            _require("free parameters", free, [name for name, _ in network.module.named_parameters()])
        if statistics is not None:
            _require("the statistics that batch norm needs,", _buffers(network), list(statistics))

    @property
    def normalisation(self) -> str:
        """`none` without batch norm, `recomputed` for fixed statistics, `batch-B` for those of batches of B."""
        if not _buffers(self.network):
            return "none"
        return f"batch-{max(x.shape[1] for x, _ in self.batches)}" if self.statistics is None else "recomputed"

    @property
    def parameters(self) -> str:
        """The free parameters: `all`, or their names."""
        return "all" if self.free is None else " ".join(self.free)

    def fingerprint(self, member: int = 0) -> str:
        """SHA-256 of a member's examples (types, shapes, bytes), however they are cut into batches."""
        digest = hashlib.sha256()
        for parts in zip(*self.batches, strict=True):
            rows = torch.cat([part[member if len(part) > 1 else 0] for part in parts]).cpu().contiguous()
            digest.update(f"{rows.dtype} {tuple(rows.shape)}".encode())
            digest.update(rows.numpy().tobytes())
        return digest.hexdigest()

    def select(self, index: Sequence[int]) -> "Objective":
        """The same objective for the chosen members only."""
        batches = [tuple(part if len(part) == 1 else part[index] for part in batch) for batch in self.batches]
        statistics = None if self.statistics is None else select(self.statistics, index)
        return Objective(self.network, self.loss, batches, statistics, self.free)

    def flat(self, params: Params) -> Tensor:
        """(E, P): the free parameters, one row a member."""
        return flatten(self._free(params))

    def at(self, params: Params, point: Tensor) -> Params:
        """`params` with the free ones replaced by the rows of `point` (E, P)."""
        return {**params, **unflatten(point, self._free(params))}

    def outputs(self, params: Params) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits (E, B, ...) and targets (E, B, ...) of each batch."""
        e = members(params)
        for x, y in self.batches:
            x, y = x.expand(e, *x.shape[1:]), y.expand(e, *y.shape[1:])
            yield self.network(params, x, self.statistics), y

    def share(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(E,): what one batch adds to the mean loss."""
        return self.loss(logits, targets).sum(1) / self.examples

    @torch.no_grad()
    def losses(self, params: Params) -> Tensor:
        """(E,) mean losses."""
        return sum(self.share(logits, targets) for logits, targets in self.outputs(params))

    def gradients(self, params: Params) -> Tensor:
        """(E, P) gradients of the mean losses with respect to the free parameters."""
        return self.losses_and_gradients(params)[1]

    def losses_and_gradients(self, params: Params) -> tuple[Tensor, Tensor]:
        """(E,) losses and (E, P) gradients; one batch's graph is alive at a time."""
        point = self.flat(params).detach().requires_grad_()
        losses, gradients = 0.0, torch.zeros_like(point)
        for logits, targets in self.outputs(self.at(params, point)):
            share = self.share(logits, targets)
            gradients += torch.autograd.grad(share.sum(), point)[0]
            losses = losses + share.detach()
        return losses, gradients

    def _free(self, params: Params) -> Params:
        if self.free is None:
            return params
        return {name: value for name, value in params.items() if name in self.free}


def _buffers(network: Stacked) -> list[str]:
    norms = [name for name, module in network.module.named_modules() if isinstance(module, BatchNorm)]
    return [f"{name}.{buffer}" for name in norms for buffer in ("mean", "variance")]


def _require(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    if missing := [name for name in names if name not in known]:
        raise ValueError(f"{what} {', '.join(missing)} are not among {', '.join(known) or 'none'}")
