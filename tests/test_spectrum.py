"""Ends, trace and conditioning against spectra that are planted, known on paper, or computed densely."""

import pytest
import torch
from curvature_oracles import Dense, assert_same, dense, doubled, half_square, planted, quadratic
from torch import nn

from nonconvex.losses import cross_entropy
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import GaussNewton, Hessian
from nonconvex.measure.spectrum import condition_number, extreme_eigenvalues, trace
from nonconvex.models.mlp import Mlp
from nonconvex.models.stacked import Stacked

EXACT = {"iterations": 60, "tolerance": 1e-12}


def spread(size, low, high):
    return torch.linspace(low, high, size, dtype=torch.float64)


def network_like(size=2000):
    """One outlier, a wide bulk at zero, and a negative eigenvalue 200 times smaller than the outlier."""
    bulk = 0.02 * torch.randn(size - 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.cat([bulk, torch.tensor([64.0, -0.35], dtype=torch.float64)])


def diagonal(spectrum):
    objective, params = quadratic(spectrum, torch.ones(1, len(spectrum), dtype=spectrum.dtype))
    return Hessian(objective, params)


@pytest.mark.parametrize("low, high", [(-10.04, 0.31), (-0.31, 10.04), (2.0, 3.0), (-3.0, -2.0)])
def test_ends_are_ends_by_sign(low, high):
    """Largest magnitude is not largest: most tools return -10.04 for the first. Would miss: wrong vectors."""
    ends = extreme_eigenvalues(planted(spread(40, low, high)), **EXACT)
    assert_same(ends.values, torch.tensor([[low, high]], dtype=torch.float64))
    assert (ends.residuals < 1e-9).all()


def test_clusters_and_repeated_eigenvalues():
    """A repeated end exhausts the Krylov space early. Would miss: wrong multiplicities, which are not reported."""
    spectrum = torch.cat([torch.full((5,), 4.0), torch.full((30,), 1.0), torch.full((5,), -2.0)])
    close = torch.cat([spread(10, 3.999, 4.0), spread(30, 0.0, 1.0)])
    ends = extreme_eigenvalues(planted(spectrum, close), iterations=40, tolerance=1e-12)
    assert_same(ends.values, torch.tensor([[-2.0, 4.0], [0.0, 4.0]]).double())
    assert ends.iterations.tolist()[0] == 3  # as many as there are distinct eigenvalues


def test_degenerate_operators():
    """Zero, c·I, rank one and P = 1: division by a vanishing norm gives NaN. Would miss: a slow but right answer."""
    zero, same = torch.zeros(6, 6).double(), 3 * torch.eye(6).double()
    vector = torch.ones(6, 1).double()
    ends = extreme_eigenvalues(Dense(torch.stack([zero, same, vector @ vector.T, -same])), **EXACT)
    expected = torch.tensor([[0.0, 0], [3, 3], [0, 6], [-3, -3]]).double()
    assert (ends.values - expected).abs().max() < 1e-12
    assert ends.iterations.tolist() == [1, 1, 2, 1]
    assert (ends.residuals < 1e-12).all()
    assert extreme_eigenvalues(Dense(torch.full((1, 1, 1), -2.0))).values.tolist() == [[-2.0, -2.0]]


def test_the_whole_space_gives_the_whole_truth():
    """With P products Lanczos is exact, and its basis orthonormal. Would miss: nothing that only early stops show."""
    operator = planted(spread(12, -1, 2), spread(12, 0, 5).square())
    ends = extreme_eigenvalues(operator, iterations=100, tolerance=0)
    assert_same(ends.basis @ ends.basis.mT, torch.eye(12).double().expand(2, 12, 12), 1e-12)
    assert_same(ends.inside, operator.matrices.diagonal(dim1=1, dim2=2).sum(1))


def test_vectors_belong_to_values():
    """A v = λ v for unit v. Would miss: a pair that belongs to another operator's member, if all were equal."""
    operator = planted(spread(20, -1, 2), spread(20, -4, 1))
    ends = extreme_eigenvalues(operator, **EXACT)
    for end in (0, 1):
        v, value = ends.vectors[:, end], ends.values[:, end]
        assert_same(v.norm(dim=1), torch.ones(2).double())
        assert_same(operator @ v, value[:, None] * v, 1e-8)


@pytest.mark.parametrize("iterations", [1, 2, 4, 8, 16])
def test_the_residual_bounds_the_error(iterations):
    """However early it stops, an eigenvalue lies within the residual of the value, and no value lies outside the
    spectrum. Would miss: a residual that is far too large."""
    spectra = spread(50, -3, 5), torch.cat([spread(49, 0, 1), torch.tensor([9.0])]), network_like(50)
    ends = extreme_eigenvalues(planted(*spectra), iterations, tolerance=1e-9)
    for spectrum, values, residuals in zip(spectra, ends.values, ends.residuals, strict=True):
        for value, residual in zip(values, residuals, strict=True):
            assert (spectrum - value).abs().min() <= residual + 1e-12
            assert spectrum.min() - 1e-9 <= value <= spectrum.max() + 1e-9
    if iterations == 1:
        assert (ends.residuals > 0.1 * ends.values.abs()).all()  # an early stop shows


def test_the_small_end_is_not_lost_in_the_bulk():
    """A residual of 1e-2 of the largest eigenvalue is met inside the bulk, before -0.35 is seen. Would miss: a negative
    eigenvalue that hides inside the bulk, which no Krylov method finds."""
    ends = extreme_eigenvalues(diagonal(network_like()))
    assert_same(ends.values[0], torch.tensor([-0.35, 64.0]).double(), 1e-5)
    assert (ends.residuals[0] <= 1e-2 * ends.values[0].abs() + 1e-9).all() and ends.iterations[0] < 30


def test_members_stop_alone():
    """At a coarse tolerance, where one more step shows, each member is what it would be alone, beside NaN too. Would
    miss: draws that depend on the member's place, if all the same."""
    matrices = planted(spread(30, -1, 2), torch.full((30,), 2.0), network_like(30), spread(30, 0, 1)).matrices
    matrices[3] = torch.nan
    together = extreme_eigenvalues(Dense(matrices), tolerance=0.1)
    total = trace(Dense(matrices), known=together)
    for member in range(3):
        alone = extreme_eigenvalues(Dense(matrices[[member]]), tolerance=0.1)
        assert alone.iterations[0] == together.iterations[member]
        assert_same(together.values[member], alone.values[0])
        assert (together.residuals[member] - alone.residuals[0]).abs().max() < 1e-9
        assert_same(total.value[member], trace(Dense(matrices[[member]]), known=alone).value[0])
    assert len(set(together.iterations.tolist()[:3])) == 3
    assert together.values[3].isnan().all() and together.residuals[3].isnan().all() and total.value[3].isnan()


@pytest.mark.parametrize("size", [1e30, 1e38, torch.inf])
def test_overflow_is_no_exception_and_no_wrong_number(size):
    """What a member shortly before divergence looks like in float32, beside a healthy one. Would miss: overflow that
    only longer vectors reach."""
    matrices = torch.stack([size * torch.ones(4, 4), torch.eye(4) + torch.ones(4, 4)])
    ends = extreme_eigenvalues(Dense(matrices), tolerance=1e-6)
    found = ends.values[0, 1].item()
    assert found == pytest.approx(4 * size, rel=1e-5) if size < torch.inf else found != found
    assert_same(ends.values[1], torch.tensor([1.0, 5.0]).double(), 1e-5)


def test_one_end_may_be_asked_for():
    """The large end of a network-like spectrum needs fewer products. Would miss: the other end, which is not asked."""
    both = extreme_eigenvalues(diagonal(network_like()))
    one = extreme_eigenvalues(diagonal(network_like()), ends="largest")
    assert_same(one.largest.value, both.largest.value, 1e-4)
    assert one.iterations < both.iterations
    with pytest.raises(ValueError, match="unknown ends 'top'; known: both, largest, smallest"):
        extreme_eigenvalues(diagonal(network_like()), ends="top")


def test_single_precision_keeps_the_ends():
    """float32 products are what is used in earnest. Would miss: rounding that grows with the network."""
    wide = extreme_eigenvalues(diagonal(network_like()), tolerance=1e-4, iterations=60)
    narrow = extreme_eigenvalues(diagonal(network_like().float()), tolerance=1e-4, iterations=60)
    assert_same(narrow.largest.value, wide.largest.value, 1e-5)
    assert_same(narrow.smallest.value, wide.smallest.value, 1e-4)


def test_ends_and_trace_of_a_network():
    """Against `eigvalsh` of the dense Hessian. Would miss: an error in both the products and the dense matrix."""
    network, params = doubled(lambda: Mlp(classes=3, inputs=4, widths=(5,), activation="tanh"), 3)
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(9, 4, dtype=torch.float64, generator=generator), torch.randint(3, (9,), generator=generator)
    objective = Objective(network, cross_entropy, shared(*data), {})
    for operator in (Hessian(objective, params), GaussNewton(objective, params)):
        spectra = torch.linalg.eigvalsh(dense(operator))
        ends = extreme_eigenvalues(operator, iterations=40, tolerance=1e-9)
        assert (ends.values - spectra[:, [0, -1]]).abs().max() < 1e-8 * spectra.max()
        found = trace(operator, probes=40, known=extreme_eigenvalues(operator, iterations=5))
        assert ((found.value - spectra.sum(1)).abs() <= 3 * found.standard_error).all()
        assert (found.standard_error > 0).all()


class Product(nn.Module):
    """x -> a b x."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.a * self.b * x[:, None]


def test_scalar_factorisation():
    """L = ½ (ab - y)²: {0, a² + b²} at a minimum, ±y at 0 (science of the two-parameter network). Would miss: P > 2."""
    y = 3.0
    a, b = torch.tensor([2.0, -0.5, 3**0.5, 0.0]), torch.tensor([1.5, -6.0, 3**0.5, 0.0])
    objective = Objective(Stacked(Product()), half_square, shared(torch.ones(1), torch.tensor([y])), {})
    ends = extreme_eigenvalues(Hessian(objective, {"a": a[:, None], "b": b[:, None]}))
    expected = torch.stack([torch.zeros(4), a**2 + b**2], dim=1).double()
    expected[3] = torch.tensor([-y, y])
    assert (ends.values - expected).abs().max() < 1e-5
    assert ends.largest.value[2] == pytest.approx(2 * y)  # the flattest minimum


class TwoLayers(nn.Module):
    """x (B, d) -> W₂ W₁ x, d = 3, h = 4."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.zeros(3, 4))

    def forward(self, x):
        return x @ self.first.T @ self.second.T


def distance(logits, targets):
    """3 · ½ ‖logits - target‖², so that the mean over the three unit inputs is ½ ‖W₂W₁ - Y‖²."""
    return 1.5 * (logits - targets).square().sum(-1)


@pytest.mark.parametrize("kept, negative", [((), 12), ((0,), 6), ((1,), 7), ((2,), 8), ((0, 1), 2), ((1, 2), 4)])
def test_catalogue_of_the_linear_network(kept, negative):
    """The saddle that fits a subset S of the modes σ of Y: -σᵢ (h - |S| times) and σⱼ - σᵢ for i outside and j inside
    S.
    Would miss: an error of the catalogue itself, which was checked for these cases only."""
    sigma = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    first, second = torch.zeros(1, 4, 3).double(), torch.zeros(1, 3, 4).double()
    for unit, mode in enumerate(kept):
        first[0, unit, mode] = second[0, mode, unit] = sigma[mode].sqrt()
    eye = torch.eye(3, dtype=torch.float64)
    objective = Objective(Stacked(TwoLayers()), distance, shared(eye, torch.diag(sigma)), {})
    params = {"first": first, "second": second}
    operator = Hessian(objective, params)
    lost = [i for i in range(3) if i not in kept]
    assert objective.losses(params).item() == pytest.approx(0.5 * sum(sigma[i] ** 2 for i in lost))
    assert objective.gradients(params).abs().max() < 1e-12
    assert (torch.linalg.eigvalsh(dense(operator)) < -1e-9).sum() == negative
    ends = extreme_eigenvalues(operator, **EXACT)
    assert ends.smallest.value.item() == pytest.approx(-max(sigma[i] for i in lost))


def test_minimum_of_the_linear_network():
    """λ_max = 2σ₁ and nothing below zero. Would miss: flat directions, counted in no quantity."""
    sigma = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    first = torch.zeros(1, 4, 3).double()
    first[0, :3] = torch.diag(sigma.sqrt())
    eye = torch.eye(3, dtype=torch.float64)
    objective = Objective(Stacked(TwoLayers()), distance, shared(eye, torch.diag(sigma)), {})
    ends = extreme_eigenvalues(Hessian(objective, {"first": first, "second": first.mT}), **EXACT)
    assert ends.largest.value.item() == pytest.approx(6.0)
    assert abs(ends.smallest.value.item()) < 1e-9


def test_trace_of_a_diagonal_is_exact():
    """Signs square to one, so there is no variance here; Gaussian probes have some. Would miss: off-diagonal errors."""
    found = trace(diagonal(spread(30, -1, 3)), probes=2)
    assert found.value.item() == pytest.approx(30.0) and found.standard_error.item() < 1e-9


@pytest.mark.parametrize("deflated", [False, True])
def test_trace_is_unbiased_and_its_error_honest(deflated):
    """Over 200 seeds the mean error is 0 and its variance the mean of the squared standard errors. Would miss: a bias
    below a tenth of a standard error, as from probes that hardly depend on the start of Lanczos."""
    operator = planted(torch.cat([spread(30, -0.5, 1), torch.tensor([20.0, 9.0, -4.0]).double()]))
    exact = operator.matrices.diagonal(dim1=1, dim2=2).sum()
    errors, variances = [], []
    for seed in range(200):
        known = extreme_eigenvalues(operator, 5, 1e-9, seed) if deflated else None
        found = trace(operator, probes=12, seed=seed, known=known)
        errors.append(found.value - exact)
        variances.append(found.standard_error**2)
    errors, variance = torch.cat(errors), torch.cat(variances).mean()
    assert errors.mean().abs() < 3 * (variance / 200).sqrt()
    assert 0.7 < errors.var() / variance < 1.4


def test_deflation_removes_the_outliers_from_the_error():
    """The outlier 64 makes plain Hutchinson err by half the trace. Would miss: a gain that Q steals from the mean."""
    matrix = planted(network_like(200))
    known = extreme_eigenvalues(matrix)
    plain, better = trace(matrix), trace(matrix, known=known)
    assert better.standard_error < 0.05 * plain.standard_error
    assert (better.value - network_like(200).sum()).abs() < 4 * better.standard_error
    small = planted(spread(12, -1, 2))
    found = trace(small, known=extreme_eigenvalues(small, iterations=12, tolerance=0))
    assert found.value.item() == pytest.approx(6.0) and found.standard_error < 1e-9  # nothing is left to sample


def test_trace_needs_two_probes():
    """One probe has no standard error. Would miss: nothing."""
    with pytest.raises(ValueError, match="at least 2 probes, found 1"):
        trace(planted(spread(3, 0, 1)), probes=1)


def test_condition_number():
    """P λ_max / tr H; undefined for a trace that is not positive. Would miss: an error that κ and its parts share."""
    operator = planted(torch.tensor([1.0, 3, 4]), torch.tensor([-5.0, 1, 2]), torch.tensor([1.0, 2, 3]))
    ends = extreme_eigenvalues(operator, iterations=3, tolerance=0)
    found = condition_number(ends.largest, trace(operator, known=ends), 3).value
    assert found[[0, 2]].tolist() == pytest.approx([1.5, 1.5]) and found[1].isnan()
    total = trace(operator, probes=5)
    rough = condition_number(ends.largest, total, 3)
    assert rough.standard_error[0] / rough.value[0] == pytest.approx(total.standard_error[0] / total.value[0])


def test_seeds_are_used():
    """Another seed is another start and other probes. Would miss: a seed that only one of them uses."""
    operator = planted(spread(50, -1, 1))
    first, again, other = (extreme_eigenvalues(operator, 4, 1e-9, seed).values for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    first, again, other = (trace(operator, 4, seed).value for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
