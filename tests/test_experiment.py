"""Cohorts to records: order, siblings, diverged members, and what tuning may see."""

from pathlib import Path

import pytest
import torch

from nonconvex import config, connection, evaluation, experiment, plan
from nonconvex.losses import cross_entropy
from nonconvex.models.stacked import stack
from nonconvex.plan import Member

SMOKE = config.read(Path(__file__).resolve().parents[1] / "profiles" / "smoke" / "params.yaml")


def settings(fork: float = 0.0, **training) -> config.Settings:
    """The smoke profile's ResNet bed, four steps long."""
    bed = SMOKE.train["resnet"].model_copy(update={"steps": 4, "test_examples": 100, **training})
    seeds = SMOKE.seeds.model_copy(update={"fork": fork})
    return SMOKE.model_copy(update={"train": {**SMOKE.train, "resnet": bed}, "seeds": seeds})


REPORTED, SIBLING = Member("cosine", 0.1, 0, "reported"), Member("cosine", 0.1, 0, "sibling")


def weights(outcome: experiment.Outcome, phase: str) -> torch.Tensor:
    parts = [value.float().flatten() for name, value in outcome.endpoints.items() if f"/{phase}/" in name]
    return torch.cat(parts)


@pytest.mark.parametrize(("fork", "together"), [(0.99, True), (0.5, False)])
def test_a_sibling_shares_the_run_up_to_the_fork(fork, together):
    """A sibling that forks too early or never: with the fork behind the last step it must be the run itself."""
    outcome = experiment.run_cohort(settings(fork), "resnet", "none", [REPORTED, SIBLING])
    a, b = weights(outcome, "reported"), weights(outcome, "sibling")
    assert torch.allclose(a, b, atol=2e-3) == together
    assert len(a) == len(b) > 1000


def test_tuning_sees_validation_data_only_and_leaves_no_weights():
    outcome = experiment.run_cohort(settings(), "resnet", "none", [Member("cosine", 0.1, 1000, "tuning")])
    (run,) = outcome.runs
    assert run.validation_loss > 0 and run.train_loss is run.test_loss is run.test_error is None
    assert (outcome.curves, outcome.measurements, outcome.endpoints) == ([], [], {})


def test_records_come_back_in_the_order_of_the_members():
    """Members dealt over cohorts must not be matched with their neighbours' records."""
    members = [Member(name, 0.1, seed, "reported") for name in ("wsd", "constant") for seed in (2, 0, 1)]
    parts = plan.dealt(members, 2)
    outcomes = [experiment.run_cohort(settings(), "resnet", "ema", part) for part in parts]
    merged = experiment.merged([m for part in parts for m in part], members, outcomes)
    key = lambda row: (row.schedule, row.seed)  # noqa: E731
    wanted = [(m.schedule, m.seed) for m in members]
    assert [key(run) for run in merged.runs] == wanted
    assert list(dict.fromkeys(map(key, merged.measurements))) == wanted
    assert list(dict.fromkeys(map(key, merged.curves))) == wanted
    assert {row.quantity for row in merged.measurements} == {"lambda_max", "lambda_min", "trace"}
    assert merged.endpoints == {}  # off the baseline's row and column nothing is joined by paths


def test_a_diverged_run_is_recorded_and_its_neighbour_measured():
    members = [Member("constant", 1e30, 0, "reported"), Member("constant", 0.1, 1, "reported")]
    outcome = experiment.run_cohort(settings(), "resnet", "none", members)
    broken, fine = outcome.runs
    assert broken.diverged_step is not None and broken.test_loss is None
    assert fine.diverged_step is None and fine.test_loss > 0
    values = {row.seed: row.value for row in outcome.measurements if row.quantity == "trace"}
    assert values[1] > 0
    assert broken.gradient_evaluations == fine.gradient_evaluations == 4


def test_sam_costs_two_gradients_a_step():
    (run,) = experiment.run_cohort(settings(), "resnet", "sam", [REPORTED]).runs
    assert (run.steps, run.gradient_evaluations) == (4, 8)


def test_evaluation_weights_every_example_equally():
    """A mean of means over ragged chunks."""
    network, params = stack(lambda: torch.nn.Linear(3, 4), [0, 1])
    x, y = torch.randn(evaluation.CHUNK + 7, 3), torch.randint(4, (evaluation.CHUNK + 7,))
    losses, errors = evaluation.evaluate(network, params, {}, (x, y), cross_entropy)
    for e in range(2):
        logits = x @ params["weight"][e].T + params["bias"][e]
        assert float(losses[e]) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, y)), rel=1e-5)
        assert float(errors[e]) == pytest.approx(float((logits.argmax(1) != y).float().mean()), rel=1e-5)


def test_pairs_form_a_ring():
    assert connection.neighbours([2, 0, 1]) == [(0, 1), (1, 2), (2, 0)]
    assert connection.neighbours([4, 3]) == [(3, 4)] and connection.neighbours([3]) == []


def test_an_absent_gpu_is_named():
    from nonconvex.beds import chosen_device

    if not torch.cuda.is_available():
        assert chosen_device("auto") == "cpu"
        with pytest.raises(ValueError, match="allowed here: auto, cpu"):
            chosen_device("cuda")
