"""Put the head of the default profile's report into the README, between its markers.

python -m nonconvex.readme
"""

import sys
from pathlib import Path

from nonconvex.paths import Results
from nonconvex.report import Page, head

README = Path("README.md")
BEGIN, END = "<!-- measured:begin -->\n", "<!-- measured:end -->"


def measured(files: Results) -> str:
    """What the README shows of a profile's report, linked from the repository's root."""
    return head(Page(files, files.root, level=3))


def renewed(readme: str, content: str) -> str:
    """The README with what stands between its markers replaced."""
    before, after = readme.split(BEGIN)[0], readme.split(END)[1]
    return f"{before}{BEGIN}{content}{END}{after}"


def main() -> int:
    """Renew the README's measured part from the committed report."""
    README.write_text(renewed(README.read_text(encoding="utf-8"), measured(Results(Path(), "cpu"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
