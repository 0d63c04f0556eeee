"""The files that describe the environment and the project agree with one another."""

import ast
import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
CITATION_KEYS = """
    abstract authors cff-version commit contact date-released doi identifiers keywords license
    license-url message preferred-citation references repository repository-artifact
    repository-code title type url version
"""
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def lines_of(name: str) -> list[str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in lines if line]


def pins() -> dict[str, Version]:
    exact = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines_of("constraints.txt")]
    assert all(exact), "every line of constraints.txt is name==version"
    return {canonicalize_name(match[1]): Version(match[2]) for match in exact}


def test_every_requirement_is_a_range_whose_pin_lies_inside():
    pinned = pins()
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    for requirement in map(Requirement, [*lines_of("requirements.txt"), *chain.from_iterable(extras)]):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} has no pin in constraints.txt"
        assert requirement.specifier.contains(pinned[name]), f"{name} is pinned outside its range"


def test_pins_install_anywhere():
    """A +cpu build is on no public index, and pinned CUDA packages would forbid any other CUDA."""
    for name, version in pins().items():
        assert version.local is None, f"{name} is pinned to the local build {version}"
        assert not name.startswith(("nvidia-", "cuda-")), f"{name} binds the pins to one GPU toolkit"


def test_no_requirement_names_an_index_or_a_file():
    for name in ("requirements.txt", "constraints.txt"):
        assert not [line for line in lines_of(name) if line.startswith("-") or "://" in line or "@" in line]


def test_dependencies_are_declared_once():
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.txt"]}
    assert "dependencies" in PYPROJECT["project"]["dynamic"]


def test_conda_environment_only_points_to_the_pip_files():
    """Checked as text: no conda channel is asked."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, last = environment["dependencies"]
    assert environment["name"] == PYPROJECT["project"]["name"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert [entry.split("=")[0] for entry in conda] == ["python", "pip"]
    assert last == {"pip": ["-r requirements.txt", "-c constraints.txt", "-e ."]}
    python = Version(conda[0].split("=")[1])
    assert SpecifierSet(PYPROJECT["project"]["requires-python"]).contains(python)


def test_every_third_party_import_is_a_requirement():
    """A package that happens to come with another one today may not tomorrow."""
    declared = {canonicalize_name(Requirement(line).name) for line in lines_of("requirements.txt")}
    for path in sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]):
        undeclared = {DISTRIBUTIONS.get(name, name) for name in third_party(path)} - declared
        assert not undeclared, f"{path.name} imports {undeclared}, which requirements.txt does not name"


def third_party(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    ours = {
        "nonconvex",
        "benchmarks",
        "conformance",
        "website",
        *(file.stem for name in ("tests", "benchmarks") for file in (ROOT / name).glob("*.py")),
    }
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - ours


DISTRIBUTIONS = {"yaml": "pyyaml", "PIL": "pillow"}  # import names that are not the distribution's own


def test_citation_file_has_what_its_schema_asks_for():
    """Citation File Format 1.2.0: required keys, known keys, and an author that is a person or an entity."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys() <= set(CITATION_KEYS.split())
    assert citation["cff-version"] == "1.2.0" and citation["type"] in ("software", "dataset")
    assert citation["authors"] and all(set(author) <= {"name", "website"} for author in citation["authors"])
    assert all(isinstance(citation[key], str) for key in ("message", "title", "version", "abstract"))


def test_version_licence_and_authors_are_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    licence = (ROOT / "LICENSE").read_text()
    assert citation["version"] == PYPROJECT["project"]["version"]
    assert citation["license"] == PYPROJECT["project"]["license"]["text"] == licence.split()[0]
    assert citation["authors"][0]["name"] in licence
