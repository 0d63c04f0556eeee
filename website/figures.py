"""The figures that stand beside a row: the committed one, or else the first of its notebook."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from nonconvex.source_tables import Row
from website.site import Site


@dataclass(frozen=True)
class Figure:
    """`path` is its address in the site, `alt` says in words what it is."""

    name: str
    path: str
    caption: str
    alt: str
    notebook: str = ""


def committed(site: Site) -> list[Figure]:
    """Every figure of the results, by name."""
    folder = site.files.folder / "figures"
    return [_committed(site, path) for path in sorted(folder.rglob("*.png"))]


def of_row(site: Site, row: Row, books: Sequence[str]) -> Figure | None:
    """The figure that answers the row's question; where none is committed, its notebook's first."""
    chosen = getattr(row, "figure", "") and site.files.figures(row.figure, "png")
    if chosen and chosen.is_file():
        return _committed(site, chosen)
    return next((figure for book in books if (figure := _first(site, book))), None)


def _committed(site: Site, path: Path) -> Figure:
    name = path.relative_to(site.files.folder / "figures").with_suffix("").as_posix()
    said = path.with_suffix(".md")
    caption = said.read_text(encoding="utf-8").strip() if said.is_file() else name.replace("_", " ").capitalize()
    book = name.partition("/")[0] if name.partition("/")[0] in site.notebooks else ""
    return Figure(name, site.include(path.relative_to(site.root)), caption, _words(name), book)


def _first(site: Site, book: str) -> Figure | None:
    """The first figure of an executed notebook, under the heading that it stands below."""
    heading = ""
    for cell in nbformat.read(site.files.notebooks(book), as_version=4).cells:
        if cell.cell_type == "markdown":
            heading = next((line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")), heading)
        for output in cell.get("outputs", ()):
            if image := output.get("data", {}).get("image/png"):
                target = site.into / "files" / "first" / f"{book}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(base64.b64decode(image))
                return Figure(book, f"/files/first/{book}.png", heading, _words(heading), book)
    return None


def _words(text: str) -> str:
    """Alternative text: no markup."""
    return "Figure: " + "".join(" " if c in "_/\\$[](){}*`" else c for c in text).strip()
