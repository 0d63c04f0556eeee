"""What the initial scale of the weights does: to signals through untrained networks, and to training.

An arm is a family (kind and depth of networks) and a gain: weights start at a standard deviation of gain / √fan-in.
Every arm's rate is tuned on seeds that are not reported, with as many trials as any other's; a seed's weights at two
gains are one draw, scaled.
"""

from collections.abc import Mapping
from functools import partial
from math import log

import torch
from torch import Tensor

from nonconvex.beds import Bed, spread
from nonconvex.config import Settings
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import Hessian
from nonconvex.measure.propagation import Signals, drawn, signals
from nonconvex.measure.spectrum import extreme_eigenvalues
from nonconvex.models.mlp import ACTIVATIONS
from nonconvex.models.stacked import Params, select
from nonconvex.observations import initialization as rows
from nonconvex.studies import gains
from nonconvex.studies.gains import Outcome, Run, family_bed, finite
from nonconvex.studies.trajectories import rounded
from nonconvex.studies.tuning import Tuned
from nonconvex.study_settings.initialization import GAINS, Family, Gain, Initialization

MODELS = ("mlp",)
DIGITS = 6  # significant ones of a logarithm
FOLLOWED: tuple[tuple[Family, Gain], ...] = (  # arms through whose untrained networks signals are followed
    *(("deep", gain) for gain in GAINS),
    *(("tanh", gain) for gain in ("tiny", "xavier", "huge")),
)


GOOD: dict[Family, Gain] = {"shallow": "he", "deep": "he", "normalised": "he", "tanh": "xavier"}  # gains with twins


def observe(settings: Settings) -> dict[str, list]:
    """The records of all arms, by file name."""
    tuned = gains.tuned_rates(settings)
    ends = gains.outcomes(settings, reported(settings, tuned))
    s, jobs = settings.factors.initialization, []
    jobs += [partial(curvature, settings, seed) for seed in s.seeds[: s.controls]]
    jobs += [partial(propagation, settings, *arm) for arm in FOLLOWED]
    jobs += [partial(gradients, settings)]
    parts = [row for part in spread(settings, jobs) for row in part]
    return {
        "arms": arms(settings, tuned),
        "tuning": [trial for one in tuned.values() for trial in one.trials],
        "tuned": [one.arm for one in tuned.values()],
        "runs": [record(end) for end in ends],
        "signals": [row for row in parts if isinstance(row, rows.Signal)],
        "gradients": [row for row in parts if isinstance(row, rows.Gradient)],
        "curvature": [row for row in parts if isinstance(row, rows.Curvature)],
    }


def reported(settings: Settings, tuned: Mapping[str, Tuned]) -> list[Run]:
    """The runs of the reported seeds: tuned ones, twins, and shallow ones at the rate tuned for He's gain."""
    s, runs = settings.factors.initialization, []
    every = [(family, gain) for family, networks in s.families.items() for gain in networks.lowest]
    for family, gain in gains.costliest_first(settings, every):
        rate = tuned[f"{family}_{gain}"].rate
        runs += [Run(family, gain, "tuned", seed, rate) for seed in s.seeds]
        if gain == GOOD.get(family):
            runs += [Run(family, gain, "twin", seed, rate) for seed in s.seeds[: s.controls]]
        elif family == "shallow":
            runs += [Run(family, gain, "fixed", seed, tuned["shallow_he"].rate) for seed in s.seeds]
    return runs


def record(end: Outcome) -> rows.Run:
    """The record of a reported run."""
    run, diverged = end.run, end.diverged_step
    loss = finite(end.train_loss) if diverged is None else None
    return rows.Run(run.arm, run.phase, run.seed, run.rate, diverged, finite(end.initial_loss), loss)


def arms(settings: Settings, tuned: Mapping[str, Tuned]) -> list[rows.Arm]:
    """What every tuned arm is."""
    return [arm(settings, *name.split("_")) for name in tuned]


def arm(settings: Settings, family: Family, gain: Gain) -> rows.Arm:
    """The record of one arm."""
    bed = family_bed(settings, family)
    options, count = bed.training.architecture, sum(value.numel() for value in bed.build().parameters())
    depth, width = len(options["widths"]), options["widths"][0]
    norm = "batch" if family == "normalised" else "none"
    return rows.Arm(
        f"{family}_{gain}", family, gain, GAINS[gain], depth, width, options["activation"], norm, parameters=count
    )


