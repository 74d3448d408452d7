"""Video files: MP4, MOV, MKV, WebM, AVI.

The file goes in as it is, as ``encoded`` [B] of uint8, and nothing is lost: ``sensorium.catalog.video_stream`` gives its frames
by number. With ``decode=yes`` the sample has ``frames`` [T, H, W, 3], RGB, instead. Scalars in either case: ``frame_rate`` (Hz,
the mean where it varies), ``frame_count``, ``width`` and ``height`` (px, as stored), ``codec`` (FFmpeg's name), ``duration``
(s), and ``rotation`` (degrees anticlockwise that a player turns the frames by) where it is not 0. Sound stays in ``encoded``
and is not looked at. Of several videos in one file the first is meant.

A file that is shorter than its own boxes, segments or chunks say is refused: it was cut off. Packets are counted, and the
first and last frame decoded, before a video is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _metadata
from sensorium.catalog.importers._files import head, identifiers, number, once, probe, unreadable, visible
from sensorium.catalog.video_stream import VideoStream
from sensorium.platform.errors import InvalidSetting

__all__ = ["importer"]

_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"))
_SCALARS = (
    ScalarField("frame_count", pa.int64(), description="number of frames"),
    ScalarField("width", pa.int64(), unit="px"),
    ScalarField("height", pa.int64(), unit="px"),
    ScalarField("codec", pa.string(), description="FFmpeg's name of it"),
    ScalarField("duration", pa.float64(), unit="s"),
    ScalarField("rotation", pa.int64(), unit="degree", description="anticlockwise, that a player turns frames by"),
)
_RESERVED = ("encoded", "frames", "frame_rate", *(field.name for field in _SCALARS))
_MAX_BYTES = 4e9
_MAX_PIXELS = 100e6
_EXPORT = "Export it anew from its source, or leave it out."
_CUT = "It is cut off: fetch it anew."
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
#: of pictures and sound in the boxes of MP4
_FOREIGN_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis", b"M4A ", b"M4B ", b"jp2 ", b"crx ")
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide")


def _is_video(path: Path) -> float:
    start = head(path, 64)
    if start[:4] == b"RIFF":
        return float(start[8:12] == b"AVI ")
    if start[:4] == _EBML.to_bytes(4, "big"):
        return 1.0
    return float(start[4:8] in _FIRST_BOXES and start[8:12] not in _FOREIGN_BRANDS)


def _matches(source: Source) -> float:
    return probe(source, _SUFFIXES, _is_video)


@once
def _known(source: Source) -> _metadata.Known:
    return _metadata.of_files(source, visible(source, _SUFFIXES), _RESERVED)


def _plan(source: Source) -> Iterator[Item]:
    scalars = _known(source).rows
    for path, name in identifiers(source, scalars).items():
        yield Item(name, (path,), scalars[path])


def _fields(source: Source) -> tuple[Field, ...]:
    return (*_known(source).fields(), *_SCALARS)


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    decode = _decoded(options)
    limit = number(options, "max_bytes", _MAX_BYTES)
    try:
        size = path.stat().st_size
        if size > limit:
            raise unreadable(
                path,
                f"has {size} bytes, more than the limit of {limit:g}",
                f"Cut it into clips, or, if it is real, raise the limit with max_bytes={size}.",
            )
        with path.open("rb") as stream:
            _check_complete(path, stream, size)
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise unreadable(path, f"cannot be read ({error})", _EXPORT) from error
    with VideoStream(content, str(path)) as video:
        found = _described(path, video, number(options, "max_pixels", _MAX_PIXELS))
        if not decode:
            return {**item.scalars, **found, "encoded": content}
        claimed = found["frame_count"] * found["width"] * found["height"] * 3
        if claimed > limit:
            raise unreadable(
                path,
                f"its {found['frame_count']} frames have {claimed} bytes, more than the limit of {limit:g}",
                f"Leave decode=yes out, or, if it is real, raise the limit with max_bytes={claimed}.",
            )
        return {**item.scalars, **found, "frames": video.frames()}


def _decoded(options: Mapping[str, str]) -> bool:
    text = options.get("decode", "no")
    if text not in ("yes", "no"):
        raise InvalidSetting(f"decode must be yes or no; got {text!r}.")
    return text == "yes"


def _described(path: Path, video: VideoStream, limit: float) -> dict[str, Any]:
    """The scalars of a video that holds what its header says, as far as its packets and ends show."""
    header = video.header
    pixels = header.width * header.height
    if pixels < 1:
        raise unreadable(path, f"its header claims frames of {header.width} x {header.height} pixels", _EXPORT)
    if pixels > limit:
        raise unreadable(
            path,
            f"its header claims frames of {header.width} x {header.height} pixels, more than the limit of "
            f"{limit / 1e6:g} megapixels",
            f"Make it smaller, or, if it is real, raise the limit with max_pixels={pixels}.",
        )
    count = len(video)
    if count < 1:
        raise unreadable(path, "has no frame", "Leave it out.")
    # the last packet may have a longer time than it shows, but not a hundredth of the whole
    if (
        video.end
        and header.frame_rate
        and header.seconds - video.end > max(2 / header.frame_rate, 0.01 * header.seconds)
    ):
        raise unreadable(path, f"its header claims {header.seconds:g} s, its packets end at {video.end:g} s", _CUT)
    for _ in video.pick(sorted({0, count - 1})):
        continue
    duration = video.end or header.seconds
    rate = header.frame_rate or (count / duration if duration else 0.0)
    if not 0 < rate < float("inf"):
        raise unreadable(path, "says nothing of its frame rate", _EXPORT)
    found = {
        "frame_rate": rate,
        "frame_count": count,
        "width": header.width,
        "height": header.height,
        "codec": header.codec,
        "duration": duration or count / rate,
    }
    return {**found, "rotation": video.rotation} if video.rotation else found


def _check_complete(path: Path, stream: BinaryIO, size: int) -> None:
    """Refuse a file that is shorter than its parts say; decoders would take it as a shorter video."""
    if not _is_video(path):
        raise unreadable(path, "is no video file of a known kind (its first bytes say otherwise)", _EXPORT)
    start = stream.read(4)
    stream.seek(0)
    if start == b"RIFF":
        _check_chunks(path, stream, size)
    elif start == _EBML.to_bytes(4, "big"):
        _check_segment(path, stream, size)
    else:
        _check_boxes(path, stream, size)


def _check_boxes(path: Path, stream: BinaryIO, size: int) -> None:
    """ISO/IEC 14496-12, 4.2: a box has 32 bits of size and four letters; size 1 has 64 bits more, 0 goes to the end."""
    kinds: set[bytes] = set()
    place = 0
    while place < size:
        stream.seek(place)
        start = stream.read(16)
        length, kind = int.from_bytes(start[:4], "big"), start[4:8]
        if {b"moov", b"mdat"} <= kinds and not kind.isalnum():
            break  # some programs write something of their own behind
        if length == 1:
            length = int.from_bytes(start[8:16], "big")
        elif length == 0:
            length = size - place
        if length < 8 or place + length > size:
            there = size - place
            raise unreadable(
                path, f"box {kind.decode('latin-1')!r} has {length} bytes, of which {there} are there", _CUT
            )
        kinds.add(kind)
        place += length
    if b"moov" not in kinds:
        raise unreadable(path, "has no list of its frames (moov)", _CUT)


def _check_segment(path: Path, stream: BinaryIO, size: int) -> None:
    """RFC 8794: an element has an id and a size of variable length; a size of ones alone is not known."""
    while (place := stream.tell()) < size:
        identifier, length = _variable(stream, keep_mark=True), _variable(stream, keep_mark=False)
        if length is not None and stream.tell() + length > size:
            there = size - stream.tell()
            raise unreadable(path, f"an element at byte {place} has {length} bytes, of which {there} are there", _CUT)
        if identifier == _SEGMENT or length is None:
            return
        stream.seek(length, 1)
    raise unreadable(path, "has no segment", _CUT)


def _variable(stream: BinaryIO, *, keep_mark: bool) -> int | None:
    first = stream.read(1)
    width = 9 - first[0].bit_length() if first else 1
    rest = stream.read(width - 1)
    value = int.from_bytes((first or b"\0") + rest, "big")
    if keep_mark:
        return value
    value &= (1 << 7 * width) - 1
    return None if value == (1 << 7 * width) - 1 else value


def _check_chunks(path: Path, stream: BinaryIO, size: int) -> None:
    """RIFF chunks AVI and, in large files, AVIX."""
    place = 0
    while place + 12 <= size:
        stream.seek(place)
        start = stream.read(12)
        if start[:4] != b"RIFF":
            return
        length = int.from_bytes(start[4:8], "little")
        if place + 8 + length > size:
            there = size - place - 8
            raise unreadable(path, f"its chunk at byte {place} has {length} bytes, of which {there} are there", _CUT)
        place += 8 + length + length % 2


importer = Importer(
    name="videos",
    title="video files (MP4, MOV, MKV, WebM, AVI)",
    modality="video",
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "decode": "yes: store frames [T, H, W, 3] (default no: store the file's own bytes, decoded when they are read)",
        "max_bytes": f"refuse files, or with decode=yes frames, of more (default {_MAX_BYTES:.0f})",
        "max_pixels": f"refuse videos whose header claims more per frame (default {_MAX_PIXELS:.0f})",
        **_metadata.FILE_OPTIONS,
    },
)
