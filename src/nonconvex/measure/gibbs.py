"""The Gibbs classifier around a network: every example meets its own draw of weights from N(w, σ²I).

With fresh weights for every example, a layer's pre-activations are independent Gaussians, and drawing those instead
of the weights is exact (the local reparametrisation of Kingma et al. 2015) and a thousand times cheaper. Errors on
different examples are then independent, which is what a bound on their mean needs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nonconvex.models.stacked import Params, members

CHUNK = 1000  # examples per forward pass


def gibbs_logits(params: Params, x: Tensor, deviation: Tensor | float, generator: torch.Generator) -> Tensor:
    """(E, B, classes): logits of inputs (E, B, inputs), each at its own draw of all weights and biases.

    `params` are stacked `models.mlp.Mlp` with ReLU and without skip connections; `deviation` is σ, one number or (E,).
    """
    scale = torch.as_tensor(deviation, dtype=x.dtype, device=x.device).expand(members(params))[:, None, None]
    layers = [name.removesuffix(".weight") for name in params if name.endswith(".weight")]
    for i, layer in enumerate(layers):
        mean = x @ params[f"{layer}.weight"].mT + params[f"{layer}.bias"][:, None]
        noise = torch.randn(mean.shape, generator=generator, dtype=x.dtype).to(x.device)
        # (W + σZ) x + b + σz ~ N(Wx + b, σ² (‖x‖² + 1) I)
        x = mean + scale * (x.square().sum(-1, keepdim=True) + 1).sqrt() * noise
        x = x.relu() if i < len(layers) - 1 else x
    return x


@torch.no_grad()
def gibbs_errors(
    params: Params, x: Tensor, y: Tensor, deviation: Tensor | float, repeats: int, generator: torch.Generator
) -> Tensor:
    """(E,) share of wrong classes over examples x (E or 1, B, inputs), y (E or 1, B), each met `repeats` times."""
    wrong = 0
    for _ in range(repeats):
        for part, labels in zip(x.split(CHUNK, 1), y.split(CHUNK, 1), strict=True):
            wrong += (gibbs_logits(params, part, deviation, generator).argmax(-1) != labels).sum(1)
    return wrong.double() / (repeats * y.shape[1])


def rescaled(params: Params, factors: Sequence[float]) -> Params:
    """Each member's first layer times its factor and its second layer's weights divided by it (Dinh et al. 2017).

    A network of rectifiers computes the same function: relu(αh) = α relu(h) for α > 0.
    """
    first, second = [name.removesuffix(".weight") for name in params if name.endswith(".weight")][:2]
    alpha = torch.as_tensor(factors).to(params[f"{first}.weight"])
    if not (alpha > 0).all():
        raise ValueError(f"factors > 0 allowed, found {list(factors)}")
    changed = {
        f"{first}.weight": params[f"{first}.weight"] * alpha[:, None, None],
        f"{first}.bias": params[f"{first}.bias"] * alpha[:, None],
        f"{second}.weight": params[f"{second}.weight"] / alpha[:, None, None],
    }
    return {**params, **changed}
