"""Source notebooks are stripped and short, executed copies are clean, and no file knows its machine."""

import ast
import re
import subprocess
from pathlib import Path

import nbformat
import pytest

from nonconvex import committed
from nonconvex.stable import stable

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LESSONS = ("common_mistakes", "minimal")  # their readers have to see the code
EXECUTED = sorted(ROOT.glob("results/*/notebooks/*.ipynb"))
PIPELINES = sorted((ROOT / "profiles").glob("*/dvc.yaml"))
HOME = re.compile(rb"/(?:home/\w|Users/\w|root/)|[A-Z]:\\Users\\")  # no folder of one person's machine
by_name = {"ids": lambda path: path.stem}


def test_there_is_something_to_check():
    assert NOTEBOOKS and EXECUTED
    assert ROOT / "profiles" / "smoke" / "dvc.yaml" in PIPELINES


def code_cells(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def is_parameters(cell) -> bool:
    return "parameters" in cell.metadata.get("tags", [])


@pytest.mark.parametrize("path", NOTEBOOKS, **by_name)
def test_a_source_notebook_is_stripped(path):
    """Saving a notebook in Jupyter would otherwise make every stage that runs it out of date."""
    notebook = nbformat.read(path, as_version=4)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.get("language_info", {})
    assert [cell.id for cell in notebook.cells] == [str(number) for number in range(len(notebook.cells))]
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, f"cell {cell.id} carries {set(cell.metadata)}"
    for cell in code_cells(path):
        assert cell.outputs == [] and cell.execution_count is None, f"cell {cell.id} was executed"


@pytest.mark.parametrize("path", NOTEBOOKS, **by_name)
def test_a_source_notebook_opens_with_its_question(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# [^\n]*\?\n", first.source + "\n"), "the title is a question"


@pytest.mark.parametrize("path", NOTEBOOKS, **by_name)
def test_one_parameters_cell_of_annotated_constants(path):
    (cell,) = filter(is_parameters, code_cells(path))
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name), ast.unparse(node)
        ast.literal_eval(node.value)


@pytest.mark.parametrize("path", NOTEBOOKS, **by_name)
def test_cells_are_short_and_define_nothing(path):
    """What deserves a name deserves a module and a test, but in a lesson."""
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= 15, f"cell {cell.id} has more than 15 lines"
        for node in ast.walk(ast.parse(cell.source)):
            defines = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda)
            assert not defines or path.stem in LESSONS, f"cell {cell.id} defines {getattr(node, 'name', 'a lambda')}"


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_an_executed_copy_is_complete_and_clean(path):
    """Cleaning it again changes nothing, no cell failed, and every cell was run in order."""
    notebook = nbformat.read(path, as_version=4)
    assert stable(notebook, notebook) == notebook
    counts = [cell.execution_count for cell in code_cells(path) if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1))
    assert not [out for cell in code_cells(path) for out in cell.outputs if out.output_type == "error"]


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.parent.name)
def test_every_profile_runs_the_same_pipeline(path):
    own = path.with_name("validate.yaml")
    written = (ROOT / "dvc.yaml").read_bytes() + (own.read_bytes() if own.is_file() else b"")
    assert path.read_bytes() == written, "copy dvc.yaml over it"


def test_no_file_holds_a_path_of_one_machine():
    for name in project_files():
        content = (ROOT / name).read_bytes()
        found = HOME.search(content)
        assert not found, f"{name} holds {found[0].decode()!r}"
        assert len(ROOT.parts) < 3 or f"{ROOT}/".encode() not in content, f"{name} holds its own folder"


def project_files() -> list[str]:
    """What git tracks, or would track: everything that is not ignored. In an archive, what its manifest lists."""
    if not (ROOT / ".git").exists():
        return list(committed.listed(ROOT))
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
