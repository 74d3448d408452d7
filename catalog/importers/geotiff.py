"""Scenes in GeoTIFF files, with their place on Earth: two importers, since a data set has one modality.

``geotiff_pictures`` takes files of one, three or four bands of uint8: ``image`` [H, W, C]. ``geotiff`` takes all others:
``cube`` [H, W, L], with ``wavelength`` in nm where the bands' metadata or the option say so. Both keep the type and the
values of the file, palettes as their indices; scales and offsets are noted in ``scales`` and ``offsets``, not applied.

``crs`` is the coordinate reference system, ``EPSG:...`` or WKT. ``transform`` has six values a, b, c, d, e, f: a pixel's
column x and row y (0, 0 being the corner of the first pixel) lie at a x + b y + c, d x + e y + f. ``nodata`` is the value
that means nothing was measured, ``band_names`` are the descriptions of the bands.

Files in a folder ``masks`` or ``labels`` (see :mod:`._folders`) become ``mask`` or ``labels`` [H, W] of the scene of their
name, with the file's own whole numbers; they must have its size, and are not samples of their own.

With ``tile=N`` or ``tile=N,OVERLAP`` each scene becomes samples of N x N pixels, smaller at its right and lower edges, with
ids ``NAME/ROW_COLUMN``; only what is wanted is decoded, so that a scene may be larger than memory. ``window`` is the place
in the scene (row, column, height, width), and ``transform`` is the window's own.

TIFF files without georeference belong to importers of picture folders.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _folders, _metadata
from sensorium.catalog.importers._files import identifiers, number, once, probe, unreadable, visible
from sensorium.catalog.importers._finite import NAN_OPTION, finite
from sensorium.catalog.importers._tiff import Header, opened, read_header
from sensorium.catalog.modalities._declare import INTEGERS
from sensorium.platform.errors import InvalidSetting

__all__ = ["importer", "pictures"]

Array = npt.NDArray[Any]

_SUFFIXES = frozenset((".tif", ".tiff", ".gtiff"))
#: more sure than an importer of plain pictures, which is at most 0.9 and would lose the place
_SURE = 0.95
_MAX_VALUES = 1e9
#: windows of one scene; a header that claims more is refused when it is read
_MAX_WINDOWS = 1_000_000
_RESERVED = (
    "image",
    "cube",
    "mask",
    "labels",
    "crs",
    "transform",
    "nodata",
    "band_names",
    "window",
    "wavelength",
    "scales",
    "offsets",
)
_EXPORT = "Export it anew from its source, or leave it out."
#: to nanometres, by how metadata write the unit
_UNITS = {"nm": 1.0, "nanometers": 1.0, "nanometer": 1.0, "um": 1e3, "µm": 1e3, "micrometers": 1e3, "micrometer": 1e3}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(nm|nanometers?|um|µm|micrometers?)\b", re.IGNORECASE)
_FIELDS = (
    ScalarField("crs", pa.string(), description="coordinate reference system, EPSG code or WKT"),
    ScalarField(
        "transform", pa.list_(pa.float64()), description="a to f: column x, row y lie at a x + b y + c, d x + e y + f"
    ),
    ScalarField("nodata", pa.float64(), description="value that means nothing was measured"),
    ScalarField("band_names", pa.list_(pa.string()), description="of each band"),
    ScalarField(
        "window", pa.list_(pa.int64()), unit="px", description="row, column, height and width of it in its scene"
    ),
    ScalarField("scales", pa.list_(pa.float64()), description="factor from values to the physical unit, of each band"),
    ScalarField("offsets", pa.list_(pa.float64()), description="to be added after that, of each band"),
)
#: of cubes; pictures have them anyway
_MARKS = tuple(ArrayField(name, "H W", dtypes=INTEGERS, codec="blosc") for name in ("mask", "labels"))


def _is_picture(header: Header) -> bool:
    return header.bands in (1, 3, 4) and header.bits == 8 and header.kind == 1


def _matching(wanted: Callable[[Header], bool]) -> Callable[[Source], float]:
    def judge(path: Path) -> float | None:
        if _folders.is_mark(path):
            return None
        header = read_header(path)
        return float(header is not None and header.georeferenced and wanted(header))

    return lambda source: _SURE / 0.9 * probe(source, _SUFFIXES, judge)


@once
def _pairs(source: Source) -> _folders.Pairs:
    return _folders.pair(source, visible(source, _SUFFIXES))


@once
def _known(source: Source) -> _metadata.Known:
    return _metadata.of_files(source, _pairs(source).paths, _RESERVED)


def _plan(source: Source) -> Iterator[Item]:
    scalars, marks = _known(source).rows, _pairs(source).marks
    size, overlap = _tile(source.options)
    for path, name in identifiers(source, scalars).items():
        paths = (path, *marks.get(path, {}).values())
        windows = _windows(path, size, overlap)
        if not windows:
            yield Item(name, paths, scalars[path])
        for place, window in windows.items():
            yield Item(f"{name}/{place}", paths, {**scalars[path], "window": window})


def _fields(source: Source) -> tuple[Field, ...]:
    names = {name for found in _pairs(source).marks.values() for name in found}
    return (*_known(source).fields(), *_FIELDS, *(field for field in _MARKS if field.name in names))


def _tile(options: Mapping[str, str]) -> tuple[int, int]:
    """Side of a window and overlap of neighbours in pixels; 0, 0 for whole scenes."""
    text = options.get("tile")
    if text is None:
        return 0, 0
    match = re.fullmatch(r"\s*(\d{1,6})\s*(?:,\s*(\d{1,6})\s*)?", text)
    size, overlap = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
    if size < 1 or overlap >= size:
        raise InvalidSetting(f"tile must be N or N,OVERLAP in pixels, the overlap being smaller; got {text!r}.")
    return size, overlap


def _windows(path: Path, size: int, overlap: int) -> dict[str, list[int]]:
    """Row, column, height and width of each window by its name; none for a scene that is to be read whole."""
    header = read_header(path) if size else None
    if header is None:  # also where it cannot be read, which its reader says
        return {}
    rows, columns = (range(0, max(length - overlap, 1), size - overlap) for length in (header.height, header.width))
    if len(rows) * len(columns) > _MAX_WINDOWS:
        return {}
    return {
        f"{row}_{column}": [top, left, min(size, header.height - top), min(size, header.width - left)]
        for row, top in enumerate(rows)
        for column, left in enumerate(columns)
    }


def _reading(name: str) -> Callable[[Item, Mapping[str, str]], dict[str, Any]]:
    """A reader whose array is called ``name``."""

    def read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
        path = item.paths[0]
        header = read_header(path)
        if header is None:
            raise unreadable(path, "is no TIFF file (its header says otherwise, or is cut off)", _EXPORT)
        if name == "image" and not _is_picture(header):
            problem = f"has {header.bands} bands of {header.bits} bits, not 1, 3 or 4 of uint8"
            raise unreadable(path, problem, "Import it with --format geotiff.")
        window = item.scalars.get("window")
        with opened(path) as scene:
            sample = _sample(path, scene, name, window, options)
            size = (scene.height, scene.width)
        marks = {_folders.kind(mark): _marked(mark, size, window) for mark in item.paths[1:]}
        return {**item.scalars, **sample, **marks}

    return read


def _marked(path: Path, size: tuple[int, int], place: Any) -> Array:
    """A mask [H, W] of a scene of ``size``, or of a window in it."""
    with opened(path) as mask:
        if (mask.height, mask.width) != size or mask.count != 1 or np.dtype(mask.dtypes[0]).kind not in "iu":
            found = f"has {mask.count} bands of {mask.width} x {mask.height} {mask.dtypes[0]}"
            problem = f"{found}, its scene is {size[1]} x {size[0]}"
            raise unreadable(
                path, problem, "Give a mask one band of whole numbers of its scene's size, or say masks=none."
            )
        top, left, height, width = place or (0, 0, *size)
        return np.ascontiguousarray(mask.read(1, window=((top, top + height), (left, left + width))))


def _sample(path: Path, scene: Any, name: str, place: Any, options: Mapping[str, str]) -> dict[str, Any]:
    top, left, height, width = place or (0, 0, scene.height, scene.width)
    if top + height > scene.height or left + width > scene.width:
        raise unreadable(path, "is smaller than it was when the import was planned", "Import it anew.")
    kinds = set(scene.dtypes)
    if len(kinds) > 1 or np.dtype(scene.dtypes[0]).kind not in "iuf":
        raise unreadable(path, f"has bands of type {', '.join(sorted(kinds))}", "Save them as one type of numbers.")
    values = scene.count * height * width
    limit = number(options, "max_values", _MAX_VALUES)
    if values > limit:
        problem = f"its header claims {scene.count} bands of {width} x {height} pixels, more than {limit:g} values"
        remedy = f"Read it in parts with tile=1024, or, if it is real, raise the limit with max_values={values}."
        raise unreadable(path, problem, remedy)
    raw = scene.read(window=((top, top + height), (left, left + width)))
    array = np.ascontiguousarray(raw.transpose(1, 2, 0))  # [L, H, W] -> [H, W, L]
    sample = {"band_names": [text or "" for text in scene.descriptions], **_georeference(scene, top, left)}
    sample[name], sample["nodata"] = finite(path, array, options), scene.nodata
    if scene.nodata is not None and not math.isfinite(scene.nodata) and "nan" in options:
        sample["nodata"] = float(options["nan"])
    if name == "cube":
        sample["wavelength"] = _wavelength(path, scene, options)
    if set(scene.scales) != {1.0} or set(scene.offsets) != {0.0}:
        sample |= {"scales": list(scene.scales), "offsets": list(scene.offsets)}
    if not any(sample["band_names"]):
        del sample["band_names"]
    return {key: value for key, value in sample.items() if value is not None}


def _georeference(scene: Any, top: int, left: int) -> dict[str, Any]:
    """``crs`` and ``transform`` of a window; None for what the file does not say."""
    a, b, c, d, e, f = (float(value) for value in scene.transform[:6])
    moved = [a, b, c + a * left + b * top, d, e, f + d * left + e * top]
    return {
        "crs": scene.crs.to_string() if scene.crs else None,
        "transform": None if scene.transform.is_identity else moved,
    }


def _wavelength(path: Path, scene: Any, options: Mapping[str, str]) -> list[float] | None:
    """Centre of each band in nm, from the option or the bands' metadata; None where it is not known for all."""
    if "wavelength" in options:
        try:
            given = [float(text) for text in options["wavelength"].split(",")]
        except ValueError as error:
            text = options["wavelength"]
            raise InvalidSetting(f"wavelength must be numbers in nm, parted by commas; got {text!r}.") from error
        if len(given) != scene.count:
            problem = f"has {scene.count} bands, and wavelength= has {len(given)} numbers"
            raise unreadable(path, problem, "Give one for each band.")
        return given
    found = [_of_band(scene, band) for band in range(1, scene.count + 1)]
    known = [length for length in found if length is not None]
    rising = all(one < other for one, other in itertools.pairwise(known))
    return known if len(known) == scene.count and rising else None


