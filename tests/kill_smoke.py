"""`kill -9` at random moments of a run of the pipeline, then `dvc repro`: is all as if nothing had happened?

    python tests/kill_smoke.py --kills 20

A copy of this tree runs a short pipeline (STAGES, at the smoke profile's size) once without disturbance. Then, for
every kill, it runs again from nothing; at a moment drawn from the length of the undisturbed run one process of it, or
all at once, is killed, and `dvc repro` is given as a person would give it, at once. It has to end well and leave every
file of results/smoke and dvc.lock byte for byte as in the undisturbed run. Prints a line per kill;
exit code 1 if one differs. Moments and victims are functions of the kill's number, so that `--first 7 --kills 1`
repeats the eighth of them.
"""

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil
import yaml
from clones import SMOKE, copied, environment

STAGES = ("settings", "data", "train", "connectivity", "study-noise-scale", "noise-scale", "verdicts", "tables")
VICTIMS = ("all", "dvc", "runner", "kernel", "worker")
LONGEST = 1800  # seconds that a run may take


@dataclass(frozen=True)
class Trial:
    """One kill and what came of it; `moment` in seconds after the start."""

    number: int
    moment: float
    stage: str
    victim: str
    disturbed: int  # exit code of the run that was hit
    orphans: int  # processes of it that were alive when `dvc repro` was given
    repro: int
    differing: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.repro == 0 and not self.differing


def shortened(folder: Path, stages: Sequence[str] = STAGES) -> Path:
    """The folder with its smoke pipeline cut down to `stages`; jobs run in two worker processes."""
    path, settings = folder / SMOKE, (folder / SMOKE).with_name("params.yaml")
    pipeline = yaml.safe_load(path.read_text())["stages"]
    path.write_text(yaml.safe_dump({"stages": {name: pipeline[name] for name in stages}}, sort_keys=False))
    settings.write_text(settings.read_text().replace("workers: 1}", "workers: 2}"))
    return folder


def started(folder: Path, log: Path) -> subprocess.Popen:
    """`dvc repro` in a session of its own, so that everything that it starts can be found and killed."""
    with log.open("w") as file:
        command = ["dvc", "repro", SMOKE]
        options = {"cwd": folder, "env": environment(folder), "stdout": file, "stderr": file}
        return subprocess.Popen(command, start_new_session=True, **options)


def emptied(folder: Path) -> None:
    """As before the first run."""
    for path in (folder / "results" / "smoke", folder / "logs"):
        shutil.rmtree(path, ignore_errors=True)
    (folder / SMOKE).with_name("dvc.lock").unlink(missing_ok=True)


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file of the smoke profile's results and of its lock."""
    paths = [*(folder / "results" / "smoke").rglob("*"), (folder / SMOKE).with_name("dvc.lock")]
    files = [path for path in paths if path.is_file() and not path.name.endswith(".part")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def processes(folder: Path) -> list[psutil.Process]:
    """Those that work in `folder`, parents first: dvc, the runner, its kernel, the workers."""
    return sorted(_working_in(folder), key=lambda process: process.create_time())


def _working_in(folder: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                process.create_time()
                yield process


def role(process: psutil.Process) -> str:
    """Which of VICTIMS a process is; `other` for shells and resource trackers."""
    with suppress(psutil.Error):
        command = " ".join(process.cmdline())
        marks = {"ipykernel_launcher": "kernel", "nonconvex.": "runner", "popen_loky": "worker", "dvc repro": "dvc"}
        return next((name for mark, name in marks.items() if mark in command), "other")
    return "other"


def kill(folder: Path, wanted: str) -> str:
    """Kill the wanted process or, where there is none at this moment, all at once; returns which it was."""
    alive = processes(folder)
    hit = [process for process in alive if role(process) == wanted][:1] or alive
    for process in hit:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    return wanted if len(hit) == 1 else "all"


def trial(number: int, folder: Path, length: float, expected: dict[str, str]) -> Trial:
    """One disturbed run from nothing in `folder`, which is then completed and compared."""
    draw = random.Random(number)
    moment, wanted = draw.uniform(0, length), VICTIMS[number % len(VICTIMS)]
    emptied(folder)
    log = folder / "logs" / "killed.log"
    log.parent.mkdir()
    running = started(folder, log)
    time.sleep(moment)
    victim = kill(folder, wanted) if running.poll() is None else "none"
    disturbed = running.wait(LONGEST)
    stage = log.read_text().rpartition("Running stage '")[2].partition("'")[0].rpartition(":")[2] or "-"
    orphans = len(processes(folder))
    code = started(folder, folder / "logs" / "completed.log").wait(LONGEST)
    while processes(folder):  # an orphan that still writes would write later too
        time.sleep(0.5)
    found = digests(folder)
    differing = tuple(sorted(name for name in found | expected if found.get(name) != expected.get(name)))
    return Trial(number, round(moment, 1), stage, victim, disturbed, orphans, code, differing)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="kill -9 at random moments of a run, then dvc repro.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first kill")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        folder = shortened(copied(Path(place).resolve() / "nonconvex"))
        emptied(folder)
        (folder / "logs").mkdir()
        start = time.monotonic()
        assert started(folder, folder / "logs" / "undisturbed.log").wait(LONGEST) == 0
        length, expected = time.monotonic() - start, digests(folder)
        print(f"undisturbed: {length:.0f} s, {len(expected)} files", flush=True)
        trials = []
        for number in range(options.first, options.first + options.kills):
            trials.append(trial(number, folder, length, expected))
            print(*astuple(trials[-1]), "passed" if trials[-1].passed else "FAILED", sep="\t", flush=True)
    print(f"{sum(one.passed for one in trials)} of {len(trials)} kills passed")
    return 0 if all(one.passed for one in trials) else 1


if __name__ == "__main__":
    sys.exit(main())
