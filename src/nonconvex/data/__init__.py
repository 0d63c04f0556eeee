"""Data sets by name. Only the chosen one's module is imported."""

from importlib import import_module

from nonconvex.data.splits import Dataset

DATASETS: dict[str, tuple[str, str]] = {  # name -> module, loader
    "mnist1d": ("mnist1d", "load"),
    "kjv": ("text", "kjv"),
    "cifar10": ("cifar10", "load"),
    "tinyshakespeare": ("text", "tinyshakespeare"),
}
TEXTS = ("kjv", "tinyshakespeare")  # whose examples are windows of `context` characters


def load_dataset(name: str, context: int | None = None) -> Dataset:
    """The data set behind a row of DATASETS; texts need the model's context length."""
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}; known: {', '.join(DATASETS)}")
    if name in TEXTS and context is None:
        raise ValueError(f"{name} is a text: its model needs an architecture with a context")
    module, loader = DATASETS[name]
    load = getattr(import_module(f"nonconvex.data.{module}"), loader)
    return load(context) if name in TEXTS else load()
