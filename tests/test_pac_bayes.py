"""PAC-Bayes: inversion and bounds, the randomised network, draws from the population, the sign of every contrast."""

from math import comb, log, sqrt

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch.func import functional_call

from nonconvex.contrasts import pac_bayes as contrasts
from nonconvex.measure import pac_bayes as bounds
from nonconvex.measure.gibbs import gibbs_errors, gibbs_logits, rescaled
from nonconvex.models.mlp import Mlp
from nonconvex.models.stacked import stack
from nonconvex.studies import bound_family, population
from nonconvex.studies.pac_bayes import least
from nonconvex.study_settings.properties import PacBayes

SHARE = st.floats(0, 1)


def kl(q, p):
    parts = [(q, p), (1 - q, 1 - p)]
    return sum(a * log(a / b) for a, b in parts if a > 0)


@pytest.mark.parametrize(
    ("risk", "divergence", "examples", "inverted", "pinsker"),
    [
        (0.05, 100, 4000, 0.116979, 0.166101),
        (0.05, 1000, 4000, 0.341386, 0.404936),
        (0.05, 1000, 50000, 0.106058, 0.150454),
        (0, 100, 4000, 0.026599, 0.116101),
    ],
)
def test_reference_values(risk, divergence, examples, inverted, pinsker):
    assert bounds.langford_seeger(risk, divergence, examples, 0.05) == pytest.approx(inverted, abs=6e-7)
    assert bounds.mcallester(risk, divergence, examples, 0.05) == pytest.approx(pinsker, abs=6e-7)


@given(st.floats(0, 0.999), st.floats(1e-6, 3))
def test_inverse_is_the_root(q, limit):
    found = float(bounds.kl_inverse(q, limit))
    if kl(q, 1 - 1e-12) > limit:
        assert found == pytest.approx(brentq(lambda p: kl(q, p) - limit, max(q, 1e-300), 1 - 1e-12), abs=1e-9)
    assert q <= found <= 1


@given(SHARE, st.floats(0, 5), st.floats(0, 5))
def test_inverse_grows_and_is_tighter_than_pinsker(q, a, b):
    low, high = bounds.kl_inverse(q, sorted((a, b)))
    assert low <= high <= 1
    assert low <= q + sqrt(min(a, b) / 2) + 1e-7
    assert bounds.kl_inverse(q, 0.0) == pytest.approx(q, abs=1e-7)


def test_impossible_arguments_are_refused():
    for q, limit in ((-0.1, 1), (1.1, 1), (0.5, -1), (np.nan, 1)):
        with pytest.raises(ValueError, match="allowed"):
            bounds.kl_inverse(q, limit)


@pytest.mark.parametrize(("draws", "p"), [(40, 0.1), (40, 0.5), (200, 0.03)])
def test_hold_out_bound_fails_no_more_often_than_it_says(draws, p):
    """By summing the binomial distribution: every count whose bound lies below p."""
    counts = np.arange(draws + 1)
    below = bounds.from_draws(counts / draws, draws, 0.05) < p
    probability = sum(comb(draws, k) * p**k * (1 - p) ** (draws - k) for k in counts[below])
    assert 0 < probability <= 0.05


def test_grid_pays_for_its_size_and_for_the_draws():
    shares, sigma = np.array([[0.2, 0.25, 0.3]]), np.array([0.1, 0.2, 0.4])
    found = bounds.over_grid(shares, [0.8], sigma, 1000, 5000, 0.05, 0.01)
    for i in range(3):
        risk = brentq(lambda p: kl(shares[0, i], p) - log(3 / 0.01) / 5000, shares[0, i], 0.99)  # noqa: B023
        limit = (0.8 / (2 * sigma[i] ** 2) + log(2 * sqrt(1000) * 3 / 0.04)) / 1000
        assert found[0, i] == pytest.approx(brentq(lambda p: kl(risk, p) - limit, risk, 0.999999))  # noqa: B023


def networks(count=2, widths=(6, 5)):
    return stack(lambda: Mlp(classes=2, inputs=4, widths=widths, skip=False), range(count))


def inputs(count, seed=0):
    return torch.randn(1, count, 4, generator=torch.Generator().manual_seed(seed))


