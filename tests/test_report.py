"""The report counts, quotes and links what a profile's results hold, and says what they were made from and on."""

import os
import platform
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace as Bag

import pytest
from fabricated import fabricate, settings

from nonconvex import arms, config, layout, provenance, records, report, tables, typeset
from nonconvex.claims import WORDS
from nonconvex.judging import Verdict
from nonconvex.paths import Results
from nonconvex.records import Finding
from nonconvex.source_tables import NOTATION, SOURCE_TABLES
from nonconvex.summaries import summaries

ROOT = Path(__file__).resolve().parents[1]
ASKED = Bag(**vars(settings()), compute=Bag(device="cpu"))
CLAIMS = (  # table, row, part, verdict, primary, notebook
    ("properties", "flat_minima", "observation", "supported", "yes", "property_flat_vs_sharp"),
    ("properties", "flat_minima", "observation", "reversed", "no", "property_flat_vs_sharp"),
    ("properties", "flat_minima", "implication", "inconclusive", "yes", "property_flat_vs_sharp"),
    ("strategies", "sam", "observation", "supported", "yes", "strategy_sam"),
    ("strategies", "sam", "observation", "not supported", "no", "escape_bad_starts"),
    ("schedules", "wsd", "implication", "reversed", "yes", "schedule_wsd"),
    ("prose", "horizon", "implication", "supported", "yes", "schedule_wsd"),
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def judged() -> list[Verdict]:
    texts = dict(
        statement="it does", source="text", bed="MLP", contrast="a - b", kind="contrast", unit="nats", gates="seeds"
    )
    numbers = dict(estimate=0.2, low=0.1, high=0.3, margin=0.1, n=5, seeds=5, p=0.06, p_holm=None, gates_failed=None)
    names = ("table", "row", "part", "verdict", "primary", "notebook")
    return [
        Verdict(claim=f"claim.{i}", **dict(zip(names, claim, strict=True)), **texts, **numbers)
        for i, claim in enumerate(CLAIMS)
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Results:
    """A profile whose grid is measured in part, with seven judged claims, and a stub of every file that is linked."""
    files = Results(tmp_path_factory.mktemp("root"), "tiny")
    fabricate(files, ASKED)
    records.write(files.verdicts(), judged(), Verdict)
    tabulate(files)
    for figure in figures_of(SOURCE_TABLES) | {"figures/grid_heatmap"}:
        for suffix in ("png", "pdf", "md"):
            path = files.figures(figure, suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"A caption of * {figure}, n = 5.\n")
        touch(files.notebooks(figure.split("/")[0]))
    for name in ("tables", "verdicts", *(f"train-{m}-{s}" for m in ASKED.grid.models for s in ASKED.grid.strategies)):
        touch(files.notebooks(name))
    for path in (files.verdicts("md"), files.root / "claims.yaml"):
        touch(path)
    return files


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def tabulate(files: Results) -> None:
    """What notebooks/tables.ipynb writes."""
    claims, found = records.read(files.verdicts(), Verdict), records.empty(Finding)
    summary = summaries(arms.load(files, ASKED), ASKED)
    for name in ("schedules", "strategies"):
        frame = tables.with_verdicts(name, getattr(tables, name)(summary, ASKED), claims)
        typeset.write(files.tables, frame, layout.arms_document(name, frame, found, claims, ASKED))
    for name in tables.CLAIMED:
        frame = tables.claims_table(name, found, claims)
        typeset.write(files.tables, frame, layout.claims_document(name, frame, claims))
    grid = tables.grid(summary)
    typeset.write(files.tables, grid, layout.grid_document(grid, ASKED))


def figures_of(sources: dict) -> set[str]:
    return {row.figure for table in sources.values() for row in table.rows}


@pytest.fixture(scope="module")
def text(files) -> str:
    return report.report(files, ASKED)


@pytest.fixture(scope="module")
def page(files) -> report.Page:
    return report.Page(files, files.folder)


def lines_of(table: str) -> dict[str, list[str]]:
    """The cells of a Markdown table's lines by their first one."""
    lines = [line[2:-2].split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {line[0]: line for line in lines}


def test_every_link_leads_to_a_file(files, text):
    links = LINK.findall(text)
    assert len(links) > 100 and not [link for link in links if not (files.folder / link).is_file()]


def test_the_readme_links_from_the_root(files):
    shown = report.head(report.Page(files, files.root, level=3))
    links = LINK.findall(shown)
    assert links and not [link for link in links if not (files.root / link).is_file()]
    assert re.findall(r"^#+ ", shown, re.MULTILINE) == ["### "] * 5


def test_claims_are_counted_by_table_and_verdict(page):
    lines = lines_of(report.counts(page))
    for title, table in [("All", None), *((SOURCE_TABLES[name].title, name) for name in report.QUOTED)]:
        of = [claim for claim in CLAIMS if table in (None, claim[0])]
        for word, cell in zip(["registered", *WORDS], lines[title][1:], strict=True):
            chosen = [claim for claim in of if word in ("registered", claim[3])]
            assert cell == f"{len(chosen)} ({sum(claim[4] == 'yes' for claim in chosen)})", (title, word)


@pytest.mark.parametrize("name", report.QUOTED)
def test_tables_are_quoted_word_for_word(files, page, name):
    """Without its links a line is that of tables/<name>.md."""
    known = files.tables(name, "md").read_text(encoding="utf-8")
    for line in report.table(page, name).splitlines():
        if line.startswith("| ") and not line.startswith(("| ---", f"| {SOURCE_TABLES[name].columns[0]}")):
            bare = re.sub(r" \(\[[^|]*\]\(notebooks/[^)|]+\)\)", "", line.rsplit(" | ", 1)[0])
            bare = re.sub(r"\[([^|]*)\]\(notebooks/[^)]+\)", r"\1", bare)
            assert f"{bare} |" in known


def test_a_verdict_links_to_the_notebooks_of_its_claims(page):
    flat = lines_of(report.table(page, "properties"))["Flat vs. sharp minima"]
    assert flat[3] == (
        "[mixed (primary: 1 supported; all 2: 1 supported, 1 reversed)](notebooks/property_flat_vs_sharp.ipynb)"
    )
    sam = lines_of(report.table(page, "strategies"))["Sharpness-aware minimization (SAM)"]
    assert sam[5].endswith(
        " ([strategy\\_sam](notebooks/strategy_sam.ipynb), [escape\\_bad\\_starts](notebooks/escape_bad_starts.ipynb))"
    )
    assert lines_of(report.table(page, "properties"))["Mode connectivity"][3] == typeset.UNMEASURED


def test_a_loss_links_to_the_training_of_its_arm(page):
    strategies, schedules = (lines_of(report.table(page, name)) for name in ("strategies", "schedules"))
    assert strategies["Learning rate warmup"][4].endswith("](notebooks/train-transformer-warmup.ipynb)")
    assert schedules["WSD"][4].endswith("](notebooks/train-resnet-none.ipynb)")
    assert schedules["Step decay"][4] == typeset.UNMEASURED


@pytest.mark.parametrize("name", report.QUOTED)
def test_a_table_shows_the_figure_of_each_row_once(page, name):
    shown = report.figures(page, name)
    wanted = list(dict.fromkeys(row.figure for row in SOURCE_TABLES[name].rows))
    assert [re.search(r"\(figures/(.+?)\.png\)", part)[1] for part in shown] == wanted
    for figure, part in zip(wanted, shown, strict=True):
        assert rf"A caption of \* {typeset.escaped(figure)}, n = 5." in part
    assert all(any(row.label in part.splitlines()[0] for part in shown) for row in SOURCE_TABLES[name].rows)


def test_every_line_of_a_table_has_the_cells_of_its_head(text):
    widths, blocks = {}, re.findall(r"(?:^\|.+\n?)+", text, re.MULTILINE)
    assert len(blocks) == 8
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


def test_the_notation_is_the_texts_with_its_symbols_back():
    lines = report.notation().splitlines()[2:]
    assert len(lines) == len(NOTATION) == 12
    assert [line for line in lines if "$" not in line] == lines[8:] and all("†" in line for line in lines[:8])


def test_a_figure_that_is_missing_is_named(files, tmp_path):
    empty = Results(tmp_path, "none")
    with pytest.raises(FileNotFoundError, match=r"property_flat_vs_sharp/curvature_by_batch\.md"):
        report.figures(report.Page(empty, empty.folder), "properties")


def test_the_page_names_no_host_and_no_path_and_is_the_same_twice(files, text):
    assert text == report.report(files, ASKED)
    names = [str(files.root), str(Path.home()), str(Path.cwd()), platform.node()]
    assert not [name for name in names if len(name) > 5 and name in text]


def test_the_command_writes_the_page_or_says_what_is_wrong(files, text, monkeypatch, capsys):
    monkeypatch.chdir(files.root)
    assert report.main(["missing.yaml"]) == 2 and "missing.yaml" in capsys.readouterr().err
    monkeypatch.setattr(config, "read", lambda path: ASKED)
    assert report.main(["params.yaml"]) == 0
    assert files.report.read_text(encoding="utf-8") == text


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """One commit of src/ at a known time, and a later one of another file."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b.c")
    git(tmp_path, "init", "--quiet")
    for name, time in (("src", "2024-02-29T23:30:00-0200"), ("README.md", "2024-05-01T00:00:00+0000")):
        monkeypatch.setenv("GIT_COMMITTER_DATE", time)
        (tmp_path / name).write_text("first")
        git(tmp_path, "add", name)
        git(tmp_path, "commit", "--quiet", "--message", name)
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_commit_is_the_last_that_touched_the_sources(repository):
    """Whatever the time zone of the committer and of this machine."""
    name = git(repository, "rev-parse", "HEAD~1")[:12]
    assert provenance.commit(repository, ["src"]) == f"`{name}` of 2024-03-01 01:30 UTC"
    (repository / "README.md").write_text("changed")
    assert "not committed" not in provenance.commit(repository, ["src"])
    (repository / "src").write_text("changed")
    assert (
        provenance.commit(repository, ["src"])
        == f"`{name}` of 2024-03-01 01:30 UTC, with changes that are not committed"
    )


def test_without_a_history_there_is_no_commit(tmp_path, repository, monkeypatch):
    assert provenance.commit(repository, ["never"]) == provenance.UNKNOWN
    monkeypatch.setenv("PATH", os.devnull)
    assert provenance.commit(repository, ["src"]) == provenance.UNKNOWN


def test_the_machine_is_described_by_what_it_is(monkeypatch):
    found = provenance.machine("cpu")
    assert set(found) == {"Processor", "Logical cores", "Memory", "System"} and all(found.values())
    monkeypatch.setattr(provenance, "_said", lambda *command: "NVIDIA H100\nNVIDIA H100")
    assert provenance.machine("auto")["Accelerators"] == "NVIDIA H100, NVIDIA H100"
    assert "Accelerators" not in provenance.machine("cpu")


def test_versions_are_those_that_are_installed(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    found = provenance.versions()
    assert found["Python"] == platform.python_version() and re.match(r"\d", found["numpy"])
    assert found["no-such-package"] == "not installed"


def test_the_committed_report_is_that_of_the_committed_results():
    """But for what it was made on; cure: dvc repro."""
    settings = config.read(ROOT / "params.yaml")
    files = Results(ROOT, settings.profile.name)
    committed, fresh = (
        page.split(report.PROVENANCE)[0]
        for page in (files.report.read_text(encoding="utf-8"), report.report(files, settings))
    )
    assert committed == fresh
    links = LINK.findall(files.report.read_text(encoding="utf-8"))
    assert len(links) > 200 and not [link for link in links if not (files.folder / link).is_file()]
