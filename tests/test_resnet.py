"""The residual network against torch's own layers, published sizes and the laws its options promise."""

from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from nonconvex.models.normalisation import NORMS, BatchNorm, normalisation
from nonconvex.models.resnet import Block, Convolution, ResNet
from nonconvex.models.stacked import stack


def count(module):
    return sum(p.numel() for p in module.parameters())


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_published_parameter_counts():
    """He et al. 2016, table 6: 0.27 M, 0.46 M, 0.66 M, 0.85 M and 1.7 M for 20, 32, 44, 56 and 110 layers."""
    published = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}
    for depth, millions in published.items():
        inner = [p.numel() for name, p in ResNet(depth=depth).named_parameters() if "shortcut" not in name]
        assert sum(inner) / 1e6 == pytest.approx(millions, abs=0.05 if depth == 110 else 0.006)
    assert count(ResNet()) == 272_474
    assert count(ResNet(skip=False)) == 269_722


def test_layers_add_up_to_the_depth():
    """A network whose name says more layers than it has; shortcuts are not counted."""
    for depth in (8, 14, 20):
        names = [name for name, p in ResNet(depth=depth).named_parameters() if p.dim() > 1]
        assert len([name for name in names if "shortcut" not in name]) == depth


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 8])
def test_convolution_equals_torchs(dimensions, kernel, stride, size):
    """Mixed-up shifts, axes or strides: values and both gradients, at odd and even sizes."""
    conv = Convolution(2, 3, kernel, stride, dimensions=dimensions, gain=1.0).double()
    x = draw(4, 2, *range(size, size + dimensions)).requires_grad_()
    reference = (F.conv1d, F.conv2d)[dimensions - 1]
    expected = reference(x, conv.weight, stride=stride, padding=kernel // 2)
    found = conv(x)
    torch.testing.assert_close(found, expected)
    v = draw(*expected.shape, seed=1)
    for ours, theirs in zip(*(torch.autograd.grad(y, [x, conv.weight], v) for y in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs)


class Reference(nn.Module):
    """The network as torch users write it, its weights under the same names."""

    def __init__(self, ours):
        super().__init__()
        self.ours, self.conv = ours, (F.conv1d, F.conv2d)[ours.dimensions - 1]

    def norm(self, layer, x):
        return F.batch_norm(x, None, None, layer.weight, layer.bias, training=True)

    def forward(self, x):
        x = x if self.ours.dimensions == 2 else x.unsqueeze(1)
        x = F.relu(self.norm(self.ours.norm, self.conv(x, self.ours.stem.weight, padding=1)))
        for i, block in enumerate(self.ours.blocks):
            stride = 2 if i in (len(self.ours.blocks) // 3, 2 * len(self.ours.blocks) // 3) else 1
            y = F.relu(self.norm(block.norm1, self.conv(x, block.conv1.weight, padding=1, stride=stride)))
            y = self.norm(block.norm2, self.conv(y, block.conv2.weight, padding=1))
            if len(block.shortcut):
                x = self.norm(block.shortcut[1], self.conv(x, block.shortcut[0].weight, stride=stride))
            x = F.relu(x + y)
        return self.ours.head(x.flatten(2).mean(2))


@pytest.mark.parametrize(("dimensions", "shape"), [(1, (5, 40)), (2, (5, 3, 12, 12))])
def test_network_equals_torchs_layers(dimensions, shape):
    """A wrong order of layers, a missing relu, a stride in the wrong place: logits and all gradients."""
    net = ResNet(classes=7, dimensions=dimensions, depth=14, width=4).double()
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    x, v = draw(*shape), draw(5, 7, seed=1)
    found, expected = net(x), Reference(net)(x)
    torch.testing.assert_close(found, expected)
    grads = [torch.autograd.grad(y, list(net.parameters()), v) for y in (found, expected)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("norm", NORMS)
def test_twice_differentiable_when_stacked(norm):
    """A Hessian-vector product under vmap, against a difference of gradients."""
    network, params = stack(lambda: ResNet(classes=3, dimensions=1, depth=8, width=4, norm=norm), [0, 1])
    params = {name: value.double().requires_grad_() for name, value in params.items()}
    direction = {name: draw(*value.shape, seed=i) for i, (name, value) in enumerate(params.items())}
    x, y = draw(2, 6, 12), torch.tensor([[0, 1, 2, 0, 1, 2]]).expand(2, 6)

    def gradient(p, create_graph=False):
        loss = F.cross_entropy(network(p, x).flatten(0, 1), y.flatten(), reduction="sum")
        return torch.autograd.grad(loss, list(p.values()), create_graph=create_graph)

    products = torch.autograd.grad(gradient(params, True), list(params.values()), list(direction.values()))
    near = [
        gradient({n: (v + s * 1e-6 * direction[n]).detach().requires_grad_() for n, v in params.items()})
        for s in (1, -1)
    ]
    for product, plus, minus in zip(products, *near, strict=True):
        torch.testing.assert_close(product, (plus - minus) / 2e-6, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gain", [0.5, sqrt(2)])
def test_weights_have_the_documented_spread(gain):
    """A gain that is ignored, squared, or left out of some layer."""
    torch.manual_seed(0)
    for name, p in ResNet(width=32, depth=8, gain=gain).named_parameters():
        if p.dim() > 1:
            fan_in = p[0].numel()
            assert p.std().item() == pytest.approx(gain / sqrt(fan_in), rel=5 / sqrt(2 * p.numel())), name
        elif name.endswith("bias"):
            assert not p.any()


def plain_block(**options):
    conv = lambda a, b, kernel=3, stride=1: Convolution(a, b, kernel, stride, dimensions=1, gain=1.0)  # noqa: E731
    return Block(conv, lambda channels: normalisation("none", channels), 4, 4, 1, **options).double()


def test_branch_scale_and_skip_are_what_they_say():
    """relu(x + c f(x)), and relu(f(x)) without the shortcut."""
    block, x = plain_block(), draw(3, 4, 10)
    branch = block.conv2(F.relu(block.conv1(x)))
    for scale in (1.0, 0.25, 0.0):
        block.branch_scale = scale
        torch.testing.assert_close(block(x), F.relu(x + scale * branch))
    block.skip = False
    block.branch_scale = 0.5
    torch.testing.assert_close(block(x), F.relu(0.5 * branch))


def test_options_reach_every_block():
    net = ResNet(depth=14, skip=False, branch_scale=0.5, norm="none")
    assert all(not block.skip and block.branch_scale == 0.5 for block in net.blocks)
    assert not any("shortcut" in name or "norm1.weight" in name for name, _ in net.named_parameters())


def reference_norm(name, x, weight, bias):
    if name == "batch":
        return F.batch_norm(x, None, None, weight, bias, training=True)
    return F.group_norm(x, {"layer": 1, "group": x.shape[1] // 4}[name], weight, bias)


@pytest.mark.parametrize("name", ["batch", "layer", "group"])
@pytest.mark.parametrize("space", [(9,), (3, 5)])
def test_norms_equal_torchs(name, space):
    """Wrong axes, an unbiased variance, a missing affine map, or cancellation under a large mean."""
    layer = normalisation(name, 8).double()
    layer.weight.data, layer.bias.data = draw(8, seed=1), draw(8, seed=2)
    x = 3 * draw(6, 8, *space) + 2
    torch.testing.assert_close(layer(x), reference_norm(name, x, layer.weight, layer.bias))
    far = (x + 1000).float()
    wanted = reference_norm(name, far.double(), layer.weight, layer.bias).float()
    torch.testing.assert_close(layer.float()(far), wanted, rtol=1e-3, atol=1e-3)


def test_batch_norm_with_handed_in_statistics():
    """Evaluation that looks at the batch."""
    layer = BatchNorm(3).double().eval()
    x, mean, variance = draw(5, 3, 4), draw(3, seed=1), draw(3, seed=2).square()
    found = functional_call(layer, {"mean": mean, "variance": variance}, (x,))
    expected = F.batch_norm(x, mean, variance, layer.weight, layer.bias, training=False)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "power"}, "unknown norm 'power'; known: batch, layer, group, none"),
        ({"depth": 18}, r"depth is 18; allowed: 6 n \+ 2"),
        ({"depth": 2}, r"depth is 2; allowed: 6 n \+ 2"),
        ({"dimensions": 3}, "dimensions is 3; allowed: 1, 2"),
        ({"norm": "group", "width": 6}, "6 channels do not split into groups of 4"),
    ],
)
def test_impossible_architectures_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**options)
