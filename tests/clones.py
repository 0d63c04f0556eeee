"""Copies of this tree in repositories of their own, and commands in them as a reader would give them."""

import os
import subprocess
import sys
from pathlib import Path

from test_sources import project_files

ROOT = Path(__file__).resolve().parents[1]
SMOKE = "profiles/smoke/dvc.yaml"
IDENTITY = ("-c", "user.name=n", "-c", "user.email=e")


def copied(folder: Path) -> Path:
    """`folder` with every file that git does not ignore here, in a repository of its own with one commit."""
    for name in project_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    run(folder, "git", "init", "-q")
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    run(folder, "git", "add", "--all")
    made = [name for name in ("results/smoke", "profiles/smoke/dvc.lock") if (folder / name).exists()]
    run(folder, "git", "add", "--all", "--force", *made, "params.yaml")  # git ignores what the smoke profile makes
    run(folder, "git", *IDENTITY, "commit", "--quiet", "--allow-empty", "--message", "state")


def environment(folder: Path) -> dict[str, str]:
    """This interpreter's environment first on the path, and the folder's own package."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "src")}


def run(folder: Path, *command: str, fails: bool = False) -> subprocess.CompletedProcess:
    """A command in `folder` that has to succeed, or to fail."""
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=1800)
    assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}\n{done.stderr}"
    return done
