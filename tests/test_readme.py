"""The README quotes the committed tables and names only what exists."""

import re
from pathlib import Path

from nonconvex import readme
from nonconvex.paths import Results

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_quoted_tables_are_the_committed_ones():
    """Numbers that were true of an earlier run; cure: python -m nonconvex.readme, once the pipeline has run."""
    assert readme.renewed(TEXT, readme.measured(Results(ROOT, "cpu"))) == TEXT
    assert TEXT.count("(primary: ") > 40


def test_every_link_and_make_target_exists():
    """A file that was renamed, or a command that is gone."""
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / link).exists(), link
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", TEXT, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_only_the_block_between_the_markers_changes():
    assert readme.renewed(f"a{readme.BEGIN}old{readme.END}z", "new") == f"a{readme.BEGIN}new{readme.END}z"
