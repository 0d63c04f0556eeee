"""Changes of the weights that flatness is put to the test with: rescaled layers, and Gaussian noise."""

from collections.abc import Callable

import torch
from torch import Tensor

from nonconvex.evaluation import evaluate
from nonconvex.measure.estimate import gaussian
from nonconvex.measure.objective import Objective
from nonconvex.models.stacked import Params, Stacked, Statistics, flatten, unflatten
from nonconvex.tensors import per_member


def rescaled(params: Params, layer: str, following: str, factors: Tensor) -> Params:
    """Weights and biases of `layer` times `factors` (E,), the weights of the `following` layer divided by them.

    The same function where only ReLU lies between the two, as relu(a z) = a relu(z) for a > 0 (Dinh et al. 2017,
    definition 5). Raises ValueError for a layer that is not there or a factor that is not positive.
    """
    multiplied, divided = [f"{layer}.weight", f"{layer}.bias"], f"{following}.weight"
    if missing := [name for name in (*multiplied, divided) if name not in params]:
        raise ValueError(f"no parameters {', '.join(missing)}; known: {', '.join(params)}")
    if not (factors > 0).all():
        raise ValueError(f"factors must be positive, found {factors.tolist()}")
    changed = {name: params[name] * per_member(factors, params[name]) for name in multiplied}
    return {**params, **changed, divided: params[divided] / per_member(factors, params[divided])}


@torch.no_grad()
def difference(objective: Objective, params: Params, others: Params) -> Tensor:
    """(E,) in float64: largest change of an output between two sets of weights, over the first's largest output."""
    pairs = list(zip(objective.outputs(params), objective.outputs(others), strict=True))
    changes = torch.stack([(a - b).abs().flatten(1).amax(1) for (a, _), (b, _) in pairs]).amax(0)
    sizes = torch.stack([a.abs().flatten(1).amax(1) for (a, _), _ in pairs]).amax(0)
    return (changes / sizes).double()


def noisy_errors(
    network: Stacked,
    params: Params,
    statistics: Statistics,
    examples: tuple[Tensor, Tensor],
    loss: Callable,
    deviation: float,
    pairs: int,
    seed: int = 0,
) -> Tensor:
    """(E,) mean error on `examples` of w + e over `pairs` of e and -e, e ~ N(0, deviation² I); the same e for all.

    Fixed normalisation statistics stay fixed.
    """
    centre, total = flatten(params), 0.0
    for pair in range(pairs):
        noise = deviation * gaussian(centre, seed, f"noisy weights {pair}")
        for sign in (1, -1):
            moved = unflatten(centre + sign * noise, params)
            total = total + evaluate(network, moved, statistics, examples, loss)[1]
    return total / (2 * pairs)
