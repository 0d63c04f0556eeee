"""Where a cohort's training stands, on disk, so that an interrupted stage goes on instead of starting again.

A file is written about once a minute and after the last update, under a name that is a digest of everything that the
training follows from: settings, members, device, the package's own source and torch's version. So what is found under
a name belongs to the run that asks for it, and going on from it gives the same bytes as never having stopped
(tests/test_checkpoints.py). A stage that is done throws its folder away.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from nonconvex.train import Cohort, State, load, save, train

EVERY = 60.0  # seconds between two files of a cohort
HISTORY = "history"  # the losses of all updates so far, kept as one more memory of the state
PACKAGE = Path(__file__).parent


def trained(cohort: Cohort, begin: State, file: Path | None, advance: Callable[[int], None]) -> tuple[State, Tensor]:
    """The state after the last update and the losses (steps, E) of every update, from what `file` holds if it is there.

    `advance(n)` hears of n more updates, those that `file` spares among them. Without a file nothing is written.
    Raises ValueError for a file that cannot be read.
    """
    losses: list[Tensor] = []
    if file and file.exists():
        begin, losses = _read(file, begin.diverged.device)
    advance(begin.step)
    state = begin
    written = time.monotonic()
    for state in train(cohort, begin):
        losses.append(state.losses)
        advance(1)
        if file and (state.step == cohort.steps or time.monotonic() - written > EVERY):
            _write(state, losses, file)
            written = time.monotonic()
    return state, torch.stack(losses)


def file_for(folder: Path, *what: object) -> Path:
    """The file for a training that follows from `what`, things whose repr says all about them, and from the code."""
    digest = hashlib.sha256(repr((what, torch.__version__, _source())).encode())
    return folder / f"{digest.hexdigest()[:32]}.safetensors"


@lru_cache
def _source() -> str:
    """Digest of every module of the package: which of them a run needs is not worth finding out."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _write(state: State, losses: list[Tensor], file: Path) -> None:
    """In one move: a file in place is whole, whenever the process was stopped."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".partial")
    save(replace(state, memory={**state.memory, HISTORY: torch.stack(losses)}), unfinished)
    unfinished.replace(file)


def _read(file: Path, device: torch.device) -> tuple[State, list[Tensor]]:
    try:
        state = load(file, str(device))
    except SafetensorError as error:
        raise ValueError(f"{file}: no checkpoint that can be read ({error}); delete it to start again") from None
    memory = {name: value for name, value in state.memory.items() if name != HISTORY}
    return replace(state, memory=memory), list(state.memory[HISTORY].unbind())
