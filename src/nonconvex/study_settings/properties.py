"""Settings of the studies behind the text's first table and its prose on saddles and PAC-Bayes, one class each."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nonconvex.axes import Axis, Count, Positive, Share
from nonconvex.study_settings.base import Lanczos, Study, StudyLoss

Accounting = Literal["tuned_steps", "tuned_epochs", "same_rate_epochs"]


class BatchSizes(Axis):
    """Training with several batch sizes on one bed. `rates` are tried at each, as many at every size, and rise.

    `small` and `large` are the two sizes that claims compare. Under the first of the `accountings` runs are followed
    and measured in full, and for the sizes in `zoo` they use every rate inside the grid, not only the tuned one.
    """

    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=2)]
    small: Count
    large: Count
    rates: tuple[Annotated[tuple[Positive, ...], Field(min_length=3)], ...]
    accountings: Annotated[tuple[Accounting, ...], Field(min_length=1)]
    steps: Count | None  # where steps are equal
    epochs: Count | None  # where epochs are
    zoo: tuple[Count, ...]
    measures: tuple[str, ...]  # of the flatness of the end, under the first accounting
    levels: tuple[Positive, ...]  # of training loss, falling; claims use the last
    looks: Count  # at the training loss of a run, evenly spaced
    examples: Count  # of the training set, for curvature and for those looks

    @model_validator(mode="after")
    def _fits(self) -> "BatchSizes":
        if not {self.small, self.large, *self.zoo} <= set(self.batch_sizes):
            raise ValueError(f"small, large and zoo must be among batch_sizes {list(self.batch_sizes)}")
        if len(self.rates) != len(self.batch_sizes) or len({len(grid) for grid in self.rates}) > 1:
            raise ValueError("rates must hold one grid per batch size, all of one length")
        if list(self.levels) != sorted(self.levels, reverse=True):
            raise ValueError(f"levels must fall, found {list(self.levels)}")
        if "same_rate_epochs" in self.accountings and "tuned_epochs" not in self.accountings:
            raise ValueError("same_rate_epochs takes the small batch's rate from tuned_epochs, which accountings lacks")
        if missing := [budget for budget in self.budgets if getattr(self, budget) is None]:
            raise ValueError(f"accountings need {', '.join(missing)}")
        return self

    @property
    def budgets(self) -> list[str]:
        """What is equal, `steps` or `epochs`: that of the first accounting first."""
        return list(dict.fromkeys(accounting.rpartition("_")[2] for accounting in self.accountings))


class FlatVsSharp(Study):
    """Batch sizes, sharpness and generalisation."""

    beds: dict[Literal["mlp", "resnet"], BatchSizes]
    controls: Count  # seeds, the first ones, that are also trained a second time and on shuffled labels
    rescaling: Positive  # factor on the first layer, divided out of the second
    noise: Positive  # standard deviation of the Gaussian noise on weights that the test accuracy has to bear
    noise_pairs: Annotated[int, Field(ge=2)]
    noise_examples: Count  # of the test set


class Connected(Axis):
    """A bed of the mode-connectivity study: its ends, the paths between them, and what both are evaluated on."""

    rate: Positive  # peak of the ends' cosine; the one that the grid of the schedules chose on this bed
    steps: Count  # of the ends
    good_loss: Positive  # training loss up to which an end counts as a good minimum
    batch_size: Count  # of the learned paths
    curve_steps: Count  # gradients that a learned path may cost
    curve_rate: Positive  # Adam's, for the Bezier curve
    points: Annotated[int, Field(ge=5)] = 17  # places at which a path is evaluated
    train_examples: Count = 500
    test_examples: Count = 1000
    at_once: Count = 4  # networks evaluated together; sets the memory, not the result


class Band(Axis):
    """AutoNEB: `cycles` of equal length, from `pivots` inner points, `inserted` more before every further one."""

    cycles: Count = 3
    pivots: Count = 3
    inserted: Count = 2
    rate: Positive  # SGD's
    examples: Count = 250  # training examples that say where a chain is high

    @property
    def gradients(self) -> int:
        """Gradients per step of a cycle, summed over the cycles."""
        return sum(self.pivots + cycle * self.inserted for cycle in range(self.cycles))


class ModeConnectivity(Study):
    """Pairs of networks; replicate `seed` joins the networks of `seed` and `seed + partner`."""

    partner: Count = 100
    controls: Count = 5  # replicates of the controls, of the other widths and of the transformer
    widths: tuple[Count, ...]  # of the ResNet, beside that of its bed
    band: Band
    resnet: Connected
    transformer: Connected

    @model_validator(mode="after")
    def _equal_gradients(self) -> Self:
        if left := self.resnet.curve_steps % self.band.gradients:
            raise ValueError(f"resnet.curve_steps must be a multiple of {self.band.gradients}, found {left} over")
        return self


class LinearConnectivityBed(Axis):
    """One test bed of the study of linear connectivity. Shares are of the run."""

    parents: Count  # how many of the study's seeds are used
    together: Count  # parents per process, trained in lockstep with all that parts from them
    rates: dict[Literal["cosine", "constant"], Positive]  # peak rates; tuned by the grid's own tuning stage
    forks: tuple[Share, ...]  # where a child parts from its parent
    full_length: tuple[Share, ...]  # where two children part that then train for a whole run
    shuffled: bool  # also train on shuffled labels
    checkpoints: Annotated[int, Field(ge=2)] = 7  # of a run, all pairs of which are joined
    points: Annotated[int, Field(ge=3)] = 11  # on a line
    start_points: Annotated[int, Field(ge=3)] = 15  # on a line from a start to the end
    stretch: Annotated[float, Field(gt=0, lt=1)] = 0.25  # at the end of the run, whose checkpoints are averaged
    averaged: Annotated[int, Field(ge=2)] = 6  # checkpoints
    train_examples: Count  # of every line, and of normalisation statistics
    test_examples: Count  # of the lines between siblings
    averaging_examples: Count  # test examples for averages and ensembles
    at_once: Count = 4  # networks evaluated together


class LinearConnectivity(Study):
    """Runs that part, checkpoints of a run and their starts, joined by straight lines."""

    beds: dict[Literal["resnet", "transformer"], LinearConnectivityBed]


class Descent(Axis):
    """Full-batch runs of one optimizer: a run per rate and seed, all of them `steps` long."""

    rates: Annotated[tuple[Positive, ...], Field(min_length=2)]
    steps: Count


class RateChange(Axis):
    """Gradient descent at `rate` for `before` updates; then the same weights go on, at other rates too, for `after`."""

    rate: Positive
    before: Count
    after: Count
    readings: Annotated[int, Field(ge=8)] = 14
    much_lower: Positive = 0.25
    lower: Positive = 0.8
    higher: Positive = 1.27
    jostle: Positive = 1e-3  # of the weights' length: how far the arm that changes nothing else is pushed


class EdgeOfStability(Study):
    """A tanh network on few examples, so that every step is one of exact gradient descent."""

    examples: Count = 250
    widths: tuple[Count, ...] = (32, 32, 32)
    momentum: Share = 0.5  # of heavy ball and Nesterov
    readings: Annotated[int, Field(ge=8)] = 22  # of the curvature, evenly spaced along a run
    lanczos: Lanczos = Lanczos()
    descents: dict[StudyLoss, dict[Literal["gd", "heavy_ball", "nesterov", "adam"], Descent]]
    changes: dict[StudyLoss, RateChange]


class Trainability(Axis):
    """How one bed's architectures are compared: short runs at many rates, longer ones at the best of them."""

    rates: Annotated[tuple[Positive, ...], Field(min_length=3)]  # of the tuning runs, rising
    trained_share: Share  # of the loss of a guess, ln classes: a short run that ends below it has trained
    matched_share: Share  # of the same: the training loss at which arms are compared
    steps: Count  # of a short run, which shows whether a rate trains
    tuned_steps: Count  # of a run at the tuned rate
    every: Count = 5  # steps between the states of a tuned run that are looked at
    examples: Count  # training examples behind every loss
    curvature_examples: Count  # of them, those behind gradients, curvature and surfaces


