"""Hyperspectral cubes in MATLAB files: version 5 (to 7.2), and 7.3, which is HDF5.

``cube`` is [H, W, L]: the only array of three axes in the file, or the one that ``cube=NAME`` names, in the type in which it is
stored (MATLAB stores whole numbers of class double as small integers). A table of two axes, bands and pixels in either
order, becomes one with ``shape=HEIGHTxWIDTH``; its pixels go down the columns first, as MATLAB counts them, or along the rows
with ``order=row``. ``wavelength`` in nm comes from an array of a usual name with one value per band; bands are
sorted where it does not increase.

``labels`` [H, W] comes from a file beside it: the only integer map in ``NAME_gt.mat`` belongs to ``NAME.mat`` and to
``NAME_corrected.mat`` and the like. Cells, structures, objects and functions are never looked into.
"""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.fields import ArrayField, Field
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _hdf5, _matlab5, _metadata
from sensorium.catalog.importers._files import head, identifiers, number, once, probe, stem, unreadable, visible
from sensorium.catalog.importers._finite import NAN_OPTION, finite
from sensorium.catalog.importers._wavelengths import UNIT_OPTION, in_nanometres, increasing
from sensorium.platform.errors import InvalidSetting, UserError

__all__ = ["importer"]

_log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

_SUFFIXES = frozenset((".mat",))
_RESERVED = ("cube", "labels", "wavelength")
_LABELS = re.compile(r"[-_]gt$", re.IGNORECASE)
_WAVELENGTHS = ("wavelength", "wavelengths", "lambda", "lambdas", "wl", "waves", "wave", "bands_nm")
_MAX_VALUES = 2e9
#: deflate cannot shrink anything further
_MAX_RATIO = 1032


def _version(path: Path) -> int:
    """5 or 7 by the text that MATLAB begins with, 4 by the header of a first array; 0 where it is no such file."""
    start = head(path, 520)
    if _is_version_4(start):
        return 4
    if _matlab5.is_matlab5(path):
        return 5
    return 7 if start.startswith(b"MATLAB 7.3 MAT-file") and start[512:520] == _hdf5.SIGNATURE else 0


def _is_version_4(start: bytes) -> bool:
    """Whether a file begins with a type (byte order, 0, precision, form), a size that is not 0, and a name."""
    if len(start) < 24:
        return False
    for order in "<>":
        kind, rows, columns, imaginary, length = struct.unpack(f"{order}5i", start[:20])
        form = kind in {m * 1000 + p * 10 + t for m in (0, 1) for p in range(6) for t in range(3)}
        name = start[20 : 20 + length]
        if form and rows > 0 and columns > 0 and imaginary in (0, 1) and re.fullmatch(rb"[A-Za-z]\w{0,62}\0", name):
            return True
    return False


def _mark(source: Source, path: Path) -> float | None:
    """Sure where there is one cube; a file of labels says nothing; 7.3 is not opened, for that is native code."""
    version = _version(path)
    if _LABELS.search(stem(path)) and version:
        return None
    if version != 5:
        return {7: 0.7, 4: 0.5}.get(version, 0.0)
    try:
        shapes = _variables(path)
    except UserError:
        return 0.0
    told = source.options.get("cube") in shapes or "shape" in source.options
    return 1.0 if told or sum(len(shape) == 3 for shape in shapes.values()) == 1 else 0.3


def _matches(source: Source) -> float:
    return probe(source, _SUFFIXES, lambda path: _mark(source, path))


@once
def _pairs(source: Source) -> dict[Path, Path | None]:
    """The files of cubes, each with its file of labels, if there is one."""
    paths = visible(source, _SUFFIXES)
    maps = [path for path in paths if _LABELS.search(stem(path)) and path != source.path]
    pairs: dict[Path, Path | None] = {path: None for path in paths if path not in maps}
    if source.path.is_file():
        maps = [path for path in sorted(source.path.parent.glob("*.mat")) if _LABELS.search(stem(path))]
    for path in maps:
        base = _LABELS.sub("", stem(path)).lower()
        near = [one for one in pairs if one.parent == path.parent]
        owners = [one for one in near if stem(one).lower() == base or stem(one).lower().startswith(f"{base}_")]
        pairs.update(dict.fromkeys(owners, path))
        if not owners and source.path.is_dir():
            _log.warning("%s: is a map of labels of no cube; left out", path)
    if not pairs:
        raise unreadable(source.path, "has maps of labels, and no cube", "Put the cubes beside them.")
    return pairs


