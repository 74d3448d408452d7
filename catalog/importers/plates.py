"""Photographs of vehicles with their licence plates: ``NAME.jpg`` beside ``NAME.txt``, a line for each plate.

A line is ``file x y width height TEXT``, parted by tabs: the picture's name, the plate's box in whole pixels from the top
left corner, and what it says. ``image`` is as importers of picture folders read it; ``boxes`` and ``texts`` are lists of the
same length. A file without lines is a picture without plates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import image_folder
from sensorium.catalog.importers._files import identifiers, probe, unreadable, visible

__all__ = ["importer"]

_SUFFIXES = frozenset((".jpg", ".jpeg", ".png"))
_COLUMNS = "file, x, y, width, height and text"
_WHOLE = re.compile(r"\d{1,9}")
#: more sure than an importer of plain pictures, which is at most 0.9 and would lose the plates
_SURE = 0.95

_FIELDS = (
    ScalarField(
        "boxes",
        pa.list_(pa.list_(pa.int64())),
        unit="px",
        required=True,
        description="x, y, width and height of each plate, from the top left corner",
    ),
    ScalarField("texts", pa.list_(pa.string()), required=True, description="what each plate says"),
)


def _matches(source: Source) -> float:
    return _SURE / 0.9 * probe(source, _SUFFIXES, _has_plates)


def _has_plates(path: Path) -> float:
    """Whether the text beside a picture begins as ours does."""
    try:
        lines = _labels(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0.0
    return float(bool(lines) and len(lines[0].split("\t")) == 6 and lines[0].split("\t")[0] == path.name)


def _labels(path: Path) -> Path:
    return path.with_suffix(".txt")


def _plan(source: Source) -> Iterator[Item]:
    for path, name in identifiers(source, visible(source, _SUFFIXES)).items():
        yield Item(name, (path, _labels(path)))


def _fields(source: Source) -> tuple[Field, ...]:  # noqa: ARG001 - they are the same for all sources
    return _FIELDS


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path, labels = item.paths
    boxes, texts = _plates(labels, path.name)
    sample = image_folder.importer.read(Item(item.id, (path,)), options)
    height, width = sample["image"].shape[:2]
    for x, y, wide, high in boxes:
        if x + wide > width or y + high > height:
            raise unreadable(
                labels,
                f"the box {x}, {y}, {wide} x {high} does not lie in the picture of {width} x {height} pixels",
                "Correct the label.",
            )
    return {**sample, "boxes": boxes, "texts": texts}


def _plates(path: Path, picture: str) -> tuple[list[list[int]], list[str]]:
    """Boxes and texts of a file of labels."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        raise unreadable(path, f"{picture} has no labels beside it", "Add them, or leave the picture out.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, f"cannot be read ({error})", "Save it as UTF-8 text.") from error
    boxes, texts = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        box, text = _plate(line, f"line {number}", path, picture)
        boxes.append(box)
        texts.append(text)
    return boxes, texts


def _plate(line: str, place: str, path: Path, picture: str) -> tuple[list[int], str]:
    parts = [part.strip() for part in line.split("\t")]
    if len(parts) != 6:
        raise unreadable(
            path, f"{place} has {len(parts)} columns; {_COLUMNS} are needed, parted by tabs", "Correct the line."
        )
    name, *numbers, text = parts
    if name != picture:
        raise unreadable(path, f"{place} speaks of {name!r}, not of {picture!r}", "Name the file like its picture.")
    if not all(_WHOLE.fullmatch(part) for part in numbers):
        raise unreadable(path, f"{place}: x, y, width and height must be whole pixels; got {numbers}", "Correct them.")
    box = [int(part) for part in numbers]
    if not (box[2] and box[3]):
        raise unreadable(path, f"{place}: the box is empty, {box[2]} x {box[3]} pixels", "Correct the line.")
    if not text:
        raise unreadable(path, f"{place} has no text", "Write what the plate says, or leave the line out.")
    return box, text


importer = Importer(
    name="plates",
    title="photographs with licence plates (NAME.jpg, NAME.txt of file, x, y, width, height, text)",
    modality="image",
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={"max_pixels": image_folder.importer.options["max_pixels"]},
)
