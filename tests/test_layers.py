"""Imports run downwards, and every pipeline stage depends on exactly the modules that its notebook reaches.

Read from the syntax trees. What this cannot see: a module imported by a computed name. The registries of
models and strategies do that on purpose; their chosen member is read from the stage's command instead.
"""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src"

# Rows of families (a family is a module or a package under nonconvex/), and the rows that each may import.
ROWS = {
    "foundation": "axes cluster columns config observations paths plan progress records study_settings tensors",
    "parts": "data losses models optimizers schedules strategies",
    "loop": "beds check checkpoints evaluation train",
    "measure": "measure",
    "experiment": "connection experiment studies",
    "reading": "arms claims contrasts judging layout provenance readme report source_tables statistics "
    "summaries tables typeset",
    "drawing": "drawings figures panels style",
    "tools": "archive committed compare lanes notebook stable verify",
}
BELOW = {
    "foundation": (),
    "parts": ("foundation",),
    "loop": ("foundation", "parts"),
    "measure": ("foundation", "parts", "loop"),
    "experiment": ("foundation", "parts", "loop", "measure"),
    "reading": ("foundation",),
    "drawing": ("foundation", "reading"),
    "tools": ("foundation", "reading"),
}
MIXED = ("foundation", "reading", "drawing", "tools")  # rows whose families may import one another
ALLOWED = {
    ("strategies", "schedules"),  # warm-up and restarts wrap a schedule
    ("checkpoints", "train"),  # they run the loop and keep its states
}
ROW = {family: row for row, families in ROWS.items() for family in families.split()}

# Modules that refuse, show, name or store numbers without making any; the settings' values are dependencies themselves
# and tests/test_records.py holds the committed records against the code that reads and writes them.
SILENT = "axes check checkpoints cluster columns config observations paths progress records study_settings"
REGISTRIES = {
    "model": "models",
    "strategy": "strategies",
    "study": "studies",
}  # parameter of a stage -> package of its members


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by name."""
    found = {}
    for path in sorted(SOURCES.rglob("*.py")):
        parts = path.relative_to(SOURCES).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(code: str) -> set[str]:
    """Names that the code imports, of modules or of things in them, with every package on the way."""
    nodes = list(ast.walk(ast.parse(code)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {".".join(name.split(".")[:end]) for name in names for end in range(1, name.count(".") + 2)}


@cache
def imports_of(module: str) -> frozenset[str]:
    return frozenset(imported(modules()[module].read_text()))


def reached(roots: set[str]) -> set[str]:
    """The package's modules that importing `roots` executes."""
    found, queue = set(), set(roots)
    while queue:
        name = queue.pop()
        if name in modules() and name not in found:
            found.add(name)
            queue |= imports_of(name) | {name.rpartition(".")[0]}
    return found


def names_of(assignment: ast.Assign) -> list[str]:
    return [target.id for target in assignment.targets if isinstance(target, ast.Name)]


def family(module: str) -> str:
    return module.split(".")[min(1, module.count("."))]


@pytest.mark.parametrize("module", [name for name in modules() if name != "nonconvex"])
def test_imports_run_downwards(module):
    own = family(module)
    assert own in ROW, f"{own} has no row; decide what it may import and add it to ROWS"
    for other in {family(name) for name in imports_of(module) if name in modules() and name != "nonconvex"}:
        fine = ROW[other] in BELOW[ROW[own]] or (ROW[other] == ROW[own] and ROW[own] in MIXED)
        assert other == own or fine or (own, other) in ALLOWED, f"{module} imports {other}"


@pytest.mark.parametrize("module", [name for name in modules() if ROW.get(name.split(".")[-1]) in MIXED[1:]])
def test_tables_figures_and_tools_need_no_torch(module):
    """They start in a second and run where torch is not installed."""
    for name in reached({module}):
        assert "torch" not in imports_of(name), f"{module} reaches {name}, which needs torch"


def profiles() -> list[Path]:
    return [path.parent for path in (ROOT / "params.yaml", *sorted(ROOT.glob("profiles/*/params.yaml")))]


def stages_of(profile: Path) -> dict[str, dict]:
    """The stages of dvc.yaml under a profile's settings, with every template filled in."""
    settings = yaml.safe_load((profile / "params.yaml").read_text())
    stages = {}
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        for key, values in expanded(stage, settings):
            body = stage.get("do", stage)
            stages[f"{name}@{key}" if key else name] = filled(body, {**settings, **values})
    return stages


def expanded(stage: dict, settings: dict) -> list[tuple[str, dict]]:
    """(key, what the templates know besides the settings) of every stage that an entry stands for."""
    if "foreach" in stage:
        return [(key, {"key": key, "item": item}) for key, item in lookup(stage["foreach"], settings).items()]
    combinations: list[dict] = [{}]
    for axis, template in stage.get("matrix", {}).items():
        values = lookup(template, settings)
        combinations = [{**one, axis: value} for one in combinations for value in values]
    return [("-".join(item.values()), {"item": item}) for item in combinations]


def lookup(template: str, values: dict):
    for key in template.removeprefix("${").removesuffix("}").split("."):
        values = values[key]
    return values


