"""Records of the study of saddles: random matrices, a linear network's catalogue, and points found in tanh networks."""

from dataclasses import dataclass
from typing import ClassVar

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class PositiveProbability:
    """ln P that a matrix of the Gaussian orthogonal ensemble has only positive eigenvalues, exact to rounding."""

    KEY: ClassVar = ("dimension",)
    dimension: Count
    log_probability: float


@dataclass(frozen=True)
class DrawnMatrices:
    """Independent random matrices of one replicate: how many were positive, and the moments of the index."""

    KEY: ClassVar = ("seed", "dimension")
    seed: Count
    dimension: Count
    draws: Count
    positive: Count
    index_mean: float
    index_variance: Size


@dataclass(frozen=True)
class CatalogueEntry:
    """One orbit of critical points of a two-layer linear network: what the formula says and what was measured there.

    `subset` has a 1 for every mode that the point has learnt, from the largest singular value.
    """

    KEY: ClassVar = ("seed", "subset")
    seed: Count
    subset: str
    parameters: Count
    gradient_norm: Size
    loss: Size
    loss_measured: Size
    index: Count
    index_measured: Count


@dataclass(frozen=True)
class CriticalPoint:
    """A critical point of a tanh network, one of those that do not differ by a symmetry; `found` times.

    `index` and `near_zero` count eigenvalues at the study's cut-off, `index_coarse` at one a hundred times as wide;
    `newton_step` is the length of the next step, `steepest` the largest and `lowest` the smallest eigenvalue.
    """

    KEY: ClassVar = ("decay", "seed", "number")
    decay: Size
    seed: Count
    number: Count
    parameters: Count
    found: Count
    found_on_trajectories: Count
    loss: Size
    index: Count
    near_zero: Count
    index_coarse: Count
    gradient_norm: Size
    newton_step: Size
    weight_norm: Size
    lowest: float
    steepest: float


@dataclass(frozen=True)
class SearchCount:
    """How many searches of one seed and arm ended at a critical point, from either kind of start."""

    KEY: ClassVar = ("decay", "seed", "start")
    decay: Size
    seed: Count
    start: str
    searches: Count
    converged: Count


@dataclass(frozen=True)
class StalledSearches:
    """Where searches stopped short: the share of gradient-flat ends (r > 0.9) at one cut-off of the pseudo-inverse."""

    KEY: ClassVar = ("decay", "seed", "cutoff")
    decay: Size
    seed: Count
    cutoff: Size
    stalled: Count
    flat: Share | None
    residual: Share | None  # median of r
    gradient_norm: Size | None  # median


@dataclass(frozen=True)
class KnownSearch:
    """Searches in the linear network: how many that converged have loss and index of an entry of the catalogue."""

    KEY: ClassVar = ("seed",)
    seed: Count
    searches: Count
    converged: Count
    matched: Count
    entries: Count
