"""Tables and bibliography compile in a minimal article; without LaTeX, their text is held to rules."""

import shutil
import subprocess
from pathlib import Path

import pytest
from latex import PREAMBLE, refuse_odd_latex

ROOT = Path(__file__).resolve().parents[1]
TABLES = sorted([*ROOT.glob("results/*/tables/*.tex"), *ROOT.glob("results/*/verdicts.tex")])
BIBLIOGRAPHY = ROOT / "docs" / "references.bib"
needs_latex = pytest.mark.skipif(not (shutil.which("pdflatex") and shutil.which("bibtex")), reason="no LaTeX on PATH")
by_name = pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parts[-2]}-{path.stem}")


@by_name
def test_a_table_keeps_to_what_latex_can_read(path):
    refuse_odd_latex(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "odd",
    [r"\begin{tabular}", "50 %", "a_b", "$x", "{", r"x \\" + "\n" + r"a & b \\", "漢", r"\label{tab:a}\label{tab:a}"],
)
def test_the_rules_refuse(odd):
    """Without this, rules that pass everything would pass for rules."""
    fine = r"\begin{tabular}{l}%s\end{tabular}\label{tab:t}"
    refuse_odd_latex(fine.replace("%s", r"a \\"))
    with pytest.raises(AssertionError):
        refuse_odd_latex(fine.replace("%s", odd))


@needs_latex
@by_name
def test_a_table_compiles_in_a_minimal_article(path, tmp_path):
    """No error, nothing that stands out of the page, and no float that is higher than one."""
    shutil.copy(path, tmp_path / "table.tex")
    log = compiled(tmp_path, r"\input{table.tex}")
    assert "too large for page" not in log
    assert not [line for line in log.splitlines() if line.startswith("Overfull") and width(line) > 5]


def width(line: str) -> float:
    return float(line.split("(")[1].split("pt")[0])


@needs_latex
def test_the_bibliography_compiles(tmp_path):
    """Every entry is set, and BibTeX finds nothing to warn about."""
    shutil.copy(BIBLIOGRAPHY, tmp_path)
    body = r"\nocite{*}\bibliographystyle{plain}\bibliography{references}"
    compiled(tmp_path, body)
    said = run(tmp_path, "bibtex", "article").stdout
    assert "Warning" not in said and "error" not in said, said
    compiled(tmp_path, body)
    assert (tmp_path / "article.bbl").read_text().count(r"\bibitem") == BIBLIOGRAPHY.read_text().count("\n@")


def compiled(folder: Path, body: str) -> str:
    """The log of an article of that body."""
    (folder / "article.tex").write_text(f"{PREAMBLE}\\begin{{document}}\nText.\n{body}\n\\end{{document}}\n")
    run(folder, "pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article.tex")
    return (folder / "article.log").read_text(encoding="latin-1")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    return done
