"""The part of an executed notebook that depends on nothing but its results.

Two executions of one notebook differ in clock times, cell ids, the chunks in which a stream happened to
arrive, process numbers, memory addresses, folders of the machine and the version stamp inside a PNG. `stable`
takes all of these out, so that equal results give equal bytes and `git diff` shows only what changed.
"""

import base64
import io
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from PIL import Image

WIDGET = "application/vnd.jupyter.widget-view+json"  # random model ids, and invisible outside Jupyter
COLOURS = 48  # of a picture in a notebook; the figures' own files have them all
STREAMS = ("stdout", "stderr")


def stable(executed: NotebookNode, source: NotebookNode) -> NotebookNode:
    """The executed notebook without anything that changes from one execution, process or machine to the next.

    Notebook metadata are those of `source`; a cell keeps its source, tags, execution count and results.
    """
    cells = [_cell(cell, number) for number, cell in enumerate(executed.cells)]
    version = {"nbformat": 4, "nbformat_minor": 5}
    return nbformat.from_dict({**version, "metadata": source.metadata, "cells": cells})


def _cell(cell: NotebookNode, number: int) -> dict:
    tags = cell.metadata.get("tags")
    kept = {"id": f"c{number:03d}", "cell_type": cell.cell_type, "source": cell.source}
    kept["metadata"] = {"tags": tags} if tags else {}
    if cell.cell_type == "code":
        kept |= {"execution_count": cell.execution_count, "outputs": _outputs(cell.outputs)}
    return kept


def _outputs(outputs: list[NotebookNode]) -> list[dict]:
    """Neighbouring stream chunks joined, standard output before standard error; the other outputs cleaned."""
    kept: list[dict] = []
    streams: dict[str, str] = {}
    for output in outputs:
        if output.output_type == "stream":
            streams[output.name] = streams.get(output.name, "") + output.text
        elif WIDGET not in output.get("data", {}):
            kept += [*_streams(streams), _cleaned(output)]
            streams = {}
    return kept + _streams(streams)


def _streams(texts: dict[str, str]) -> list[dict]:
    shown = [(name, masked(without_bars(texts.get(name, "")))) for name in STREAMS]
    return [{"output_type": "stream", "name": name, "text": text} for name, text in shown if text.strip()]


def without_bars(text: str) -> str:
    """The lines of `text` that nothing overwrote: a progress bar shows speeds, which never repeat."""
    return re.sub(r"[^\n]*\r[^\n]*(\n|$)", "", text.replace("\r\n", "\n"))


def _cleaned(value: Any) -> Any:
    """An output with every text masked and every PNG stripped."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {key: stripped(item) if key == "image/png" else _cleaned(item) for key, item in value.items()}
    return value


def masked(text: str) -> str:
    """`text` without memory addresses, process numbers and folders of this machine."""
    text = re.sub(r"\bat 0x[0-9a-fA-F]+", "at 0x…", text)
    text = re.sub(r"[^\s\"'(<]*ipykernel_\d+[/\\]\d+\.py", "<cell>", text)
    for folder, name in _folders():
        text = re.sub(rf"(?<![\w/.]){re.escape(folder)}(?![\w.-])", name, text)
    return text


def _folders() -> list[tuple[str, str]]:
    """Folders that tell machines apart and the names that stand for them, the longest first."""
    named = {sys.base_prefix: "<python>", sys.prefix: "<python>", str(Path.cwd()): ".", str(Path.home()): "~"}
    return sorted((item for item in named.items() if len(item[0]) > 1), key=lambda item: -len(item[0]))


def stripped(image: str) -> str:
    """A base64 PNG with nothing but the picture in it, in a palette of COLOURS, which takes a fourth of the bytes."""
    picture = Image.open(io.BytesIO(base64.b64decode(image)))
    if picture.mode == "P" and not picture.info:
        return image  # it has been here before, and a palette of a palette is another one
    paper = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(paper, picture.convert("RGBA")).convert("RGB")
    buffer = io.BytesIO()
    small = flat.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    shades = small.getpalette() or ()  # a quantized picture has one
    small.putpalette(bytes(255 if shade == 254 else shade for shade in shades))  # the octree rounds white down
    small.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode() + "\n"
