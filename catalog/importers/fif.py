"""Recordings in FIF files, raw data of MEG and EEG as Elekta's recorders and MNE-Python write them: ``.fif``, ``.fif.gz``.

``signal`` is [C, T], float32: voltages in µV, magnetometers in T, gradiometers in T/m, trigger channels as their codes;
``units`` says which. ``channels`` are the names, ``bad_channels`` those that were marked as bad, ``sampling_rate`` is in
Hz. Annotations become ``annotation_times`` and ``annotation_durations`` (s) with ``annotation_labels``. ``recorded`` is
when the recording began, ISO 8601 in UTC. Persons are not imported.

A recording that was split over several files is one sample, and all must lie in one folder; its later parts
(``name-1.fif``, ``name_split-02_raw.fif``) are no samples of their own. Files of epochs, averages, models and the like in
the same folder are left out. Gaps that the recorder left are zeros, with the annotation ``BAD_ACQ_SKIP``.
"""

from __future__ import annotations

import gzip
import re
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _metadata, _mne, _recordings
from sensorium.catalog.importers._files import identifiers, number, once, probe, stem, suffix, unreadable, visible
from sensorium.platform.errors import UnreadableFile

__all__ = ["importer"]

_SUFFIXES = frozenset((".fif", ".fif.gz"))
#: the first tag of every file: its kind, type and size
_MAGIC = struct.pack(">3i", 100, 31, 20)
_TAG = struct.Struct(">4i")
_BLOCK_START = 104
#: blocks of raw data: plain, continuous, and of internal active shielding
_RAW_BLOCKS = frozenset(struct.pack(">i", block) for block in (102, 112, 119))
#: tags before the first block of raw data are a few thousand at most
_TAGS = 1_000_000
_UNITS = {107: "V", 112: "T", 201: "T/m", 101: "Ω", 114: "°C"}
_STIMULUS = "stim"
#: of a packed file, besides its values, which have 8 bytes at most
_MORE_BYTES = 1 << 28
#: what files raise that are no gzip, or end within it
_FAULTS = (OSError, EOFError, zlib.error)
_PART = re.compile(r"(?P<stem>.+)(-[1-9]\d*|_split-(0[2-9]|[1-9]\d))(?P<end>(_[a-z]+)?)")


def _is_packed(path: Path) -> bool:
    return suffix(path).endswith(".gz")


def _opened(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path)) if _is_packed(path) else path.open("rb")


def _is_fif(path: Path) -> float:
    try:
        with _opened(path) as stream:
            return float(stream.read(len(_MAGIC)) == _MAGIC)
    except _FAULTS:
        return 0.0


def _matches(source: Source) -> float:
    return probe(source, _SUFFIXES, _is_fif)


def _tags(path: Path) -> Iterator[tuple[int, bytes]]:
    """Kind and first four bytes of each tag; says so where the file ends before the last one does."""
    size = _MORE_BYTES if _is_packed(path) else path.stat().st_size  # no more of it is inflated to know what it is
    place = 0
    with _opened(path) as stream:
        for _ in range(_TAGS):
            stream.seek(place)
            start = stream.read(_TAG.size + 4)
            if len(start) < _TAG.size:
                break
            kind, _type, length, following = _TAG.unpack(start[: _TAG.size])
            after = place + _TAG.size + length
            if length < 0 or after > size or 0 < following <= place:
                break
            yield kind, start[_TAG.size :]
            if following < 0:
                return
            place = following or after
    raise unreadable(path, f"is cut off or damaged: it has no tag at byte {place}", "Fetch it anew.")


def _has_raw(path: Path) -> bool:
    """Whether a file holds raw data; all of its tags are looked at only where it does not."""
    return any(kind == _BLOCK_START and value in _RAW_BLOCKS for kind, value in _tags(path))


@once
def _wanted(source: Source) -> list[Path]:
    """The files that are samples: neither later parts of others, nor whole files of something else."""
    files = visible(source, _SUFFIXES)
    if source.path.is_file():
        return files
    there = set(files)
    wanted = [path for path in files if not _is_part(path, there) and (not _is_fif(path) or _is_raw_or_broken(path))]
    if not wanted:
        raise unreadable(source.path, "none of its FIF files holds raw data", "Name the folder of the recordings.")
    return wanted


