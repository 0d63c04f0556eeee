"""CONTRIBUTING.md's walk-throughs, carried out on copies of the repository as a reader would.

A block of code goes where the words before it say; commands and prompts then show what the text shows. What this cannot
see: whether the prose between the steps is true.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COPIED = ["src", "tests", "notebooks", "profiles", "data", "claims.yaml", "dvc.yaml", "params.yaml", "pyproject.toml"]
RECORDS = "results/cpu/observations/overparameterization"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PLACES = {
    "new": re.compile(r"New file `([^`]+)`:$"),
    "end": re.compile(r"At the end of `([^`]+)`:$"),
    "line": re.compile(r"In `([^`]+)`, (above|below|instead of) `([^`]+)`:$"),
}
CALM = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "GIT_CONFIG_GLOBAL": os.devnull}
AUTHOR = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@dataclass(frozen=True)
class Step:
    """A fenced block: its language, its lines, and the words before it on one line."""

    language: str
    content: str
    before: str


def walk_throughs() -> dict[str, list[Step]]:
    """The steps of every section that adds something, by its title."""
    sections = dict(re.findall(r"^## (Add .+?)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
    return {title: list(steps(body)) for title, body in sections.items()}


def steps(body: str):
    end = 0
    for block in BLOCK.finditer(body):
        yield Step(block[1], block[2], " ".join(body[end : block.start()].split()))
        end = block.end()


def copy(folder: Path) -> Path:
    """What the steps need of the repository, as a repository."""
    for name in (*COPIED, RECORDS):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        clean = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(source, target, ignore=clean) if source.is_dir() else shutil.copy(source, target)
    for command in ("git init --quiet", "git add .", "git commit --quiet --message Copy"):
        run(folder, command)
    return folder


def run(folder: Path, command: str) -> None:
    """Run it as in a shell there; what it prints is in the error."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {**os.environ, **CALM, **AUTHOR, "PATH": path, "PYTHONPATH": str(folder / "src")}
    done = subprocess.run(command, shell=True, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"


def carry_out(step: Step, folder: Path) -> None:
    if step.language == "console":
        for line in step.content.splitlines():
            run(folder, line.removeprefix("$ "))
    elif step.language == "pycon":
        (folder / "seen.txt").write_text(step.content, encoding="utf-8")
        run(folder, "python -m doctest seen.txt")
    else:
        place(step, folder)


def place(step: Step, folder: Path) -> None:
    """Put a block where the words before it say."""
    kind, found = next((kind, found) for kind, at in PLACES.items() if (found := at.search(step.before)))
    file = folder / found[1]
    assert file.exists() == (kind != "new"), f"{found[1]}: {kind}"
    if kind == "line":
        file.write_text(inserted(file.read_text(encoding="utf-8"), found[2], found[3], step.content), encoding="utf-8")
    else:
        with file.open("a", encoding="utf-8") as end:
            end.write(step.content)


def inserted(text: str, where: str, anchor: str, block: str) -> str:
    """The text with the block at the one line from which on it reads like the anchor, whatever the line breaks."""
    lines = text.splitlines(keepends=True)
    words = [" ".join(" ".join(lines[i : i + 3]).split()) for i in range(len(lines))]
    (at,) = (i for i, line in enumerate(lines) if line.strip() and words[i].startswith(anchor))
    start, end = {"above": (at, at), "below": (at + 1, at + 1), "instead of": (at, at + 1)}[where]
    return "".join([*lines[:start], block, *lines[end:]])


@pytest.mark.parametrize("title", walk_throughs())
def test_a_walk_through_does_what_it_says(title, tmp_path):
    folder = copy(tmp_path)
    for step in walk_throughs()[title]:
        carry_out(step, folder)
    run(folder, "ruff check src tests && ruff format --check src tests")


def test_every_block_says_where_it_goes_or_is_run():
    """A block that the other test would pass over."""
    found = walk_throughs()
    assert list(found) == ["Add a schedule", "Add a strategy", "Add a measurement", "Add a claim"]
    for title, walk in found.items():
        assert {"console", "pycon"} & {step.language for step in walk}, f"{title} shows nothing"
        for step in walk:
            placed = [kind for kind, at in PLACES.items() if at.search(step.before)]
            assert len(placed) == (step.language in ("python", "yaml")), f"{title}: {step.before}"


def test_the_entry_of_a_claim_is_committed_before_its_numbers():
    walk = walk_throughs()["Add a claim"]
    (committed,) = (i for i, step in enumerate(walk) if "git commit" in step.content)
    assert [step.language for step in walk[:committed]] == ["yaml"] and "claims.yaml" in walk[0].before


def test_an_anchor_must_name_one_line():
    text = "a = [\n    1,\n]\nb = 2\n"
    assert inserted(text, "below", "a = [ 1,", "x\n") == "a = [\nx\n    1,\n]\nb = 2\n"
    assert inserted(text, "instead of", "b =", "b = 3\n") == "a = [\n    1,\n]\nb = 3\n"
    for anchor in ("c", ""):
        with pytest.raises(ValueError, match="values to unpack"):
            inserted(text, "above", anchor, "")


def test_what_it_names_is_there():
    """A file, a folder or a target of make that has been renamed; new files are made by a block."""
    made = {
        PLACES["new"].search(step.before)[1]
        for walk in walk_throughs().values()
        for step in walk
        if PLACES["new"].search(step.before)
    }
    paths = {name for name in re.findall(r"`([\w./]+/[\w./]*|\w+\.(?:ya?ml|toml|md))`", TEXT)}
    homes = (ROOT, ROOT / "src" / "nonconvex")
    missing = [name for name in paths - made if not any((home / name).exists() for home in homes)]
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert not missing and set(re.findall(r"(?:^|`)make ([\w-]+)", TEXT, re.MULTILINE)) <= set(targets), missing
