"""Records survive the file unchanged, and no damaged file is read."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonconvex.columns import RecordError
from nonconvex.paths import Results
from nonconvex.records import Barrier, CurvePoint, Finding, MeasurementRow, PathPoint, Run, read, write

RUN = Run("resnet", "sam", "cosine", "reported", 3, 0.1, 100, 200, None, 0.5, 0.25, 0.625, 0.5, 0.75, 0.5)
DIVERGED = replace(RUN, seed=4, diverged_step=17, train_loss=None, train_error=None, test_loss=float("nan"))
ROWS = {
    Run: RUN,
    CurvePoint: CurvePoint("resnet", "sam", "cosine", 3, 0, 0.1, 2.3),
    MeasurementRow: MeasurementRow(
        "resnet", "sam", "cosine", 3, 0.1, "trace", -2.0, 0.5, None, 40,
        "hutchinson", "cross_entropy", "mean", 500, "ab12", "recomputed", "all", "float64",
    ),
    Barrier: Barrier("resnet", "sam", "cosine", "curve", 0, 1, "test", "loss", 0.01),
    PathPoint: PathPoint("resnet", "sam", "cosine", "linear", 0, 1, 0.5, 1.0, 0.5, 1.0, 0.5),
    Finding: Finding("factors", "sgd_noise", "mlp", "escape time", 3.0, 2.0, 4.0, 10, "factor_sgd_noise"),
}  # fmt: skip
COLUMNS = {
    Run: "model,strategy,schedule,phase,seed,rate,steps,gradient_evaluations,diverged_step,"
    "train_loss,train_error,validation_loss,validation_error,test_loss,test_error",
    CurvePoint: "model,strategy,schedule,seed,step,rate,loss",
    MeasurementRow: "model,strategy,schedule,seed,rate,quantity,value,standard_error,residual,iterations,method,"
    "loss,reduction,examples,examples_sha256,normalisation,parameters,dtype",
    Barrier: "model,strategy,schedule,kind,seed_a,seed_b,split,metric,barrier",
    PathPoint: "model,strategy,schedule,kind,seed_a,seed_b,t,train_loss,train_error,test_loss,test_error",
    Finding: "table,row,model,quantity,mean,low,high,n,notebook",
}


@pytest.mark.parametrize("kind", ROWS)
def test_every_type_comes_back(tmp_path, kind):
    path = tmp_path / "deep" / "rows.csv"
    write(path, [ROWS[kind]])
    assert path.read_text().splitlines()[0] == COLUMNS[kind]
    found = read(path, kind).iloc[0]
    for name, value in vars(ROWS[kind]).items():
        assert (pd.isna(found[name]) and value is None) or found[name] == value, name


def test_bytes_are_those_expected_and_the_same_twice(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, [RUN, replace(DIVERGED, rate=np.float32(0.1), validation_loss=-0.0)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes().decode() == (
        COLUMNS[Run] + "\n"
        "resnet,sam,cosine,reported,3,0.1,100,200,,0.5,0.25,0.625,0.5,0.75,0.5\n"
        "resnet,sam,cosine,reported,4,0.100000001,100,200,17,,,0,0.5,,0.5\n"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**31))
def test_numbers_keep_nine_digits(tmp_path_factory, loss, seed):
    path = tmp_path_factory.mktemp("numbers") / "rows.csv"
    write(path, [replace(RUN, train_loss=loss, seed=seed)])
    found = read(path, Run).iloc[0]
    assert found["seed"] == seed
    assert found["train_loss"] == pytest.approx(loss, rel=1e-8, abs=0)


def test_types_of_columns_and_empty_files(tmp_path):
    write(tmp_path / "rows.csv", [RUN, DIVERGED])
    write(tmp_path / "none.csv", [], Run)
    dtypes = {
        "model": "str",
        "seed": "int64",
        "rate": "float64",
        "diverged_step": "Int64",
        "test_loss": "float64",
    }
    for name in ("rows.csv", "none.csv"):
        frame = read(tmp_path / name, Run)
        assert {column: str(frame[column].dtype) for column in dtypes} == dtypes
    assert len(read(tmp_path / "none.csv", Run)) == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",seed,", ",sed,", "columns found: model, strategy, schedule, phase, sed"),
        ("reported,3", "reported,x", "line 2, column seed: 'x' found, a whole number from 0 allowed"),
        ("reported,3", "reported,-3", "column seed: '-3' found"),
        ("reported,3", "reported,3.0", "column seed: '3.0' found"),
        ("reported", "final", "column phase: 'final' found, tuning or reported or sibling allowed"),
        ("0.25,", "1.25,", "column train_error: '1.25' found, a number from 0 to 1 or blank allowed"),
        ("0.75,", "inf,", "column test_loss: 'inf' found, a number or blank allowed"),
        ("0.75,", "nan,", "column test_loss: 'nan' found"),
        ("0.75,", "0_75,", "column test_loss: '0_75' found"),
        ("0.75,", "0.75,0.75,", "line 2: 16 cells found, 15 allowed"),
        ("resnet,", ",", "column model: blank found, text allowed"),
        (",0.1,", ",,", "column rate: blank found, a number from 0 allowed"),
        ("0.75,0.5\n", "0.75,0.5", "cut off"),
        (COLUMNS[Run], "", "columns found: ; allowed: model"),
        ("sam", "s\x00m", "column strategy"),
    ],
)
def test_damage_is_named(tmp_path, old, new, message):
    path = tmp_path / "rows.csv"
    write(path, [RUN])
    damaged = path.read_text().replace(old, new, 1)
    path.write_text(damaged)
    with pytest.raises(RecordError) as error:
        read(path, Run)
    assert message in str(error.value) and str(path) in str(error.value)


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "rows.csv"
    write(path, [RUN])
    path.write_bytes(path.read_bytes().replace(b"sam", b"s\xffm"))
    with pytest.raises(RecordError, match="column strategy"):
        read(path, Run)


def test_a_row_twice_a_missing_file_and_an_empty_one(tmp_path):
    path = tmp_path / "rows.csv"
    write(path, [RUN])
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(RecordError, match=r"line 3: .*seed=3, rate=0.1 found twice"):
        read(path, Run)
    path.write_text("")
    with pytest.raises(RecordError, match="cut off"):
        read(path, Run)
    with pytest.raises(RecordError, match="no such file"):
        read(tmp_path / "absent.csv", Run)


def test_a_refused_row_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.csv"
    write(path, [RUN])
    before = path.read_bytes()
    for rows in (
        [replace(RUN, test_error=1.5)],
        [RUN, RUN],
        [RUN, ROWS[Barrier]],
        [replace(RUN, rate=None)],
        [],
    ):
        with pytest.raises(RecordError):
            write(path, rows)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["rows.csv"]


def test_file_names_are_distinct_and_below_the_profile():
    results = Results("root", "cpu")
    names = [getattr(results, kind)("m", "s") for kind in ("runs", "curves", "measurements", "training", "endpoints")]
    names += [getattr(results, kind)("m") for kind in ("connectivity", "paths", "findings", "notebooks", "data")]
    names += [getattr(results, kind)("m") for kind in ("effects", "gates")]
    names += [
        results.tables("grid", "csv"),
        results.figures("figures/grid"),
        results.figures("figures/grid", "md"),
        results.metrics,
        results.verdicts(),
        results.observations("m", "s"),
    ]
    assert len(set(names)) == len(names)
    assert all(name.parts[:3] == ("root", "results", "cpu") for name in names)


def test_tables_need_neither_torch_nor_matplotlib_and_figures_need_no_torch():
    code = """
import sys
import nonconvex.tables, nonconvex.layout, nonconvex.claims
assert not {"torch", "matplotlib"} & set(sys.modules)
import nonconvex.figures
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
