"""A training step keeps to its device and never waits for it, shown without one (tests/pretended.py).

An operation between two devices raises there, and so does every question whose answer is a number (`bool`, `item`),
which on a GPU stalls the queue at every step.
"""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from pretended import BUILD, DEVICE, OPTIMIZERS
from torch.utils import backend_registration

from nonconvex.strategies import STRATEGIES

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot pretend a device",
)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    script = Path(__file__).with_name("pretended.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize("arm", ["-".join(arm) for arm in product(BUILD, STRATEGIES, OPTIMIZERS)])
def test_a_step_keeps_to_its_device_and_does_not_wait(arm, outcomes):
    assert outcomes[arm] == DEVICE


def test_a_question_and_a_mixture_would_be_noticed(outcomes):
    assert outcomes["question"].startswith("DataDependentOutputException")
    assert "at least two devices" in outcomes["mixture"]
