"""Progress that reaches the terminal and never the notebook.

A kernel captures everything its code prints, so code that wants to tell how far it is appends a line of
JSON to the file that $NONCONVEX_PROGRESS names, and the notebook runner follows that file. Worker processes
inherit the variable; a line is one `write` in append mode, so lines of several processes never mix. Outside
the runner a message goes straight to the terminal, and nowhere when there is none. Nothing here can change a
number.
"""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

VARIABLE = "NONCONVEX_PROGRESS"
PAUSE = 0.2  # seconds between two lines of one counter


def progress(message: str) -> None:
    """Show `message` as what is going on now."""
    _send({"message": message})


@contextmanager
def counted(stage: str, total: int) -> Iterator[Callable[..., None]]:
    """Count the steps of a stage towards `total`.

    `with counted("tune resnet/sam", 1000) as advance: ... advance()`
    `advance(count=1, note="")` may be called for every step: it writes at most a few lines per second.
    Several processes may open the same stage; their counts add up, so `total` is that of all of them.
    """
    pending, sent = 0, time.monotonic()

    def send(note: str = "", opening: bool = False) -> None:
        nonlocal pending, sent
        _send({"stage": stage, "total": total, "count": pending, "opening": opening, "message": note})
        pending, sent = 0, time.monotonic()

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal pending
        pending += count
        if time.monotonic() - sent >= PAUSE:
            send(note)

    send(opening=True)
    try:
        yield advance
    finally:
        send()


def _send(event: dict) -> None:
    line = json.dumps(event)
    if path := os.environ.get(VARIABLE):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, f"{line}\n".encode())
        finally:
            os.close(handle)
    elif sys.stderr.isatty():
        _own.read(line)
        _show(sys.stderr, str(_own))


class Board:
    """What the lines so far amount to: the last message and, where steps are counted, share and time left."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._text = ""
        self._done: dict[str, int] = {}  # stage -> steps
        self._since: dict[str, float] = {}  # stage -> when it was opened

    def read(self, line: str) -> None:
        """Take in one event, a line of JSON as `_send` writes it."""
        event = json.loads(line)
        counts = self._count(event) if "stage" in event else ""
        self._text = " ".join(filter(None, [counts, event["message"]]))

    def __str__(self) -> str:
        return self._text

    def _count(self, event: dict) -> str:
        stage, total = event["stage"], event["total"]
        if event["opening"] and self._done.get(stage, total) >= total:  # new, or opened again when complete
            self._done[stage], self._since[stage] = 0, self._clock()
        self._done[stage] += event["count"]
        done, passed = self._done[stage], self._clock() - self._since[stage]
        # time left = time passed * (total - done) / done
        left = f", {duration(passed * (total - done) / done)} left" if 0 < done < total else ""
        return f"{stage} {done}/{total}{left}"


def duration(seconds: float) -> str:
    """`seconds` as a person would say them: 45 s, 12 min, 3 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


_own = Board()


@contextmanager
def followed(path: Path, name: str, stream: TextIO, every: float = 10.0) -> Iterator[None]:
    """Show the progress file `path` on `stream` under `name` while the body runs.

    On a terminal one line is rewritten in place; elsewhere (a log, CI) a line is added every `every` seconds.
    """
    done = threading.Event()
    follower = threading.Thread(target=_follow, args=(path, name, stream, every, done), daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()


def _follow(path: Path, name: str, stream: TextIO, every: float, done: threading.Event) -> None:
    board, tty, rest = Board(), stream.isatty(), ""
    start = last = time.monotonic()
    with open(path) as file:
        while not done.wait(min(every, 0.5)):
            *lines, rest = (rest + file.read()).split("\n")  # the last one may be half written
            for line in lines:
                board.read(line)
            now = time.monotonic()
            if str(board) and (tty or now - last >= every):
                last = now
                _show(stream, f"  [{name}, {duration(now - start)}] {board}")
    if tty:
        _show(stream, "")


def _show(stream: TextIO, text: str) -> None:
    if stream.isatty():
        width = shutil.get_terminal_size().columns
        print(f"\r\x1b[K{text[: width - 1]}", end="", file=stream, flush=True)
    else:
        print(text, file=stream, flush=True)
