"""Warm restarts of the learning rate, wrapped around any schedule (SGDR, Loshchilov & Hutter 2017, arXiv 1608.03983).

Formula: cycle i has T_i = T_0 * growth^i steps and runs the whole schedule once. Cost: 1 gradient evaluation per
step. Default: three cycles, each twice as long as the one before, the last ending with the run. Not known to help: as
a single final model against one cosine of the same length (the paper's best numbers are ensembles). A constant rate
is left unchanged.
"""

from dataclasses import dataclass

from nonconvex.schedules import Factory, restarted
from nonconvex.strategies.base import Strategy


@dataclass(frozen=True)
class Restarts(Strategy):
    """`cycles` repetitions of the schedule, growing by the factor `growth`."""

    cycles: int = 3
    growth: int = 2

    def wrap(self, factory: Factory) -> Factory:
        return restarted(factory, self.cycles, self.growth)
