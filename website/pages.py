"""From the committed results to the pages that Sphinx builds: a page per table, row, claim and notebook."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import pandas as pd

from nonconvex import claims, typeset
from nonconvex.claims import ALLOWED, MIXED, WORDS
from nonconvex.source_tables import SOURCE_TABLES, Row, SourceTable
from website import figures, notebooks
from website.evidence import Evidence, counted, measured
from website.links import FENCE
from website.site import Site
from website.strip import strip

HERE = Path(__file__).parent
SYMBOLS = {**dict(zip(WORDS, "●■✕◆", strict=True)), MIXED: "◐"}  # the markers of the forest of verdicts
MARKUP = re.compile(r"([\\*_`<>\[\]|#~{}])")
OWN_PAGES = r"## (What the text|Sub-claims|What was measured)"  # blocks of a table that are told elsewhere


def write_pages(root: Path, into: Path, limit: int | None = None) -> None:
    """All pages of the site, as Markdown and notebooks for Sphinx; `limit` keeps so many claims of a row."""
    site = Site(root, into, limit)
    templates = _templates()
    for page, template, values in _pages(site):
        site.write(f"{page}.md", templates.get_template(f"{template}.md.jinja").render(site=site, **values))
    for path, page in site.documents.items():
        site.write(f"{page}.md", site.links.turned(_titled(root / path), path))
    for name in site.notebooks:
        book = notebooks.dressed(site.files.notebooks(name), _preface(site, name))
        site.write(f"notebooks/{name}.ipynb", nbformat.writes(book))


Page = tuple[str, str, dict[str, Any]]  # where, which template, what it is filled with


def _pages(site: Site) -> Iterator[Page]:
    tables = list(SOURCE_TABLES.values())
    yield "index", "index", {"tables": tables, "words": WORDS}
    yield "tables/index", "tables", {"tables": tables, "others": _other_tables(site)}
    yield "claims/index", "claims", {"tables": tables}
    yield "figures", "figures", {"figures": figures.committed(site)}
    yield "notebooks/index", "notebooks", {"groups": notebooks.groups(site.notebooks, site.readings)}
    for table in tables:
        yield f"tables/{table.name}", "table", {"table": table, "blocks": _other_blocks(site, table)}
        for row in table.rows:
            yield f"tables/{table.name}/{row.key}", "row", _row(site, table, row)
    for one in site.evidence:
        yield f"claims/{one.claim.name}", "claim", _claim(site, one)
    modules = sorted({module for reading in site.readings.values() for module in reading.contrasts})
    for module in modules:
        yield f"source/{Path(module).stem}", "source", {"module": module, "path": site.include(Path(module))}
    yield "source/index", "sources", {"modules": [Path(module).stem for module in modules]}


@dataclass(frozen=True)
class Part:
    """One judged cell of a row: its column, what the text says there, and the claims on it."""

    column: str
    cell: str
    habit: bool  # what is customary, which no run can settle
    restored: bool  # its formulas are ours
    found: list[Evidence]


def parts(site: Site, table: SourceTable, row: Row) -> list[Part]:
    """The two judged cells of a row."""
    found = site.of_row(table.name, row.key)
    return [
        Part(
            table.columns[at],
            row.cells[at],
            at in row.habits,
            at in row.restored,
            [one for one in found if one.claim.part == part],
        )
        for part, at in zip(ALLOWED["part"], table.judged, strict=True)
    ]


def _row(site: Site, table: SourceTable, row: Row) -> dict[str, Any]:
    books = list(dict.fromkeys(one.claim.notebook for one in site.of_row(table.name, row.key)))
    studies = list(dict.fromkeys(study for book in books for study in site.readings[book].studies))
    pilots = {study: site.ledger.pilots.get(study.removeprefix("study-")) for study in studies}
    return {
        "table": table,
        "row": row,
        "parts": parts(site, table, row),
        "figure": figures.of_row(site, row, books),
        "books": books,
        "studies": studies,
        "findings": _findings(site, books, row.key, table.name),
        "pilots": {study: pilot for study, pilot in pilots.items() if pilot},
    }


def _claim(site: Site, one: Evidence) -> dict[str, Any]:
    claim, table = one.claim, SOURCE_TABLES[one.claim.table]
    row, reading = _source_row(claim.table, claim.row), site.readings[claim.notebook]
    observed = [path for folder in reading.observations for path in sorted((site.root / folder).glob("*.csv"))]
    behind = [site.files.effects(claim.notebook), site.files.gates(claim.notebook), *observed]
    paths = [path.relative_to(site.root) for path in behind]
    return {
        "one": one,
        "claim": claim,
        "found": one.verdict,
        "table": table,
        "row": row,
        "column": table.judged[ALLOWED["part"].index(claim.part)],
        "reading": reading,
        "strip": strip(one),
        "rule": json.dumps(one.rule, sort_keys=True),
        "line": site.lines[claim.name],
        "figure": figures.of_row(site, row, [claim.notebook]),
        "data": [(path.as_posix(), site.include(path)) for path in paths],
        "modules": [Path(module).stem for module in reading.contrasts],
        "settings": [Path(folder).name for folder in reading.observations],
    }


def _source_row(table: str, key: str) -> Row:
    return next(row for row in SOURCE_TABLES[table].rows if row.key == key)


def _titled(path: Path) -> str:
    """The text of a document, under its name where it has no title."""
    text = path.read_text(encoding="utf-8")
    return text if re.search(r"^# ", FENCE.sub("", text), re.MULTILINE) else f"# {path.stem.capitalize()}\n\n{text}"


def _findings(site: Site, books: Sequence[str], row: str, table: str) -> list[dict[str, Any]]:
    """What was measured besides the claims: the records with their number and interval in a reader's words."""
    frames = [pd.read_csv(path) for book in books if (path := site.files.findings(book)).is_file()]
    found = [one for frame in frames for one in frame.to_dict("records") if (one["table"], one["row"]) == (table, row)]
    return [{**one, "measured": measured(one["mean"], one["low"], one["high"], one["n"])} for one in found]