def _of_band(scene: Any, band: int) -> float | None:
    """Centre of a band in nm: GDAL's own item, those that converters of ENVI files write, or its description."""
    micrometres = scene.tags(band, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM")
    tags = {key.lower(): value for key, value in scene.tags(band).items()}
    unit = _UNITS.get(tags.get("wavelength_units", "nm").lower(), 1.0)
    for text, factor in ((micrometres, 1e3), (tags.get("wavelength"), unit)):
        if text and re.fullmatch(r"\s*\d+(\.\d+)?\s*", text):
            return round(float(text) * factor, 6)
    match = _LENGTH.search(scene.descriptions[band - 1] or "")
    return round(float(match[1]) * _UNITS[match[2].lower()], 6) if match else None


_OPTIONS = {
    "tile": "N or N,OVERLAP in pixels: a sample for each window of a scene (default: whole scenes)",
    "max_values": f"refuse scenes, or windows, of more values in all bands (default {_MAX_VALUES:.0f})",
    **NAN_OPTION,
    **_folders.MASK_OPTION,
    **_metadata.FILE_OPTIONS,
}

importer = Importer(
    name="geotiff",
    title="multi-band scenes in GeoTIFF files",
    modality="hyperspectral",
    matches=_matching(lambda header: not _is_picture(header)),
    plan=_plan,
    read=_reading("cube"),
    fields=_fields,
    options={
        "wavelength": "centre of each band in nm, parted by commas (default: from the bands' metadata)",
        **_OPTIONS,
    },
)

pictures = Importer(
    name="geotiff_pictures",
    title="aerial and satellite pictures in GeoTIFF files (grey, RGB or RGBA of 8 bits)",
    modality="image",
    matches=_matching(_is_picture),
    plan=_plan,
    read=_reading("image"),
    fields=_fields,
    options=_OPTIONS,
)
