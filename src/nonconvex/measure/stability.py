"""Where an optimizer stops being stable on a quadratic, and the curvature that has to be held against it.

On L(w) = λ w² / 2 a full-batch optimizer with a fixed rate η contracts for λ below a threshold and grows above it.
Gradient descent: 2/η (Cohen et al. 2021). With momentum and with Adam's preconditioner: Cohen et al. 2022; the
algebra is in the comments, and tests/test_edge_of_stability.py runs every optimizer on either side of its threshold.
"""

from torch import Tensor

from nonconvex.measure.estimate import Estimate
from nonconvex.measure.objective import Objective
from nonconvex.measure.operators import Hessian, Preconditioned
from nonconvex.measure.spectrum import extreme_eigenvalues
from nonconvex.models.stacked import flatten
from nonconvex.optimizers import AdamW, Sgd
from nonconvex.train import State


def threshold(optimizer: Sgd | AdamW, rates: Tensor) -> Tensor:
    """(E,) largest stable curvature at constant rates (E,), which for AdamW is that of the preconditioned Hessian.

    ValueError for an optimizer with weight decay, which moves the threshold.
    """
    if optimizer.weight_decay:
        raise ValueError(f"weight_decay is {optimizer.weight_decay}; thresholds are known for 0")
    return _per_rate(optimizer) / rates


def _per_rate(optimizer: Sgd | AdamW) -> float:
    """c of the threshold c / η: where a root of the recursion's characteristic polynomial reaches -1."""
    if isinstance(optimizer, AdamW):
        # m <- b m + (1 - b) g;  w <- w - η m / D: heavy ball at the rate (1 - b) η in the metric D
        return (2 + 2 * optimizer.beta1) / (1 - optimizer.beta1)
    beta = optimizer.momentum
    if optimizer.nesterov:
        # z² - (1 + b)(1 - ηλ) z + b (1 - ηλ) = 0 at z = -1
        return (2 + 2 * beta) / (1 + 2 * beta)
    # z² - (1 + b - ηλ) z + b = 0 at z = -1
    return 2 + 2 * beta


def preconditioner(optimizer: AdamW, state: State) -> Tensor:
    """D (E, P), what AdamW's last update divided the gradients' running mean by.

    ValueError before the first update, when there is none.
    """
    if not state.step:
        raise ValueError("step is 0; a preconditioner exists from step 1 on")
    second = flatten(state.optimizer["second"])
    # D = (1 - b1^t) (sqrt(s / (1 - b2^t)) + eps)
    root = (second / (1 - optimizer.beta2**state.step)).sqrt()
    return (1 - optimizer.beta1**state.step) * (root + optimizer.epsilon)


def sharpness(
    objective: Objective, optimizer: Sgd | AdamW, state: State, iterations: int = 10, tolerance: float = 1e-2
) -> Estimate:
    """λ_max (E,) of the Hessian at the state's weights, of D^(-1/2) H D^(-1/2) for AdamW."""
    operator = Hessian(objective, state.params)
    if isinstance(optimizer, AdamW):
        operator = Preconditioned(operator, preconditioner(optimizer, state))
    return extreme_eigenvalues(operator, iterations, tolerance, ends="largest").largest
