"""The permutation symmetries of our models: which axes of which parameters must move together.

To add a model: write a function from the module to its specification and add a row to SYMMETRIES; the tests then
hold it to its claim. A residual stream is one group through all the blocks that add to it.
"""

from collections.abc import Callable

from torch import nn

from nonconvex.measure.permutation import Axis, Spec
from nonconvex.models.normalisation import GroupNorm


def layer(model: nn.Module, name: str, out: Axis | None, into: Axis | None = None) -> Spec:
    """One linear, convolution or normalisation layer: weight (out, into, *kernel), all else (out,)."""
    sizes = {key: value.dim() for key, value in model.get_submodule(name).named_parameters()}
    return {f"{name}.{key}": ((out, into) + (None,) * dims)[:dims] for key, dims in sizes.items()}


def resnet(model: nn.Module) -> Spec:
    """`models.resnet.ResNet`: a stream per run of blocks without projection, and the inside of every block."""
    stream = Axis("stem", after=_inseparable(model.norm))
    spec = layer(model, "stem", stream) | layer(model, "norm", stream)
    for i, block in enumerate(model.blocks):
        name, inside = f"blocks.{i}", Axis(f"blocks.{i}.inside", after=_inseparable(block.norm1))
        out = stream if block.skip and not block.shortcut else Axis(name, after=_inseparable(block.norm2))
        spec |= layer(model, f"{name}.conv1", inside, stream) | layer(model, f"{name}.norm1", inside)
        spec |= layer(model, f"{name}.conv2", out, inside) | layer(model, f"{name}.norm2", out)
        spec |= layer(model, f"{name}.shortcut", out, stream)
        stream = out
    return spec | layer(model, "head", None, stream)


def mlp(model: nn.Module) -> Spec:
    """`models.mlp.Mlp`: a layer that adds its input to its output shares its input's units."""
    units, spec = None, {}
    for i, hidden in enumerate(model.hidden):
        adds = model.skip and hidden.in_features == hidden.out_features
        out = units if adds else Axis(f"hidden.{i}")
        spec |= layer(model, f"hidden.{i}", out, units)
        units = out
    return spec | layer(model, "head", None, units)


def cnn(model: nn.Module) -> Spec:
    """`models.cnn.Cnn`: three layers of channels; the head sees every channel of the last at several positions."""
    channels = [Axis(f"conv{i}") for i in (1, 2, 3)]
    spec = layer(model, "conv1", channels[0])
    spec |= layer(model, "conv2", channels[1], channels[0]) | layer(model, "conv3", channels[2], channels[1])
    positions = model.head.in_features // model.conv3.out_channels
    return spec | layer(model, "head", None, Axis("conv3", after=positions))


def transformer(model: nn.Module) -> Spec:
    """`models.transformer.Transformer`: the residual stream, whole heads, and the hidden units of every block.

    Within a head, queries and keys may also be rotated together, and values against the output; no permutation
    of hidden units reaches that freedom, and it is left alone.
    """
    stream = Axis("stream")
    spec = layer(model, "token", None, stream)
    for i, block in enumerate(model.blocks):
        attention, mlp, heads = f"blocks.{i}.attention", f"blocks.{i}.mlp", f"blocks.{i}.heads"
        width, hidden = block.attention.out.in_features // block.attention.heads, Axis(f"{mlp}.hidden")
        spec |= layer(model, f"{attention}.qkv", Axis(heads, before=3, after=width), stream)
        spec |= {f"{attention}.distance": (Axis(heads), None)}
        stream = stream if block.skip else Axis(attention)
        spec |= layer(model, f"{attention}.out", stream, Axis(heads, after=width))
        spec |= layer(model, f"{mlp}.up", hidden, stream)
        stream = stream if block.skip else Axis(mlp)
        spec |= layer(model, f"{mlp}.down", stream, hidden)
    return spec | layer(model, "head", None, stream)


def _inseparable(norm: nn.Module) -> int:
    """Neighbouring channels that only move as one, because they are normalised together and others are not."""
    apart = isinstance(norm, GroupNorm) and norm.size < len(norm.weight)
    return norm.size if apart else 1


SYMMETRIES: dict[str, Callable[[nn.Module], Spec]] = {
    "ResNet": resnet,
    "Transformer": transformer,
    "Mlp": mlp,
    "Cnn": cnn,
}


def symmetries(model: nn.Module) -> Spec:
    """The specification of a model, by the name of its class. Raises ValueError for one without."""
    name = type(model).__name__
    if name not in SYMMETRIES:
        raise ValueError(f"no permutation symmetries for {name}; known: {', '.join(SYMMETRIES)}")
    return SYMMETRIES[name](model)
