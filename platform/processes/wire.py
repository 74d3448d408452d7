"""Messages between a service and the processes that work for it: a JSON header and raw buffers.

Nothing is ever unpickled: a worker that a file has taken over can send wrong values, but no code. All that comes is measured
against what was expected before it is stored.

A message is ``SNS1``, the lengths of header and buffers together (uint32, uint64, little endian), the header, and the buffers,
each begun at a multiple of 64 bytes, so that arrays lie as NumPy likes them.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.platform.errors import SensoriumError

__all__ = ["PREFIX", "BadMessage", "decode", "encode", "lengths", "pack", "receive", "send", "unpack"]

Buffer = bytes | memoryview

PREFIX = struct.Struct("<4sIQ")
_MAGIC = b"SNS1"
_ALIGNMENT = 64
_MAX_HEADER = 64 << 20
#: the kinds of NumPy's values that may come back: numbers and booleans
_KINDS = "biufc"
#: messages up to this are sent in one piece
_SMALL = 1 << 18


class BadMessage(SensoriumError, ValueError):
    """A message that breaks the form, or the bounds that were set for it."""


def encode(header: Mapping[str, Any], buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """The pieces of a message in order."""
    text = json.dumps({**header, "sizes": [len(buffer) for buffer in buffers]}).encode()
    pieces: list[Buffer] = []
    total = 0
    for buffer in buffers:
        gap = -len(buffer) % _ALIGNMENT
        pieces += [buffer, bytes(gap)] if gap else [buffer]
        total += len(buffer) + gap
    message = [PREFIX.pack(_MAGIC, len(text), total) + text, *pieces]
    return [b"".join(message)] if total < _SMALL else message


def lengths(prefix: bytes | bytearray, most: int) -> tuple[int, int]:
    """The lengths of header and buffers that a prefix announces.

    Raises:
        BadMessage: it is no prefix, or announces more than ``most`` bytes of buffers.
    """
    magic, header, buffers = PREFIX.unpack(prefix)
    if magic != _MAGIC or header > _MAX_HEADER or buffers > most:
        raise BadMessage(f"a message announces a header of {header} bytes and buffers of {buffers}, more than {most}.")
    return header, buffers


def decode(header: bytes | bytearray, buffers: memoryview) -> tuple[dict[str, Any], list[memoryview]]:
    """The header of a message, and its buffers as views.

    Raises:
        BadMessage: the header is no JSON object, or its sizes are not those of the buffers.
    """
    try:
        content = json.loads(header)
        sizes = [int(size) for size in content.pop("sizes")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadMessage("the header of a message is none.") from error
    if any(size < 0 for size in sizes) or sum(size + -size % _ALIGNMENT for size in sizes) != len(buffers):
        raise BadMessage(f"a message has buffers of {len(buffers)} bytes, and names {sizes[:8]}.")
    views, place = [], 0
    for size in sizes:
        views.append(buffers[place : place + size])
        place += size + -size % _ALIGNMENT
    return content, views


def pack(sample: Mapping[str, Any]) -> tuple[dict[str, Any], list[Buffer]]:
    """A sample as header and buffers."""
    arrays, scalars, buffers = [], {}, []
    for name, value in sample.items():
        if isinstance(value, np.ndarray) and value.ndim:
            whole = np.ascontiguousarray(value)
            arrays.append([name, whole.dtype.str, list(whole.shape)])
            buffers.append(whole.reshape(-1).view(np.uint8).data if whole.size else b"")
        else:
            scalars[name] = value.item() if isinstance(value, (np.ndarray, np.generic)) else value
    return {"arrays": arrays, "scalars": scalars}, list(buffers)


def unpack(header: Mapping[str, Any], buffers: Sequence[memoryview]) -> dict[str, Any]:
    """The sample that :func:`pack` made; its arrays are views of the buffers.

    Raises:
        BadMessage: it contradicts itself, or holds something else than numbers.
    """
    try:
        sample: dict[str, Any] = dict(header["scalars"])
        for (name, dtype, shape), buffer in zip(header["arrays"], buffers, strict=True):
            sample[str(name)] = _array(np.dtype(str(dtype)), tuple(int(length) for length in shape), buffer)
    except BadMessage:
        raise
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise BadMessage(f"a sample that came back is none ({type(error).__name__}).") from error
    return sample


def _array(dtype: np.dtype[Any], shape: tuple[int, ...], buffer: memoryview) -> npt.NDArray[Any]:
    if dtype.kind not in _KINDS or dtype.names is not None:
        raise BadMessage(f"a sample that came back holds values of type {dtype}.")
    array: npt.NDArray[Any] = np.frombuffer(buffer, dtype) if len(buffer) else np.empty(0, dtype)
    return array.reshape(shape)


def send(connection: socket.socket, header: Mapping[str, Any], buffers: Sequence[Buffer] = ()) -> None:
    """Send a message, waiting until all of it has been taken."""
    for piece in encode(header, buffers):
        connection.sendall(piece)


def receive(connection: socket.socket, most: int) -> tuple[dict[str, Any], list[memoryview]] | None:
    """Wait for a message; None where the other side has closed.

    Raises:
        BadMessage: as :func:`lengths` and :func:`decode`, or it ends too early.
    """
    prefix = bytearray(PREFIX.size)
    if not _fill(connection, memoryview(prefix)):
        return None
    header_length, buffers_length = lengths(prefix, most)
    header, buffers = bytearray(header_length), np.empty(buffers_length, np.uint8).data
    if not _fill(connection, memoryview(header)) or not _fill(connection, buffers):
        raise BadMessage("a message ended before its end.")
    return decode(header, buffers)


def _fill(connection: socket.socket, target: memoryview) -> bool:
    place = 0
    while place < len(target):
        count = connection.recv_into(target[place:])
        if not count:
            return False
        place += count
    return True
