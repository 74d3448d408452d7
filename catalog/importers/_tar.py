"""Headers of tar archives, read strictly and within limits: nothing is unpacked, and only plain files are named.

POSIX ustar with the records of pax and of GNU for long names and large sizes.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from sensorium.catalog.importers._files import unreadable

__all__ = ["Member", "is_tar", "members", "opened"]

_BLOCK = 512
_LONGEST = 1 << 20
_PLAIN, _FOLDER = (b"0", b"\0", b"7"), b"5"
_KINDS = {
    b"1": "a hard link",
    b"2": "a link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
}
_AGAIN = "Write the archive anew with plain files only."
_CUT = "It is cut off or damaged: fetch it anew."


class Member(NamedTuple):
    """A file of an archive: its name, and where its content begins and how long it is."""

    name: str
    offset: int
    size: int


def opened(path: Path) -> IO[bytes]:
    """An archive, unpacked where it is called ``.gz`` or ``.tgz``."""
    if path.suffix.lower() in (".gz", ".tgz"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def is_tar(path: Path) -> bool:
    """Whether a file begins with the header of a member, by its checksum."""
    try:
        with opened(path) as stream:
            return _sum_is_right(stream.read(_BLOCK))
    except (OSError, EOFError, zlib.error):
        return False


def _sum_is_right(header: bytes) -> bool:
    if len(header) != _BLOCK or not header[0]:
        return False
    try:
        told = int(header[148:156].rstrip(b" \0").lstrip(b" ") or b"-1", 8)
    except ValueError:
        return False
    return told == sum(header[:148]) + sum(header[156:]) + 8 * 32


def members(path: Path) -> Iterator[Member]:
    """The plain files of an archive, in order.

    Raises:
        UnreadableFile: it is cut off, or holds a link, a device, or a name that leads out of it.
    """
    try:
        with opened(path) as stream:
            size = path.stat().st_size if path.suffix.lower() == ".tar" else None
            yield from _members(path, stream, size)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, f"cannot be read as an archive ({error})", _CUT) from error


def _members(path: Path, stream: IO[bytes], size: int | None) -> Iterator[Member]:
    told: dict[str, str] = {}
    place = 0
    while True:
        header = stream.read(_BLOCK)
        if not header or not header.strip(b"\0"):
            if len(header) < _BLOCK:  # an archive ends with blocks of zeros
                raise unreadable(path, f"ends at byte {place + len(header)} without an end mark", _CUT)
            return
        if not _sum_is_right(header):
            raise unreadable(path, f"the header at byte {place} is damaged", _CUT)
        kind = header[156:157]
        offset = place + _BLOCK
        length = (
            int(told["size"]) if told.get("size", "").isdecimal() and kind in _PLAIN else _number(path, header[124:136])
        )
        place = offset + -(-length // _BLOCK) * _BLOCK
        if size is not None and offset + length > size:
            raise unreadable(path, f"a member at byte {offset} has {length} bytes, the file has {size}", _CUT)
        if kind in (b"x", b"g", b"L"):
            if length > _LONGEST:
                raise unreadable(path, f"a record at byte {offset} has {length} bytes", _AGAIN)
            record = stream.read(place - offset)[:length]
            if kind != b"g":
                told.update({"path": _text(record)} if kind == b"L" else _pax(path, record))
            continue
        name = told.get("path") or _name(header)
        told = {}
        if kind != _FOLDER:
            _check(path, name, kind)
            yield Member(name, offset, length)
        stream.seek(place)
        if size is None and stream.tell() != place:
            raise unreadable(path, f"a member at byte {offset} has {length} bytes, the archive ends before", _CUT)


def _check(path: Path, name: str, kind: bytes) -> None:
    if kind not in _PLAIN:
        raise unreadable(path, f"{name!r} is {_KINDS.get(kind, f'of type {kind!r}')}", _AGAIN)
    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise unreadable(path, f"the name {name!r} leads out of the archive", _AGAIN)


def _number(path: Path, field: bytes) -> int:
    """Octal digits or, for large numbers, base 256."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        value = int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        value = -1
    if value < 0:
        raise unreadable(path, f"a size is {field!r}", _CUT)
    return value


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def _name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{_text(header[:100])}" if prefix else _text(header[:100])


def _pax(path: Path, record: bytes) -> dict[str, str]:
    """Lines ``LENGTH KEY=VALUE`` of pax; path and size are looked at."""
    found = {}
    while record.strip(b"\0"):
        digits, _, rest = record.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        if not len(digits) + 2 < length <= len(record):
            raise unreadable(path, f"a pax record begins with {record[:20]!r}", _CUT)
        key, _, value = rest[: length - len(digits) - 2].partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise unreadable(path, "holds a sparse file", _AGAIN)
        if key in (b"path", b"size"):
            found[key.decode()] = value.decode("utf-8", "replace")
        record = record[length:]
    return found
