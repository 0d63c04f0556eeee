"""Logistic regression on separable data in float64: the way to the direction of the largest margin.

Examples come with their labels multiplied in, z_i = y_i x_i, so that w separates them where min_i z_i·w > 0. The
loss L(w) = mean_i ln(1 + exp(-z_i·w)) has no minimum; gradient flow goes to infinity along the hard-margin solution
v = argmin {|v| : z_i·v >= 1} as w(t) = v ln t + O(1), hence its angle to v, and the gap of its normalised margin,
fall as 1/ln t (Soudry et al. 2018, theorems 3 and 5). Arrays are numpy's: z (E, n, d), w (E, d).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from scipy.optimize import nnls
from scipy.special import expit

from nonconvex.measure.least_squares import drawn

FAR = 30.0  # margin beyond which ln ln(1 + e^-m) is -m to full precision


@dataclass(frozen=True)
class Separator:
    """The hard-margin solution `direction` (d,), its margin 1/|v|, and how far it is from optimal.

    `gap` is the larger of the violation of z_i·v >= 1 and the relative duality gap.
    """

    direction: ndarray
    margin: float
    support: int
    gap: float


def separable(seeds: Sequence[int], examples: int, dimension: int, shift: float) -> ndarray:
    """z (E, n, d): Gaussian inputs labelled by a random hyperplane and moved away from it by `shift`."""
    x, teacher = drawn(seeds, (examples, dimension), 4).numpy(), drawn(seeds, (dimension,), 5).numpy()
    teacher = teacher / np.linalg.norm(teacher, axis=1, keepdims=True)
    side = np.sign(_times(x, teacher))
    # z = y (x + y s u) = y x + s u
    return side[..., None] * x + shift * teacher[:, None]


def hard_margin(z: ndarray) -> Separator:
    """The least v with z_i·v >= 1, z (n, d), by Lawson & Hanson's active sets (1974, chapter 23: least distance).

    ValueError for examples that no hyperplane through zero separates.
    """
    n, d = z.shape
    # min |A u - b| over u >= 0,  A = [z^T; 1^T], b = (0, 1);  r = A u - b  gives  v = -r_(1..d) / r_(d+1)
    system, target = np.vstack([z.T, np.ones(n)]), np.append(np.zeros(d), 1.0)
    u, _ = nnls(system, target, maxiter=50 * n)
    r = system @ u - target
    if -r[-1] < 1e-12:
        raise ValueError("no hyperplane through zero separates the examples")
    v, dual = -r[:-1] / r[-1], u / -r[-1]  # v = sum_i dual_i z_i
    violation = max(0.0, float((1 - z @ v).max()))
    duality = abs(v @ v - (2 * dual.sum() - np.square(dual @ z).sum())) / (v @ v)
    return Separator(v, float(1 / np.linalg.norm(v)), int((dual > 1e-9).sum()), max(violation, float(duality)))


def descent_direction(z: ndarray, w: ndarray) -> tuple[ndarray, ndarray]:
    """(-∇L / L (E, d), ln L (E,)): the logarithm's own gradient stays of order one while L vanishes."""
    margins = _times(z, w)
    each = np.where(margins > FAR, -margins, np.log(np.logaddexp(0, -np.minimum(margins, FAR))))
    top = each.max(1, keepdims=True)
    value = top[:, 0] + np.log(np.exp(each - top).mean(1))
    # -∇L / L = sum_i sigmoid(-m_i) z_i / (n L)
    weights = np.exp(-np.logaddexp(0, margins) - value[:, None]) / z.shape[1]
    return (weights[:, None] @ z)[:, 0], value


def flow(z: ndarray, until: ndarray, step: float) -> ndarray:
    """w (K, E, d) of gradient flow from zero at the times τ = ln(1 + t) in `until` (K, E), which rise from 0 on.

    The flow is followed in the time s of ds = L dt, in which w moves at a speed of order one and t grows exponentially:
    dw/ds = -∇L / L and dτ/ds = 1 / ((1 + t) L), by the classical Runge-Kutta method with steps of `step`, and straight
    lines between its steps.
    """
    w, tau, found = np.zeros_like(z[:, 0]), np.zeros(len(z)), np.zeros((*until.shape, z.shape[2]))
    passed, member, last = np.zeros(len(z), int), np.arange(len(z)), len(until) - 1
    while (passed <= last).any():
        before, began = w, tau
        w, tau = runge_kutta(lambda a, b: _slope(z, a, b), w, tau, step)
        while (fresh := (passed <= last) & (tau >= until[np.minimum(passed, last), member])).any():
            at = passed[fresh], member[fresh]
            share = (until[at] - began[fresh]) / (tau - began)[fresh]
            found[at] = before[fresh] + share[:, None] * (w - before)[fresh]
            passed = passed + fresh
    return found


def _slope(z: ndarray, w: ndarray, tau: ndarray) -> tuple[ndarray, ndarray]:
    direction, value = descent_direction(z, w)
    return direction, np.exp(-tau - value)


def runge_kutta(
    slope: Callable[[ndarray, ndarray], tuple[ndarray, ndarray]], w: ndarray, tau: ndarray, h: float
) -> tuple[ndarray, ndarray]:
    """One classical fourth-order step of the pair (w, τ)."""
    k1, l1 = slope(w, tau)
    k2, l2 = slope(w + h / 2 * k1, tau + h / 2 * l1)
    k3, l3 = slope(w + h / 2 * k2, tau + h / 2 * l2)
    k4, l4 = slope(w + h * k3, tau + h * l3)
    return w + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), tau + h / 6 * (l1 + 2 * l2 + 2 * l3 + l4)


def stable_rates(z: ndarray) -> ndarray:
    """(E,) the inverse of the loss's largest curvature, which is at most λ_max(Σ z_i z_i^T / 4n)."""
    return 4 * z.shape[1] / np.linalg.norm(z, 2, axis=(1, 2)) ** 2


def gradient_descent(z: ndarray, rates: ndarray, at: Sequence[int]) -> tuple[ndarray, ndarray]:
    """(τ (K, E), w (K, E, d)) of plain gradient descent from zero at rates (E,), after the numbers `at` of steps.

    τ = ln(1 + η k) is that of the flow which the descent follows.
    """
    w, found, rows = np.zeros_like(z[:, 0]), {}, z.transpose(0, 2, 1)
    for step in range(max(at) + 1):
        if step in at:
            found[step] = w
        # w <- w + eta mean_i sigmoid(-m_i) z_i
        weights = expit(-_times(z, w)) * (rates / z.shape[1])[:, None]
        w = w + (rows @ weights[..., None])[..., 0]
    return np.log1p(np.outer(list(found), rates)), np.stack(list(found.values()))


def angle(w: ndarray, direction: ndarray) -> ndarray:
    """Radians between w (..., d) and a direction (..., d), exact for small angles."""
    a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (w, direction))
    # 2 atan2(|a - b|, |a + b|)
    return 2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))


def margin_gap(z: ndarray, w: ndarray, margin: float) -> ndarray:
    """1 - min_i z_i·w / (|w| margin): the share of the largest margin that is missing, z (n, d), w (..., d)."""
    return 1 - (w @ z.T).min(-1) / (np.linalg.norm(w, axis=-1) * margin)


def _times(z: ndarray, w: ndarray) -> ndarray:
    return (z @ w[..., None])[..., 0]
