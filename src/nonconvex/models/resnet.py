"""Residual networks for signals and images (He, Zhang, Ren & Sun 2016, section 4.2).

One class serves both: a convolution over d axes gathers its shifted inputs and multiplies once. Tensors look
like (B, C, *space) and lie in memory as (C, B, *space), so that stacked members cost one batched product;
torch's convolution would run them as groups, which took nearly twice as long on a CPU.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from math import prod, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nonconvex.models.normalisation import normalisation

INPUT_CHANNELS = {1: 1, 2: 3}  # by dimensions: a signal (B, L) or a colour image (B, 3, H, W)


class Convolution(nn.Module):
    """Convolution without bias, padded by kernel // 2: (B, C, *space) -> (B, C', *ceil(space / stride)).

    The kernel is odd. The weight (C', C, *kernel) is drawn from N(0, gain^2 / fan-in), fan-in = C *
    kernel^dimensions; gain sqrt(2) preserves the variance under relu (He et al. 2015, equation 10).
    """

    def __init__(self, channels: int, out: int, kernel: int = 3, stride: int = 1, *, dimensions: int, gain: float):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(out, channels, *[kernel] * dimensions))
        nn.init.normal_(self.weight, std=gain / sqrt(channels * kernel**dimensions))

    def forward(self, x: Tensor) -> Tensor:
        x = _as_products_take_it(x).transpose(0, 1)  # (C, B, *space)
        space = [-(-n // self.stride) for n in x.shape[2:]]
        weight = self.weight.flatten(2).mT.flatten(1)  # (C', kernel^d * C)
        out = weight @ self._columns(x, space)
        return out.view(-1, x.shape[1], *space).transpose(0, 1)

    def _columns(self, x: Tensor, space: list[int]) -> Tensor:
        """(kernel^d * C, B * prod(space)): the input that every weight meets at every place."""
        x = F.pad(x, [self.kernel // 2] * 2 * len(space)) if self.kernel > 1 else x
        shifts = product(range(self.kernel), repeat=len(space))
        parts = [x[self._window(shift, space)] for shift in shifts]
        return torch.cat(parts).reshape(-1, x.shape[1] * prod(space))

    def _window(self, shift: tuple[int, ...], space: list[int]) -> tuple:
        ends = [start + self.stride * (n - 1) + 1 for start, n in zip(shift, space, strict=True)]
        return (..., *(slice(start, end, self.stride) for start, end in zip(shift, ends, strict=True)))


def _as_products_take_it(x: Tensor) -> Tensor:
    """x in the precision of autocast where that is on: rounded before it is copied kernel^d times, not after."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class Block(nn.Module):
    """y = relu(shortcut(x) + branch_scale * branch(x)), the branch being conv-norm-relu-conv-norm.

    Where the shape changes the shortcut is a strided 1 x 1 convolution and a norm (the paper's option B),
    which unlike padding with zeros (option A) leaves the channels of every stage free to be renumbered.
    `skip=False` has none.
    """

    def __init__(
        self,
        conv: Callable[..., nn.Module],
        norm: Callable[[int], nn.Module],
        channels: int,
        out: int,
        stride: int,
        skip: bool = True,
        branch_scale: float = 1.0,
    ):
        super().__init__()
        self.conv1, self.norm1 = conv(channels, out, stride=stride), norm(out)
        self.conv2, self.norm2 = conv(out, out), norm(out)
        self.skip, self.branch_scale = skip, branch_scale
        changes = skip and (channels != out or stride > 1)
        projection = [conv(channels, out, kernel=1, stride=stride), norm(out)] if changes else []
        self.shortcut = nn.Sequential(*projection)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        branch = branch if self.branch_scale == 1 else self.branch_scale * branch
        return F.relu(branch + self.shortcut(x) if self.skip else branch)


class ResNet(nn.Module):
    """A stem, three stages of (depth - 2) / 6 blocks with widths w, 2w, 4w and strides 1, 2, 2, and a head.

    Input (B, L) for `dimensions=1`, (B, 3, H, W) for 2; logits (B, classes), linear in the mean over space.
    `norm` is a name of NORMS. All weights are drawn from N(0, gain^2 / fan-in). `branch_scale` multiplies
    every branch; the inverse root of the number of blocks keeps the variance of an unnormalised network
    bounded in depth (Hayou et al. 2021, Stable ResNet). ResNet-20 of width 16 has 272,474 parameters, of
    which 269,722 outside the projections (0.27 M in the paper's table 6).
    """

    def __init__(
        self,
        classes: int = 10,
        dimensions: int = 2,
        depth: int = 20,
        width: int = 16,
        skip: bool = True,
        norm: str = "batch",
        gain: float = sqrt(2),
        branch_scale: float = 1.0,
    ):
        super().__init__()
        if dimensions not in INPUT_CHANNELS:
            raise ValueError(f"dimensions is {dimensions}; allowed: {', '.join(map(str, INPUT_CHANNELS))}")
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth is {depth}; allowed: 6 n + 2, so 8, 14, 20, 26, 32, ...")
        conv = partial(Convolution, dimensions=dimensions, gain=gain)
        layer = partial(normalisation, norm)
        self.dimensions, channels, blocks = dimensions, width, []
        self.stem, self.norm = conv(INPUT_CHANNELS[dimensions], width), layer(width)
        for stage, position in product(range(3), range((depth - 2) // 6)):
            stride, out = 2 if stage and not position else 1, width * 2**stage
            blocks.append(Block(conv, layer, channels, out, stride, skip, branch_scale))
            channels = out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, classes)
        nn.init.normal_(self.head.weight, std=gain / sqrt(channels))
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None] if self.dimensions == 1 else x
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.head(x.mean(list(range(2, x.dim()))))
