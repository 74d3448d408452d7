"""Boxes of an ISO base media file (ISO/IEC 14496-12, 4.2), as far as an AVIF of one picture needs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sensorium.platform.errors import UnreadableFile

__all__ = ["Box", "boxes", "item"]

#: A full box begins with a version and flags (4.2).
_VERSION_AND_FLAGS = 4


class Box(NamedTuple):
    """One box: its four-letter ``kind`` and ``data``, what it holds without its header."""

    kind: str
    data: bytes


def boxes(data: bytes) -> Iterator[Box]:
    """The boxes that lie one after the other in ``data``.

    Raises:
        UnreadableFile: a box is shorter than its header, or longer than what is left.
    """
    position = 0
    while position < len(data):
        size, header = int.from_bytes(data[position : position + 4], "big"), 8
        if size == 1:  # then 8 bytes more say how long it is
            size, header = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        if size < header or position + size > len(data):
            raise UnreadableFile(f"no whole box at byte {position} of {len(data)}: its size is {size}.")
        yield Box(data[position + 4 : position + 8].decode("latin-1"), data[position + header : position + size])
        position += size


def item(file: bytes) -> bytes:
    """The only item of a file of one still picture: where its item location box (8.11.3) says.

    Raises:
        UnreadableFile: not the three boxes ``ftyp``, ``meta``, ``mdat`` in order; not one item of one piece; or a piece
            that is not all there.
    """
    outer = list(boxes(file))
    if [box.kind for box in outer] != ["ftyp", "meta", "mdat"]:
        raise UnreadableFile(f"boxes 'ftyp', 'meta' and 'mdat' expected; got {[box.kind for box in outer]}.")
    inner = {box.kind: box.data for box in boxes(outer[1].data[_VERSION_AND_FLAGS:])}
    if "iloc" not in inner:
        raise UnreadableFile(f"no box 'iloc' that says where the picture is; got {sorted(inner)}.")
    start, length = _only_piece(inner["iloc"])
    if not length or start + length > len(file):
        raise UnreadableFile(f"the picture should be {length} bytes from byte {start}; the file has {len(file)}.")
    return file[start : start + length]


def _only_piece(location: bytes) -> tuple[int, int]:
    """Offset and length in the file of the only piece of the only item of an ``iloc`` of version 0."""
    version, widths = location[:1], location[_VERSION_AND_FLAGS : _VERSION_AND_FLAGS + 2]
    if version != b"\x00" or len(widths) < 2:
        raise UnreadableFile(f"a box 'iloc' of version 0 expected; got {location[:8].hex()!r}.")
    reader = _Reader(location, _VERSION_AND_FLAGS + 2)
    items = reader.number(2)
    reader.number(4)  # which item, and in which file: this one
    base = reader.number(widths[1] >> 4)
    pieces = reader.number(2)
    offset, length = reader.number(widths[0] >> 4), reader.number(widths[0] & 15)
    if (items, pieces) != (1, 1):
        raise UnreadableFile(f"one item of one piece expected; got {items} of {pieces}.")
    return base + offset, length


class _Reader:
    """Numbers of several bytes, one after the other."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position

    def number(self, nbytes: int) -> int:
        """The next number; 0 if it has no bytes."""
        start, self._position = self._position, self._position + nbytes
        if self._position > len(self._data):
            raise UnreadableFile(f"a box ends after {len(self._data)} bytes, in the middle of a number.")
        return int.from_bytes(self._data[start : self._position], "big")
