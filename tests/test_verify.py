"""A toy pipeline run again in a copy and in place, with git and without; and folders held against one another."""

import hashlib
import shutil
import subprocess
import zipfile

import pytest

from nonconvex import archive, committed, verify

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="the toy project is committed with git")

VERDICTS = "claim,verdict,estimate,low,high,n\nsam.gain.mlp,supported,1,0.5,1.5,10\n"
RUN = """\
stages:
  study:
    cmd: python study.py
    deps: [study.py]
    outs: [{results/cpu/verdicts.csv: {cache: false}}]
  tables:
    cmd: python -m reading
    deps: [results/cpu/verdicts.csv, src/reading.py]
    outs: [{results/cpu/tables/grid.csv: {cache: false}}]
"""
READING = """\
from pathlib import Path
found = Path("results/cpu/verdicts.csv").read_text().replace("claim,", "row,")
Path("results/cpu/tables").mkdir(exist_ok=True)
Path("results/cpu/tables/grid.csv").write_text(found)
"""


def study(estimate: float = 1, verdict: str = "supported") -> str:
    """A study whose outcome is written into it."""
    text = VERDICTS.replace(",1,", f",{estimate},").replace("supported", verdict)
    return f"from pathlib import Path\nPath('results/cpu/verdicts.csv').write_text({text!r})\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A committed project with results, and the working folder in it."""
    folder = tmp_path / "project"
    write(folder, "dvc.yaml", RUN)
    write(folder, "study.py", study())
    write(folder, "src/reading.py", READING)
    write(folder, "pyproject.toml", '[project]\nname = "toy"\nversion = "1.0"\n')
    write(folder, ".dvc/config", "[core]\n    analytics = false\n")
    write(folder, ".gitignore", ".verify/\ndist/\n.dvc/config.local\n.dvc/tmp\n")
    write(folder, "results/cpu/verdicts.csv", VERDICTS)
    write(folder, "results/cpu/tables/grid.csv", VERDICTS.replace("claim,", "row,"))
    git(folder, "init", "--quiet")
    commit(folder)
    monkeypatch.chdir(folder)
    return folder


def write(folder, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def git(folder, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e")
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "state")


def test_a_run_in_a_copy_leaves_the_committed_results_alone(project, capfd):
    """The copy has its own package and no history; what is committed counts, not what lies about."""
    write(project, "study.py", study(estimate=99))  # not committed
    assert verify.main([]) == 0
    assert "IDENTICAL: 12 cells are the same; no verdict flipped." in capfd.readouterr().out
    assert git(project, "status", "--porcelain").split() == ["M", "study.py"]
    commit(project)
    assert verify.main(["study"]) == 1
    said = capfd.readouterr().out
    assert "Running stage 'tables'" in said, "what depends on a stage runs too"
    assert "DIFFERENT  verdicts.csv: sam.gain.mlp: estimate: '1' -> '99'  (4.4e+02 standard errors)" in said
    assert (project / "results/cpu/verdicts.csv").read_text() == VERDICTS


def test_in_place_the_results_are_overwritten_and_held_against_the_commit(project, capfd):
    write(project, "study.py", study(1.1, "inconclusive"))
    assert verify.main(["--here"]) == 1
    said = capfd.readouterr().out
    assert "FLIPPED    verdicts.csv: sam.gain.mlp: verdict: 'supported' -> 'inconclusive'" in said
    assert "AGREES     verdicts.csv: sam.gain.mlp: estimate: '1' -> '1.1'  (0.45 standard errors)" in said
    assert "DIFFERENT: 2 of 12 cells; 2 verdicts flipped." in said  # the claim's, and that of the table
    assert "inconclusive" in (project / "results/cpu/tables/grid.csv").read_text()


def test_a_run_that_fails_is_no_comparison(project, capfd):
    write(project, "study.py", "raise SystemExit(3)\n")
    commit(project)
    assert verify.main([]) == 2
    assert "dvc repro ended with exit code" in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["nowhere"], ["--against", "results", "tables"], ["--against", "empty"], ["--tolerance", "-1"]]
)
def test_what_cannot_be_done_is_said_before_anything_is_run(project, arguments, capfd):
    try:
        code = verify.main(arguments)
    except SystemExit as refused:
        code = refused.code
    said = capfd.readouterr()
    assert code == 2 and said.out == ""
    assert any(words in said.err for words in ("allowed", "no table found in empty"))
    assert not (project / ".verify").exists()


def test_folder_against_folder(project, capsys):
    write(project, "other/verdicts.csv", VERDICTS.replace(",1,", ",1.1,"))
    write(project, "other/tables/grid.csv", VERDICTS.replace("claim,", "row,"))
    assert verify.main(["--against", "other"]) == 0
    assert "AGREES: 11 cells are the same, 1 within 1 half widths of an interval" in capsys.readouterr().out
    assert verify.main(["--against", "other", "--tolerance", "0.1"]) == 1
    (project / "other/tables/grid.csv").unlink()
    assert verify.main(["--against", "other"]) == 1
    assert "'mlp' -> missing" not in (said := capsys.readouterr().out) and "-> missing" in said


@pytest.fixture
def unpacked(project, tmp_path, monkeypatch):
    """The same project from its archive, without git."""
    with zipfile.ZipFile(archive.write(project)) as file:
        file.extractall(tmp_path / "unpacked")
    monkeypatch.chdir(folder := tmp_path / "unpacked" / "toy-1.0")
    return folder


def test_an_archive_has_the_same_bytes_every_time_and_its_commit_on_it(project, monkeypatch):
    first = archive.write(project).read_bytes()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert archive.write(project).read_bytes() == first
    with zipfile.ZipFile(project / "dist" / "toy-1.0.zip") as file:
        assert git(project, "rev-parse", "HEAD").strip() in file.read("toy-1.0/MANIFEST.sha256").decode()


def test_an_unpacked_archive_is_whole_and_runs_without_git(unpacked, capfd):
    there = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    lines = (unpacked / "MANIFEST.sha256").read_text().splitlines()[1:]
    assert {line[66:] for line in lines} == there - {"MANIFEST.sha256", ".dvc/config.local"}
    for line in lines:
        assert hashlib.sha256((unpacked / line[66:]).read_bytes()).hexdigest() == line[:64]
    assert verify.main([]) == 0
    assert "IDENTICAL: 12 cells" in capfd.readouterr().out
    assert verify.main(["--here"]) == 0


def test_an_archive_that_was_changed_has_nothing_to_compare_with(unpacked, capfd):
    write(unpacked, "study.py", "")
    assert verify.main([]) == 2
    assert "study.py not as MANIFEST.sha256 has it: unpack the archive again" in capfd.readouterr().err
    (unpacked / committed.MANIFEST).unlink()
    assert verify.main([]) == 2
    assert "neither .git nor MANIFEST.sha256 found" in capfd.readouterr().err
    assert archive.main() == 2
