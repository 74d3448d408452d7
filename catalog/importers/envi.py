"""Hyperspectral cubes in ENVI files: a header ``.hdr`` in text, and a file of values beside it.

``cube`` is [H, W, L] (lines, samples, bands) in the type of the file, from any interleave (BIL, BIP, BSQ) and byte order.
``wavelength`` and ``fwhm`` are in nm, one for each band, whether the header has nanometres or micrometres; the bands are
sorted where wavelengths do not increase. ``ignore_value`` (data ignore value) stands for pixels that were not measured,
and ``reflectance_scale`` (reflectance scale factor) is what values must be divided by to be reflectance; both are noted and
not applied.

The file of values is called like the header without ``.hdr``, or like it with another end (``.raw``, ``.img``, ``.dat``,
``.bil``, ``.bip``, ``.bsq``, ``.cube``, none). Its length must be what the header says. Complex values, compressed files
and spectral libraries are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source, suffix
from sensorium.catalog.importers import _metadata
from sensorium.catalog.importers._files import head, identifiers, number, once, probe, unreadable, visible
from sensorium.catalog.importers._finite import NAN_OPTION, finite
from sensorium.catalog.importers._wavelengths import UNIT_OPTION, in_nanometres, increasing
from sensorium.platform.errors import UserError

__all__ = ["importer"]

Array = npt.NDArray[Any]

_SUFFIXES = frozenset((".hdr",))
#: ends of files of values, likeliest first
_DATA = ("", ".raw", ".img", ".dat", ".bil", ".bip", ".bsq", ".cube")
_RESERVED = ("cube", "wavelength", "fwhm", "ignore_value", "reflectance_scale")
_MAX_VALUES = 2e9
_HEADER_BYTES = 1 << 22
_EXPORT = "Export it anew from its source, or leave it out."
_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
#: interleave -> order of the axes in the file (0 lines, 1 samples, 2 bands), slowest first
_AXES = {"bil": (0, 2, 1), "bip": (0, 1, 2), "bsq": (2, 0, 1)}
_KEYS = ("lines", "samples", "bands", "data type", "interleave")


@dataclass(frozen=True)
class _Header:
    """What a header says, checked: ``shape`` is [H, W, L], ``axes`` their order in the file, ``start`` where values begin."""

    shape: tuple[int, int, int]
    kind: np.dtype[Any]
    axes: tuple[int, int, int]
    start: int


def _is_envi(path: Path) -> float | None:
    if suffix(path) not in _SUFFIXES:
        return None
    return float(head(path, 5).rstrip() in (b"ENVI", b"ENVI\n", b"ENVI\r"))


def _matches(source: Source) -> float:
    if source.path.is_file() and suffix(source.path) not in _SUFFIXES:
        return 0.0
    return probe(source, _SUFFIXES | set(_DATA), _is_envi)


@once
def _known(source: Source) -> _metadata.Known:
    return _metadata.of_files(source, visible(source, _SUFFIXES), _RESERVED)


def _plan(source: Source) -> Iterator[Item]:
    scalars = _known(source).rows
    for path, name in identifiers(source, scalars).items():
        yield Item(name, (path,), scalars[path])


def _fields(source: Source) -> tuple[Field, ...]:
    return (
        *_known(source).fields(),
        ScalarField(
            "fwhm", pa.list_(pa.float64()), unit="nm", dims="L", description="width of each band at half maximum"
        ),
        ScalarField("ignore_value", pa.float64(), description="value of pixels that were not measured"),
        ScalarField("reflectance_scale", pa.float64(), description="what values are divided by to be reflectance"),
    )


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    try:
        words = _words(path)
        header = _header(path, words)
        values = math.prod(header.shape)
        limit = number(options, "max_values", _MAX_VALUES)
        if values > limit:
            problem = f"its header claims {values} values {header.shape}, more than the limit of {limit:g}"
            raise unreadable(path, problem, f"Cut it, or, if it is real, raise the limit with max_values={values}.")
        cube = _values(path, header)
        sample = {**item.scalars, **_notes(path, words)}
        bands = _bands(path, words, header.shape[2], options)
    except UserError:
        raise
    except (OSError, ValueError, OverflowError) as error:
        raise unreadable(path, f"cannot be decoded as ENVI ({error})", _EXPORT) from error
    if "wavelength" in bands:
        order = increasing(path, bands["wavelength"])
        cube = cube if np.array_equal(order, np.arange(len(order))) else cube[..., order]
        sample |= {name: numbers[order].tolist() for name, numbers in bands.items()}
    # one copy from the file's order and bytes to ours, so that nothing of the sample is left in the file
    cube = np.array(cube, dtype=header.kind.newbyteorder("="), order="C")
    return {**sample, "cube": finite(path, cube, options)}


def _words(path: Path) -> dict[str, str]:
    """The header's keys in lower case with their values; what stands in braces is one value, over many lines."""
    if not _is_envi(path):
        raise unreadable(path, "is no ENVI header (it does not begin with ENVI)", _EXPORT)
    if path.stat().st_size > _HEADER_BYTES:
        raise unreadable(path, f"is a header of {path.stat().st_size} bytes", _EXPORT)
    words: dict[str, str] = {}
    lines = iter(path.read_bytes().decode("utf-8", "replace").splitlines()[1:])
    for line in lines:
        key, mark, value = line.partition("=")
        if not mark or line.lstrip().startswith(";"):
            continue
        value = value.strip()
        if value.startswith("{"):
            parts = [value]
            while "}" not in parts[-1]:
                more = next(lines, None)
                if more is None:
                    raise unreadable(path, f"is cut off in {key.strip()!r}, which has no }}", _EXPORT)
                parts.append(more)
            value = " ".join(parts).strip("{} ")
        words[" ".join(key.lower().split())] = value
    return words


