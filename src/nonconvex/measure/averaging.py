"""One network from several by averaging their weights, and their ensemble, which averages what they predict.

Batch-norm statistics are recomputed at every member and at the average; an average of the members' statistics
belongs to none of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from nonconvex.evaluation import chunks, recomputed, shared
from nonconvex.losses import errors
from nonconvex.measure.barriers import Examples, Loss
from nonconvex.models.stacked import Params, Stacked
from nonconvex.models.stacked import members as count


@dataclass(frozen=True)
class Averages:
    """Means over examples, in float64, of E groups of m networks: (loss, error) along the axis before the last."""

    members: Tensor  # (m, 2, E)
    average: Tensor  # (2, E), of the network with averaged weights
    ensemble: Tensor  # (2, E)


@torch.no_grad()
def averages(network: Stacked, loss: Loss, group: Sequence[Params], inputs: Tensor, examples: Examples) -> Averages:
    """`group` holds the m members of E groups, each (E, ...); statistics over `inputs` (N, ...), scores on `examples`.

    The ensemble's loss is that of its logarithmic probabilities: -ln p(y|x) for cross-entropy.
    """
    networks, e = [*group, weight_average(group)], count(group[0])
    statistics = [recomputed(network, params, inputs) for params in networks]
    sums = torch.zeros(len(networks) + 1, 2, e, dtype=torch.float64)
    for x, y in chunks(*examples):
        logits = [network(p, shared(x, e), s) for p, s in zip(networks, statistics, strict=True)]
        logits.append(mixture(logits[:-1]))
        sums += torch.stack([_sums(one, shared(y, e), loss) for one in logits]).double().cpu()
    means = sums / len(examples[0])
    return Averages(means[:-2], means[-2], means[-1])


def weight_average(group: Sequence[Params]) -> Params:
    """(1/m) sum_i theta_i."""
    return {name: torch.stack([params[name] for params in group]).mean(0) for name in group[0]}


def mixture(logits: Sequence[Tensor]) -> Tensor:
    """ln (1/m) sum_i softmax(z_i), whose own log-softmax it is."""
    return torch.stack([one.log_softmax(-1) for one in logits]).logsumexp(0) - log(len(logits))


def _sums(logits: Tensor, targets: Tensor, loss: Loss) -> Tensor:
    """(2, E): sums over examples of loss and error."""
    return torch.stack([measure(logits, targets).sum(1) for measure in (loss, errors)])
