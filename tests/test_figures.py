"""Figures show the numbers of their frames, nothing is cut off or covered, and files are the same twice."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from fabricated import RATES, fabricate, settings
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from nonconvex import arms, config, figures, panels, statistics, style, tables
from nonconvex.arms import Records
from nonconvex.paths import Results
from nonconvex.schedules import SCHEDULES
from nonconvex.source_tables import SOURCE_TABLES
from nonconvex.summaries import summaries

ASKED = settings()
BASE = ASKED.grid.baseline
NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = (
    "rate_response", "schedule_shapes", "schedule_forest", "strategy_forest", "grid_heatmap", "flatness",
    "loss_curves", "connectivity_profiles", "barriers",
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Results:
    files = Results(tmp_path_factory.mktemp("root"), "tiny")
    fabricate(files, ASKED)
    return files


@pytest.fixture(scope="module")
def records(files) -> Records:
    return arms.load(files, ASKED)


@pytest.fixture(scope="module")
def summary(records) -> pd.DataFrame:
    return summaries(records, ASKED)


@pytest.fixture(scope="module")
def drawn(records, summary) -> dict[str, Figure]:
    schedules, strategies = tables.schedules(summary, ASKED), tables.strategies(summary, ASKED)
    curves = records.curves
    points = records.points.query("strategy == @BASE.strategy and schedule == @BASE.schedule")
    return {
        "rate_response": figures.rate_response(records.tuning, "none"),
        "schedule_shapes": figures.schedule_shapes(shapes()),
        "schedule_forest": figures.forest(schedules, "schedule"),
        "strategy_forest": figures.forest(strategies, "strategy"),
        "grid_heatmap": figures.grid_heatmap(tables.grid(summary)),
        "flatness": figures.flatness(schedules, "schedule"),
        "loss_curves": figures.loss_curves(curves[curves.strategy == BASE.strategy], "schedule"),
        "connectivity_profiles": figures.connectivity_profiles(points),
        "barriers": figures.barriers(strategies, "strategy"),
    }


def shapes() -> pd.DataFrame:
    multiples = {name: factory(50) for name, factory in SCHEDULES.items()}
    return pd.DataFrame([
        {"schedule": name, "step": step, "multiple": multiple(step)}
        for name, multiple in multiples.items() for step in range(50)
    ])  # fmt: skip


def texts(figure: Figure) -> list:
    shown = [text for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_visible()]
    return [text for text in shown if text.get_text().strip()]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off_or_covered(drawn, name):
    figure = drawn[name]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    used, page = figure.get_tightbbox(), figure.get_size_inches()
    assert (used.min >= 0).all() and (used.max <= page).all()
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(axes.get_tightbbox()) for axes in figure.axes)
    for axis in (axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)):
        assert not any(first.overlaps(second) for first, second in pairwise(tick_labels(axis)))


def tick_labels(axis) -> list:
    """The boxes of the labels that are drawn, and upright."""
    low, high = sorted(axis.get_view_interval())
    shown = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    upright = [label for label in shown if label.get_visible() and not label.get_rotation()]
    return [label.get_window_extent() for label in upright if label.get_text()]


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_holds_data_and_the_title_says_how_many(drawn, name):
    figure = drawn[name]
    for axes in figure.axes:
        assert not axes.get_visible() or axes.has_data()
    if name != "schedule_shapes":
        assert re.search(r"n = \d|over the n seeds", figure.get_suptitle())
        assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["ResNet", "Transformer"]


def test_forest_draws_the_intervals_of_its_frame(drawn, summary):
    rows = summary.query("model == 'transformer' and strategy == 'none'")
    bars = drawn["schedule_forest"].axes[1].containers
    assert [bar[0].get_xdata()[0] for bar in bars] == pytest.approx(rows.test_loss_difference_mean.tolist())
    ends = [bar[2][0].get_segments()[0][:, 0] for bar in bars]
    assert np.ravel(ends) == pytest.approx(
        rows[["test_loss_difference_low", "test_loss_difference_high"]].to_numpy().ravel()
    )
    labels = [text.get_text() for text in drawn["schedule_forest"].axes[0].get_yticklabels()]
    assert labels == ["Constant", "Cosine annealing", "WSD"]


def test_divergence_is_written_where_the_point_would_stand(summary):
    lost = tables.schedules(summary, ASKED).assign(test_loss_difference_n=0)
    blank = {f"test_loss_difference_{part}": np.nan for part in ("mean", "low", "high")}
    figure = figures.forest(lost.assign(**blank), "schedule")
    assert sum(text.get_text() == "diverged" for text in texts(figure)) == len(lost)


def test_a_single_run_has_a_point_and_no_bar(summary):
    one = tables.schedules(summary, ASKED)
    one[["test_loss_difference_low", "test_loss_difference_high"]] = np.nan
    bars = figures.forest(one, "schedule").axes[0].containers
    assert len(bars) == 3 and not any(bar.has_xerr for bar in bars)


def test_rate_response_draws_means_and_marks_the_chosen_rate(drawn, records):
    runs = records.tuning.query("model == 'resnet' and strategy == 'none' and schedule == 'constant'")
    means = runs.groupby("rate").validation_loss.mean()
    line, dots, chosen = drawn["rate_response"].axes[0].lines[:3]
    assert line.get_ydata() == pytest.approx(means.to_numpy()) and len(dots.get_ydata()) == len(runs)
    assert chosen.get_xdata()[0] == means.idxmin()


def test_rate_response_crosses_out_rates_that_diverged(records):
    lost = records.tuning.copy()
    lost.loc[lost.rate == RATES[-1], "validation_loss"] = np.nan
    panel = figures.rate_response(lost, "none").axes[0]
    crosses = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "x"]
    assert crosses == [RATES[-1]] * 3


def test_heatmap_writes_the_errors_flags_edges_and_frames_the_baseline(drawn, summary):
    panel = drawn["grid_heatmap"].axes[0]
    written = [text.get_text() for text in panel.texts]
    rows = summary[summary.model == "resnet"].dropna(subset="test_error_mean").set_index(["schedule", "strategy"])
    expected = [
        f"{100 * rows.test_error_mean[key]:.1f}" + "*" * (rows.rate_at_edge[key] != "no")
        for key in [(a, b) for a in ASKED.grid.schedules for b in ASKED.grid.strategies] if key in rows.index
    ]  # fmt: skip
    assert written == expected and any(text.endswith("*") for text in written)
    (frame,) = panel.patches
    assert frame.get_xy() == (0, 1)  # strategy none, schedule cosine


def test_profiles_draw_the_mean_over_pairs(drawn, records):
    points = records.points.query(
        "model == 'transformer' and strategy == 'none' and schedule == 'cosine' and kind == 'curve'"
    )
    panel = drawn["connectivity_profiles"].axes[3]
    line = next(line for line in panel.lines if line.get_label() == style.look("kind", "curve").label)
    assert line.get_ydata() == pytest.approx(points.groupby("t").test_loss.mean().to_numpy())


def test_curves_leave_diverged_runs_out(records):
    arm = "model == 'resnet' and schedule == 'cosine' and strategy == 'warmup'"
    runs, curves = records.reported.query(arm), records.curves.query(arm)
    finished = curves[curves.seed.isin(runs[runs.diverged_step.isna()].seed)]
    (line,) = figures.loss_curves(curves, "strategy").axes[0].lines
    assert line.get_ydata() == pytest.approx(finished.groupby("step").loss.mean().to_numpy())
    assert len(runs) == 5 and finished.seed.nunique() == 4


def test_an_interval_is_drawn_where_its_estimate_is():
    axes = Figure().subplots()
    values = [1.0, 2.0, np.nan, 4.0]
    panels.interval(axes, 3, values, color="k", marker="D")
    panels.interval(axes, 3, values, statistics.geometric_mean, upright=True)
    panels.interval(axes, 5, [7.0])
    panels.interval(axes, 5, [np.nan])
    across, upright, single = axes.containers
    mean, geometric = statistics.mean([1, 2, 4]), statistics.geometric_mean([1, 2, 4])
    assert (across[0].get_xdata()[0], across[0].get_ydata()[0]) == (mean.estimate, 3)
    assert np.ravel(across[2][0].get_segments()[0][:, 0]) == pytest.approx([mean.low, mean.high])
    assert (upright[0].get_xdata()[0], upright[0].get_ydata()[0]) == pytest.approx((3, geometric.estimate))
    assert np.ravel(upright[2][0].get_segments()[0][:, 1]) == pytest.approx([geometric.low, geometric.high])
    assert single[0].get_xdata()[0] == 7 and not single.has_xerr


def test_a_band_lies_between_the_limits_of_its_replicates():
    axes = Figure().subplots()
    runs = pd.DataFrame(np.random.default_rng(0).normal(size=(10, 3)), columns=[1, 10, 100])
    panels.band(axes, runs, statistics.median, color="k", label="runs")
    found = [statistics.median(runs[place]) for place in runs]
    assert axes.lines[0].get_ydata() == pytest.approx([one.estimate for one in found])
    corners = axes.collections[0].get_paths()[0].vertices
    for place, one in zip(runs, found, strict=True):
        heights = corners[corners[:, 0] == place, 1]
        assert (heights.min(), heights.max()) == pytest.approx((one.low, one.high))


def test_strips_show_every_value_and_their_mean():
    axes = Figure().subplots()
    rows = {"first": pd.Series([1.0, 2.0, 4.0]), "unmeasured": pd.Series(dtype=float)}
    panels.strips(axes, rows)
    assert [text.get_text() for text in axes.get_yticklabels()] == list(rows)
    assert sorted(axes.lines[0].get_xdata()) == [1, 2, 4] and len(axes.containers) == 1


def test_no_line_of_a_title_ends_within_a_number():
    for words in range(30):
        figure = panels.titled(panels.Page(figsize=(4, 3)), "word " * words + "with 95 % interval over n = 10 seeds")
        lines = figure.get_suptitle().split("\n")
        assert " ".join(lines) == "word " * words + "with 95 % interval over n = 10 seeds"
        assert any("95 %" in line for line in lines) and any("n = 10" in line for line in lines)


def test_a_legend_stays_on_its_page():
    figure, axes = panels.panels(["resnet", "transformer"], height=2)
    for panel in axes[0]:
        for name in range(6):
            panel.plot([0, 1], [name, name], label=f"an arm with a rather long name, number {name}")
    panels.legend(figure, axes[0])
    panels.titled(figure, "title")
    FigureCanvasAgg(figure).draw()
    box, page = figure.legends[0].get_window_extent(), figure.bbox
    assert box.x0 >= page.x0 and box.x1 <= page.x1


def saved_by(source: Path) -> set[str]:
    """The figures that a notebook saves."""
    cells = [cell for cell in json.loads(source.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    code = "".join(text for cell in cells for text in [*cell["source"], "\n"])
    return {name.replace("{nb}", source.stem) for name in re.findall(r'files\.figures\(f?"(.+?)"\)', code)}


def test_every_row_of_every_table_has_a_figure_that_a_notebook_saves():
    saved = {source.stem: saved_by(source) for source in NOTEBOOKS.glob("*.ipynb")}
    assert all(name.split("/")[0] == notebook for notebook, names in saved.items() for name in names)
    rows = {row.figure for table in SOURCE_TABLES.values() for row in table.rows}
    assert rows <= set().union(*saved.values())
    assert {name for names in saved.values() for name in names if not name.startswith("figures/")} <= rows


STAGES = ("dvc.yaml", "profiles/gpu/validate.yaml")


def test_every_figure_is_an_output_of_the_stage_that_runs_its_notebook():
    texts = [
        (NOTEBOOKS.parent / name).read_text(encoding="utf-8") for name in ("dvc.yaml", "profiles/gpu/validate.yaml")
    ]
    stages = [*yaml.safe_load(texts[0])["stages"].values(), *yaml.safe_load(texts[1]).values()]
    for source in NOTEBOOKS.glob("*.ipynb"):
        stage = next(stage for stage in stages if f"notebooks/{source.name} " in stage.get("do", stage)["cmd"] + " ")
        outs = [name for out in stage.get("do", stage)["outs"] for name in out]
        folder = f"results/${{profile.name}}/figures/{source.stem}"
        assert (folder in outs) == bool(saved_by(source)), source.stem


COMMITTED = sorted({row.figure for table in SOURCE_TABLES.values() for row in table.rows})


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_figure_of_a_row_has_a_caption_with_n_and_interval(name):
    files = Results(NOTEBOOKS.parent, "cpu")
    caption = files.figures(name, "md").read_text(encoding="utf-8")
    assert caption.count("\n") == 1 and "95 %" in caption and re.search(r"\bn = \d", caption)
    assert files.figures(name).read_bytes().startswith(b"\x89PNG")
    assert files.figures(name, "pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", ["strategy_forest", "grid_heatmap"])
def test_files_are_the_same_twice_and_name_no_version(tmp_path, drawn, name):
    for folder in ("a", "b"):
        figures.save(drawn[name], tmp_path / folder / f"{name}.png")
    for suffix in (".png", ".pdf"):
        first, second = ((tmp_path / folder / name).with_suffix(suffix).read_bytes() for folder in ("a", "b"))
        assert first == second
        assert b"CreationDate" not in first and b"atplotlib" not in first
    caption = (tmp_path / "a" / name).with_suffix(".md").read_text(encoding="utf-8")
    assert caption == " ".join(drawn[name].get_suptitle().split()) + "\n"


def test_a_notebook_shows_the_picture(drawn):
    for name in ("flatness", "schedule_shapes"):
        first, second = drawn[name]._repr_png_(), drawn[name]._repr_png_()
        assert first.startswith(b"\x89PNG") and first == second  # however often it was drawn before


def test_nothing_to_draw_is_said(summary):
    with pytest.raises(ValueError, match="nothing to draw"):
        figures.forest(tables.schedules(summary, ASKED).head(0), "schedule")


@pytest.mark.parametrize("name", ["tables", "figures"])
def test_the_notebook_runs_on_complete_records(files, monkeypatch, name):
    """Its cells one after the other in this process; the runner's own tests cover kernels."""
    source = Path(__file__).parents[1] / "notebooks" / f"{name}.ipynb"
    cells = [cell for cell in json.loads(source.read_text())["cells"] if cell["cell_type"] == "code"]
    saved: list[Path] = []
    monkeypatch.chdir(files.root)
    monkeypatch.setattr(config, "read", lambda path: ASKED)
    monkeypatch.setattr(figures, "save", lambda figure, path: saved.append(path))
    scope: dict = {}
    for cell in cells:
        exec("".join(cell["source"]), scope)
    if name == "figures":
        assert len(set(saved)) == 12 and {path.parent.name for path in saved} == {"figures"}
    else:
        assert len(list((files.folder / "tables").iterdir())) == 6 * 3 and files.metrics.is_file()


@pytest.mark.parametrize("axis", ["schedule", "strategy", "kind"])
def test_looks_differ_in_colour_marker_dashes_and_label(axis):
    looks = [style.look(axis, name) for name in style.NAMES[axis]]
    for part in ("label", "colour", "marker", "dashes"):
        assert len({getattr(look, part) for look in looks}) == len(looks)
    assert all(sum(to_rgb(look.colour)) < 2.6 for look in looks)  # none so pale that it vanishes on white


def test_an_unknown_name_has_no_look():
    with pytest.raises(KeyError, match="no look for strategy 'adam'; known: sgd_noise, warmup"):
        style.look("strategy", "adam")


@pytest.mark.parametrize(("low", "high"), [(0.05, 3.0), (0.48, 0.72), (2.01, 2.06), (1e-5, 1e4)])
def test_a_logarithmic_axis_has_a_few_plain_ticks_inside(low, high):
    axes = Figure().subplots()
    axes.plot([0, 1], [low, high])
    axes.set_yscale("log")
    panels.plain_log(axes.yaxis)
    ticks = axes.get_yticks()
    assert 2 <= len(ticks) <= 11 and (axes.get_ylim()[0] <= ticks).all() and (ticks <= axes.get_ylim()[1]).all()
