"""The three verdicts, in memory, against a folder and against git."""

import subprocess

import pytest

from nonconvex.compare import judge, main

TABLE = "arm,verdict,difference\nsam,SUPPORTED,0.5\nswa,REFUTED,2\n"


def changed(old: str, new: str) -> bytes:
    assert old in TABLE
    return TABLE.replace(old, new).encode()


@pytest.mark.parametrize(
    ("new", "word", "detail"),
    [
        (TABLE.encode(), "IDENTICAL", ""),
        (changed("0.5", "0.500"), "AGREES", "written otherwise"),
        (changed("0.5", "0.519"), "AGREES", "difference, row 1: 0.5 -> 0.519"),
        (changed("0.5", "0.521"), "DIFFERENT", "1 numbers outside tolerance"),
        (changed("0.5", "nan"), "DIFFERENT", "difference, row 1: 0.5 -> nan"),
        (changed("0.5", "inf"), "DIFFERENT", "difference, row 1: 0.5 -> inf"),
        (changed("0.5", ""), "DIFFERENT", "difference, row 1: '0.5' -> ''"),
        (changed("REFUTED", "SUPPORTED"), "DIFFERENT", "verdict, row 2: 'REFUTED' -> 'SUPPORTED'"),
        (changed("verdict", "ruling"), "DIFFERENT", "other rows or columns"),
        (changed("swa,REFUTED,2\n", ""), "DIFFERENT", "other rows or columns"),
        (None, "DIFFERENT", "only in the old tables"),
    ],
)
def test_verdict(new, word, detail):
    """Tolerance 0.01 + 0.02 * 0.5 = 0.02 for the first number."""
    verdict = judge(TABLE.encode(), new, rtol=0.02, atol=0.01)
    assert verdict.word == word
    assert detail in verdict.detail


def test_the_largest_difference_is_named_and_outsiders_are_counted():
    both = changed("0.5", "0.6").replace(b",2\n", b",3\n")
    assert judge(TABLE.encode(), both, 1, 1).detail == "largest difference at difference, row 2: 2 -> 3"
    assert judge(TABLE.encode(), both, 0, 0).detail.startswith("2 numbers outside tolerance; largest at ")


def test_equal_nan_agrees():
    """nan != nan must not count as a difference."""
    old, new = (changed("0.5", nan) for nan in ("nan", "NaN"))
    assert judge(old, new, 0, 0).word == "AGREES"


def test_folder_against_folder(tmp_path, capsys):
    for side, table in (("old", TABLE), ("new", TABLE.replace("0.5", "9"))):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.csv").write_text(table)
        (tmp_path / side / "same.csv").write_text(TABLE)
    assert main([str(tmp_path / "new"), "--against", str(tmp_path / "old")]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("DIFFERENT") and "0.5 -> 9" in first
    assert second.startswith("IDENTICAL") and second.endswith("same.csv")
    assert main([str(tmp_path / "new"), "--against", str(tmp_path / "old"), "--atol", "10"]) == 0


def test_folder_against_git(tmp_path, capsys):
    tables = tmp_path / "results" / "tables"
    tables.mkdir(parents=True)
    (tables / "kept.csv").write_text(TABLE)
    (tables / "lost.csv").write_text(TABLE)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "tables")
    assert main([str(tables)]) == 0
    (tables / "kept.csv").write_text(TABLE.replace("0.5", "0.51"))
    assert main([str(tables)]) == 0
    assert "AGREES" in capsys.readouterr().out
    (tables / "lost.csv").unlink()
    assert main([str(tables), "--rev", "HEAD"]) == 1
    assert "only in the old tables" in capsys.readouterr().out


def test_nothing_to_compare_with_is_an_error_that_says_so(tmp_path, capsys):
    """Silence about an empty folder would read as agreement."""
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path)]) == 2
    assert "--against FOLDER" in capsys.readouterr().err
    assert main([str(tmp_path), "--against", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main([str(tmp_path / "empty"), "--against", str(tmp_path / "empty")]) == 2


def git(folder, *arguments):
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def test_a_file_is_compared_without_its_neighbours(tmp_path, capsys):
    for side, other in (("old", "1"), ("new", "2")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "verdicts.csv").write_text(TABLE)
        (tmp_path / side / "other.csv").write_text(other)
    assert main([str(tmp_path / "new" / "verdicts.csv"), "--against", str(tmp_path / "old")]) == 0
    assert capsys.readouterr().out.splitlines() == [f"IDENTICAL  {tmp_path / 'new' / 'verdicts.csv'}"]
    assert main([str(tmp_path / "new"), "--against", str(tmp_path / "old")]) == 1
