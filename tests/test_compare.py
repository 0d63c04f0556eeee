"""Cells of fabricated tables: what agrees, by how much, and what does not."""

import math

import pytest
from scipy import stats

from nonconvex.compare import AGREES, DIFFERENT, IDENTICAL, ComparisonError, compare, flips

TABLE = """\
row,model,test_loss_mean,test_loss_low,test_loss_high,test_loss_n,test_loss_p,rate,observation_verdict,note
sam,mlp,0.5,0.4,0.6,5,0.04,0.1,mixed,
swa,mlp,2,2,2,5,1,0.1,supported,two gradients
ema,mlp,-1,,,1,,0.1,reversed,
"""
ERROR = 0.1 / stats.t.ppf(0.975, 4)  # of sam's mean


def changed(old: str, new: str) -> str:
    assert TABLE.count(old) == 1
    return TABLE.replace(old, new)


def apart_from_identical(new: str, tolerance: float = 0.5) -> list:
    return [cell for cell in compare("t", TABLE, new, tolerance) if cell.word != IDENTICAL]


def test_the_same_text_is_identical_cell_by_cell():
    cells = compare("t", TABLE, TABLE)
    assert len(cells) == 30 and {cell.word for cell in cells} == {IDENTICAL}


@pytest.mark.parametrize(
    ("old", "new", "word", "apart"),
    [
        ("mlp,0.5,", f"mlp,{0.5 + 0.49 * ERROR},", AGREES, 0.49),
        ("mlp,0.5,", f"mlp,{0.5 - 0.51 * ERROR},", DIFFERENT, 0.51),
        ("0.5,0.4,", f"0.5,{0.4 - 0.3 * ERROR},", AGREES, 0.3),  # a limit, in the errors of its mean
        ("0.6,5", f"{0.6 + 2 * ERROR},5", DIFFERENT, 2),
        ("mlp,2,2", "mlp,2.00001,2", AGREES, 0),  # the sixth digit
        ("mlp,2,2", "mlp,2.0001,2", DIFFERENT, math.inf),  # replicates without a spread
        ("mlp,-1,,", "mlp,-1.1,,", DIFFERENT, math.inf),  # a number without an interval
        ("mlp,-1,,", "mlp,nan,,", DIFFERENT, None),
        ("mlp,-1,,", "mlp,,,", DIFFERENT, None),
        ("0.6,5", "inf,5", DIFFERENT, None),
        ("0.6,5", "0.6,4", DIFFERENT, math.inf),  # a run that diverged
        ("0.04,0.1", "0.05,0.1", AGREES, stats.norm.isf(0.02) - stats.norm.isf(0.025)),
        ("0.04,0.1", "0.4,0.1", DIFFERENT, stats.norm.isf(0.02) - stats.norm.isf(0.2)),
        ("0.04,0.1", "0.04,0.3", DIFFERENT, math.inf),  # another rate was chosen
        ("two gradients", "2", DIFFERENT, None),
    ],
)
def test_a_changed_cell(old, new, word, apart):
    (cell,) = apart_from_identical(changed(old, new))
    assert (cell.word, cell.apart) == (word, apart if apart is None else pytest.approx(apart, abs=1e-6))
    assert not cell.flipped


def test_the_tolerance_is_the_callers():
    new = changed("mlp,0.5,", f"mlp,{0.5 + 2 * ERROR},")
    assert [cell.word for cell in apart_from_identical(new, 2.01)] == [AGREES]
    assert [cell.word for cell in apart_from_identical(new, 1.99)] == [DIFFERENT]


def test_the_old_interval_sets_the_unit():
    """A re-run that is noisier than the original must not excuse itself."""
    new = changed("0.5,0.4,0.6", "0.6,-9,9")
    assert {cell.column: cell.word for cell in apart_from_identical(new)}["test_loss_mean"] == DIFFERENT


def test_rows_are_matched_by_what_they_are_about():
    header, *rows = TABLE.splitlines(keepends=True)
    assert apart_from_identical("".join([header, *reversed(rows)])) == []
    assert apart_from_identical("".join([header, rows[0], rows[1].replace("swa", "sgd"), rows[2]]))[0].new is None


@pytest.mark.parametrize(("side", "absent"), [("new", slice(2)), ("old", slice(1, 2))])
def test_a_missing_row_is_different_in_every_cell(side, absent):
    header, *rows = TABLE.splitlines(keepends=True)
    fewer = "".join([header, *[row for row in rows if row not in rows[absent]]])
    pair = (TABLE, fewer) if side == "new" else (fewer, TABLE)
    cells = [cell for cell in compare("t", *pair) if cell.word != IDENTICAL]
    assert len(cells) == 10 * len(rows[absent])
    assert all(getattr(cell, side) is None and cell.word == DIFFERENT and not cell.flipped for cell in cells)


def test_a_missing_table_is_different_in_every_cell():
    assert {cell.word for cell in compare("t", TABLE, "")} == {cell.word for cell in compare("t", "", TABLE)}
    assert {cell.word for cell in compare("t", TABLE, "")} == {DIFFERENT}


def test_a_renamed_column_is_missing_once_and_new_once():
    cells = apart_from_identical(changed("note", "remark"))
    assert sorted((cell.column, cell.old is None) for cell in cells) == [("note", False)] * 3 + [("remark", True)] * 3


def test_a_verdict_flips_once_however_often_the_table_repeats_it():
    old = "row,quantity,observation_verdict\nsam,a,mixed\nsam,b,mixed\nswa,a,mixed\n"
    cells = compare("t", old, old.replace("mixed", "supported"))
    assert [(cell.row[0], cell.old, cell.new) for cell in flips(cells)] == [
        ("sam", "mixed", "supported"), ("swa", "mixed", "supported"),
    ]  # fmt: skip
    assert sum(cell.flipped for cell in cells) == 3


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (TABLE + TABLE.splitlines()[1] + "\n", "t: two rows found about sam / mlp, one allowed"),
        (TABLE + "gru,mlp\n", "t: a row with more or fewer cells than the header"),
        (TABLE.replace("gradients", "gradients,too many"), "t: a row with more or fewer cells than the header"),
    ],
)
def test_a_table_that_is_none_is_refused(new, message):
    with pytest.raises(ComparisonError, match=message):
        compare("t", TABLE, new)
