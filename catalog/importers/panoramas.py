"""Folders of 360-degree panoramas in equirectangular projection: pictures that are all twice as wide as high.

``image``, ``mask`` and ``labels`` are as importers of picture folders read them. Where the file's XMP metadata follow
Google's Photo Sphere schema (GPano), ``heading``, ``pitch`` and ``roll`` are how the camera stood, in degrees; pictures that
they call cropped, or of another projection, are refused. The metadata are looked for in the first 256 KiB of the file,
where JPEG and PNG have them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import image_folder
from sensorium.catalog.importers._files import head, probe, unreadable

__all__ = ["importer"]

#: a little more sure than an importer of plain pictures, which is at most 0.9, where all are 2:1; less where one is not
_SURE = 0.93
#: narrower ones are icons and banners
_NARROWEST = 256
_HEAD = 256 << 10
_PROPERTY = re.compile(rb"GPano:(\w{1,64})(?:\s*=\s*[\"']|>)([^\"'<]{1,64})")
_ANGLES = {"heading": "PoseHeadingDegrees", "pitch": "PosePitchDegrees", "roll": "PoseRollDegrees"}
_MEANINGS = {
    "heading": "compass direction of the picture's centre, clockwise from north",
    "pitch": "of the camera, upwards",
    "roll": "of the camera, to the right",
}


def _matches(source: Source) -> float:
    return _SURE / 0.9 * probe(source, image_folder.SUFFIXES, _is_panorama)


def _is_panorama(path: Path) -> float:
    if not image_folder.is_picture(path):
        return 0.0
    width, height = image_folder.size(path) or (0, 0)
    return float(width == 2 * height >= _NARROWEST)


def _fields(source: Source) -> tuple[Field, ...]:
    angles = (ScalarField(name, pa.float64(), unit="deg", description=text) for name, text in _MEANINGS.items())
    known = image_folder.importer.fields(source) if image_folder.importer.fields else ()
    taken = {field.name for field in known}  # columns of a table of metadata come first
    return (*known, *(field for field in angles if field.name not in taken))


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    said = {name.decode(): value.decode("utf-8", "replace") for name, value in _PROPERTY.findall(head(path, _HEAD))}
    projection = said.get("ProjectionType", "equirectangular").strip().lower()
    if projection != "equirectangular":
        raise unreadable(path, f"is a panorama in projection {projection!r}", "Convert it to equirectangular.")
    for axis in ("Width", "Height"):
        part, whole = said.get(f"CroppedAreaImage{axis}Pixels"), said.get(f"FullPano{axis}Pixels")
        if part is not None and whole is not None and part.strip() != whole.strip():
            problem = f"shows {part} of {whole} pixels of the full panorama's {axis.lower()}"
            raise unreadable(path, problem, "Pad it to the full sphere, or import it with --format image_folder.")
    sample = image_folder.importer.read(item, options)
    height, width = sample["image"].shape[:2]
    if width != 2 * height:
        problem = f"has {width} x {height} pixels, a panorama is exactly twice as wide as high"
        raise unreadable(path, problem, "Pad or resample it, or import it with --format image_folder.")
    angles = {name: _number(said.get(key)) for name, key in _ANGLES.items()}
    return {**{name: angle for name, angle in angles.items() if angle is not None}, **sample}


def _number(text: str | None) -> float | None:
    """An angle as the schema writes it; None for what is no number."""
    return float(text) if text and re.fullmatch(r"\s*[-+]?\d{1,6}(\.\d+)?\s*", text) else None


importer = Importer(
    name="panoramas",
    title="360-degree panoramas (equirectangular, 2:1)",
    modality="panorama",
    matches=_matches,
    plan=image_folder.importer.plan,
    read=_read,
    fields=_fields,
    options=image_folder.importer.options,
)