def propagation(settings: Settings, family: Family, gain: Gain) -> list[rows.Signal]:
    """A signal through random networks of one arm, forwards from training examples and backwards from the logits."""
    torch.set_num_threads(1)
    s, bed = settings.factors.initialization, family_bed(settings, family)
    x, _ = bed.data.train.examples(s.inputs)
    sizes, found = [x.shape[1], *bed.training.architecture["widths"], bed.data.classes], []
    activation = ACTIVATIONS[bed.training.architecture["activation"]]
    for seed in s.seeds:
        generator = torch.Generator().manual_seed(seed * len(FOLLOWED) + FOLLOWED.index((family, gain)))
        params = {name: value.to(bed.device) for name, value in drawn(s.draws, sizes, GAINS[gain], generator).items()}
        direction = torch.randn(s.draws, 1, bed.data.classes, generator=generator).to(bed.device)
        found += signal_rows(f"{family}_{gain}", seed, signals(params, x, activation, partial(along, direction)))
    return found


def along(direction: Tensor, logits: Tensor) -> Tensor:
    """A linear function of the logits, one a network: (E, 1, C) and (E, N, C) -> (E, N)."""
    return (direction * logits).sum(-1)


def signal_rows(arm: str, seed: int, found: Signals) -> list[rows.Signal]:
    """Per hidden layer ln of the means over networks and examples, and the means of ln."""
    means = [part.mean((0, 2)).log() for part in (found.forward, found.backward)]
    typical = [part.log().mean((0, 2)) for part in (found.forward, found.backward)]
    columns = zip(*(part.tolist() for part in (*means, *typical)), strict=True)
    draws = len(found.forward)
    return [
        rows.Signal(arm, seed, layer, draws, *(rounded(value, DIGITS) for value in values))
        for layer, values in enumerate(columns, start=1)
    ]


def gradients(settings: Settings) -> list[rows.Gradient]:
    """Gradients of the training loss at the start of the deep family's runs."""
    torch.set_num_threads(1)
    s, bed = settings.factors.initialization, family_bed(settings, "deep")
    runs = [Run("deep", gain, "tuned", seed, 0.0) for gain in s.families["deep"].lowest for seed in s.seeds]
    _, params = gains.beginning(bed, runs)
    return [row for e, run in enumerate(runs) for row in gradient_rows(bed, run, select(params, [e]), s)]


def gradient_rows(bed: Bed, run: Run, params: Params, s: Initialization) -> list[rows.Gradient]:
    """One network's gradients, layer by layer."""
    x, y = bed.data.train.examples(s.gradient_examples)
    found = signals(params, x, ACTIVATIONS[bed.training.architecture["activation"]], lambda z: bed.loss(z, y[None]))
    # ln of the root of the mean over examples of the squared norm;  the mean loss's gradient is the sum's over N
    activations = (found.backward[0].mean(1) * s.width).log() / 2
    weights = found.weights[0].log() / 2 - log(len(y))
    columns = zip(activations.tolist(), weights.tolist(), strict=True)
    return [
        rows.Gradient(run.arm, run.seed, layer, *(rounded(value, DIGITS) for value in values))
        for layer, values in enumerate(columns, start=1)
    ]


def curvature(settings: Settings, seed: int) -> list[rows.Curvature]:
    """λ_max of the deep family's networks before training, all gains of one seed."""
    torch.set_num_threads(1)
    s, bed = settings.factors.initialization, family_bed(settings, "deep")
    runs = [Run("deep", gain, "tuned", seed, 0.0) for gain in s.families["deep"].lowest]
    network, params = gains.beginning(bed, runs)
    objective = Objective(network, bed.loss, shared(*bed.data.train.examples(s.curvature_examples)))
    found = extreme_eigenvalues(Hessian(objective, params), s.lanczos.iterations, s.lanczos.tolerance).largest
    values = zip(runs, found.value.tolist(), (found.residual / found.value.abs()).tolist(), strict=True)
    return [rows.Curvature(run.arm, seed, s.curvature_examples, *map(rounded, pair)) for run, *pair in values]
