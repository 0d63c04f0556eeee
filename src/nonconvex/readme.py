"""Put the measured tables into the README, between its markers.

    python -m nonconvex.readme

The README quotes two blocks of the committed tables word for word; tests/test_readme.py holds them together.
"""

import re
import sys
from pathlib import Path

from nonconvex.paths import Results

README = Path("README.md")
BEGIN, END = "<!-- measured:begin -->\n", "<!-- measured:end -->"
QUOTED = ("schedules", "strategies")
BLOCK = "Performance"


def measured(files: Results) -> str:
    """The performance block of each quoted table under the table's own title."""
    return "\n".join(quoted(files.tables(name, "md").read_text(encoding="utf-8")) for name in QUOTED)


def quoted(table: str) -> str:
    """A table's title, one level down, and its block on performance."""
    title = re.match(r"# (.+)\n", table)[1]
    block = re.search(rf"## {BLOCK}\n\n(.+?)\n(?=\n|$)", table, re.DOTALL)[1]
    return f"### {title}\n\n{block}\n"


def renewed(readme: str, content: str) -> str:
    """The README with what stands between its markers replaced."""
    before, after = readme.split(BEGIN)[0], readme.split(END)[1]
    return f"{before}{BEGIN}{content}{END}{after}"


def main() -> int:
    README.write_text(renewed(README.read_text(encoding="utf-8"), measured(Results(Path(), "cpu"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
