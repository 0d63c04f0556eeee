"""Progress: counts of several processes, the estimate, and where it is shown."""

import io
import multiprocessing
import sys
import time
from pathlib import Path

import pytest

from nonconvex import progress


class Followed:
    """A board that reads the progress file at `path`, on a clock that the test sets."""

    def __init__(self, path: Path):
        self.clock, self.path, self.read = 0.0, path, 0
        self.board = progress.Board(lambda: self.clock)

    def __str__(self) -> str:
        lines = self.path.read_text().splitlines()
        for line in lines[self.read :]:
            self.board.read(line)
        self.read = len(lines)
        return str(self.board)


@pytest.fixture
def followed(tmp_path, monkeypatch) -> Followed:
    """The progress file of this process."""
    path = tmp_path / "progress"
    path.touch()
    monkeypatch.setenv(progress.VARIABLE, str(path))
    return Followed(path)


@pytest.fixture
def eager(monkeypatch):
    """Every step is written at once."""
    monkeypatch.setattr(progress, "PAUSE", 0)


@pytest.mark.usefixtures("eager")
def test_counts_of_several_processes_add_up_to_one_estimate(followed):
    """Two workers share 100 steps; after 30 of them in 60 s, 60 * 70 / 30 = 140 s are left."""
    with progress.counted("train", 100) as first, progress.counted("train", 100) as second:
        assert str(followed) == "train 0/100"
        followed.clock = 60.0
        first(10)
        second(20, "loss 0.5")
        assert str(followed) == "train 30/100, 2 min left loss 0.5"
        first(40)
        second(30)
        assert str(followed) == "train 100/100"
    assert str(followed) == "train 100/100"  # closing lines count nothing twice


@pytest.mark.usefixtures("eager")
def test_a_stage_that_is_opened_again_starts_anew(followed):
    for _ in range(2):
        with progress.counted("probe", 2) as advance:
            assert str(followed) == "probe 0/2"
            advance()
            advance()
        assert str(followed) == "probe 2/2"
    progress.progress("writing records")
    assert str(followed) == "writing records"


def test_steps_are_written_seldom_and_none_is_lost(followed):
    with progress.counted("train", 10_000) as advance:
        for _ in range(10_000):
            advance()
    assert str(followed) == "train 10000/10000"
    assert followed.read < 20


def test_lines_of_real_processes_do_not_mix(followed):
    """Loses lines when the file is opened for writing rather than for appending."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=many_lines) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert str(followed) == "train 1000/1000"


def many_lines() -> None:
    progress.PAUSE = 0
    with progress.counted("train", 1000) as advance:
        for _ in range(500):
            advance(note="x" * 50)


def test_without_a_runner_and_a_terminal_nothing_is_shown(monkeypatch, capsys):
    monkeypatch.delenv(progress.VARIABLE, raising=False)
    progress.progress("unseen")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal(tty=True))
    progress.progress("seen")
    assert sys.stderr.getvalue() == "\r\x1b[Kseen"


SHOWN = "  [cpu-x, 0 s] halfway"


@pytest.mark.parametrize(("tty", "expected"), [(False, f"{SHOWN}\n"), (True, f"\r\x1b[K{SHOWN}")])
def test_shown_on_the_terminal_in_place_and_elsewhere_line_by_line(tmp_path, tty, expected):
    path, out = tmp_path / "progress", Terminal(tty)
    path.write_text('{"message": "halfway"}\n{"message": "half wri')
    with progress.followed(path, "cpu-x", out, every=0.05):
        while "halfway" not in out.getvalue():
            time.sleep(0.01)
    assert expected in out.getvalue()
    assert "half wri" not in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[K" if tty else "\n")


class Terminal(io.StringIO):
    def __init__(self, tty: bool):
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"), (11_100, "3 h 05 min")]
)
def test_durations_as_people_say_them(seconds, text):
    assert progress.duration(seconds) == text
