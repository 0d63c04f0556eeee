"""The arms of the study of warm-up: which schedule, optimizer, rate and start a run has."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nonconvex import train
from nonconvex.beds import Bed
from nonconvex.models.stacked import Stacked
from nonconvex.optimizers import AdamW, Sgd
from nonconvex.schedules import SCHEDULES, Factory, warmup_steps
from nonconvex.strategies.warmup import Warmup
from nonconvex.studies.adam_variants import VariantAdamW, accumulated, initial_squares
from nonconvex.studies.draws import OTHER, Drawn
from nonconvex.studies.training import Recipe, cohort
from nonconvex.study_settings.warmup import WarmedBed

NONE = "none"
VARIANTS = ("preaccumulated", "gradient_initialised", "rectified", "restarted")
EARLY = 0.1  # share of a run that counts as its beginning


@dataclass(frozen=True)
class Cell(Drawn):
    """One training."""

    bed: str
    arm: str
    labels: str
    draw: str
    seed: int
    rate: float


@dataclass(frozen=True)
class Begun:
    """A cohort before its first update."""

    network: Stacked
    made: train.Cohort
    state: train.State


def arm_name(share: float) -> str:
    """`none` without warm-up, else `warm` and the percentage of the run."""
    return f"warm{100 * share:g}" if share else NONE


def arms_of(how: WarmedBed) -> dict[str, float]:
    """Share of the run by arm."""
    return {arm_name(share): share for share in how.shares}


def factory_of(how: WarmedBed, share: float) -> Factory:
    """The bed's schedule, times a linear warm-up over a share of the run."""
    plain = SCHEDULES[how.schedule]
    return Warmup(share).wrap(plain) if share else plain


def optimizer_of(how: WarmedBed) -> Sgd | AdamW:
    """The bed's optimizer; none decays the weights, as that would move the threshold of stability."""
    if how.optimizer == "sgd":
        return Sgd(how.momentum)
    return AdamW(how.beta1, how.beta2, weight_decay=0.0)


def early_steps(how: WarmedBed) -> int:
    """Updates in the first tenth of the run."""
    return max(1, round(EARLY * how.steps))


def longest(how: WarmedBed) -> int:
    """Steps of the longest warm-up."""
    return warmup_steps(how.steps, how.shares[-1])


def high_rate(how: WarmedBed, tuned: float, times: float) -> float:
    """The rate of the grid that is nearest, in ratio, to `times` the tuned one."""
    return min(how.rates, key=lambda rate: abs(math.log(rate / (times * tuned))))


def compared_rates(how: WarmedBed, tuned: Sequence[float]) -> list[float]:
    """The rates of the grid that reported seeds run: from the lowest that an arm chose."""
    return [rate for rate in how.rates if rate >= min(tuned)]


def begun(bed: Bed, how: WarmedBed, cells: Sequence[Cell]) -> Begun:
    """The runs of some cells, all of a variant's or none of them, at their initial weights."""
    variant = cells[0].arm if cells[0].arm in VARIANTS else None
    shares = arms_of(how) | dict.fromkeys(VARIANTS, 0.0) | {"restarted": how.shares[-1]}
    recipe = Recipe(how.steps, how.batch_size, optimizer=variant_of(how, variant))
    schedules = [factory_of(how, shares[cell.arm]) for cell in cells]
    starts, rates = [cell.start for cell in cells], [cell.rate for cell in cells]
    network, params, made = cohort(bed, recipe, starts, rates, schedules=schedules)
    state = train.start(made, params)
    if variant in SECOND:
        second = SECOND[variant](how, made, params, [start + OTHER for start in starts])
        state = replace(state, optimizer=state.optimizer | {"second": second})
    return Begun(network, made, state)


def variant_of(how: WarmedBed, variant: str | None) -> Sgd | AdamW:
    """The bed's optimizer with the switches of a variant, if any.

    What is accumulated beforehand, and what is lost at a restart, spans as many minibatches as the longest warm-up.
    """
    if variant is None:
        return optimizer_of(how)
    switches: Mapping[str, dict] = {
        "preaccumulated": {"seen": longest(how)},
        "gradient_initialised": {},
        "rectified": {"rectified": True},
        "restarted": {"restart_at": longest(how)},
    }
    return VariantAdamW(how.beta1, how.beta2, weight_decay=0.0, **switches[variant])


# What the second moments are before the first update, from another order of the data than the run's own
SECOND = {
    "preaccumulated": lambda how, made, params, orders: accumulated(made, params, how.beta2, orders, longest(how)),
    "gradient_initialised": lambda how, made, params, orders: initial_squares(made, params, orders),
}