def test_drawn_outputs_are_distributed_as_with_drawn_weights():
    """Against networks whose weights were really drawn: mean, spread and share of answers at one input."""
    network, params = networks(1)
    sigma, draws, x = 0.3, 40_000, inputs(1)
    generator = torch.Generator().manual_seed(1)
    found = gibbs_logits(params, x.expand(1, draws, 4), sigma, generator)[0]
    drawn = {name: p + sigma * torch.randn(draws, *p.shape[1:], generator=generator) for name, p in params.items()}
    direct = network(drawn, x.expand(draws, 1, 4))[:, 0]
    assert (found.mean(0) - direct.mean(0)).abs().max() < 5 * direct.std(0).max() / sqrt(draws)
    torch.testing.assert_close(found.std(0), direct.std(0), rtol=0.03, atol=0)
    torch.testing.assert_close(torch.cov(found.T), torch.cov(direct.T), rtol=0.1, atol=0.02)
    assert abs((found.argmax(-1) == 0).double().mean() - (direct.argmax(-1) == 0).double().mean()) < 0.02


def test_no_noise_gives_the_network_and_each_member_its_own_deviation():
    network, params = networks(2)
    x, generator = inputs(2500), torch.Generator().manual_seed(2)
    shared = x.expand(2, -1, -1)
    torch.testing.assert_close(gibbs_logits(params, shared, 0.0, generator), network(params, shared))
    y = network(params, shared).argmax(-1)
    errors = gibbs_errors(params, shared, y, torch.tensor([0.0, 1.0]), 2, generator)
    assert errors[0] == 0 and errors[1] > 0.1


def test_errors_are_means_over_examples_and_repeats():
    _, params = networks(1)
    x, y = inputs(1500), torch.zeros(1, 1500, dtype=torch.int64)
    both = gibbs_errors(params, x, y, 0.5, 3, torch.Generator().manual_seed(0))
    other = gibbs_errors(params, x, 1 - y, 0.5, 3, torch.Generator().manual_seed(0))
    assert both + other == 1


def test_rescale_changes_weights_and_no_output():
    network, params = networks(3)
    params = {name: value + 0.1 for name, value in params.items()}  # biases start at zero
    x = inputs(20).expand(3, -1, -1)
    changed = rescaled(params, (0.25, 1.0, 8.0))
    torch.testing.assert_close(network(changed, x), network(params, x), rtol=1e-4, atol=1e-6)
    assert (changed["hidden.0.weight"][0] / params["hidden.0.weight"][0]).allclose(torch.tensor(0.25))
    assert changed["hidden.0.weight"][1].equal(params["hidden.0.weight"][1])
    with pytest.raises(ValueError, match="factors > 0"):
        rescaled(params, (1.0, -1.0, 1.0))


POOL = torch.arange(50 * 4.0).view(50, 4), torch.arange(50) % 2


def test_draws_are_independent_repeatable_and_from_the_pool():
    data = population.drawn(*POOL, [(0, 0), (0, 1), (0, 0)], 5000)
    assert data.x[0].equal(data.x[2]) and not data.x[0].equal(data.x[1])
    index = (data.x[..., 0] / 4).long()
    assert (index % 2).equal(data.y)
    counts = torch.bincount(index[0], minlength=50)
    assert counts.min() > 60 and counts.max() < 140  # with replacement, 100 each
    shuffled = population.drawn(*POOL, [(0, 0)], 5000, shuffled=True)
    assert shuffled.x[0].equal(data.x[0])
    assert abs((shuffled.y[0] == data.y[0]).double().mean() - 0.5) < 0.05


def test_minibatches_cut_each_member_s_own_draw():
    data = population.drawn(*POOL, [(1, 0), (1, 1)], 30)
    batches = [data.batch((7, 8), step, 10) for step in range(3)]
    for member in range(2):
        seen = torch.cat([x[member] for x, _ in batches])
        assert seen[:, 0].sort().values.equal(data.x[member, :, 0].sort().values)
    part = data.part(10)
    assert part.x.equal(data.x[:, 10:]) and part.y.shape == (2, 20)


def test_tolerated_deviation_is_where_the_error_crosses():
    grid = (0.1, 0.2, 0.4)
    shares = torch.tensor([[0.0, 0.1, 0.3], [0.0, 0.0, 0.05], [0.5, 0.6, 0.7], [0.0, 0.25, 0.1]]).double()
    sigma, place = bound_family.tolerated(shares, grid, torch.full((4,), 0.2).double())
    expected = torch.tensor([sqrt(0.08), 0.4, 0.1, 0.1 * 2**0.8]).double()
    torch.testing.assert_close(sigma, expected)
    assert place.tolist() == [1, 2, 0, 0]


