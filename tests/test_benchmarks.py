"""The benchmarks compare like with like: the same losses, paths and eigenvalues by every way that is timed.

Times themselves are not tested. The other tools are asked where `make conformance` or `make benchmarks` has installed
them.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for a plain `pytest`, which does not put it there

from benchmarks import connectivity, curvature, curved, floors, page, pipeline, plain, ratios, training  # noqa: E402
from benchmarks import turns as timing  # noqa: E402
from benchmarks import with_nonconvex as ours  # noqa: E402
from benchmarks import with_scipy as scipy  # noqa: E402
from conformance import build, problems  # noqa: E402

PARAMS = str(ROOT / "params.yaml")
PEERS = [tool for tool in curvature.TOOLS if tool.package]


def case(bed: str) -> training.Case:
    return training.Case(bed, 4, params=PARAMS)


# Training


@pytest.mark.parametrize("bed", training.BEDS)
def test_the_plain_loop_reaches_the_losses_of_the_cohort(bed):
    (found,) = training.agreement(case(bed), (training.PLAIN,))
    assert found.steps == training.SAME and found.difference < 1e-4


def test_a_loop_at_another_rate_is_noticed(monkeypatch):
    """What the comparison would miss: an optimizer that does something else."""
    rates = training._rates
    monkeypatch.setattr(training, "_rates", lambda bed: [1.01 * rate for rate in rates(bed)])
    (found,) = training.agreement(case("mlp"), (training.PLAIN,))
    assert found.difference > 1e-3


def test_a_cohort_is_the_same_work_for_every_call():
    run = training.cohort(case("mlp").build(), 3)
    assert torch.equal(run(2), run(3)[:2]) and run(2).shape == (2, 3)


def test_the_cases_vary_one_thing_at_a_time():
    for bed in training.BEDS:
        found = [(case.batch, case.changes, members) for case, members, _ in training.cases(bed, PARAMS, "cpu")]
        own = [members for batch, changes, members in found if members == training.MEMBERS]
        assert len(own) == 1, "the bed's own size, over all numbers of members"
        assert all(members == (training.USUAL,) for *_, members in found if members != training.MEMBERS)
        assert len({batch for batch, *_ in found}) == len(training.BATCHES)
        assert len({changes for _, changes, _ in found}) == len(training.WIDTHS[bed]), "the own width under no name"


def test_native_layers_compute_the_same_with_the_same_parameters():
    module = case("resnet").build().build().train()
    twin = plain.native(module)
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(module(x), twin(x), atol=1e-5)
    assert any(isinstance(layer, nn.Conv1d) for layer in twin.modules())
    assert not any(isinstance(layer, nn.Conv1d) for layer in module.modules()), "the original is left alone"
    assert [p.shape for p in module.parameters()] == [p.shape for p in twin.parameters()]


# Curvature


def test_the_whole_hessian_is_that_of_the_conformance_table():
    problem = problems.dense_mlp()
    found, matrix = curved.exact(problem), problems.dense(problem)
    assert np.allclose(found.eigenvalues, torch.linalg.eigvalsh(matrix).numpy())
    assert found.trace == pytest.approx(float(matrix.trace()))
    assert found.probe_error * abs(found.trace) == pytest.approx(problems.exact(problem).probe_error)


def test_the_committed_spectrum_belongs_to_the_problem(tmp_path):
    """tr H = Σ λ is the trace, and a Hutchinson estimate of the problem as it is now agrees with it."""
    exact = curvature.exact("mlp")
    assert len(exact.eigenvalues) == curved.problem("mlp").size
    assert exact.eigenvalues.sum() == pytest.approx(exact.trace)
    estimate = scipy.trace(curved.problem("mlp"), 0, 100)
    assert abs(estimate / exact.trace - 1) < 4 * exact.probe_error / 10
    curved.save(exact, tmp_path / "copy.npz")
    assert curved.load(tmp_path / "copy.npz").trace == exact.trace
    assert curved.belongs(exact, curved.problem("mlp"))
    assert not curved.belongs(replace(exact, loss=1.001 * exact.loss), curved.problem("mlp"))


def test_errors_are_zero_for_exact_answers_and_in_units():
    exact = curvature.exact("mlp")
    share = np.full(len(exact.eigenvalues), 1 / len(exact.eigenvalues))
    assert curvature.error("mlp", "density", (exact.eigenvalues, share)) == pytest.approx(0, abs=1e-12)
    moved = exact.eigenvalues + 0.01 * exact.range
    assert curvature.error("mlp", "density", (moved, share)) == pytest.approx(0.01)
    assert curvature.error("mlp", "lambda_max", 1.02 * exact.eigenvalues[-1]) == pytest.approx(0.02)
    assert curvature.error("mlp", "trace", 0.9 * exact.trace) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "answer",
    [
        lambda problem: ours.lambda_max(problem, 0, 1e-3),
        lambda problem: scipy.lambda_max(problem, 0, 1e-3, 8),
    ],
)
def test_adapters_in_this_environment_find_the_largest_eigenvalue(answer):
    assert curvature.error("mlp", "lambda_max", answer(curved.problem("mlp"))) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("tool", PEERS, ids=lambda tool: tool.name)
def test_other_tools_find_the_largest_eigenvalue(tool):
    if not (build.ENVIRONMENTS / tool.name / "bin" / "python").exists():
        pytest.skip(f"{tool.name} is not installed; `make conformance` does it")
    with curvature.served(tool) as server:
        setting = server.offers["lambda_max"][0][-1]
        reply = server.ask(problem="mlp", quantity="lambda_max", setting=setting, seed=0)
    assert curvature.error("mlp", "lambda_max", reply["answer"]) < 1e-4
    assert reply["seconds"] > 0 and reply["megabytes"] >= 0


class Fake:
    """A tool whose error and cost fall and rise with the effort."""

    def __init__(self, *ladders: list[int]):
        self.tool, self.version = build.TOOLS[0], "0"
        self.offers = {"trace": [[{"effort": effort} for effort in ladder] for ladder in ladders]}

    def ask(self, problem, quantity, setting, seed):
        if not (effort := setting["effort"]):
            return {"error": "ValueError: no effort"}
        return {"answer": curvature.exact("mlp").trace * (1 + 0.08 / effort), "processor": effort}


def test_the_cheapest_accurate_setting_is_chosen_and_ladders_stop_there():
    trials = curvature.chosen(list(curvature.climbed(Fake([1, 2, 4, 8], [0, 1], [3, 16]), "mlp", "trace")))
    tried = [(json.loads(trial.setting)["effort"], trial.accurate, trial.chosen) for trial in trials]
    # 0.08 / effort at most 0.03: an effort of 4 on the first ladder, of 3 on the third
    assert tried == [(1, False, False), (2, False, False), (4, True, False), (0, False, False), (3, True, True)]
    assert trials[3].note == "ValueError: no effort"


# Paths and surfaces


def test_loaded_networks_give_the_same_curves_and_surfaces(monkeypatch):
    monkeypatch.setattr(connectivity, "TICKS", 3)
    pairs = connectivity.ends("cpu").part([0, 1])
    assert torch.allclose(connectivity.curve(pairs, 3), connectivity.loaded_curves(pairs, 3), rtol=1e-4)
    field = connectivity.around(pairs.part([0]))
    losses = connectivity.surface(field)
    assert torch.allclose(losses, connectivity.loaded_surface(field), rtol=1e-4)
    assert losses[1, 1] < losses[0, 0], "the centre is the minimum"


def test_an_untrained_curve_is_noticed():
    """What the comparison would miss: a control point that the loop does not move."""
    pair = connectivity.ends("cpu").part([0])
    assert not torch.allclose(connectivity.curve(pair, 3), connectivity.curve(pair, 4), rtol=1e-3)


# Floors


def test_operations_and_kinds():
    a, b = torch.zeros(3, 4), torch.zeros(4, 5)
    assert floors.operations(lambda: a @ b) == 2 * 3 * 4 * 5
    named = {"aten::bmm": "products", "aten::copy_": "copies", "aten::add_": "pointwise and sums"}
    assert {key: floors.kind(key) for key in named} == named
    assert floors.kind("aten::view") == floors.kind("AddmmBackward0") == floors.BOOKKEEPING


def test_shares_add_up_to_the_time():
    a = torch.zeros(50, 50)
    parts = floors.shares("job", lambda: [a @ a + 1 for _ in range(20)], 20)
    assert {part.kind for part in parts} >= {"products", "pointwise and sums", floors.BOOKKEEPING}
    assert 0 < sum(part.seconds for part in parts) < 0.1


# Turns and ratios


def test_every_way_goes_once_a_turn_and_each_is_first_in_turn():
    found = list(timing.in_turn({"a": lambda: 1, "b": lambda: 2}, 3))
    assert [(turn, name) for turn, name, _ in found] == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]
    assert {value for _, name, value in found if name == "b"} == {2}


def test_ratios_within_turns_do_not_see_a_drift():
    frame = pd.DataFrame({"turn": [0, 0, 1, 1], "way": ["a", "b"] * 2, "seconds": [1.0, 3.0, 10.0, 30.0]})
    assert ratios.within(frame, "seconds", "way", "b", "a") == pytest.approx([3, 3])
    assert ratios.within(frame, "seconds", "way", "c", "a") == []


def test_numbers_as_text():
    assert ratios.spread([3.0, 1.0, 2.0]) == "2.00 (1.00–3.00)"
    assert ratios.times([2.0, 4.0]) == "**3.0x** (2.0–4.0)" and ratios.times([]) == "—"
    found = [ratios.significant(value) for value in (12345.6, 0.0123, 0.00001, 0.0)]
    assert found == ["12,346", "0.012", "1.0e-05", "0"]
    assert ratios.slope([1, 10, 100], [2, 20, 200]) == pytest.approx(1)


def test_repetitions_aim_at_a_duration():
    assert timing.repetitions(lambda: 0.01, target=0.4) == 40
    assert timing.repetitions(lambda: 9.0) == 3 and timing.repetitions(lambda: 0.0, most=7) == 7


def test_an_unknown_part_is_refused():
    assert timing.thinned(("a", "b"), ["b"], "part") == ["b"] and timing.thinned(("a", "b"), None, "part") == ["a", "b"]
    with pytest.raises(ValueError, match="unknown part c; known: a, b"):
        timing.thinned(("a", "b"), ["c"], "part")


# Pipeline


def log(folder: Path, name: str, finished: str, seconds: float = 10.0) -> None:
    content = {"seconds": seconds, "cells": [0.0, None, 0.0, 2.0, 5.0, 1.0], "finished": f"2026-01-01T00:{finished}Z"}
    (folder / f"cpu-{name}.json").write_text(json.dumps(content))


def test_a_run_is_taken_apart(tmp_path):
    log(tmp_path, "study-sam", "00:10")
    log(tmp_path, "tables", "00:23")
    stages = pipeline.parts(tmp_path)
    assert sum(stage.seconds for stage in stages) == pytest.approx(23)
    found = {(stage.stage, stage.kind): stage.seconds for stage in stages}
    assert found["cpu-study-sam", "training and measuring"] == found["cpu-tables", "reading"] == 6
    assert found["cpu-tables", "between stages"] == 3 and found["cpu-tables", "notebook runner"] == 2
    assert {kind for _, kind in found} == set(pipeline.KINDS)
    assert "73.9 % is not training or measuring; 47.8 % is overhead" in page.whole(pd.DataFrame(map(vars, stages)))


def test_logs_of_two_runs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no timings"):
        pipeline.parts(tmp_path)
    log(tmp_path, "study-sam", "00:10")
    log(tmp_path, "tables", "59:10")
    with pytest.raises(ValueError, match="logs of several runs"):
        pipeline.parts(tmp_path)


def test_a_changed_notebook_is_still_one(tmp_path):
    copy = tmp_path / "tables.ipynb"
    copy.write_bytes((ROOT / "notebooks" / "tables.ipynb").read_bytes())
    before = json.loads(copy.read_text())
    pipeline.change(copy, 3)
    after = json.loads(copy.read_text())
    assert after["cells"][0]["source"][:-1] == before["cells"][0]["source"]
    assert after["cells"][1:] == before["cells"][1:]


# The page


def test_the_committed_page_is_that_of_the_committed_files():
    assert page.text(timing.RESULTS) == (timing.RESULTS / "README.md").read_text(encoding="utf-8")


def test_a_page_of_nothing(tmp_path):
    assert page.text(tmp_path).startswith("# Benchmarks")


def fabricated() -> list[training.Timing]:
    """Cohorts of E take 1 + E milliseconds an update, the plain loop 4, on a machine that slows down."""
    one = training.Timing("mlp", training.PLAIN, 1, 1, 8, 100, 0, 10, 0.04, 1000, 0.1)
    rows = []
    for turn in range(2):
        drift = 1 + turn
        rows.append(replace(one, turn=turn, seconds=0.04 * drift))
        for e in (1, 4, 16, 64):
            took = 0.01 * (1 + e) * drift
            rows.append(replace(one, way=training.COHORT, members=e, turn=turn, seconds=took))
        rows.append(replace(one, way=training.COHORT, members=16, parameters=200, turn=turn, seconds=0.34 * drift))
        rows.append(replace(one, parameters=200, turn=turn, seconds=0.16 * drift))
    return rows


def test_the_tables_of_training(tmp_path):
    timing.write(fabricated(), training.Timing, tmp_path / "training.csv")
    found = page.training(tmp_path)
    # 16 members: 64 ms by the loop, 17 ms by the cohort, in either turn
    assert "| cohort of 16 | 42.4 (28.2–56.5) | 1.59 (1.06–2.12) | **3.8x** (3.8–3.8) | — |" in found
    assert "plain loop P^2.00" in found and "cohort P^1.00" in found
