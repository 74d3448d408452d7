"""NumPy arrays (``.npy``) from strangers: a strict parser of the header, and no copy of the values.

NumPy's own reader evaluates the header as a Python literal and trusts its shape. Here a regular expression takes the three
entries in the one form in which they are written, and the shape must fill the rest of the file to the byte. It is quick
enough, and sees so little of the file, that it runs in the calling process.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.serve.uploads.errors import NOT_TAKEN, TOO_LARGE, RejectedUpload
from sensorium.serve.uploads.limits import Limits

__all__ = ["MAGIC", "parse"]

MAGIC = b"\x93NUMPY"

_HEADER = re.compile(
    rb"\{\s*'descr':\s*'([<>|=]?)([a-zA-Z])(\d{1,4})'\s*,\s*'fortran_order':\s*(True|False)\s*,"
    rb"\s*'shape':\s*\(([0-9,\sL]{0,160})\)\s*,?\s*\}\s*"
)
_SHAPE = re.compile(rb"(?:\d{1,15}L?,\s*)*(?:\d{1,15}L?)?\s*")
#: bool, signed and unsigned integers, floats and complex numbers with the bytes that they may have
_SIZES = {b"b": (1,), b"i": (1, 2, 4, 8), b"u": (1, 2, 4, 8), b"f": (2, 4, 8), b"c": (8, 16)}
_MAX_RANK = 8
_SAVE = "Save it anew with numpy.save."


def parse(data: bytes | memoryview, limits: Limits, label: str = "the file", *, text: bool = False) -> npt.NDArray[Any]:
    """The array in a ``.npy`` file: a view of ``data``, which must stay; read-only where ``data`` is.

    Args:
        data: the whole file.
        limits: of its header and of its values.
        label: what to call it in a message.
        text: take arrays of text (``U``, ``S``) too.

    Raises:
        RejectedUpload: 413 too large, 415 Python objects or records, 422 damaged.
    """
    start, end = _header_place(data, label, limits)
    match = _HEADER.fullmatch(bytes(data[start:end]))
    if match is None:
        if b"|O" in bytes(data[start:end]):
            raise RejectedUpload(f"{label}: holds Python objects, which are never unpickled. Send numbers.", NOT_TAKEN)
        raise RejectedUpload(f"{label}: its NumPy header is none of a plain array. {_SAVE}")
    order, kind, digits, fortran, lengths = match.groups()
    dtype = _dtype(order, kind, int(digits), label, text=text)
    shape = _shape(lengths, label)
    promised = math.prod(shape) * dtype.itemsize
    if promised > limits.array_bytes:
        raise RejectedUpload(
            f"{label}: its header claims shape {list(shape)} of {dtype}, {promised} bytes, more than {limits.array_bytes}. "
            "Send a smaller array.",
            TOO_LARGE,
        )
    if promised != len(data) - end:
        raise RejectedUpload(
            f"{label}: its header claims shape {list(shape)} of {dtype}, {promised} bytes, and {len(data) - end} follow. "
            + _SAVE
        )
    if not promised:
        return np.empty(shape, dtype)
    values: npt.NDArray[Any] = np.frombuffer(data, dtype, offset=end)
    return values.reshape(shape, order="F" if fortran == b"True" else "C")


def _header_place(data: bytes | memoryview, label: str, limits: Limits) -> tuple[int, int]:
    """Where the header begins and ends."""
    if len(data) < 12 or bytes(data[:6]) != MAGIC or data[6] not in (1, 2, 3):
        raise RejectedUpload(f"{label}: is no NumPy array of format 1 to 3, or is cut off. {_SAVE}")
    start = 10 if data[6] == 1 else 12
    length = int.from_bytes(data[8:start], "little")
    if length > limits.header_bytes:
        raise RejectedUpload(
            f"{label}: its NumPy header has {length} bytes, more than {limits.header_bytes}. {_SAVE}", TOO_LARGE
        )
    if start + length > len(data):
        raise RejectedUpload(f"{label}: is cut off within its NumPy header. {_SAVE}")
    return start, start + length


def _dtype(order: bytes, kind: bytes, size: int, label: str, *, text: bool) -> np.dtype[Any]:
    wanted = text and kind in (b"U", b"S") and 0 < size <= 1024
    if not wanted and size not in _SIZES.get(kind, ()):
        described = (order + kind + str(size).encode()).decode("ascii")
        raise RejectedUpload(
            f"{label}: holds values of type {described!r}. Send integers of up to 64 bits, floats of 16 to 64, or booleans.",
            NOT_TAKEN,
        )
    return np.dtype((order + kind + str(size).encode()).decode("ascii"))


def _shape(lengths: bytes, label: str) -> tuple[int, ...]:
    whole = _SHAPE.fullmatch(lengths.strip()) is not None
    shape = tuple(int(part.strip(b" L")) for part in lengths.split(b",") if part.strip()) if whole else ()
    if not whole or len(shape) > _MAX_RANK:
        raise RejectedUpload(f"{label}: its NumPy header gives no shape of up to {_MAX_RANK} axes. {_SAVE}")
    return shape
