"""Run one notebook and keep an executed copy whose bytes depend on its results alone.

    python -m nonconvex.notebook SOURCE DESTINATION --params FILE --set key=value ...

The settings file is validated and every parameter is checked against the notebook's own parameters cell
before a kernel starts, and so is whether DESTINATION's folder can be written. papermill then writes into logs/; only a
notebook that ran to its end is cleaned (`stable`) and moved to DESTINATION in one step. Exit codes: 0 done, 1 failed,
2 refused before it ran, 130 interrupted.
"""

import argparse
import ast
import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# nbformat and papermill import a grammar of URLs, a second's worth in every stage, only to check optional formats
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None: importing it fails

import nbformat  # noqa: E402
import yaml  # noqa: E402
from nbformat import NotebookNode  # noqa: E402

from nonconvex import config  # noqa: E402
from nonconvex.paths import replaced  # noqa: E402
from nonconvex.progress import VARIABLE, followed  # noqa: E402
from nonconvex.stable import stable  # noqa: E402

LOGS = Path("logs")
PACKAGE = Path(__file__).resolve().parents[1]  # the kernel imports the package that the runner is part of
# glibc gives large blocks back to the system when they are freed, and every product asks for its own again, page by
# page: a sixth of the time of curvature on a ResNet. Other allocators ignore these.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


class ParameterError(ValueError):
    """A parameter or a parameters cell that cannot be used; nothing was run."""


