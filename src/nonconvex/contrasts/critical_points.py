"""What the study of saddles says: random matrices, the linear network's catalogue, and the points of tanh networks.

`frames` holds the study's records by file name. Every function returns one number per replicate, indexed by seed.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from nonconvex.contrasts import evidence
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK = "saddles", "critical_points"
QUADRATIC = np.log(3) / 4  # coefficient of N² in -ln P for large N (Dean & Majumdar 2006)
LARGE = 100  # dimension in which the variance of the index is compared
SMALL = (2, 3, 4)  # dimensions in which positive matrices are common enough to be drawn
AUDIT = 1e-5  # registered cut-off of the pseudo-inverse
CATALOGUE_TOLERANCE = 1e-9  # of a loss

Frames = Mapping[str, pd.DataFrame]


def effects(frames: Frames) -> list[Effect]:
    """Every claim's contrast in every replicate."""
    decayed, plain = arms(frames["points"])
    values = {
        "saddles.index_variance.goe": random_index_variance(frames["drawn"]),
        "saddles.coin.goe": bits_per_eigenvalue(frames["drawn"]) - 1,
        "saddles.exponent.goe": quadratic_coefficient(frames["drawn"]),
        "saddles.index_variance.tanh": index_variance(decayed),
        "saddles.index_variance_fitted.tanh": index_variance(decayed, fitted=True),
        "saddles.index_variance.plain": index_variance(plain),
        "saddles.minima.tanh": minima_beyond_coins(decayed),
        "saddles.minima.linear": bits_per_parameter(frames["catalogue"]) - 1,
        "saddles.majority.linear": share_of_saddles(frames["catalogue"].assign(index=_measured)) - 0.5,
        "saddles.majority.tanh": share_of_saddles(decayed) - 0.5,
        "saddles.majority.plain": share_of_saddles(plain) - 0.5,
        "saddles.order.tanh": loss_against_index(decayed),
    }
    return [row for claim, of_claim in values.items() for row in evidence.effects(claim, of_claim)]


