"""What the models of the study of flat and sharp minima say about correlations, and about rescaled layers."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from nonconvex import statistics
from nonconvex.contrasts import evidence
from nonconvex.records import Effect, Finding, GateValue

ROW, NOTEBOOK = "flat_minima", "property_flat_vs_sharp"
Frames = Mapping[str, pd.DataFrame]
RUN = ["model", "budget", "batch_size", "rate", "labels", "draw", "seed"]
MEASURES = (
    "lambda_max",
    "trace",
    "gauss_newton_max",
    "sam_sharpness",
    "adaptive_sharpness",
    "average_sharpness",
    "keskar_sharpness",
)
SPECTRAL = ("lambda_max", "gauss_newton_max")  # those with a Lanczos residual


def claim(name: str) -> str:
    return f"{ROW}.{name}"


def zoo(frames: Frames) -> pd.DataFrame:
    """One row per finished model that correlations are taken over: its arm, accuracies, losses and measures.

    These are the MLP's runs of an own draw, at equal steps, of the batch sizes that were trained at several rates.
    `kept` is the change of test accuracy under noise, `rescaled` lambda_max after the random rescaling.
    """
    ends = frames["endpoints"].query("model == 'mlp' and budget == 'steps' and labels == 'true' and draw == 'own'")
    ends = ends[ends.groupby("batch_size").rate.transform("nunique") > 1].dropna(subset="test_error")
    measured = frames["sharpness"][frames["sharpness"].level.isna()]
    wide = measured.pivot(index=RUN, columns="quantity", values="value").reindex(columns=list(MEASURES))
    random = frames["rescalings"].query("kind == 'random'").set_index(["model", "batch_size", "rate", "seed"])
    models = ends.join(wide, on=RUN).join(random.lambda_max.rename("rescaled"), on=random.index.names)
    kept = models.clean_test_error - models.noisy_test_error
    return models.assign(accuracy=1 - models.test_error, kept=kept)


def tau(models: pd.DataFrame, measure: str, outcome: str = "accuracy", given: Sequence[str] = ()) -> float:
    """Partial Kendall tau of minus a measure and an outcome given log rate, log batch size and more.

    Logarithms change no rank, so rate and batch size stand for theirs.
    """
    rows = models.dropna(subset=[measure, outcome])
    if len(rows) < 4:
        return np.nan
    return statistics.partial_kendall(
        -rows[measure], rows[outcome], [rows[name] for name in ("rate", "batch_size", *given)]
    )


def within(models: pd.DataFrame, measure: str, outcome: str = "accuracy") -> float:
    """Mean over the arms of Kendall's tau among their seeds: what is left where rate and batch size are equal."""
    arms = models.dropna(subset=[measure, outcome]).groupby(["batch_size", "rate"])
    return float(
        np.mean([statistics.partial_kendall(-a[measure], a[outcome]) for _, a in arms if len(a) > 2] or [np.nan])
    )


def over_seeds(models: pd.DataFrame, statistic: Callable[[pd.DataFrame], float]) -> pd.Series:
    """Jackknife pseudo-values of a statistic of the zoo, by the seed left out."""
    if models.seed.nunique() < 2:
        return pd.Series(dtype=float)
    return pd.Series(statistics.pseudo_values(models.seed, lambda stay: statistic(models[stay])))


CORRELATIONS = {  # claim -> arguments of tau
    **{f"correlation_{name}.mlp": {"measure": name} for name in MEASURES},
    "correlation_given_loss.mlp": {"measure": "lambda_max", "given": ("train_loss",)},
    "correlation_rescaled.mlp": {"measure": "rescaled"},
    "robustness.mlp": {"measure": "lambda_max", "outcome": "kept"},
}


def correlations(frames: Frames) -> list[Effect]:
    """Partial tau of minus each measure and test accuracy, as pseudo-values over seeds."""
    models = zoo(frames)
    return [
        effect
        for name, how in CORRELATIONS.items()
        for effect in evidence.effects(claim(name), over_seeds(models, lambda rows, how=how: tau(rows, **how)))
    ]


def residual(rows: pd.DataFrame) -> float:
    """The largest relative residual; NaN where there is none."""
    return float(rows.residual.max())


def gates(frames: Frames) -> list[GateValue]:
    """How many models a correlation has, and the residuals of those that need an eigenvalue."""
    models, found = zoo(frames), []
    ends = frames["sharpness"][frames["sharpness"].level.isna()].merge(models[RUN], on=RUN)
    random = frames["rescalings"].query("kind == 'random'")
    for name, how in CORRELATIONS.items():
        columns = [how["measure"], how.get("outcome", "accuracy")]
        measured = {"models": float(len(models.dropna(subset=columns)))}
        if how["measure"] in SPECTRAL:
            measured["residual"] = residual(ends[ends.quantity == how["measure"]])
        if how["measure"] == "rescaled":
            measured |= {"residual": residual(random), "same_outputs": float(random.difference.max())}
        found += evidence.gates(claim(name), measured)
    return found


def findings(frames: Frames) -> list[Finding]:
    models, found = zoo(frames), []
    for name in MEASURES:
        forms = {
            "given rate and batch size": lambda rows, name=name: tau(rows, name),
            "given rate, batch size and training loss": lambda rows, name=name: tau(rows, name, given=("train_loss",)),
            "within arms": lambda rows, name=name: within(rows, name),
        }
        for form, statistic in forms.items():
            quantity = f"tau of -{name} and test accuracy, {form}"
            found.append(evidence.finding(ROW, "mlp", quantity, over_seeds(models, statistic), NOTEBOOK))
    return found


def ratios(frames: Frames) -> pd.DataFrame:
    """log10 of lambda_max and adaptive sharpness after over before the fixed rescaling, by seed."""
    key = ["model", "batch_size", "rate", "seed"]
    after = frames["rescalings"].query("kind == 'fixed'").set_index(key)
    ends = frames["sharpness"].query("budget == 'steps' and labels == 'true' and draw == 'own'")
    before = ends[ends.level.isna()].pivot(index=key, columns="quantity", values="value").reindex(after.index)
    names = ["lambda_max", "adaptive_sharpness"]
    quotients = after[names] / before.reindex(columns=names)
    return np.log10(quotients.where(quotients > 0)).droplevel(key[:3])


def rescalings(frames: Frames) -> list[Effect]:
    """What the fixed rescaling does to both measures."""
    found = ratios(frames)
    return [
        *evidence.effects(claim("rescaling_lambda.mlp"), found.lambda_max),
        *evidence.effects(claim("rescaling_adaptive.mlp"), found.adaptive_sharpness),
    ]


def rescaling_gates(frames: Frames) -> list[GateValue]:
    """That the function stayed the same, and that the eigenvalue is one."""
    fixed = frames["rescalings"].query("kind == 'fixed'")
    same = {"same_outputs": float(fixed.difference.max())}
    return [
        *evidence.gates(claim("rescaling_lambda.mlp"), same | {"residual": residual(fixed)}),
        *evidence.gates(claim("rescaling_adaptive.mlp"), same),
    ]
