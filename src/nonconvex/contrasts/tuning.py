"""What is to be said of the tuning behind a contrast. No torch."""

from collections.abc import Iterable

import pandas as pd


def gates(arms: pd.DataFrame, names: Iterable[str]) -> dict[str, float]:
    """The gates `rate_interior` and `equal_tuning` of a contrast between the arms `names` of one bed.

    `arms` has the columns of `observations.tuning.TunedArm`. KeyError for an arm that was not tuned.
    """
    found = arms.set_index("arm").loc[list(names)]
    return {"rate_interior": float(found.interior.min()), "equal_tuning": float(found.trials.nunique() == 1)}