def arms(points: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The points with the smallest positive weight decay, and those without."""
    positive = points.decay[points.decay > 0]
    return points[points.decay == positive.min()], points[points.decay == 0]


def random_index_variance(drawn: pd.DataFrame) -> pd.Series:
    """Variance of the index over N/4, minus 1, in the dimension `LARGE` or the largest there is."""
    dimension = LARGE if LARGE in set(drawn.dimension) else drawn.dimension.max()
    rows = drawn[drawn.dimension == dimension].set_index("seed")
    return rows.index_variance / (dimension / 4) - 1


def bits_per_eigenvalue(drawn: pd.DataFrame) -> pd.Series:
    """-log2 P(all positive) / N in the largest of the `SMALL` dimensions; no number where none was drawn."""
    logs = _log_shares(drawn)[SMALL[-1]]
    return -logs / np.log(2) / SMALL[-1]


def quadratic_coefficient(drawn: pd.DataFrame) -> pd.Series:
    """Half the second difference of -ln P over N = 2, 3, 4: a where -ln P = aN² + bN + c."""
    below, middle, above = (_log_shares(drawn)[n] for n in SMALL)
    return -(above - 2 * middle + below) / 2


def index_variance(points: pd.DataFrame, fitted: bool = False) -> pd.Series:
    """Variance of the index over points, over that of P independent signs, minus 1.

    Signs are negative with probability 1/2, or with the mean share of the seed's points if `fitted`.
    """

    def ratio(of_seed: pd.DataFrame) -> float:
        size = of_seed.parameters.iloc[0]
        p = of_seed["index"].mean() / size if fitted else 0.5
        expected = size * p * (1 - p)
        return of_seed["index"].var() / expected - 1 if expected else np.nan

    return _per_seed(points, ratio)


def share_of_saddles(points: pd.DataFrame) -> pd.Series:
    return _per_seed(points, lambda of_seed: float((of_seed["index"] > 0).mean()))


def minima_beyond_coins(points: pd.DataFrame) -> pd.Series:
    """Share of points without a negative eigenvalue, minus 2^-P.

    With weight decay the loss grows without bound, so there is a minimum; a seed whose searches found none has not
    sampled minima and gives no number.
    """
    coins = _per_seed(points, lambda of_seed: 0.5 ** float(of_seed.parameters.iloc[0]))
    minima = 1 - share_of_saddles(points)
    return minima.where(minima > 0) - coins


def bits_per_parameter(catalogue: pd.DataFrame) -> pd.Series:
    """-log2(share of entries that are minima) / P."""
    minima = catalogue.assign(minimum=catalogue.index_measured == 0).groupby("seed").minimum.mean()
    return -np.log2(minima) / catalogue.groupby("seed").parameters.first()


def loss_against_index(points: pd.DataFrame) -> pd.Series:
    """Kendall's tau-b; no number where all losses or all indices agree."""
    return _per_seed(points, lambda of_seed: float(stats.kendalltau(of_seed.loss, of_seed["index"]).statistic))


def gates(frames: Frames) -> list[GateValue]:
    """What every gate was measured to be, for each claim that names it."""
    decayed, plain = arms(frames["points"])
    drawn = {"drawn_exact": largest_z(frames)}
    linear = {"catalogue_match": catalogue_match(frames["catalogue"])}
    sound = {"search_sound": _ratio(frames["known"].matched.sum(), frames["known"].converged.sum())}
    tanh = sound | {"located": _largest(decayed.newton_step), "enough_points": fewest(frames, decayed)}
    no_zeros = {"no_zeros": float((decayed.near_zero == 0).mean()) if len(decayed) else None}
    of_claims = {
        **dict.fromkeys(("index_variance.goe", "coin.goe", "exponent.goe"), drawn),
        **dict.fromkeys(("index_variance.tanh", "index_variance_fitted.tanh"), tanh | no_zeros),
        **dict.fromkeys(("minima.tanh", "majority.tanh", "order.tanh"), tanh),
        **dict.fromkeys(("index_variance.plain", "majority.plain"), sound | {"enough_points": fewest(frames, plain)}),
        **dict.fromkeys(("minima.linear", "majority.linear"), linear),
    }
    return [row for claim, values in of_claims.items() for row in evidence.gates(f"saddles.{claim}", values)]


def largest_z(frames: Frames) -> float | None:
    """The furthest that drawn matrices are from the exact probabilities, in standard errors."""
    exact = frames["exact"].set_index("dimension").log_probability
    found = []
    for dimension, rows in frames["drawn"].groupby("dimension"):
        if dimension in SMALL and dimension in exact:
            p, n = float(np.exp(exact[dimension])), rows.draws.sum()
            found.append(abs(rows.positive.sum() - n * p) / np.sqrt(n * p * (1 - p)))
    return float(max(found)) if found else None


def catalogue_match(catalogue: pd.DataFrame) -> float:
    """Share of entries whose measured index and loss are those of the formulas."""
    same_loss = (catalogue.loss - catalogue.loss_measured).abs() <= CATALOGUE_TOLERANCE * (1 + catalogue.loss)
    return float((same_loss & (catalogue["index"] == catalogue.index_measured)).mean())


def fewest(frames: Frames, points: pd.DataFrame) -> float:
    """Smallest number of points in a seed, seeds without any among them."""
    counts = points.groupby("seed").size().reindex(frames["known"].seed.unique(), fill_value=0)
    return float(counts.min())


def findings(frames: Frames) -> list[Finding]:
    """The numbers behind the verdicts, per bed."""
    decayed, plain = arms(frames["points"])
    rows = {
        ("random matrix", "index variance, N = 100"): random_index_variance(frames["drawn"]) * LARGE / 4 + LARGE / 4,
        ("random matrix", "bits per eigenvalue of being positive, N = 4"): bits_per_eigenvalue(frames["drawn"]),
        ("linear network", "bits per parameter of being a minimum"): bits_per_parameter(frames["catalogue"]),
    }
    for bed, points in (("tanh network with decay", decayed), ("tanh network", plain)):
        sizes = _per_seed(points, lambda of_seed: float(of_seed.parameters.iloc[0]))
        rows |= {
            (bed, "distinct critical points found"): _per_seed(points, len),
            (bed, "share of saddles"): share_of_saddles(points),
            (bed, "minima found"): _per_seed(points, lambda of_seed: float((of_seed["index"] == 0).sum())),
            (bed, "index variance"): (index_variance(points) + 1) * sizes / 4,
            (bed, "index variance over fair coins"): index_variance(points) + 1,
            (bed, "mean index over P"): _per_seed(points, lambda p: float((p["index"] / p.parameters).mean())),
            (bed, "near-zero eigenvalues"): _per_seed(points, lambda p: float(p.near_zero.mean())),
            (bed, "tau of loss and index"): loss_against_index(points),
            (bed, "share of searches that converged"): converged(frames["searches"], points.decay),
            (bed, "share of stalled ends that are gradient-flat"): gradient_flat(frames["stalled"], points.decay),
        }
    found = [evidence.finding(ROW, bed, name, values, NOTEBOOK, "prose") for (bed, name), values in rows.items()]
    return [*found, fitted_exponent(frames["exact"])]


def converged(searches: pd.DataFrame, decays: pd.Series) -> pd.Series:
    totals = searches[searches.decay.isin(decays)].groupby("seed")[["converged", "searches"]].sum()
    return totals.converged / totals.searches


def gradient_flat(stalled: pd.DataFrame, decays: pd.Series) -> pd.Series:
    """At the registered cut-off."""
    rows = stalled[stalled.decay.isin(decays) & np.isclose(stalled.cutoff, AUDIT)]
    return rows.set_index("seed").flat


def fitted_exponent(exact: pd.DataFrame) -> Finding:
    """Coefficient of N² in the exact -ln P, from ln P = -aN² - bN - c ln N - d over N ≥ 4; no spread, n = 1."""
    rows = exact[exact.dimension >= 4]
    value = np.nan
    if len(rows) >= 4:
        n = rows.dimension.to_numpy(float)
        design = np.column_stack([n**2, n, np.log(n), np.ones_like(n)])
        value = -np.linalg.lstsq(design, rows.log_probability.to_numpy(), rcond=None)[0][0]
    name = "coefficient of the square in -ln P, exact, N = 4 to 12"
    return evidence.finding(ROW, "random matrix", name, [value], NOTEBOOK, "prose")


def _measured(catalogue: pd.DataFrame) -> pd.Series:
    return catalogue.index_measured


def _log_shares(drawn: pd.DataFrame) -> pd.DataFrame:
    """ln of the share of positive matrices, seeds down, dimensions across; missing where none was drawn."""
    table = drawn.assign(share=drawn.positive / drawn.draws).pivot(index="seed", columns="dimension", values="share")
    return np.log(table.where(table > 0))


def _per_seed(points: pd.DataFrame, value) -> pd.Series:
    return pd.Series({seed: value(of_seed) for seed, of_seed in points.groupby("seed")}, dtype=float)


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _largest(values: pd.Series) -> float | None:
    return float(values.max()) if len(values) else None
