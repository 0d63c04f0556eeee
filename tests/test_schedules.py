"""Schedules against torch.optim.lr_scheduler, golden values and their definitions."""

import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from nonconvex import schedules
from nonconvex.config import ScheduleName
from nonconvex.schedules import SCHEDULES

PEAK, TOTAL = 0.1, 100


def torch_rates(make, total=TOTAL, peak=PEAK):
    """The rate that torch uses at each update."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler, rates = make(optimizer), []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def warm(rest):
    """torch's linear warm-up over ten steps, then `rest(optimizer)`."""
    return lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.LinearLR(optimizer, 1 / 10, total_iters=9), rest(optimizer)], [10]
    )


TORCH = {
    "constant": (schedules.constant(TOTAL), lambda o: lr_scheduler.ConstantLR(o, 1.0)),
    "step": (schedules.step_decay(TOTAL), lambda o: lr_scheduler.MultiStepLR(o, [30, 60, 90], 0.1)),
    "cosine": (schedules.cosine(TOTAL, 0.01), lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, 0.01 * PEAK)),
    "linear": (schedules.linear(TOTAL), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, TOTAL)),
    "one_cycle": (schedules.one_cycle(TOTAL), lambda o: lr_scheduler.OneCycleLR(o, PEAK, TOTAL, cycle_momentum=False)),
    "warmup_cosine": (
        schedules.warmup_cosine(TOTAL, 0.1),
        warm(lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL - 10)),
    ),
    "restarts": (
        schedules.restarted(schedules.cosine, 3, 2)(TOTAL - 30),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10, 2),
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_equals_torch(name):
    """Off-by-one errors in T, milestones, warm-up ends and restarts; not an error that torch shares."""
    ours, theirs = TORCH[name]
    total = TOTAL - 30 if name == "restarts" else TOTAL
    expected = torch_rates(theirs, total)
    assert [PEAK * ours(t) for t in range(total)] == pytest.approx(expected, rel=0, abs=1e-12)


def test_warmed_equals_torch_chained():
    """A warm-up that replaces the schedule's beginning instead of multiplying it."""
    expected = torch_rates(
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.LinearLR(o, 1 / 10, total_iters=9), lr_scheduler.CosineAnnealingLR(o, TOTAL)]
        )
    )
    ours = schedules.warmed(schedules.cosine, 0.1)(TOTAL)
    # torch chains multiplicatively through rounding recursions, ours is closed-form
    assert [PEAK * ours(t) for t in range(TOTAL)] == pytest.approx(expected, rel=0, abs=1e-12)


GOLDEN = {  # values of the restored formulas, computed independently; 5/75/20 of 100 steps
    ("cosine", 85): 0.0853553391,
    ("cosine", 95): 0.0146446609,
    ("sqrt", 85): 0.05,
    ("sqrt", 99): 0.0025320566,
    ("linear", 90): 0.05,
}


@pytest.mark.parametrize(("shape", "step"), GOLDEN)
def test_wsd_golden_values(shape, step):
    """A decay that starts late, ends early, or has the wrong shape."""
    rate = schedules.wsd(TOTAL, shape=shape)
    assert PEAK * rate(step) == pytest.approx(GOLDEN[shape, step], abs=1e-9)
    assert [PEAK * rate(t) for t in (0, 4, 5, 79, 80)] == pytest.approx([0.02, 0.1, 0.1, 0.1, 0.1])


def test_inverse_sqrt_is_vaswani():
    """The published form d^(-1/2) min(t^(-1/2), t T_w^(-3/2)), whose peak is (d T_w)^(-1/2)."""
    d, warm, total = 512, 4000, 80_000
    peak = (d * warm) ** -0.5
    ours = schedules.inverse_sqrt(total, warm / total)
    for t in (1, 4000, 16_000, 80_000):
        published = d**-0.5 * min(t**-0.5, t * warm**-1.5)
        assert peak * ours(t - 1) == pytest.approx(published, rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
@given(total=st.integers(5, 400))
def test_peaks_at_one_and_stays_positive(name, total):
    """Every schedule is compared at its peak rate, so the peak must be 1 (one-cycle reaches it only near a step)."""
    rates = [SCHEDULES[name](total)(t) for t in range(total)]
    assert all(math.isfinite(rate) and 0 < rate <= 1 + 1e-12 for rate in rates)
    assert max(rates) >= (0.9 if name == "one_cycle" and total < 20 else 0.99)


def test_restart_of_constant_is_constant():
    """A restart that changes the rate itself rather than repeating the schedule."""
    ours = schedules.restarted(schedules.constant)(50)
    assert {ours(t) for t in range(50)} == {1.0}


def test_unknown_decay_shape_is_named():
    with pytest.raises(ValueError, match=r"'cube'; known: cosine, sqrt, linear"):
        schedules.wsd(100, shape="cube")


def test_names_match_the_configuration():
    """A schedule that can be written in a parameter file but not built, or the reverse."""
    assert set(get_args(ScheduleName)) == set(SCHEDULES)