def test_random_factors_depend_on_the_name_and_stay_in_range():
    chosen = settings()
    keys = [(seed, 8, 16, rate) for seed in range(40) for rate in (0.01, 0.02)]
    factors = [bound_family.random_factor(chosen, key) for key in keys]
    assert len(set(factors)) == len(factors) and factors == [bound_family.random_factor(chosen, key) for key in keys]
    assert 0.25 <= min(factors) < 0.4 and 2.5 < max(factors) <= 4
    assert abs(np.mean(np.log(factors))) < 0.3


def settings(**changes):
    options = {"seeds": (0,), "examples": 40, "draws": 2, "prior_steps": 2, "steps": 2, "rescaled_draws": 1}
    options |= {"deviations": (0.1, 0.3, 1.0), "family_examples": 40, "family_rates": (0.1,), "family_prior_steps": 2}
    options |= {"family_steps": 4, "family_loss": 0.5, "family_check": 2, "family_deviations": (0.1, 0.3)}
    options |= {"shuffled_examples": 20, "curvature_examples": 20}
    return PacBayes(**options | changes)


def test_least_bound_is_the_least_of_the_grid():
    _, params = networks(2)
    prior = {name: value + 0.5 for name, value in params.items()}  # so far that only the largest deviation will do
    x = inputs(300).expand(2, -1, -1)
    y = torch.ones(2, 300, dtype=torch.int64)
    found = least(settings(), population.Draws(x, y), params, prior, torch.Generator().manual_seed(0))
    size = sum(value[0].numel() for value in params.values())
    for i in range(2):
        sigma = found["deviation"][i]
        assert (found["grid_place"][i], sigma) == (2, 1.0)
        divergence = size * 0.5**2 / (2 * sigma**2)
        assert found["divergence"][i] == pytest.approx(divergence, rel=1e-3)
        risk = bounds.from_draws(found["gibbs_error"][i], 600, 0.01 / 3)
        assert found["bound"][i] == pytest.approx(
            float(bounds.langford_seeger(risk, divergence, 300, 0.04 / 3)), rel=1e-4
        )
        assert found["bound"][i] <= found["pinsker"][i]


def test_a_member_computes_what_the_module_does():
    """`answers` and `losses_and_errors` against the module itself."""
    network, params = networks(2)
    data = population.Draws(inputs(30).expand(2, -1, -1), torch.ones(2, 30, dtype=torch.int64))
    one = {name: value[1] for name, value in params.items()}
    logits = functional_call(network.module, one, (data.x[1],))
    assert population.answers(network, params, data.x[0])[1].equal(logits.argmax(-1))
    loss = lambda z, y: z[..., 0] + 0 * y  # noqa: E731
    losses, errors = population.losses_and_errors(network, params, data, loss)
    assert losses[1].item() == pytest.approx(logits[:, 0].mean().item(), rel=1e-5)
    assert errors[1].item() == pytest.approx((logits.argmax(-1) != 1).double().mean().item())


