"""Connectivity against closed forms on functions small enough to solve by hand, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nonconvex.config import ConnectivitySettings
from nonconvex.data.splits import Dataset
from nonconvex.losses import cross_entropy
from nonconvex.measure.barriers import BARRIERS, over_line, over_mean, over_worse_end, profile
from nonconvex.measure.connectivity import Pair, Problem, connect
from nonconvex.measure.curves import bezier, linear, middle, places, train_curve
from nonconvex.measure.permutation import Axis, permute, random_permutations
from nonconvex.models.normalisation import BatchNorm
from nonconvex.models.stacked import Stacked, select, stack
from nonconvex.optimizers import AdamW


class Product(nn.Module):
    """f = u v, whatever the input: the smallest network with more than one global minimum."""

    def __init__(self):
        super().__init__()
        self.u, self.v = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return (self.u * self.v).expand(len(x), 1)


class Normalised(nn.Module):
    """f = BatchNorm(w x) of one channel."""

    def __init__(self):
        super().__init__()
        self.w, self.norm = nn.Parameter(torch.zeros(())), BatchNorm(1)

    def forward(self, x):
        return self.norm(self.w * x)


class Tiny(nn.Module):
    """A multilayer perceptron 2 - 12 - 12 - 2, batch normalised in the middle."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second, self.head = (
            nn.Linear(2, 12),
            BatchNorm(12),
            nn.Linear(12, 12),
            nn.Linear(12, 2),
        )

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.relu(self.norm(self.first(x))))))


H, K = Axis("h"), Axis("k")
TINY = {
    "first.weight": (H, None),
    "first.bias": (H,),
    "norm.weight": (H,),
    "norm.bias": (H,),
    "second.weight": (K, H),
    "second.bias": (K,),
    "head.weight": (None, K),
    "head.bias": (None,),
}


class Rings:
    """A split of points in the plane, inside (class 0) or outside (class 1) of a circle that halves them."""

    def __init__(self, count, seed):
        self.x = torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 2)))
        self.y = (self.x.square().sum(1) > 2 * np.log(2)).long()

    def examples(self, count=None):
        return self.x[:count], self.y[:count]

    def batch(self, seeds, step, batch_size):
        drawn = [np.random.default_rng((seed, step)).integers(len(self.x), size=batch_size) for seed in seeds]
        return torch.stack([self.x[i] for i in drawn]), torch.stack([self.y[i] for i in drawn])


TRAIN, TEST = Rings(300, 1), Rings(200, 2)
SETTINGS = ConnectivitySettings(
    points=9, curve_steps=150, curve_rate=0.05, batch_size=32, train_examples=200, test_examples=150, at_once=4
)


def double(params):
    return {name: value.double() for name, value in params.items()}


def scalar(**values):
    return {name: torch.tensor(v, dtype=torch.float64) for name, v in values.items()}


def half_square(target):
    """½ (f - target)², for a network of one output."""
    return lambda logits, _: 0.5 * (logits[..., 0] - target).square()


def blank(count):
    """Examples that Product does not look at."""
    return torch.zeros(count, 1, dtype=torch.float64), torch.zeros(count, dtype=torch.long)


@pytest.fixture(scope="module")
def trained():
    """Three trained Tiny networks as `a`, and as `b` the same networks renumbered, the third a fourth network."""
    network, params = stack(Tiny, [0, 1, 2, 3])
    params, optimizer = double(params), AdamW(weight_decay=0.0)
    state, rates = optimizer.init(params), torch.full((4,), 0.03)
    for step in range(150):
        x, y = TRAIN.batch([0, 1, 2, 3], step, 32)
        leaves = {name: value.requires_grad_() for name, value in params.items()}
        grads = torch.autograd.grad(cross_entropy(network(leaves, x), y).mean(1).sum(), list(leaves.values()))
        params, state = optimizer.update(leaves, dict(zip(leaves, grads, strict=True)), state, rates, step)
        params = {name: value.detach() for name, value in params.items()}
    a, b = select(params, [0, 1, 2]), select(params, [0, 1, 3])
    shuffled = permute(b, TINY, random_permutations(b, TINY, torch.Generator().manual_seed(5)))
    return network, a, shuffled


@pytest.fixture(scope="module")
def problem(trained):
    data = Dataset("rings", TRAIN, TEST, TEST, 2)
    return Problem(trained[0], TINY, cross_entropy, data, SETTINGS)


PAIRS = tuple(Pair("tiny", "none", "cosine", seed, seed + 1) for seed in (0, 1, 2))


