"""The objective and the operators against closed forms, finite differences and dense Hessians."""

import pytest
import torch
from curvature_oracles import Linear, assert_same, dense, doubled, half_square, plain_loss, quadratic, weighted_square
from torch.autograd import grad

from nonconvex.losses import cross_entropy, squared_error
from nonconvex.measure.estimate import gaussian
from nonconvex.measure.objective import Objective, shared
from nonconvex.measure.operators import GaussNewton, Hessian, Preconditioned
from nonconvex.models.mlp import Mlp
from nonconvex.models.resnet import ResNet
from nonconvex.models.stacked import Stacked, select
from nonconvex.models.transformer import Transformer


def mlp():
    return Mlp(classes=3, inputs=4, widths=(5,), activation="tanh")


def resnet():
    return ResNet(classes=3, dimensions=1, depth=8, width=2)


def transformer():
    return Transformer(classes=5, context=4, width=4, layers=1, heads=2, activation="gelu")


def signals(count, length=4, classes=3):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, length, dtype=torch.float64, generator=generator)
    return x, torch.randint(classes, (count,), generator=generator)


def text(count, length=4, classes=5):
    tokens = torch.randint(classes, (count, length + 1), generator=torch.Generator().manual_seed(3))
    return tokens[:, :-1], tokens[:, 1:]


BEDS = [(mlp, signals(9)), (resnet, signals(10, length=8)), (transformer, text(6))]


def mlp_bed(members=2, count=9, size=None, loss=cross_entropy, free=None):
    network, params = doubled(mlp, members)
    return Objective(network, loss, shared(*signals(count), size), {}, free), params


def reference(objective, params, member, statistics=None):
    """The gradient of one member, differentiable, and the point it is at; no stacking and no batches."""
    x, y = (part[0] for part in objective.batches[0])
    loss, point = plain_loss(objective.network.module, params, member, x, y, statistics)
    point.requires_grad_()
    return grad(loss(point), point, create_graph=True)[0], point


def jacobian(outputs, inputs):
    """Row by row."""
    return torch.stack([grad(one, inputs, retain_graph=True)[0] for one in outputs.flatten()])


def assert_products_same(objective, params, statistics=None):
    """Three products of every member's Hessian; all columns of a network would take seconds."""
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(2, 3, objective.flat(params).shape[1], dtype=torch.float64, generator=generator)
    found = Hessian(objective, params) @ probes
    for member in range(2):
        gradient, point = reference(objective, params, member, statistics)
        expected = [grad(gradient @ probe, point, retain_graph=True)[0] for probe in probes[member]]
        assert_same(found[member], torch.stack(expected))


@pytest.mark.parametrize("keep_graph", [True, False])
def test_hessian_of_an_mlp(keep_graph):
    """Would miss: an error in torch's own second derivatives, which both sides use (see the next test)."""
    objective, params = mlp_bed()
    found = dense(Hessian(objective, params, keep_graph))
    for member in range(2):
        assert_same(found[member], jacobian(*reference(objective, params, member)))