def _header(path: Path, words: Mapping[str, str]) -> _Header:
    absent = [key for key in _KEYS if key not in words]
    if absent or "library" in words.get("file type", "").lower():
        problem = f"its header has no {absent[0]!r}" if absent else f"is a {words['file type']}, not a cube"
        raise unreadable(path, problem, _EXPORT)
    if words.get("file compression", "0") != "0":
        raise unreadable(path, "has compressed values", "Save it without compression.")
    kind, interleave = int(words["data type"]), words["interleave"].lower()
    if kind not in _TYPES or interleave not in _AXES:
        problem = f"has data type {kind} in interleave {interleave!r}"
        raise unreadable(path, problem, "Save it with real numbers as bil, bip or bsq.")
    order = words.get("byte order", "0")
    shape = (int(words["lines"]), int(words["samples"]), int(words["bands"]))
    start = int(words.get("header offset", "0"))
    if min(shape) < 1 or start < 0 or order not in ("0", "1"):
        problem = f"claims lines, samples and bands {shape}, offset {start} and byte order {order}"
        raise unreadable(path, problem, "Repair its header.")
    return _Header(shape, np.dtype(_TYPES[kind]).newbyteorder(">" if order == "1" else "<"), _AXES[interleave], start)


def _data(path: Path) -> Path:
    """The file of values of a header."""
    bare = path.with_suffix("")
    names = [bare.name + end for end in (*_DATA, *(end.upper() for end in _DATA[1:]))]
    names += [bare.stem + end for end in _DATA if suffix(bare) in _DATA[1:]]
    for name in names:
        if (path.parent / name).is_file():
            return path.parent / name
    raise unreadable(
        path, f"its values are missing: there is no {bare.name}{{{','.join(_DATA)}}}", "Put them beside it."
    )


def _values(path: Path, header: _Header) -> Array:
    """The cube [H, W, L], as a view of the file."""
    data = _data(path)
    claimed = header.start + math.prod(header.shape) * header.kind.itemsize
    there = data.stat().st_size
    if claimed != there:
        problem = (
            f"claims {claimed} bytes ({header.shape} of {header.kind} from {header.start} on), {data.name} has {there}"
        )
        raise unreadable(path, problem, "The file is cut off or the header is wrong: fetch both anew.")
    stored = tuple(header.shape[axis] for axis in header.axes)
    values = np.memmap(data, header.kind, "r", header.start, stored)
    return np.asarray(values).transpose(np.argsort(header.axes))


def _notes(path: Path, words: Mapping[str, str]) -> dict[str, float]:
    keys = {"data ignore value": "ignore_value", "reflectance scale factor": "reflectance_scale"}
    found = {name: _numbers(path, key, words[key]) for key, name in keys.items() if words.get(key)}
    return {name: float(values[0]) for name, values in found.items() if values.size == 1 and np.isfinite(values[0])}


def _bands(path: Path, words: Mapping[str, str], count: int, options: Mapping[str, str]) -> dict[str, Array]:
    """Wavelengths and widths in nm; none where the header has none, or not in a unit of length."""
    if "wavelength" not in words:
        return {}
    result = {key: _numbers(path, key, words[key]) for key in ("wavelength", "fwhm") if words.get(key)}
    for key, values in result.items():
        if len(values) != count:
            raise unreadable(path, f"has {count} bands and {len(values)} values of {key!r}", "Repair its header.")
    if "wavelength" not in result:
        return {}
    found = in_nanometres(path, result["wavelength"], words.get("wavelength units", ""), options)
    if found is None:
        return {}
    wavelength, factor = found
    return {"wavelength": wavelength} | ({"fwhm": result["fwhm"] * factor} if "fwhm" in result else {})


def _numbers(path: Path, key: str, text: str) -> npt.NDArray[np.float64]:
    try:
        return np.array([float(part) for part in re.split(r"[,\s]+", text.strip(" {},")) if part])
    except ValueError as error:
        raise unreadable(path, f"has no numbers in {key!r} ({error})", "Repair its header.") from error


importer = Importer(
    name="envi",
    title="ENVI hyperspectral cubes (.hdr and values)",
    modality="hyperspectral",
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "max_values": f"refuse files whose header claims more (default {_MAX_VALUES:.0f})",
        **NAN_OPTION,
        **UNIT_OPTION,
        **_metadata.FILE_OPTIONS,
    },
)
