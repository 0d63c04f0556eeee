"""How much the gradient at one input says about the gradient at a nearby one (Balduzzi et al. 2017).

The gradient with respect to the input x of a scalar, a fixed random mixture of the outputs. Where its correlation
between neighbouring inputs is lost, they call gradients shattered. They look at the covariance over random weights;
here every network has a correlation of its own, over inputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nonconvex.measure.estimate import gaussian
from nonconvex.models.stacked import Params, Stacked, Statistics, members


def gradient_correlations(
    network: Stacked, params: Params, statistics: Statistics, x: Tensor, radii: Sequence[float], seed: int = 0
) -> Tensor:
    """(E, T): the correlation at every distance of `radii` (T,), given in norms of the input, over inputs x (N, ...).

    rho = Σ g(x)·g(x') / √(Σ |g(x)|² Σ |g(x')|²), sums over the N inputs, x' = x + r |x| z / |z| with Gaussian z. It is
    one for a network that is linear in its inputs and NaN for one that does not depend on them. Batch norm uses the
    given `statistics`, so that every input is processed by itself.
    """
    rows = x.flatten(1)
    z = gaussian(rows.flatten(), seed, "neighbours").view_as(rows)
    # r |x| z / |z|
    steps = (rows.norm(dim=1, keepdim=True) / z.norm(dim=1, keepdim=True) * z).view_as(x)
    here = input_gradients(network, params, statistics, x, seed)
    found = []
    for radius in radii:
        there = input_gradients(network, params, statistics, x + radius * steps, seed)
        # Σ g·g' / √(Σ |g|² Σ |g'|²)
        found.append((here * there).sum((1, 2)) / (here.square().sum((1, 2)) * there.square().sum((1, 2))).sqrt())
    return torch.stack(found, 1)


def input_gradients(network: Stacked, params: Params, statistics: Statistics, x: Tensor, seed: int = 0) -> Tensor:
    """(E, N, features) in float64: gradients of a Gaussian mixture of the outputs at inputs x (N, ...).

    The mixture depends on `seed` alone and is the same for all members and inputs.
    """
    point = x.expand(members(params), *x.shape).clone().requires_grad_()
    logits = network(params, point, statistics)
    mixture = gaussian(logits[0, 0], seed, "mixture")
    (gradients,) = torch.autograd.grad((logits * mixture).sum(), point)
    return gradients.flatten(2).double()
