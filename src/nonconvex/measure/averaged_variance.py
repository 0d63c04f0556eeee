"""How much averaging shrinks the stationary noise of SGD on a quadratic: closed forms, exact covariances, simulation.

The iterates x <- a x + noise, a = 1 - rate x curvature, |a| < 1, are stationary with autocovariance a^|k| Var x.
Factors are variances of an average over Var x; they do not depend on the size of the noise.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.linalg import solve_discrete_lyapunov
from torch import Tensor

from nonconvex.strategies.base import Strategy

NOISE = 1.0  # standard deviation of a step; factors do not depend on it


def ema_factor(decay: float, a: float) -> float:
    """Var of m <- decay m + (1 - decay) x, once it is stationary, over Var x."""
    # (1 - α)/(1 + α) · (1 + αa)/(1 - αa)
    return (1 - decay) / (1 + decay) * (1 + decay * a) / (1 - decay * a)


def swa_factor(count: int, a: float) -> float:
    """Var of the mean of `count` consecutive iterates over Var x."""
    # [(1 + a)/(1 - a) - 2a(1 - aⁿ)/(n(1 - a)²)] / n
    return ((1 + a) / (1 - a) - 2 * a * (1 - a**count) / (count * (1 - a) ** 2)) / count


def exact_ema_factor(decay: float, a: float) -> float:
    """The same from the stationary covariance of the pair (x, m), the solution of C = A C Aᵀ + Q."""
    step, push = np.array([[a, 0.0], [(1 - decay) * a, decay]]), np.array([1.0, 1 - decay])
    covariance = solve_discrete_lyapunov(step, np.outer(push, push))
    return covariance[1, 1] / covariance[0, 0]


def exact_swa_factor(count: int, a: float) -> float:
    """The same from the stationary covariance of the last `count` iterates, the solution of C = A C Aᵀ + Q."""
    step, push = np.eye(count, k=-1), np.eye(count)[0]
    step[0, 0] = a
    covariance = solve_discrete_lyapunov(step, np.outer(push, push))
    return covariance.mean() / covariance[0, 0]


def simulated_factor(strategy: Strategy, a: float, steps: int, chains: int, seed: int) -> float:
    """Var over `chains` of what `strategy` evaluates after `steps` stationary updates, over Var x (float64).

    The strategy is used as it is bound; it sees the weights after each update, as in training.
    """
    noise = _noise(chains, seed)
    # Var x = σ² / (1 - a²)
    weights, state = {"x": noise() / (1 - a**2) ** 0.5}, {}
    for step in range(steps):
        weights = {"x": a * weights["x"] + noise()}
        state = strategy.after_step(state, step, weights)
    average = strategy.evaluation_params(state, weights)["x"]
    return float(average.square().mean()) / (NOISE**2 / (1 - a**2))


def _noise(chains: int, seed: int) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: NOISE * torch.randn(chains, dtype=torch.float64, generator=generator)
