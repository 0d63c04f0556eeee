"""Files from the network, never used before their checksum is verified."""

import hashlib
import os
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

from nonconvex.progress import progress

CHUNK = 1 << 20  # bytes per read
TIMEOUT = 60  # seconds without a byte


def fetch(url: str, path: str | Path, *, sha256: str | None = None, md5: str | None = None) -> Path:
    """Make sure that `path` holds the file behind `url`, and return it.

    A file in place is verified and used. A download has a temporary name until it is verified, so an
    interrupted one leaves nothing that looks complete. Give exactly one checksum. Raises ValueError naming
    file, expected and found checksum, and ConnectionError naming url and file when the download itself fails.
    """
    if (sha256 is None) == (md5 is None):
        raise ValueError(f"{path}: exactly one checksum wanted, sha256={sha256!r} and md5={md5!r} found")
    path = Path(path)
    if path.exists():
        verify(path, sha256=sha256, md5=md5)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part{os.getpid()}")  # two processes may download at once
    try:
        _download(url, part, path)
        verify(part, sha256=sha256, md5=md5, name=f"{path} from {url}")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def verify(path: Path, *, sha256: str | None = None, md5: str | None = None, name: str | None = None) -> None:
    """Raise ValueError naming the file, the checksum expected and the one found, unless they are equal."""
    algorithm, expected = ("sha256", sha256) if sha256 else ("md5", md5)
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise ValueError(f"{name or path}: {algorithm} {expected} expected, {found} found")


def _download(url: str, part: Path, path: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as source, open(part, "wb") as target:
            received = 0
            while chunk := source.read(CHUNK):
                target.write(chunk)
                received += len(chunk)
                progress(f"downloading {path.name}, {received / 1e6:.0f} MB")
    except OSError as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection open
        message = f"{url} could not be downloaded ({error}); put the file at {path} by hand"
        raise ConnectionError(message) from None