class Landscape(Study):
    """ResNets of two depths with and without skips and batch norm, of two more widths; transformers without either."""

    depths: Annotated[tuple[Count, ...], Field(min_length=2, max_length=2)]  # of the ResNet: shallow, deep
    width: Count
    widths: Annotated[tuple[Count, ...], Field(min_length=2, max_length=2)]  # of the shallow ResNet: narrow, wide
    window: Annotated[tuple[Positive, ...], Field(min_length=2)] = (0.5, 1, 2, 4)  # times the tuning runs' largest rate
    extensions: Annotated[int, Field(ge=0)] = 2  # times that two rates are added where the window shows no edge
    lengths: Annotated[tuple[Positive, ...], Field(min_length=2)] = (0.00125, 0.0025, 0.005, 0.01, 0.02)
    validation_examples: Count = 500
    lanczos: Lanczos = Lanczos(iterations=40, tolerance=0.02)
    plane_points: Annotated[int, Field(ge=3)] = 11  # along each side, from -plane_reach to plane_reach
    plane_reach: Positive = 1.0  # in units of the filters' own norms
    resnet: Trainability
    transformer: Trainability


class Flow(Axis):
    """Full-batch gradient descent at `share` of the seed's own initial threshold 2 / λ_max."""

    share: Positive
    steps: Count


class Decay(Axis):
    """What a decay of the rate does at a peak of `share`: cosine to zero, and one drop by `factor` at `drop_at`."""

    share: Positive
    steps: Count
    readings: Annotated[int, Field(ge=5)] = 16
    drop_at: Share = 0.5
    factor: Positive = 0.25
    jostle: Positive = 1e-3


