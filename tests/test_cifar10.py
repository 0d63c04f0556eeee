"""Archive and re-encoding give the same splits, nothing is unpacked, and augmentation is a pure function."""

import io
import tarfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from nonconvex.data import cifar10
from nonconvex.data.splits import Arrays

PER_FILE = 4  # images per fabricated member


def pixels(seed):
    """Smooth images, which JPEG keeps almost unchanged: (PER_FILE, 3, 32, 32) bytes, and labels."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.uniform(20, 230, (PER_FILE, 3, 2, 2)))
    images = F.interpolate(coarse, size=32, mode="bilinear").round().to(torch.uint8).numpy()
    return images, random.integers(0, 10, PER_FILE).astype(np.uint8)


MEMBERS = [*cifar10.MEMBERS["train"], *cifar10.MEMBERS["test"]]
PARTS = {name: pixels(seed) for seed, name in enumerate(MEMBERS)}


def joined(name):
    parts = [PARTS[member] for member in cifar10.MEMBERS[name]]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def write_archive(path, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))


def records(images, labels):
    return np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1).tobytes()


def write_jpeg(path):
    arrays = {}
    for name in ("train", "test"):
        images, labels = joined(name)
        files = [io.BytesIO() for _ in images]
        for file, image in zip(files, images, strict=True):
            Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG", quality=95, subsampling=0)
        lengths = [len(file.getvalue()) for file in files]
        content = np.frombuffer(b"".join(file.getvalue() for file in files), np.uint8)
        arrays |= {f"{name}_jpeg": content, f"{name}_labels": labels}
        arrays[f"{name}_offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.savez(path, **arrays)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place for data whose checksums are taken on trust; loading holds out five images."""
    monkeypatch.setattr(cifar10, "verify", lambda path, sha256: None)
    monkeypatch.setattr(cifar10, "fetch", lambda url, path, md5: path)
    monkeypatch.setattr(cifar10.dataset, "__defaults__", (5,))
    return tmp_path


def check(data, tolerance):
    train, labels = joined("train")
    assert [len(split) for split in (data.train, data.validation, data.test)] == [15, 5, 4]
    assert torch.equal(data.train.y, torch.from_numpy(labels[:15]).long())
    assert torch.equal(data.validation.y, torch.from_numpy(labels[15:]).long())
    assert torch.equal(data.test.y, torch.from_numpy(joined("test")[1]).long())
    for split, images in (
        (data.train, train[:15]),
        (data.validation, train[15:]),
        (data.test, joined("test")[0]),
    ):
        assert np.abs(split.x.numpy().astype(int) - images).max() <= tolerance
    assert data.train.augmented and not data.validation.augmented and not data.test.augmented


def test_archive_gives_the_splits(folder):
    """Planes in another order, labels taken for pixels, or validation images that are also trained on."""
    write_archive(folder / cifar10.ARCHIVE, {name: records(*part) for name, part in reversed(PARTS.items())})
    data = cifar10.load(folder)
    check(data, 0)
    assert data.name == "cifar10" and data.classes == 10


def test_reencoding_gives_the_same_splits_under_its_own_name(folder):
    """Results from re-encoded images that pass for results on CIFAR-10."""
    write_jpeg(folder / cifar10.JPEG)
    data = cifar10.load(folder)
    check(data, 6)
    assert data.name == "cifar10 (JPEG q75)"


def test_the_archive_is_preferred(folder):
    write_jpeg(folder / cifar10.JPEG)
    write_archive(folder / cifar10.ARCHIVE, {name: records(*part) for name, part in PARTS.items()})
    assert cifar10.load(folder).name == "cifar10"


def test_foreign_files_are_refused(tmp_path):
    """Checksums that are never compared."""
    write_jpeg(tmp_path / cifar10.JPEG)
    with pytest.raises(ValueError, match=rf"{cifar10.JPEG}: sha256 {cifar10.JPEG_SHA256} expected"):
        cifar10.load(tmp_path)
    write_archive(tmp_path / cifar10.ARCHIVE, {})
    with pytest.raises(ValueError, match=rf"{cifar10.ARCHIVE}: md5 {cifar10.MD5} expected"):
        cifar10.load(tmp_path)


