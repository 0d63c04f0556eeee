"""How each arm's tuning criterion answers to the rate."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from nonconvex.panels import legend, panels, plain_log, titled
from nonconvex.style import DASHES, MARKERS, PALETTE, house


@house()
def responses(trials: pd.DataFrame, arms: pd.DataFrame, labels: Mapping[str, str], height: float = 2.6) -> Figure:
    """One panel per bed, one line per arm of `labels` (arm -> label): mean over tuning seeds, the chosen rate ringed.

    `trials` and `arms` have the columns of `TuningTrial` and `TunedArm`; a rate at which a seed diverged has no point.
    """
    models = list(dict.fromkeys(arms.model))
    figure, axes = panels(models, height)
    for panel, model in zip(axes[0], models, strict=True):
        of_model = arms[arms.model == model].set_index("arm")
        for i, (arm, label) in ((i, pair) for i, pair in enumerate(labels.items()) if pair[0] in of_model.index):
            criterion, rate = of_model.loc[arm, ["criterion", "rate"]]
            means = mean_by_rate(trials[(trials.model == model) & (trials.arm == arm)], criterion)
            colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
            panel.plot(means.index, means, color=colour, marker=marker, linestyle=DASHES[i % len(DASHES)], label=label)
            panel.plot([rate], means.loc[[rate]], "o", markersize=11, markerfacecolor="none", color=colour)
        panel.set(xscale="log", xlabel="peak rate", ylabel=criterion.replace("_", " "))
        plain_log(panel.xaxis)
    legend(figure, axes[0])
    seeds = trials.groupby(["model", "arm", "rate"]).seed.nunique().max()
    return titled(figure, f"Tuning: mean over {seeds} tuning seed(s), none of them reported. Ring: the chosen rate.")


def mean_by_rate(trials: pd.DataFrame, criterion: str) -> pd.Series:
    """Mean of the criterion at every rate; NaN where a seed diverged."""
    return trials.groupby("rate")[criterion].agg(lambda values: values.mean(skipna=False))
