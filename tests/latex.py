"""What a table has to keep to so that LaTeX reads it, checked without LaTeX."""

import re

PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{adjustbox,amsmath,array,booktabs,longtable,pdflscape}
"""
MATH = re.compile(r"\$[^$]*\$")
COMMAND = re.compile(r"\\(?:label\{[^}]*\}|[a-zA-Z]+|.)")  # a command, a label, or an escaped character


def refuse_odd_latex(text: str) -> None:
    """AssertionError for environments or braces that do not match, open specials, uneven rows, or two equal labels."""
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{([\w*]+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened and opened.pop() == name, f"\\end{{{name}}} closes nothing"
    assert not opened, f"{opened} left open"
    assert text.count("$") % 2 == 0
    plain = COMMAND.sub("", MATH.sub("", text))
    assert not re.search(r"[%#_^~$]", plain), re.findall(r".{20}[%#_^~$].{20}", plain)[:3]
    assert all(ord(character) < 0x180 for character in text), {
        character for character in text if ord(character) > 0x17F
    }
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    for body in re.findall(r"\\begin\{(?:tabular|longtable)\}(.*?)\\end\{(?:tabular|longtable)\}", text, flags=re.S):
        columns = {row.count(" & ") for row in body.splitlines() if row.endswith(r" \\")}
        assert len(columns) == 1, f"rows of {sorted(columns)} separators in one table"
    labels = re.findall(r"\\label\{([^}]*)\}", text)
    assert labels and len(labels) == len(set(labels))
