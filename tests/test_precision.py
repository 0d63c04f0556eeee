"""bfloat16 rounds the products of training and nothing else; float32 is what it was."""

from pathlib import Path

import pytest
import torch

from nonconvex import beds, config, experiment, train
from nonconvex.beds import Bed, bed_of
from nonconvex.models.stacked import stack
from nonconvex.plan import Member
from nonconvex.strategies.base import value_and_gradient

SMOKE = config.read(Path(__file__).resolve().parents[1] / "profiles" / "smoke" / "params.yaml")
MODELS = ("resnet", "transformer")
MEMBERS = [Member("cosine", 0.003, seed, "reported") for seed in (0, 1)]


def settings(model: str, precision: str) -> config.Settings:
    bed = SMOKE.train[model].model_copy(update={"steps": 6, "precision": precision})
    return SMOKE.model_copy(update={"train": {**SMOKE.train, model: bed}})


def first_gradients(bed: Bed):
    network, params = stack(bed.build, [0, 1])
    x, y = bed.data.train.batch([0, 1], 0, 32)
    return value_and_gradient(params, lambda params: bed.minibatch_losses(network)(params, x, y))


def flat(gradients) -> torch.Tensor:
    return torch.cat([value.flatten() for value in gradients.values()])


@pytest.mark.parametrize("model", MODELS)
def test_rounded_gradients_are_near_the_exact_ones_and_come_in_float32(model):
    losses, exact = first_gradients(bed_of(settings(model, "float32"), model))
    rounded_losses, rounded = first_gradients(bed_of(settings(model, "bfloat16"), model))
    assert {value.dtype for value in [rounded_losses, *rounded.values()]} == {torch.float32}
    torch.testing.assert_close(rounded_losses, losses, rtol=0.01, atol=0)
    error = (flat(rounded) - flat(exact)).norm() / flat(exact).norm()
    assert 1e-4 < error < 0.2  # something is rounded, and not much is lost


@pytest.mark.parametrize("model", MODELS)
def test_float32_gradients_are_those_of_the_plain_loss(model):
    bed = bed_of(settings(model, "float32"), model)
    network, params = stack(bed.build, [0, 1])
    x, y = bed.data.train.batch([0, 1], 0, 32)
    _, plain = value_and_gradient(params, lambda params: bed.loss(network(params, x), y).mean(1))
    assert torch.equal(flat(first_gradients(bed)[1]), flat(plain))


@pytest.mark.parametrize("model", MODELS)
def test_training_in_bfloat16_ends_near_training_in_float32(model):
    """Weights or averages that are kept in bfloat16 lose updates smaller than 1/256 of a weight."""
    exact, rounded = (experiment.run_cohort(settings(model, kind), model, "ema", MEMBERS) for kind in PRECISIONS)
    for a, b in zip(exact.runs, rounded.runs, strict=True):
        assert a.test_loss != b.test_loss and abs(a.test_loss - b.test_loss) < 0.02 * a.test_loss


PRECISIONS = ("float32", "bfloat16")


@pytest.mark.parametrize("model", MODELS)
def test_what_is_measured_at_given_weights_does_not_know_the_precision(model, monkeypatch):
    """Evaluation, statistics or curvature under autocast. Nothing is trained, so the weights are the same."""
    monkeypatch.setattr(train, "train", lambda cohort, state: iter([state]))
    monkeypatch.setattr("nonconvex.checkpoints.train", lambda cohort, state: iter([state]))
    exact, rounded = (experiment.run_cohort(settings(model, kind), model, "none", MEMBERS) for kind in PRECISIONS)
    assert exact.runs == rounded.runs and exact.measurements == rounded.measurements
    assert {row.dtype for row in rounded.measurements} == {"float32"}


def test_weights_and_moments_stay_float32():
    made, bed = settings("resnet", "bfloat16"), None
    bed = bed_of(made, "resnet")
    network, params = stack(bed.build, [0, 1])
    cohort = experiment.cohort_of(bed, network, "swa", MEMBERS, 0.0)
    (*_, end) = train.train(cohort, train.start(cohort, params))
    kept = [*end.params.values(), *end.memory.values(), *end.optimizer["velocity"].values(), end.losses]
    assert {value.dtype for value in kept} == {torch.float32}


def test_a_gpu_is_told_to_repeat_itself_and_not_to_round(monkeypatch):
    """The flags alone: without a device nothing shows that they do what torch says."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    asked = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *a, **k: asked.append("deterministic"))
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    fill = torch.utils.deterministic.fill_uninitialized_memory
    products = torch.backends.cuda.matmul
    reduced = products.allow_bf16_reduced_precision_reduction
    try:
        assert beds.exact.__wrapped__("cpu") == "cpu" and asked == []
        assert beds.exact.__wrapped__("cuda") == "cuda" and asked == ["deterministic", "highest"]
        assert beds.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert products.allow_bf16_reduced_precision_reduction is False
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = fill
        products.allow_bf16_reduced_precision_reduction = reduced
        beds.os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
