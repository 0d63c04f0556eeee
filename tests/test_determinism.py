"""Same machine, same bytes on a CPU; on CUDA what PyTorch documents as not deterministic, and who calls it.

docs/determinism.md says what is promised and holds the tables that are compared here with what the code really calls.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nonconvex import config, connection, experiment, train
from nonconvex.beds import bed_of
from nonconvex.config import ModelName
from nonconvex.evaluation import evaluate, recomputed
from nonconvex.measure.connectivity import Pair
from nonconvex.measure.contract import flatness
from nonconvex.measure.objective import Objective, shared
from nonconvex.models.stacked import stack
from nonconvex.plan import Member

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "determinism.md").read_text(encoding="utf-8")
SMOKE = config.read(ROOT / "profiles" / "smoke" / "params.yaml")

# Entries in the documentation of torch.use_deterministic_algorithms -> the operators behind them, by their aten names.
DOCUMENTED = {
    "torch.nn.Conv1d": "convolution convolution_backward _convolution",
    "torch.nn.Conv2d": "convolution convolution_backward _convolution",
    "torch.nn.Conv3d": "convolution convolution_backward _convolution",
    "torch.nn.ConvTranspose1d": "convolution convolution_backward _convolution",
    "torch.nn.ConvTranspose2d": "convolution convolution_backward _convolution",
    "torch.nn.ConvTranspose3d": "convolution convolution_backward _convolution",
    "torch.nn.ReplicationPad1d": "replication_pad1d_backward",
    "torch.nn.ReplicationPad2d": "replication_pad2d_backward",
    "torch.nn.ReplicationPad3d": "replication_pad3d_backward",
    "torch.bmm": "_sparse_mm bmm_sparse",
    "torch.Tensor.__getitem__": "_index_put_impl_",
    "torch.Tensor.index_put": "index_put index_put_ _unsafe_index_put",
    "torch.Tensor.put_": "put put_",
    "torch.Tensor.scatter_add_": "scatter_add scatter_add_",
    "torch.gather": "gather_backward",
    "torch.index_add": "index_add index_add_",
    "torch.index_select": "index_select_backward",
    "torch.repeat_interleave": "repeat_interleave",
    "torch.Tensor.index_copy": "index_copy index_copy_",
    "torch.Tensor.scatter": "scatter scatter_",
    "torch.Tensor.scatter_reduce": "scatter_reduce scatter_reduce_",
    "torch.nn.MaxPool3d": "max_pool3d_with_indices_backward",
    "torch.nn.AvgPool3d": "avg_pool3d_backward",
    "torch.nn.AdaptiveAvgPool2d": "_adaptive_avg_pool2d_backward",
    "torch.nn.AdaptiveAvgPool3d": "_adaptive_avg_pool3d_backward",
    "torch.nn.AdaptiveMaxPool2d": "adaptive_max_pool2d_backward",
    "torch.nn.FractionalMaxPool2d": "fractional_max_pool2d_backward",
    "torch.nn.FractionalMaxPool3d": "fractional_max_pool3d_backward",
    "torch.nn.MaxUnpool1d": "max_unpool2d",
    "torch.nn.MaxUnpool2d": "max_unpool2d",
    "torch.nn.MaxUnpool3d": "max_unpool3d",
    "torch.nn.functional.interpolate": "upsample_linear1d_backward upsample_bilinear2d_backward "
    "upsample_bicubic2d_backward upsample_trilinear3d_backward",
    "torch.nn.ReflectionPad1d": "reflection_pad1d_backward",
    "torch.nn.ReflectionPad2d": "reflection_pad2d_backward",
    "torch.nn.ReflectionPad3d": "reflection_pad3d_backward",
    "torch.nn.NLLLoss": "nll_loss_forward nll_loss2d_forward nll_loss_backward nll_loss2d_backward",
    "torch.nn.CTCLoss": "_ctc_loss_backward",
    "torch.nn.EmbeddingBag": "_embedding_bag _embedding_bag_backward",
    "torch.histc": "histc",
    "torch.bincount": "bincount",
    "torch.median": "median nanmedian",
    "torch.kthvalue": "kthvalue",
    "torch.nn.functional.grid_sample": "grid_sampler_2d_backward grid_sampler_3d_backward",
    "torch.cumsum": "cumsum cumsum_",
    "torch.Tensor.resize_": "resize_",
}
METHODS = {name for entry in DOCUMENTED if (name := entry.rpartition(".")[2].strip("_")).islower()}
METHODS -= {"bmm", "getitem", "put", "resize"}  # of sparse or quantized tensors, or no method to look for


def test_every_documented_operation_is_known_here():
    """A release of PyTorch that documents another one has to be looked at."""
    text = torch.use_deterministic_algorithms.__doc__
    entries = set(re.findall(r"^ +\* :(?:class|func):`([\w.]+)`", text, re.MULTILINE))
    assert len(entries) > 30 and entries <= DOCUMENTED.keys(), entries - DOCUMENTED.keys()


class Called(TorchDispatchMode):
    """Collects the names of the aten operators that run."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function._schema.name.removeprefix("aten::"))
        return function(*args, **(kwargs or {}))


