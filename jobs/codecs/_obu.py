"""Units of an AV1 bitstream: open bitstream units (OBU), low-overhead format (AV1 specification, 5.3 and 4.10.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sensorium.platform.errors import UnreadableFile

__all__ = ["Unit", "payload", "units"]

# kinds of units (AV1 specification, 6.2.2)
_FRAME_HEADER, _TILE_GROUP, _FRAME, _REDUNDANT_FRAME_HEADER = 3, 4, 6, 7
_CODE_PIXELS = (_FRAME_HEADER, _TILE_GROUP, _FRAME, _REDUNDANT_FRAME_HEADER)


class Unit(NamedTuple):
    """One unit: ``kind`` (``obu_type``) and ``data``, its bytes with header and size."""

    kind: int
    data: bytes


def units(stream: bytes) -> Iterator[Unit]:
    """The units of a stream, one after the other.

    Raises:
        UnreadableFile: a unit's header is not one, or its size is longer than what is left.
    """
    position = 0
    while position < len(stream):
        header = stream[position]
        forbidden, kind, extended, sized = header >> 7, header >> 3 & 15, header >> 2 & 1, header >> 1 & 1
        if forbidden or not sized:
            raise UnreadableFile(f"AV1: no unit with a size at byte {position} of {len(stream)}.")
        size, start = _leb128(stream, position + 1 + extended)
        if start + size > len(stream):
            raise UnreadableFile(f"AV1: the unit at byte {position} is longer than the {len(stream)} bytes there are.")
        yield Unit(kind, stream[position : start + size])
        position = start + size


def payload(stream: bytes) -> int:
    """Bytes of the units that code pixels: frames, their headers and tile groups.

    Raises:
        UnreadableFile: the stream is no sequence of units.
    """
    return sum(len(unit.data) for unit in units(stream) if unit.kind in _CODE_PIXELS)


def _leb128(stream: bytes, position: int) -> tuple[int, int]:
    """A number of 7 bits a byte, least first (4.10.5), and where what follows it begins."""
    number = 0
    for place, byte in enumerate(stream[position : position + 8]):
        number |= (byte & 127) << (7 * place)
        if byte < 128:
            return number, position + place + 1
    raise UnreadableFile(f"AV1: no size of a unit at byte {position} of {len(stream)}.")
