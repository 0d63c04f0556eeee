"""The transformer against torch's own layers, its declared symmetries, and its second derivatives."""

from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nonconvex.losses import cross_entropy
from nonconvex.models.stacked import flatten, select, stack, unflatten
from nonconvex.models.transformer import ACTIVATIONS, Transformer, causal

SMALL = {"classes": 7, "context": 6, "width": 8, "layers": 2, "heads": 2, "ratio": 3}


def build(**options):
    torch.manual_seed(0)
    model = Transformer(**{**SMALL, **options}).double()
    for block in model.blocks:
        nn.init.normal_(block.attention.distance)  # not the symmetric start, where a transposed bias could hide
    return model


def tokens(batch=3, length=6, seed=1):
    return torch.randint(7, (batch, length), generator=torch.Generator().manual_seed(seed))


def bias_by_loop(distance):
    heads, context = distance.shape
    bias = torch.full((heads, context, context), -torch.inf, dtype=distance.dtype)
    for i in range(context):
        for j in range(i + 1):
            bias[:, i, j] = distance[:, i - j]
    return bias


def reference(model, x, skip=True, norm=True):
    """The same function from torch's fused attention, its biases filled in by a loop."""
    normalise = (lambda h: F.layer_norm(h, h.shape[-1:])) if norm else (lambda h: h)
    h = model.token(x)
    for block in model.blocks:
        attention, mlp = block.attention, block.mlp
        q, k, v = (
            part.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for part in F.linear(normalise(h), attention.qkv.weight).chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias_by_loop(attention.distance))
        y = F.linear(mixed.transpose(1, 2).flatten(2), attention.out.weight)
        h = h + y if skip else y
        y = F.linear(F.relu(F.linear(normalise(h), mlp.up.weight)).square(), mlp.down.weight)
        h = h + y if skip else y
    return F.linear(normalise(h), model.head.weight)


@pytest.mark.parametrize("context", [1, 2, 5])
def test_causal_places_each_distance(context):
    distance = torch.randn(3, context, dtype=torch.float64)
    assert torch.equal(causal(distance), bias_by_loop(distance))


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_function_is_the_one_of_fused_attention(skip, norm):
    model, x = build(skip=skip, norm=norm), tokens()
    torch.testing.assert_close(model(x), reference(model, x, skip, norm == "layer"))


def test_block_equals_a_torch_encoder_layer():
    """Would miss an error in the distances, which torch's layer does not have; the test above sees those."""
    block = build(activation="gelu").blocks[0]
    nn.init.zeros_(block.attention.distance)
    layer = nn.TransformerEncoderLayer(
        8, 2, 24, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True, bias=False
    ).double()
    pairs = {
        "self_attn.in_proj_weight": block.attention.qkv.weight,
        "self_attn.out_proj.weight": block.attention.out.weight,
        "linear1.weight": block.mlp.up.weight,
        "linear2.weight": block.mlp.down.weight,
    }
    layer.load_state_dict(pairs, strict=False)  # what is left are the scales of its norms, which start at one
    x = torch.randn(3, 6, 8, dtype=torch.float64)
    mask = nn.Transformer.generate_square_subsequent_mask(6, dtype=torch.float64)
    torch.testing.assert_close(block(x), layer(x, src_mask=mask))


@pytest.mark.parametrize("place", range(6))
def test_later_tokens_change_no_earlier_logit(place):
    model, x = build(), tokens()
    other = x.clone()
    other[:, place] = (other[:, place] + 1) % 7
    before, after = model(x), model(other)
    assert torch.equal(before[:, :place], after[:, :place])
    assert (before[:, place:] != after[:, place:]).any(-1).all()  # and every later one sees it


def test_shorter_inputs_are_prefixes():
    model, x = build(), tokens()
    torch.testing.assert_close(model(x[:, :4]), model(x)[:, :4])


def test_parameter_count():
    count = lambda model: sum(p.numel() for p in model.parameters())  # noqa: E731
    assert count(Transformer()) == 43_360
    attention, mlp, distances = 8 * 24 + 8 * 8, 2 * 8 * 24, 2 * 6
    assert count(build()) == 7 * 8 + 2 * (attention + mlp + distances) + 8 * 7
    assert count(build(norm="none", skip=False)) == count(build())


def test_members_are_independent_and_equal_to_one_alone():
    build_one = lambda: Transformer(**SMALL).double()  # noqa: E731
    network, params = stack(build_one, [5, 6, 7])
    x = torch.stack([tokens(seed=s) for s in (1, 2, 3)])
    logits = network(params, x)
    assert logits.shape == (3, 3, 6, 7)
    for e, seed in enumerate([5, 6, 7]):
        torch.manual_seed(seed)
        torch.testing.assert_close(logits[e], build_one()(x[e]))
        torch.testing.assert_close(logits[e], network(select(params, [e]), x[e : e + 1])[0])


