"""Arrays of numbers in MATLAB files of version 5 to 7.2, by the published format; whatever else is in them is passed over.

It is read here, with NumPy and zlib only: the usual library ends the whole process on files with a wrong bit. Format:
"MAT-File Format", The MathWorks, chapter 1.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from sensorium.catalog.importers._files import head, unreadable
from sensorium.platform.errors import UnreadableFile

__all__ = ["is_matlab5", "load", "shapes"]

_MATRIX, _COMPRESSED = 14, 15
#: classes of arrays: double, single, and integers of 8 to 64 bits
_NUMBERS = range(6, 16)
_COMPLEX = 0x0800
#: types of stored values
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
#: of an array: flags, axes and name
_HEADER_BYTES = 4096
_DAMAGED = "It is cut off or damaged: fetch it anew."


@dataclass(frozen=True)
class _Array:
    """An array of numbers: place and length of its element in the file, order of bytes, and where its values begin."""

    name: str
    shape: tuple[int, ...]
    is_complex: bool
    packed: bool
    start: int
    length: int
    order: str
    body: int


def is_matlab5(path: Path) -> bool:
    """By the text at its start, and the mark of its byte order."""
    start = head(path, 128)
    return start.startswith(b"MATLAB 5.0 MAT-file") and start[126:128] in (b"IM", b"MI")


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The arrays of numbers with their shapes, by their headers.

    Raises:
        UnreadableFile: the file is damaged.
    """
    return {array.name: array.shape for array in _arrays(path)}


def load(path: Path, name: str) -> npt.NDArray[Any]:
    """The array ``name`` in the type in which it is stored.

    Raises:
        UnreadableFile: it is not there, complex, or shorter than its header says.
    """
    array = next((one for one in _arrays(path) if one.name == name), None)
    if array is None or array.is_complex:
        problem = f"has no array of real numbers {name!r}"
        raise unreadable(path, problem if array is None else f"{name!r} is complex", "Name another array.")
    values = math.prod(array.shape)
    content = _content(path, array, array.body + 8 + 8 * values + 8)
    try:
        kind, start, length = _tag(content, array.body, array.order)
        stored = np.dtype(_TYPES[kind]).newbyteorder("<" if array.order == "<" else ">")
        if length != values * stored.itemsize:
            raise unreadable(path, f"{name!r} claims {array.shape}, and has {length} bytes of {stored}", _DAMAGED)
        flat = np.frombuffer(content, stored, values, start)
    except (KeyError, ValueError, struct.error) as error:
        raise unreadable(path, f"{name!r} cannot be read ({error})", _DAMAGED) from error
    return flat.astype(stored.newbyteorder("="), copy=False).reshape(array.shape, order="F")


def _arrays(path: Path) -> Iterator[_Array]:
    end = path.stat().st_size
    try:
        with path.open("rb") as stream:
            order = "<" if stream.read(128)[126:] == b"IM" else ">"
            while stream.tell() < end:
                kind, length = struct.unpack(f"{order}II", stream.read(8))
                start = stream.tell()
                if start + length > end:
                    raise unreadable(path, f"claims {length} bytes from {start} on, and has {end}", _DAMAGED)
                if kind in (_MATRIX, _COMPRESSED):
                    found = _header(stream, order, start, length, packed=kind == _COMPRESSED)
                    if found is not None:
                        yield found
                stream.seek(start + length)
    except UnreadableFile:
        raise
    except (OSError, ValueError, struct.error, zlib.error) as error:
        raise unreadable(path, f"cannot be read as MATLAB ({error})", _DAMAGED) from error


def _header(stream: BinaryIO, order: str, start: int, length: int, *, packed: bool) -> _Array | None:
    """The array that an element holds; None where it is something else, such as a cell, a structure or a text."""
    content = stream.read(min(length, _HEADER_BYTES))
    if packed:  # the element of the array, with its tag, is inside
        content = zlib.decompressobj().decompress(content, _HEADER_BYTES)
        if struct.unpack_from(f"{order}I", content)[0] != _MATRIX:
            return None
        content = content[8:]
    _, place, size = _tag(content, 0, order)
    flags = struct.unpack_from(f"{order}I", content, place)[0]
    if flags & 0xFF not in _NUMBERS:
        return None
    _, place, bytes_of_shape = _tag(content, _padded(place + size), order)
    shape = struct.unpack_from(f"{order}{bytes_of_shape // 4}i", content, place)
    after = _padded(place + bytes_of_shape)
    _, place, size = _tag(content, after, order)
    name = content[place : place + size].decode("latin-1")
    if min(shape, default=-1) < 0 or not name:
        return None
    return _Array(name, shape, bool(flags & _COMPLEX), packed, start, length, order, _padded(place + size))


def _tag(content: bytes | memoryview, place: int, order: str) -> tuple[int, int, int]:
    """Type of an element, where its values begin, and their length; up to four bytes stand in the tag itself."""
    kind, length = struct.unpack_from(f"{order}II", content, place)
    if kind >> 16:
        return kind & 0xFFFF, place + 4, kind >> 16
    return kind, place + 8, length


def _padded(place: int) -> int:
    return (place + 7) // 8 * 8


def _content(path: Path, array: _Array, most: int) -> bytes | memoryview:
    """The element of an array without its tag; of a compressed one no more than ``most`` bytes, and its checksum holds."""
    try:
        with path.open("rb") as stream:
            stream.seek(array.start)
            content = stream.read(array.length)
        if not array.packed:
            return content
        inflater = zlib.decompressobj()
        inflated = inflater.decompress(content, most + 8)
    except (OSError, zlib.error) as error:
        raise unreadable(path, f"{array.name!r} cannot be read ({error})", _DAMAGED) from error
    if not inflater.eof:
        raise unreadable(path, f"{array.name!r} is longer or shorter than its header says", _DAMAGED)
    return memoryview(inflated)[8:]