def test_nothing_is_unpacked(tmp_path):
    """A member whose name leaves the folder; only the six exact names are ever read."""
    inside = tmp_path / "inside"
    inside.mkdir()
    contents = {name: records(*part) for name, part in PARTS.items()}
    write_archive(inside / "a.tar.gz", {"../escaped.bin": b"x", **contents})
    assert len(cifar10.from_archive(inside / "a.tar.gz", "train")) == 5 * PER_FILE
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.tar.gz"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a\.tar\.gz: file .*test_batch\.bin expected, not found"),
        (b"\0" * 3072, r"a\.tar\.gz: .*test_batch\.bin has 3072 bytes, not a multiple of 3073"),
        (b"", r"a\.tar\.gz: .*test_batch\.bin has 0 bytes"),
        (b"\x0a" + b"\0" * 3072, r"a\.tar\.gz: label 10 found; allowed: 0 to 9"),
    ],
)
def test_malformed_members_are_named(tmp_path, content, message):
    name = cifar10.MEMBERS["test"][0]
    write_archive(tmp_path / "a.tar.gz", {} if content is None else {name: content})
    with pytest.raises(ValueError, match=message):
        cifar10.from_archive(tmp_path / "a.tar.gz", "test")


def test_a_folder_by_the_name_of_a_member_is_no_file(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        header = tarfile.TarInfo(cifar10.MEMBERS["test"][0])
        header.type = tarfile.DIRTYPE
        archive.addfile(header)
    with pytest.raises(ValueError, match=r"test_batch\.bin expected, not found"):
        cifar10.from_archive(tmp_path / "a.tar.gz", "test")


def test_too_few_images_to_hold_out():
    few = Arrays(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="4 validation images wanted, only 4 training images found"):
        cifar10.dataset("toy", few, few, 4)


def test_standardised_bytes():
    """A channel's mean and deviation applied to another, or pixels in 0..255."""
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1).expand(2, 3, 4, 4)
    expected = [(v - m) / s for v, m, s in zip((0, 0.2, 1), cifar10.MEAN, cifar10.DEVIATION, strict=True)]
    found = cifar10.standardised(x)
    torch.testing.assert_close(found, torch.tensor(expected).view(3, 1, 1).expand(2, 3, 4, 4))


def test_augmentation_is_pad_crop_and_flip():
    """Against every crop and flip: each image must be exactly one of the 162, and all shifts must occur."""
    x = torch.randn(1, 200, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    found = cifar10.augment(x, [3], 1)[0]
    padded = F.pad(x[0], [4] * 4)
    crops = [padded[..., i : i + 5, j : j + 6] for i in range(9) for j in range(9)]
    candidates = torch.stack([view for crop in crops for view in (crop, crop.flip(-1))])  # (162, 200, 3, 5, 6)
    hits = (candidates == found).flatten(2).all(-1)
    assert hits.any(0).all()
    chosen = hits.float().argmax(0)
    assert len(set((chosen // 18).tolist())) == len(set((chosen // 2 % 9).tolist())) == 9
    assert 70 < (chosen % 2).sum() < 130


def test_augmentation_is_a_function_of_seed_and_step():
    """Noise that depends on the neighbours in a cohort, or on earlier calls."""
    bytes_ = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images = cifar10.Images(bytes_, torch.arange(40), augmented=True)
    x, y = images.batch([1, 2, 3], 5, 16)
    again, labels = images.batch([2], 5, 16)
    assert torch.equal(again[0], x[1]) and torch.equal(labels[0], y[1])
    plain = cifar10.standardised(bytes_[y[1]])
    assert x.dtype == torch.float32 and not torch.equal(plain, x[1])
    other = cifar10.augment(plain[None], [2], 6)
    assert not torch.equal(other, cifar10.augment(plain[None], [2], 5))
    assert torch.equal(cifar10.augment(plain[None], [2], 5)[0], x[1])


def test_examples_are_never_augmented():
    bytes_ = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images = cifar10.Images(bytes_, torch.arange(6), augmented=True)
    assert torch.equal(images.examples(3)[0], cifar10.standardised(bytes_[::2]))
    plain = cifar10.Images(bytes_, torch.arange(6))
    x, y = plain.batch([1], 0, 6)
    assert torch.equal(x[0], cifar10.standardised(bytes_[y[0]]))
