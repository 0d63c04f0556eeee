"""Every public name of the package says what it is.

A function, class or method has a docstring, a formula as a comment before its first statement, or a base class that
documents it; a public number has a comment with its unit or source. Read from the syntax trees.
"""

import ast
from collections.abc import Iterator

import pytest
from test_layers import ROOT, modules

LISTED = ROOT / "tests" / "undocumented.txt"
OF_TORCH = {"Module": {"forward"}}  # base classes from elsewhere and the methods that they document
Definition = ast.FunctionDef | ast.ClassDef


def public(nodes: list[ast.stmt]) -> list[Definition]:
    """Definitions without underscore; what is imported is documented where it is defined."""
    return [node for node in nodes if isinstance(node, Definition) and not node.name.startswith("_")]


def undocumented(source: str, classes: dict[str, ast.ClassDef]) -> Iterator[str]:
    """Names of public things that nothing documents, methods as Class.method."""
    tree, lines = ast.parse(source), source.splitlines()
    if ast.get_docstring(tree) is None:
        yield "module"
    yield from (name for node in tree.body for name in numbers(node) if not commented(node, node.lineno, lines))
    for node in public(tree.body):
        if not documented(node, lines):
            yield node.name
        for method in public(node.body) if isinstance(node, ast.ClassDef) else []:
            if not documented(method, lines) and not inherits(node, method.name, classes):
                yield f"{node.name}.{method.name}"


def numbers(node: ast.stmt) -> list[str]:
    """Public constants that the statement sets to a number."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    value = getattr(node, "value", None)
    if not isinstance(value, ast.Constant) or type(value.value) not in (int, float):
        return []
    return [target.id for target in targets if isinstance(target, ast.Name) and not target.id.startswith("_")]


def documented(node: Definition, lines: list[str]) -> bool:
    first = next(iter(node.body))
    formula = isinstance(node, ast.FunctionDef) and commented(node, first.lineno, lines)
    return ast.get_docstring(node) is not None or formula


def commented(node: ast.stmt, until: int, lines: list[str]) -> bool:
    """Whether there is a comment on the lines from the one above the node to `until`; an order to a linter is none."""
    above = [lines[node.lineno - 2]] if not isinstance(node, Definition) else []
    return any("#" in line and "# noqa" not in line for line in above + lines[node.lineno - 1 : until])


def inherits(owner: ast.ClassDef, method: str, classes: dict[str, ast.ClassDef]) -> bool:
    """Whether a base class has the method: it is documented there, or reported there."""
    for base in owner.bases:
        name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
        known = classes.get(name)
        own = {node.name for node in public(known.body)} if known else OF_TORCH.get(name, set())
        if method in own or (known and inherits(known, method, classes)):
            return True
    return False


def found() -> list[str]:
    sources = {name: path.read_text() for name, path in modules().items()}
    classes = {node.name: node for source in sources.values() for node in public(ast.parse(source).body)}
    return [f"{module}.{name}" for module, source in sources.items() for name in undocumented(source, classes)]


def test_every_public_name_is_documented():
    """The list is of names in files that stages of the pipeline depend on: a docstring there runs them again.

    It may only shrink; whoever changes such a file for another reason writes what is missing and deletes the line.
    """
    listed = LISTED.read_text().splitlines()
    new, done = sorted(set(found()) - set(listed)), sorted(set(listed) - set(found()))
    assert not new, f"write docstrings for {', '.join(new)}"
    assert not done, f"documented or gone, take out of {LISTED.name}: {', '.join(done)}"
    assert listed == sorted(set(listed))


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("RATE = 0.1", ["module", "RATE"]),
        ('"""M."""\n\nRATE = 0.1  # per step\n# of the Gaussian\nWIDTH: float = 2.0\nFACE = "red"\n_C = 3', []),
        ('"""M."""\n\ndef f(x):\n    return x\n\ndef _g(x):\n    return x', ["f"]),
        ('"""M."""\n\ndef f(x):\n    # x²\n    return x**2', []),
        ('"""M."""\n\ndef f(x):\n    return x**2  # noqa: E501', ["f"]),
        ('"""M."""\nclass A:\n    """A."""\n    def b(self):\n        return 1\n    def __len__(self): ...', ["A.b"]),
        ('"""M."""\n\nclass A(Base):\n    """A."""\n\n    def step(self):\n        return 1', []),
    ],
)
def test_what_counts_as_documented(source, missing):
    base = ast.parse("class Base:\n    def step(self):\n        '''Goes on.'''").body[0]
    assert list(undocumented(source, {"Base": base})) == missing