class NotebookError(RuntimeError):
    """A notebook that did not run to its end; the message says where, why, and where the partial copy is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit codes are at the top."""
    options = _parser().parse_args(arguments)
    for name in ("SIGTERM", "SIGHUP"):  # stop as on Ctrl-C, so that the kernel is taken down too
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        parameters = _parameters(options.params, options.set)
        seconds = run(options.source, options.destination, parameters)
    except (config.ConfigError, ParameterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (NotebookError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 130 if isinstance(error.__cause__, KeyboardInterrupt) else 1
    except KeyboardInterrupt:
        print(f"error: {options.source} interrupted before its first cell", file=sys.stderr)
        return 130
    print(f"{options.source} -> {options.destination} in {seconds:.1f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nonconvex.notebook", description="Run one notebook.")
    parser.add_argument("source", type=Path, help="the notebook to run; it is only read")
    parser.add_argument("destination", type=Path, help="where the executed copy goes")
    parser.add_argument("--params", metavar="FILE", help="settings of the profile; handed on as `params`")
    parser.add_argument("--set", metavar="KEY=VALUE", nargs="*", default=[], help="values are YAML")
    return parser


def _parameters(settings: str | None, assignments: Sequence[str]) -> dict[str, Any]:
    """Parameters by name: the settings file, once it is known to be valid, then the assignments."""
    parameters: dict[str, Any] = {}
    if settings is not None:
        config.read(settings)
        parameters["params"] = settings
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ParameterError(f"--set takes key=value, got {assignment!r}")
        try:
            parameters[name] = yaml.load(value, _Yaml)
        except yaml.YAMLError:
            raise ParameterError(f"--set {name}: {value!r} is no YAML") from None
    return parameters


class _Yaml(yaml.SafeLoader):
    """YAML as its version 1.2 reads numbers: 1e-3 is one, not a text."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def run(source: Path, destination: Path, parameters: dict[str, Any], logs: Path = LOGS) -> float:
    """Execute `source` under `parameters`, write its clean copy to `destination`, return the seconds it took.

    Raises ParameterError before anything is run, and NotebookError when the notebook fails, is interrupted or cannot be
    written: the partial copy is then in `logs` and `destination` as it was.
    """
    if not source.is_file():
        raise ParameterError(f"there is no notebook {source}")
    notebook = nbformat.read(source, as_version=4)
    _check(source, parameters, declared(source, notebook))
    for folder in (destination.parent, logs):
        _try(folder)
    name = f"{destination.parent.parent.name}-{destination.stem}".lstrip("-")
    partial = logs / f"{name}.{os.getpid()}.ipynb"  # the same notebook may be under way twice
    start = time.monotonic()
    _execute(source, partial, parameters, name)
    executed, seconds = nbformat.read(partial, as_version=4), time.monotonic() - start
    try:
        _write(stable(executed, notebook), destination)
        (logs / f"{name}.json").write_text(json.dumps(_timings(executed, seconds), indent=1) + "\n")
    except OSError as error:
        raise _failure(source, f"ran to its end but could not be kept: {error}", partial) from error
    partial.unlink()
    return seconds


def declared(source: Path, notebook: NotebookNode) -> list[str]:
    """Names that the notebook's one cell tagged `parameters` assigns, in order."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ParameterError(f"{source} has {len(cells)} cells tagged `parameters`; it needs exactly one")
    nodes = [node for node in ast.walk(ast.parse(cells[0].source)) if isinstance(node, ast.Name)]
    return [node.id for node in nodes if isinstance(node.ctx, ast.Store)]


def _check(source: Path, parameters: dict[str, Any], known: list[str]) -> None:
    unknown = [name for name in parameters if name not in known]
    if unknown:
        listed = ", ".join(known) or "none"
        raise ParameterError(f"{source} declares no parameter {', '.join(unknown)}; it declares: {listed}")


def _try(folder: Path) -> None:
    """Raise ParameterError for a folder in which no file can be made: better now than after an hour's work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        raise ParameterError(f"{folder} cannot be written: {error.strerror}") from None


def _execute(source: Path, partial: Path, parameters: dict[str, Any], name: str) -> None:
    """papermill from `source` to `partial`, with progress on standard error."""
    papermill = _papermill()
    options = {
        "progress_bar": False,
        "extra_arguments": ["--IPKernelApp.log_level=50"],  # or every kernel warns about its own TCP connection
        "start_timeout": 300,  # seconds; a minute is too short on a machine that is busy
    }
    with tempfile.TemporaryDirectory() as folder:
        messages = Path(folder) / "progress"
        messages.touch()
        try:
            with _environment(messages), followed(messages, name, sys.stderr):
                papermill.execute_notebook(str(source), str(partial), parameters, **options)
        except papermill.PapermillExecutionError as error:
            where = f"failed in cell [{error.exec_count}]: {error.ename}: {error.evalue}"
            raise _failure(source, where, partial) from error
        except (RuntimeError, OSError) as error:  # the kernel died, most often for want of memory; or logs/ is full
            where = f"failed in cell {_last(partial)}: {type(error).__name__}: {error}"
            raise _failure(source, where, partial) from error
        except KeyboardInterrupt as error:
            raise _failure(source, f"interrupted in cell {_last(partial)}", partial) from error


def _papermill():
    """papermill, imported when it is needed."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # or an interrupt prints pages of plumbing
    import papermill

    return papermill


def _failure(source: Path, where: str, partial: Path) -> NotebookError:
    """The error to raise; the partial copy loses the process number in its name."""
    kept = partial.with_name(f"{partial.name.rsplit('.', 2)[0]}.ipynb")
    if partial.exists():
        partial.replace(kept)
    return NotebookError(f"{source} {where}\n  the partly executed notebook: {kept}")


def _last(partial: Path) -> str:
    """The execution count, as `[n]`, of the last cell that was started."""
    try:
        cells = nbformat.read(partial, as_version=4).cells
    except (OSError, ValueError):  # not begun, or cut off by a full disk
        return "[?]"
    started = [cell for cell in cells if cell.cell_type == "code" and cell.metadata.papermill.start_time]
    return f"[{len(started)}]"


@contextmanager
def _environment(messages: Path) -> Iterator[None]:
    """What the kernel inherits: one thread, one hash seed, kept memory, inline pictures, progress into `messages`."""
    path = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
    changed = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": path, VARIABLE: str(messages)}
    changed["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    before = dict(os.environ)
    os.environ.update(ALLOCATOR | changed)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _write(notebook: NotebookNode, destination: Path) -> None:
    """The notebook under its final name, all of it or nothing. OSError names `destination`."""
    with replaced(destination) as part:
        nbformat.write(notebook, part)


def _timings(executed: NotebookNode, seconds: float) -> dict[str, Any]:
    """Wall-clock facts, which belong in logs/ and never in a tracked file."""
    cells = [cell.metadata.get("papermill", {}).get("duration") for cell in executed.cells]
    finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"seconds": round(seconds, 2), "cells": cells, "finished": finished}


if __name__ == "__main__":
    sys.exit(main())
