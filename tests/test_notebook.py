"""The notebook runner: refusals, failures, byte-stable copies and interruption."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from nonconvex import notebook

PARAMETERS = "model: str = 'mlp'\nrate: float = 0.1"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes a notebook of the given code cells into an empty work folder and names it."""
    monkeypatch.chdir(tmp_path)

    def write(*cells: str, parameters: str = PARAMETERS) -> Path:
        declared = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        code = [new_code_cell(textwrap.dedent(cell)) for cell in cells]
        whole = new_notebook(cells=[new_markdown_cell("# Question"), declared, *code])
        whole.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(whole, "source.ipynb")
        return Path("source.ipynb")

    return write


DESTINATION = Path("results/cpu/notebooks/copy.ipynb")
NOISY = """
    import sys, time, warnings
    import matplotlib.pyplot as plt
    for i in range(20):
        print("out", i)
        print("err", i, file=sys.stderr)
        print(f"\\rbar {time.time()}", file=sys.stderr)
        time.sleep(0.01)
    warnings.warn("careful")
    plt.plot([1, 2]); plt.show()
    print(model, rate)
    object(), hash("text")
"""


def test_two_executions_leave_the_same_bytes_and_no_partial_copy(written):
    source = written(NOISY)
    for destination in (DESTINATION, DESTINATION.with_name("again.ipynb")):
        notebook.run(source, destination, {"model": "resnet", "rate": 0.25})
    assert DESTINATION.read_bytes() == DESTINATION.with_name("again.ipynb").read_bytes()
    text = DESTINATION.read_text()
    assert "resnet 0.25" in text and "image/png" in text and "UserWarning: careful" in text
    assert "bar" not in "".join(output.text for output in streams(DESTINATION))
    assert not any(word in text for word in ("papermill", "ipykernel_", "at 0x7", str(Path.home())))
    assert sorted(path.name for path in Path("logs").iterdir()) == ["cpu-again.json", "cpu-copy.json"]
    assert [path.name for path in DESTINATION.parent.iterdir() if path.name.startswith(".")] == []


def streams(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return [output for output in outputs if output.output_type == "stream"]


def test_a_failing_notebook_is_reported_and_leaves_the_destination_alone(written, capsys):
    source = written("kept = 1", "{}['absent']", "later = 2")
    DESTINATION.parent.mkdir(parents=True)
    DESTINATION.write_text("as it was")
    assert notebook.main([str(source), str(DESTINATION)]) == 1
    message = capsys.readouterr().err
    assert "source.ipynb failed in cell [3]: KeyError: 'absent'" in message
    assert "logs/cpu-copy.ipynb" in message
    assert "'absent'" in Path("logs/cpu-copy.ipynb").read_text()
    assert DESTINATION.read_text() == "as it was"


def test_a_dead_kernel_is_a_failure_of_its_cell(written, capsys):
    source = written("kept = 1", "import os; os._exit(1)")
    assert notebook.main([str(source), str(DESTINATION)]) == 1
    assert "failed in cell [3]: DeadKernelError" in capsys.readouterr().err
    assert not DESTINATION.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "modle=resnet"], "source.ipynb declares no parameter modle; it declares: model, rate"),
        (["--set", "model"], "--set takes key=value, got 'model'"),
        (["--set", "model=[1"], "--set model: '[1' is no YAML"),
        (["--params", "settings.yaml"], "settings.yaml: "),
        (["--params", "absent.yaml"], "absent.yaml"),
    ],
)
def test_refused_before_a_kernel_starts(written, capsys, monkeypatch, arguments, message):
    """A misspelt parameter would otherwise run for hours with the default."""
    source = written("x = 1")
    Path("settings.yaml").write_text("profile: {name: cpu, root: ., params: p}\nunheard: 1\n")
    before = sorted(Path().rglob("*"))
    monkeypatch.setattr(notebook, "_execute", lambda *_: pytest.fail("a kernel was started"))
    assert notebook.main([str(source), str(DESTINATION), *arguments]) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before


def test_refuses_an_absent_notebook_and_a_second_parameters_cell(written, capsys):
    assert notebook.main(["absent.ipynb", str(DESTINATION)]) == 2
    assert "there is no notebook absent.ipynb" in capsys.readouterr().err
    source = written("x = 1")
    twice = nbformat.read(source, as_version=4)
    twice.cells[2].metadata.tags = ["parameters"]
    nbformat.write(twice, source)
    assert notebook.main([str(source), str(DESTINATION)]) == 2
    assert "has 2 cells tagged `parameters`" in capsys.readouterr().err


def test_values_are_yaml():
    """papermill's own -p would hand on the text 'false', which is true; YAML 1.1 reads 1e-3 as a text."""
    assignments = ["a=false", "b=1e-3", "c=[1, x]", "d=none", "e=", "f=k=v", "g=2"]
    expected = {"a": False, "b": 0.001, "c": [1, "x"], "d": "none", "e": None, "f": "k=v", "g": 2}
    assert notebook._parameters(None, assignments) == expected


