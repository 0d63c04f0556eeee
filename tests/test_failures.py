"""What can go wrong around a run: each case one message that names the thing, and nothing half done left behind."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nonconvex import config, connection
from nonconvex.paths import Results, replaced

ROOT = Path(__file__).resolve().parents[1]


def test_cut_off_endpoints_are_named(tmp_path):
    """safetensors itself says what is wrong with a header and not which file's it is."""
    settings = config.read(ROOT / "profiles/smoke/params.yaml")
    path = Results(tmp_path, "smoke").endpoints("resnet", "none")
    path.parent.mkdir(parents=True)
    save_file({"cosine/0/reported/w": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"resnet-none\.safetensors: not a readable safetensors file .*again"):
        connection.read_endpoints(settings, Results(tmp_path, "smoke"), "resnet")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    for text in ("first", "second"):
        with replaced(path) as partial:
            partial.write_text(text)
        assert path.read_text() == text
    with pytest.raises(KeyboardInterrupt), replaced(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert [entry.name for entry in path.parent.iterdir()] == ["file"] and path.read_text() == "second"


def test_a_full_disk_names_the_file_and_leaves_it(tmp_path):
    """The error of a write that does not fit has no file name of its own."""
    path = tmp_path / "file"
    path.write_text("as it was")
    with pytest.raises(OSError, match=r"No space left on device: '.*/file'") as caught, replaced(path) as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"] and path.read_text() == "as it was"
