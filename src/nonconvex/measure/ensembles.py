"""Random symmetric matrices of the Gaussian orthogonal ensemble: are all eigenvalues positive, how many are negative?

The matrices are H = (A + Aᵀ)/2 with A of independent standard normals; the signs of their eigenvalues do not depend on
the scale.
"""

from decimal import Decimal, localcontext
from functools import cache
from math import factorial

import numpy as np

DIGITS = 80  # of the exact arithmetic; the Pfaffian of dimension 12 loses about 20 of them
TINY = 1e-300  # stands for a pivot that is exactly zero


def log_probability_positive(dimension: int) -> float:
    """ln P(all eigenvalues > 0), exact to rounding, by the Pfaffian of de Bruijn (1955).

    The eigenvalues have density ∝ Π_{i<j} |λ_i - λ_j| Π exp(-λ_i²/2). Over positive ones it integrates to N! Pf(a) with
    a_jk = ∫∫ sgn(y - x) x^j y^k exp(-(x² + y²)/2), j, k < N, bordered by the moments ∫ x^j exp(-x²/2) for odd N; over
    all to Mehta's (2π)^(N/2) Π_j Γ(1 + j/2) / Γ(3/2).
    """
    with localcontext() as context:
        context.prec = DIGITS
        positive = Decimal(factorial(dimension)) * _pfaffian(_pairings(dimension))
        whole = (2 * _pi()) ** (Decimal(dimension) / 2)
        for j in range(1, dimension + 1):
            whole *= _gamma(2 + j) / _gamma(3)
        return float((positive / whole).ln())


def _pairings(dimension: int) -> list[list[Decimal]]:
    size = dimension + dimension % 2
    rows = [[Decimal(0)] * size for _ in range(size)]
    for j in range(size):
        for k in range(j + 1, size):
            rows[j][k] = _pairing(j, k) if k < dimension else _moment(j)
            rows[k][j] = -rows[j][k]
    return rows


def _pairing(j: int, k: int) -> Decimal:
    """a_jk in polar coordinates: ∫ r^(j+k+1) exp(-r²/2) dr (∫_{π/4}^{π/2} - ∫_0^{π/4}) cos^j θ sin^k θ dθ."""
    return _moment(j + k + 1) * (_octant(k, j) - _octant(j, k))


@cache
def _moment(power: int) -> Decimal:
    """∫_0^∞ x^power exp(-x²/2) dx = 2^((power-1)/2) Γ((power+1)/2)."""
    return Decimal(2) ** (Decimal(power - 1) / 2) * _gamma(power + 1)


@cache
def _octant(j: int, k: int) -> Decimal:
    """∫_0^{π/4} cos^j θ sin^k θ dθ, by parts down to small powers; (k, j) is the mirrored octant."""
    half = Decimal(2) ** (-Decimal(j + k) / 2)  # cos^j sin^k at π/4
    if k > 1:
        return (-half + (k - 1) * _octant(j, k - 2)) / (j + k)
    if j > 1:
        return (half + (j - 1) * _octant(j - 2, k)) / (j + k)
    return {(0, 0): _pi() / 4, (1, 0): half, (0, 1): 1 - half, (1, 1): Decimal(1) / 4}[j, k]


def _pfaffian(rows: list[list[Decimal]]) -> Decimal:
    """Pfaffian of a skew-symmetric matrix by skew elimination with pivoting, two rows at a time."""
    rows, value = [list(row) for row in rows], Decimal(1)
    while rows:
        at = max(range(1, len(rows)), key=lambda i: abs(rows[0][i]))
        if at != 1:
            rows[1], rows[at] = rows[at], rows[1]
            for row in rows:
                row[1], row[at] = row[at], row[1]
            value = -value
        value *= rows[0][1]
        # A' = A + (a₁ a₀ᵀ - a₀ a₁ᵀ) / a₀₁ on what is left
        first, second = rows[0], rows[1]
        rest = range(2, len(rows))
        rows = [[rows[i][k] + (first[k] * second[i] - first[i] * second[k]) / first[1] for k in rest] for i in rest]
    return value


@cache
def _gamma(halves: int) -> Decimal:
    """Γ(halves / 2)."""
    if halves <= 2:
        return {1: _pi().sqrt(), 2: Decimal(1)}[halves]
    return (Decimal(halves) / 2 - 1) * _gamma(halves - 2)


@cache
def _pi() -> Decimal:
    """π by Machin's formula, 16 arctan(1/5) - 4 arctan(1/239)."""
    return 16 * _arctan_of_inverse(5) - 4 * _arctan_of_inverse(239)


def _arctan_of_inverse(n: int) -> Decimal:
    terms = range(int(DIGITS / np.log10(n * n)) + 2)
    return sum(((-1) ** i / (Decimal(2 * i + 1) * Decimal(n) ** (2 * i + 1)) for i in terms), Decimal(0))


def negative_eigenvalues(dimension: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    """(draws,) numbers of negative eigenvalues of independent matrices.

    Each is drawn as the tridiagonal matrix with the same eigenvalues (Dumitriu & Edelman 2002: diagonal N(0, 1), beside
    it χ_k/√2, k = N-1, ..., 1), and counted by Sturm: as many as there are negative pivots without a root being found.
    """
    count, pivot = np.zeros(draws, int), np.full(draws, np.inf)
    for row in range(dimension):
        squared = generator.chisquare(dimension - row, draws) / 2 if row else 0.0
        # d_i = a_i - b_i² / d_{i-1}
        pivot = generator.standard_normal(draws) - squared / pivot
        pivot[pivot == 0] = TINY
        count += pivot < 0
    return count
