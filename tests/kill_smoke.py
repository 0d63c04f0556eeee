"""`kill -9` at random moments of a run of the pipeline, then `dvc repro`: is all as if nothing had happened?

    python tests/kill_smoke.py --kills 20

A copy of this tree runs a short pipeline (STAGES, at the smoke profile's size) once without disturbance. Then it runs
from nothing and is hit again and again: after a time drawn from a quarter of the undisturbed run's one process of it,
or all together, is killed, and `dvc repro` is given again at once, as a person would give it. Times are processor
seconds of all that belongs to the run, so that a busy machine does not keep every kill in the first stages.
The last `dvc repro` is let alone. After every kill each stage in dvc.lock has to be there as in the undisturbed run's,
and at the end every file of results/smoke and dvc.lock itself, byte for byte. A run that is through before the last
kill starts from nothing again, after the same comparison. Prints a line per kill; exit code 1 if anything differs.
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
WRITERS = ("dvc", "runner", "kernel")  # a worker only hands its results back, and without a kernel it idles to its end
LONGEST = 3600  # seconds that a run may take
PAUSE = 0.2  # seconds between two looks


@dataclass(frozen=True)
class Kill:
    """One kill and the state that it left; `moment` is in processor seconds after `dvc repro` was given."""

    number: int
    moment: float
    stage: str
    victim: str
    code: int  # of the `dvc repro` that was hit
    orphans: int  # processes of it that were alive when the next one was given
    done: int  # stages in dvc.lock
    foreign: tuple[str, ...]  # those of them that the undisturbed run recorded otherwise


def shortened(folder: Path, stages: Sequence[str] = STAGES) -> Path:
    """The folder with its smoke pipeline cut down to `stages` and one model; jobs run in two worker processes."""
    path, settings = folder / SMOKE, (folder / SMOKE).with_name("params.yaml")
    pipeline = yaml.safe_load(path.read_text())["stages"]
    path.write_text(yaml.safe_dump({"stages": {name: pipeline[name] for name in stages}}, sort_keys=False))
    text = settings.read_text()
    for old, new in {"models: [resnet, transformer]": "models: [resnet]", "workers: 1}": "workers: 2}"}.items():
        assert text.count(old) == 1, f"{settings} has no {old}"
        text = text.replace(old, new)
    settings.write_text(text)
    return folder


def started(folder: Path, log: Path) -> subprocess.Popen:
    """`dvc repro` in a session of its own, so that everything that it starts can be found and killed."""
    with log.open("w") as file:
        command = ["dvc", "repro", SMOKE]
        options = {"cwd": folder, "env": environment(folder), "stdout": file, "stderr": file}
        return subprocess.Popen(command, start_new_session=True, preexec_fn=heed_ctrl_c, **options)


def heed_ctrl_c() -> None:
    """A shell that starts this in the background makes its children ignore Ctrl-C; a terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def emptied(folder: Path) -> None:
    """As before the first run."""
    for path in (folder / "results" / "smoke", folder / "logs"):
        shutil.rmtree(path, ignore_errors=True)
    (folder / "logs").mkdir()
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


def spent(folder: Path) -> float:
    """Processor seconds of the run in `folder` so far, with those of its processes that have ended."""
    total = 0.0
    for process in processes(folder):
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])  # user, system, and both of its children that have ended
    return total


def child_seconds() -> float:
    """Processor seconds of everything that this process has started and that has ended."""
    return sum(psutil.Process().cpu_times()[2:4])


def role(process: psutil.Process) -> str:
    """Which of VICTIMS a process is; `other` for resource trackers."""
    with suppress(psutil.Error):
        command = " ".join(process.cmdline())
        marks = {"ipykernel_launcher": "kernel", "nonconvex.": "runner", "popen_loky": "worker", "dvc repro": "dvc"}
        return next((name for mark, name in marks.items() if mark in command), "other")
    return "other"


def kill(folder: Path, wanted: str) -> str:
    """Kill the wanted process or, where there is none at this moment, all at once; returns which it was."""
    alive = processes(folder)
    hit = [process for process in alive if role(process) == wanted][:1]
    wanted, hit = (wanted, hit) if hit else ("all", alive)
    for process in hit:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    return wanted


def locked(folder: Path) -> dict[str, dict]:
    """What dvc.lock says of every stage that is done."""
    path = (folder / SMOKE).with_name("dvc.lock")
    return yaml.safe_load(path.read_text())["stages"] if path.exists() else {}


def disturbed(number: int, folder: Path, longest: float, expected: dict[str, dict]) -> Kill:
    """`dvc repro`, and after at most `longest` seconds a kill; both are functions of `number`."""
    draw = random.Random(number)
    log = folder / "logs" / "dvc.log"
    running = started(folder, log)
    moment = draw.uniform(0, longest)
    while running.poll() is None and spent(folder) < moment:
        time.sleep(PAUSE)
    victim = kill(folder, draw.choice(VICTIMS)) if running.poll() is None else "none"
    code = running.wait(LONGEST)
    stage = log.read_text().rpartition("Running stage '")[2].partition("'")[0].rpartition(":")[2] or "-"
    found = locked(folder)
    foreign = tuple(name for name in found if found[name] != expected[name])
    return Kill(number, round(moment, 1), stage, victim, code, len(processes(folder)), len(found), foreign)


def completed(folder: Path, expected: dict[str, str]) -> list[str]:
    """`dvc repro` to its end; the files that are not as expected, or its exit code where that is not 0."""
    code = started(folder, folder / "logs" / "dvc.log").wait(LONGEST)
    while any(role(process) in WRITERS for process in processes(folder)):  # or an orphan would write after the look
        time.sleep(PAUSE)
    for process in processes(folder):  # workers of a killed kernel: idle, joblib ends them after minutes
        with suppress(psutil.NoSuchProcess):
            process.kill()
    found = digests(folder)
    differing = sorted(name for name in found | expected if found.get(name) != expected.get(name))
    return [f"exit code {code}"] * bool(code) + differing


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="kill -9 at random moments of a run, then dvc repro.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first kill, for others than last time's")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        folder = shortened(copied(Path(place).resolve() / "nonconvex"))
        try:
            wrong = tortured(folder, range(options.first, options.first + options.kills))
        finally:
            kill(folder, "all")
    print("all as in the undisturbed run" if not wrong else f"wrong: {', '.join(wrong)}")
    return 1 if wrong else 0


def tortured(folder: Path, numbers: Sequence[int]) -> list[str]:
    """What is not as in the undisturbed run, after kills with these numbers."""
    emptied(folder)
    start = child_seconds()
    if code := started(folder, folder / "logs" / "dvc.log").wait(LONGEST):
        return [f"undisturbed run, exit code {code}"]
    length, files, stages, wrong = child_seconds() - start, digests(folder), locked(folder), []
    print(f"undisturbed: {length:.0f} processor seconds, {len(stages)} stages, {len(files)} files", flush=True)
    emptied(folder)
    for number in numbers:
        hit = disturbed(number, folder, length / 4, stages)
        print(*astuple(hit), sep="\t", flush=True)
        wrong += hit.foreign
        if hit.code == 0 and hit.victim == "none":
            wrong += completed(folder, files)
            emptied(folder)
    return wrong + completed(folder, files)


if __name__ == "__main__":
    sys.exit(main())
