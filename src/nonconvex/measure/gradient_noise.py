"""The noise of minibatch gradients at fixed weights: exact from per-example gradients, and as batches show it.

tr Σ is the trace of the covariance of single examples' gradients; a batch of B draws has noise tr Σ / B, and
B_simple = tr Σ / |G|² is the batch size at which noise and signal are equally long (McCandlish et al. 2018).
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from nonconvex.models.stacked import Params, Stacked, flatten
from nonconvex.strategies.base import value_and_gradient

CHUNK = 100  # examples whose gradients are in memory at once


@dataclass(frozen=True)
class Scale:
    """tr Σ and |G|² over `examples` examples; the latter without the bias of a mean over few, so it may be below 0."""

    trace: float
    squared_gradient: float
    examples: int

    @property
    def simple(self) -> float:
        """B_simple, NaN where the estimate of |G|² is not positive."""
        return self.trace / self.squared_gradient if self.squared_gradient > 0 else float("nan")


def noise_scale(network: Stacked, loss: Callable, params: Params, x: Tensor, y: Tensor) -> Scale:
    """The scale of one member's (1, *shape) gradients over the examples x (N, ...), y (N, ...)."""
    total, squares, n = 0.0, 0.0, len(x)
    for a, b in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
        each = batch_gradients(network, loss, params, a[:, None], b[:, None]).double()
        total, squares = total + each.sum(0), squares + each.square().sum().item()
    mean = (total / n).square().sum().item()
    # tr Σ = (mean |g_i|² - |g|²) n / (n - 1);  E |g|² = |G|² + tr Σ / n
    trace = (squares / n - mean) * n / (n - 1)
    return Scale(trace, mean - trace / n, n)


def batch_gradients(network: Stacked, loss: Callable, params: Params, x: Tensor, y: Tensor) -> Tensor:
    """(K, P): the gradient of the mean loss over each of K batches (K, B, ...), at one member's weights."""
    copies = {name: value.expand(len(x), *value.shape[1:]) for name, value in params.items()}
    return flatten(value_and_gradient(copies, lambda at: loss(network(at, x), y).mean(1))[1])


def batch_noise(network: Stacked, loss: Callable, params: Params, x: Tensor, y: Tensor, centre: Tensor) -> float:
    """Mean over K batches x (K, B, ...) of |g_B - G|², G = `centre` (P,) being the gradient over all examples."""
    return float((batch_gradients(network, loss, params, x, y) - centre).double().square().sum(1).mean())
