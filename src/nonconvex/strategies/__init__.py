"""Escape strategies by name. One file each; only the chosen one is imported, so a new SAM retrains no other arm."""

from importlib import import_module

STRATEGIES: dict[str, str] = {
    "none": "NoStrategy",
    "sgd_noise": "SgdNoise",
    "warmup": "Warmup",
    "restarts": "Restarts",
    "clipping": "Clipping",
    "sam": "Sam",
    "swa": "Swa",
    "ema": "Ema",
}


def strategy_class(name: str) -> type:
    """The class behind a row of STRATEGIES."""
    if name not in STRATEGIES:
        raise ValueError(f"unknown strategy {name!r}; known: {', '.join(STRATEGIES)}")
    return getattr(import_module(f"nonconvex.strategies.{name}"), STRATEGIES[name])
