"""The density against spectra that are known, and against the rule's own exactness."""

import pytest
import torch
from curvature_oracles import Dense, rotation

from nonconvex.measure.density import density
from nonconvex.measure.estimate import gaussian

EIGENVALUES = torch.tensor([-3.0, -1.0, *[0.0] * 5, 0.02, 1.0, 1.0, 2.0, 7.0], dtype=torch.float64)


def planted(eigenvalues: torch.Tensor) -> Dense:
    q = rotation(len(eigenvalues))
    return Dense((q.T * eigenvalues @ q)[None])


def test_a_full_rule_is_the_spectral_measure_of_its_probe():
    """Gauss quadrature with m nodes integrates polynomials up to degree 2m - 1: moments v' A^k v of every probe."""
    operator = planted(EIGENVALUES)
    found = density(operator, iterations=4, probes=3)
    for probe in range(3):
        v = gaussian(operator.like, 0, f"density {probe}")[0]
        v = v / v.norm()
        for power in range(8):
            moment = v @ torch.linalg.matrix_power(operator.matrices[0], power) @ v
            rule = (found.weights[0, probe] * found.nodes[0, probe] ** power).sum()
            torch.testing.assert_close(rule, moment, rtol=1e-8, atol=1e-8)


def test_masses_are_the_shares_of_eigenvalues():
    found = density(planted(EIGENVALUES), iterations=12, probes=400)
    for low, high in ((-0.05, 0.05), (-10, -0.5), (0.5, 1.5), (-10, 10)):
        mass = found.mass(low, high)
        exact = ((low <= EIGENVALUES) & (high >= EIGENVALUES)).double().mean()
        assert (mass.value[0] - exact).abs() <= 3 * mass.standard_error[0] + 1e-12
        assert mass.standard_error[0] < 0.02


def test_the_standard_error_of_a_full_rule_is_that_of_its_distribution():
    """Over many probes the sample spread and the Beta distribution's agree; over few it is never below the latter."""
    found = density(planted(EIGENVALUES), iterations=12, probes=1500).mass(6.9, 7.1)
    expected = (2 * (1 / 12) * (11 / 12) / 14) ** 0.5 / 1500**0.5
    assert abs(found.standard_error[0] / expected - 1) < 0.15
    few = density(planted(EIGENVALUES), iterations=12, probes=2).mass(6.9, 7.1)
    share = few.value[0]
    assert few.standard_error[0] >= (2 * share * (1 - share) / 14 / 2).sqrt() - 1e-12


def test_repeated_eigenvalues_and_the_zero_matrix_exhaust_the_space_without_harm():
    """Weights belong to eigenvalues that are there; what rounding adds has none."""
    eye = density(planted(torch.ones(6, dtype=torch.float64)), iterations=6, probes=5)
    zero = density(Dense(torch.zeros(1, 6, 6, dtype=torch.float64)), iterations=6, probes=5)
    torch.testing.assert_close(eye.mass(1 - 1e-9, 1 + 1e-9).value, torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(zero.mass(0, 0).value, torch.ones(1, dtype=torch.float64))


def test_members_do_not_meet():
    matrices = torch.stack([torch.eye(4), -torch.eye(4)]).double()
    found = density(Dense(matrices), iterations=4, probes=2)
    torch.testing.assert_close(found.mass(0.9, 1.1).value, torch.tensor([1.0, 0.0], dtype=torch.float64))


def test_one_probe_has_no_standard_error():
    with pytest.raises(ValueError, match="at least 2 probes, found 1"):
        density(planted(EIGENVALUES), probes=1)
