"""Studies behind the rows of the text's tables, by name. Only the chosen one's module is imported.

A study trains, measures and returns records (`nonconvex.observations`); what they say about a claim is read from them
later (`nonconvex.contrasts`), so that a new reading retrains nothing. To add one: a module here with `observe`, its
settings in `study_settings`, its name in STUDIES and its stages in dvc.yaml.
"""

from importlib import import_module
from typing import Any

from nonconvex.config import Settings

STUDIES = (
    "flat_vs_sharp",
    "mode_connectivity",
    "linear_connectivity",
    "edge_of_stability",
    "landscape",
    "progressive_sharpening",
    "critical_points",
    "pac_bayes",
)


def observe(settings: Settings, study: str) -> dict[str, list[Any]]:
    """The study's records by file name (`Results.observations`). ValueError for a study that does not exist."""
    if study not in STUDIES:
        raise ValueError(f"unknown study {study!r}; known: {', '.join(STUDIES)}")
    return import_module(f"nonconvex.studies.{study}").observe(settings)
