"""TIFF files beyond photographs: what their first header says, read without a decoder, and GDAL's view of their values.

Layout: TIFF 6.0 (Aldus, 1992), BigTIFF, and OGC GeoTIFF 1.1 for the tags of georeference.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sensorium.catalog.importers._files import unreadable
from sensorium.platform.errors import UserError
from sensorium.platform.optional import require

__all__ = ["Header", "opened", "read_header"]

#: tags
_WIDTH, _HEIGHT, _BITS, _ORIENTATION, _BANDS, _SAMPLE_FORMAT = 256, 257, 258, 274, 277, 339
#: pixel scale, tie points, transformation, and the keys of the coordinate system
_GEOREFERENCE = frozenset((33550, 33922, 34264, 34735))
_WANTED = frozenset((_WIDTH, _HEIGHT, _BITS, _ORIENTATION, _BANDS, _SAMPLE_FORMAT))
#: type -> its code for one value: SHORT, LONG, LONG8
_NUMBERS = {3: "H", 4: "I", 16: "Q"}
_MAX_TAGS = 4096


@dataclass(frozen=True)
class Header:
    """What the first picture of a TIFF file is.

    Attributes:
        width, height: in pixels.
        bands: values of a pixel.
        bits: of a value of the first band.
        kind: of values, 1 for unsigned integers, 2 for signed ones, 3 for floats.
        georeferenced: whether it has a place on Earth.
        orientation: as in EXIF, 1 for upright.
    """

    width: int
    height: int
    bands: int
    bits: int
    kind: int
    georeferenced: bool
    orientation: int = 1


def read_header(path: Path) -> Header | None:
    """The header of the first picture in a TIFF file; None where it is no such file, or cut off in its header."""
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
            order = {b"II": "<", b"MM": ">"}.get(start[:2])
            if order is None:
                return None
            (version,) = struct.unpack_from(f"{order}H", start, 2)
            big = version == 43
            if version not in (42, 43):
                return None
            (place,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", start, 8 if big else 4)
            stream.seek(place)
            (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", stream.read(8 if big else 2))
            size = 20 if big else 12
            content = stream.read(min(count, _MAX_TAGS) * size)
            tags = [content[index : index + size] for index in range(0, len(content) // size * size, size)]
            found = {}
            for entry in tags:
                tag, kind = struct.unpack_from(f"{order}HH", entry)
                if tag in _WANTED and kind in _NUMBERS:
                    found[tag] = _first(stream, entry, order, kind, big=big)
    except (OSError, ValueError, OverflowError, struct.error):
        return None
    if not found.get(_WIDTH) or not found.get(_HEIGHT):
        return None
    known = {struct.unpack_from(f"{order}H", entry)[0] for entry in tags}
    sizes = (found[_WIDTH], found[_HEIGHT], found.get(_BANDS, 1), found.get(_BITS, 1), found.get(_SAMPLE_FORMAT, 1))
    return Header(*sizes, bool(known & _GEOREFERENCE), found.get(_ORIENTATION, 1))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file as GDAL sees it, without looking at files beside it, nor trying other formats.

    Raises:
        UnreadableFile: it cannot be opened, or what is read within the context cannot be decoded.
        MissingDependency: GDAL is not installed.
    """
    rasterio = require("rasterio", "read TIFF files of scenes and measurements")
    settings = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_NUM_THREADS": 1}
    try:
        with warnings.catch_warnings(), rasterio.Env(**settings):
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff") as scene:
                yield scene
    except UserError:
        raise
    except (rasterio.errors.RasterioError, OSError, ValueError) as error:
        raise unreadable(
            path, f"cannot be decoded as TIFF ({error})", "Export it anew from its source, or leave it out."
        ) from error


def _first(stream: BinaryIO, entry: bytes, order: str, kind: int, *, big: bool) -> int:
    """The first value of a tag, which lies in its entry or, where it has too many, where the entry says."""
    code, offset = f"{order}{_NUMBERS[kind]}", 12 if big else 8
    (count,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", entry, 4)
    if count * struct.calcsize(code) <= len(entry) - offset:
        return int(struct.unpack_from(code, entry, offset)[0])
    stream.seek(struct.unpack_from(f"{order}{'Q' if big else 'I'}", entry, offset)[0])
    return int(struct.unpack(code, stream.read(struct.calcsize(code)))[0])