def _is_raw_or_broken(path: Path) -> bool:
    """A broken file stays in the plan, so that reading it says what is wrong."""
    try:
        return _has_raw(path)
    except (UnreadableFile, *_FAULTS):
        return True


def _is_part(path: Path, there: set[Path]) -> bool:
    """Whether a file is called like a later part of another one that is there."""
    match = _PART.fullmatch(stem(path))
    if not match:
        return False
    return any(
        path.with_name(f"{match['stem']}{first}{match['end']}{suffix(path)}") in there for first in ("", "_split-01")
    )


@once
def _known(source: Source) -> _metadata.Known:
    reserved = (*_recordings.RESERVED, "bad_channels")
    return _metadata.of_files(source, _wanted(source), reserved, also=("subject",))


def _plan(source: Source) -> Iterator[Item]:
    scalars = _known(source).rows
    for path, name in identifiers(source, scalars).items():
        yield Item(name, (path,), scalars[path])


def _fields(source: Source) -> tuple[Field, ...]:
    bad = ScalarField("bad_channels", pa.list_(pa.string()), description="channels that were marked as bad")
    return (*_known(source).fields(), *_recordings.FIELDS, bad)


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    if not _is_packed(path):
        return {**item.scalars, **_recording(path, options)}
    with _unpacked(path, 8 * number(options, "max_values", _recordings.MAX_VALUES) + _MORE_BYTES) as made:
        try:
            return {**item.scalars, **_recording(made, options)}
        except UnreadableFile as error:
            raise UnreadableFile(str(error).replace(str(made), str(path))) from error


@contextmanager
def _unpacked(path: Path, limit: float) -> Iterator[Path]:
    """The file without its gzip, in which MNE would read every block from the beginning."""
    with tempfile.TemporaryDirectory(prefix="sensorium-") as place:
        made = Path(place, path.name.removesuffix(".gz").removesuffix(".GZ"))
        try:
            with _opened(path) as packed, made.open("wb") as plain:
                while block := packed.read(1 << 20):
                    if plain.tell() > limit:
                        remedy = "Cut it into pieces, or, if it is real, raise the limit with max_values=."
                        raise unreadable(path, f"inflates to more than {limit:g} bytes", remedy)
                    plain.write(block)
        except _FAULTS as error:
            raise unreadable(path, f"cannot be unpacked ({error})", "Fetch it anew.") from error
        yield made


def _recording(path: Path, options: Mapping[str, str]) -> dict[str, Any]:
    """What becomes of a file that is not packed."""
    try:
        if not _is_fif(path):
            raise unreadable(path, "is no FIF file (its first tag says otherwise)", _recordings.EXPORT)
        # to the end, for MNE would read a file that is cut off as a short one
        blocks = [value for kind, value in _tags(path) if kind == _BLOCK_START]
    except OSError as error:
        raise unreadable(path, f"cannot be read ({error.strerror or error})", "Check that it is there.") from error
    if not _RAW_BLOCKS.intersection(blocks):
        raise unreadable(path, "holds no raw data", "Leave it out.")
    bad: list[str] = []

    def scales(recording: Any) -> list[tuple[float, str]]:
        bad.extend(str(name) for name in recording.info["bads"])
        kinds = recording.get_channel_types()
        return [_scale(channel, kind) for channel, kind in zip(recording.info["chs"], kinds, strict=True)]

    made = _mne.sample(path, "FIF recordings", "read_raw_fif", scales, options)
    kept = [name for name in bad if name in made["channels"]]
    return {**made, **({"bad_channels": kept} if kept else {})}


def _scale(channel: Mapping[str, Any], kind: str) -> tuple[float, str]:
    """MNE's values have the unit that the file declares; triggers are declared to be volts, and are codes."""
    if kind == _STIMULUS:
        return 1.0, ""
    return _recordings.in_microvolts(_UNITS.get(int(channel["unit"]), ""))


importer = Importer(
    name="fif",
    title="FIF recordings of MEG and EEG, raw (.fif, .fif.gz)",
    modality="series",
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={**_recordings.OPTIONS, **_metadata.FILE_OPTIONS},
)
