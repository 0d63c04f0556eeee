"""The shipped file is upstream's data, the loader refuses all else, and the generator leaves no trace."""

import hashlib
import random
import sys

import numpy as np
import pytest
import torch

from nonconvex.data import mnist1d


@pytest.fixture(scope="module")
def arrays():
    return mnist1d.read(mnist1d.FILE)


def test_splits_have_the_documented_sizes_and_types():
    data = mnist1d.load()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [4000, 2000, 20000]
    x, y = data.test.examples()
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((20000, 40), torch.float32, (20000,), torch.int64)
    assert (data.name, data.classes) == ("mnist1d", 10)
    assert len(mnist1d.frozen_test()) == 1000


def test_class_counts_are_upstreams(arrays):
    """Labels in another order or of another draw; the counts were read off upstream's mnist1d_data.pkl."""
    assert np.bincount(arrays["train_y"]).tolist() == [398, 396, 411, 394, 394, 402, 401, 404, 402, 398]
    assert np.bincount(arrays["frozen_y"]).tolist() == [102, 104, 89, 106, 106, 98, 99, 96, 98, 102]
    assert np.bincount(arrays["test_y"]).tolist() == [2000] * 10


def test_no_example_is_in_two_splits(arrays):
    """Test examples that were trained on."""
    rows = np.concatenate([arrays[name] for name in mnist1d.SHA256 if name.endswith("_x")])
    assert len(np.unique(rows, axis=0)) == len(rows) == 27_000


def test_generator_reproduces_the_file_and_restores_global_randomness(arrays):
    """A file that no generator makes, or a loader that reseeds everybody's random numbers."""
    np.random.seed(5)
    random.seed(6)
    expected = np.random.rand(), random.random()
    np.random.seed(5)
    random.seed(6)
    draw = mnist1d._draw(mnist1d.VALIDATION)
    assert (np.random.rand(), random.random()) == expected
    np.testing.assert_allclose(draw["x"], arrays["validation_x"], rtol=1e-6, atol=1e-6)
    assert np.array_equal(draw["y"], arrays["validation_y"])


def test_writing_generates_verifies_and_is_byte_stable(arrays, tmp_path, monkeypatch):
    """A time stamp in the file, or a file that is written before it is verified."""
    monkeypatch.setattr(mnist1d, "generate", lambda: dict(arrays))
    assert mnist1d.main([str(tmp_path / "new" / "a.npz")]) == 0
    assert (tmp_path / "new" / "a.npz").read_bytes() == mnist1d.FILE.read_bytes()
    spoiled = {**arrays, "test_x": arrays["test_x"] + 1}
    monkeypatch.setattr(mnist1d, "generate", lambda: spoiled)
    with pytest.raises(ValueError, match="array test_x has sha256"):
        mnist1d.write(tmp_path / "b.npz")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.npz"]


def test_a_generator_that_rounds_differently_keeps_the_shipped_file(arrays, tmp_path, monkeypatch, capsys):
    """Another machine's last bits must not stop the pipeline, and must not replace the reference; other data must."""
    path = tmp_path / "m.npz"
    np.savez(path, **arrays)
    before = path.read_bytes()
    nearly = {**arrays, "test_x": arrays["test_x"] + np.float32(1e-6)}
    monkeypatch.setattr(mnist1d, "generate", lambda: nearly)
    mnist1d.write(path)
    assert path.read_bytes() == before and "shipped file is kept" in capsys.readouterr().out
    with pytest.raises(ValueError, match="array test_x has sha256"):
        mnist1d.write(tmp_path / "none.npz")
    monkeypatch.setattr(mnist1d, "generate", lambda: {**arrays, "test_x": arrays["test_x"] + 1})
    with pytest.raises(ValueError, match="array test_x has sha256"):
        mnist1d.write(path)
    assert path.read_bytes() == before


def test_a_changed_array_is_named_with_both_checksums(arrays, tmp_path):
    """A single changed value."""
    spoiled = arrays["validation_x"].copy()
    spoiled[7, 3] += 1e-3
    np.savez(tmp_path / "m.npz", **{**arrays, "validation_x": spoiled})
    found = hashlib.sha256(spoiled.tobytes()).hexdigest()
    with pytest.raises(ValueError) as error:
        mnist1d.load(tmp_path / "m.npz")
    for part in (str(tmp_path / "m.npz"), "validation_x", found, mnist1d.SHA256["validation_x"]):
        assert part in str(error.value)


def test_missing_incomplete_and_foreign_files_are_named(arrays, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz is missing; make it with: python -m"):
        mnist1d.load(tmp_path / "absent.npz")
    np.savez(tmp_path / "part.npz", train_x=arrays["train_x"])
    with pytest.raises(ValueError, match=r"part\.npz: arrays train_x, .* expected, train_x found"):
        mnist1d.load(tmp_path / "part.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ValueError, match=r"text\.npz: not a readable npz file"):
        mnist1d.load(tmp_path / "text.npz")
    (tmp_path / "cut.npz").write_bytes(mnist1d.FILE.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cut\.npz: not a readable npz file"):
        mnist1d.load(tmp_path / "cut.npz")


def test_the_generator_names_the_package_that_it_lacks(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mnist1d.data", None)
    assert mnist1d.main([str(tmp_path / "a.npz")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: generating MNIST-1D needs the package mnist1d") and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_pickles_are_refused(tmp_path):
    """An object array would run code on loading."""
    np.savez(tmp_path / "object.npz", train_x=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"object\.npz: not a readable npz file .*pickle"):
        mnist1d.load(tmp_path / "object.npz")
