"""Hundreds of damaged parameter files: each one line that names the file, exit code 2, soon, and nothing written."""

import copy
import gzip
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nonconvex import check

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "profiles" / "smoke" / "params.yaml").read_text()
GOOD = yaml.safe_load(TEXT)

EXAMPLES, WANTED = 300, 200  # files tried, and those of them that must have been malformed
SECONDS = 20  # that one may take on a machine that does other things too; alone it is about 0.05


def places(content, prefix=()):
    """The path of every key and every list item."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*prefix, key)
        if isinstance(value, dict | list):
            yield from places(value, (*prefix, key))


JUNK = st.one_of(
    st.sampled_from([None, True, "", "\n", "\u2028", [], {}, [[]], {"a": {"b": 1}}, -1, 0.5, 10**400, 10**18]),
    st.floats(),
    st.text(max_size=8),
    st.integers(),
    st.dates(),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=4),
)


@st.composite
def damaged_trees(draw) -> bytes:
    """The settings with one entry deleted, renamed, doubled in a list, or replaced by something else."""
    content = copy.deepcopy(GOOD)
    *parents, last = draw(st.sampled_from(list(places(GOOD))))
    place = content
    for key in parents:
        place = place[key]
    damage = draw(st.sampled_from(["delete", "rename", "wrap", "replace", "replace"]))
    value = place.pop(last)
    if damage == "rename":
        last = draw(st.one_of(st.just(f"{last}x"), st.just(str(last)[1:]), st.text(max_size=5), st.integers()))
    if damage == "replace":
        value = draw(JUNK)
    if damage != "delete" and isinstance(place, list):
        place.append([value])
    elif damage != "delete":
        place[last] = [value] if damage == "wrap" else value
    return yaml.dump(content, Dumper=yaml.Dumper, sort_keys=False).encode("utf-8", "surrogatepass")


PIECES = [
    "\t", ":", "{", "[", "]", "- ", "? ", "&a ", "*a", "<<: *a\n", "%", "@", "`", "|", ">", "#", '"', "'",
    "!!python/object/apply:os.mkdir [owned] ", "!!python/name:os.system ", "!x ", "!!set ", "!!binary ",
    "\0", "\x1b[31m", "\ufeff", "\r", "\u2028", "---\n", "...\n", "a: 1\n", ".nan ", "1e999 ",
]  # fmt: skip


@st.composite
def damaged_texts(draw) -> bytes:
    """The file with something inserted at, or cut out from, a few places, or cut off, or in another encoding."""
    text = TEXT
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from([*PIECES, ""])) + text[at + draw(st.integers(0, 5)) :]
    if draw(st.integers(0, 4)) == 0:
        text = text[: draw(st.integers(0, len(text)))]
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "utf-32-be", "cp037"])), "replace")


@st.composite
def damaged_bytes(draw) -> bytes:
    """No text at all, or the file with bytes in it that are none."""
    noise, at = draw(st.binary(min_size=1, max_size=20)), draw(st.integers(0, len(TEXT)))
    within = TEXT.encode()[:at] + b"\xff" + noise + TEXT.encode()[at:]
    return draw(st.sampled_from([noise, within, gzip.compress(noise, mtime=0), b"\x80\x04" + noise]))


def refused(content: bytes, folder: Path, capsys) -> bool:
    """Whether the check refuses the file, which it has to do in one line and without leaving anything."""
    file, stamp = folder / "params.yaml", folder / "results" / "settings.txt"
    file.write_bytes(content)
    code, said = check.main([str(file), "--stamp", str(stamp)]), capsys.readouterr()
    if code == 0:
        stamp.unlink()
        stamp.parent.rmdir()
        return False
    assert code == 2 and said.out == ""
    message = said.err.removesuffix("\n")
    assert message.startswith(f"error: {file}: ") and message.isprintable() and len(message) < 2000, message
    assert list(folder.iterdir()) == [file]
    return True


def test_hundreds_of_malformed_files(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = []

    @settings(max_examples=EXAMPLES, deadline=1000 * SECONDS, derandomize=True, database=None)
    @given(st.one_of(damaged_trees(), damaged_texts(), damaged_bytes()))
    def try_all(content):
        found.append(refused(content, tmp_path, capsys))

    try_all()
    assert sum(found) >= WANTED, f"only {sum(found)} of {len(found)} files were malformed"


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "line 2: alias *a0 found, none allowed"),
        ("a: &a {b: *a}", "line 1: alias *a found, none allowed"),
        ("[" * 1_000_000, "line 1: nesting above 20 found, less allowed"),
        ("a: " + "{a: " * 100_000, "line 1: nesting above 20 found, less allowed"),
        ("".join(f"{' ' * i}a:\n" for i in range(2000)), "line 21: nesting above 20 found, less allowed"),
        ("seeds: 1\nseeds: 2", "line 2, column 1: key seeds given twice"),
        ("a: !!python/object/apply:os.mkdir [owned]", "could not determine a constructor for the tag"),
        ("a: [1\nb: 2", "line 2, column 2: "),
        ("a: " + "1" * 5000, "5000 digits"),
        ("a: 2020-13-45", "month must be in 1..12"),
        ("\ud800", "invalid continuation byte"),
        ('"\\ud800": 1', "params.yaml: "),
    ],
)  # fmt: skip
def test_bombs_and_slips_are_one_line(tmp_path, capsys, monkeypatch, text, message):
    """A few lines of aliases that stand for 10^27 words, and nesting on which a reader's own stack would break."""
    monkeypatch.chdir(tmp_path)
    assert refused(text.encode("utf-8", "surrogatepass"), tmp_path, capsys) is True
    with pytest.raises(check.ConfigError) as error:
        check.checked(str(tmp_path / "params.yaml"))
    assert message in str(error.value)
