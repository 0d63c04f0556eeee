"""Jobs on the workers of a Dask cluster.

Scheduler and workers are started by whoever owns the machines, a worker with one thread and in a checkout of the same
code (docs/cluster.md). Whatever a job's numbers depend on besides its settings is compared before any work, and again
by every job, because workers may join late. A worker that dies loses nothing: the scheduler hands its jobs to others.

Why not joblib's backend for Dask: with one worker it runs the jobs in the submitting process, and a job that kills
every worker that tries it keeps it waiting for ever (joblib 1.6, distributed 2026.8; here that is KilledWorker).
"""

import hashlib
import logging
import platform
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

from nonconvex.config import Backend, ConfigError


def spread(backend: Backend, jobs: Sequence[Callable]) -> list:
    """The results of the jobs, in order, from a cluster that `connected` accepts; raises what a job raises."""
    with connected(backend) as client:
        futures = [client.submit(alike, environment(), job, pure=False) for job in jobs]
        return [future.result() for future in futures]  # one by one, so that few are lost with the worker holding them


def check(backend: Backend) -> None:
    """Raises ConfigError for a cluster that the settings name and that cannot be used."""
    if backend.name == "dask":
        with connected(backend):
            pass


@contextmanager
def connected(backend: Backend) -> Iterator:
    """A client of the running cluster. Raises ConfigError when it cannot be reached or its workers differ from here."""
    client = _client(backend)
    with client:
        try:
            client.wait_for_workers(1, timeout=backend.wait)
        except TimeoutError:
            raise ConfigError(
                f"compute.backend: {backend.scheduler} has no worker after {backend.wait:g} s; `dask worker` starts one"
            ) from None
        _refuse_unlike(client)
        yield client


def _client(backend: Backend):
    try:
        import distributed
    except ImportError:
        raise ConfigError(
            "compute.backend is dask, but the package distributed is not installed; "
            "allowed without it: loky; to install it: pip install -e '.[cluster]' -c constraints.txt"
        ) from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it would log is raised as well
    try:
        with warnings.catch_warnings(action="ignore"):  # of versions, which are compared below
            return distributed.Client(backend.scheduler, timeout=backend.wait, set_as_default=False)
    except (OSError, TypeError, ValueError) as error:  # nobody there; no certificates for tls
        raise ConfigError(
            f"compute.backend.scheduler: no connection to {backend.scheduler} within {backend.wait:g} s "
            f"({type(error).__name__}: {error}); `dask scheduler` starts one"
        ) from None


def _refuse_unlike(client) -> None:
    for worker, threads in sorted(client.nthreads().items()):
        if threads != 1:
            raise ConfigError(f"compute.backend: worker {worker} has {threads} threads; start it with --nthreads 1")
    for worker, found in sorted(client.run(_difference, environment(), on_error="return").items()):
        if found:
            raise ConfigError(f"compute.backend: worker {worker} {found}")


def alike(here: dict[str, str], job: Callable):
    """The job's result, from a worker that joined at any time."""
    if found := _difference(here):
        raise ConfigError(f"compute.backend: a worker on {platform.node()} {found}")
    return job()


def _difference(here: dict[str, str]) -> str:
    """In what this process differs from the submitting one; empty when in nothing."""
    there = environment()
    unlike = [f"{name} ({there[name]}, here {here[name]})" for name in here if there[name] != here[name]]
    return f"differs in {', '.join(unlike)}; restart it in a checkout that agrees" if unlike else ""


@cache
def environment() -> dict[str, str]:
    """What numbers depend on besides settings, as it was when this process was first asked; a worker lives long."""
    return {
        "code": _digest(Path(__file__).parent.rglob("*.py")),
        "data": _digest(Path("data").glob("*.npz")),
        "Python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "torch")},
    }


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