@once
def _known(source: Source) -> _metadata.Known:
    return _metadata.of_files(source, _pairs(source), _RESERVED)


def _plan(source: Source) -> Iterator[Item]:
    pairs, scalars = _pairs(source), _known(source).rows
    for path, name in identifiers(source, scalars).items():
        marks = pairs[path]
        yield Item(name, (path, marks) if marks else (path,), scalars[path])


def _fields(source: Source) -> tuple[Field, ...]:
    whole = ("uint8", "uint16", "int32")
    labels = ArrayField("labels", "H W", dtypes=whole, description="class of each pixel; 0 is usually none")
    return (*_known(source).fields(), labels)


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    limit = number(options, "max_values", _MAX_VALUES)
    size = _shape(options)
    shapes = _variables(path)
    name = _cube(path, shapes, size, options)
    cube = _folded(path, name, _load(path, name, shapes, limit), size, options)
    sample = dict(item.scalars)
    wavelength = _wavelength(path, shapes, cube.shape[2], options)
    if wavelength is not None:
        order = increasing(path, wavelength)
        cube = cube if np.array_equal(order, np.arange(len(order))) else cube[..., order]
        sample["wavelength"] = wavelength[order].tolist()
    if len(item.paths) > 1:
        sample["labels"] = _labels(item.paths[1], cube.shape[:2], limit)
    return {**sample, "cube": finite(path, np.ascontiguousarray(cube), options)}


def _shape(options: Mapping[str, str]) -> tuple[int, int] | None:
    """The option ``shape``: height and width of a cube whose pixels are in one row."""
    if options.get("order", "column") not in ("column", "row"):
        raise InvalidSetting(f"order must be column or row; got {options['order']!r}.")
    text = options.get("shape")
    if text is None:
        return None
    match = re.fullmatch(r"\s*([1-9]\d{0,8})\s*[xX×]\s*([1-9]\d{0,8})\s*", text)
    if not match:
        raise InvalidSetting(f"shape must be HEIGHTxWIDTH, such as 100x100; got {text!r}.")
    return int(match[1]), int(match[2])


def _variables(path: Path) -> dict[str, tuple[int, ...]]:
    """The arrays of numbers in a file with their shapes as MATLAB has them, by their headers."""
    version = _version(path)
    if not version:
        problem = "is no MATLAB file of version 5 to 7.3" if path.is_file() else "there is no such file"
        raise unreadable(path, problem, "Save it in MATLAB with -v7 or -v7.3.")
    if version == 4:
        raise unreadable(
            path, "is a MATLAB file of version 4, which has no cubes", "Save it in MATLAB with -v7 or -v7.3."
        )
    if version == 7:
        with _hdf5.opened(path) as file:
            found = _hdf5.data_sets(file, deep=False)
            return {
                name: tuple(reversed(data.shape)) for name, data in found if data.shape and data.dtype.kind in "iuf"
            }
    return _matlab5.shapes(path)


def _cube(
    path: Path, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int] | None, options: Mapping[str, str]
) -> str:
    """The variable that is the cube."""
    told = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"
    name = options.get("cube")
    if name is not None:
        if name not in shapes:
            raise unreadable(path, f"has no array of numbers {name!r} (there are: {told})", "Mend the option cube=.")
        return name
    found = [name for name, shape in shapes.items() if _could_be(shape, size)]
    if len(found) != 1:
        wanted = "of three axes" if size is None else f"of three axes, or of two with {size[0]} x {size[1]} pixels"
        problem = f"has {len(found)} arrays {wanted} (there are: {told})"
        raise unreadable(path, problem, "Say cube=NAME, and shape=HEIGHTxWIDTH where it has two axes.")
    return found[0]


def _could_be(shape: tuple[int, ...], size: tuple[int, int] | None) -> bool:
    return len(shape) == 3 or (size is not None and len(shape) == 2 and min(shape) > 1 and math.prod(size) in shape)


