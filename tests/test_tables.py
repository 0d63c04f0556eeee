"""Tables: complete, recomputable from the records, and legible in every format."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from fabricated import RATES, fabricate, settings
from latex import refuse_odd_latex
from matplotlib import mathtext
from scipy import stats

from nonconvex import arms, config, figures, layout, plan, tables, typeset
from nonconvex.judging import Verdict
from nonconvex.measure.contract import FULL
from nonconvex.paths import Results
from nonconvex.records import Finding, MeasurementRow, Run, empty, read, write
from nonconvex.source_tables import LABELS, SOURCE_TABLES
from nonconvex.summaries import FLATNESS, KINDS, summaries
from nonconvex.typeset import HABIT, UNMEASURED, Block, Document

ASKED = settings()
NAMES = ("properties", "factors", "prose", "strategies", "schedules", "grid")
UNJUDGED = empty(Verdict)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Results:
    files = Results(tmp_path_factory.mktemp("root"), "tiny")
    fabricate(files, ASKED)
    return files


@pytest.fixture(scope="module")
def summary(files) -> pd.DataFrame:
    return summaries(arms.load(files, ASKED), ASKED)


@pytest.fixture(scope="module")
def frames(files, summary) -> dict[str, pd.DataFrame]:
    found = tables.findings(files)
    return {
        **{name: tables.claims_table(name, found, UNJUDGED) for name in tables.CLAIMED},
        "strategies": tables.strategies(summary, ASKED),
        "schedules": tables.schedules(summary, ASKED),
        "grid": tables.grid(summary),
    }


def page(name: str, frame: pd.DataFrame) -> Document:
    if name in tables.CLAIMED:
        return layout.claims_document(name, frame, UNJUDGED)
    if name == "grid":
        return layout.grid_document(frame, ASKED)
    return layout.arms_document(name, frame, empty(Finding), UNJUDGED, ASKED)


@pytest.fixture
def copied(tmp_path, files) -> Results:
    """Records that a test may damage."""
    copy = Results(tmp_path, "tiny")
    shutil.copytree(files.folder, copy.folder)
    return copy


def test_every_number_of_an_arm_is_recomputable_from_the_files(files, summary):
    """With csv and scipy alone: warmup has lost a seed, and pairs with the baseline on the others."""
    row = summary.query("model == 'resnet' and strategy == 'warmup' and schedule == 'cosine'").iloc[0]
    mine, base = (losses(files, strategy) for strategy in ("warmup", "none"))
    assert (row.runs, row.diverged, row.test_loss_n, row.test_loss_difference_n) == (5, 1, 4, 4)
    expected = stats.ttest_1samp(list(mine.values()), 0).confidence_interval(0.95)
    assert [row.test_loss_mean, row.test_loss_low, row.test_loss_high] == pytest.approx(
        [np.mean(list(mine.values())), *expected], rel=1e-9
    )
    apart = [mine[seed] - base[seed] for seed in mine]
    expected = stats.ttest_1samp(apart, 0).confidence_interval(0.95)
    found = [row.test_loss_difference_mean, row.test_loss_difference_low, row.test_loss_difference_high]
    assert found == pytest.approx([np.mean(apart), *expected], rel=1e-9)


def losses(files: Results, strategy: str) -> dict[int, float]:
    """Test loss by seed of a finished resnet run on the cosine schedule."""
    with files.runs("resnet", strategy).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["schedule"], row["phase"]) == ("cosine", "reported")]
    return {int(row["seed"]): float(row["test_loss"]) for row in rows if row["diverged_step"] == ""}


def test_summary_has_every_arm_once_and_counts_divergence(summary):
    assert len(summary) == 2 * 3 * 3 and not summary.duplicated(arms.ARM).any()
    assert summary.baseline.sum() == 2
    lost = summary.query("model == 'resnet' and strategy == 'sam' and schedule == 'wsd'").iloc[0]
    assert (lost.runs, lost.diverged, lost.test_loss_n) == (3, 3, 0)
    assert np.isnan(lost.test_loss_mean) and lost.lambda_max_n == 0
    assert (summary.runs - summary.diverged == summary.test_loss_n).all()


def test_without_seeds_for_the_cross_its_cells_are_blank(tmp_path):
    """A reader that asks for arms which the settings leave out, or a mark on a cell that nobody ran."""
    outer = settings()
    outer.seeds.cross = ()
    files = Results(tmp_path, "tiny")
    fabricate(files, outer)
    summary = summaries(arms.load(files, outer), outer)
    assert len(summary) == 2 * (3 + 2)
    grid = tables.grid(summary)
    blocks = layout.grid_document(grid, outer).blocks
    assert sum(row.count("not run") for row in blocks[0].rows) == 4
    (panel, _) = figures.grid_heatmap(grid).axes
    assert len(panel.texts) == 5 and len(panel.patches) == 1


def test_baseline_differs_from_itself_by_nothing(summary):
    base = summary[summary.baseline]
    for name in ("test_loss", "test_error"):
        parts = base[[f"{name}_difference_{part}" for part in ("mean", "low", "high")]]
        assert (parts == 0).all(axis=None) and (base[f"{name}_difference_n"] == 5).all()


def test_edges_of_the_rate_grid_are_flagged(summary):
    for row in summary.itertuples():
        expected = {RATES[0]: "lowest", RATES[-1]: "highest"}.get(row.rate, "no")
        assert row.rate_at_edge == expected
    assert {"no", "highest"} <= set(summary.rate_at_edge)


def test_what_was_measured_at_a_diverged_run_does_not_count(files, summary):
    found = read(files.measurements("resnet", "warmup"), MeasurementRow)
    values = found.query("schedule == 'cosine' and quantity == 'trace' and seed != 1").value
    row = summary.query("model == 'resnet' and strategy == 'warmup' and schedule == 'cosine'").iloc[0]
    assert (row.trace_n, row.barrier_curve_test_loss_n) == (4, 3)  # two of the five ring pairs end at seed 1
    assert row.trace_mean == pytest.approx(values.mean(), rel=1e-9)


def test_barriers_are_measured_along_the_baseline_only(summary):
    along = [plan.on_baseline(ASKED, row.schedule, row.strategy) for row in summary.itertuples()]
    for kind in KINDS:
        pairs = 2 if kind == "siblings" else 5
        counts = summary[f"barrier_{kind}_test_loss_n"]
        assert counts.notna().tolist() == along
        assert (counts[along] == pairs - np.where(summary.strategy[along] == "warmup", 1 if pairs == 2 else 2, 0)).all()


def test_measuring_a_quantity_in_two_ways_is_refused(files):
    records = arms.load(files, ASKED)
    again = records.measurements.head(1).assign(method="dense")
    doubled = pd.concat([records.measurements, again])
    with pytest.raises(ValueError, match="lambda_max is measured in several ways"):
        summaries(arms.Records(records.runs, records.curves, doubled, records.barriers, records.points), ASKED)


TUNING = "phase == 'tuning' and seed == 11 and rate == 0.03 and schedule == 'cosine'"
REPORTED = "phase == 'reported' and seed in (2, 4) and schedule == 'cosine'"


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (TUNING, "resnet/sam/cosine: tuning at rate 0.03, seeds 11"),
        (REPORTED, "resnet/sam/cosine: reported at rate 0.1, seeds 2, 4"),
        ("schedule == 'wsd'", "resnet/sam/wsd: tuning at rate 0.3, seeds 10, 11"),
    ],
)
def test_missing_runs_are_listed(copied, drop, message):
    path = copied.runs("resnet", "sam")
    found = read(path, Run)
    rewrite(path, found.drop(found.query(drop).index))
    with pytest.raises(arms.IncompleteError) as error:
        arms.load(copied, ASKED)
    assert message in str(error.value)


def test_a_missing_file_is_one_line(copied):
    copied.runs("transformer", "none").unlink()
    with pytest.raises(arms.IncompleteError) as error:
        arms.load(copied, ASKED)
    assert str(error.value).count("\n") == 1 and "transformer-none.csv: no such file" in str(error.value)


def test_runs_of_other_settings_are_ignored_or_missed(copied):
    before = summaries(arms.load(copied, ASKED), ASKED)
    path = copied.runs("resnet", "none")
    found = read(path, Run)
    other = found[found.phase == "reported"].assign(seed=lambda frame: frame.seed + 100)
    rewrite(path, pd.concat([found, other, other[other.schedule == "wsd"].assign(schedule="linear")]))
    copied.runs("resnet", "ema").write_text("stale\n")
    pd.testing.assert_frame_equal(summaries(arms.load(copied, ASKED), ASKED), before)
    rewrite(path, found.assign(steps=7))  # of a shorter training
    with pytest.raises(arms.IncompleteError, match="resnet/none/constant"):
        arms.load(copied, ASKED)


def test_a_reported_rate_that_tuning_did_not_choose_is_missed(copied):
    path = copied.runs("resnet", "none")
    found = read(path, Run)
    rewrite(path, found.assign(rate=found.rate.where(found.phase != "reported", 0.01)))
    with pytest.raises(arms.IncompleteError, match=r"reported at rate 0\.1"):
        arms.load(copied, ASKED)


def rewrite(path, frame: pd.DataFrame) -> None:
    plain = frame.astype(object).where(frame.notna(), None)
    write(path, [Run(**row) for row in plain.to_dict("records")])


def test_what_is_not_recorded_is_not_measured(copied):
    for model in ASKED.grid.models:
        copied.connectivity(model).unlink()
        copied.paths(model).unlink()
    frame = tables.schedules(summaries(arms.load(copied, ASKED), ASKED), ASKED)
    rows = list(csv.DictReader(io.StringIO(typeset.csv(frame))))
    assert {row["barrier_curve_test_loss_mean"] for row in rows} == {UNMEASURED}
    assert rows[0]["test_loss_n"] == "5"


@pytest.mark.parametrize("name", ["strategies", "schedules"])
def test_source_rows_are_all_there_and_unmeasured_ones_say_so(frames, name):
    rows = list(csv.DictReader(io.StringIO(typeset.csv(frames[name]))))
    source = SOURCE_TABLES[name]
    assert [row["row"] for row in rows[::2]] == [row.cells[0] for row in source.rows] and len(rows) == 16
    texts = {
        "row",
        "model",
        "schedule",
        "strategy",
        "baseline",
        "restored",
        "how_it_works",
        "used_in",
        "formula",
    }
    measured = set(rows[0]) - texts - {"best_for", "key_parameter"}
    for row in rows:
        in_grid = row["schedule"] in ASKED.grid.schedules and row["strategy"] in ASKED.grid.strategies
        assert {row[column] == UNMEASURED for column in measured} == {not in_grid}
        assert UNMEASURED not in {row[column] for column in texts & set(row)}


def test_finding_rows_stand_beside_their_claims(files, frames):
    assert set(frames["properties"].row) == {row.cells[0] for row in SOURCE_TABLES["properties"].rows}
    empty = list(csv.DictReader(io.StringIO(typeset.csv(frames["factors"]))))
    assert {row[column] for row in empty for column in tables.MEASURED} == {UNMEASURED}
    found = pd.DataFrame([
        Finding("properties", "edge_of_stability", "mlp", "sharpness", 1.02, 1.01, 1.03, 10, "eos")
    ])  # fmt: skip
    row = tables.claims_table("properties", found, UNJUDGED).query("notebook == 'eos'").iloc[0]
    assert (row.row, row["mean"], row.n) == ("Edge of stability", 1.02, 10)
    with pytest.raises(ValueError, match=r"findings about flatnes; rows of properties: flat_minima"):
        tables.claims_table("properties", found.assign(row="flatnes"), UNJUDGED)


def judged(*words: str, part: str = "observation", row: str = "edge_of_stability") -> pd.DataFrame:
    """A record of judging.Verdict for each word."""
    texts = dict(statement="GD settles", source="Cohen 2021", bed="MLP", contrast="ratio minus one", unit="1")
    fixed = dict(kind="contrast", primary="yes", margin=0.1, n=10, seeds=10, p=0.002, p_holm=None, notebook="eos")
    rows = [
        Verdict(
            claim=f"{part}.{i}", table="properties", row=row, part=part, verdict=word, estimate=1.02, low=1.01,
            high=1.03, gates="seeds", gates_failed="seeds" if word == "inconclusive" else None, **texts, **fixed,
        )
        for i, word in enumerate(words)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_cell_has_one_word_for_its_sub_claims():
    found = pd.concat([judged("supported", "reversed"), judged("supported", "supported", part="implication")])
    frame = tables.claims_table("properties", empty(Finding), found)
    cells = frame[frame.row == "Edge of stability"].iloc[0]
    assert (cells.observation_verdict, cells.implication_verdict) == ("mixed", "supported")
    assert frame[frame.row != "Edge of stability"].observation_verdict.isna().all()
    found.loc[found.verdict == "reversed", "primary"] = "no"
    rows = layout.claims_document("properties", frame, found).blocks[0].rows
    (shown,) = [line[3:] for line in rows if line[0] == "Edge of stability"]
    assert shown[0] == "mixed (primary: 1 supported; all 2: 1 supported, 1 reversed)"
    assert shown[1] == "supported (primary: 2 supported; all 2: 2 supported)"
    assert {tuple(line[3:]) for line in rows if line[0] != "Edge of stability"} == {(UNMEASURED, UNMEASURED)}
    with pytest.raises(ValueError, match=r"verdicts about edge; rows of properties: flat_minima"):
        tables.claims_table("properties", empty(Finding), judged("supported", row="edge"))


def test_schedules_and_strategies_carry_the_verdicts_beside_the_scores(frames):
    """A schedule's claims are about the columns behind its formula; a strategy's use is a habit or a claim."""
    claim = judged("supported", "reversed").assign(table="schedules", row="wsd")
    frame = tables.with_verdicts("schedules", frames["schedules"], claim)
    assert set(frame[frame.row == "WSD"].observation_verdict) == {"mixed"}
    assert frame[frame.row != "WSD"].observation_verdict.isna().all() and frame.implication_verdict.isna().all()
    found = pd.DataFrame([Finding("schedules", "wsd", "mlp", "gap", 0.5, 0.4, 0.6, 10, "nb")])
    shown = {block.name: block for block in layout.arms_document("schedules", frame, found, claim, ASKED).blocks}
    assert shown["text"].columns[-2:] == ["Best For: verdict", "Key Parameter: verdict"]
    (cells,) = [line[-2:] for line in shown["text"].rows if line[0] == "WSD"]
    assert cells == ["mixed (primary: 1 supported, 1 reversed; all 2: 1 supported, 1 reversed)", UNMEASURED]
    assert len(shown["claims"].rows) == 2 and shown["findings"].rows[0][:3] == ["WSD", "mlp", "gap"]
    unjudged = layout.arms_document("strategies", frames["strategies"], empty(Finding), UNJUDGED, ASKED).blocks
    assert [block.name for block in unjudged] == ["text", "performance", "flatness", "connectivity"]
    uses = {line[0]: line[-1] for line in unjudged[0].rows}
    assert uses["Exponential moving average (EMA)"] == HABIT
    assert uses["Stochastic weight averaging (SWA)"] == UNMEASURED


def test_a_habit_is_no_claim_and_nothing_to_be_measured_yet():
    frame = tables.claims_table("factors", empty(Finding), UNJUDGED)
    rows = {line[0]: line[3:] for line in layout.claims_document("factors", frame, UNJUDGED).blocks[0].rows}
    assert rows["Progressive learning"] == [UNMEASURED, HABIT]
    assert rows["Initialization"] == [UNMEASURED, UNMEASURED]


def test_what_no_replicate_has_is_not_said_to_have_diverged():
    """A run may also have missed the level at which it was to be measured."""
    claim = judged("inconclusive").assign(n=0, estimate=None, low=None, high=None)
    found = pd.DataFrame([Finding("properties", "edge_of_stability", "mlp", "ratio", None, None, None, 0, "eos")])
    frame = tables.claims_table("properties", found, claim)
    text = typeset.markdown(layout.claims_document("properties", frame, claim))
    assert text.count("| no replicate |") == 2 and "diverged" not in text


def test_every_claim_stands_in_the_ledger_with_its_failed_gates():
    found = judged("supported", "inconclusive")
    text = typeset.markdown(layout.ledger(found))
    lines = [line for line in text.splitlines() if line.startswith("| observation.")]
    assert ["| supported |  |" in lines[0], "| inconclusive | seeds |" in lines[1]] == [True, True]
    assert "1.020 [1.010, 1.030] | 0.1 1 | 10 of 10" in lines[0]
    assert typeset.latex(layout.ledger(found)).count(r"\midrule") == 1


def test_findings_are_read_from_files(copied):
    finding = Finding("factors", "sgd_noise", "mlp", "escape time", 3.0, None, None, 1, "factor_sgd_noise")
    write(copied.findings("factor_sgd_noise"), [finding])
    assert tables.findings(copied)["quantity"].tolist() == ["escape time"]


def test_an_arm_whose_runs_all_diverged_is_blank_in_csv_and_said_in_words(frames):
    rows = csv.DictReader(io.StringIO(typeset.csv(frames["grid"])))
    lost = next(row for row in rows if (row["model"], row["strategy"], row["schedule"]) == ("resnet", "sam", "wsd"))
    assert (lost["test_loss_mean"], lost["test_loss_n"], lost["diverged"]) == ("", "0", "3")
    assert "diverged" in typeset.markdown(layout.grid_document(frames["grid"], ASKED))


@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_complete_and_the_same_twice(files, frames, name):
    document = page(name, frames[name])
    typeset.write(files.tables, frames[name], document)
    before = {suffix: files.tables(name, suffix).read_bytes() for suffix in ("csv", "md", "tex")}
    typeset.write(files.tables, frames[name], document)
    assert {suffix: files.tables(name, suffix).read_bytes() for suffix in before} == before
    assert all(text.endswith(b"\n") and b"nan" not in text.lower() and b"<NA>" not in text for text in before.values())


@pytest.mark.parametrize("name", NAMES)
def test_markdown_rows_have_as_many_cells_as_their_header(frames, name):
    text = typeset.markdown(page(name, frames[name]))
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
    blocks = [list(map(len, map(str, part))) for part in re.split(r"^## ", text, flags=re.M)[1:]]
    assert widths and len(blocks) == len(page(name, frames[name]).blocks)
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in part.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_latex_is_what_latex_can_read(frames, name):
    refuse_odd_latex(typeset.latex(page(name, frames[name])))


def test_a_long_block_runs_over_landscape_pages_and_a_short_one_floats():
    def typesetting(rows: int, cell: str) -> str:
        return typeset.latex(Document("n", "T", [Block("b", "C", ["a", "b"], [["1", cell]] * rows)], []))

    assert r"\begin{table*}" in typesetting(typeset.ROWS, "x" * typeset.CHARACTERS)
    for text in (typesetting(typeset.ROWS + 1, "x"), typesetting(1, "x" * (typeset.CHARACTERS + 1))):
        assert r"\begin{longtable}" in text and r"\begin{table*}" not in text
        shares = [float(share) for share in re.findall(r"\\dimexpr([\d.]+)\\linewidth", text)]
        assert len(shares) == 2 and sum(shares) == pytest.approx(1, abs=0.002)


def test_an_excerpt_leaves_out_long_blocks_alone():
    blocks = [Block(name, name, ["a"], [["1"]] * rows) for name, rows in (("short", 3), ("long", 4))]
    document = Document("n", "T", blocks, ["note"])
    assert [block.name for block in typeset.excerpt(document, 3).blocks] == ["short"]
    assert typeset.excerpt(document, 4) == document


def test_a_character_that_latex_lacks_is_refused_by_name():
    document = Document("n", "T", [Block("b", "C", ["a"], [["λ ≥ 2"], ["Jastrzębski"]])], [])
    assert r"$\lambda$ $\geq$ 2 \\" in typeset.latex(document) and "Jastrzębski" in typeset.latex(document)
    with pytest.raises(ValueError, match=r"'漢' found in 'a 漢: C[.]'; allowed beyond Latin: α"):
        typeset.latex(replace(document, title="a 漢"))


def test_formulas_are_valid_tex():
    parser = mathtext.MathTextParser("path")
    cells = [cell for table in SOURCE_TABLES.values() for row in table.rows for cell in row.cells]
    formulas = [part for cell in [*cells, *layout.FLATNESS.values()] for part in re.findall(r"\$[^$]*\$", cell)]
    assert len(formulas) > 15
    for formula in formulas:
        parser.parse(formula)
    assert all(cell.count("$") % 2 == 0 for cell in cells)


def test_escapes_keep_mathematics():
    document = Document(
        "odd", "T", [Block("b", "C", ["a_b", "$x_1$"], [["50 % & more*", '$y^2$ -0.5 <|> "q" {}']])], ["a#b"]
    )
    tex, page = typeset.latex(document), typeset.markdown(document)
    assert r"50 \% \& more* & $y^2$ $-$0.5 \textless{}\textbar{}\textgreater{} ``q'' \{\}" in tex
    assert r"a\_\allowbreak b & $x_1$" in tex and r"a\#b" in tex
    assert r"| 50 % & more\* | $y^2$ -0.5 \<\|> " in page and r"| a\_b | $x_1$ |" in page


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ((0.51234, 0.49834, 0.52634, 5), "0.512 [0.498, 0.526]"),
        ((123.4, 100.0, 146.8, 5), "123 [100, 147]"),
        ((-0.0004, -0.2, 0.2, 5), "0.00 [-0.20, 0.20]"),
        ((0.5, 0.5, 0.5, 5), "0.500 [0.500, 0.500]"),
        ((0.0, 0.0, 0.0, 5), "0.00 [0.00, 0.00]"),
        ((0.51234, np.nan, np.nan, 1), "0.512"),
        ((np.nan, np.nan, np.nan, 0), "diverged"),
        ((np.nan, np.nan, np.nan, pd.NA), UNMEASURED),
    ],
)
def test_an_interval_in_words(cells, text):
    assert typeset.interval(*cells) == text


def test_half_width_and_scale():
    assert typeset.half_width(0.1234, 0.1134, 0.1334, 5, 100) == r"12.3 $\pm$ 1.0"
    assert typeset.half_width(0.1234, np.nan, np.nan, 1) == "0.123"


def test_metrics_are_few_finite_and_right(files, summary):
    found = tables.metrics(summary, ASKED)
    tables.write_metrics(files.metrics, found)
    numbers = pd.json_normalize(json.loads(files.metrics.read_text())).iloc[0]
    assert len(numbers) < 20 and np.isfinite(numbers.astype(float)).all()
    assert (found["runs"], found["diverged"]) == (summary.runs.sum(), 3 + 2 * 3)
    base = summary[summary.baseline & (summary.model == "resnet")].iloc[0]
    assert found["resnet"]["test_loss"] == pytest.approx(base.test_loss_mean, rel=1e-3)


def test_metrics_leave_out_what_is_missing(summary):
    unmeasured = summary.assign(lambda_max_mean=np.nan)
    assert "lambda_max" not in tables.metrics(unmeasured, ASKED)["resnet"]


def test_every_name_of_the_settings_has_a_label_and_a_row():

    for axis, names in (
        ("model", config.ModelName),
        ("strategy", config.StrategyName),
        ("schedule", config.ScheduleName),
    ):
        assert set(get_args(names)) <= set(LABELS[axis])
        assert len(set(LABELS[axis].values())) == len(LABELS[axis])


def test_flatness_names_are_those_that_are_measured():
    assert set(layout.FLATNESS) < set(FLATNESS) == set(FULL)
