"""Small problems whose Hessian is known exactly, for any tool that measures the curvature of a PyTorch model.

Nothing here but torch, so that every tool's own environment can import it. A problem is what such a tool takes: a
module, a criterion that averages, and a list of batches. All draws are fixed by their seeds.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call

Batch = tuple[Tensor, Tensor]  # x (B, ...), y (B,) of classes or (B, outputs)

FLOOR = 1e-3  # an eigenvalue smaller than this share of the largest |eigenvalue| is judged on that scale


@dataclass(frozen=True)
class Problem:
    """L(θ) = (1/n) Σ_i ℓ(f_θ(x_i), y_i) over the n examples of all `batches`, in evaluation mode.

    θ is every parameter that requires a gradient. `near` is the half width of the band around zero whose share of the
    eigenvalues is asked for. `twin` computes the same function where torch cannot differentiate `model` twice.
    """

    name: str
    about: str
    model: nn.Module
    criterion: nn.Module  # of a whole batch, averaged
    batches: list[Batch]
    near: float
    twin: nn.Module | None = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    @property
    def size(self) -> int:
        """P, the number of free parameters."""
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def dtype(self) -> torch.dtype:
        return self.parameters[0].dtype


@dataclass(frozen=True)
class Exact:
    """Answers in float64 from the whole matrix; `probe_error` is the standard deviation of one Hutchinson probe.

    For random signs z, Var zᵀHz = 2 Σ_{i≠j} H_ij² (Avron & Toledo 2011).
    """

    lambda_max: float
    lambda_min: float
    trace: float
    mass_near_zero: float
    probe_error: float

    @property
    def scale(self) -> float:
        """The largest |eigenvalue|."""
        return max(abs(self.lambda_max), abs(self.lambda_min))


def exact(problem: Problem) -> Exact:
    """The answers that every tool is held against."""
    matrix = dense(problem)
    values = torch.linalg.eigvalsh(matrix)
    off = matrix - matrix.diagonal().diag()
    return Exact(
        lambda_max=float(values[-1]),
        lambda_min=float(values[0]),
        trace=float(matrix.trace()),
        mass_near_zero=float((values.abs() <= problem.near).double().mean()),
        probe_error=float((2 * off.square().sum()).sqrt()),
    )


def dense(problem: Problem) -> Tensor:
    """The Hessian (P, P) in float64, row by row, of the loss of all examples in one batch.

    Not torch.func.hessian: under its vmap the backward pass of layer norm is wrong (functorch issue 534), which made
    the matrix of `layer_norm` asymmetric by 0.09.
    """
    loss, point = flat_loss(problem)
    return hessian(loss, point)


def flat_loss(problem: Problem) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """L as a function of the free parameters as one vector (P,) in float64, and the problem's own vector."""
    model = copy.deepcopy(problem.twin or problem.model).double()
    x, y = (torch.cat(parts) for parts in zip(*problem.batches, strict=True))
    x, y = (part.double() if part.is_floating_point() else part for part in (x, y))
    free = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}

    def loss(point: Tensor) -> Tensor:
        parts = point.split([value.numel() for value in free.values()])
        state = {name: part.view_as(free[name]) for name, part in zip(free, parts, strict=True)}
        return problem.criterion(functional_call(model, state, (x,)), y)

    return loss, torch.cat([value.flatten() for value in free.values()])


# Models


class Form(nn.Module):
    """x (B, 1) -> x ½ wᵀA w, whose Hessian at w = 0 is A."""

    def __init__(self, matrix: Tensor):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(len(matrix), dtype=matrix.dtype))
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        return x * (0.5 * self.w @ self.matrix @ self.w)


class Chain(nn.Module):
    """x (B, 1) -> a b x, the smallest network with a saddle."""

    def __init__(self, a: float, b: float):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (a, b))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * self.b * x


class Squares(nn.Module):
    """x (B, d) -> Σ_i x_i (R w)_i², the diagonal linear network in coordinates that are not its own."""

    def __init__(self, size: int):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        self.register_buffer("rotation", reflection(size))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.rotation @ self.w).square()[:, None]


class Spare(nn.Module):
    """A network with one more layer that its output does not use."""

    def __init__(self, used: nn.Module):
        super().__init__()
        self.used, self.spare = used, nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


class Attention(nn.Module):
    """Tokens x (B, T, d) -> classes (B, 3): one layer of single-head attention, averaged over the tokens.

    `fused` calls torch's own kernel, which is what models in use call; the other spells the same formula out.
    """

    def __init__(self, width: int, fused: bool):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.head = nn.Linear(width, 3)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x)[:, None] for layer in (self.q, self.k, self.v))  # each (B, 1 head, T, d)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        return self.head(mixed[:, 0].mean(1))


def mlp(*norms: nn.Module) -> nn.Sequential:
    """(B, 5) -> classes (B, 3) through 8 and 6 tanh units, the `norms` before the first of them; P >= 123."""
    layers = [nn.Linear(5, 8), *norms, nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)]
    return nn.Sequential(*layers)


# Draws


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def drawn(model: nn.Module, deviation: float = 0.7) -> nn.Module:
    """The model in float64 and evaluation mode, every parameter normal with this standard deviation."""
    model = model.double().eval()
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.copy_(deviation * normal(*parameter.shape, seed=seed))
    return model


def reflection(size: int) -> Tensor:
    """I - 2 u uᵀ for a random unit vector u: orthogonal, symmetric, and far from diagonal."""
    u = normal(size, seed=100)
    u = u / u.norm()
    return torch.eye(size, dtype=u.dtype) - 2 * torch.outer(u, u)


def labelled(examples: int, *features: int) -> Batch:
    """Normal inputs (examples, *features) and one of three classes each."""
    x, score = normal(examples, *features, seed=200), normal(examples, 3, seed=201)
    return x, score.argmax(1)