def _load(path: Path, name: str, shapes: Mapping[str, tuple[int, ...]], limit: float) -> Array:
    """A variable, with its axes as MATLAB has them."""
    values = math.prod(shapes[name])
    if not 0 < values <= limit:
        problem = f"{name!r} claims {values} values {shapes[name]}, the limit is {limit:g}"
        raise unreadable(path, problem, f"Cut it, or, if it is real, raise the limit with max_values={values}.")
    if _version(path) == 7:
        with _hdf5.opened(path) as file:
            array = _hdf5.stored(_hdf5.checked(path, file, name, limit)).T
    else:
        there = path.stat().st_size
        if values > there * _MAX_RATIO:
            problem = f"{name!r} claims {values} values {shapes[name]}, the file has {there} bytes"
            raise unreadable(path, problem, "It is cut off or damaged: fetch it anew.")
        array = _matlab5.load(path, name)
    if array.dtype.kind not in "iuf" or array.shape != shapes[name]:
        problem = f"{name!r} is {array.shape} of {array.dtype}, not {shapes[name]} of real numbers"
        raise unreadable(path, problem, "Save it as a plain array.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _folded(path: Path, name: str, array: Array, size: tuple[int, int] | None, options: Mapping[str, str]) -> Array:
    """The cube [H, W, L]; of a table [L, H * W] or [H * W, L] by its size."""
    if array.ndim == 3:
        return array
    if size is None or array.ndim != 2 or math.prod(size) not in array.shape:
        problem = f"{name!r} has shape {array.shape}, not that of a cube"
        raise unreadable(path, problem, "Say shape=HEIGHTxWIDTH, whose product is the number of its pixels.")
    height, width = size
    spectra = array if array.shape[1] == height * width else array.T  # [L, H * W]
    if options.get("order", "column") == "column":
        return spectra.reshape(-1, width, height).transpose(2, 1, 0)
    return spectra.reshape(-1, height, width).transpose(1, 2, 0)


def _wavelength(
    path: Path, shapes: Mapping[str, tuple[int, ...]], count: int, options: Mapping[str, str]
) -> npt.NDArray[np.float64] | None:
    """Wavelengths in nm: by option, or of a usual name with one value per band."""
    name = options.get("wavelength")
    if name is not None and math.prod(shapes.get(name, ())) != count:
        problem = f"has no {name!r} with {count} numbers (wavelength=), one for each band"
        raise unreadable(path, problem, "Mend the option.")
    usual = {one.lower(): one for one, shape in shapes.items() if math.prod(shape) == count}
    name = name or next((usual[one] for one in _WAVELENGTHS if one in usual), None)
    if name is None:
        return None
    found = in_nanometres(path, _load(path, name, shapes, count).ravel().astype(np.float64), "", options)
    return None if found is None else found[0]


def _labels(path: Path, shape: tuple[int, ...], limit: float) -> Array:
    """The map of classes [H, W]: the only array of that shape in its file."""
    shapes = _variables(path)
    found = [name for name, one in shapes.items() if one == shape]
    if len(found) != 1:
        told = ", ".join(f"{name} {one}" for name, one in shapes.items()) or "none"
        raise unreadable(path, f"has {len(found)} maps of the cube's shape {shape} (there are: {told})", "Keep one.")
    values = _load(path, found[0], shapes, limit)
    whole = np.rint(values)
    if not (np.array_equal(values, whole) and whole.min() >= -(2**31) and whole.max() < 2**31):
        raise unreadable(path, f"{found[0]!r} holds no whole numbers", "Save classes as integers.")
    kinds = ("uint8", "uint16", "int32")
    kind = next(kind for kind in kinds if np.iinfo(kind).min <= whole.min() and whole.max() <= np.iinfo(kind).max)
    return np.ascontiguousarray(whole.astype(kind))


importer = Importer(
    name="matlab_cubes",
    title="hyperspectral cubes in MATLAB files (.mat)",
    modality="hyperspectral",
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "cube": "name of the array (default: the only one of three axes)",
        "shape": "HEIGHTxWIDTH of a cube that is stored as a table of bands and pixels",
        "order": "of that table's pixels: column (default; down the columns first, as MATLAB counts) or row",
        "wavelength": f"name of the array with a wavelength per band (default: {', '.join(_WAVELENGTHS)})",
        "max_values": f"refuse arrays that claim more (default {_MAX_VALUES:.0f})",
        **NAN_OPTION,
        **UNIT_OPTION,
        **_metadata.FILE_OPTIONS,
    },
)