class SgdArms(Axis):
    """Minibatch runs that differ in rate and in batch size, their curvature on `examples` training examples."""

    replicates: Count = 5  # the first of `seeds`
    steps: Count
    rates: Annotated[tuple[Positive, ...], Field(min_length=2, max_length=2)]  # low, high
    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=2, max_length=2)]  # small, large
    readings: Annotated[int, Field(ge=4)] = 10
    examples: Count = 128
    scored: Count = 500  # training examples of the loss that the arms are matched at


class ProgressiveSharpening(Study):
    """The network of EdgeOfStability from gradient-flow-like to large rates, and a ResNet under SGD."""

    examples: Count = 200
    widths: tuple[Count, ...] = (32, 32, 32)
    readings: Annotated[int, Field(ge=8)] = 28
    lanczos: Lanczos = Lanczos()
    flows: dict[StudyLoss, tuple[Flow, ...]]
    decays: dict[StudyLoss, Decay]  # whose constant arm is the largest of the flows
    sgd: dict[Literal["resnet"], SgdArms]

    @model_validator(mode="after")
    def _shares_once(self) -> Self:
        for loss, flows in self.flows.items():
            shares = [flow.share for flow in flows] + [d.share for name, d in self.decays.items() if name == loss]
            if len(set(shares)) < len(shares):
                raise ValueError(f"{loss}: flows and decays must not share a rate, found {shares}")
        return self


class CriticalPoints(Study):
    """Random matrices, the catalogue of a two-layer linear network, and a search in tiny tanh networks."""

    dimensions: tuple[Count, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)  # of the exact probabilities
    drawn: dict[Count, Count]  # dimension -> random matrices of it per replicate
    modes: Count = 3  # singular values of the linear network's target
    bottleneck: Count = 4  # its hidden units
    inputs: Count = 3
    hidden: Count = 5
    teacher: Count = 5  # hidden units of the network that makes the targets
    noise: Positive = 0.1  # on targets of variance one
    examples: Count = 100
    decays: tuple[Annotated[float, Field(ge=0)], ...] = (0.0, 0.003)  # weight decay in the loss, an arm each
    starts: Count  # searches per seed and arm, half from random weights and half from training trajectories
    descent_steps: Count = 600  # of the trajectories
    descent_rate: Positive = 0.3
    perturbations: tuple[Annotated[float, Field(ge=0)], ...] = (0.0, 0.1, 0.3)  # of trajectory points
    iterations: Count  # of the second-order method, at most
    tolerance: Positive = 1e-11  # gradient norm of what is called a critical point
    zero: Positive = 1e-6  # eigenvalues within this share of the largest magnitude count as zero
    cutoffs: tuple[Positive, ...] = (1e-10, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # of the audit's pseudo-inverse
    known_starts: Count  # searches in the linear network, whose critical points are known


class PacBayes(Study):
    """Bounds for randomised classifiers on MNIST-1D, first digits against last, and what flatness says about them."""

    examples: Count  # of a training draw
    prior_share: Share = 0.3  # of it that the prior is trained on
    draws: Count  # training draws per seed
    width: Count = 50
    batch_size: Count = 32
    rate: Positive = 0.1
    prior_steps: Count
    steps: Count
    noise: Positive = 0.1  # deviation of the weights during training for the bound
    deviations: tuple[Positive, ...]  # of the bound's grid
    repeats: Count = 2  # weight draws per example in the empirical risk
    confidence: Share = 0.05
    sampling: Share = 0.01  # part of it that pays for the drawn weights
    rescaled_draws: Count  # training draws per seed that are rescaled
    factor: Positive = 2.0  # of the rescale
    family_examples: Count  # of a training draw of the family
    family_widths: tuple[Count, ...] = (40, 80)
    family_batches: tuple[Count, ...] = (32, 128)
    family_rates: tuple[Positive, ...]
    family_prior_steps: Count
    family_steps: Count  # at most
    family_loss: Positive  # training loss at which its members are compared
    family_check: Count  # steps between looks at the training loss
    family_deviations: tuple[Positive, ...]
    family_factors: tuple[Positive, Positive] = (0.25, 4.0)  # range of the random rescale
    tolerance: Share = 0.1  # rise of the training error that a tolerated deviation may cause
    shuffled_examples: Count  # of a training draw with shuffled labels: few, so that they can be learnt by heart
    curvature_examples: Count
    lanczos_iterations: Count = 25
    probes: Annotated[int, Field(ge=2)] = 6


class Properties(Axis):
    """The rows of the text's first table, and its prose on saddles and on PAC-Bayes."""

    flat_vs_sharp: FlatVsSharp
    mode_connectivity: ModeConnectivity
    linear_connectivity: LinearConnectivity
    edge_of_stability: EdgeOfStability
    landscape: Landscape
    progressive_sharpening: ProgressiveSharpening
    critical_points: CriticalPoints
    pac_bayes: PacBayes
