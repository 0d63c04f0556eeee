"""Ids are for ever: the list of those that were given out only grows, and holds what is in use."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nonconvex.claims import read
from nonconvex.source_tables import SOURCE_TABLES

ROOT = Path(__file__).resolve().parents[1]
LIST = "docs/ids.txt"
LINE = re.compile(r"(table|claim) (\S+)( retired)?")


def ids(text: str) -> dict[str, str]:
    """What every id is of, with `retired` where it is; AssertionError for another line or a second use."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    listed = {f"{match[1]} {match[2]}": match[3] or "" for match in found}
    assert len(listed) == len(lines), "an id is listed twice"
    return listed


def broken(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Ids that are gone, or back from retirement."""
    return [name for name, retired in before.items() if name not in after or (retired and not after[name])]


def test_the_ids_in_use_are_those_of_the_list():
    """A new claim adds its line; one that is gone is marked as retired."""
    used = {f"claim {claim.name}" for claim in read(ROOT / "claims.yaml").claims}
    used |= {f"table {path.stem}" for path in [*ROOT.glob("results/cpu/tables/*.csv"), *ROOT.glob("results/cpu/*.csv")]}
    listed = ids((ROOT / LIST).read_text(encoding="utf-8"))
    assert used == {name for name, retired in listed.items() if not retired}


def test_no_id_was_ever_taken_back():
    """Against every version of the list that the history has."""
    if not (shutil.which("git") and (ROOT / ".git").exists()):
        pytest.skip("an archive has no history")
    after = ids((ROOT / LIST).read_text(encoding="utf-8"))
    for commit in git("log", "--format=%H", "--diff-filter=AM", "--", LIST).split():
        assert broken(ids(git("show", f"{commit}:{LIST}")), after) == [], f"listed at {commit}"


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_lost_a_renamed_and_a_returned_id_are_noticed():
    before = ids("# comment\nclaim a.b.c\nclaim a.b.d retired\ntable grid\n")
    assert broken(before, before | {"claim new.x.y": ""}) == []
    after = {"claim a.b.c2": "", "claim a.b.d": "", "table grid": " retired"}
    assert broken(before, after) == ["claim a.b.c", "claim a.b.d"]
    for text in ("claim a.b.c\nclaim a.b.c retired\n", "claims a\n", "claim a lost\n"):
        with pytest.raises(AssertionError):
            ids(text)


def test_a_claims_id_begins_with_its_row():
    rows = {row.key for table in SOURCE_TABLES.values() for row in table.rows}
    for claim in read(ROOT / "claims.yaml").claims:
        assert re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", claim.name), claim.name
        assert claim.name.split(".")[0] == claim.row in rows, claim.name