@pytest.mark.parametrize("build, data", BEDS)
def test_products_are_differences_of_gradients(build, data):
    """(g(w + hv) - g(w - hv)) / 2h has no second derivative. Would miss: an error that gradients share."""
    network, params = doubled(build, 2)
    objective = Objective(network, cross_entropy, shared(*data))
    point = objective.flat(params)
    v = torch.randn(point.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ahead, behind = (objective.gradients(objective.at(params, point + h * v)) for h in (1e-6, -1e-6))
    assert_same(Hessian(objective, params) @ v, (ahead - behind) / 2e-6, 1e-6)


def test_hessian_with_fixed_statistics():
    """Evaluation mode: the statistics are constants of the weights. Would miss: wrong statistics."""
    network, params = doubled(resnet, 2)
    x, y = signals(10, length=8)
    statistics = network.statistics(params, [x.expand(2, *x.shape)])
    objective = Objective(network, cross_entropy, shared(x, y), statistics)
    assert_products_same(objective, params, statistics)


def test_hessian_through_batch_statistics():
    """Training mode: the statistics depend on the weights, and the two modes must not be the same number."""
    network, params = doubled(resnet, 2)
    x, y = signals(10, length=8)
    training = Objective(network, cross_entropy, shared(x, y))
    assert_products_same(training, params)
    statistics = network.statistics(params, [x.expand(2, *x.shape)])
    fixed = Objective(network, cross_entropy, shared(x, y), statistics)
    assert_same(fixed.losses(params), training.losses(params))  # one batch: the same function value ...
    vector = gaussian(training.flat(params), 0, "")
    found, other = Hessian(training, params) @ vector, Hessian(fixed, params) @ vector
    assert (found - other).abs().max() > 0.01 * found.abs().max()  # ... another curvature


def test_hessian_through_attention():
    """Would miss: an error in the mean over positions that cross_entropy and F.cross_entropy share."""
    network, params = doubled(transformer, 2)
    objective = Objective(network, cross_entropy, shared(*text(6)), {})
    assert_products_same(objective, params)


def test_linear_regression_is_the_second_moment():
    """H = XᵀX / n at every w. Would miss nothing that changes the factor: reduction, batches, members."""
    x, _ = signals(7)
    objective = Objective(Stacked(Linear(4)), half_square, shared(x, x[:, 0], 3), {})
    params = {"w": torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}
    expected = (x.T @ x / 7).expand(3, 4, 4)
    assert_same(dense(Hessian(objective, params)), expected)
    assert_same(dense(GaussNewton(objective, params)), expected)
    residual = params["w"] @ x.T - x[:, 0]
    assert_same(objective.losses(params), 0.5 * residual.square().mean(1))
    assert_same(objective.gradients(params), residual @ x / 7)


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
@pytest.mark.parametrize("keep_graph", [True, False])
def test_gauss_newton_is_the_jacobian_sandwich(loss, keep_graph):
    """JᵀH_out J with J dense and H_out from its formula. Would miss: wrong logits, which J shares."""
    objective, params = mlp_bed(loss=loss)
    x, _ = (part[0] for part in objective.batches[0])
    found = dense(GaussNewton(objective, params, keep_graph))
    for member in range(2):
        one = select(params, [member])
        point = objective.flat(one).requires_grad_()
        logits = objective.network(objective.at(one, point), x[None], {})[0]
        slope, p = jacobian(logits, point).view(*logits.shape, -1), logits.softmax(-1)
        inner = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        inner = inner if loss is cross_entropy else torch.eye(3).double().expand_as(inner)
        expected = torch.einsum("bcp,bcd,bdq->pq", slope, inner, slope) / len(x)
        assert_same(found[member], expected)
        assert torch.linalg.eigvalsh(found[member])[0] > -1e-12


def test_gauss_newton_is_not_the_hessian_of_a_curved_network():
    """Would miss: a residual term that vanishes at this point by accident (the two differ by it)."""
    objective, params = mlp_bed()
    difference = dense(Hessian(objective, params)) - dense(GaussNewton(objective, params))
    assert (difference.abs().amax((1, 2)) > 1e-3).all()


@pytest.mark.parametrize("size", [1, 4, 5, 8])
def test_ragged_batches_equal_the_full_batch(size):
    """9 examples in batches of 4, 4, 1 or 8, 1: an unweighted mean of batch means is off by the last one."""
    whole, params = mlp_bed()
    cut, _ = mlp_bed(size=size)
    vectors = torch.randn(whole.flat(params).shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_same(cut.losses(params), whole.losses(params))
    assert_same(cut.gradients(params), whole.gradients(params))
    for operator in (Hessian, GaussNewton):
        assert_same(operator(cut, params) @ vectors, operator(whole, params) @ vectors)
    assert cut.fingerprint() == whole.fingerprint()


def test_batch_statistics_depend_on_the_batches_and_say_so():
    """In training mode the batch size is part of the definition; the label must tell it."""
    network, params = doubled(resnet, 1)
    x, y = signals(10, length=8)
    modes = [Objective(network, cross_entropy, shared(x, y, size)) for size in (5, 10)]
    assert [mode.normalisation for mode in modes] == ["batch-5", "batch-10"]
    assert (modes[0].losses(params) - modes[1].losses(params)).abs() > 1e-3
    statistics = network.statistics(params, [x[None]])
    assert Objective(network, cross_entropy, shared(x, y, 5), statistics).normalisation == "recomputed"
    assert mlp_bed()[0].normalisation == "none"


def test_frozen_parameters_leave_a_diagonal_block():
    """The block of the full Hessian. Would miss: a block that is wrong in the full Hessian too."""
    names = ["head.weight", "hidden.0.bias"]
    objective, params = mlp_bed()
    part, _ = mlp_bed(free=names)
    at = {name: i for i, name in enumerate(params)}
    owner = torch.cat([torch.full_like(value[0].flatten(), at[name]) for name, value in params.items()])
    free = sum(owner == at[name] for name in names).bool()
    for operator in (Hessian, GaussNewton):
        assert_same(dense(operator(part, params)), dense(operator(objective, params))[:, free][:, :, free])
    assert_same(part.gradients(params), objective.gradients(params)[:, free])
    assert part.parameters == "head.weight hidden.0.bias" and objective.parameters == "all"


def test_probes_are_single_products():
    """(E, k, P) at once equals one by one. Would miss: both forms sharing a wrong product."""
    objective, params = mlp_bed()
    operator = Hessian(objective, params)
    probes = torch.randn(2, 3, operator.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_same(operator @ probes, torch.stack([operator @ probes[:, i] for i in range(3)], dim=1))


def test_a_member_alone_equals_the_member_in_a_cohort():
    """Each with data of its own, beside a NaN neighbour. Would miss: what `select` itself loses."""
    network, params = doubled(mlp, 3)
    x, y = signals(12)
    batches = [(x.view(3, 4, 4), y.view(3, 4))]
    params["head.bias"][1] = torch.nan
    objective = Objective(network, cross_entropy, batches, {})
    for operator in (Hessian, GaussNewton):
        found = dense(operator(objective, params))
        for member in (0, 2):
            alone = dense(operator(objective.select([member]), select(params, [member])))
            assert_same(found[member], alone[0])
    assert len({objective.fingerprint(member) for member in range(3)}) == 3


def test_a_loss_without_curvature_has_a_zero_hessian():
    """The gradient of a linear loss has no graph; a naive second derivative raises."""

    def linear(logits, targets):
        return logits[..., 0] * targets

    x, _ = signals(7)
    objective = Objective(Stacked(Linear(4)), linear, shared(x, x[:, 1]), {})
    params = {"w": torch.ones(2, 4, dtype=torch.float64)}
    for operator in (Hessian, GaussNewton):
        assert not dense(operator(objective, params)).any()


def test_preconditioned():
    """D^(-1/2) H D^(-1/2) for H = diag(2, -8), D = diag(4, 16) is diag(1/2, -1/2)."""
    objective, params = quadratic(torch.tensor([2.0, -8.0]), torch.ones(1, 2))
    operator = Preconditioned(Hessian(objective, params), torch.tensor([[4.0, 16.0]]))
    assert_same(dense(operator), torch.diag(torch.tensor([0.5, -0.5]))[None], 1e-6)


def test_single_precision_agrees_with_double():
    """Would miss: a loss of digits that only larger networks show."""
    objective, params = mlp_bed()
    x, y = signals(9)
    single, _ = doubled(mlp, 1)
    single.module.float()
    float32 = Objective(single, cross_entropy, shared(x.float(), y), {})
    found = dense(Hessian(float32, {name: value.float() for name, value in params.items()}))
    assert_same(found.double(), dense(Hessian(objective, params)), 1e-5)


def test_the_fingerprint_changes_with_the_examples():
    """Would miss: a change of anything that is not in x or y."""
    (x, y), network = signals(9), Stacked(Linear(4))
    base, *others = (
        Objective(network, weighted_square, shared(*data)).fingerprint()
        for data in ((x, y), (x.flip(0), y), (x, y + 1), (x[:8], y[:8]), (x.float(), y))
    )
    assert base not in others and len(base) == 64


def test_impossible_objectives_are_refused_by_name():
    """Evaluation mode with missing statistics would silently use mean 0 and variance 1."""
    network, _ = doubled(resnet, 1)
    data = shared(*signals(4, length=8))
    with pytest.raises(ValueError, match=r"statistics that batch norm needs, norm\.mean.* not among none"):
        Objective(network, cross_entropy, data, {})
    with pytest.raises(ValueError, match=r"free parameters head\.wieght are not among .*head\.weight"):
        Objective(network, cross_entropy, data, free=["head.wieght"])
    with pytest.raises(ValueError, match="needs examples"):
        Objective(network, cross_entropy, [])
