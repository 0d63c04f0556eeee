"""One page of a profile: how the claims fared, the text's tables with their verdicts, figures, notation, provenance.

    python -m nonconvex.report params.yaml

Tables are quoted from the profile's tables/ word for word. Numbers, verdicts and figures link to the executed notebook
that made them, relative to where the page stands, so that it reads on a forge as it is.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nonconvex import config, provenance, records
from nonconvex.claims import WORDS
from nonconvex.judging import Verdict
from nonconvex.layout import INTERVALS, LOST, RULE
from nonconvex.paths import Results, replaced
from nonconvex.source_tables import LABELS, NOTATION, SOURCE_TABLES, Row, SourceTable
from nonconvex.tables import PARTS
from nonconvex.typeset import RESTORED, UNMEASURED, escaped, grid

QUOTED = ("properties", "factors", "strategies", "schedules", "prose")
CAPTION = "What the text says, and what the runs say"
PROVENANCE = "## What it was made from, and on"
FORMATS = ("csv", "md", "tex")


@dataclass(frozen=True)
class Page:
    """A text about a profile's results that will stand in `folder`."""

    files: Results
    folder: Path
    level: int = 2  # of the headings above tables

    def heading(self, text: str, below: int = 0) -> str:
        return f"{'#' * (self.level + below)} {text}"

    def link(self, text: str, target: Path) -> str:
        """`text`, Markdown already, as a link from this page to a file."""
        return f"[{text}]({self.path(target)})"

    def path(self, target: Path) -> str:
        """The file's path as a link on this page has it."""
        return Path(os.path.relpath(target, self.folder)).as_posix()

    def notebooks(self, names: Iterable[str]) -> str:
        """Links to the executed notebooks of these names."""
        return ", ".join(self.link(escaped(name), self.files.notebooks(name)) for name in names)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; 2 for settings that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m nonconvex.report", description="Write a profile's report.")
    parser.add_argument("params", type=Path, help="settings of the profile")
    try:
        settings = config.read(parser.parse_args(arguments).params)
    except config.ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files = Results(Path(), settings.profile.name)
    with replaced(files.report) as partial:
        partial.write_bytes(report(files, settings).encode())
    return 0


def report(files: Results, settings: config.Settings) -> str:
    """The whole page, as it stands in the profile's folder."""
    page = Page(files, files.folder)
    parts = [
        f"# What the runs of the profile *{files.profile}* say",
        _introduction(page),
        "## How the claims fared",
        counts(page),
        f"{RULE} {page.link('Every claim', files.verdicts('md'))} with its effect, margin, n and gates.",
        *(part for name in QUOTED for part in (table(page, name), *figures(page, name))),
        page.heading("Schedules under strategies"),
        _in_full(page, "grid"),
        _shown(page, "figures/grid_heatmap", "Every schedule under every strategy"),
        "## Notation",
        notation(),
        LOST,
        PROVENANCE,
        _provenance(files, settings),
    ]
    return "\n\n".join(parts) + "\n"


def head(page: Page) -> str:
    """What the README shows: how the claims fared, and the tables."""
    return "\n\n".join([counts(page), *(table(page, name) for name in QUOTED)]) + "\n"


def _introduction(page: Page) -> str:
    registered = page.link("claims.yaml", page.files.root / "claims.yaml")
    return (
        "Written by `nonconvex.report` from the profile's records; nothing on this page was typed in. The claims were "
        f"registered in {registered} before the runs. Every number, verdict and figure links to the executed notebook "
        f"that made it. {INTERVALS}"
    )


def counts(page: Page) -> str:
    """Claims by table and verdict, and how many of them carry their cell."""
    judged = records.read(page.files.verdicts(), Verdict)
    rows = [[SOURCE_TABLES[name].title, *_counted(judged[judged.table == name])] for name in QUOTED]
    body = grid([["Claims on", "registered", *WORDS], *rows, ["All", *_counted(judged)]])
    made = page.notebooks(["verdicts"])
    return f"{body}\n\nIn brackets the primary claims, which carry their cells; the others refine them ({made})."


def _counted(judged: pd.DataFrame) -> list[str]:
    words, primary = judged.verdict, judged.verdict[judged.primary == "yes"]
    return [f"{len(words)} ({len(primary)})", *(f"{sum(words == word)} ({sum(primary == word)})" for word in WORDS)]


