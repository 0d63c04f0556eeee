"""Model families by name; a constructor's keyword arguments are the options of the architecture."""

from importlib import import_module

MODELS: dict[str, str] = {"resnet": "ResNet", "transformer": "Transformer", "mlp": "Mlp", "cnn": "Cnn"}


def model_class(name: str) -> type:
    """The class behind a row of MODELS; only its module is imported."""
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    return getattr(import_module(f"nonconvex.models.{name}"), MODELS[name])
