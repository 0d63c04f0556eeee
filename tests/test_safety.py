"""Nothing that is read is ever executed: no pickle, no code from data, YAML safely, no path outside the target."""

import ast
import io
import tarfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml

from nonconvex import axes, notebook
from nonconvex.data import cifar10, mnist1d

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "conformance", "benchmarks")

# Modules that execute what they read, and calls that do, unpack by the names in an archive, or hand text to a shell.
MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle", "zipfile", "ftplib"}
WRITER = ("src/nonconvex/archive.py", "zipfile")  # writes archives and opens none
BUILTINS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    "extractall",
    "extract",
    "unpack_archive",
    "read_pickle",
    "to_pickle",
    "unsafe_load",
    "full_load",
    "load_all",
}
METHODS |= {"system", "popen", "urlretrieve", "load_state_dict_from_url"}
NETWORK = {"urllib.request": "src/nonconvex/data/download.py"}  # module -> the only file that may import it


def sources() -> list[tuple[str, ast.Module]]:
    """Every program of the repository, notebooks' code cells included, by name."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in files]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        found.append((path.relative_to(ROOT).as_posix(), code))
    return [(name, ast.parse(code)) for name, code in found]


def calls(tree: ast.Module) -> list[tuple[str, str, ast.Call]]:
    """(object, name, call) for every call: ("np", "load", ...) for `np.load(...)`, ("", "eval", ...) for `eval(x)`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.append(("", node.func.id, node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.append((ast.unparse(node.func.value), node.func.attr, node))
    return found


def imports(tree: ast.Module) -> set[str]:
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return names | {node.module for node in froms} | {f"{node.module}.{a.name}" for node in froms for a in node.names}


def wrong(tree: ast.Module, name: str) -> list[str]:
    """What in a program could execute, or write elsewhere, what it reads."""
    used = {module.split(".")[0] for module in imports(tree)}
    found = sorted(module for module in used & MODULES if (name, module) != WRITER)
    found += [module for module, file in NETWORK.items() if module in imports(tree) and name != file]
    for of, called, call in calls(tree):
        options = {word.arg: ast.unparse(word.value) for word in call.keywords}
        harmless = (of, called) == ("platform", "system")  # a name, no command
        if (called in METHODS and not harmless) or (called in BUILTINS and not of):
            found.append(f"{of}.{called}".lstrip("."))
        if (of, called) in {("torch", "load"), ("joblib", "load")}:
            found.append(f"{of}.{called}")
        if (of, called) == ("np", "load") and options.get("allow_pickle") != "False":
            found.append("np.load without allow_pickle=False")
        if (of, called) == ("yaml", "load") and ast.unparse(call.args[1]) not in ("UniqueKeys", "_Yaml"):
            found.append("yaml.load with an unknown loader")
        if options.get("shell", "False") != "False":
            found.append("a shell")
    return found


@pytest.mark.parametrize(("name", "tree"), [pytest.param(*one, id=one[0]) for one in sources()])
def test_no_program_executes_what_it_reads(name, tree):
    assert wrong(tree, name) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "torch.load(path)", "np.load(path)", "joblib.load(path)",
        "np.load(path, allow_pickle=True)", "yaml.load(text, yaml.Loader)", "yaml.unsafe_load(text)", "eval(text)",
        "archive.extractall(folder)", "subprocess.run(text, shell=True)", "import os\nos.system(text)",
        "import urllib.request", "from urllib.request import urlopen", "pd.read_pickle(path)", "import zipfile",
    ],
)  # fmt: skip
def test_the_rules_see_what_they_forbid(code):
    assert wrong(ast.parse(code), "somewhere.py")


@pytest.mark.parametrize("loader", [axes.UniqueKeys, notebook._Yaml])
@pytest.mark.parametrize("tag", ["object/apply:os.mkdir [owned]", "object/new:os.mkdir [owned]", "name:os.mkdir"])
def test_yaml_makes_no_objects(tmp_path, monkeypatch, loader, tag):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(yaml.constructor.ConstructorError, match="could not determine a constructor"):
        yaml.load(f"a: !!python/{tag}", loader)
    assert list(tmp_path.iterdir()) == []


class Trap:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return Path.mkdir, (Path("owned"),)


def test_a_pickle_inside_an_npz_is_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("trap.npz", **dict.fromkeys([*mnist1d.SHA256, "train_jpeg"], np.array([Trap()], dtype=object)))
    with pytest.raises(ValueError, match=r"trap\.npz: not a readable npz file .*allow_pickle=False"):
        mnist1d.read("trap.npz")
    with pytest.raises(ValueError, match="allow_pickle=False"):
        cifar10.from_jpeg("trap.npz", "train")
    assert [path.name for path in tmp_path.iterdir()] == ["trap.npz"]


MEMBER = cifar10.MEMBERS["test"][0]
KINDS = {"symlink": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE}


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", MEMBER])
@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_is_no_plain_file_is_refused(tmp_path, kind, target):
    """A link by the right name, out of the archive or round in a circle, and things that block a reader for ever."""
    header = tarfile.TarInfo(MEMBER)
    header.type, header.linkname = KINDS[kind], target
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(header)
    with pytest.raises(ValueError, match=r"a\.tar\.gz: file .*test_batch\.bin expected, not found"):
        cifar10.from_archive(tmp_path / "a.tar.gz", "test")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/../../escaped"])
def test_members_outside_the_folder_are_never_written(tmp_path, monkeypatch, name):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    with tarfile.open("a.tar.gz", "w:gz") as archive:
        for member, size in ((name, 1), (MEMBER, cifar10.RECORD)):
            header = tarfile.TarInfo(member)
            header.size = size
            archive.addfile(header, io.BytesIO(bytes(size)))
    assert len(cifar10.from_archive("a.tar.gz", "test")) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.tar.gz"]


@pytest.mark.parametrize("damage", ["cut off", "no archive"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        header = tarfile.TarInfo(MEMBER)
        header.size = 100 * cifar10.RECORD
        archive.addfile(header, io.BytesIO(np.random.default_rng(0).bytes(header.size)))
    path.write_bytes(path.read_bytes()[:-5000] if damage == "cut off" else b"<html>Not found</html>")
    with pytest.raises(ValueError, match=r"a\.tar\.gz: "):
        cifar10.from_archive(path, "test")
