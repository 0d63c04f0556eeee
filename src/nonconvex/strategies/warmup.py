"""Learning-rate warm-up, wrapped around any schedule.

Formula: eta_t <- min(1, (t + 1) / T_w) * eta_t. Cost: 1 gradient evaluation per step. Default T_w: 5 % of the run,
the source text's figure for WSD. Not known to help: at a rate that is stable from the start (Kalra & Barkeshli 2024:
warm-up lets the run tolerate a larger rate). On a schedule that warms up already, both apply.
"""

from dataclasses import dataclass

from nonconvex.schedules import WARMUP, Factory, warmed
from nonconvex.strategies.base import Strategy


@dataclass(frozen=True)
class Warmup(Strategy):
    """A linear rise over the share `share` of the run."""

    share: float = WARMUP

    def wrap(self, factory: Factory) -> Factory:
        return warmed(factory, self.share)
