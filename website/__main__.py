"""Make the site: pages from the committed results, then HTML by Sphinx.

python -m website [--into site] [--sources .site] [--claims N]

`--claims` takes only the first N claims of every row and only the notebooks behind them, for a quick look.
"""

import argparse
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

from website.pages import write_pages

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m website", description="Build the site from the results.")
    parser.add_argument("--into", type=Path, default=ROOT / "site", help="folder of the HTML, replaced")
    parser.add_argument("--sources", type=Path, default=ROOT / ".site", help="folder of the pages made for Sphinx")
    parser.add_argument("--claims", type=int, help="only so many claims of each row")
    asked = parser.parse_args(arguments)
    for folder, mark in ((asked.into, "_static"), (asked.sources, "pages")):
        _clear(folder, mark)
    write_pages(ROOT, asked.sources / "pages", asked.claims)
    options = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(ROOT / "website")]
    return build_main([*options, "-d", str(asked.sources / "trees"), str(asked.sources / "pages"), str(asked.into)])


def _clear(folder: Path, mark: str) -> None:
    """Remove an earlier build. Another folder that is not empty is refused."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).exists():
        sys.exit(f"{folder} is not empty and holds no earlier site ({mark} is missing); name another folder")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
