"""Records of the study of PAC-Bayes bounds: many training draws of one recipe, and a family of trained networks."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nonconvex.records import Count, Share, Size


@dataclass(frozen=True)
class DrawnBound:
    """One training draw: the least bound over the grid of deviations, and what it bounds.

    `gibbs_error` is the share of errors among the drawn (weights, example) pairs of the bound's examples, `true_error`
    the randomised classifier's error on the whole population, `divergence` KL(Q‖P) in nats. `holdout` bounds the
    prior's own network by its errors on the examples that it was not trained on; `pinsker` is the bound without the
    inversion.
    """

    KEY: ClassVar = ("seed", "draw")
    seed: Count
    draw: Count
    examples: Count
    deviation: Size
    grid_place: Count
    grid_size: Count
    gibbs_error: Share
    true_error: Share
    divergence: Size
    bound: Share
    pinsker: Size
    holdout: Share
    network_error: Share


@dataclass(frozen=True)
class RescaledBound:
    """One training draw before and after its posterior's layers are rescaled, the prior staying where it was.

    `moved` is the bound where the prior's mean is rescaled along; `changed_answers` the share of the population that
    the rescaled network classifies differently.
    """

    KEY: ClassVar = ("seed", "draw")
    seed: Count
    draw: Count
    factor: Size
    bound: Share
    rescaled: Share
    moved: Share
    changed_answers: Share


@dataclass(frozen=True)
class FamilyMember:
    """A network trained to a common training loss, as trained or after a random rescale of its layers.

    `tolerated` is the deviation of Gaussian noise on the weights at which the training error has risen by the study's
    tolerance; `bound` the one at the largest deviation of the grid below it, `gibbs_error` and `divergence` (nats) the
    empirical risk and KL(Q‖P) there; `least_bound` the least over the grid, `initial_bound` the least with the prior at
    the initial weights. `train_error` and `true_error` are those of the network itself.
    """

    KEY: ClassVar = ("labels", "form", "seed", "width", "batch_size", "rate")
    labels: Literal["true", "shuffled"]
    form: Literal["trained", "rescaled"]
    seed: Count
    width: Count
    batch_size: Count
    rate: Size
    steps: Count | None
    factor: Size
    train_loss: Size | None
    train_error: Share | None
    true_error: Share | None
    squared_distance: Size | None
    lambda_max: float | None
    residual: Size | None
    trace: float | None
    tolerated: Size | None
    gibbs_error: Share | None
    divergence: Size | None
    bound: Share | None
    least_bound: Share | None
    least_place: Count | None
    initial_bound: Share | None
