"""The GPU profile's own notebooks and settings, with everything small and on the CPU: the same code from end to end.

The cells run here and not in a kernel each, which is a minute faster; tests/test_pipeline.py starts the kernels.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import nbformat
import pandas as pd
import pytest
import tiny_gpu
import yaml

from nonconvex import beds, config
from nonconvex.judging import Verdict
from nonconvex.observations.references import PublishedPoint, PublishedRun
from nonconvex.paths import Results
from nonconvex.records import Barrier, MeasurementRow, Run, read

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu_budget  # noqa: E402

NAMES = ("train", "connectivity", "verdicts", "tables", "figures", "validate_resnet", "validate_edge")


def executed(name: str, **parameters) -> None:
    """Run a notebook's code cells in order, its parameters replaced by those given."""
    known: dict = {}
    for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name} [{cell.id}]", "exec"), known)
            known |= parameters if "parameters" in cell.metadata.get("tags", []) else {}
    matplotlib.pyplot.close("all")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Results:
    """The results of every stage that the Makefile's GPU targets run."""
    folder = tmp_path_factory.mktemp("gpu")
    shutil.copy(ROOT / "claims.yaml", folder)
    params = tiny_gpu.written(folder).name
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(beds, "_dataset", tiny_gpu.dataset)
        matplotlib.use("Agg")
        for model in ("resnet", "transformer"):
            for strategy in tiny_gpu.GRID["strategies"]:
                executed("train", params=params, model=model, strategy=strategy)
            executed("connectivity", params=params, model=model)
        for name in NAMES[2:]:
            executed(name, params=params)
    return Results(folder, "tiny")


def test_the_grid_is_its_row_and_its_column(files):
    reported = {
        (model, strategy): read(files.runs(model, strategy), Run).query("phase == 'reported'")
        for model in ("resnet", "transformer")
        for strategy in ("none", "sam")
    }
    schedules = {stage: set(runs.schedule) for stage, runs in reported.items()}
    assert schedules["resnet", "none"] == schedules["transformer", "none"] == {"cosine", "wsd"}
    assert schedules["resnet", "sam"] == schedules["transformer", "sam"] == {"cosine"}
    assert all(runs.test_loss.notna().all() for runs in reported.values())


def test_everything_is_measured_in_float32_although_trained_in_bfloat16(files):
    settings = config.read(Path(files.root) / "params.yaml")
    assert settings.train["resnet"].precision == settings.train["transformer"].precision == "bfloat16"
    frames = [read(files.measurements(model, "none"), MeasurementRow) for model in ("resnet", "transformer")]
    found = pd.concat(frames)
    assert set(found.dtype) == {"float32"} and found.query("quantity == 'lambda_max'").value.gt(0).all()


def test_paths_tables_and_figures_are_there(files):
    kinds = {"linear", "aligned", "curve", "siblings"}
    assert all(set(read(files.connectivity(model), Barrier).kind) == kinds for model in ("resnet", "transformer"))
    grid = files.tables("grid", "md").read_text()
    assert "not run" in grid and "WSD" in files.tables("schedules", "md").read_text()
    assert len(list(files.figures("figures/grid_heatmap", "png").parent.glob("*.png"))) >= 5
    judged = read(files.verdicts(), Verdict)
    assert set(judged.verdict) == {"inconclusive"} and set(judged.n) == {0}  # no study was run


def test_published_numbers_were_held_against(files):
    assert len(read(files.validation("resnet"), PublishedRun)) == 2
    assert len(read(files.validation("edge"), PublishedPoint)) == 2 * 2 * 5


def test_checkpoints_are_gone_when_their_stage_is_done(files):
    assert [path for path in Path(files.root).rglob("*.safetensors") if "checkpoints" in path.parts] == []


def test_the_makefile_runs_stages_that_exist():
    """A stage that is renamed, and a target that would say so only on the machine with the GPU."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    stages |= yaml.safe_load((ROOT / "profiles" / "gpu" / "validate.yaml").read_text())
    command = ["make", "--dry-run", "gpu", "gpu-cross", "gpu-validate"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = re.findall(r"profiles/\w+/dvc\.yaml:([\w-]+)", said)
    assert {"train", "connectivity", "tables", "validate-resnet", "validate-edge"} <= set(named) <= stages.keys()


def test_the_whole_grid_differs_in_its_seeds_alone():
    """What `make gpu-cross` makes of the settings, by the Makefile's own words."""
    said = subprocess.run(["make", "--dry-run", "gpu-cross"], cwd=ROOT, capture_output=True, text=True, check=True)
    (command,) = re.findall(r"sed .*?profiles/gpu/params\.yaml", said.stdout, re.DOTALL)
    made = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    whole, part = yaml.safe_load(made), yaml.safe_load(tiny_gpu.GPU.read_text())
    assert whole.pop("profile") == {"name": "gpu_cross", "root": "../..", "params": "profiles/gpu_cross/params.yaml"}
    assert part.pop("profile")["name"] == "gpu"
    assert whole["seeds"].pop("cross") == [0, 1, 2] and part["seeds"].pop("cross") == []
    assert whole == part


def test_the_budget_in_the_documentation_is_that_of_the_settings():
    """Sizes that were changed and a page that still promises half an hour."""
    written = (ROOT / "docs" / "gpu.md").read_text()
    table = re.search(r"<!-- budget:begin -->\n(.*?)\n<!-- budget:end -->", written, re.DOTALL)[1]
    assert table.splitlines() == gpu_budget.lines(config.read(tiny_gpu.GPU))


def test_operations_are_counted_as_in_the_literature():
    """ResNet-20 takes 41 million multiplications an image forward (He et al. 2016), and thrice that for a gradient."""
    found = gpu_budget.update(config.read(tiny_gpu.GPU), "resnet", members=1, batch_size=4)
    assert found.operations / 4 == pytest.approx(2 * 3 * 41e6, rel=0.02)
    twice = gpu_budget.update(config.read(tiny_gpu.GPU), "resnet", members=2, batch_size=4)
    assert twice.operations == 2 * found.operations and twice.bytes == pytest.approx(2 * found.bytes, rel=0.01)
    assert twice.kernels == found.kernels  # that is what cohorts are for
