"""Studies behind the rows of the text's tables, by name. Only the chosen one's module is imported.

A study trains, measures and returns records (`nonconvex.observations`); what they say about a claim is read from them
later (`nonconvex.contrasts`), so that a new reading retrains nothing. To add one: a module here with `observe`, its
settings in `study_settings` and its stages in dvc.yaml.
"""

from importlib import import_module
from typing import Any

from nonconvex.config import Settings


def observe(settings: Settings, study: str) -> dict[str, list[Any]]:
    """The study's records by file name (`Results.observations`). ValueError for a study that has no settings."""
    if study not in settings.studies:
        raise ValueError(f"unknown study {study!r}; known: {', '.join(settings.studies)}")
    return import_module(f"nonconvex.studies.{study}").observe(settings)
