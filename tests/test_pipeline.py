"""The pipeline as a reader runs it: a fresh clone of this very tree, and the smoke profile end to end."""

import json
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from clones import SMOKE, commit, copied, run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("git"), reason="clones need git")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A committed copy of every file that git does not ignore, in a repository of its own."""
    return copied(tmp_path_factory.mktemp("clone") / "nonconvex")


def changed(folder: Path) -> list[str]:
    return run(folder, "git", "status", "--porcelain", "--untracked-files=all").stdout.splitlines()


def test_the_committed_results_belong_to_the_committed_code(clone):
    """A second's check of the default profile, data included: nothing to run, nothing to download."""
    stale = json.loads(run(clone, "dvc", "status", "dvc.yaml", "data/dvc.yaml", "--json").stdout)
    assert stale == {}, f"results are out of date, run `dvc repro`: {list(stale)}"
    assert "Data and pipelines are up to date" in run(clone, "dvc", "repro").stdout
    assert changed(clone) == []


@pytest.fixture(scope="module")
def smoked(clone) -> Path:
    """The clone after the smoke profile ran from nothing; its results are a commit of their own."""
    shutil.rmtree(clone / "results" / "smoke", ignore_errors=True)
    (clone / SMOKE).with_name("dvc.lock").unlink(missing_ok=True)
    commit(clone)
    run(clone, sys.executable, "-m", "nonconvex.lanes", SMOKE)
    commit(clone)
    return clone


def test_the_smoke_profile_runs_from_end_to_end_and_then_not_again(smoked):
    """Every stage of the pipeline at toy size; the default profile's files stay as they are."""
    written = run(smoked, "git", "diff", "--name-only", "HEAD~1", "HEAD").stdout.splitlines()
    assert [name for name in written if not name.startswith(("profiles/smoke/", "results/smoke/"))] == []
    folders = {name.split("/")[2] for name in written if name.startswith("results/")}
    assert folders >= {"runs", "curves", "measurements", "connectivity", "tables", "figures", "metrics.json"}
    assert folders >= {"observations", "effects", "gates", "findings", "verdicts.csv", "verdicts.md", "verdicts.tex"}
    verdicts = pd.read_csv(smoked / "results/smoke/verdicts.csv").set_index("claim").verdict
    # its replicates are the schedules, not seeds, and it is exact at any size
    assert verdicts.pop("linear.theory_closed_form") == "supported"
    assert set(verdicts) == {"inconclusive"}
    again = run(smoked, "dvc", "repro", SMOKE).stdout
    assert "Data and pipelines are up to date" in again and "Running stage" not in again
    assert changed(smoked) == []


def test_a_setting_reruns_the_stages_that_read_it_and_no_others(smoked):
    """Another seed retrains everything; one more strategy retrains nothing but trains itself."""
    settings = yaml.safe_load((smoked / "profiles/smoke/params.yaml").read_text())
    models, strategies = settings["grid"]["models"], settings["grid"]["strategies"]
    seeds = {**settings["seeds"], "tuning": [2001]}
    every = {f"train@{model}-{strategy}" for model in models for strategy in strategies}
    assert trained_again(smoked, {**settings, "seeds": seeds}) == every
    new = next(name for name in ("ema", "swa", "sam", "clipping") if name not in strategies)
    grid = {**settings["grid"], "strategies": [*strategies, new]}
    assert trained_again(smoked, {**settings, "grid": grid}) == {f"train@{model}-{new}" for model in models}


def test_another_margin_reruns_the_judging_and_the_tables_and_nothing_else(smoked):
    path = smoked / "claims.yaml"
    before = path.read_text()
    path.write_text(re.sub(r"margin: [\d.]+", "margin: 0.123", before, count=1))
    stale = {name.split(":")[-1] for name in json.loads(run(smoked, "dvc", "status", SMOKE, "--json").stdout)}
    path.write_text(before)
    assert stale - {"tables"} == {"verdicts"}


def trained_again(clone: Path, settings: dict) -> set[str]:
    """Training stages that the changed settings make stale."""
    path = clone / "profiles/smoke/params.yaml"
    before = path.read_text()
    path.write_text(yaml.safe_dump(settings))
    stale = run(clone, "dvc", "status", SMOKE, "--json").stdout
    path.write_text(before)
    return {name.split(":")[-1] for name in json.loads(stale) if ":train@" in name}


def test_a_failing_notebook_fails_its_stage_and_says_where(smoked):
    """dvc stops; notebook, cell, error and partial copy are named; no half-written output is left."""
    source = smoked / "notebooks" / "tables.ipynb"
    notebook = nbformat.read(source, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("raise ValueError('on purpose')", id="last"))
    nbformat.write(notebook, source)
    said = run(smoked, "dvc", "repro", "--single-item", f"{SMOKE}:tables", fails=True).stderr
    assert not (smoked / "results" / "smoke" / "notebooks" / "tables.ipynb").exists()
    run(smoked, "git", "checkout", "--", "notebooks", "results", "profiles")
    assert "notebooks/tables.ipynb failed in cell [" in said and "ValueError: on purpose" in said
    partial = smoked / "logs" / "smoke-tables.ipynb"
    assert str(partial.relative_to(smoked)) in said and "on purpose" in partial.read_text()
    assert changed(smoked) == []
