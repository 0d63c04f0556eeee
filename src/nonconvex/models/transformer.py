"""A decoder-only, pre-norm transformer over characters (Vaswani et al. 2017; pre-norm: Xiong et al. 2020).

Positions enter through one learned number per head and distance, added to the attention logits (T5: Raffel et
al. 2020, section 2.1). Head h starts with a preference for the token h places back, as ALiBi (Press et al.
2022) starts with one for near tokens: without it a small model spends most of a short training on finding its
neighbours.

The axes [in brackets] that a renumbering of units moves, for H heads of width w:

    residual stream (width)   token.weight [1], head.weight [1] and in every block attention.qkv.weight [1],
                              attention.out.weight [0], mlp.up.weight [1], mlp.down.weight [0]
    heads of a block (H)      attention.qkv.weight [0], whose rows are (3, H, w) for query, key and value,
                              attention.out.weight [1], whose columns are (H, w), attention.distance [0]
    hidden units of a block   mlp.up.weight [0], mlp.down.weight [1]

The parameters of block i are called blocks.<i>.attention.qkv.weight and so on. Without `skip` the stream is
not one: the output of every branch can then be renumbered by itself.
"""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {"relu": F.relu, "squared_relu": lambda x: x * F.relu(x), "gelu": F.gelu}
NORMS = ("layer", "none")
PREFERENCE = 4.0  # initial logit at a head's own distance: e^4 = 55 against the 31 other places of a window
EMBEDDING = 0.5  # initial standard deviation of the token table; 0.02 and 1 both learned more slowly


class LayerNorm(nn.Module):
    """Ba, Kiros & Hinton 2016 over the last axis, y = (x - mean) / sqrt(variance + 1e-5).

    Without scale and shift: a linear map follows each of these layers and can represent the scale.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:])


class Attention(nn.Module):
    """Causal attention of several heads, (B, T, width) -> (B, T, width) for any T up to `context`.

    As matmul, softmax, matmul: the fused kernel has no second derivative on the CPU.
    """

    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.distance = nn.Parameter(PREFERENCE * torch.eye(heads, context))  # row h prefers distance h

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, T, w)
        # softmax(q k^T / sqrt(w) + distance) v
        scores = (q / sqrt(q.shape[-1])) @ k.mT + causal(self.distance[:, : x.shape[1]])
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def causal(distance: Tensor) -> Tensor:
    """(H, T) numbers by distance as logits (H, T, T): entry (i, j) is distance[:, i - j], or -inf for j > i.

    A row of length 2 T is repeated and read in lines of 2 T - 1, so that each line starts one place further
    on. Such shifts need no index, whose derivative would add in no fixed order on a GPU.
    """
    heads, context = distance.shape
    later = distance.new_full((heads, context), -torch.inf)
    row = torch.cat([distance[:, :1], later, distance[:, 1:].flip(1)], 1)
    lines = row.repeat(1, context)[:, : context * (2 * context - 1)]
    return lines.unflatten(1, (context, -1))[:, :, :context]


class Mlp(nn.Module):
    """down(activation(up(x))) with `ratio` times `width` hidden units."""

    def __init__(self, width: int, ratio: int, activation: str):
        super().__init__()
        self.up = nn.Linear(width, ratio * width, bias=False)
        self.down = nn.Linear(ratio * width, width, bias=False)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); `skip=False` drops both `x +`."""

    def __init__(self, width: int, heads: int, context: int, ratio: int, activation: str, norm: nn.Module, skip: bool):
        super().__init__()
        self.attention = Attention(width, heads, context)
        self.mlp = Mlp(width, ratio, activation)
        self.norm, self.skip = norm, skip

    def forward(self, x: Tensor) -> Tensor:
        for branch in (self.attention, self.mlp):
            y = branch(self.norm(x))
            x = x + y if self.skip else y
        return x


class Transformer(nn.Module):
    """Tokens (B, T) of `classes` kinds, T at most `context` -> logits (B, T, classes) for the one after each.

    Matrices are drawn from N(0, gain^2 / fan-in), those that end a residual branch smaller by sqrt(2 layers)
    (GPT-2: Radford et al. 2019, section 2.3). With C classes, context T, width d, L layers, H heads and MLP
    ratio r there are 2 C d + L ((4 + 2 r) d^2 + H T) parameters; the defaults have 43,360.
    """

    def __init__(
        self,
        classes: int = 65,
        context: int = 32,
        width: int = 48,
        layers: int = 2,
        heads: int = 4,
        ratio: int = 2,
        activation: str = "squared_relu",
        skip: bool = True,
        norm: str = "layer",
        gain: float = 1.0,
    ):
        super().__init__()
        _check(context, width, heads, activation, norm)
        self.context = context
        self.token = nn.Embedding(classes, width)
        self.norm = LayerNorm() if norm == "layer" else nn.Identity()
        block = lambda: Block(width, heads, context, ratio, activation, self.norm, skip)  # noqa: E731
        self.blocks = nn.Sequential(*[block() for _ in range(layers)])
        self.head = nn.Linear(width, classes, bias=False)
        self._draw(gain, gain / sqrt(2 * layers))

    def _draw(self, gain: float, last: float) -> None:
        nn.init.normal_(self.token.weight, std=EMBEDDING)
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Linear):
                ends_branch = name.endswith(("attention.out", "mlp.down"))
                nn.init.normal_(layer.weight, std=(last if ends_branch else gain) / sqrt(layer.in_features))

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.shape[1] > self.context:
            raise ValueError(f"{tokens.shape[1]} tokens do not fit into a context of {self.context}")
        table = self.token.weight
        # as a product: its derivative adds in a fixed order, and it has a second one under vmap
        x = F.one_hot(tokens, len(table)).to(table.dtype) @ table
        return self.head(self.norm(self.blocks(x)))


def _check(context: int, width: int, heads: int, activation: str, norm: str) -> None:
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of {heads} heads")
    if heads > context:
        raise ValueError(f"{heads} heads need a context of at least {heads}, found {context}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; known: {', '.join(NORMS)}")
