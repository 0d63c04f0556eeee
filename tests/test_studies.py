"""What studies share: cohorts of any batch size and start, changed beds, and evidence as records."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy import stats

from nonconvex import config, studies
from nonconvex.beds import bed_of
from nonconvex.contrasts import evidence
from nonconvex.measure.objective import Objective
from nonconvex.measure.objective import shared as batches
from nonconvex.optimizers import Sgd
from nonconvex.records import Effect, GateValue
from nonconvex.studies import training
from nonconvex.studies.training import Recipe

ROOT = Path(__file__).resolve().parents[1]
SMOKE = config.read(ROOT / "profiles/smoke/params.yaml")


@pytest.fixture(scope="module")
def bed():
    small = training.with_examples(bed_of(SMOKE, "mlp"), 40)
    return training.with_architecture(small, widths=[5])


def test_a_full_batch_run_is_gradient_descent(bed):
    """theta <- theta - eta * gradient of the mean loss, for each member at its own rate, batch order or not."""
    recipe = Recipe(steps=3, batch_size=0, optimizer=Sgd())
    found = training.trained(bed, recipe, [3, 4], [0.1, 0.5])
    network, params, _ = training.cohort(bed, recipe, [3, 4], [0.1, 0.5])
    objective = Objective(network, bed.loss, batches(*bed.data.train.examples()))
    point = objective.flat(params)
    for _ in range(3):
        point = point - torch.tensor([[0.1], [0.5]]) * objective.gradients(objective.at(params, point))
    torch.testing.assert_close(objective.flat(found.params), point, rtol=1e-5, atol=1e-6)


def test_a_member_does_not_depend_on_its_neighbours(bed):
    recipe = Recipe(steps=5, batch_size=8, schedule="cosine")
    alone = training.trained(bed, recipe, [7], [0.1]).params
    among = training.trained(bed, recipe, [6, 7], [0.3, 0.1]).params
    for name, value in alone.items():
        torch.testing.assert_close(among[name][1:], value, rtol=1e-5, atol=1e-6)


def test_order_sets_the_minibatches_and_not_the_start(bed):
    recipe = Recipe(steps=4, batch_size=8)
    _, params, made = training.cohort(bed, recipe, [1, 1], [0.1, 0.1], lambda step: [1, 1 if step < 2 else 9])
    states = {state.step: state.params for state in training.snapshots(made, params, [0, 2, 4])}
    assert list(states) == [0, 2, 4]
    apart = {step: (p["head.weight"][0] - p["head.weight"][1]).abs().max().item() for step, p in states.items()}
    assert apart[0] == apart[2] == 0 < apart[4]


def test_shuffled_labels_are_the_same_labels_elsewhere(bed):
    shuffled = training.with_shuffled_labels(bed, 0)
    (x, y), (x2, y2) = bed.data.train.examples(), shuffled.data.train.examples()
    assert torch.equal(x, x2) and not torch.equal(y, y2) and torch.equal(y.sort().values, y2.sort().values)
    assert not torch.equal(y2, training.with_shuffled_labels(bed, 1).data.train.examples()[1])
    assert torch.equal(bed.data.test.y, shuffled.data.test.y)


def test_a_changed_bed_leaves_the_old_one_alone(bed):
    other = training.with_loss(training.with_architecture(bed, activation="tanh"), "squared_error")
    assert (other.loss.__name__, bed.loss.__name__) == ("squared_error", "cross_entropy")
    assert "activation" not in bed.training.architecture


def test_studies_have_settings_and_unknown_ones_are_refused():
    with pytest.raises(ValueError, match="unknown study 'flat'; known: flat_vs_sharp"):
        studies.observe(SMOKE, "flat")


def test_evidence_leaves_out_what_is_missing():
    values = pd.Series([0.5, float("nan"), 1.5], index=[3, 4, 5])
    assert evidence.effects("a.b", values) == [Effect("a.b", "claim", 3, 0.5), Effect("a.b", "claim", 5, 1.5)]
    assert evidence.gates("a.b", {"residual": float("nan")}) == [GateValue("a.b", "residual", None)]
    found = evidence.finding("flat_minima", "MLP", "gap", values, "nb")
    low, high = stats.t.interval(0.95, 1, loc=1.0, scale=0.5)
    assert (found.mean, found.n) == (1.0, 2) and (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    lost = evidence.finding("flat_minima", "MLP", "gap", [float("nan")], "nb")
    assert (lost.mean, lost.low, lost.n) == (None, None, 0)
