"""One step of each strategy against a trusted implementation or a closed form."""

from typing import get_args

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nonconvex.config import StrategyName
from nonconvex.schedules import cosine
from nonconvex.strategies import STRATEGIES, strategy_class
from nonconvex.strategies.base import Compose, value_and_gradient
from nonconvex.strategies.clipping import Clipping
from nonconvex.strategies.ema import Ema
from nonconvex.strategies.restarts import Restarts
from nonconvex.strategies.sam import Sam
from nonconvex.strategies.sgd_noise import SgdNoise
from nonconvex.strategies.swa import Swa
from nonconvex.strategies.warmup import Warmup

CURVATURE = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)


def quadratic(params):
    """(E,) losses ½ Σ h w²: gradient h w, so every strategy has a closed form."""
    return 0.5 * (CURVATURE * params["w"] ** 2).sum(1)


def start():
    return {"w": torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.1]], dtype=torch.float64)}


def test_sam_is_the_gradient_at_the_worst_neighbour():
    """The perturbation is normalised over all parameters of one member; the loss is the unperturbed one."""
    params, radius = start(), 0.05
    losses, grads = Sam(radius).gradients(params, quadratic)
    g = CURVATURE * params["w"]
    expected = CURVATURE * (params["w"] + radius * g / g.norm(dim=1, keepdim=True))
    torch.testing.assert_close(grads["w"], expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(losses, quadratic(params))


def test_sam_of_radius_zero_is_plain_descent():
    """A perturbation that is applied even when it should vanish."""
    losses, grads = Sam(0.0).gradients(start(), quadratic)
    plain_losses, plain = value_and_gradient(start(), quadratic)
    assert torch.equal(grads["w"], plain["w"]) and torch.equal(losses, plain_losses)


def test_clipping_equals_torch_member_by_member():
    """A norm taken over the whole cohort, or per tensor, instead of per member."""
    grads = {"a": torch.randn(3, 4, 5, dtype=torch.float64) * 2, "b": torch.randn(3, 2, dtype=torch.float64) * 0.01}
    clipped = Clipping(max_norm=1.5).before_step(grads, [0, 1, 2], 0)
    for e in range(3):
        parts = [nn.Parameter(grads[name][e].clone()) for name in grads]
        for part in parts:
            part.grad = part.detach().clone()
        nn.utils.clip_grad_norm_(parts, 1.5)
        for name, part in zip(grads, parts, strict=True):
            torch.testing.assert_close(clipped[name][e], part.grad, rtol=1e-12, atol=0)


def walk(strategy, steps):
    """The weights after each of `steps` random moves, and the strategy's memory of them."""
    generator, state, seen = torch.Generator().manual_seed(1), {}, []
    strategy = strategy.bind(steps)
    params = start()
    for step in range(steps):
        params = {"w": params["w"] + torch.randn(2, 3, generator=generator, dtype=torch.float64)}
        state = strategy.after_step(state, step, params)
        seen.append(params["w"])
    return seen, strategy.evaluation_params(state, params)["w"]


def averaged(seen, **options):
    """torch's own average of the first member's weights."""
    module = nn.Linear(3, 1, bias=False).double()
    average = AveragedModel(module, **options)
    for weights in seen:
        module.weight.data = weights[:1].clone()
        average.update_parameters(module)
    return average.module.weight[0].detach()


def test_swa_equals_torch():
    """A wrong count, a wrong start, or a skipped iterate."""
    seen, ours = walk(Swa(start=0.5, every=2), 20)
    torch.testing.assert_close(ours[0], averaged(seen[10::2]), rtol=1e-12, atol=1e-12)


def test_swa_before_its_start_is_the_last_iterate():
    seen, ours = walk(Swa(start=0.5).bind(100), 10)
    torch.testing.assert_close(walk(Swa(start=0.99, every=1), 3)[1], walk(Swa(start=0.99), 3)[0][-1])
    assert seen[-1].shape == ours.shape


def test_ema_equals_torch():
    """A decay applied to the wrong term, or an average that starts from zero."""
    seen, ours = walk(Ema(decay=0.9), 15)
    torch.testing.assert_close(ours[0], averaged(seen, multi_avg_fn=get_ema_multi_avg_fn(0.9)), rtol=1e-12, atol=1e-12)


def test_noise_has_the_stated_length_and_depends_on_seed_and_step_alone():
    """A draw shared between members, repeated between steps, or changed by the neighbours in a cohort."""
    grads = {"a": torch.randn(2, 50, 40, dtype=torch.float64), "b": torch.ones(2, 10, dtype=torch.float64)}
    noise = lambda seeds, step: {  # noqa: E731
        name: value - grads[name] for name, value in SgdNoise(2.0).before_step(grads, seeds, step).items()
    }
    first = noise([3, 4], 7)
    length = sum(value.flatten(1).square().sum(1) for value in first.values()).sqrt()
    size = sum(value.flatten(1).square().sum(1) for value in grads.values()).sqrt()
    assert torch.all((length / size - 2).abs() < 0.15)
    assert torch.equal(noise([3, 9], 7)["a"][0], first["a"][0])
    assert not torch.allclose(noise([3, 4], 8)["a"][0], first["a"][0])
    unit = lambda member: first["a"][member].flatten() / first["a"][member].norm()  # noqa: E731
    assert abs(float(unit(0) @ unit(1))) < 0.1


def test_wrapping_strategies_change_the_schedule_only():
    """Warm-up that does not reach the peak, or restarts that do not end with the run."""
    warm, again = Warmup(0.1).wrap(cosine)(100), Restarts(3, 2).wrap(cosine)(70)
    assert [warm(t) for t in (0, 4)] == pytest.approx([0.1 * cosine(100)(0), 0.5 * cosine(100)(4)])
    assert [warm(t) for t in (9, 50)] == [cosine(100)(9), cosine(100)(50)]
    assert [again(t) for t in (0, 10, 30)] == [1.0, 1.0, 1.0] and again(69) < 0.01


def test_compose_applies_all_and_refuses_two_owners():
    """Last-one-wins, the way two averages would silently cancel."""
    both = Compose(Clipping(1.0), Ema(0.9)).bind(10)
    grads = both.before_step({"w": torch.full((1, 4), 10.0)}, [0], 0)
    assert float(grads["w"].norm()) == pytest.approx(1.0, abs=1e-5)
    assert set(both.after_step({}, 0, start())) == {"ema.w"}
    assert both.evaluation_params(both.after_step({}, 0, start()), {"w": None})["w"] is not None
    assert Compose(Sam(), Ema()).evaluations == 2
    with pytest.raises(ValueError, match="evaluation_params has two owners: Swa, Ema"):
        Compose(Swa(), Ema())


def test_names_match_the_configuration():
    assert set(get_args(StrategyName)) == set(STRATEGIES)
    with pytest.raises(ValueError, match="unknown strategy 'sma'; known: none, sgd_noise"):
        strategy_class("sma")
