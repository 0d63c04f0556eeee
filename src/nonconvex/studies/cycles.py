"""Where the cycles of a restarted schedule end, cycles that restart at another height, and the arms beside them.

SGDR: Loshchilov & Hutter 2017, arXiv 1608.03983, sections 3 and 4.
"""

from collections.abc import Sequence

from nonconvex.schedules import Factory, Schedule, constant, cosine, restarted, wsd


def cycle_ends(total: int, cycles: int, growth: int) -> list[int]:
    """Numbers of updates after which the cycles of `schedules.restarted` end, the last one the run's."""
    shares = [growth**i for i in range(cycles)]
    # T (1 + g + ... + g^i) / (1 + g + ... + g^(c-1))
    return [round(total * sum(shares[: i + 1]) / sum(shares)) for i in range(cycles)]


def restarted_at(height: float, cycles: int, growth: int) -> Factory:
    """A cosine run once per cycle; every cycle but the first begins at `height` times the peak."""

    def build(total: int) -> Schedule:
        schedule, first = restarted(cosine, cycles, growth)(total), cycle_ends(total, cycles, growth)[0]
        return lambda step: schedule(step) * (1.0 if step < first else height)

    return build


def arm_factory(arm: str, height: float, cycles: int, growth: int) -> Factory:
    """The schedule of an arm; `height` concerns `restarts` alone. ValueError for another name."""
    known = {
        "restarts": restarted_at(height, cycles, growth),
        "equal": restarted_at(1.0, cycles, 1),
        "cosine": cosine,
        "wsd": wsd,
        "constant": constant,
    }
    if arm not in known:
        raise ValueError(f"unknown arm {arm!r}; known: {', '.join(known)}")
    return known[arm]


def arm_ends(arm: str, total: int, cycles: int, growth: int) -> list[int]:
    """The steps at which an arm is read: the ends of its cycles, or of those of `restarts` if it has none."""
    return cycle_ends(total, cycles, 1 if arm == "equal" else growth)


def look_steps(total: int, count: int, cycles: int, growth: int) -> Sequence[int]:
    """`count` evenly spaced numbers of updates from 0 to the end, and the ends of all cycles."""
    even = {round(i * total / (count - 1)) for i in range(count)}
    return sorted(even | set(cycle_ends(total, cycles, growth)) | set(cycle_ends(total, cycles, 1)))
