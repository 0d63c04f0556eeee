"""Many copies of one architecture as a single function of stacked parameters.

A cohort trains E members in lockstep. Its parameters are one dictionary whose tensors carry a leading
member axis, (E, *shape); its inputs are (E, B, *features). `Stacked` turns a module written for one member
into that batched function with `torch.func`, so a model file never mentions the member axis.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from nonconvex.models.normalisation import BatchNorm

Params = dict[str, Tensor]  # name -> (E, *shape)
Statistics = dict[str, Tensor]  # buffer name -> (E, channels); empty for a model without batch norm


class Stacked:
    """The batched forward pass of one architecture."""

    def __init__(self, module: nn.Module):
        self.module = module
        self._norms = {name: m for name, m in module.named_modules() if isinstance(m, BatchNorm)}

    def __call__(self, params: Params, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        """Logits (E, B, ..., classes) of inputs (E, B, ...).

        `statistics=None` normalises with the statistics of the batch itself (training);
        otherwise with the given ones, and the two are never mixed.
        """
        if statistics is None:
            return vmap(self._forward)(params, x)
        return vmap(self._forward_with)(params, statistics, x)

    def statistics(self, params: Params, batches: Iterable[Tensor]) -> Statistics:
        """Batch-norm statistics at `params`, recomputed over `batches` of inputs (E, B, ...).

        Population mean and variance over all batches, each batch weighted by its size. Within one batch the
        layers below are normalised with that batch's own statistics, so a single batch gives the exact ones.
        """
        total, moments = 0, {}
        if self._norms:
            for x in batches:
                with torch.no_grad():
                    found = vmap(self._collect)(params, x)
                for name, value in found.items():
                    moments[name] = moments.get(name, 0.0) + value * x.shape[1]
                total += x.shape[1]
        return {name: value for key in self._norms for name, value in _mean_and_variance(key, moments, total)}

    def _forward(self, params: Params, x: Tensor) -> Tensor:
        self.module.train()
        return functional_call(self.module, params, (x,))

    def _forward_with(self, params: Params, statistics: Statistics, x: Tensor) -> Tensor:
        self.module.eval()
        return functional_call(self.module, {**params, **statistics}, (x,))

    def _collect(self, params: Params, x: Tensor) -> dict[str, Tensor]:
        for norm in self._norms.values():
            norm.collecting = True
        self._forward(params, x)
        found = {}
        for name, norm in self._norms.items():
            mean, variance = norm.batch
            found[f"{name}.mean"], found[f"{name}.second"] = mean, variance + mean**2
            norm.collecting, norm.batch = False, None
        return found


def _mean_and_variance(name: str, moments: dict[str, Tensor], total: int):
    mean = moments[f"{name}.mean"] / total
    yield f"{name}.mean", mean
    yield f"{name}.variance", moments[f"{name}.second"] / total - mean**2


def stack(
    build: Callable[[], nn.Module], seeds: Sequence[int], device: str | torch.device = "cpu"
) -> tuple[Stacked, Params]:
    """E members of one architecture, member e initialised under `seeds[e]`.

    The draw of each member depends on its seed alone, not on its neighbours.
    """
    members = [_seeded(build, seed) for seed in seeds]
    names = [name for name, _ in members[0].named_parameters()]
    state = [dict(member.named_parameters()) for member in members]
    params = {name: torch.stack([one[name].detach() for one in state]).to(device) for name in names}
    return Stacked(members[0].to(device)), params


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def members(params: Params) -> int:
    """E, the number of stacked members."""
    return len(next(iter(params.values())))


def select(params: Params, index: Tensor | Sequence[int]) -> Params:
    """The stacked parameters of the chosen members, in that order."""
    return {name: value[index] for name, value in params.items()}


def flatten(params: Params) -> Tensor:
    """(E, P): each member's parameters as one row, in the dictionary's order."""
    return torch.cat([value.reshape(len(value), -1) for value in params.values()], dim=1)


def unflatten(flat: Tensor, like: Params) -> Params:
    """The inverse of `flatten`: rows (E, P) as a dictionary shaped like `like` (whose E may differ)."""
    sizes = [value[0].numel() for value in like.values()]
    parts = flat.split(sizes, dim=1)
    return {name: part.reshape(-1, *like[name].shape[1:]) for (name, part) in zip(like, parts, strict=True)}
