"""The notebook runner: refusals, failures, byte-stable copies and interruption."""

import os
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
    wait_until(lambda: all(path.exists() and path.read_text().strip() for path in workers), 120)
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
