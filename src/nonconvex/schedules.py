"""Learning-rate schedules: pure functions from a step to a multiple of the peak rate.

A factory takes the number of steps T (and its options) and returns `schedule(step) -> float`, step = 0 ... T-1, the
value used for update `step`. Every schedule peaks at 1 (step decay, cosine, linear and constant start there), so an
arm's rate is `peak * schedule(step)` and eta_min = floor * eta_max. To add one: write a factory, add a row to
SCHEDULES and its name to `config.ScheduleName`.

The formulas are those of the source text's schedule table, restored, and equal torch.optim.lr_scheduler to 1e-12
where torch has the schedule (tests/test_schedules.py).
"""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]
Factory = Callable[[int], Schedule]

WARMUP = 0.05  # share of the run, the source text's figure for WSD; used by every schedule that warms up


def constant(total: int) -> Schedule:
    """eta_t = eta_max."""
    return lambda step: 1.0


def step_decay(total: int, milestones: tuple[float, ...] = (0.3, 0.6, 0.9), factor: float = 0.1) -> Schedule:
    """Multiply by `factor` at each milestone, given as a share of the run (the text's epochs 30/60/90 of 100)."""
    drops = [round(share * total) for share in milestones]
    # eta_t = eta_max * gamma^#{milestones <= t}
    return lambda step: factor ** sum(step >= drop for drop in drops)


def cosine(total: int, floor: float = 0.0) -> Schedule:
    """Cosine annealing from 1 to `floor` (Loshchilov & Hutter 2017, eq. 5)."""
    # eta_t = eta_min + (eta_max - eta_min)(1 + cos(pi t / T)) / 2
    return lambda step: floor + (1 - floor) * (1 + math.cos(math.pi * step / total)) / 2


def linear(total: int, floor: float = 0.0) -> Schedule:
    """Straight line from 1 to `floor`."""
    # eta_t = eta_min + (eta_max - eta_min)(1 - t / T)
    return lambda step: floor + (1 - floor) * (1 - step / total)


def warmup_cosine(total: int, warmup: float = WARMUP, floor: float = 0.0) -> Schedule:
    """Linear warm-up over the share `warmup` of the run, then cosine annealing."""
    rise = warmup_steps(total, warmup)
    return join([ramp(rise), cosine(total - rise, floor)], [rise])


def wsd(total: int, warmup: float = WARMUP, decay: float = 0.2, shape: str = "cosine", floor: float = 0.0) -> Schedule:
    """Warm-up, stable, decay (5/75/20 in the source text). `shape` of the decay is a key of DECAYS.

    `linear` and `sqrt` (1 - sqrt(u)) are the shapes of Hägele et al. 2024.
    """
    if shape not in DECAYS:
        raise ValueError(f"wsd: unknown decay shape {shape!r}; known: {', '.join(DECAYS)}")
    rise, fall_from = warmup_steps(total, warmup), round((1 - decay) * total)
    fall = DECAYS[shape]
    # eta_t = eta_min + (eta_max - eta_min) s(u),  u = (t - T_d) / (T - T_d)
    decline = lambda step: floor + (1 - floor) * fall(step / (total - fall_from))  # noqa: E731
    return join([ramp(rise), constant(total), decline], [rise, fall_from])


def one_cycle(total: int, rise: float = 0.3, start: float = 1 / 25, end: float = 1e-4 / 25) -> Schedule:
    """Up along a cosine over the share `rise`, down along a cosine to `end` (Smith & Topin 2018, as torch's
    OneCycleLR).

    The momentum is not cycled, so that the schedule is the only thing that differs between arms.
    """
    top, bottom = max(rise * total - 1, 1.0), total - 1

    def rate(step: int) -> float:
        if step <= top:
            return _anneal(start, 1.0, step / top)
        return _anneal(1.0, end, (step - top) / (bottom - top))

    return rate


def inverse_sqrt(total: int, warmup: float = WARMUP) -> Schedule:
    """Linear warm-up, then 1/sqrt(t) (Vaswani et al. 2017, eq. 3, divided by its peak (d_model T_w)^(-1/2))."""
    rise = warmup_steps(total, warmup)
    # eta_t = eta_max min(sqrt(T_w / t), t / T_w),  t = step + 1
    return lambda step: min(math.sqrt(rise / (step + 1)), (step + 1) / rise)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "step": step_decay,
    "cosine": cosine,
    "warmup_cosine": warmup_cosine,
    "wsd": wsd,
    "one_cycle": one_cycle,
    "inverse_sqrt": inverse_sqrt,
    "linear": linear,
}

DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda u: (1 + math.cos(math.pi * u)) / 2,
    "sqrt": lambda u: 1 - math.sqrt(u),
    "linear": lambda u: 1 - u,
}


# The pieces from which schedules, and the strategies that wrap a schedule, are built.


def ramp(length: int) -> Schedule:
    """(t + 1) / T_w: the first update already moves, and step T_w - 1 is at the peak."""
    return lambda step: (step + 1) / length


def join(pieces: list[Schedule], boundaries: list[int]) -> Schedule:
    """Piece i + 1 takes over, counting from zero, at boundaries[i]."""
    starts = [0, *boundaries]

    def rate(step: int) -> float:
        i = sum(step >= boundary for boundary in boundaries)
        return pieces[i](step - starts[i])

    return rate


def warmed(factory: Factory, warmup: float = WARMUP) -> Factory:
    """The schedule times a linear warm-up over the share `warmup` of the run."""

    def build(total: int) -> Schedule:
        schedule, rise = factory(total), ramp(warmup_steps(total, warmup))
        return lambda step: min(1.0, rise(step)) * schedule(step)

    return build


def restarted(factory: Factory, cycles: int = 3, growth: int = 2) -> Factory:
    """The whole schedule once per cycle; each cycle is `growth` times as long as the one before (Loshchilov & Hutter
    2017).

    The last cycle ends with the run.
    """

    def build(total: int) -> Schedule:
        shares = [growth**i for i in range(cycles)]
        ends = [round(total * sum(shares[: i + 1]) / sum(shares)) for i in range(cycles)]
        starts = [0, *ends[:-1]]
        return join([factory(end - start) for start, end in zip(starts, ends, strict=True)], ends[:-1])

    return build


def warmup_steps(total: int, share: float) -> int:
    """T_w >= 1, in steps."""
    return max(1, round(share * total))


def _anneal(start: float, end: float, u: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * u)) / 2
