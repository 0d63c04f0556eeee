"""The loop's behaviours: resumed equals uninterrupted, alone equals in company, broken members do no harm."""

import dataclasses

import pytest
import torch
from torch import nn

from nonconvex import train
from nonconvex.losses import cross_entropy
from nonconvex.models.normalisation import BatchNorm
from nonconvex.models.resnet import ResNet
from nonconvex.models.stacked import select, stack
from nonconvex.models.transformer import Transformer
from nonconvex.optimizers import AdamW, Sgd
from nonconvex.schedules import SCHEDULES
from nonconvex.strategies import STRATEGIES, strategy_class

STEPS = 12


def build():
    return nn.Sequential(nn.Linear(4, 6), BatchNorm(6), nn.Tanh(), nn.Linear(6, 3))


def batch(seeds, step):
    """Eight examples per member, a pure function of (seed, step)."""
    draws = [torch.Generator().manual_seed(1000 * seed + step) for seed in seeds]
    x = torch.stack([torch.randn(8, 4, generator=g, dtype=torch.float64) for g in draws])
    return x, (x[..., 0] > 0).long() + (x[..., 1] > 0.5)


def cohort(strategy="none", schedule="cosine", optimizer=None, seeds=(0, 1, 2), peaks=(0.1, 0.2, 0.3)):
    """A small cohort in float64 with its initial state."""
    network, params = stack(build, seeds)
    params = {name: value.double() for name, value in params.items()}
    chosen = strategy_class(strategy)().bind(STEPS)
    made = train.Cohort(
        loss=lambda p, x, y: cross_entropy(network(p, x), y).mean(1),
        batch=batch,
        rates=train.rate_table([SCHEDULES[schedule]] * len(seeds), peaks, STEPS, chosen),
        order=lambda step: seeds,
        optimizer=optimizer or Sgd(momentum=0.9, weight_decay=1e-3),
        strategy=chosen,
    )
    return made, train.start(made, params)


def finish(made, state):
    return [state, *train.train(made, state)][-1]


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a) and set(a) == set(b)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("optimizer", [Sgd(momentum=0.9), AdamW()], ids=["sgd", "adamw"])
def test_resumed_equals_uninterrupted(strategy, schedule, optimizer, tmp_path):
    """Memory outside the state, or a rate or batch that depends on how the run got here. Bit for bit."""
    made, state = cohort(strategy, schedule, optimizer)
    whole = finish(made, state)
    for half in train.train(made, state, until=7):  # noqa: B007
        pass
    train.save(half, tmp_path / "half.safetensors")
    again = finish(made, train.load(tmp_path / "half.safetensors"))
    assert same(again.params, whole.params) and same(again.memory, whole.memory)
    assert all(same(again.optimizer[kind], whole.optimizer[kind]) for kind in whole.optimizer)
    assert list(again.params) == list(whole.params)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_member_of_a_cohort_equals_the_single_run(strategy):
    """Anything that leaks from one member to another: norms, noise, averages, rates."""
    made, state = cohort(strategy)
    together = finish(made, state)
    alone_made, alone_state = cohort(strategy, seeds=(1,), peaks=(0.2,))
    alone = finish(alone_made, alone_state)
    for name, value in select(together.params, [1]).items():
        torch.testing.assert_close(alone.params[name], value, rtol=1e-10, atol=1e-12)


BEDS = {
    "resnet": (lambda: ResNet(classes=3, dimensions=1, depth=8, width=2), lambda x: x.repeat(1, 1, 2)),
    "transformer": (lambda: Transformer(3, context=4, width=4, layers=1, heads=2), lambda x: (x > 0).long()),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("model", BEDS)
def test_resumed_equals_uninterrupted_for_the_models_of_the_grid(model, strategy, schedule, tmp_path):
    """State that a model keeps to itself, such as running statistics."""
    made, _ = cohort(strategy, schedule, seeds=(0, 1), peaks=(0.1, 0.2))
    construct, inputs = BEDS[model]
    network, params = stack(construct, (0, 1))

    def loss(params, x, y):
        logits = network(params, inputs(x).float() if model == "resnet" else inputs(x))
        return cross_entropy(logits if model == "resnet" else logits[:, :, -1], y).mean(1)

    made = dataclasses.replace(made, loss=loss, rates=made.rates[:5])
    state = train.start(made, params)
    whole = finish(made, state)
    half = [*train.train(made, state, until=3)][-1]
    train.save(half, tmp_path / "half.safetensors")
    again = finish(made, train.load(tmp_path / "half.safetensors"))
    assert same(again.params, whole.params) and same(again.memory, whole.memory)


def test_matches_a_plain_torch_loop():
    """The loop as a whole against the twelve lines that a user would write."""
    made, state = cohort(seeds=(5,), peaks=(0.2,))
    ours = finish(made, state)
    torch.manual_seed(5)
    module = build().double()
    optimizer = torch.optim.SGD(module.parameters(), 0.2, 0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        x, y = batch([5], step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x[0]), y[0]).backward()
        optimizer.step()
        schedule.step()
    for name, value in module.named_parameters():
        # initial weights are drawn in float32 there and cast here, so they agree exactly
        torch.testing.assert_close(ours.params[name][0], value.detach(), rtol=1e-9, atol=1e-11)


def test_a_diverging_member_is_frozen_and_the_rest_unharmed():
    """NaN that spreads through shared sums, or a cohort that stops because one member broke."""
    made, state = cohort(optimizer=Sgd())
    healthy = finish(made, state)
    poisoned = {name: value.clone() for name, value in state.params.items()}
    poisoned["3.weight"][1] = 1e200
    made = dataclasses.replace(made, rates=made.rates * torch.tensor([1.0, 1e200, 1.0], dtype=torch.float64))
    end = finish(made, dataclasses.replace(state, params=poisoned))
    assert end.diverged[0] == end.diverged[2] == -1 and 0 <= end.diverged[1] < STEPS
    for member in (0, 2):
        assert all(torch.equal(end.params[name][member], healthy.params[name][member]) for name in end.params)


def test_zero_steps_change_nothing_and_same_seed_gives_same_weights():
    made, state = cohort()
    assert list(train.train(made, state, until=0)) == []
    assert same(finish(made, state).params, finish(*cohort()).params)


def test_rates_are_peak_times_wrapped_schedule():
    """A strategy whose wrap is ignored by the loop."""
    made, _ = cohort("restarts", "cosine")
    assert made.rates.shape == (STEPS, 3)
    assert float(made.rates[0, 2]) == pytest.approx(0.3) and float(made.rates[2, 0]) == pytest.approx(0.1)
