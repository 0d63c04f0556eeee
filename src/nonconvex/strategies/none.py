"""No strategy: minibatch gradient descent as it is. The baseline of the strategies table.

Formula: w <- w - eta g. Cost: 1 gradient evaluation per step.
"""

from nonconvex.strategies.base import Strategy


class NoStrategy(Strategy):
    """The four moments, all no-ops."""