def test_paths_are_their_formulas_and_end_exactly_at_their_ends():
    """Misses: swapped ends, a wrong binomial, one t used for all members, ends off by rounding."""
    a, c, b = (double(stack(Tiny, seeds)[1]) for seeds in ([0, 1], [2, 3], [4, 5]))
    t = torch.tensor([0.3, 0.8], dtype=torch.float64)
    for name in a:
        s = t.view(-1, *[1] * (a[name].dim() - 1))
        torch.testing.assert_close(linear(a, b)(t)[name], (1 - s) * a[name] + s * b[name])
        curve = (1 - s) ** 2 * a[name] + 2 * s * (1 - s) * c[name] + s**2 * b[name]
        torch.testing.assert_close(bezier(a, c, b)(t)[name], curve)
        for path in (linear(a, b), bezier(a, c, b)):
            assert torch.equal(path(torch.zeros(2))[name], a[name])
            assert torch.equal(path(torch.ones(2))[name], b[name])


def test_the_straight_line_is_the_curve_through_its_middle():
    """Misses: a control point started anywhere but on the line."""
    a, b = (double(stack(Tiny, seeds)[1]) for seeds in ([0], [4]))
    t = torch.tensor([0.4], dtype=torch.float64)
    for name, value in bezier(a, middle(a, b), b)(t).items():
        torch.testing.assert_close(value, linear(a, b)(t)[name])


def test_barriers_of_a_profile_made_by_hand():
    """Misses: a barrier over the wrong reference, t taken to be evenly spaced, ends left out of the maximum."""
    t = torch.tensor([0.0, 0.2, 0.5, 1.0])
    values = torch.tensor([[0.0, 2.0, 1.0, 4.0], [1.0, 0.5, 0.0, 3.0]])
    assert over_line(values, t).tolist() == pytest.approx([1.2, 0.0])
    assert over_mean(values, t).tolist() == pytest.approx([2.0, 1.0])
    assert over_worse_end(values, t).tolist() == pytest.approx([0.0, 0.0])
    assert [barrier(values, t).shape for barrier in BARRIERS.values()] == [(2,)] * 3


@pytest.mark.parametrize("target", [1.0, 2.0])
def test_barrier_between_the_two_branches_of_a_product(target):
    """f = uv from (√y, √y) to (-√y, -√y): L = ½ (y - (1-2t)² y)², so ½ y² at the middle.

    Misses: a wrong factor in the barrier, a missing middle point, a training metric taken on the test loss.
    """
    root = target**0.5
    path = linear(scalar(u=[root], v=[root]), scalar(u=[-root], v=[-root]))
    found = profile(Stacked(Product()), half_square(target), path, blank(3), blank(2), points=11)
    expected = 0.5 * (target - (1 - 2 * found.t).square() * target).square()
    torch.testing.assert_close(found.train_loss[0], expected)
    torch.testing.assert_close(found.test_loss[0], expected)
    assert over_line(found.train_loss, found.t).item() == pytest.approx(0.5 * target**2)


def product_curve(a, b, steps):
    def losses(params, step):
        return 0.5 * (params["u"] * params["v"] - 1).square()

    path = train_curve(losses, a, b, [0] * len(a["u"]), steps, 0.05)
    found = profile(Stacked(Product()), half_square(1.0), path, blank(1), blank(1), points=41)
    return over_line(found.train_loss, found.t)


def test_a_trained_curve_follows_the_branch_but_cannot_cross_between_branches():
    """From (2, ½) to (½, 2) the line reaches uv = 25/16, a barrier of ½ (9/16)²; the branch uv = 1 has none.

    From (1, 1) to (-1, -1) every continuous path crosses uv = 0, so that no curve is below ½.
    Misses: a control point that is not trained or not used, ends that move, a curve that leaves its ends.
    """
    a, b = scalar(u=[2.0, 1.0], v=[0.5, 1.0]), scalar(u=[0.5, -1.0], v=[2.0, -1.0])
    before, after = product_curve(a, b, 0), product_curve(a, b, 200)
    assert before.tolist() == pytest.approx([0.5 * (9 / 16) ** 2, 0.5])
    assert after[0] < 0.1 * before[0]
    assert after[1] > 0.49


def test_statistics_are_those_of_the_training_examples_at_the_point_itself():
    """f = g (w x - E wx) / √(Var wx + ε) + 0 in closed form, on the way from w = g = 1 to w = g = -3.

    Misses: statistics of an end or of both ends averaged, of the test examples, or of the running kind.
    """
    network, t = Stacked(Normalised()), torch.linspace(0, 1, 9, dtype=torch.float64)
    a = scalar(w=[1.0]) | {"norm.weight": scalar(g=[[1.0]])["g"], "norm.bias": scalar(c=[[0.0]])["c"]}
    b = {name: -3 * value for name, value in a.items()}
    x = torch.from_numpy(np.random.default_rng(0).normal(1.0, 2.0, size=(60, 1)))
    train, test = (x[:40], torch.zeros(40)), (x[40:] * 3, torch.zeros(20))
    found = profile(network, half_square(0.7), linear(a, b), train, test, points=9)
    w, mean, variance = 1 - 4 * t[:, None], train[0].mean(), train[0].var(correction=0)
    for examples, losses in ((train, found.train_loss), (test, found.test_loss)):
        f = w * w * (examples[0].T - mean) / (w.square() * variance + 1e-5).sqrt()
        torch.testing.assert_close(losses[0], 0.5 * (f - 0.7).square().mean(1))


