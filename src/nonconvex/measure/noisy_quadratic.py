"""SGD on a quadratic with additive noise: everything that the noise scale is about, in closed form.

L(x) = h x² / 2 per coordinate; a minibatch gradient is h x plus noise of variance c / B. At a constant rate η

    m_(t+1) = (1 - η h)² m_t + η² c / B,    m_t = E x²,

so that m_t = m_∞ + (m_0 - m_∞)(1 - η h)^(2t) with m_∞ = η c / (B h (2 - η h)): proportional to η / B where η h is
small, and not elsewhere. Heavy ball (v <- β v + g, x <- x - η v) has

    m_∞ = η c (1 + β) / (B h (1 - β)(2 (1 + β) - η h)),

which for small η h is that of plain SGD at the rate η / (1 - β).
"""

import numpy as np
from numpy import ndarray


def stationary(rate: ndarray, curvature: ndarray, noise: ndarray, momentum: float = 0.0) -> ndarray:
    """m_∞ with gradient noise of variance `noise` (c / B); infinite from the edge of stability on."""
    reach = 2 * (1 + momentum) - rate * curvature
    with np.errstate(divide="ignore", invalid="ignore"):
        # η c (1 + β) / (B h (1 - β)(2 (1 + β) - η h))
        value = rate * noise * (1 + momentum) / (curvature * (1 - momentum) * reach)
    return np.where(reach > 0, value, np.inf)


def after(steps: ndarray, start: ndarray, rate: ndarray, curvature: ndarray, noise: ndarray) -> ndarray:
    """m_t of plain SGD after `steps` steps from m_0 = `start`, below the edge of stability."""
    limit = stationary(rate, curvature, noise)
    # m_∞ + (m_0 - m_∞)(1 - η h)^(2t)
    return limit + (start - limit) * (1 - rate * curvature) ** (2 * steps)


def recursion(
    steps: int, start: ndarray, rate: ndarray, curvature: ndarray, noise: ndarray, momentum: float = 0.0
) -> ndarray:
    """m_t by stepping the second moments (E x², E x v, E v²) of heavy ball, from rest at E x² = `start`."""
    xx, xv, vv = (np.asarray(start, float), *np.zeros((2, *np.shape(start))))
    b, h = momentum, curvature
    for _ in range(steps):
        # v' = b v + h x + noise;  x' = x - eta v'
        after_vv = b * b * vv + 2 * b * h * xv + h * h * xx + noise
        after_xv = b * xv + h * xx - rate * after_vv
        xx = xx - 2 * rate * (b * xv + h * xx) + rate**2 * after_vv
        xv, vv = after_xv, after_vv
    return xx


def simulated(
    generator: np.random.Generator,
    chains: int,
    steps: int,
    rate: ndarray,
    curvature: ndarray,
    noise: ndarray,
    momentum: float = 0.0,
) -> ndarray:
    """Mean of x² over `chains` runs from zero and over the second half of their `steps` steps, per entry of `rate`."""
    shape = (*rate.shape, chains)
    rate, curvature, spread = (np.broadcast_to(v, rate.shape)[..., None] for v in (rate, curvature, np.sqrt(noise)))
    x, v, total = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for step in range(steps):
        v = momentum * v + curvature * x + spread * generator.standard_normal(shape)
        x = x - rate * v
        if step >= steps // 2:
            total += x * x
    return total.mean(-1) / (steps - steps // 2)
