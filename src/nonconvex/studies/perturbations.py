"""Training at perturbed weights: SAM with a radius for each member, random directions, and weights kept on the way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nonconvex import train
from nonconvex.strategies.base import Compose, Strategy
from nonconvex.strategies.sam import Sam
from nonconvex.studies.matched_noise import isotropic
from nonconvex.tensors import Params, member_norm, per_member


@dataclass(frozen=True)
class Kept(Strategy):
    """Plain training that keeps the weights after the numbers `steps` of updates in its memory."""

    steps: tuple[int, ...] = ()

    def after_step(self, state: Params, step: int, params: Params) -> Params:
        if step + 1 not in self.steps:
            return state
        return state | {f"kept.{step + 1}.{name}": value for name, value in params.items()}


def kept(memory: Params, step: int) -> Params:
    """The weights that `Kept` kept after `step` updates. ValueError for a step that it was not asked for."""
    prefix = f"kept.{step}."
    found = {name.removeprefix(prefix): value for name, value in memory.items() if name.startswith(prefix)}
    if not found:
        raise ValueError(f"no weights were kept after {step} updates")
    return found


def sam(radii: Sequence[float], looks: Sequence[int] = ()) -> Strategy:
    """SAM, member e within `radii[e]`, that keeps the weights at `looks`."""
    # a radius per member: the strategy divides it by the members' gradient norms (E,)
    return Compose(Sam(torch.tensor(radii)), Kept(tuple(looks)))


def beside(made: train.Cohort, radii: Sequence[float], like: Params) -> train.Cohort:
    """The cohort with each member's loss taken at a random neighbour of its weights, `radii` away.

    SAM without the ascent: the gradient at w + radius z / |z|, z ~ N(0, I_P), moves w. The direction is drawn anew at
    every step and depends on the member's seed of data order and the step alone; it travels with the minibatch. One
    gradient evaluation per step.
    """
    sizes = torch.tensor(radii)

    def batch(seeds: Sequence[int], step: int) -> tuple[Tensor, tuple[Tensor, Params]]:
        x, y = made.batch(seeds, step)
        drawn = isotropic(like, seeds, step)
        # e = radius z / |z|
        scale = sizes.to(x.device) / member_norm(drawn)
        return x, (y, {name: per_member(scale, value) * value for name, value in drawn.items()})

    def loss(params: Params, x: Tensor, y: tuple[Tensor, Params]) -> Tensor:
        targets, offsets = y
        return made.loss({name: value + offsets[name] for name, value in params.items()}, x, targets)

    return replace(made, batch=batch, loss=loss)


def from_each(splits: Sequence, size: int) -> Callable[[Sequence[int], int], tuple[Tensor, Tensor]]:
    """Minibatches of `size` of which member e's come from `splits[e]`."""

    def batch(seeds: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
        parts = [split.batch([seed], step, size) for split, seed in zip(splits, seeds, strict=True)]
        x, y = zip(*parts, strict=True)
        return torch.cat(x), torch.cat(y)

    return batch