def _other_blocks(site: Site, table: SourceTable) -> str:
    """The committed table but for the text and the claims, which have pages of their own."""
    text = site.files.tables(table.name, "md").read_text(encoding="utf-8")
    _, *blocks = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    *blocks, last = blocks
    body, mark, notes = last.partition("\n\n- ")
    kept = [block for block in (*blocks, body) if not re.match(OWN_PAGES, block)]
    return "\n\n".join([*(block.strip() for block in kept), "## Notes", f"{mark}{notes}".strip()])


def _other_tables(site: Site) -> list[str]:
    return [page.rpartition("/")[2] for page in site.documents.values() if page.startswith("tables/")]


def _preface(site: Site, name: str) -> str:
    """What stands below a notebook's title: the rows whose claims it judges."""
    found = [one for one in site.evidence if one.claim.notebook == name]
    rows = dict.fromkeys((one.claim.table, one.claim.row) for one in found)
    links = [f"[{_source_row(*row).cells[0]}](/tables/{row[0]}/{row[1]}.md)" for row in rows]
    return f"Its claims: {', '.join(links)}." if links else ""


def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(HERE / "templates")
    made = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"plain": plain, "number": typeset.number}
    made.globals |= {"SYMBOLS": SYMBOLS, "WORDS": WORDS, "RESTORED": typeset.RESTORED}
    made.globals |= {"overall": claims.overall, "tally": tally, "parts": parts, "source_row": _source_row}
    return made


def plain(text: str) -> str:
    """Text for a Markdown line or cell: nothing is markup but `$...$`."""
    parts = typeset.MATH.split(text)
    return "".join(part if typeset.MATH.fullmatch(part) else MARKUP.sub(r"\\\1", part) for part in parts)


def tally(found: Iterable[Evidence]) -> Mapping[str, int]:
    """The words that occur, with how often."""
    return {word: count for word, count in counted(one.verdict.verdict for one in found).items() if count}
