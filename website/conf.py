"""Sphinx's settings. Its sources are made by `python -m website`; nothing is fetched when a page is read."""

import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

project = "Non-convex optimization, measured"
html_title = project
extensions = ["myst_nb", "website.mathml"]
exclude_patterns = ["files"]

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
html_static_path = [str(HERE / "static")]
templates_path = [str(HERE / "templates" / "sphinx")]
html_css_files = ["site.css"]
html_js_files = [(name, {"defer": "defer"}) for name in ("rule.js", "enlarge.js", "filter.js")]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_search_summary = False  # it would fetch every page that it lists, which a browser forbids for local files
html_last_updated_fmt = None
html_permalinks_icon = "#"


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", only_the_open_branch, priority=100)  # before the theme draws its sidebar


def only_the_open_branch(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """The sidebar of a page shows its own branch alone: all claims on every page would be most of the site."""
    if whole := context.get("toctree"):
        context["toctree"] = lambda **asked: whole(**asked | {"collapse": True})
