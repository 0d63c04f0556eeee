"""What the settings of every study are made of."""

from typing import Literal

from nonconvex.axes import Axis, Count, Positive, Seeds

StudyLoss = Literal["squared_error", "cross_entropy"]


class Study(Axis):
    """`seeds` are the replicates that are reported; whatever is tuned is tuned on `tuning` seeds."""

    seeds: Seeds
    tuning: Seeds = (1000,)


class Lanczos(Axis):
    """How hard to look for the largest eigenvalue: at most so many products, down to a residual relative to it."""

    iterations: Count = 20
    tolerance: Positive = 0.02
