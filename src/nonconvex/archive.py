"""The committed state as one file that runs without git.

    python -m nonconvex.archive

dist/nonconvex-<version>.zip holds what is committed, results included, below one folder; .dvc/config.local, which lets
DVC do without git; and MANIFEST.sha256 with the commit. Same commit, same bytes: dates are the commit's, in UTC.
"""

import sys
import tomllib
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from nonconvex.committed import MANIFEST, NO_HISTORY, NotCommitted, files, git, manifest

READABLE = 0o100644 << 16  # the mode of every entry, where zip keeps it


def main() -> int:
    """The command line: 0 when the archive has been written, else 2."""
    try:
        path = write(Path())
        changed = git(Path(), "status", "--porcelain", "--untracked-files=no").decode().splitlines()
    except NotCommitted as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(path)
    if changed:
        print(f"note: {len(changed)} uncommitted changes are not in it", file=sys.stderr)
    return 0


def write(root: Path) -> Path:
    """Write the archive of HEAD below root and return its path. NotCommitted outside a git repository."""
    content = files(root)
    commit, seconds = git(root, "log", "-1", "--format=%H %ct").decode().split()
    project = tomllib.loads(content["pyproject.toml"].decode())["project"]
    name = f"{project['name']}-{project['version']}"
    content |= {MANIFEST: manifest(content, f"commit {commit}"), **NO_HISTORY}
    path = Path(root) / "dist" / f"{name}.zip"
    path.parent.mkdir(exist_ok=True)
    date = datetime.fromtimestamp(int(seconds), UTC).timetuple()[:6]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in sorted(content.items()):
            info = zipfile.ZipInfo(f"{name}/{entry}", date)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, READABLE
            archive.writestr(info, data)
    return path


if __name__ == "__main__":
    sys.exit(main())
