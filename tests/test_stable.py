"""What is taken out of an executed notebook, and that nothing else is."""

import base64
import io
import sys

import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from nonconvex import stable


def cleaned(*outputs) -> list:
    """What `stable` keeps of the outputs of one cell."""
    executed = new_notebook(cells=[new_code_cell("x", outputs=list(outputs), execution_count=1)])
    return stable.stable(executed, new_notebook()).cells[0].outputs


def stream(text: str, name: str = "stdout"):
    return new_output("stream", name=name, text=text)


def test_chunks_of_a_stream_are_joined_in_one_order():
    chunks = [stream("a"), stream("x", "stderr"), stream("b\n")]
    texts = {output.name: output.text for output in cleaned(*chunks)}
    assert list(texts.items()) == [("stdout", "ab\n"), ("stderr", "x")]
    assert cleaned(*chunks) == cleaned(chunks[1], chunks[0], chunks[2])


def test_a_figure_keeps_its_place_between_streams():
    shown = new_output("display_data", {"text/plain": "figure"})
    types = [output.output_type for output in cleaned(stream("a"), shown, stream("b"))]
    assert types == ["stream", "display_data", "stream"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("before\n10%\r20%\rdone 3.1 it/s\nafter\n", "before\nafter\n"),
        ("\r1\r2", ""),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
        ("plain\n", "plain\n"),
    ],
)
def test_progress_bars_are_dropped(text, kept):
    assert stable.without_bars(text) == kept


def test_masks(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/house/someone")
    monkeypatch.setattr(sys, "prefix", "/house/someone/venv")
    text = f"<A at 0x7f12ab> /tmp/ipykernel_12/345.py:3: {tmp_path}/x /house/someone/venv/y /house/someone/z"
    assert stable.masked(text) == "<A at 0x…> <cell>:3: ./x <python>/y ~/z"
    for other in ("0xdeadbeef", "/house/someone2", "a/house/someone", "AAAA/house/someone+/AAAA"):
        assert stable.masked(other) == other


def picture() -> tuple[bytes, np.ndarray]:
    """A PNG as matplotlib writes it, version stamp and all, and its pixels."""
    figure, buffer = Figure(figsize=(3, 2)), io.BytesIO()
    figure.add_subplot().plot([1, 3, 2], color="C3")
    figure.savefig(buffer, metadata={"Software": "release 1.2.3"})
    return buffer.getvalue(), np.asarray(Image.open(buffer).convert("RGB"), dtype=float)


def test_a_picture_loses_its_stamps_and_next_to_nothing_else():
    """The palette may move a shade of an edge, not a line."""
    raw, pixels = picture()
    kept = base64.b64decode(stable.stripped(base64.b64encode(raw).decode()))
    assert b"release 1.2.3" in raw and b"release 1.2.3" not in kept and len(kept) < len(raw)
    shown = np.asarray(Image.open(io.BytesIO(kept)).convert("RGB"), dtype=float)
    assert np.abs(shown - pixels).max() < 20 and np.abs(shown - pixels).mean() < 0.5


def test_a_picture_is_stripped_once():
    once = stable.stripped(base64.b64encode(picture()[0]).decode())
    assert stable.stripped(once) == once


def test_cleaning_drops_widgets_and_metadata_and_a_second_time_changes_nothing():
    outputs = [new_output("display_data", {stable.WIDGET: {"model_id": "1f"}}), stream("a")]
    metadata = {"tags": ["parameters"], "papermill": {"duration": 1}}
    cell = new_code_cell("x", metadata=metadata, outputs=outputs, execution_count=1)
    executed = new_notebook(cells=[cell], metadata={"widgets": {}, "papermill": {}})
    once = stable.stable(executed, new_notebook(metadata={"language_info": {"name": "python"}}))
    assert once.cells[0].metadata == {"tags": ["parameters"]} and once.cells[0].id == "c000"
    assert once.metadata == {"language_info": {"name": "python"}}
    assert [output.output_type for output in once.cells[0].outputs] == ["stream"]
    assert stable.stable(once, once) == once
    nbformat.validate(once)
