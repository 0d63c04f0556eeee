"""Everything that can be wrong with a parameter file, found before any training.

    python -m nonconvex.check params.yaml [--stamp FILE]

`config.read` checks the shape; here every model, strategy, schedule and optimizer of the grid is built once with the
options that the file gives it. Exit code 2 and one message that names the key and lists what is allowed.
"""

import argparse
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nonconvex import cluster, config
from nonconvex.config import ConfigError, Settings
from nonconvex.models import model_class
from nonconvex.optimizers import OPTIMIZERS
from nonconvex.paths import replaced
from nonconvex.schedules import SCHEDULES
from nonconvex.strategies import strategy_class
from nonconvex.strategies.base import Strategy

Part = tuple[str, Callable, dict[str, Any]]  # key in the file, what it configures, the options given


def check(settings: Settings) -> None:
    """Raises ConfigError for a cluster that cannot be used, or the first part of the grid that cannot be built."""
    cluster.check(settings.compute.backend)
    for key, build, options in parts(settings):
        allowed = list(inspect.signature(build).parameters)
        if unknown := [name for name in options if name not in allowed]:
            raise ConfigError(f"{key}.{unknown[0]}: unknown option; allowed: {', '.join(allowed)}")
        try:
            with torch.device("meta"):  # shapes only: a network too large for the memory must not be made to be refused
                build(**options)
        except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise ConfigError(f"{key}: {error}") from None


def checked(path: str) -> Settings:
    """The settings in a file that has passed `config.read` and `check`. Raises ConfigError naming the file."""
    settings = config.read(path)
    try:
        check(settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return settings


def parts(settings: Settings) -> Iterator[Part]:
    """What the grid's models are built and trained with."""
    for model in settings.grid.models:
        bed, key = settings.train[model], f"train.{model}"
        yield f"{key}.architecture", model_class(model), bed.architecture
        yield f"{key}.optimizer", OPTIMIZERS[bed.optimizer.name], bed.optimizer.options
        for name in settings.grid.schedules:
            options = bed.schedules.get(name, {})
            yield f"{key}.schedules.{name}", _without_total(SCHEDULES[name], bed.steps), options
        for strategy in settings.grid.strategies:
            options = bed.strategies.get(strategy, {})
            yield f"{key}.strategies.{strategy}", _built(strategy_class(strategy), bed.steps), options


def _without_total(factory: Callable, total: int) -> Callable:
    """The factory as a function of its options alone, called through to the last step."""
    probe = lambda **options: [factory(total, **options)(step) for step in (0, total - 1)]  # noqa: E731
    return _signed(probe, partial(factory, total))


def _built(kind: type[Strategy], steps: int) -> Callable:
    probe = lambda **options: kind(**options).bind(steps).wrap(SCHEDULES["constant"])(steps)(0)  # noqa: E731
    return _signed(probe, kind)


def _signed(probe: Callable, like: Callable) -> Callable:
    """The probe, which shows to `inspect` the options of what it stands for."""
    probe.__signature__ = inspect.signature(like)  # type: ignore[attr-defined]  # as PEP 362 has it
    return probe


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 where all is well, else 2."""
    parser = argparse.ArgumentParser(prog="python -m nonconvex.check", description="Check a parameter file.")
    parser.add_argument("params", help="the file")
    parser.add_argument("--stamp", type=Path, help="file to write when all is well; always the same text")
    options = parser.parse_args(arguments)
    try:
        checked(options.params)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.stamp:
        with replaced(options.stamp) as stamp:
            stamp.write_text("The settings were checked.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
