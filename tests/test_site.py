"""The site says what the results say, every link of it resolves, nothing is fetched, and a browser finds no fault.

Pages are made for every claim; the HTML is built for the first claims of every row, by the same code. What this cannot
see: a fault on a page of a claim whose shape none of the built ones has; `make site` itself fails on a broken link.
"""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
import yaml

from nonconvex import claims, judging
from nonconvex.claims import Ledger
from nonconvex.paths import Results
from nonconvex.source_tables import SOURCE_TABLES
from website.evidence import Evidence, gathered
from website.links import Links
from website.pages import plain, write_pages
from website.provenance import readings
from website.site import Site
from website.strip import strip

ROOT = Path(__file__).resolve().parents[1]
FILES = Results(ROOT, "cpu")
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return claims.read(ROOT / "claims.yaml")


@pytest.fixture(scope="module")
def found(ledger) -> list[Evidence]:
    return gathered(FILES, ledger)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    write_pages(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> Path:
    """The HTML of a reduced site."""
    for tool in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(tool, reason=f"{tool} is not installed; make test-site installs it")
    folder = tmp_path_factory.mktemp("site")
    asked = ["--claims", "1", "--into", folder / "html", "--sources", folder / "sources"]
    done = subprocess.run([sys.executable, "-m", "website", *asked], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


# The pages


def test_every_claim_has_a_page_with_its_verdict_contrast_and_margin(pages, found):
    verdicts = pd.read_csv(FILES.verdicts(), dtype=str, keep_default_na=False)
    assert len(verdicts) == len(found) == len(list((pages / "claims").glob("*.*.md")))
    for row in verdicts.itertuples():
        text = (pages / "claims" / f"{row.claim}.md").read_text()
        assert f'<p class="found"><span class="verdict {row.verdict.replace(" ", "-")}">' in text, row.claim
        assert plain(row.contrast) in text and plain(row.statement) in text, row.claim
        assert re.search(rf"^\s+margin: {re.escape(str(float(row.margin)))}\b|margin: {row.margin}\b", text, re.M), (
            row.claim
        )


def test_the_front_page_counts_the_verdicts(pages):
    text, verdicts = (pages / "index.md").read_text(), pd.read_csv(FILES.verdicts())
    primary = verdicts[verdicts.primary == "yes"]
    for word in claims.WORDS:
        counts = " | ".join(str((frame.verdict == word).sum()) for frame in (verdicts, primary))
        assert f"</span> {word}</span> | {counts} |" in text


def test_the_line_to_change_is_the_margin_of_that_claim():
    """Against the positions that the YAML parser reports."""
    root = yaml.compose((ROOT / "claims.yaml").read_text())
    (section,) = [value for key, value in root.value if key.value == "claims"]
    lines = {
        name.value: key.start_mark.line + 1
        for name, entry in section.value
        for key, _ in entry.value
        if key.value == "margin"
    }
    assert Site(ROOT, Path()).lines == lines


def test_every_row_has_a_page_that_lists_its_claims(pages, ledger):
    for table in SOURCE_TABLES.values():
        for row in table.rows:
            text = (pages / "tables" / table.name / f"{row.key}.md").read_text()
            listed = re.findall(r"\]\(/claims/(\S+)\.md\)", text)
            assert listed == [c.name for c in _by_part(ledger) if (c.table, c.row) == (table.name, row.key)]


def _by_part(ledger):
    return sorted(ledger.claims, key=lambda claim: claim.part != "observation")


def test_the_same_results_give_the_same_pages(pages, tmp_path):
    write_pages(ROOT, tmp_path, 1)
    again = tmp_path.parent / "again"
    write_pages(ROOT, again, 1)
    first, second = (sorted(p.relative_to(top) for p in top.rglob("*")) for top in (tmp_path, again))
    assert first == second
    assert all((tmp_path / path).read_bytes() == (again / path).read_bytes() for path in first if path.suffix)


def test_stale_verdicts_are_refused(ledger):
    shorter = Ledger(ledger.claims[1:], ledger.gates, ledger.pilots)
    with pytest.raises(claims.ClaimError, match=re.escape(ledger.claims[0].name)):
        gathered(FILES, shorter)


def test_gates_say_what_was_asked_and_found(found):
    for one in found:
        failed = [gate.name for gate in one.gates if not gate.held]
        assert failed == [name for name in (one.verdict.gates_failed or "").split(", ") if name]
        assert [gate.name for gate in one.gates] == one.verdict.gates.split(", ")


def test_effects_on_a_page_have_the_verdicts_mean(found):
    for one in found:
        if values := one.roles.get("claim"):
            assert np.mean(list(values.values())) == pytest.approx(one.verdict.estimate, rel=1e-6, abs=1e-12)


def test_behind_every_claim_stand_records_and_code(ledger):
    known = readings(ROOT, "cpu")
    for claim in ledger.claims:
        reading = known[claim.notebook]
        assert all((ROOT / folder).is_dir() for folder in reading.observations) and reading.observations
        assert all((ROOT / module).is_file() for module in reading.contrasts) and reading.contrasts
        assert all(FILES.notebooks(study).is_file() for study in reading.studies) and reading.studies


# The strip


def test_a_strip_draws_every_number_at_its_place(found):
    for one in found[::25]:
        drawn = strip(one)
        values = one.roles["claim"].values()
        lane = drawn.lanes[0]
        assert [drawn.origin + v * drawn.scale for v in values] == pytest.approx([x for x, _, _ in lane.dots])
        assert lane.mean == pytest.approx(drawn.origin + one.verdict.estimate * drawn.scale, abs=1e-3)
        assert (lane.low, lane.high) == pytest.approx(
            (drawn.origin + one.verdict.low * drawn.scale, drawn.origin + one.verdict.high * drawn.scale), abs=1e-3
        )
        inside = [*(x for lane in drawn.lanes for x, _, _ in lane.dots), drawn.origin, lane.low, lane.high]
        assert all(0 <= x <= drawn.width for x in inside)


def test_a_claim_without_replicates_has_no_strip(found):
    assert strip(dataclasses.replace(found[0], roles={})) is None


# Links of documents


@pytest.mark.parametrize(
    ("text", "turned"),
    [
        ("see [it](results/a.md#part)", "see [it](/a.md#part)"),
        ("a [folder](docs)", "a folder"),
        ("[a page](CONTRIBUTORS.md) that is [missing](README.md)", "a page that is missing"),
        ("[x](https://example.org/a)", "[x](https://example.org/a)"),
        ("[below](#here)", "[below](#here)"),
        ("![f](pyproject.toml)", "![f](/files/pyproject.toml)"),
        ("[![f](pyproject.toml)](results/a.md)", "![f](/files/pyproject.toml)"),
        ("`a.b.c` and `a.b`", "[`a.b.c`](/claims/a.b.c.md) and `a.b`"),
        ("```\n[it](results/a.md) `a.b.c`\n```\n", "```\n[it](results/a.md) `a.b.c`\n```\n"),
    ],
)
def test_links_lead_to_pages_files_or_nowhere(text, turned):
    links = Links(ROOT, {"results/a.md": "/a.md"}, frozenset({"a.b.c"}), lambda path: f"/files/{path}")
    assert links.turned(text, "README.md") == turned


def test_links_are_relative_to_their_file():
    links = Links(ROOT, {"results/cpu/a.md": "/a.md"}, frozenset(), str)
    assert links.turned("[it](../results/cpu/a.md)", "docs/scale.md") == "[it](/a.md)"


def test_text_is_no_markup_but_for_formulas():
    assert plain("a|b *c* <d> $x_1|y$ `e`") == r"a\|b \*c\* \<d\> $x_1|y$ \`e\`"


# The HTML


class Page(HTMLParser):
    """The anchors of a page, where it links to, and what a browser would load with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in LOADED and values.get(LOADED[tag]):
            self.loaded.append(values[LOADED[tag]])
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev", "search", "index"):
            self.loaded.append(values["href"])


@cache
def page(path: Path) -> Page:
    return Page(path.read_text())


def faults(html: Path) -> list[str]:
    """Links and loaded files that are not there."""
    found = []
    for path in sorted(html.rglob("*.html")):
        for link in (*page(path).links, *page(path).loaded):
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto", "data"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{path.relative_to(html)}: {link}")
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in page(target).anchors:
                found.append(f"{path.relative_to(html)}: {link} has no such anchor")
    return found


def test_every_internal_link_and_anchor_resolves(html):
    assert len(list(html.rglob("*.html"))) > 100
    assert faults(html) == []


def test_a_broken_link_would_be_noticed(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html">b</a><a href="#c">c</a><img src="d.png"><a id="e" href="#e">e</a>'
    )
    assert faults(tmp_path) == ["a.html: b.html", "a.html: #c has no such anchor", "a.html: d.png"]


def test_nothing_is_fetched_from_elsewhere(html):
    """Scripts, styles, images and fonts, in pages and in style sheets; links that a reader may follow are fine."""
    for path in sorted(html.rglob("*.html")):
        assert not [link for link in page(path).loaded if urlsplit(link).netloc], path
    for path in sorted(html.rglob("*.css")):
        assert not re.findall(r"(?:url\(\s*['\"]?|@import\s+['\"])(?:https?:)?//[^)\s]+", path.read_text()), path


def test_the_search_knows_words_and_claims(html, found):
    index = json.loads(re.fullmatch(r"Search\.setIndex\((.+)\)", (html / "searchindex.js").read_text().strip())[1])
    assert {"hessian", "keskar", "transform", "margin"} <= index["terms"].keys()
    assert f"claims/{found[0].claim.name}" in index["docnames"]
    assert any(found[0].claim.statement.startswith(title[:40]) for title in index["titles"])


def test_another_folder_is_not_emptied(tmp_path):
    pytest.importorskip("sphinx")
    from website.__main__ import main

    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit, match="not empty"):
        main(["--into", str(tmp_path), "--sources", str(tmp_path / "sources")])
    assert (tmp_path / "thesis.tex").exists()


def test_an_earlier_site_is_replaced(tmp_path):
    pytest.importorskip("sphinx")
    from website.__main__ import _clear

    (tmp_path / "site" / "_static").mkdir(parents=True)
    _clear(tmp_path / "site", "_static")
    assert not (tmp_path / "site").exists()


# In a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing; make test-site installs it")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as driver:
        if path is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("no Chromium found on the path, nor playwright's own")
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, html):
    """Open a page at a width; what its console complains of, or what it would load from elsewhere, fails the test."""
    complaints = []

    def visit(address: str, width: str = "desktop"):
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        view = browser.new_page(viewport=size)
        view.on("console", lambda said: said.type in ("error", "warning") and complaints.append(said.text))
        view.on("pageerror", lambda error: complaints.append(str(error)))
        view.on("requestfailed", lambda request: complaints.append(f"not loaded: {request.url}"))
        view.on("request", lambda asked: asked.url.startswith("file:") or complaints.append(f"fetched: {asked.url}"))
        view.goto(f"{html.as_uri()}/{address}")
        return view

    yield visit
    assert complaints == []


def of_every_kind(html: Path) -> list[str]:
    """Two pages of every folder, and all that lie at the top."""
    folders = [html, *sorted(path for path in html.rglob("*") if path.is_dir() and path.name[0] != "_")]
    chosen = [path for folder in folders for path in sorted(folder.glob("*.html"))[: None if folder == html else 2]]
    return [path.relative_to(html).as_posix() for path in chosen]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_complains_or_is_wider_than_the_window(opened, html, width):
    assert len(of_every_kind(html)) > 15
    for address in of_every_kind(html):
        view = opened(address, width)
        assert view.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width][0], address
        view.close()


def test_a_search_finds_a_claim(opened):
    view = opened("search.html?q=keskar+sharper")
    view.wait_for_selector("#search-results li a")
    assert "Large batches find sharper places" in view.inner_text("#search-results")


@pytest.mark.parametrize("key", ["Enter", " "])
def test_a_figure_enlarges_and_closes_by_keyboard(opened, key):
    view = opened("figures.html", "phone")
    figure = view.locator("article img").first
    figure.focus()
    view.keyboard.press(key)
    larger = view.locator("dialog[open] img")
    assert larger.get_attribute("src") == figure.get_attribute("src")
    assert larger.bounding_box()["width"] > 2 * figure.bounding_box()["width"]
    view.keyboard.press("Escape")
    assert view.locator("dialog").count() == 0
    assert figure.evaluate("image => document.activeElement === image")


def test_moving_the_margin_moves_the_verdict(opened, html, found):
    built = [one for one in found if (html / "claims" / f"{one.claim.name}.html").is_file()]
    one = next(one for one in built if (one.verdict.verdict, one.claim.kind) == ("supported", "contrast"))
    view = opened(f"claims/{one.claim.name}.html")
    said = view.locator("form.margin output .verdict")
    assert said.inner_text().endswith("supported") and "not" not in said.inner_text()
    view.fill("form.margin input[type=number]", str(2 * one.verdict.high))
    assert said.inner_text().endswith("not supported")
    x = float(view.locator(".strip line.margin").last.get_attribute("x1"))
    drawn = strip(one)
    assert x == pytest.approx(drawn.origin + 2 * one.verdict.high * drawn.scale, abs=0.01)


def test_the_list_of_claims_narrows(opened):
    view = opened("claims/index.html")
    whole = view.locator("article tbody tr:visible").count()
    view.fill("form.filter input[type=search]", "mode connectivity")
    few = view.locator("article tbody tr:visible").all_inner_texts()
    assert 0 < len(few) < whole and all("connectivity" in text for text in few)
    assert view.inner_text("form.filter output") == f"{len(few)} claims"


# The rule in the browser against the rule


@pytest.fixture(scope="module")
def rule(browser):
    """The rule of the pages as a function: (what it is given, margins) -> words."""
    view = browser.new_page()
    view.add_script_tag(path=ROOT / "website" / "static" / "rule.js")
    return lambda given: view.evaluate("cases => cases.map(([claim, margin]) => judged(claim, margin).word)", given)


@pytest.mark.parametrize("factor", [0.3, 1, 2.5])
def test_the_rule_of_the_pages_is_the_rule_at_any_margin(rule, ledger, found, factor):
    """Every claim with its gates and controls, judged anew by nonconvex.judging."""
    moved = [dataclasses.replace(claim, margin=factor * claim.margin) for claim in ledger.claims]
    expected = judging.judge(Ledger(tuple(moved), ledger.gates, {}), *judging.evidence(FILES))
    words = rule([[one.rule, claim.margin] for one, claim in zip(found, moved, strict=True)])
    wrong = [v.claim for v, word in zip(expected, words, strict=True) if v.verdict != word]
    assert wrong == []


def test_the_rule_of_the_pages_is_the_rule_at_its_edges(rule):
    """Limits that meet zero or the margin exactly, and missing ones."""
    grid = [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]
    intervals = [(low, (low + high) / 2, high) for low in grid for high in grid if low <= high]
    cases = [(kind, *interval) for kind in ("contrast", "equivalence") for interval in (*intervals, (None, None, None))]
    given = [
        {"kind": kind, "low": low, "estimate": middle, "high": high, "failed": [], "controls": []}
        for kind, low, middle, high in cases
    ]
    assert rule([[one, 1.0] for one in given]) == [_word(*case) for case in cases]
    assert rule([[{**one, "failed": ["seeds"]}, 1.0] for one in given]) == [claims.INCONCLUSIVE] * len(given)
    missing = {"name": "same_arm", "n": 1, "estimate": 0.0, "low": None, "high": None}
    assert rule([[{**one, "controls": [missing]}, 1.0] for one in given]) == [claims.INCONCLUSIVE] * len(given)
    silent = {"name": "same_arm", "n": 5, "estimate": 0.0, "low": -0.1, "high": 0.1}
    assert rule([[{**one, "controls": [silent]}, 1.0] for one in given]) == [_word(*case) for case in cases]


def _word(kind: str, low: float | None, middle: float | None, high: float | None) -> str:
    low, middle, high = (np.nan if value is None else value for value in (low, middle, high))
    if kind == "equivalence":
        return claims.equivalence(low, high, 1.0)
    return claims.verdict(middle, low, high, 1.0)
