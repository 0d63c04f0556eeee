"""What an escape strategy may do, and how several act together.

A strategy acts at four moments of a step, each a no-op by default, and may wrap the schedule. Its whole memory is the
state that `after_step` returns (a flat dictionary of stacked tensors), so that a run can be cut at any step and
resumed.

| moment | owners | used by |
|---|---|---|
| `wrap(factory)` | all, in order | warmup, restarts |
| `gradients(params, loss)` | one | sam |
| `before_step(grads, seeds, step)` | all, in order | clipping, sgd_noise |
| `after_step(state, step, params)` | all, in order | swa, ema |
| `evaluation_params(state, params)` | one | swa, ema |
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nonconvex.schedules import Factory
from nonconvex.tensors import Params

Loss = Callable[[Params], Tensor]  # stacked parameters -> (E,) minibatch losses

EXCLUSIVE = ("gradients", "evaluation_params")


class Strategy:
    """Plain minibatch training; the base of every other strategy."""

    evaluations = 1  # gradient evaluations per step

    def wrap(self, factory: Factory) -> Factory:
        return factory

    def bind(self, steps: int) -> "Strategy":
        """The strategy for a run of `steps` steps; those whose options are shares of the run turn them into steps."""
        return self

    def gradients(self, params: Params, loss: Loss) -> tuple[Tensor, Params]:
        """(losses (E,), gradients) at `params`."""
        return value_and_gradient(params, loss)

    def before_step(self, grads: Params, seeds: Sequence[int], step: int) -> Params:
        return grads

    def after_step(self, state: Params, step: int, params: Params) -> Params:
        """The state after update `step` led to `params`; keys of other strategies pass through."""
        return state

    def evaluation_params(self, state: Params, params: Params) -> Params:
        """The weights that are evaluated and measured."""
        return params


def value_and_gradient(params: Params, loss: Loss) -> tuple[Tensor, Params]:
    """One backward pass of the summed losses: members are independent, so each gets its own gradient."""
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    losses = loss(leaves)
    grads = torch.autograd.grad(losses.sum(), list(leaves.values()))
    return losses.detach(), dict(zip(leaves, grads, strict=True))


class Compose(Strategy):
    """Several strategies as one. An exclusive moment with two owners is refused by name."""

    def __init__(self, *parts: Strategy):
        self.parts = parts
        for moment in EXCLUSIVE:
            owners = [part for part in parts if _owns(part, moment)]
            if len(owners) > 1:
                raise ValueError(f"{moment} has two owners: {', '.join(type(part).__name__ for part in owners)}")
            if owners:
                setattr(self, moment, getattr(owners[0], moment))
        self.evaluations = max((part.evaluations for part in parts), default=1)

    def wrap(self, factory: Factory) -> Factory:
        for part in self.parts:
            factory = part.wrap(factory)
        return factory

    def bind(self, steps: int) -> Strategy:
        return Compose(*(part.bind(steps) for part in self.parts))

    def before_step(self, grads: Params, seeds: Sequence[int], step: int) -> Params:
        for part in self.parts:
            grads = part.before_step(grads, seeds, step)
        return grads

    def after_step(self, state: Params, step: int, params: Params) -> Params:
        for part in self.parts:
            state = part.after_step(state, step, params)
        return state


def _owns(part: Strategy, moment: str) -> bool:
    return getattr(type(part), moment) is not getattr(Strategy, moment)
