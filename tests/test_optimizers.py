"""Optimizers against torch.optim, member by member."""

import pytest
import torch

from nonconvex.optimizers import OPTIMIZERS, AdamW, Sgd

CASES = [
    (Sgd(), lambda p, lr: torch.optim.SGD(p, lr)),
    (Sgd(momentum=0.9, weight_decay=0.01), lambda p, lr: torch.optim.SGD(p, lr, 0.9, weight_decay=0.01)),
    (Sgd(momentum=0.9, nesterov=True), lambda p, lr: torch.optim.SGD(p, lr, 0.9, nesterov=True)),
    (AdamW(weight_decay=0.1), lambda p, lr: torch.optim.AdamW(p, lr, weight_decay=0.1)),
    (AdamW(0.8, 0.95, 1e-6), lambda p, lr: torch.optim.AdamW(p, lr, (0.8, 0.95), 1e-6)),
]


@pytest.mark.parametrize(("ours", "theirs"), CASES)
def test_equals_torch(ours, theirs):
    """Ten steps with changing rates, two members at different rates; misses only what torch.optim itself gets wrong."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    params = {"w": draw(2, 3, 4), "b": draw(2, 3)}
    rates = torch.tensor([0.1, 0.02], dtype=torch.float64)
    copies = [{name: value[e].clone().requires_grad_() for name, value in params.items()} for e in range(2)]
    references = [theirs(list(copy.values()), 1.0) for copy in copies]
    state = ours.init(params)
    for step in range(10):
        grads = {"w": draw(2, 3, 4), "b": draw(2, 3)}
        now = rates * (1 - step / 20)
        for e in range(2):
            references[e].param_groups[0]["lr"] = float(now[e])
            for name, value in copies[e].items():
                value.grad = grads[name][e].clone()
            references[e].step()
        params, state = ours.update(params, grads, state, now, step)
    for e in range(2):
        for name, value in copies[e].items():
            torch.testing.assert_close(params[name][e], value.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_leaves_its_arguments_alone(name):
    """An in-place update would change a checkpoint that someone else still holds."""
    optimizer = OPTIMIZERS[name]()
    params, grads = {"w": torch.ones(2, 3)}, {"w": torch.ones(2, 3)}
    state = optimizer.init(params)
    before = {kind: {k: v.clone() for k, v in part.items()} for kind, part in state.items()}
    optimizer.update(params, grads, state, torch.tensor([0.1, 0.1]), 0)
    assert torch.equal(params["w"], torch.ones(2, 3)) and torch.equal(grads["w"], torch.ones(2, 3))
    assert all(torch.equal(state[kind]["w"], before[kind]["w"]) for kind in state)