@pytest.mark.parametrize("activation", ["gelu", "squared_relu"])  # a kink of relu would spoil the difference
def test_second_derivative_against_differences_of_gradients(activation):
    network, params = stack(lambda: build(activation=activation), [0, 1])
    x = torch.stack([tokens(seed=s) for s in (1, 2)])
    start = flatten(params).detach()
    direction = torch.randn(start.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))

    def gradient(flat, create_graph=False):
        loss = cross_entropy(network(unflatten(flat, params), x), x.roll(1, -1)).mean(1).sum()
        return torch.autograd.grad(loss, flat, create_graph=create_graph)[0]

    flat = start.clone().requires_grad_()
    exact = torch.autograd.grad(gradient(flat, create_graph=True), flat, direction)[0]
    step = 1e-5 * direction
    above, below = (gradient((start + s).requires_grad_()) for s in (step, -step))
    torch.testing.assert_close(exact, (above - below) / 2e-5, rtol=1e-5, atol=1e-6)
    assert exact.abs().max() > 0.01


def renumbered(model, group):
    """The model's state with one group of units reversed, along the axes that the docstring lists."""
    heads = torch.arange(8).view(2, 4).flip(0).flatten()  # the rows and columns of two heads of width 4
    qkv = torch.cat([heads, heads + 8, heads + 16])
    stream, hidden = torch.arange(8).flip(0), torch.arange(24).flip(0)
    axes = {
        "heads": {"qkv.weight": (0, qkv), "out.weight": (1, heads), "distance": (0, torch.tensor([1, 0]))},
        "hidden": {"up.weight": (0, hidden), "down.weight": (1, hidden)},
        "stream": {name: (1, stream) for name in ("token.weight", "head.weight", "qkv.weight", "up.weight")}
        | {name: (0, stream) for name in ("out.weight", "down.weight")},
    }
    state = dict(model.state_dict())
    for name, value in state.items():
        for ending, (axis, index) in axes[group].items():
            if name.endswith(ending):
                state[name] = value.index_select(axis, index)
    return state


@pytest.mark.parametrize("group", ["heads", "hidden", "stream"])
def test_documented_permutations_leave_the_function_unchanged(group):
    model, x = build(), tokens()
    state, other = renumbered(model, group), build()
    assert any(not torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    other.load_state_dict(state)
    torch.testing.assert_close(other(x), model(x))


def test_initial_scales():
    torch.manual_seed(0)
    model = Transformer(classes=100, width=128, layers=8, heads=4, gain=1.5)
    scales = {"token": 0.5, "head": 1.5 / sqrt(128)}
    block = model.blocks[3]
    found = {"token": model.token.weight.std().item(), "head": model.head.weight.std().item()}
    for name, layer, fan_in, gain in [
        ("qkv", block.attention.qkv, 128, 1.5),
        ("out", block.attention.out, 128, 1.5 / 4),
        ("up", block.mlp.up, 128, 1.5),
        ("down", block.mlp.down, 256, 1.5 / 4),
    ]:
        found[name], scales[name] = layer.weight.std().item(), gain / sqrt(fan_in)
    assert found == pytest.approx(scales, rel=0.05)


def test_heads_start_at_their_own_distance():
    """Head h puts more than half of its weight on the token h back, whatever the tokens are."""
    attention = Transformer().blocks[0].attention
    weights = causal(attention.distance).softmax(-1)
    for head in range(4):
        places = torch.arange(head, 32)
        assert (weights[head, places, places - head] > 0.5).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_by_name(activation):
    x = torch.tensor([-2.0, 0.0, 3.0])
    expected = {"relu": F.relu(x), "squared_relu": torch.tensor([0.0, 0.0, 9.0]), "gelu": F.gelu(x)}
    torch.testing.assert_close(build(activation=activation).blocks[0].mlp.activation(x), expected[activation])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"width": 9}, "width 9 is not a multiple of 2 heads"),
        ({"context": 1}, "2 heads need a context of at least 2, found 1"),
        ({"activation": "swish"}, "'swish'; known: relu, squared_relu, gelu"),
        ({"norm": "batch"}, "'batch'; known: layer, none"),
    ],
)
def test_impossible_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_too_long_input_is_refused():
    with pytest.raises(ValueError, match="7 tokens do not fit into a context of 6"):
        build()(tokens(length=7))
