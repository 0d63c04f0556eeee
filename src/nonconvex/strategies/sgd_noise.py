"""Isotropic gradient noise on top of the minibatch's own.

Formula: g <- g + scale * ||g|| * xi / sqrt(P), xi ~ N(0, I_P): the noise is as long as `scale` times the gradient in
expectation. Cost: 1 gradient evaluation per step. Default scale 1, ours: a perturbation of the gradient's own length,
so that the option has no unit. Neelakantan et al. 2015 (arXiv 1511.06807) add noise of a fixed variance that decays
with the step instead. Not known to help: where minibatch noise already dominates; it lacks that noise's alignment
with curvature (Zhu et al. 2019). Plain minibatch noise is the arm `none`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch

from nonconvex.strategies.base import Strategy
from nonconvex.tensors import Params, member_norm


@dataclass(frozen=True)
class SgdNoise(Strategy):
    """The draw is a pure function of (seed, step) and of nothing else."""

    scale: float = 1.0

    def before_step(self, grads: Params, seeds: Sequence[int], step: int) -> Params:
        count = sum(grad[0].numel() for grad in grads.values())
        length = self.scale * member_norm(grads) / count**0.5
        draw = partial(_normal, step=step, count=count)
        # a GPU would wait for one core that draws for all members; on a CPU the other cores have runs of their own
        draws = map(draw, seeds) if length.device.type == "cpu" else _threads().map(draw, seeds)
        noise = torch.stack(list(draws)).to(length)
        pieces = (length[:, None] * noise).split([grad[0].numel() for grad in grads.values()], dim=1)
        return {name: grad + piece.view_as(grad) for (name, grad), piece in zip(grads.items(), pieces, strict=True)}


@lru_cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor()


def _normal(seed: int, step: int, count: int) -> torch.Tensor:
    # torch's CPU generator keeps only 32 bits of a seed; Philox takes both numbers whole
    draw = np.random.Generator(np.random.Philox(key=[seed, step]))
    return torch.from_numpy(draw.standard_normal(count, dtype=np.float32))
