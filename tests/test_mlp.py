"""The benchmark's networks have upstream's sizes and compute upstream's formulas."""

from math import sqrt

import pytest
import torch
import torch.nn.functional as F

from nonconvex.models.cnn import Cnn
from nonconvex.models.mlp import ACTIVATIONS, Mlp
from nonconvex.models.stacked import stack


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_upstreams_parameter_counts():
    """15,210 and 5,210, as upstream's notebooks print them."""
    assert count(Mlp()) == count(Mlp(skip=False)) == 15_210
    assert count(Cnn()) == 5_210


def test_mlp_adds_the_first_hidden_layer_to_the_second():
    """A shortcut in the wrong place; one around the first layer appears only where the widths agree."""
    net, x = Mlp(inputs=100).double(), torch.randn(3, 100, dtype=torch.float64)
    first, second, head = net.hidden[0], net.hidden[1], net.head
    h = x + F.relu(first(x))
    torch.testing.assert_close(net(x), head(h + F.relu(second(h))))
    net, x = Mlp().double(), torch.randn(3, 40, dtype=torch.float64)
    h = F.relu(net.hidden[0](x))
    torch.testing.assert_close(net(x), net.head(h + F.relu(net.hidden[1](h))))
    net.skip = False
    torch.testing.assert_close(net(x), net.head(F.relu(net.hidden[1](h))))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_options(activation):
    net = Mlp(classes=3, inputs=5, widths=[8], activation=activation)
    x = torch.randn(4, 5)
    expected = net.head(getattr(torch, activation, F.gelu)(net.hidden[0](x)))
    torch.testing.assert_close(net(x), expected)
    assert net(x).shape == (4, 3) and count(net) == 5 * 8 + 8 + 8 * 3 + 3


@pytest.mark.parametrize("gain", [1.0, sqrt(2)])
def test_mlp_weights_have_the_documented_spread(gain):
    torch.manual_seed(0)
    net = Mlp(inputs=200, widths=(300, 300), gain=gain)
    for layer in (*net.hidden, net.head):
        spread = 5 / sqrt(2 * layer.weight.numel())
        assert layer.weight.std().item() == pytest.approx(gain / sqrt(layer.in_features), rel=spread)
        assert not layer.bias.any()


def test_mlp_without_gain_keeps_torchs_draw():
    """Upstream's baselines start from there."""
    torch.manual_seed(3)
    net = Mlp(gain=None)
    torch.manual_seed(3)
    layers = [torch.nn.Linear(40, 100), torch.nn.Linear(100, 100), torch.nn.Linear(100, 10)]
    for ours, theirs in zip((*net.hidden, net.head), layers, strict=True):
        assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="unknown activation 'step'; known: relu, tanh, gelu"):
        Mlp(activation="step")


def test_cnn_is_three_strided_convolutions():
    """Another stride or padding with the same number of parameters."""
    net, x = Cnn().double(), torch.randn(2, 40, dtype=torch.float64)
    h = x[:, None]
    for conv, size in ((net.conv1, 19), (net.conv2, 10), (net.conv3, 5)):
        h = F.relu(F.conv1d(h, conv.weight, conv.bias, stride=2, padding=1))
        assert h.shape == (2, 25, size)
    torch.testing.assert_close(net(x), net.head(h.flatten(1)))


@pytest.mark.parametrize("model", [Mlp, Cnn])
def test_a_stacked_member_equals_the_member_alone(model):
    network, params = stack(model, [4, 5])
    x = torch.randn(2, 3, 40)
    torch.manual_seed(5)
    torch.testing.assert_close(network(params, x)[1], model()(x[1]))
