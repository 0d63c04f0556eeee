"""The committed state of the project: from git, or in an unpacked archive from its manifest.

An exported copy has no history: DVC is told so in .dvc/config.local, which git ignores.
"""

import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

MANIFEST = "MANIFEST.sha256"  # as `sha256sum --check` reads it
NO_HISTORY = {".dvc/config.local": b"[core]\n    no_scm = true\n"}


class NotCommitted(RuntimeError):
    """The committed files cannot be had here; the message says why."""


def files(root: Path) -> dict[str, bytes]:
    """Content by name of what git has at HEAD, or of what the manifest lists, which must be unchanged."""
    return _of_git(root) if (Path(root) / ".git").exists() else _of_manifest(root)


def export(root: Path, folder: Path) -> None:
    """Write the committed files, and what makes them run without git, into a fresh folder."""
    content = {**files(root), **NO_HISTORY}
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in content.items():
        target = Path(folder) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def manifest(content: dict[str, bytes], origin: str) -> bytes:
    """One line per file, below a comment that says where they come from."""
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in sorted(content.items())]
    return "\n".join([f"# {origin}", *lines, ""]).encode()


def listed(root: Path) -> dict[str, str]:
    """Digest by name from an unpacked archive's manifest."""
    try:
        lines = (Path(root) / MANIFEST).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise NotCommitted(f"neither .git nor {MANIFEST} found in {Path(root).resolve()}") from None
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines if not line.startswith("#"))}


def git(root: Path, *arguments: str) -> bytes:
    """What a git command prints."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise NotCommitted("git is not installed; an archive (make archive) needs none") from None
    except subprocess.CalledProcessError as error:
        raise NotCommitted(f"git {arguments[0]}: {error.stderr.decode().strip()}") from None


def _of_git(root: Path) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(git(root, "archive", "--format=tar", "HEAD"))) as tar:
        files = ((member.name, tar.extractfile(member)) for member in tar if member.isfile())
        return {name: file.read() for name, file in files if file is not None}


def _of_manifest(root: Path) -> dict[str, bytes]:
    digests = listed(root)
    found = {name: (Path(root) / name).read_bytes() for name in digests if (Path(root) / name).is_file()}
    changed = [name for name in digests if hashlib.sha256(found.get(name, b"")).hexdigest() != digests[name]]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise NotCommitted(f"{changed[0]}{more} not as {MANIFEST} has it: unpack the archive again")
    return found
