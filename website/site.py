"""What the site is made of: the committed results of one profile, and where pages and files of the site lie."""

import re
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nonconvex import claims
from nonconvex.paths import Results
from nonconvex.source_tables import SOURCE_TABLES
from website.evidence import Evidence, gathered
from website.links import Links
from website.provenance import Reading, readings

PROFILE = "cpu"
SINGLE = ("README.md", "CONTRIBUTING.md", "results/conformance.md")  # documents besides those in docs/


@dataclass
class Site:
    """Everything that the pages are made of, and where they are written."""

    root: Path
    into: Path
    limit: int | None = None
    files: Results = field(init=False)

    def __post_init__(self) -> None:
        self.files = Results(self.root, PROFILE)

    @cached_property
    def ledger(self) -> claims.Ledger:
        return claims.read(self.root / "claims.yaml")

    @cached_property
    def evidence(self) -> list[Evidence]:
        """The claims that get a page: all of them, or the first `limit` of every row."""
        rows: dict[tuple[str, str], list[Evidence]] = {}
        for one in gathered(self.files, self.ledger):
            rows.setdefault((one.claim.table, one.claim.row), []).append(one)
        return [one for row in rows.values() for one in row[: self.limit]]

    @cached_property
    def readings(self) -> dict[str, Reading]:
        return readings(self.root, PROFILE)

    @cached_property
    def notebooks(self) -> list[str]:
        """The executed notebooks that get a page."""
        found = [path.stem for path in sorted((self.files.folder / "notebooks").glob("*.ipynb"))]
        if self.limit is None:
            return found
        behind = {one.claim.notebook for one in self.evidence}
        return [name for name in found if name in sorted(behind)[:3] or name.startswith("figures")]

    @cached_property
    def lines(self) -> dict[str, int]:
        """The line of claims.yaml that holds a claim's margin."""
        found, name = {}, ""
        for number, line in enumerate((self.root / "claims.yaml").read_text(encoding="utf-8").splitlines(), start=1):
            if match := re.match(r"  (\S+):$", line):
                name = match[1]
            elif line.startswith("    margin:"):
                found[name] = number
        return found

    @cached_property
    def documents(self) -> dict[str, str]:
        """Markdown of the repository that gets a page of its own: path -> page."""
        written = sorted(path.relative_to(self.root).as_posix() for path in self.root.glob("docs/*.md"))
        pages = {path: f"project/{Path(path).stem.lower()}" for path in (*SINGLE, *written)}
        pages[self._result("report.md")] = "report"
        for path in sorted((self.files.folder / "tables").glob("*.md")):
            if path.stem not in SOURCE_TABLES:
                pages[self._result(f"tables/{path.name}")] = f"tables/{path.stem}"
        return {path: page for path, page in pages.items() if (self.root / path).is_file()}

    @cached_property
    def links(self) -> Links:
        pages = {path: f"/{page}.md" for path, page in self.documents.items()}
        pages |= {self._result(f"tables/{name}.md"): f"/tables/{name}.md" for name in SOURCE_TABLES}
        pages |= {self._result(f"notebooks/{name}.ipynb"): f"/notebooks/{name}.ipynb" for name in self.notebooks}
        pages |= {self._result(name): "/claims/index.md" for name in ("verdicts.md", "verdicts.csv")}
        for folder, page in (("tables", "tables/index"), ("notebooks", "notebooks/index"), ("figures", "figures")):
            pages[self._result(folder)] = f"/{page}.md"
        return Links(self.root, pages, frozenset(one.claim.name for one in self.evidence), self.include)

    def include(self, path: Path) -> str:
        """Copy a file of the repository into the site; its address there."""
        target = self.into / "files" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.root / path, target)
        return f"/files/{path.as_posix()}"

    def write(self, page: str, text: str) -> None:
        target = self.into / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def of_row(self, table: str, row: str) -> list[Evidence]:
        return [one for one in self.evidence if (one.claim.table, one.claim.row) == (table, row)]

    def _result(self, name: str) -> str:
        return (self.files.folder / name).relative_to(self.root).as_posix()
