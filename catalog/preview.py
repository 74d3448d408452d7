"""Pictures of samples: contact sheets of a selection, the sheet of one sample, and a page to step through one."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from sensorium.catalog.modalities._drawing import new_figure
from sensorium.platform.errors import InvalidSetting, SensoriumError, UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sensorium.catalog.sample import Sample
    from sensorium.catalog.selection import Selection

__all__ = ["Picture", "contact_sheet", "sample_sheet", "stepper"]

_CELL_INCHES = 2.6
_FORMATS = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Picture:
    """A picture that a notebook shows and a file takes.

    Attributes:
        content: PNG.
    """

    content: bytes

    def save(self, path: Path) -> Path:
        """Write it to a file."""
        _write(path, self.content)
        return path

    def _repr_png_(self) -> bytes:
        return self.content


def contact_sheet(selection: Selection, path: Path, *, count: int = 12, columns: int = 4) -> Path:
    """Draw ``count`` samples, evenly spread over the selection, each under its id, and save the sheet to ``path``.

    Raises:
        UserError: the modality has nothing to draw, or the selection is empty.
        InvalidSetting: the file's suffix is not that of a picture.
    """
    _check_name(path)
    return _save(sheet_figure(selection, count=count, columns=columns), path)


def sheet_figure(selection: Selection, *, count: int = 12, columns: int = 4) -> Figure:
    """The figure of a contact sheet; see :func:`contact_sheet`."""
    modality = selection.declaration.modality
    if modality.preview is None:
        raise UserError(
            f"data set {selection.name!r}: samples of modality {modality.name!r} have no preview. Query it instead."
        )
    total = len(selection)
    if total == 0:
        raise UserError(f"data set {selection.name!r}: nothing to draw, the selection is empty.")
    shown = min(count, total)
    columns = min(columns, shown)
    rows = math.ceil(shown / columns)
    figure = new_figure(_CELL_INCHES * columns, _CELL_INCHES * rows + 0.5)
    figure.suptitle(f"{selection.name}@{selection.version}: {shown} of {total} samples", fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, sample in zip(axes, _spread(selection, shown), strict=False):
        try:
            modality.preview(axis, sample)
        except SensoriumError as error:
            axis.text(0.5, 0.5, str(error), wrap=True, ha="center", va="center", fontsize=6, transform=axis.transAxes)
        name = sample.id if len(sample.id) <= 34 else "…" + sample.id[-33:]
        axis.set_title(name, fontsize=8)
    for axis in axes[shown:]:
        axis.set_axis_off()
    return figure


def sample_sheet(selection: Selection, identifier: str, path: Path) -> Path:
    """Draw one sample large, as its modality's sheet, and save it to ``path``.

    Raises:
        UnknownSample: there is none.
        UserError: the modality has nothing to draw.
        InvalidSetting: the file's suffix is not that of a picture.
    """
    _check_name(path)
    return _save(sample_figure(selection, identifier), path)


def sample_figure(selection: Selection, identifier: str) -> Figure:
    """The figure of one sample; see :func:`sample_sheet`."""
    modality = selection.declaration.modality
    sample = selection[identifier]
    if modality.sheet is None and modality.preview is None:
        raise UserError(
            f"data set {selection.name!r}: samples of modality {modality.name!r} have no preview. Query it instead."
        )
    figure = new_figure(9.0, 5.5)
    figure.suptitle(f"{identifier} of {selection.name}@{selection.version}", fontsize=10)
    if modality.sheet is not None:
        modality.sheet(figure, sample)
    elif modality.preview is not None:
        modality.preview(figure.subplots(), sample)
    return figure


def stepper(selection: Selection, identifier: str, path: Path) -> Path:
    """Write one HTML file with a slider through a sample: slices, frames, bands, stretches. It needs no other file.

    Raises:
        UnknownSample: there is none.
        UserError: the modality has nothing to step through.
    """
    modality = selection.declaration.modality
    if modality.steps is None:
        raise UserError(
            f"data set {selection.name!r}: samples of modality {modality.name!r} are one picture. Save it as {path.stem}.png."
        )
    captions, pictures = [], []
    for caption, pixels in modality.steps(selection[identifier]):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "WEBP", quality=90)
        captions.append(caption)
        pictures.append("data:image/webp;base64," + base64.b64encode(file.getvalue()).decode())
    title = escape(f"{identifier} of {selection.name}@{selection.version}")
    steps = json.dumps([captions, pictures]).replace("<", "\\u003c")
    page = _PAGE.replace("TITLE", title).replace("LAST", str(len(captions) - 1)).replace("STEPS", steps)
    _write(path, page.encode())
    return path


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>TITLE</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<style>body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:60rem;padding:0 1rem;background:#fff;color:#1a1d21}
img{width:100%;max-height:75vh;object-fit:contain;image-rendering:pixelated;background:#101214}input{width:100%}</style></head>
<body><h1 style="font-size:1.2rem">TITLE</h1><img id="picture" alt=""><p><output id="caption" for="step"></output></p>
<label for="step">Step, also with the arrow keys</label><input id="step" type="range" min="0" max="LAST" value="0">
<script>const [captions, pictures] = STEPS;
const step = document.getElementById('step'), picture = document.getElementById('picture');
function show() { picture.src = pictures[step.value]; picture.alt = captions[step.value];
document.getElementById('caption').value = captions[step.value]; }
step.addEventListener('input', show); step.value = Math.floor(captions.length / 2); show(); step.focus();</script></body></html>
"""


def picture_of(figure: Figure) -> Picture:
    """A figure as PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Picture(file.getvalue())


def _check_name(path: Path) -> None:
    if path.suffix.lower() not in _FORMATS:
        raise InvalidSetting(f"{path}: this will be a picture; end its name in one of {', '.join(_FORMATS)}.")


def _save(figure: Figure, path: Path) -> Path:
    file = io.BytesIO()
    figure.savefig(file, format=path.suffix.lower().removeprefix("."))
    _write(path, file.getvalue())
    return path


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}. Give another place.") from error


def _spread(selection: Selection, count: int) -> Iterable[Sample]:
    total = len(selection)
    return (selection[index * total // count] for index in range(count))
