"""How the size of a signal changes from layer to layer of a fully connected network that is not trained.

For ReLU, biases zero and weights N(0, g² / fan-in), the second moments are known exactly at any width. Given layer l,
a unit of layer l + 1 is relu(z), z ~ N(0, g² ‖h_l‖² / n_l), and E relu(z)² = Var(z) / 2 (He et al. 2015, eq. 10):
the mean over draws of the mean square of a layer of n units is g²/2 times that of the layer before it. Backwards each
unit lets the gradient through with probability 1/2, independently of the squares of the weights (Hanin & Nica 2020),
and the factor from a layer of n units to one of n units is the same g²/2 (He et al. 2015, eq. 14).

This is a statement on the mean over networks. In one network the factor of a layer fluctuates, forwards with variance
(E relu⁴ / (E relu²)² - 1) / n = 5 / n relative to its mean, so ln of it lies about 5 / (2 n) below ln of the mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from nonconvex.models.stacked import Params


@dataclass(frozen=True)
class Signals:
    """Squares at the L hidden layers of E networks, in float64.

    `forward` and `backward` (E, L, N): per example the mean over units of the squared activations, and of the squared
    derivatives of the output with respect to them; `weights` (E, L): the squared norm of the derivative of the output,
    summed over examples, with respect to the layer's weights.
    """

    forward: Tensor
    backward: Tensor
    weights: Tensor


def drawn(count: int, sizes: Sequence[int], gain: float, generator: torch.Generator) -> Params:
    """`count` fully connected networks sizes[0] - ... - sizes[-1] as stacked parameters of `models.mlp.Mlp`."""
    layers = [*(f"hidden.{i}" for i in range(len(sizes) - 2)), "head"]
    params = {}
    for name, inputs, units in zip(layers, sizes, sizes[1:], strict=False):
        params[f"{name}.weight"] = torch.randn(count, units, inputs, generator=generator) * (gain / sqrt(inputs))
        params[f"{name}.bias"] = torch.zeros(count, units)
    return params


def scaled(params: Params, gains: Tensor) -> Params:
    """Each member's weight matrices times its gain (E,); biases and what belongs to a norm stay as they are."""
    matrices = [name for name, value in params.items() if value.dim() == 3]
    return params | {name: params[name] * gains.to(params[name])[:, None, None] for name in matrices}


def signals(
    params: Params, x: Tensor, activation: Callable[[Tensor], Tensor], output: Callable[[Tensor], Tensor]
) -> Signals:
    """Activations and derivatives of E networks without skips at inputs x (N, features).

    `output` maps logits (E, N, classes) to one number per network and example, (E, N).
    """
    depth = sum(name.startswith("hidden.") and name.endswith(".weight") for name in params)
    weights = [params[f"hidden.{layer}.weight"].detach().requires_grad_() for layer in range(depth)]
    h, states = x.expand(len(weights[0]), *x.shape), []
    for layer, weight in enumerate(weights):
        h = activation(torch.baddbmm(params[f"hidden.{layer}.bias"][:, None], h, weight.mT))
        states.append(h)
    logits = torch.baddbmm(params["head.bias"][:, None], h, params["head.weight"].mT)
    gradients = torch.autograd.grad(output(logits).sum(), [*states, *weights])
    return Signals(
        torch.stack([_mean_square(state.detach()) for state in states], 1),
        torch.stack([_mean_square(gradient) for gradient in gradients[:depth]], 1),
        torch.stack([gradient.double().square().sum((1, 2)) for gradient in gradients[depth:]], 1),
    )


def _mean_square(values: Tensor) -> Tensor:
    return values.double().square().mean(-1)
