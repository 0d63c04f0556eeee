"""How much of one classifier's predictions another explains, after Nakkiran et al. (2019).

From the joint counts of true label Y, the network's prediction F and the simple model's prediction L over the same
examples. Two classifiers of some accuracy agree on many examples for the mere reason that both are often right;
`independent` is the agreement that they would have if, given the label, they erred independently, with the same
confusion matrices.
"""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from scipy.optimize import minimize
from scipy.special import log_softmax


@dataclass(frozen=True)
class Agreement:
    """Shares of examples, and `explained`: the share of I(F; Y) that is gone once L is known (not below 0 by much)."""

    agreement: float
    independent: float
    explained: float


def compare(labels: ndarray, network: ndarray, simple: ndarray, classes: int) -> Agreement:
    """The agreement of two classifiers' predictions (N,) on examples with the labels (N,)."""
    joint = counts(labels, network, simple, classes)
    of_label = joint.sum((1, 2))
    seen = of_label > 0
    # Σ_y P(y) Σ_c P(F = c | y) P(L = c | y)
    product = (joint.sum(2) * joint.sum(1)).sum(1)[seen] / of_label[seen]
    total = information(joint.sum(2))
    # (I(F; Y) - I(F; Y | L)) / I(F; Y)
    explained = (total - conditional_information(joint)) / total if total > 0 else np.nan
    return Agreement(float((network == simple).mean()), float(product.sum() / len(labels)), float(explained))


def counts(labels: ndarray, network: ndarray, simple: ndarray, classes: int) -> ndarray:
    """(C, C, C): examples by label, network's prediction and simple model's prediction."""
    flat = (labels * classes + network) * classes + simple
    return np.bincount(flat, minlength=classes**3).reshape(classes, classes, classes)


def information(table: ndarray) -> float:
    """Mutual information in nats of the two axes of a table (A, B) of counts, as Miller & Madow (1955) correct it.

    The plain estimate is too large by about (A - 1)(B - 1) / 2N, of rows and columns that occur.
    """
    n = table.sum()
    rows, columns = table.sum(1), table.sum(0)
    expected = np.outer(rows, columns) / n
    seen = table > 0
    plain = (table[seen] * np.log(table[seen] / expected[seen])).sum() / n
    return float(plain - ((rows > 0).sum() - 1) * ((columns > 0).sum() - 1) / (2 * n))


def conditional_information(joint: ndarray) -> float:
    """I(Y; F | L) in nats from counts (Y, F, L)."""
    parts = [joint[..., c] for c in range(joint.shape[2]) if joint[..., c].sum()]
    return float(sum(part.sum() * information(part) for part in parts) / joint.sum())


def linear_predictions(
    x: ndarray, labels: ndarray, inputs: ndarray, classes: int, decay: float = 1e-4, iterations: int = 500
) -> ndarray:
    """Predictions (M,) on `inputs` of softmax regression on x (N, d) with a bias, fitted in float64 by L-BFGS.

    `decay` times half the squared weights is added to the mean loss, so that there is one solution.
    """
    rows = np.hstack([x, np.ones((len(x), 1))]).astype(float)
    shape, onehot = (rows.shape[1], classes), np.eye(classes)[labels]

    def loss(flat: ndarray) -> tuple[float, ndarray]:
        w = flat.reshape(shape)
        logs = log_softmax(rows @ w, axis=1)
        value = -(logs * onehot).sum() / len(rows) + decay / 2 * np.square(w).sum()
        return value, (rows.T @ (np.exp(logs) - onehot) / len(rows) + decay * w).ravel()

    found = minimize(loss, np.zeros(np.prod(shape)), jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    return (np.hstack([inputs, np.ones((len(inputs), 1))]) @ found.x.reshape(shape)).argmax(1)
