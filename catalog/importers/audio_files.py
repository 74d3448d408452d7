"""Sound files: WAV (RIFF, RIFX, RF64), FLAC, OGG, MP3, AIFF, AU, CAF.

``audio`` is [T] for one channel and [C, T] for more. Files of 16-bit integers (``PCM_16``, FLAC of 16 bits too) stay
int16, so that nothing is lost and nothing doubled; all others become float32 with full scale at 1, which holds up to
24-bit integers exactly and rounds 32-bit integers and doubles to 24 bits. ``sampling_rate`` is in Hz.

A WAV file whose data chunk promises more than the file holds is refused: it was cut off, and would be imported short.

Layouts of well-known collections are recognised where **all** names fit, and become scalars, as if their pattern had been
given as the option ``pattern``: the Free Spoken Digit Dataset (``digit``, ``speaker``, ``take``), VoxCeleb (``speaker``,
``video``, ``utterance``), VCTK (``speaker``, ``utterance``, ``microphone``), Speech Commands (``word``, ``speaker``,
``take``). A text file of a sound's name beside it, or where VCTK keeps it, becomes its ``text``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source, suffix
from sensorium.catalog.importers import _metadata
from sensorium.catalog.importers._files import head, identifiers, number, once, places, probe, stem, unreadable, visible
from sensorium.catalog.importers._text import lines
from sensorium.platform.errors import InvalidSetting, UnreadableFile
from sensorium.platform.optional import require

__all__ = ["LIMIT_OPTION", "SUFFIXES", "decode", "importer"]

SUFFIXES = frozenset((".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf"))
_RIFF = (b"RIFF", b"RIFX", b"RF64")
_MAGIC = (b"fLaC", b"OggS", b"ID3", b".snd", b"caff")
_RESERVED = ("audio", "sampling_rate")
_MAX_VALUES = 1e9
_EXPORT = "Export it anew from its source, or leave it out."
#: what programs write as the size of a chunk when they do not know it yet
_UNKNOWN_SIZES = (0xFFFFFFFF, 0x7FFFFFFF, 0)
#: how far a segment may reach beyond the end of its sound, s; the tolerance of Kaldi's extract-segments
_OVERSHOOT = 0.5
#: collection -> what each place of its files below the source looks like
_LAYOUTS = {
    "fsdd": r"(?:^|/)(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<take>\d+)\.wav$",
    "voxceleb": r"(?:^|/)(?P<speaker>id\d{5})/(?P<video>[^/]+)/(?P<utterance>\d{5})\.(?:wav|flac|m4a)$",
    "vctk": r"(?:^|/)(?P<speaker>[ps]\d{1,3})_(?P<utterance>\d{3})(?:_mic(?P<microphone>\d))?\.(?:wav|flac)$",
    "speech_commands": r"(?:^|/)(?P<word>\w+?)(?:/|__)(?P<speaker>[0-9a-f]{8})_nohash_(?P<take>\d+)\.wav$",
}
_MAX_TEXT = 1 << 20
LIMIT_OPTION = {
    "max_values": f"refuse files whose header claims more values over all channels (default {_MAX_VALUES:.0f})",
}


def _is_sound(path: Path) -> float:
    start = head(path, 12)
    if start[:4] in _RIFF:
        return float(start[8:12] == b"WAVE")
    if start[:4] == b"FORM":
        return float(start[8:12] in (b"AIFF", b"AIFC"))
    frame = len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0  # of MP3; weak, so the name must agree
    return float(start.startswith(_MAGIC) or (frame and suffix(path) == ".mp3"))


def _matches(source: Source) -> float:
    return probe(source, SUFFIXES, _is_sound)


@once
def _known(source: Source) -> _metadata.Known:
    paths = visible(source, SUFFIXES)
    pattern = source.options.get("pattern") or _layout(source, paths)
    patterned = replace(source, options={**source.options, "pattern": pattern}) if pattern else source
    return _metadata.of_files(patterned, paths, _RESERVED)


def _layout(source: Source, paths: list[Path]) -> str | None:
    """The pattern of the collection whose layout the option names, or that all places of files have."""
    wanted = source.options.get("layout", "auto")
    if wanted not in ("auto", "none", *_LAYOUTS):
        raise InvalidSetting(f"layout must be auto, none, {', '.join(_LAYOUTS)}; got {wanted!r}.")
    if wanted != "auto":
        return _LAYOUTS.get(wanted)
    where = places(source, paths).values()
    return next((text for text in _LAYOUTS.values() if all(re.search(text, place) for place in where)), None)


@once
def _transcripts(source: Source) -> dict[Path, Path]:
    """Sound -> the text file of its name; none where the option says so, or where a table says what was spoken."""
    mode = source.options.get("transcripts", "auto")
    if mode not in ("auto", "none"):
        raise InvalidSetting(f"transcripts must be auto or none; got {mode!r}.")
    known = _known(source)
    if mode == "none" or "text" in known.types:
        return {}
    root = source.path if source.path.is_dir() else source.path.parent
    beside_one = source.path.is_file()  # then nothing is known of the folders below
    texts = {path.relative_to(root): path for path in (root.glob("*.txt") if beside_one else root.rglob("*.txt"))}
    found = {}
    for path in known.rows:
        place = path.relative_to(root)
        names = (f"{stem(path)}.txt", re.sub(r"_mic\d$", "", stem(path)) + ".txt")
        folders = (place.parent, Path("txt", *place.parent.parts[1:]))
        beside = [texts[folder / name] for folder in folders for name in names if folder / name in texts]
        if beside:
            found[path] = beside[0]
    return found


def _plan(source: Source) -> Iterator[Item]:
    scalars, texts = _known(source).rows, _transcripts(source)
    for path, name in identifiers(source, scalars).items():
        yield Item(name, (path, texts[path]) if path in texts else (path,), scalars[path])


def _fields(source: Source) -> tuple[Field, ...]:
    text = ScalarField("text", pa.string(), description="what is spoken")
    return (*_known(source).fields(), *((text,) if _transcripts(source) else ()))


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    sample = {**item.scalars, **decode(item.paths[0], options)}
    if len(item.paths) > 1:
        sample["text"] = " ".join(" ".join(lines(item.paths[1], _MAX_TEXT)).split())
    return sample


def decode(path: Path, options: Mapping[str, str], start: float = 0.0, stop: float | None = None) -> dict[str, Any]:
    """``audio`` and ``sampling_rate`` of a sound file, or of the part from ``start`` to ``stop`` (s), to the next value.

    Raises:
        UnreadableFile: it cannot be decoded, is cut off, too large, not finite, or does not reach to ``stop``.
    """
    limit = number(options, "max_values", _MAX_VALUES)
    soundfile = require("soundfile", "read sound files")
    try:
        with path.open("rb") as stream:
            _check_complete(path, stream)
        with soundfile.SoundFile(path) as sound:
            rate = float(sound.samplerate)
            first, wanted = _part(path, sound, start, stop)
            _check_header(path, wanted, sound.channels, limit)
            if first:
                sound.seek(first)
            audio = sound.read(
                wanted, dtype="int16" if sound.subtype == "PCM_16" else "float32", always_2d=True
            )  # [T, C]
    except UnreadableFile:
        raise
    except (OSError, EOFError, ValueError, RuntimeError, struct.error) as error:
        raise unreadable(path, f"cannot be decoded as sound ({_reason(error, path)})", _EXPORT) from error
    if len(audio) < wanted:
        raise unreadable(path, f"is cut off: {wanted} values per channel promised, {len(audio)} there", _EXPORT)
    if audio.dtype.kind == "f" and not np.isfinite(audio).all():
        index = int(np.flatnonzero(~np.isfinite(audio).all(axis=1))[0])
        raise unreadable(path, f"value {index} is {audio[index].tolist()}, not finite", "Repair or leave it out.")
    channels = np.ascontiguousarray(audio.T)  # [C, T]
    return {"audio": channels[0] if len(channels) == 1 else channels, "sampling_rate": rate}


def _part(path: Path, sound: Any, start: float, stop: float | None) -> tuple[int, int]:
    """The first value of a part of a sound, and how many it has."""
    first = round(start * sound.samplerate)
    last = sound.frames if stop is None else round(stop * sound.samplerate)
    if last - sound.frames > _OVERSHOOT * sound.samplerate or (first >= min(last, sound.frames) and sound.frames > 0):
        there = sound.frames / max(1, sound.samplerate)
        asked = f"{start:g} s to {'the end' if stop is None else f'{stop:g} s'}"
        raise unreadable(
            path, f"has {there:g} s, and the part from {asked} is asked for", "Mend the table of segments."
        )
    return first, min(last, sound.frames) - first


def _check_header(path: Path, frames: int, channels: int, limit: float) -> None:
    if frames <= 0 or channels <= 0:
        raise unreadable(path, f"holds no sound ({frames} values, {channels} channels)", "Leave it out.")
    values = frames * channels
    if values > limit:
        raise unreadable(
            path,
            f"its header claims {frames} values in {channels} channels, more than the limit of {limit:g}",
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
        **LIMIT_OPTION,
        "layout": f"names of files of a collection: {', '.join(_LAYOUTS)}; auto (default): the one that all fit; none",
        "transcripts": "auto (default): a text file of a sound's name beside it is its text; none",
        **_metadata.FILE_OPTIONS,
    },
)