def table(page: Page, name: str) -> str:
    """The text's table as tables/<name>.md has it, its measured cells linked, and each row's figure."""
    source = SOURCE_TABLES[name]
    columns, *body = quoted(page.files.tables(name, "md").read_text(encoding="utf-8"))
    lines = [[*columns, "Figure"]]
    for row, cells in zip(source.rows, body, strict=True):
        made = _verdicts(page.files, source, row) | _losses(page.files, source, row)
        linked = [_linked(page, cell, made.get(column, [])) for column, cell in zip(columns, cells, strict=True)]
        lines.append([*linked, page.link("figure", page.files.figures(row.figure))])
    return f"{page.heading(source.title)}\n\n{grid(lines)}\n\n{_in_full(page, name)}"


def _in_full(page: Page, name: str) -> str:
    formats = ", ".join(page.link(suffix, page.files.tables(name, suffix)) for suffix in FORMATS)
    return f"All that was measured: {formats} ({page.notebooks(['tables'])})."


def quoted(table: str) -> list[list[str]]:
    """The cells of a table's block of that caption, as they stand there in Markdown; the first line is its head.

    ValueError for a table without such a block.
    """
    block = re.search(rf"## {CAPTION}\n\n(.+?)\n(?=\n|$)", table, re.DOTALL)
    if not block:
        raise ValueError(f"found a table without the caption {CAPTION!r}; run the stage tables")
    first, _, *rest = (line.removeprefix("| ").removesuffix(" |").split(" | ") for line in block[1].splitlines())
    return [first, *rest]


def _verdicts(files: Results, source: SourceTable, row: Row) -> dict[str, list[str]]:
    """The notebooks behind each of a row's verdicts, by column."""
    judged = records.read(files.verdicts(), Verdict).query("table == @source.name and row == @row.key")
    parts = {part: list(judged[judged.part == part].notebook.unique()) for part in PARTS}
    return {f"{source.columns[at]}: verdict": parts[part] for at, part in zip(source.judged, PARTS, strict=True)}


def _losses(files: Results, source: SourceTable, row: Row) -> dict[str, list[str]]:
    """The notebooks that trained a row's arms, by column; none for a table of claims alone."""
    frame = pd.read_csv(files.tables(source.name, "csv"))
    if "test_loss_mean" not in frame:
        return {}
    arms = frame[frame.row == row.cells[0]].set_index("model").notebook
    return {f"Test loss, {LABELS['model'][model]}": [name] for model, name in arms.items() if name != UNMEASURED}


def _linked(page: Page, cell: str, notebooks: list[str]) -> str:
    """The cell as a link to the notebook that made it, or before links to those that did."""
    if len(notebooks) == 1:
        return page.link(cell, page.files.notebooks(notebooks[0]))
    return f"{cell} ({page.notebooks(notebooks)})" if notebooks else cell


def figures(page: Page, name: str) -> list[str]:
    """The figures of a table's rows, each once, above its caption."""
    rows: dict[str, list[str]] = {}
    for row in SOURCE_TABLES[name].rows:
        rows.setdefault(row.figure, []).append(row.label)
    return [_shown(page, figure, " / ".join(labels)) for figure, labels in rows.items()]


def _shown(page: Page, figure: str, title: str) -> str:
    files, notebook = page.files, figure.split("/")[0]
    caption = files.figures(figure, "md").read_text(encoding="utf-8").strip()
    picture = page.link(f"![{title}]({page.path(files.figures(figure))})", files.notebooks(notebook))
    sources = f"{page.notebooks([notebook])}, {page.link('PDF', files.figures(figure, 'pdf'))}"
    return f"{page.heading(title, below=1)}\n\n{picture}\n\n{escaped(caption)} ({sources})"


def notation() -> str:
    """The text's summary of its notation."""
    lines = [[symbol + RESTORED * ("$" in symbol), meaning] for symbol, meaning in NOTATION.items()]
    return grid([["Symbol", "Meaning"], *lines])


def _provenance(files: Results, settings: config.Settings) -> str:
    made_from = [*provenance.SOURCES, settings.profile.params]
    found = {"Commit": provenance.commit(files.root, made_from)} | provenance.machine(settings.compute.device)
    packages = ", ".join(f"{name} {number}" for name, number in provenance.versions().items())
    return grid([["What", "Which"], *([name, text] for name, text in (found | {"Versions": packages}).items())])


if __name__ == "__main__":
    sys.exit(main())