def test_the_kernel_inherits_one_thread_and_the_runner_keeps_its_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = dict(os.environ)
    with notebook._environment(tmp_path):
        assert os.environ["OMP_NUM_THREADS"] == "1" and os.environ["PYTHONHASHSEED"] == "0"
        assert notebook.ALLOCATOR.items() <= os.environ.items()
    assert dict(os.environ) == before


def test_a_folder_that_cannot_be_made_is_refused_before_a_kernel_starts(written, capsys, monkeypatch):
    """An hour of training whose results then have nowhere to go."""
    source = written("x = 1")
    Path("results").write_text("a file where a folder should be")
    monkeypatch.setattr(notebook, "_execute", lambda *_: pytest.fail("a kernel was started"))
    assert notebook.main([str(source), str(DESTINATION)]) == 2
    assert "results/cpu/notebooks cannot be written: Not a directory" in capsys.readouterr().err


def mounted(mount: str) -> tuple[int, str, str]:
    """Exit code and errors of a run after `mount`, seen by nobody else, and the files that are then in results/."""
    run = f"{sys.executable} -m nonconvex.notebook source.ipynb {DESTINATION}"
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*command, "mount -t tmpfs none /mnt"]).returncode:
        pytest.skip("this system lets nobody mount a file system of his own")
    Path("results").mkdir()
    Path("logs").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(notebook.PACKAGE)}
    script = f"{mount} && {run}; code=$?; find results -type f; exit $code"
    done = subprocess.run([*command, script], env=environment, capture_output=True, text=True, timeout=1800)
    return done.returncode, done.stderr, done.stdout


@pytest.mark.slow
def test_a_read_only_results_folder_is_refused(written):
    written("x = 1")
    code, said, files = mounted("mount -t tmpfs -o ro none results")
    assert (code, files) == (2, "")
    assert "error: results/cpu/notebooks cannot be written: Read-only file system" in said


@pytest.mark.slow
def test_a_disk_that_fills_up_in_a_cell_leaves_nothing_half_written(written):
    written(
        """
        from pathlib import Path
        from nonconvex.paths import replaced
        with replaced(Path("results/cpu/rows.csv")) as part:
            part.write_text("x" * 100_000)
        """
    )
    code, said, files = mounted("mount -t tmpfs -o size=16k none results")
    assert (code, files) == (1, "")
    assert "failed in cell [2]: OSError: [Errno 28] No space left on device: 'results/cpu/rows.csv'" in said


@pytest.mark.slow
def test_a_disk_without_room_for_the_executed_copy_loses_nothing(written):
    written("print('x' * 100_000)")
    code, said, files = mounted("mount -t tmpfs -o size=16k none results")
    assert (code, files) == (1, "")
    assert f"ran to its end but could not be kept: [Errno 28] No space left on device: '{DESTINATION}'" in said
    assert "x" * 100_000 in Path("logs/cpu-copy.ipynb").read_text()


@pytest.mark.slow
def test_a_disk_without_room_for_the_log_is_one_message(written):
    written("print('x' * 100_000)")
    code, said, files = mounted("mount -t tmpfs -o size=16k none logs")
    assert (code, files) == (1, "")
    assert "error: source.ipynb failed in cell" in said and "No space left on device" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_two_runs_at_once_do_not_meet(written):
    """The same notebook to the same destination: each has its own partial copy, and the last one ends the same."""
    source = written("import time; time.sleep(1); print(model)")
    command = [sys.executable, "-m", "nonconvex.notebook", str(source), str(DESTINATION)]
    environment = {**os.environ, "PYTHONPATH": str(notebook.PACKAGE)}
    running = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [one.wait(300) for one in running] == [0, 0]
    assert "mlp" in DESTINATION.read_text()
    assert [path.name for path in Path("logs").iterdir()] == ["cpu-copy.json"]
    assert [path.name for path in DESTINATION.parent.iterdir()] == [DESTINATION.name]


@pytest.mark.slow
def test_an_interrupt_leaves_no_kernel_and_no_worker(written):
    """The kernel and its workers write their process numbers; after Ctrl-C none of them may be alive."""
    source = written(
        """
        import os, time
        from joblib import Parallel, delayed
        Parallel(n_jobs=2)(delayed(os.system)(f"echo $PPID > worker{i}; sleep 60") for i in range(2))
        """
    )
    command = [sys.executable, "-m", "nonconvex.notebook", str(source), str(DESTINATION)]
    # a shell that starts the tests in the background makes its children ignore Ctrl-C; a terminal does not
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    runner = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed)
    workers = [Path("worker0"), Path("worker1")]
    wait_until(lambda: all(path.exists() and path.read_text().strip() for path in workers), 600)
    os.killpg(runner.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    _, message = runner.communicate(timeout=120)
    assert runner.returncode == 130
    assert "interrupted in cell [2]" in message and "Traceback" not in message
    assert not DESTINATION.exists()
    wait_until(lambda: not any(alive(int(path.read_text())) for path in workers), 30)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"still waiting after {seconds} s"
        time.sleep(0.1)
