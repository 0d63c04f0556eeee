"""A stack computes what each member computes alone, and its normalisation statistics are the pooled ones."""

import pytest
import torch
from torch import nn

from nonconvex.models.normalisation import BatchNorm
from nonconvex.models.resnet import ResNet
from nonconvex.models.stacked import flatten, members, select, stack, unflatten

SEEDS = [3, 8, 1]


def resnet():
    return ResNet(classes=4, dimensions=1, depth=8, width=4)


def one_norm():
    """A single norm layer: its statistics are those of a linear map of the inputs, whatever the batches."""
    return nn.Sequential(nn.Linear(5, 6), BatchNorm(6), nn.Tanh(), nn.Linear(6, 2))


def stacked(build, seeds=SEEDS):
    """Network and parameters in float64, every parameter away from 0 and 1 so that it matters."""
    network, params = stack(build, seeds)
    network.module.double()
    draw = torch.Generator().manual_seed(9)
    noise = lambda v: 0.1 * torch.randn(v.shape, generator=draw, dtype=torch.float64)  # noqa: E731
    return network, {name: value.double() + noise(value) for name, value in params.items()}


def inputs(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def alone(build, params, i):
    """Member i as an ordinary module."""
    module = build().double()
    module.load_state_dict({name: value[i] for name, value in params.items()}, strict=False)
    return module


def test_a_member_in_the_stack_equals_the_member_alone():
    """Statistics or weights shared across members: logits and gradients in training."""
    network, params = stacked(resnet)
    params = {name: value.requires_grad_() for name, value in params.items()}
    x, v = inputs(3, 7, 16), inputs(3, 7, 4, seed=1)
    logits = network(params, x)
    grads = dict(zip(params, torch.autograd.grad(logits, list(params.values()), v), strict=True))
    for i in range(3):
        module = alone(resnet, params, i)
        expected = module(x[i])
        torch.testing.assert_close(logits[i], expected)
        wanted = torch.autograd.grad(expected, list(module.parameters()), v[i])
        for (name, _), grad in zip(module.named_parameters(), wanted, strict=True):
            torch.testing.assert_close(grads[name][i], grad)


def test_initial_weights_depend_on_the_members_seed_alone():
    """Draws that depend on the order or number of members, or that disturb the caller's generator."""
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    _, together = stack(resnet, SEEDS)
    assert torch.equal(torch.rand(1), expected)
    _, alone = stack(resnet, [8])
    assert all(torch.equal(together[name][1], alone[name][0]) for name in alone)
    assert not torch.equal(together["stem.weight"][0], together["stem.weight"][1])


@pytest.mark.parametrize("sizes", [[17], [6, 6, 5], [10, 7], [16, 1]])
def test_statistics_of_ragged_batches_are_the_pooled_ones(sizes):
    """Batches weighted alike whatever their size, or a variance without the spread of their means."""
    network, params = stacked(one_norm)
    x = inputs(3, 17, 5) * torch.linspace(0.5, 3, 17, dtype=torch.float64)[:, None]
    found = network.statistics(params, x.split(sizes, dim=1))
    hidden = torch.einsum("ebi,eoi->ebo", x, params["0.weight"]) + params["0.bias"][:, None]
    torch.testing.assert_close(found["1.mean"], hidden.mean(1))
    torch.testing.assert_close(found["1.variance"], hidden.var(1, correction=0))
    assert set(found) == {"1.mean", "1.variance"}


def test_one_batch_gives_the_statistics_that_training_uses():
    """Every norm layer of a deep network: evaluating with them on the same batch changes nothing."""
    network, params = stacked(resnet)
    x = inputs(3, 9, 16)
    torch.testing.assert_close(network(params, x, network.statistics(params, [x])), network(params, x))


def test_collecting_leaves_no_trace():
    """A graph, or a batch of inputs, that the module keeps alive."""
    network, params = stacked(resnet)
    params = {name: value.requires_grad_() for name, value in params.items()}
    found = network.statistics(params, [inputs(3, 9, 16)])
    norms = [module for module in network.module.modules() if isinstance(module, BatchNorm)]
    assert len(norms) == 9 and all(norm.batch is None and not norm.collecting for norm in norms)
    assert not any(value.requires_grad for value in found.values())


def test_evaluation_never_mixes():
    """Logits that depend on the rest of the batch, or training that sees an evaluation's statistics."""
    network, params = stacked(resnet)
    x = inputs(3, 9, 16)
    statistics = network.statistics(params, [inputs(3, 20, 16, seed=1)])
    before = network(params, x)
    whole = network(params, x, statistics)
    parts = torch.cat([network(params, x[:, i : i + 1], statistics) for i in range(9)], dim=1)
    torch.testing.assert_close(whole, parts)
    assert (whole - before).abs().max() > 1e-3
    assert torch.equal(network(params, x), before)
    other = {name: value.flip(0) for name, value in statistics.items()}
    assert (network(params, x, other)[[0, 2]] - whole[[0, 2]]).abs().max() > 1e-3


def test_a_model_without_batch_norm_has_no_statistics():
    network, params = stacked(lambda: nn.Linear(5, 2))
    x = inputs(3, 4, 5)
    assert network.statistics(params, [x]) == {}
    assert torch.equal(network(params, x, {}), network(params, x))


def test_flatten_and_unflatten_are_inverse():
    """Another order of parameters or of axes."""
    _, params = stacked(resnet)
    flat = flatten(params)
    assert flat.shape == (3, sum(p.numel() for p in resnet().parameters())) and members(params) == 3
    back = unflatten(flat, params)
    assert list(back) == list(params) and all(torch.equal(back[name], params[name]) for name in params)
    one = torch.nn.utils.parameters_to_vector([value[2] for value in params.values()])
    assert torch.equal(flat[2], one)
    wider = unflatten(torch.cat([flat, flat]), params)
    assert members(wider) == 6 and torch.equal(wider["head.bias"][3:], params["head.bias"])


def test_select_takes_members_in_the_given_order():
    _, params = stacked(one_norm)
    chosen = select(params, [2, 0])
    assert all(torch.equal(chosen[name], value[[2, 0]]) for name, value in params.items())
