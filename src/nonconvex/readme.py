"""Put the measured tables into the README, between its markers.

    python -m nonconvex.readme

The README quotes blocks of the committed tables word for word; tests/test_readme.py holds them together.
"""

import re
import sys
from pathlib import Path

from nonconvex.paths import Results

README = Path("README.md")
BEGIN, END = "<!-- measured:begin -->\n", "<!-- measured:end -->"
QUOTED = ("properties", "factors", "strategies", "schedules", "prose")
CAPTION = "What the text says, and what the runs say"


def measured(files: Results) -> str:
    """One block of each quoted table under the table's own title."""
    pages = {name: files.tables(name, "md").read_text(encoding="utf-8") for name in QUOTED}
    return "\n".join(quoted(page, CAPTION) for page in pages.values())


def quoted(table: str, caption: str) -> str:
    """A table's title, one level down, and its block of that caption."""
    title = re.match(r"# (.+)\n", table)
    block = re.search(rf"## {caption}\n\n(.+?)\n(?=\n|$)", table, re.DOTALL)
    if not title or not block:
        raise ValueError(f"found a table without a title or without the caption {caption!r}; run the stage tables")
    return f"### {title[1]}\n\n{block[1]}\n"


def renewed(readme: str, content: str) -> str:
    """The README with what stands between its markers replaced."""
    before, after = readme.split(BEGIN)[0], readme.split(END)[1]
    return f"{before}{BEGIN}{content}{END}{after}"


def main() -> int:
    """The command line; 0 when the README in this folder has been written."""
    README.write_text(renewed(README.read_text(encoding="utf-8"), measured(Results(Path(), "cpu"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
