"""The same learning rates in another order, or their mean throughout: what is left of a schedule without its shape.

Each takes a factory of `schedules` and returns one. Of a run's rates `reversed_in_time` and `shuffled` keep every one
to the last bit, `at_mean` their sum (to rounding).
"""

from collections.abc import Sequence
from functools import partial

from nonconvex.data.splits import permutation
from nonconvex.schedules import WARMUP, Factory, Schedule, constant, cosine, warmed, warmup_cosine, warmup_steps, wsd

DECAY = 0.2  # share of the run, the source text's figure for WSD
ORDERS = 1 << 29  # epoch number of the permutations that shuffle rates: no training run gets there, nor do labels


def reversed_in_time(factory: Factory) -> Factory:
    """The last rate first."""

    def build(total: int) -> Schedule:
        schedule = factory(total)
        # eta'_t = eta_(T-1-t)
        return lambda step: schedule(total - 1 - step)

    return build


def shuffled(factory: Factory, seed: int) -> Factory:
    """The rates in a random order keyed by `seed`."""

    def build(total: int) -> Schedule:
        schedule, order = factory(total), permutation(total, seed, ORDERS).tolist()
        # eta'_t = eta_pi(t)
        return lambda step: schedule(order[step])

    return build


def at_mean(factory: Factory) -> Factory:
    """Constant at the mean of the rates, so that a run of the same length moves along the same sum of rates."""

    def build(total: int) -> Schedule:
        schedule = factory(total)
        # eta'_t = (1/T) sum_s eta_s
        mean = sum(map(schedule, range(total))) / total
        return lambda step: mean

    return build


SHAPES = {"wsd": wsd, "warmup_cosine": warmup_cosine}
WITHOUT_WARMUP = {"wsd": partial(wsd, warmup=0.0), "warmup_cosine": cosine}
ORDERED = {"reversed": reversed_in_time, "mean": at_mean}
PLAIN_ARMS = {"constant": constant, "warmup_only": warmed(constant), "rising": reversed_in_time(cosine)}


def arm_factory(arm: str, seed: int) -> Factory:
    """The schedule of an arm in a run of `seed`, which only a shuffled order depends on.

    `<shape>`, `<shape>_reversed`, `_shuffled`, `_mean` or `_decay_only`, or a key of PLAIN_ARMS. ValueError for others.
    """
    shape = next((name for name in SHAPES if arm == name or arm.startswith(f"{name}_")), None)
    order = arm.removeprefix(f"{shape}_")
    if arm in SHAPES or arm in PLAIN_ARMS:
        return (SHAPES | PLAIN_ARMS)[arm]
    if shape and order == "shuffled":
        return shuffled(SHAPES[shape], seed)
    if shape and order == "decay_only":
        return WITHOUT_WARMUP[shape]
    if shape and order in ORDERED:
        return ORDERED[order](SHAPES[shape])
    known = [*SHAPES, *(f"{s}_{o}" for s in SHAPES for o in ("shuffled", "decay_only", *ORDERED)), *PLAIN_ARMS]
    raise ValueError(f"unknown arm {arm!r}; known: {', '.join(known)}")


def arms_of(shapes: Sequence[str], halves: bool, rising: bool) -> list[str]:
    """The arms that are tuned: the shapes, the orders of their rates, a constant rate, and what else is asked for."""
    orders = ["", "_reversed", "_shuffled", *(["_decay_only"] if halves else [])]
    plain = ["constant", *(["warmup_only"] if halves else []), *(["rising"] if rising else [])]
    return [f"{shape}{order}" for shape in shapes for order in orders] + plain


def common_arms(shape: str) -> list[str]:
    """The arms that are also run at the tuned peak of `shape`: the same rates, their mean, and the peak throughout."""
    return [f"{shape}_reversed", f"{shape}_shuffled", f"{shape}_mean", "constant"]


def phase(step: int, total: int) -> str:
    """Where a step lies in a schedule with warm-up and decay (5/75/20)."""
    if step < warmup_steps(total, WARMUP):
        return "warmup"
    return "stable" if step <= round((1 - DECAY) * total) else "decay"


def looks(total: int) -> list[int]:
    """Numbers of updates after which curvature is read: two in the warm-up, four in the middle, two in the decay."""
    rise, fall = warmup_steps(total, WARMUP), round((1 - DECAY) * total)
    stable = [rise + round(i * (fall - rise) / 3) for i in range(4)]
    return sorted({0, rise // 2, *stable, (fall + total) // 2, total})
