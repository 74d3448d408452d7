"""Sound files: WAV (RIFF, RIFX, RF64), FLAC, OGG, MP3, AIFF, AU, CAF.

``audio`` is [T] for one channel and [C, T] for more. Files of 16-bit integers (``PCM_16``, FLAC of 16 bits too) stay
int16, so that nothing is lost and nothing doubled; all others become float32 with full scale at 1, which holds up to
24-bit integers exactly and rounds 32-bit integers and doubles to 24 bits. ``sampling_rate`` is in Hz.

A WAV file whose data chunk promises more than the file holds is refused: it was cut off, and would be imported short.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sensorium.catalog.fields import Field
from sensorium.catalog.importer import Importer, Item, Source, suffix
from sensorium.catalog.importers import _folders, _metadata
from sensorium.catalog.importers._files import head, identifiers, number, once, probe, unreadable, visible
from sensorium.platform.errors import UnreadableFile
from sensorium.platform.optional import require

__all__ = ["importer"]

_SUFFIXES = frozenset((".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf"))
_RIFF = (b"RIFF", b"RIFX", b"RF64")
_MAGIC = (b"fLaC", b"OggS", b"ID3", b".snd", b"caff")
_RESERVED = ("audio", "sampling_rate")
_MAX_VALUES = 1e9
_EXPORT = "Export it anew from its source, or leave it out."
#: what programs write as the size of a chunk when they do not know it yet
_UNKNOWN_SIZES = (0xFFFFFFFF, 0x7FFFFFFF, 0)


def _is_sound(path: Path) -> float:
    start = head(path, 12)
    if start[:4] in _RIFF:
        return float(start[8:12] == b"WAVE")
    if start[:4] == b"FORM":
        return float(start[8:12] in (b"AIFF", b"AIFC"))
    frame = len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0  # of MP3; weak, so the name must agree
    return float(start.startswith(_MAGIC) or (frame and suffix(path) == ".mp3"))


def _matches(source: Source) -> float:
    return probe(source, _SUFFIXES, _is_sound)


@once
def _known(source: Source) -> _metadata.Known:
    return _metadata.of_files(source, visible(source, _SUFFIXES), _RESERVED)


def _plan(source: Source) -> Iterator[Item]:
    scalars = _known(source).rows
    for path, name in identifiers(source, scalars).items():
        yield Item(name, (path,), scalars[path])


def _fields(source: Source) -> tuple[Field, ...]:
    return _known(source).fields()


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    limit = number(options, "max_values", _MAX_VALUES)
    soundfile = require("soundfile", "read sound files")
    try:
        with path.open("rb") as stream:
            _check_complete(path, stream)
        with soundfile.SoundFile(path) as sound:
            _check_header(path, sound, limit)
            audio = sound.read(dtype="int16" if sound.subtype == "PCM_16" else "float32", always_2d=True)  # [T, C]
            claimed, rate = sound.frames, float(sound.samplerate)
    except UnreadableFile:
        raise
    except (OSError, EOFError, ValueError, RuntimeError, struct.error) as error:
        raise unreadable(path, f"cannot be decoded as sound ({_reason(error, path)})", _EXPORT) from error
    if len(audio) < claimed:
        raise unreadable(path, f"is cut off: {claimed} values per channel promised, {len(audio)} there", _EXPORT)
    if audio.dtype.kind == "f" and not np.isfinite(audio).all():
        index = int(np.flatnonzero(~np.isfinite(audio).all(axis=1))[0])
        raise unreadable(path, f"value {index} is {audio[index].tolist()}, not finite", "Repair or leave it out.")
    channels = np.ascontiguousarray(audio.T)  # [C, T]
    return {**item.scalars, "audio": channels[0] if len(channels) == 1 else channels, "sampling_rate": rate}


def _check_header(path: Path, sound: Any, limit: float) -> None:
    if sound.frames <= 0 or sound.channels <= 0:
        raise unreadable(path, f"holds no sound ({sound.frames} values, {sound.channels} channels)", "Leave it out.")
    values = sound.frames * sound.channels
    if values > limit:
        raise unreadable(
            path,
            f"its header claims {sound.frames} values in {sound.channels} channels, more than the limit of {limit:g}",
            f"Cut it into pieces, or, if it is real, raise the limit with max_values={values}.",
        )


def _reason(error: Exception, path: Path) -> str:
    """What the decoder says, without the path (it is named already)."""
    text = str(error).rpartition(f"{str(path)!r}: ")[2]
    return text.strip().rstrip(".") or type(error).__name__


def _check_complete(path: Path, stream: BinaryIO) -> None:
    """Refuse a RIFF file whose data chunk is longer than the rest of the file; libsndfile would read it short."""
    start = stream.read(12)
    if start[:4] not in _RIFF or start[8:12] != b"WAVE":
        return
    order = ">" if start[:4] == b"RIFX" else "<"
    end = path.stat().st_size
    large: int | None = None  # size of the data in RF64, whose chunk of it says -1
    while len(header := stream.read(8)) == 8:
        name, size = struct.unpack(f"{order}4sI", header)
        if name == b"ds64" and size >= 16:
            large = int(struct.unpack("<8xQ", stream.read(16))[0])
            stream.seek(size - 16 + size % 2, 1)
            continue
        if name == b"data":
            promised = large if large is not None and size == 0xFFFFFFFF else size
            there = end - stream.tell()
            if promised > there and promised not in _UNKNOWN_SIZES:
                raise unreadable(path, f"is cut off: {promised} bytes of sound promised, {there} there", _EXPORT)
            return
        stream.seek(size + size % 2, 1)  # chunks are padded to even lengths


importer = Importer(
    name="audio_files",
    title="sound files (WAV, FLAC, OGG, MP3, AIFF)",
    modality="audio",
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "max_values": f"refuse files whose header claims more values over all channels (default {_MAX_VALUES:.0f})",
        **_folders.LABEL_OPTION,
        **_metadata.PATTERN_OPTION,
        **_metadata.OPTIONS,
    },
)
