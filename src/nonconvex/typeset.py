"""Tables as text: CSV for machines, Markdown for the browser, LaTeX (booktabs) for the paper.

A cell is plain text in which `$...$` is TeX, kept as it is; everything else is escaped for the format at
hand.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nonconvex.paths import replaced

UNMEASURED = "not measured yet"
HABIT = "a habit, no experiment"
NOTHING = "no replicate"  # measured, but no replicate has the number
RESTORED = "†"  # behind a formula that the source text lost and we put back
QUANTITY = re.compile(r"(.*?)_?(mean|low|high|p|n)")
MATH = re.compile(r"(\$[^$]*\$)")
NUMBER = re.compile(rf"[-\d]|{UNMEASURED}|{NOTHING}|diverged|baseline")
ROWS, CHARACTERS = 40, 60  # in a block, and in its longest cell, up to which it is one float; others run over pages
LINE = 145  # characters across a landscape page
UNBROKEN = 8  # characters up to which a cell stays on one line
ENCODED = 0x17F  # the last character that LaTeX's T1 fonts have
MATHEMATICAL = {
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\varepsilon", "η": r"\eta", "θ": r"\theta",
    "κ": r"\kappa", "λ": r"\lambda", "μ": r"\mu", "π": r"\pi", "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau",
    "φ": r"\varphi", "ω": r"\omega", "Δ": r"\Delta", "Σ": r"\Sigma", "≤": r"\leq", "≥": r"\geq", "≈": r"\approx",
    "→": r"\to", "√": r"\surd", "∞": r"\infty", "−": "-",
}  # fmt: skip
SPECIAL = {character: rf"\{character}" for character in "&%#{}$"} | {
    "_": r"\_\allowbreak ", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", RESTORED: r"\textsuperscript{\dag}",
} | {character: f"${command}$" for character, command in MATHEMATICAL.items()}  # fmt: skip
FLOAT = r"""\begin{table*}[htbp]
\centering\footnotesize\setlength{\tabcolsep}{3pt}
\caption{%(caption)s}
\label{tab:%(label)s}
\begin{adjustbox}{max width=\linewidth, max totalheight=0.7\textheight}
\begin{tabular}{@{}%(alignment)s@{}}
\toprule
%(head)s
\midrule
%(body)s
\bottomrule
\end{tabular}
\end{adjustbox}
\end{table*}"""
PAGES = r"""\begin{landscape}
\scriptsize\setlength{\tabcolsep}{3pt}\setlength{\LTcapwidth}{\linewidth}
\begin{longtable}{@{}%(alignment)s@{}}
\caption{%(caption)s}
\label{tab:%(label)s}\\
\toprule
%(head)s
\midrule
\endfirsthead
\toprule
%(head)s
\midrule
\endhead
\bottomrule
\endfoot
%(body)s
\end{longtable}
\end{landscape}"""


@dataclass(frozen=True)
class Block:
    """One grid of cells under a caption; `name` ends its LaTeX label."""

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Document:
    """Blocks that are read together, and the notes below them."""

    name: str
    title: str
    blocks: Sequence[Block]
    notes: Sequence[str]


def excerpt(document: Document, most: int = 40) -> Document:
    """The document without the blocks of more than `most` rows, to look at where the whole is in a file."""
    return replace(document, blocks=[block for block in document.blocks if len(block.rows) <= most])


def csv(frame: pd.DataFrame) -> str:
    """Six significant digits; `not measured yet` where there is no `n`, blank where an `n` has no number."""
    return frame.apply(lambda column: _csv_cells(frame, column)).to_csv(index=False, lineterminator="\n")


def markdown(document: Document) -> str:
    """A page of GitHub tables."""
    parts = [f"# {document.title}"]
    for block in document.blocks:
        parts.append(f"## {block.caption}")
        parts.append(grid([map(escaped, line) for line in (block.columns, *block.rows)]))
    parts.append("\n".join(f"- {note}" for note in document.notes))
    return "\n\n".join(parts) + "\n"


def grid(lines: Iterable[Iterable[str]]) -> str:
    """A GitHub table of cells that are Markdown already; the first line is its head."""
    first, *rest = map(list, lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in (first, ["---"] * len(first), *rest))


def escaped(text: str) -> str:
    """Plain text with formulas as Markdown."""
    return _outside_math(text, lambda part: re.sub(r"([*_`<|])", r"\\\1", part))


def latex(document: Document) -> str:
    """One `table*` per block, or landscape pages where it is long; the notes end the last caption.

    Packages: adjustbox, amsmath, array, booktabs, longtable, pdflscape, and fontenc with T1. ValueError for a character
    that its fonts do not have.
    """
    parts = []
    for block in document.blocks:
        notes = document.notes if block is document.blocks[-1] else ()
        caption = " ".join([f"{document.title}: {block.caption}.", *notes])
        head, *body = (" & ".join(map(_latex_cell, line)) + r" \\" for line in [block.columns, *block.rows])
        floats = len(block.rows) <= ROWS and max(len(cell) for row in block.rows for cell in row) <= CHARACTERS
        filled = {
            "caption": _latex_cell(caption),
            "label": f"{document.name}-{block.name}",
            "alignment": _alignment(block) if floats else _paragraphs(block),
            "head": head,
            "body": "\n".join(body),
        }
        parts.append((FLOAT if floats else PAGES) % filled)
    return "\n\n".join(parts) + "\n"


def write(path: Callable[[str, str], Path], frame: pd.DataFrame, document: Document) -> None:
    """The table in all three formats, at `path(name, suffix)`."""
    _write(path(document.name, "csv"), csv(frame))
    write_pages(lambda suffix: path(document.name, suffix), document)


def write_pages(path: Callable[[str], Path], document: Document) -> None:
    """The readable formats alone, at `path(suffix)`."""
    for suffix, text in (("md", markdown(document)), ("tex", latex(document))):
        _write(path(suffix), text)


def _write(path: Path, text: str) -> None:
    with replaced(path) as partial:
        partial.write_bytes(text.encode())


def interval(mean: float, low: float, high: float, n: int | None, scale: float = 1) -> str:
    """`0.512 [0.498, 0.526]`, to two digits of the half width; without limits three digits of the mean."""
    if n is None or pd.isna(n):
        return UNMEASURED
    if pd.isna(mean):
        return "diverged"
    if pd.isna(low):
        return number(scale * mean)
    decimals = _decimals(scale * (high - low) / 2, scale * mean)
    middle, lowest, highest = (_fixed(scale * value, decimals) for value in (mean, low, high))
    return f"{middle} [{lowest}, {highest}]"


def half_width(mean: float, low: float, high: float, n: int | None, scale: float = 1) -> str:
    """`0.512 ± 0.014`: the short form, for an interval that is symmetric."""
    if n is None or pd.isna(n) or pd.isna(low):
        return interval(mean, low, high, n, scale)
    reach = scale * (high - low) / 2
    decimals = _decimals(reach, scale * mean)
    return f"{_fixed(scale * mean, decimals)} $\\pm$ {_fixed(reach, decimals)}"


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def _decimals(reach: float, mean: float) -> int:
    """How many show two significant digits of `reach`, or three of the mean where there is none."""
    size, digits = (reach, 2) if reach > 0 else (abs(mean), 3)
    exponent = int(f"{size:e}".split("e")[1]) if size > 0 else 0
    return min(max(digits - 1 - exponent, 0), 8)


def _fixed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # no negative zero


def _csv_cells(frame: pd.DataFrame, column: pd.Series) -> pd.Series:
    """The cells of one column as text."""
    quantity = QUANTITY.fullmatch(str(column.name))
    counted = f"{quantity[1]}_n".lstrip("_") if quantity else None
    known = frame[counted].notna() if counted in frame else column.notna()
    return column.map(_csv_cell).where(known, UNMEASURED)


def _csv_cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) or pd.isna(value):
        return value if isinstance(value, str) else ""
    return f"{value:.6g}" if isinstance(value, float) else str(int(value))


def _latex_cell(text: str) -> str:
    return _outside_math(text, _latex_text)


def _outside_math(text: str, change: Callable[[str], str]) -> str:
    return "".join(part if MATH.fullmatch(part) else change(part) for part in MATH.split(text))


def _latex_text(text: str) -> str:
    if strange := [c for c in text if ord(c) > ENCODED and c not in SPECIAL]:
        raise ValueError(f"{strange[0]!r} found in {text!r}; allowed beyond Latin: {' '.join(MATHEMATICAL)} {RESTORED}")
    escaped = "".join(SPECIAL.get(character, character) for character in text)
    quoted = re.sub(r'"([^"]*)"', r"``\1''", escaped)
    return re.sub(r"(?<![\w-])-(?=[\d.])", "$-$", quoted)


def _alignment(block: Block) -> str:
    """Right for numbers, left for the rest."""
    return "".join("r" if all(map(NUMBER.match, cells)) else "l" for _, *cells in _columns(block))


def _columns(block: Block) -> Iterator[tuple[str, ...]]:
    """Its columns with their heads."""
    return zip(block.columns, *block.rows, strict=True)


def _paragraphs(block: Block) -> str:
    """Ragged columns over the whole line: each as wide as its longest word, and what is left by the length of cells."""
    columns = [[MATH.sub(_spelt, cell) for cell in column] for column in _columns(block)]
    words = [2 + max(map(_longest_word, column)) for column in columns]
    sizes = [sum(map(len, column)) for column in columns]
    left = max(LINE - sum(words), 0)
    widths = [word + left * size / sum(sizes) for word, size in zip(words, sizes, strict=True)]
    column = r">{\raggedright\arraybackslash}p{\dimexpr%.3f\linewidth-2\tabcolsep}"
    return "".join(column % (width / sum(widths)) for width in widths)


def _spelt(formula: re.Match[str]) -> str:
    """About as long as the formula is when it is set, with spaces where TeX may break it."""
    return re.sub(r"(?<![-+=]) (?![-+=])", "", re.sub(r"[${}^_\\]", "", formula[0]))


def _longest_word(cell: str) -> int:
    return len(cell) if len(cell) <= UNBROKEN else max(map(len, re.split(r"[\s_]", cell)))