def test_equal_ends_have_no_barrier_at_all(problem, trained):
    """Misses: noise of any kind between points, and interpolation that does not return its ends' common value."""
    _, a, _ = trained
    for connection in connect(problem, a, a, PAIRS, ["linear", "siblings", "aligned"]):
        for split, metric in (("train", "loss"), ("train", "error"), ("test", "loss"), ("test", "error")):
            assert connection.barrier(split, metric).tolist() == [0.0] * 3


def test_alignment_and_the_trained_curve_lower_the_barrier(problem, trained):
    """Pairs 0 and 1 are renumbered copies: aligned, nothing is left.

    Misses: alignment that is computed and not used, a curve trained on the wrong pair's batches or places.
    """
    _, a, b = trained
    straight, aligned, curve = connect(problem, a, b, PAIRS, ["linear", "aligned", "curve"])
    high = straight.barrier("train", "loss")
    assert (high > 0.1).all()
    assert aligned.barrier("train", "loss")[:2].max() < 1e-12
    assert (curve.barrier("train", "loss") < 0.5 * high).all()


def test_a_pair_alone_equals_the_pair_in_company(problem, trained):
    """Misses: draws, alignment or chunks that depend on a pair's neighbours or place."""
    _, a, b = trained
    together = connect(problem, a, b, PAIRS, ["linear", "aligned", "curve"])
    other = replace(problem, settings=SETTINGS.model_copy(update={"at_once": 5}))
    alone = connect(other, select(a, [2]), select(b, [2]), PAIRS[2:], ["linear", "aligned", "curve"])
    for one, all_ in zip(alone, together, strict=True):
        torch.testing.assert_close(one.profile.train_loss[0], all_.profile.train_loss[2])
        torch.testing.assert_close(one.profile.test_error[0], all_.profile.test_error[2])


def test_records_hold_every_pair_place_split_and_metric(problem, trained):
    """Misses: values that land in another pair's, place's or column's row."""
    _, a, b = trained
    (found,) = connect(problem, a, b, PAIRS, ["linear"])
    barriers, points = list(found.barriers()), list(found.points())
    assert len(barriers) == 3 * 4 and len(points) == 3 * 9
    row = next(r for r in barriers if (r.seed_a, r.split, r.metric) == (1, "test", "error"))
    assert row.barrier == over_line(found.profile.test_error, found.profile.t)[1].item()
    point = next(p for p in points if (p.seed_a, p.t) == (2, 0.25))
    assert (point.seed_b, point.kind, point.model) == (3, "linear", "tiny")
    assert point.train_error == found.profile.train_error[2, 2].item()
    assert point.test_loss == found.profile.test_loss[2, 2].item()


def test_minibatches_of_a_curve_are_drawn_under_seeds_of_the_pairs(problem, trained):
    """Misses: minibatches shared by all pairs, or the very ones that an end was trained on."""
    asked = []

    class Recorded(Rings):
        def batch(self, seeds, step, batch_size):
            asked.append((tuple(seeds), step, batch_size))
            return super().batch(seeds, step, batch_size)

    data = replace(problem.data, train=Recorded(300, 1))
    settings = SETTINGS.model_copy(update={"curve_steps": 2})
    connect(replace(problem, data=data, settings=settings), *trained[1:], PAIRS, ["curve"])
    seeds = tuple(pair.seed for pair in PAIRS)
    assert asked == [(seeds, 0, 32), (seeds, 1, 32)]
    assert len({*seeds, 0, 1, 2, 3}) == 7


def test_places_are_uniform_over_seeds_and_over_steps():
    """Misses: places that depend on neighbours, that repeat, or that favour a part of the curve."""
    over_seeds, over_steps = places(range(2000), 7), torch.cat([places([3], step) for step in range(200)])
    for drawn, slack in ((over_seeds, 0.05), (over_steps, 0.02)):
        even = (torch.arange(len(drawn)) + 0.5) / len(drawn)
        assert (drawn.sort().values - even).abs().max() < slack
    assert places([5, 9], 4)[1] == places([9], 4)[0]


def test_unknown_kinds_are_refused_by_name(problem, trained):
    """Misses: a misspelt kind that is skipped in silence."""
    with pytest.raises(ValueError, match="unknown kinds of path: arc; known: linear, aligned, curve, siblings"):
        connect(problem, trained[1], trained[2], PAIRS, ["linear", "arc"])
