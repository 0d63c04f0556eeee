"""Executed notebooks as pages: a title that tells them apart, links to their rows, words for their figures."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from website.provenance import Reading

GROUPS = (
    ("Readings", "what the observations say about the claims, a notebook per row"),
    ("Studies", "what was trained and measured for them"),
    ("The grid", "schedules and strategies crossed: training, connectivity, tables, figures, verdicts"),
)


def dressed(path: Path, preface: str) -> NotebookNode:
    """An executed notebook with its parameter in the title and `preface` below it."""
    notebook = nbformat.read(path, as_version=4)
    first, *rest = notebook.cells
    title, _, text = first.source.partition("\n")
    made_of = path.stem.partition("-")[2].replace("_", " ").replace("-", ", ")
    first.source = "\n\n".join(part for part in (f"{title} ({made_of})" if made_of else title, preface, text) if part)
    heading = ""
    for cell in rest:
        if cell.cell_type == "markdown":
            heading = next((line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")), heading)
        else:
            cell.metadata["mystnb"] = {"image": {"alt": f"Figure: {heading}"}}
    return notebook


def groups(names: Iterable[str], readings: Mapping[str, Reading]) -> list[tuple[str, str, list[str]]]:
    """(title, what they are, names) of the three kinds of notebooks."""
    names = list(names)
    kinds = [
        [name for name in names if name in readings],
        [name for name in names if name.startswith("study-")],
        [name for name in names if name not in readings and not name.startswith("study-")],
    ]
    return [(*said, found) for said, found in zip(GROUPS, kinds, strict=True) if found]