def cut(batch: Batch, *sizes: int) -> list[Batch]:
    """The same examples in batches of these sizes."""
    return list(zip(*(part.split(sizes) for part in batch), strict=True))


# Problems


SPECTRUM = (5.0, 3.0, 3.0, 1.0, 0.5, *[0.0] * 15, -0.5, -1.0, -1.0, -2.0)  # of `quadratic`
CHAIN = (0.2, 0.3)  # a and b of `scalar_chain`
SADDLE = (3.0, 2.0, 1.0)  # targets of `linear_saddle`


def quadratic() -> Problem:
    """MSE (f - y)² with f = 0 and f' = 0 has the Hessian -2 y A at w = 0, which y = -½ makes A."""
    rotation = reflection(len(SPECTRUM))
    model = Form(rotation @ torch.tensor(SPECTRUM, dtype=torch.float64).diag() @ rotation)
    one = torch.ones(1, 1, dtype=torch.float64)
    about = "closed form: a quadratic with 24 known eigenvalues, 15 of them zero, in rotated coordinates"
    return Problem("quadratic", about, model, nn.MSELoss(), [(one, -0.5 * one)], 0.25)


def scalar_chain() -> Problem:
    """(ab - 1)², with the Hessian [[2b², 4ab - 2], [4ab - 2, 2a²]]."""
    one = torch.ones(1, 1, dtype=torch.float64)
    about = "closed form: (ab - 1)² near its saddle, at a = 0.2, b = 0.3"
    return Problem("scalar_chain", about, Chain(*CHAIN), nn.MSELoss(), [(one, one)], 0.1)


def linear_saddle() -> Problem:
    """W2 W1 x at W = 0; with x the unit vectors and y_i = s_i e_i the eigenvalues are ± s_i / 6 and 0.

    L = (1/12) Σ ‖W2 W1 x - y‖² over 4 examples and 3 outputs; its second-order part is -(1/6) Σ_i s_i (W2 W1)_ii.
    """
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 3, bias=False))
    y = torch.eye(4, 3, dtype=torch.float64) * torch.tensor(SADDLE, dtype=torch.float64)
    batch = torch.eye(4, dtype=torch.float64), y
    about = "closed form: a two-layer linear network at the origin, where lambda_min = -lambda_max"
    return Problem("linear_saddle", about, drawn(model, 0.0), nn.MSELoss(), [batch], 0.05)


def negative_dominant() -> Problem:
    """Near zero the Hessian of a diagonal linear network is -4 mean(y x) along its axes, plus small terms."""
    x = normal(40, 12, seed=202)
    slopes = torch.linspace(-0.2, 1.2, 12, dtype=torch.float64)
    y = x @ slopes[:, None] + 0.1 * normal(40, 1, seed=203)
    about = "a diagonal linear network near its saddle at zero: |lambda_min| is larger than lambda_max"
    return Problem("negative_dominant", about, drawn(Squares(12), 0.05), nn.MSELoss(), [(x, y)], 0.4)


def classified(name: str, about: str, model: nn.Module, near: float, **more) -> Problem:
    """Cross-entropy of 40 examples of five features, in one batch unless told otherwise."""
    more = {"batches": [labelled(40, 5)], **more}
    return Problem(name, about, model, nn.CrossEntropyLoss(), near=near, **more)


def dense_mlp() -> Problem:
    about = "a network of 5-8-6-3 tanh units in float64, cross-entropy, one batch of 40"
    return classified("dense_mlp", about, drawn(mlp()), 0.05)


def ragged() -> Problem:
    about = "the same network on 10 examples in batches of 4, 4 and 2"
    return classified("ragged", about, drawn(mlp()), 0.05, batches=cut(labelled(10, 5), 4, 4, 2))


def frozen() -> Problem:
    model = drawn(mlp())
    model[0].requires_grad_(False)
    return classified("frozen", "the same network on 40 examples, its first layer frozen", model, 0.05)


def unused() -> Problem:
    about = "the same network and a layer that the output does not use: eight zero eigenvalues"
    return classified("unused", about, drawn(Spare(mlp())), 0.05)


def batch_norm() -> Problem:
    model = drawn(mlp(nn.BatchNorm1d(8)))
    model[1].running_mean.copy_(0.3 * normal(8, seed=204))
    model[1].running_var.copy_(normal(8, seed=205).square() + 0.5)
    return classified("batch_norm", "batch norm in evaluation mode, with fixed statistics", model, 0.05)


def layer_norm() -> Problem:
    return classified("layer_norm", "layer norm with its scale and shift", drawn(mlp(nn.LayerNorm(8))), 0.05)


def attention() -> Problem:
    about = "one layer of attention, written as matmul, softmax, matmul"
    return classified("attention", about, drawn(Attention(5, False)), 0.05, batches=[labelled(20, 4, 5)])


def fused_attention() -> Problem:
    about = "the same layer through torch's scaled_dot_product_attention"
    more = {"batches": [labelled(20, 4, 5)], "twin": drawn(Attention(5, False))}
    return classified("fused_attention", about, drawn(Attention(5, True)), 0.05, **more)


def single_precision() -> Problem:
    x, y = labelled(40, 5)
    model = drawn(mlp()).float()
    return classified("single_precision", "dense_mlp in float32", model, 0.05, batches=[(x.float(), y)])


PROBLEMS: tuple[Callable[[], Problem], ...] = (
    quadratic,
    scalar_chain,
    linear_saddle,
    negative_dominant,
    dense_mlp,
    ragged,
    frozen,
    unused,
    batch_norm,
    layer_norm,
    attention,
    fused_attention,
    single_precision,
)
