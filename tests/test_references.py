"""The bibliography names every paper that the claims, the text's cells and the README name, and no other."""

import re
from pathlib import Path

import pytest

from nonconvex.claims import read
from nonconvex.source_tables import SOURCE_TABLES

ROOT = Path(__file__).resolve().parents[1]
BIBLIOGRAPHY = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
ENTRY = re.compile(r"@(\w+)\{(\w+),\n((?:  [\w-]+ = \{.*\},\n)+)\}\n")
FIELD = re.compile(r"  ([\w-]+) = \{(.*)\},\n")
YEAR = re.compile(r"\b(?:1[89]|20)\d\d\b")
VENUE = {"article": "journal", "inproceedings": "booktitle", "misc": "howpublished", "techreport": "institution"}
SOURCES = sorted({claim.source for claim in read(ROOT / "claims.yaml").claims})
CELLS = [cell for table in SOURCE_TABLES.values() for row in table.rows for cell in row.cells]
SHORT = re.compile(r"\[(\w+) (\d{4})\]")  # a paper in a cell of the text

ENTRIES = {key: {"type": kind, **dict(FIELD.findall(body))} for kind, key, body in ENTRY.findall(BIBLIOGRAPHY)}
NAMES = {name: key for key, entry in ENTRIES.items() for name in entry["cited-as"].split("; ")}


def named(text: str) -> tuple[set[str], str]:
    """(keys of the papers named in a text, the text without their names)."""
    found = set()
    for name in sorted(NAMES, key=len, reverse=True):
        text, count = re.subn(rf"(?<!\w){re.escape(name)}(?!\d)", "", text)
        found |= {NAMES[name]} if count else set()
    return found, text


def test_the_file_holds_entries_and_comments_and_nothing_else():
    rest = ENTRY.sub("", BIBLIOGRAPHY)
    assert not [line for line in rest.splitlines() if line and not line.startswith("%")]
    assert len(ENTRIES) == len(ENTRY.findall(BIBLIOGRAPHY)), "two entries have one key"
    assert len(NAMES) == sum(len(entry["cited-as"].split("; ")) for entry in ENTRIES.values()), "one name, two papers"
    assert list(ENTRIES) == sorted(ENTRIES)


@pytest.mark.parametrize("key", ENTRIES)
def test_an_entry_is_complete_and_says_what_was_checked(key):
    entry = ENTRIES[key]
    surname = entry["author"].split(" and ")[0].split(" ")[-1]
    assert {"author", "title", "year", VENUE[entry["type"]]} <= entry.keys()
    assert re.fullmatch(r"\d{4}", entry["year"]) and entry["year"] in key
    assert re.sub(r"\\\w|\W", "", surname).lower() in key, "the key begins with the first author"
    assert all(entry["year"] in name for name in entry["cited-as"].split("; "))
    assert re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}", entry.get("eprint", "0000.0000"))
    checked = set(filter(None, entry.get("checked", "").split(", ")))
    assert checked <= entry.keys() and bool(checked) != ("note" in entry)
    for name, value in entry.items():
        assert value.count("{") == value.count("}") and (value.isascii() or name == "cited-as"), name


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_names_papers_of_the_bibliography(source):
    rest = named(source)[1]
    assert not YEAR.search(rest) and "et al." not in rest, f"{rest!r} names a paper that references.bib does not have"


def test_every_paper_in_a_cell_is_one_entry():
    found = {match for cell in CELLS for match in SHORT.findall(cell)}
    assert len(found) > 10
    for surname, year in found:
        assert len(by_first_author(surname, year)) == 1, (surname, year)


def by_first_author(surname: str, year: str) -> list[str]:
    """Keys of the entries that are cited under a surname and a year, whatever stands between them."""
    return [key for name, key in NAMES.items() if re.fullmatch(rf"{surname}\b.*{year}", name)]


def test_every_entry_is_named_somewhere():
    used = named(" ".join([*SOURCES, (ROOT / "README.md").read_text(encoding="utf-8")]))[0]
    used |= {key for cell in CELLS for match in SHORT.findall(cell) for key in by_first_author(*match)}
    assert sorted(ENTRIES.keys() - used) == []


def test_an_unknown_paper_is_noticed():
    assert named("Du et al. 2019; the text") == ({"du2019gradient"}, "; the text")
    assert YEAR.search(named("Du et al. 2018")[1]) and YEAR.search(named("Adu & Le 1999")[1])
    assert named("Liu, Papailiopoulos & Achlioptas 2020; Liu et al. 2020")[0] == {"liu2020bad", "liu2020variance"}
