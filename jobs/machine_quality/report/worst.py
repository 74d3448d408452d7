"""The cases that lose most, and what they look like: reference and decoded picture, coded again from the row."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from PIL import Image

from sensorium.catalog import fragments
from sensorium.jobs import codecs
from sensorium.jobs.codecs import Picture
from sensorium.jobs.machine_quality import material
from sensorium.jobs.machine_quality.cells import decode, encode
from sensorium.jobs.machine_quality.material import Extent
from sensorium.jobs.machine_quality.report.numbers import Number, find
from sensorium.jobs.machine_quality.report.rows import SweepRows
from sensorium.platform.errors import InvalidSetting, SensoriumError

if TYPE_CHECKING:
    from sensorium.catalog.lake import Catalog

__all__ = ["Case", "crops", "shown", "worst_cases"]

#: pixels a side of a crop where there is no object
_WINDOW = 192
#: an object is shown with so much around it, in parts of its size, and at least so many pixels
_MARGIN, _SMALLEST = 0.5, 64
_BOX = ("x", "y", "width", "height")


@dataclass(frozen=True)
class Case:
    """One of the worst.

    Attributes:
        row: of the cell or, where there is one, of the object with its cell's columns.
        number: by which it is bad.
        picture: PNG, reference and decoded side by side; None where it could not be made.
        note: why not, or what to know about it; empty otherwise.
    """

    row: Mapping[str, Any]
    number: Number
    picture: bytes | None
    note: str

    @property
    def value(self) -> float:
        """Of the number."""
        return float(self.row[self.number.column])


def worst_cases(rows: SweepRows, count: int, by: str = "") -> tuple[Number, pl.DataFrame]:
    """The number, and the ``count`` cells or objects with its worst values; at most one of an image and codec.

    Args:
        rows: of the sweep.
        count: how many.
        by: a number's column; the first task's main number without it, else the first metric.

    Raises:
        InvalidSetting: no such number, or nothing says which of its values are bad.
    """
    if not by and not rows.main:
        raise InvalidSetting("the sweep has no number whose sense is known. Name none of the worst cases.")
    number = find(by, rows.numbers) if by else rows.main[0]
    if number.higher_is_better is None:
        raise InvalidSetting(f"--worst-by {by!r}: nothing says whether more or less of it is better. Name another.")
    objects = rows.objects.get(number.owner)
    frame = objects if objects is not None and number.column in objects.columns else rows.cells
    ordered = frame.filter(pl.col(number.column).is_finite()).sort(
        number.column, "codec", "image_id", "quality", descending=[not number.higher_is_better, False, False, False]
    )
    return number, ordered.unique(["codec", "image_id"], keep="first", maintain_order=True).head(count)


def shown(catalog: Catalog, name: str, number: Number, worst: pl.DataFrame) -> list[Case]:
    """The cases with their pictures. ``name`` is the data set of the rows.

    Whatever keeps a picture from being made becomes the case's note.
    """
    versions = _sources(catalog, name)
    cases = []
    for row in worst.iter_rows(named=True):
        try:
            pictures = _pictures(catalog, versions, row)
            picture, note = crops(row, pictures)
        except SensoriumError as error:
            picture, note = None, str(error)
        cases.append(Case(row, number, picture, note))
    return cases


def _sources(catalog: Catalog, name: str) -> list[tuple[str, int]]:
    """Data sets, at versions, that the rows were made from; the newest first."""
    name = name.partition("@")[0]
    edges = catalog.lineage(name).filter(direction="upstream", dataset=name)
    found = edges.select("made_from", "from_version").unique().sort("from_version", descending=True)
    return [(str(source), int(version)) for source, version in found.iter_rows()]


def _pictures(catalog: Catalog, versions: Sequence[tuple[str, int]], row: Mapping[str, Any]) -> list[Picture]:
    """The pictures of a row, out of the version that has its content, else the newest that has its sample."""
    fallback: tuple[Any, Any, str] | None = None
    for source, version in versions:
        if source not in catalog:
            continue
        dataset = catalog.dataset(source, version)
        for name, field in dataset.declaration.arrays.items():
            if field.dims not in material.LAYOUTS:
                continue
            references = dataset.select(pl.col("id") == row["source_id"], fields=[name]).rows[name].drop_nulls()
            for reference in references:
                shape = "x".join(map(str, reference["shape"]))
                place = dataset.storage, reference, material.LAYOUTS[field.dims]
                if row["image_hash"] == f"{reference['checksum']}-{reference['dtype']}-{shape}":
                    return _read(*place, row)
                fallback = fallback or place
    if fallback is None:
        raise InvalidSetting(
            f"no data set that these rows were made from holds sample {row['source_id']!r} any more: it cannot be shown."
        )
    return _read(*fallback, row)


def _read(storage: Any, reference: Any, layout: str, row: Mapping[str, Any]) -> list[Picture]:
    return material.pictures(fragments.read(storage, reference), layout, Extent.parse(row["extent"] or ""))


def crops(row: Mapping[str, Any], pictures: Sequence[Picture]) -> tuple[bytes, str]:
    """A case as PNG, reference on the left, and a note where the bitstream is not the one that was measured.

    Raises:
        SensoriumError: the codec is not installed, or fails on these pictures.
    """
    codec = codecs.get(row["codec"].partition(", GOP ")[0])
    gop = int(row["gop"] or 0)
    streams = [one.data for one in encode(pictures, codec, int(row["quality"]), gop)]
    decoded = decode(streams, pictures[0].size, codec, gop, len(pictures))
    digest = hashlib.blake2b(b"".join(streams), digest_size=len(row["bitstream_hash"]) // 2)
    note = ""
    if digest.hexdigest() != row["bitstream_hash"]:
        note = (
            "The bitstream is not the one that was measured: the encoder installed here is another, or the sample was "
            f"replaced. Measured with {row['codec_version']}; here is {codec.version()}."
        )
    frame = int(row.get("frame") or 0)
    before, after = pictures[frame].rgb, decoded[frame]
    top, left, height, width = _window(row, before, after)
    part = np.s_[top : top + height, left : left + width]
    gap = np.full((height, 4, 3), 255, np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.concatenate([before[part], gap, after[part]], axis=1)).save(file, "PNG", optimize=True)
    return file.getvalue(), note


def _window(row: Mapping[str, Any], before: np.ndarray, after: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is shown: the object with its surroundings, else where the error is greatest."""
    box = [row.get(name) for name in _BOX]
    if "object" in row and all(isinstance(part, float) for part in box):
        x, y, width, height = (float(part) for part in box if part is not None)
        side_x, side_y = (max(_SMALLEST, side * (1 + 2 * _MARGIN)) for side in (width, height))
        return _inside(y + height / 2, x + width / 2, side_y, side_x, before.shape)
    error = np.square(before.astype(np.float64) - after).sum(axis=2)
    tall, wide = (min(_WINDOW, side) for side in error.shape)
    summed = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    total = summed[tall:, wide:] - summed[:-tall, wide:] - summed[tall:, :-wide] + summed[:-tall, :-wide]
    top, left = np.unravel_index(int(total.argmax()), total.shape)
    return int(top), int(left), tall, wide


def _inside(
    middle_y: float, middle_x: float, height: float, width: float, shape: Sequence[int]
) -> tuple[int, int, int, int]:
    tall, wide = min(round(height), shape[0]), min(round(width), shape[1])
    top = min(max(0, round(middle_y - tall / 2)), shape[0] - tall)
    left = min(max(0, round(middle_x - wide / 2)), shape[1] - wide)
    return top, left, tall, wide
