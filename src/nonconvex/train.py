"""The loop. It names no model, no schedule and no strategy.

A cohort is a set of runs that share model, optimizer, strategy, batch size and length, and differ in seed, schedule
and peak rate. Its members are stacked and advance in lockstep. Because the rate and the batch are functions of the
step, and all memory is in `State`, a run that is cut anywhere, saved and resumed equals the uninterrupted one bit for
bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nonconvex.optimizers import AdamW, Sgd
from nonconvex.strategies.base import Strategy
from nonconvex.tensors import Params, member_norm, per_member


@dataclass(frozen=True)
class Cohort:
    """What does not change while E members train.

    `loss(params, x, y)` gives (E,) minibatch losses; `batch(order, step)` the stacked minibatch (x, y);
    `rates` (steps, E) the rate of every update in float64; `order(step)` the E seeds of data order and noise.
    """

    loss: Callable[[Params, Tensor, Tensor], Tensor]
    batch: Callable[[Sequence[int], int], tuple[Tensor, Tensor]]
    rates: Tensor
    order: Callable[[int], Sequence[int]]
    optimizer: Sgd | AdamW
    strategy: Strategy

    @property
    def steps(self) -> int:
        return len(self.rates)


@dataclass(frozen=True)
class State:
    """Everything that changes: enough to go on from `step`."""

    step: int  # updates done so far
    params: Params
    optimizer: dict[str, Params]
    memory: Params  # the strategy's
    diverged: Tensor  # (E,) int64, step at which the member was frozen, -1 if it never was
    losses: Tensor  # (E,) minibatch losses that the last update was computed from


def start(cohort: Cohort, params: Params) -> State:
    """The state before the first update."""
    e = cohort.rates.shape[1]
    device = next(iter(params.values())).device
    never = torch.full((e,), -1, dtype=torch.int64, device=device)
    return State(0, params, cohort.optimizer.init(params), {}, never, torch.full((e,), torch.nan, device=device))


def train(cohort: Cohort, state: State, until: int | None = None) -> Iterator[State]:
    """Yield the state after each update, from `state.step` up to `until` (default: the whole schedule)."""
    for step in range(state.step, cohort.steps if until is None else until):
        state = advance(cohort, state, step)
        yield state


def advance(cohort: Cohort, state: State, step: int) -> State:
    """One update. A member whose loss or gradient is not finite is frozen where it is; the others go on untouched."""
    seeds = cohort.order(step)
    x, y = cohort.batch(seeds, step)
    losses, grads = cohort.strategy.gradients(state.params, lambda params: cohort.loss(params, x, y))
    broken = ~torch.isfinite(losses + member_norm(grads))
    diverged = torch.where(broken & (state.diverged < 0), step, state.diverged)
    grads = cohort.strategy.before_step(grads, seeds, step)
    rates = cohort.rates[step]
    params, moments = cohort.optimizer.update(state.params, grads, state.optimizer, rates, step)
    alive = diverged < 0
    # asking a GPU would stall it at every step; there the choice is made unasked, which changes no bit
    if alive.device.type != "cpu" or not bool(alive.all()):
        params = _where(alive, params, state.params)
        moments = {name: _where(alive, new, state.optimizer[name]) for name, new in moments.items()}
    memory = cohort.strategy.after_step(state.memory, step, params)
    return State(step + 1, params, moments, memory, diverged, losses)


def _where(alive: Tensor, new: Params, old: Params) -> Params:
    return {name: torch.where(per_member(alive, value).bool(), value, old[name]) for name, value in new.items()}


def rate_table(factories: Sequence[Callable], peaks: Sequence[float], steps: int, strategy: Strategy) -> Tensor:
    """(steps, E) in float64: each member's schedule as the strategy wraps it, times its peak rate."""
    schedules = [strategy.wrap(factory)(steps) for factory in factories]
    table = [[peak * schedule(step) for schedule, peak in zip(schedules, peaks, strict=True)] for step in range(steps)]
    return torch.tensor(table, dtype=torch.float64)


def save(state: State, path: Path) -> None:
    """One safetensors file; nothing in it is ever executed on reading."""
    tensors = {f"params/{name}": value for name, value in state.params.items()}
    tensors |= {f"memory/{name}": value for name, value in state.memory.items()}
    tensors |= {f"optimizer/{kind}/{name}": v for kind, part in state.optimizer.items() for name, v in part.items()}
    tensors |= {"step": torch.tensor(state.step), "diverged": state.diverged, "losses": state.losses}
    tensors = {name: value.clone().contiguous() for name, value in tensors.items()}
    save_file(tensors, path, metadata={"order": "\n".join(state.params)})


def load(path: Path, device: str = "cpu") -> State:
    """The state that `save` wrote, its parameters in the order they had (the file sorts them; sums depend on it)."""
    with safe_open(path, "pt", device) as file:
        order = file.metadata()["order"].split("\n")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kinds = sorted({name.split("/")[1] for name in tensors if name.startswith("optimizer/")})
    optimizer = {kind: _under(f"optimizer/{kind}/", tensors, order) for kind in kinds}
    memory = {name.removeprefix("memory/"): value for name, value in tensors.items() if name.startswith("memory/")}
    step = int(tensors["step"])
    return State(step, _under("params/", tensors, order), optimizer, memory, tensors["diverged"], tensors["losses"])


def _under(prefix: str, tensors: Params, order: Sequence[str]) -> Params:
    return {name: tensors[prefix + name] for name in order if prefix + name in tensors}
