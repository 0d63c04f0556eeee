"""A run that is killed, stopped or started twice: nothing stays behind, and the next `dvc repro` puts all in order.

`make torture` does the same to the real stages at random moments (tests/kill_smoke.py).
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from clones import ROOT, SMOKE, commit, environment, run
from kill_smoke import completed, digests, emptied, heed_ctrl_c, kill, locked, processes, role, started
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.slow

WORK = """
import time
from pathlib import Path
from joblib import Parallel, delayed
values = Parallel(n_jobs=2)(delayed(lambda i: time.sleep(1) or i / 7)(i) for i in range(2))
Path("results/smoke/effects").mkdir(exist_ok=True)
Path("results/smoke/effects/work.csv").write_text(f"{values}")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A pipeline of one notebook with two workers, in a repository that has not run it."""
    folder = tmp_path_factory.mktemp("small").resolve() / "nonconvex"
    (folder / SMOKE).parent.mkdir(parents=True)
    (folder / "src").symlink_to(ROOT / "src")
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache"))
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    parameters = new_code_cell("n: int = 1", metadata={"tags": ["parameters"]})
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    write(new_notebook(cells=[parameters, new_code_cell(WORK)], metadata=metadata), folder / "work.ipynb")
    outputs = ["results/smoke/notebooks/work.ipynb", "results/smoke/effects"]
    command = f"python -m nonconvex.notebook work.ipynb {outputs[0]}"
    stage = {"wdir": "../..", "cmd": command, "deps": ["work.ipynb"]}
    stage["outs"] = [{path: {"cache": False}} for path in outputs]
    (folder / SMOKE).write_text(yaml.safe_dump({"stages": {"work": stage}}, sort_keys=False))
    (folder / "params.yaml").touch()
    run(folder, "git", "init", "-q")
    commit(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder) -> dict[str, str]:
    """The digests of a run's files, as `completed` expects them."""
    emptied(folder)
    assert started(folder, folder / "logs" / "dvc.log").wait(600) == 0
    return digests(folder)


def at_work(folder: Path) -> subprocess.Popen:
    """A run from nothing, at a moment when its workers work."""
    emptied(folder)
    running = started(folder, folder / "logs" / "dvc.log")
    end = time.monotonic() + 300
    while sum(role(process) == "worker" for process in processes(folder)) < 2:
        assert running.poll() is None and time.monotonic() < end, (folder / "logs" / "dvc.log").read_text()
        time.sleep(0.1)
    return running


def gone(folder: Path, seconds: float = 60) -> bool:
    """Whether all of a run's processes end by themselves."""
    end = time.monotonic() + seconds
    while processes(folder) and time.monotonic() < end:
        time.sleep(0.2)
    return not processes(folder)


@pytest.mark.parametrize("victim", ["all", "dvc", "kernel"])
def test_after_kill_9_a_second_repro_makes_what_an_undisturbed_one_makes(folder, undisturbed, victim):
    """`dvc` dies and its runner goes on while the next one runs; or a part dies and the rest must notice."""
    running = at_work(folder)
    assert kill(folder, victim) == victim
    assert running.wait(300) != 0
    assert not locked(folder)
    assert completed(folder, undisturbed) == []
    assert not list((folder / "results").rglob(".*"))


def test_ctrl_c_leaves_no_process_and_says_where_it_was(folder):
    running = at_work(folder)
    os.killpg(running.pid, signal.SIGINT)  # what a terminal does
    assert running.wait(120) != 0
    assert gone(folder)
    assert "work.ipynb interrupted in cell [2]" in (folder / "logs" / "dvc.log").read_text()
    assert (folder / "logs" / "smoke-work.ipynb").exists()


def test_ctrl_c_in_lanes_leaves_no_process(folder):
    """The program that starts several `dvc repro` ends after them, and without a traceback of its own."""
    code = f"import sys; from nonconvex import lanes; sys.exit(lanes.together([['{SMOKE}:work']]))"
    emptied(folder)
    options = {"cwd": folder, "env": environment(folder), "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, preexec_fn=heed_ctrl_c, **options)
    end = time.monotonic() + 300
    while not any(role(process) == "kernel" for process in processes(folder)):
        assert running.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 130 and "Traceback" not in said
    assert gone(folder)


def test_a_second_repro_at_the_same_time_is_told_so(folder, undisturbed):
    running = at_work(folder)
    said = run(folder, "dvc", "repro", SMOKE, fails=True).stderr
    assert running.wait(300) == 0
    assert digests(folder) == undisturbed
    assert "is busy, it is being blocked by:" in said and f"(PID {running.pid})" in said


def test_an_altered_result_is_noticed_and_made_again(folder, undisturbed):
    """A record that was cut off by hand after all had run."""
    assert completed(folder, undisturbed) == []
    path = folder / "results/smoke/effects/work.csv"
    path.write_text(path.read_text()[:-3])
    assert "modified" in run(folder, "dvc", "status", SMOKE).stdout
    assert completed(folder, undisturbed) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".dvc/tmp/rwlock", "Unable to read RWLock-file '.dvc/tmp/rwlock'. JSON structure is corrupted"),
        # which of the two depends on what else dvc has to read
        ("profiles/smoke/dvc.lock", "profiles/smoke/dvc.lock', YAML file structure is corrupted|dvc.lock' is invalid"),
    ],
)
def test_dvcs_own_files_cut_off_are_named_and_may_be_deleted(folder, undisturbed, name, message):
    """dvc writes them in place, so that a kill at the wrong millisecond cuts them off."""
    assert completed(folder, undisturbed) == []
    (folder / name).write_text('{"read": ')
    said = run(folder, "dvc", "repro", "--force", SMOKE, fails=True).stderr
    assert any(words in said for words in message.split("|")), said
    (folder / name).unlink()
    assert completed(folder, undisturbed) == []
