"""The schedules that are compared, variants of their key parameters, and schedules beyond the steps they plan for."""

from functools import partial

from nonconvex.schedules import SCHEDULES, Factory, Schedule, cosine, inverse_sqrt, step_decay, warmup_cosine

VARIANTS: dict[str, Factory] = {
    "cosine_floor": partial(cosine, floor=0.1),
    "step_half": partial(step_decay, factor=0.5),
    "step_twice": partial(step_decay, milestones=(0.5, 0.75)),
    "warmup_cosine_brief": partial(warmup_cosine, warmup=0.01),
    "warmup_cosine_long": partial(warmup_cosine, warmup=0.2),
    "inverse_sqrt_long": partial(inverse_sqrt, warmup=0.2),
}
ARMS: dict[str, Factory] = {**SCHEDULES, **VARIANTS}


def planned(factory: Factory, steps: int) -> Factory:
    """The schedule of a run of `steps` steps whatever the length of the run; after them it keeps its last rate."""

    def build(total: int) -> Schedule:
        schedule = factory(steps)
        # eta_t = eta_min(t, T-1)
        return lambda step: schedule(min(step, steps - 1))

    return build


def natural(factory: Factory, steps: int) -> Factory:
    """The formula of a run of `steps` steps, read on after them; for formulas that do not end."""
    return lambda total: factory(steps)
