"""PAC-Bayes bounds on the risk of a randomised classifier, by inverting the binary relative entropy. No torch.

A prior P is fixed before the n examples of the bound are seen; then, with probability 1 - δ over them, for every
posterior Q at once, kl(empirical risk ‖ true risk) ≤ (KL(Q‖P) + ln(2√n / δ)) / n (Langford & Seeger 2001, in the form
of Maurer 2004). Risks are shares of errors in [0, 1], KL is in nats; all arguments broadcast.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr

HALVINGS = 60  # of [q, 1]: to the last bit of a double


def binary_kl(q: ArrayLike, p: ArrayLike) -> np.ndarray:
    """kl(q‖p) between coins of bias q and p, in nats; infinite where p excludes what q allows."""
    q, p = np.asarray(q, float), np.asarray(p, float)
    # kl(q‖p) = q ln(q/p) + (1-q) ln((1-q)/(1-p))
    return rel_entr(q, p) + rel_entr(1 - q, 1 - p)


def kl_inverse(q: ArrayLike, limit: ArrayLike) -> np.ndarray:
    """The largest p with kl(q‖p) ≤ limit, by bisection from above: never below the true value but by rounding.

    ValueError for a q that is no share or a negative limit.
    """
    q, limit = np.broadcast_arrays(np.asarray(q, float), np.asarray(limit, float))
    if not ((q >= 0) & (q <= 1)).all() or not (limit >= 0).all():
        raise ValueError(f"q in [0, 1] and limit >= 0 allowed, found q = {q}, limit = {limit}")
    low, high = q.copy(), np.ones_like(q)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = binary_kl(q, middle) <= limit
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return high


def langford_seeger(risk: ArrayLike, kl: ArrayLike, examples: int, confidence: float) -> np.ndarray:
    """Bound on the true risk from the empirical one; holds with probability 1 - `confidence`."""
    # kl(L_S(Q) ‖ L_D(Q)) ≤ (KL(Q‖P) + ln(2√n/δ)) / n
    return kl_inverse(risk, (np.asarray(kl, float) + np.log(2 * np.sqrt(examples) / confidence)) / examples)


def mcallester(risk: ArrayLike, kl: ArrayLike, examples: int, confidence: float) -> np.ndarray:
    """The same with Pinsker's inequality in place of the inversion: never tighter (McAllester 1999, Maurer 2004)."""
    # L_D(Q) ≤ L_S(Q) + √((KL(Q‖P) + ln(2√n/δ)) / (2n))
    return risk + np.sqrt((np.asarray(kl, float) + np.log(2 * np.sqrt(examples) / confidence)) / (2 * examples))


def from_draws(share: ArrayLike, draws: int, confidence: float) -> np.ndarray:
    """Bound on the mean of `draws` independent zeros and ones from the share of ones, by Chernoff.

    They need not have one mean: ln(1 - p + p e^t) is concave in p, so unequal ones concentrate more (Hoeffding
    1956). Without a posterior this is the hold-out bound.
    """
    # P(kl(p̂‖p) ≥ ε and p̂ < p) ≤ exp(-N ε)
    return kl_inverse(share, np.log(1 / confidence) / draws)


def gaussian_kl(squared_distance: ArrayLike, deviation: ArrayLike) -> np.ndarray:
    """KL between N(w, σ²I) and N(w₀, σ²I), from ‖w - w₀‖²."""
    # KL = ‖w - w₀‖² / (2σ²)
    return np.asarray(squared_distance, float) / (2 * np.asarray(deviation, float) ** 2)


def over_grid(
    shares: ArrayLike,
    squared_distance: ArrayLike,
    deviations: ArrayLike,
    examples: int,
    draws: int,
    confidence: float = 0.05,
    sampling: float = 0.01,
) -> np.ndarray:
    """(..., G) bounds for Gaussians of deviations σ (G,), which all hold together with probability 1 - `confidence`.

    `shares` (..., G) are errors among `draws` independent draws of (weights, example of the bound), so the empirical
    risk is itself only bounded; `sampling` of the confidence pays for that, and the union over the grid divides both
    parts by G. The least of the bounds may then be quoted.
    """
    deviations = np.asarray(deviations, float)
    kl = gaussian_kl(np.asarray(squared_distance, float)[..., None], deviations)
    risks = from_draws(shares, draws, sampling / len(deviations))
    return langford_seeger(risks, kl, examples, (confidence - sampling) / len(deviations))