def filled(body, values: dict):
    if isinstance(body, str):
        return re.sub(r"\$\{[^}]+\}", lambda match: str(lookup(match[0], values)), body)
    if isinstance(body, dict):
        return {filled(key, values): filled(value, values) for key, value in body.items()}
    return [filled(item, values) for item in body] if isinstance(body, list) else body


def every_stage() -> list:
    shared = yaml.safe_load((ROOT / "data" / "dvc.yaml").read_text())["stages"]
    named = [(f"data:{name}", stage) for name, stage in shared.items()]
    for profile in profiles():
        named += [(f"{profile.name}:{name}", stage) for name, stage in stages_of(profile).items()]
    # `settings` reaches everything that settings can build and writes the same stamp whatever it finds there
    return [pytest.param(stage, id=name) for name, stage in named if not name.endswith(":settings")]


@pytest.mark.parametrize("stage", every_stage())
def test_a_stage_depends_on_what_it_reaches_and_on_no_more(stage):
    listed = {dependency for dependency in stage["deps"] if dependency.startswith("src/")}
    needed = {modules()[name].relative_to(ROOT).as_posix() for name in needed_by(stage)}
    missing, superfluous = sorted(needed - listed), sorted(listed - needed)
    assert not missing and not superfluous, f"add to deps: {missing}; take out of deps: {superfluous}"


def needed_by(stage: dict) -> set[str]:
    """Modules that can change what the stage's command writes."""
    python, minus_m, module, first, *rest = shlex.split(stage["cmd"])
    assert (python, minus_m) == ("python", "-m")
    if module == "nonconvex.notebook":
        assert first in stage["deps"], f"{first} is run but is no dependency"
        found = reached(imported(code_of(ROOT / first)) | chosen_members(rest)) - covered_by_digest(stage)
    elif module == "nonconvex.data.fingerprint":  # it loads by name, so any loader may be the one
        found = reached({name for name in modules() if name.startswith("nonconvex.data.")})
    else:
        found = reached({module})
    return {name for name in found if family(name) not in SILENT.split() and not only_says_what_it_is(name)}


def only_says_what_it_is(module: str) -> bool:
    """Whether the file holds nothing but its docstring."""
    tree = ast.parse(modules()[module].read_text())
    return len(tree.body) == 1 and ast.get_docstring(tree) is not None


def code_of(notebook: Path) -> str:
    cells = nbformat.read(notebook, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def chosen_members(arguments: list[str]) -> set[str]:
    """The members of the registries that `--set model=... study=...` chooses, and the models that a study names."""
    chosen = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    found = {f"nonconvex.{REGISTRIES[key]}.{chosen[key]}" for key in REGISTRIES.keys() & chosen.keys()}
    return found | {f"nonconvex.models.{model}" for model in models_of(chosen.get("study"))}


def models_of(study: str | None) -> tuple[str, ...]:
    """The constant MODELS of a study: its beds build them by name."""
    if study is None:
        return ()
    tree = ast.parse(modules()[f"nonconvex.studies.{study}"].read_text())
    (models,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and names_of(node) == ["MODELS"]]
    return ast.literal_eval(models)


def covered_by_digest(stage: dict) -> set[str]:
    """Loading data is covered by a dependency on the digest of the loaded examples."""
    digests = [path for path in stage["deps"] if re.fullmatch(r"results/\w+/data/\w+\.json", path)]
    return {"nonconvex.data"} if digests else set()


@pytest.mark.parametrize("profile", profiles(), ids=lambda path: path.name)
def test_a_profile_keeps_to_its_own_results_and_settings(profile):
    """Two profiles that share an output would overwrite one another."""
    settings = yaml.safe_load((profile / "params.yaml").read_text())["profile"]
    assert (profile / settings["root"]).resolve() == ROOT
    assert (ROOT / settings["params"]).resolve() == profile / "params.yaml"
    assert settings["name"] == (profile.name if profile != ROOT else "cpu")
    for name, stage in stages_of(profile).items():
        outputs = [next(iter(out)) for out in [*stage["outs"], *stage.get("metrics", [])]]
        assert all(out.startswith(f"results/{settings['name']}/") for out in outputs), name
        assert all(list(entry) == [settings["params"]] for entry in stage.get("params", [])), name


@pytest.mark.parametrize("profile", profiles(), ids=lambda path: path.name)
def test_every_dependency_is_a_file_or_the_output_of_a_stage(profile):
    stages = stages_of(profile)
    outputs = [next(iter(out)) for stage in stages.values() for out in stage["outs"]]
    for name, stage in stages.items():
        for dependency in stage["deps"]:
            made = any(f"{out}/".startswith(f"{dependency}/") for out in outputs)
            assert made or (ROOT / dependency).is_file(), f"{name}: nothing makes {dependency}"


def test_nothing_is_cached_and_compute_is_no_dependency():
    """Results are in git, so that a clone needs no remote; the device may change without retraining."""
    for name, stage in stages_of(ROOT).items():
        for out in [*stage["outs"], *stage.get("metrics", [])]:
            assert next(iter(out.values()))["cache"] is False, name
        read = [key for entry in stage.get("params", []) for keys in entry.values() for key in keys]
        assert not [key for key in read if key.split(".")[0] in ("compute", "profile")], name
