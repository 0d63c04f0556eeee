"""Markdown written for the repository, with its links turned to pages and files of the site."""

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^(```|~~~).*?^\1`*~*\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
CODE = re.compile(r"(?<![\[`])`([\w.]+)`(?![`\]])")
ELSEWHERE = re.compile(r"[a-z]+:|#")


@dataclass(frozen=True)
class Links:
    """`pages` maps paths in the repository to pages (`/tables/factors.md`); `claims` are the names that have a page.

    `include` is told which file a text links to and gives its address in the site.
    """

    root: Path
    pages: Mapping[str, str]
    claims: frozenset[str]
    include: Callable[[Path], str]

    def turned(self, text: str, source: str) -> str:
        """The text of the file `source` (relative to the root); fenced code stays as it is."""
        pieces, end = [], 0
        for fence in FENCE.finditer(text):
            pieces += [self._prose(text[end : fence.start()], source), fence[0]]
            end = fence.end()
        return "".join([*pieces, self._prose(text[end:], source)])

    def _prose(self, text: str, source: str) -> str:
        folder = posixpath.dirname(source)
        linked = LINK.sub(lambda match: self._link(match, folder), text)
        return CODE.sub(lambda match: self._named(match), linked)

    def _link(self, match: re.Match, folder: str) -> str:
        image, words, target = match.groups()
        if ELSEWHERE.match(target):
            return match[0]
        path, mark, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(folder, path))
        if path in self.pages:
            return f"{image}[{words}]({self.pages[path]}{mark}{anchor})"
        if (self.root / path).is_file():
            return f"{image}[{words}]({self.include(Path(path))})"
        return words  # a folder, or a file that is not there yet: GitHub shows it, a site has no page for it

    def _named(self, match: re.Match) -> str:
        return f"[{match[0]}](/claims/{match[1]}.md)" if match[1] in self.claims else match[0]
