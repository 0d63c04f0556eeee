"""From the committed results to the pages that Sphinx builds: a page per table, row, claim and notebook."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import pandas as pd

from nonconvex import claims, typeset
from nonconvex.claims import MIXED, WORDS
from nonconvex.source_tables import SOURCE_TABLES, Row, SourceTable
from website import figures, notebooks
from website.evidence import Evidence, counted
from website.site import Site
from website.strip import strip

HERE = Path(__file__).parent
SYMBOLS = {**dict(zip(WORDS, "●■✕◆", strict=True)), MIXED: "◐"}  # the markers of the forest of verdicts
MARKUP = re.compile(r"([\\*_`<>\[\]|#~{}])")
PARTS = ("observation", "implication")
OWN_PAGES = r"## (What the text|Sub-claims|What was measured)"  # blocks of a table that are told elsewhere


def write_pages(root: Path, into: Path, limit: int | None = None) -> None:
    """All pages of the site, as Markdown and notebooks for Sphinx; `limit` keeps so many claims of a row."""
    site = Site(root, into, limit)
    templates = _templates()
    for page, template, values in _pages(site):
        site.write(f"{page}.md", templates.get_template(f"{template}.md.jinja").render(site=site, **values))
    for path, page in site.documents.items():
        site.write(f"{page}.md", site.links.turned((root / path).read_text(encoding="utf-8"), path))
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


def _row(site: Site, table: SourceTable, row: Row) -> dict[str, Any]:
    found = site.of_row(table.name, row.key)
    books = list(dict.fromkeys(one.claim.notebook for one in found))
    studies = dict.fromkeys(study for book in books for study in site.readings[book].studies)
    return {
        "table": table,
        "row": row,
        "parts": [(part, row.cells[column], table.columns[column], column in row.habits,
                   [one for one in found if one.claim.part == part])
                  for part, column in zip(PARTS, table.judged, strict=True)],
        "figure": figures.of_row(site, row, books),
        "books": books,
        "studies": list(studies),
        "findings": _findings(site, books, row.key, table.name),
        "pilots": {study.removeprefix("study-"): pilot for study in studies
                   if (pilot := site.ledger.pilots.get(study.removeprefix("study-")))},
    }  # fmt: skip


def _claim(site: Site, one: Evidence) -> dict[str, Any]:
    claim, table = one.claim, SOURCE_TABLES[one.claim.table]
    row = next(row for row in table.rows if row.key == claim.row)
    reading = site.readings[claim.notebook]
    observed = [path.relative_to(site.root) for folder in reading.observations
                for path in sorted((site.root / folder).glob("*.csv"))]  # fmt: skip
    behind = [site.files.effects(claim.notebook), site.files.gates(claim.notebook)]
    return {
        "one": one,
        "claim": claim,
        "found": one.verdict,
        "table": table,
        "row": row,
        "reading": reading,
        "strip": strip(one),
        "rule": json.dumps(one.rule, sort_keys=True),
        "line": site.lines[claim.name],
        "figure": figures.of_row(site, row, [claim.notebook]),
        "data": [(path.as_posix(), site.include(path)) for path in (*(p.relative_to(site.root) for p in behind),
                                                                   *observed)],
        "modules": [Path(module).stem for module in reading.contrasts],
        "study": [path.rpartition("/")[2] for path in reading.observations],
    }  # fmt: skip


def _findings(site: Site, books: Sequence[str], row: str, table: str) -> list[dict[str, str]]:
    """What was measured besides the claims, in a reader's words."""
    frames = [pd.read_csv(path) for book in books if (path := site.files.findings(book)).is_file()]
    if not frames:
        return []
    whole = pd.concat(frames)
    return [
        {"quantity": one.quantity, "model": one.model, "n": str(one.n), "notebook": one.notebook,
         "measured": typeset.interval(one.mean, one.low, one.high, one.n) if one.n else typeset.NOTHING}
        for one in whole[(whole.row == row) & (whole.table == table)].itertuples()
    ]  # fmt: skip


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
    links = [f"[{_label(*row)}](/tables/{row[0]}/{row[1]}.md)" for row in rows]
    return f"Its claims: {', '.join(links)}." if links else ""


def _label(table: str, row: str) -> str:
    return next(one.cells[0] for one in SOURCE_TABLES[table].rows if one.key == row)


def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(HERE / "templates")
    made = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"plain": plain, "number": typeset.number}
    made.globals |= {"SYMBOLS": SYMBOLS, "WORDS": WORDS, "RESTORED": typeset.RESTORED}
    made.globals |= {"overall": claims.overall, "tally": tally}
    return made


def plain(text: str) -> str:
    """Text for a Markdown line or cell: nothing is markup but `$...$`."""
    parts = typeset.MATH.split(text)
    return "".join(part if typeset.MATH.fullmatch(part) else MARKUP.sub(r"\\\1", part) for part in parts)


def tally(found: Iterable[Evidence]) -> Mapping[str, int]:
    """The words that occur, with how often."""
    return {word: count for word, count in counted(one.verdict.verdict for one in found).items() if count}