def small(model: str) -> config.Settings:
    """The smoke profile with two steps for every model that the registry knows, all on their own data."""
    bed = SMOKE.train[model if model in SMOKE.train else "resnet"]
    if model == "cnn":
        bed = bed.model_copy(update={"architecture": {}})
    measure = config.FlatnessSettings(examples=8, lanczos_iterations=2, probes=2, noise_pairs=2, keskar_iterations=1)
    few = {"points": 3, "curve_steps": 1, "batch_size": 8, "train_examples": 16, "test_examples": 16}
    sections = {
        "train": bed.model_copy(update={"steps": 2, "batch_size": 8}),
        "measure": measure,
        "connectivity": config.ConnectivitySettings(**few),
    }
    return SMOKE.model_copy(update={name: {model: section} for name, section in sections.items()})


def operators(model: str) -> dict[str, set[str]]:
    """Names of the operators that training, measuring and connecting two tiny networks call."""
    settings, found = small(model), {}
    bed = bed_of(settings, model)
    network, params = stack(bed.build, [0, 1], bed.device)
    members = [Member("cosine", bed.training.rates[0], seed, "reported") for seed in (0, 1)]
    with Called() as called:
        for strategy in ("none", "sgd_noise", "clipping", "sam", "swa", "ema"):
            made = experiment.cohort_of(bed, network, strategy, members, 0.5)
            for state in train.train(made, train.start(made, params)):
                params = state.params
    found["training"] = called.names
    with Called() as called:
        statistics = recomputed(network, params, bed.statistics_inputs()[:16])
        evaluate(network, params, statistics, bed.data.test.examples(16), bed.loss)
        objective = Objective(network, bed.loss, shared(*bed.data.train.examples(8)), statistics)
        flatness(objective, params, settings.measure[model], "full")
    found["measures"] = called.names
    ends = [{name: value[i] for name, value in params.items()} for i in range(2)]
    pair = [connection.Ends(Pair(model, "none", "cosine", 0, 1), *ends)]
    with Called() as called:
        connection.connect_cohort(settings, model, connection.INDEPENDENT, pair, 3)
    found["paths"] = called.names
    return found


def rows(heading: str) -> list[tuple[str, ...]]:
    """The cells of the table below a heading of the page, its first two lines left out."""
    part = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [tuple(cell.strip().replace("`", "") for cell in line.strip("|").split("|")) for line in lines]


@pytest.mark.parametrize("model", ModelName.__args__)
def test_the_page_names_the_documented_operators_that_a_model_calls(model):
    listed = {(name, where) for name, models, where, *_ in rows("What the models call") if model in models.split(", ")}
    watched = {name for names in DOCUMENTED.values() for name in names.split()}
    found = operators(model)
    assert {"mm", "bmm", "addmm"} & found["training"]  # it is the operators that are seen
    assert {(name, where) for where, names in found.items() for name in names & watched} == listed


def test_the_page_names_the_documented_functions_that_the_rest_calls():
    """What studies and their measures call, read from the syntax trees; numpy's functions are not torch's."""
    found = set()
    for path in sorted((ROOT / "src" / "nonconvex").rglob("*.py")):
        code = path.read_text(encoding="utf-8")
        if "import torch" in code or "from torch" in code:
            names = {node.func.attr for node in ast.walk(ast.parse(code)) if is_method(node)}
            found |= {(name, path.relative_to(ROOT / "src" / "nonconvex").as_posix()) for name in names}
    assert found == {row[:2] for row in rows("What the rest calls")}


def is_method(node: ast.AST) -> bool:
    """A call of a method or function by a documented name, but of numpy's."""
    method = (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.strip("_") in METHODS
    )
    return method and not (isinstance(node.func.value, ast.Name) and node.func.value.id == "np")


STAGE = """
import sys
from pathlib import Path
from nonconvex import config, experiment, plan, records
from nonconvex.paths import Results
workers, folder = int(sys.argv[1]), sys.argv[2]
settings = config.read("profiles/smoke/params.yaml")
bed = settings.train["resnet"].model_copy(update={"steps": 6, "cohort": 2, "strategies": {}})
settings = settings.model_copy(update={"train": {"resnet": bed}, "compute": config.Compute(workers=workers)})
members = plan.reported_members(settings, "none", dict.fromkeys(settings.grid.schedules, 0.1))
outcome = experiment.run_all(settings, "resnet", "none", members)
files = Results(folder, "smoke")
records.write(files.runs("resnet", "none"), outcome.runs)
records.write(files.curves("resnet", "none"), outcome.curves)
records.write(files.measurements("resnet", "none"), outcome.measurements)
experiment.save_endpoints(files.endpoints("resnet", "none"), outcome.endpoints)
"""


@pytest.mark.slow
def test_two_processes_leave_the_same_bytes(tmp_path):
    """Another seed of the hash function, another number of workers, another number of threads offered."""
    found = []
    for workers, seed, threads in ((1, "1", "1"), (2, "2", "2")):
        folder = tmp_path / seed
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": seed}
        environment |= dict.fromkeys(["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"], threads)
        command = [sys.executable, "-c", STAGE, str(workers), str(folder)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=1800)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        found.append({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})
    assert len(found[0]) == 4 and found[0] == found[1]
