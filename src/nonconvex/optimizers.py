"""Optimizers as functional updates of stacked parameters, each member at its own rate.

An optimizer has `init(params) -> state` and `update(params, grads, state, rates, step) -> (params, state)`; params
and grads are dictionaries of (E, *shape), `rates` is (E,), state a dictionary of such dictionaries. Each equals its
torch.optim namesake.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nonconvex.tensors import Params, per_member

State = dict[str, Params]


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with Polyak momentum and L2 weight decay, as torch.optim.SGD (dampening 0)."""

    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def init(self, params: Params) -> State:
        return {"velocity": {name: torch.zeros_like(p) for name, p in params.items()}} if self.momentum else {}

    def update(self, params: Params, grads: Params, state: State, rates: Tensor, step: int) -> tuple[Params, State]:
        # g <- g + wd w;  v <- mu v + g;  w <- w - eta v   (Nesterov: w <- w - eta (g + mu v))
        names, w = list(params), list(params.values())
        g = torch._foreach_add([grads[n] for n in names], w, alpha=self.weight_decay)
        if self.momentum:
            v = torch._foreach_mul([state["velocity"][n] for n in names], self.momentum)
            torch._foreach_add_(v, g)
            g = torch._foreach_add(g, v, alpha=self.momentum) if self.nesterov else v
            state = {"velocity": dict(zip(names, v, strict=True))}
        moved = torch._foreach_mul(g, [per_member(-rates, p) for p in w])
        return dict(zip(names, torch._foreach_add(w, moved), strict=True)), state


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), as torch.optim.AdamW."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def init(self, params: Params) -> State:
        zeros = {name: torch.zeros_like(p) for name, p in params.items()}
        return {"first": zeros, "second": dict(zeros)}

    def update(self, params: Params, grads: Params, state: State, rates: Tensor, step: int) -> tuple[Params, State]:
        names, w, g = list(params), list(params.values()), [grads[name] for name in params]
        # m <- b1 m + (1 - b1) g;  s <- b2 s + (1 - b2) g^2
        m = torch._foreach_lerp([state["first"][n] for n in names], g, 1 - self.beta1)
        s = torch._foreach_mul([state["second"][n] for n in names], self.beta2)
        torch._foreach_addcmul_(s, g, g, 1 - self.beta2)
        # w <- (1 - eta wd) w - eta (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + eps)
        denominator = torch._foreach_sqrt(s)
        torch._foreach_div_(denominator, (1 - self.beta2 ** (step + 1)) ** 0.5)
        torch._foreach_add_(denominator, self.epsilon)
        change = torch._foreach_div(m, denominator)
        torch._foreach_mul_(change, [per_member(-rates / (1 - self.beta1 ** (step + 1)), p) for p in w])
        kept = torch._foreach_mul(w, [per_member(1 - rates * self.weight_decay, p) for p in w])
        state = {"first": dict(zip(names, m, strict=True)), "second": dict(zip(names, s, strict=True))}
        return dict(zip(names, torch._foreach_add(kept, change), strict=True)), state


OPTIMIZERS = {"sgd": Sgd, "adamw": AdamW}
