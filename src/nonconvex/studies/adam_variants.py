"""AdamW whose second moments start, count or end differently: what of a warm-up is owed to them?

With every switch off it is `optimizers.AdamW`. The second moments that a run starts from belong to its optimizer's
state, and are made here from minibatches at frozen weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nonconvex.optimizers import AdamW, State
from nonconvex.tensors import Params, per_member
from nonconvex.train import Cohort


@dataclass(frozen=True)
class VariantAdamW(AdamW):
    """AdamW with three switches on its second moments.

    `seen`: squared gradients in them before update 0, for which bias is corrected as for those that follow.
    `rectified`: RAdam (Liu et al. 2020, algorithm 2; torch.optim.RAdam): the division by them waits until their
    variance is finite, and updates are shortened until it is small. `restart_at`: before that update (from 0) both
    moments and their counts start anew; a first moment with a memory over a second one with none would explode.
    """

    seen: int = 0
    rectified: bool = False
    restart_at: int | None = None

    def update(self, params: Params, grads: Params, state: State, rates: Tensor, step: int) -> tuple[Params, State]:
        names, w, g = list(params), list(params.values()), [grads[name] for name in params]
        (updates, count), kept = self.counts(step), step != self.restart_at
        # m <- b1 m + (1 - b1) g;  s <- b2 s + (1 - b2) g^2
        old = torch._foreach_mul([state["first"][n] for n in names], float(kept))
        m = torch._foreach_lerp(old, g, 1 - self.beta1)
        s = torch._foreach_mul([state["second"][n] for n in names], self.beta2 * kept)
        torch._foreach_addcmul_(s, g, g, 1 - self.beta2)
        # w <- (1 - eta wd) w - eta r (m / (1 - b1^t)) / (sqrt(s / (1 - b2^n)) + eps)
        share = rectification(self.beta2, count) if self.rectified else 1.0
        change = list(m) if share is None else torch._foreach_div(m, self.denominators(s, count))
        scale = (1.0 if share is None else share) / (1 - self.beta1**updates)
        moved = torch._foreach_mul(change, [per_member(-rates * scale, p) for p in w])
        shrunk = torch._foreach_mul(w, [per_member(1 - rates * self.weight_decay, p) for p in w])
        state = {"first": dict(zip(names, m, strict=True)), "second": dict(zip(names, s, strict=True))}
        return dict(zip(names, torch._foreach_add(shrunk, moved), strict=True)), state

    def counts(self, step: int) -> tuple[int, int]:
        """(t, n): gradients in the first moments and squares in the second ones, in update `step`."""
        if self.restart_at is not None and step >= self.restart_at:
            return step - self.restart_at + 1, step - self.restart_at + 1
        return step + 1, step + 1 + self.seen

    def denominators(self, second: Sequence[Tensor], count: int) -> list[Tensor]:
        """sqrt(s / (1 - b2^n)) + eps."""
        roots = torch._foreach_sqrt(list(second))
        torch._foreach_div_(roots, (1 - self.beta2**count) ** 0.5)
        return torch._foreach_add(roots, self.epsilon)


def rectification(beta2: float, count: int) -> float | None:
    """r_t of RAdam at n = `count` squared gradients; None where there are too few to divide by their mean."""
    # rho_inf = 2 / (1 - b2) - 1;  rho_n = rho_inf - 2 n b2^n / (1 - b2^n)
    last = 2 / (1 - beta2) - 1
    now = last - 2 * count * beta2**count / (1 - beta2**count)
    if now <= 5:
        return None
    # r = sqrt((rho_n - 4)(rho_n - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_n))
    return ((now - 4) * (now - 2) * last / ((last - 4) * (last - 2) * now)) ** 0.5


def accumulated(made: Cohort, params: Params, beta2: float, orders: Sequence[int], count: int) -> Params:
    """Second moments s after `count` minibatches of the data orders `orders` at frozen weights, from s = 0.

    They are biased as Adam's: s / (1 - b2^count) estimates the mean square.
    """
    second = {name: torch.zeros_like(value) for name, value in params.items()}
    for step in range(count):
        grads = gradients(made, params, orders, step)
        # s <- b2 s + (1 - b2) g^2
        second = {name: beta2 * s + (1 - beta2) * grads[name].square() for name, s in second.items()}
    return second


def initial_squares(made: Cohort, params: Params, orders: Sequence[int]) -> Params:
    """g_0^2 of one minibatch: the second moments from which GI-Adam starts (Kalra & Barkeshli 2024, section 6.2).

    Its bias is corrected as if they were zero, which they do not need; the correction by 1 - b2^t then shortens the
    updates by sqrt(1 - b2^t), a warm-up of its own (there, appendix I.2).
    """
    return {name: grad.square() for name, grad in gradients(made, params, orders, 0).items()}


def gradients(made: Cohort, params: Params, orders: Sequence[int], step: int) -> Params:
    """Minibatch gradients at the weights, of minibatch `step` of each data order."""
    x, y = made.batch(orders, step)
    return made.strategy.gradients(params, lambda weights: made.loss(weights, x, y))[1]