def family(order=1, gap=1, tight=1, seeds=(0, 1, 2), labels="true", form="trained"):
    """Members whose λ_max rises with their place; `order`, `gap`, `tight` say how the others go with it."""
    rows = []
    for seed in seeds:
        for i in range(8):
            rows.append(
                {
                    "labels": labels, "form": form, "seed": seed, "steps": 10, "lambda_max": i + 1.0, "trace": 3.0 * i,
                    "tolerated": 1 - 0.1 * order * i, "bound": min(1, 0.97 + tight * i / 100),
                    "true_error": 0.3 + 0.01 * gap * i, "train_error": 0.1, "train_loss": 0.25, "residual": 0.001 * i,
                    "squared_distance": 1.0, "least_bound": 0.8, "initial_bound": 0.9, "divergence": 50.0 + tight * i,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def draws(bound=0.4, true_error=0.3, holdout=0.35):
    columns = {"seed": [0, 0, 1, 1], "bound": bound, "true_error": true_error, "holdout": holdout, "pinsker": 0.5}
    return pd.DataFrame(
        columns
        | {"gibbs_error": [0.2, 0.4, 0.2, 0.4], "grid_place": [0, 1, 1, 2], "grid_size": 3}
        | {"network_error": 0.2}
    )


def frames(**changes):
    rescaled_bounds = pd.DataFrame(
        {"seed": [0, 1], "bound": 0.4, "rescaled": [0.9, 0.7], "moved": 0.5, "changed_answers": 0.0}
    )
    every = [
        family(),
        family(gap=-1, form="rescaled"),
        family(gap=0, labels="shuffled"),
        family(labels="shuffled", form="rescaled"),
    ]
    return {"draws": draws(), "rescaled": rescaled_bounds, "family": pd.concat(every)} | changes


def means(found, role="claim"):
    rows = pd.DataFrame([row for row in found if row.role == role])
    return rows.groupby("claim").value.mean()


def test_every_contrast_has_the_sign_of_its_wording():
    found = means(contrasts.effects(frames()))
    assert found["pac_bayes.valid.trained"] == pytest.approx(0.05)
    assert found["pac_bayes.nonvacuous.trained"] == pytest.approx(0.1)
    assert found["pac_bayes.nonvacuous.sgd"] == pytest.approx(-0.3)
    assert found["pac_bayes.beyond_holdout.trained"] == pytest.approx(-0.05)
    assert found["pac_bayes.invariant.rescaled"] == pytest.approx(0.4)
    signs = {"robust.lambda_max": -1, "gap.lambda_max": 1, "gap.lambda_max.rescaled": -1, "gap.tolerated": -1}
    signs |= {"gap.bound": 1, "tighter.lambda_max": 1, "tighter.tolerated": -1}
    for claim, sign in signs.items():
        assert found[f"pac_bayes.{claim}"] == pytest.approx(sign), claim


def test_controls_use_shuffled_labels_and_mismatched_members():
    found = contrasts.effects(frames())
    shuffled = means(found, "shuffled_labels")
    assert "pac_bayes.gap.lambda_max" not in shuffled  # a gap that is the same everywhere has no order
    assert shuffled["pac_bayes.gap.lambda_max.rescaled"] == pytest.approx(1)
    many = family(seeds=range(60))
    dealt = contrasts.concordance(many, "lambda_max", "tolerated", mismatched=True)
    assert abs(dealt.mean()) < 0.15 and dealt.std() > 0.15
    assert contrasts.concordance(many, "lambda_max", "tolerated").to_numpy() == pytest.approx(-1)


def test_a_broken_bound_is_seen():
    broken = draws(bound=[0.2, 0.4, 0.4, 0.4])
    assert contrasts.coverage(broken).tolist() == [0.5, 1.0]


def test_bounds_that_are_one_are_ordered_by_their_divergence():
    members = family(tight=1)
    assert (members.bound == 1).sum() > 3
    assert contrasts.concordance(members, "lambda_max", "bound").to_numpy() == pytest.approx(1)


def test_gates_say_what_they_say():
    rescaled_bounds = frames()["rescaled"].assign(changed_answers=[0.0, 0.01])
    half = frames()["family"]
    half = half.assign(bound=half.bound.where(half.lambda_max > 4), steps=half.steps.where(half.lambda_max > 4))
    values = {(r.claim, r.gate): r.value for r in contrasts.gates(frames(rescaled=rescaled_bounds, family=half))}
    assert values["pac_bayes.invariant.rescaled", "same_function"] == 0.01
    assert values["pac_bayes.valid.trained", "interior_deviation"] == 0.5
    assert values["pac_bayes.valid.trained", "check_can_fail"] == 0.5
    assert values["pac_bayes.gap.trace", "trained"] == 0.5
    assert values["pac_bayes.gap.trace", "residual"] == pytest.approx(0.007)
    assert {claim for claim, _ in values} == {row.claim for row in contrasts.effects(frames())}


def test_loss_spread_is_within_seeds():
    members = family().assign(train_loss=lambda rows: 0.2 + 0.1 * rows.seed)
    assert contrasts.loss_spread(members) == pytest.approx(0)
    assert contrasts.loss_spread(members.assign(train_loss=members.lambda_max)) == pytest.approx(sqrt(6) / 4.5)


def test_findings_count_seeds():
    found = {(row.model, row.quantity): row for row in contrasts.findings(frames())}
    assert found["plainly trained", "least bound"].n == 3
    assert found["trained for the bound", "hold-out bound of the prior"].mean == pytest.approx(0.35)
