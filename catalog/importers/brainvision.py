"""Recordings in BrainVision files: a header ``.vhdr``, its values ``.eeg`` (or ``.dat``) and its markers ``.vmrk``.

``signal`` is [C, T], float32, voltages (nV, mV, V) converted to µV, other channels in the unit that the header gives;
``units`` says which. ``channels`` are the names as they stand, ``sampling_rate`` is in Hz. Markers become
``annotation_times`` and ``annotation_durations`` (s) with ``annotation_labels`` such as ``Stimulus/S  1``; the first
``New Segment`` says when the recording began and becomes ``recorded``, ISO 8601 in local time (the format knows no zone).

The header names the two other files; both must lie beside it. A marker file that is named and absent is an error, for
without it the stimuli would be lost silently. Values are binary, of any of the three types, or text (ASCII); both in either
order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.fields import Field
from sensorium.catalog.importer import Importer, Item, Source, suffix
from sensorium.catalog.importers import _brainvision_text, _metadata, _mne, _recordings
from sensorium.catalog.importers._files import head, identifiers, number, once, probe, unreadable, visible
from sensorium.catalog.importers._text import lines

__all__ = ["importer"]

_HEADERS = frozenset((".vhdr",))
#: what lies in a folder of such recordings
_PARTS = frozenset((".vhdr", ".vmrk", ".eeg", ".dat"))
_MAX_HEADER = 1 << 24
_BYTES = {"INT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}
#: MNE gives voltages in V where it knows their unit, and siemens so too
_VOLTS = ("V", "mV", "µV", "uV", "nV")
_SIEMENS = ("µS", "uS")
_ENTRY = re.compile(r"([^;=\[\s][^=]*)=(.*)")


@dataclass(frozen=True)
class _Header:
    """What the header says: the units of its channels in their order, the markers beside it, and values that are text."""

    units: tuple[str, ...]
    markers: Path | None
    text: npt.NDArray[np.float64] | None


def _is_header(path: Path) -> float | None:
    if suffix(path) not in _HEADERS:
        return None
    first = head(path, 200).decode("ascii", "ignore").partition("\n")[0]
    return float(re.search(r"Brain ?Vision.*Header File", first) is not None)


def _matches(source: Source) -> float:
    return probe(source, _PARTS, _is_header)


@once
def _known(source: Source) -> _metadata.Known:
    return _metadata.of_files(source, visible(source, _HEADERS), _recordings.RESERVED, also=("subject",))


def _plan(source: Source) -> Iterator[Item]:
    scalars = _known(source).rows
    for path, name in identifiers(source, scalars).items():
        yield Item(name, (path,), scalars[path])


def _fields(source: Source) -> tuple[Field, ...]:
    return (*_known(source).fields(), *_recordings.FIELDS)


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    header = _header(path, number(options, "max_values", _recordings.MAX_VALUES))

    def scales(_raw: Any) -> list[tuple[float, str]]:
        return [_scale(unit) for unit in header.units]

    binary = (
        nullcontext(path) if header.text is None else _brainvision_text.as_binary(path, header.text, header.markers)
    )
    with binary as readable:
        made = _mne.sample(readable, "BrainVision recordings", "read_raw_brainvision", scales, options)
    if "recorded" in made:
        made["recorded"] = made["recorded"].removesuffix("+00:00")  # MNE calls local time UTC
    return {**item.scalars, **made}


def _scale(unit: str) -> tuple[float, str]:
    """What MNE's values of a channel are multiplied by, and their unit then."""
    if unit in _VOLTS:
        return 1e6, "µV"
    if unit in _SIEMENS:
        return 1e6, "µS"
    return _recordings.in_microvolts(unit)  # MNE knows it not, and has left the values as the header scales them


def _header(path: Path, limit: float) -> _Header:
    """The header of a recording whose values are as many as it says.

    Raises:
        UnreadableFile: it is none, contradicts itself or its files, or claims more than the limit.
    """
    if not _is_header(path):
        raise unreadable(
            path, "is no header of a BrainVision recording (its first line says otherwise)", _recordings.EXPORT
        )
    sections = _sections(path)
    common = {**sections.get("common infos", {})}
    count = _whole(path, common, "numberofchannels")
    channels = sections.get("channel infos", {})
    if count < 1 or any(f"ch{place}" not in channels for place in range(1, count + 1)):
        raise unreadable(path, f"claims {count} channels and describes {len(channels)}", "Repair the header.")
    data = _beside(path, common, "datafile")
    if data is None:
        raise unreadable(path, "names no file of values (DataFile=)", "Repair the header.")
    _check_interval(path, common)
    kind = sections.get("binary infos", {}).get("binaryformat", "")
    text = None
    if common.get("dataformat") == "ASCII":
        text = _brainvision_text.values(path, data, common, sections.get("ascii infos", {}), count, limit)
    elif common.get("dataformat") != "BINARY" or kind not in _BYTES:
        problem = f"its values are {common.get('dataformat')} {kind}".rstrip()
        raise unreadable(path, problem, f"Export it as BINARY of {', '.join(_BYTES)}.")
    else:
        _check_length(path, data, common, count * _BYTES[kind], count, limit)
    units = tuple(_unit(channels[f"ch{place}"]) for place in range(1, count + 1))
    return _Header(units, _beside(path, common, "markerfile"), text)


def _sections(path: Path) -> dict[str, dict[str, str]]:
    """The entries of each section, up to the comment; names of sections and entries in lower case."""
    found: dict[str, dict[str, str]] = {}
    entries: dict[str, str] = {}
    for line in lines(path, _MAX_HEADER, fallback="latin-1")[1:]:
        title = re.fullmatch(r"\[(.+)\]\s*", line)
        if title:
            if title[1].lower() == "comment":
                break
            entries = found.setdefault(title[1].lower(), {})
        elif match := _ENTRY.match(line):
            entries[match[1].strip().lower()] = match[2].strip()
    return found


def _unit(entry: str) -> str:
    """The unit of a channel's entry ``name,reference,resolution,unit``; µV where it names none."""
    parts = entry.split(",")
    return (parts[3].replace("\xc2", "").strip() if len(parts) > 3 else "") or "µV"


def _beside(path: Path, common: Mapping[str, str], key: str) -> Path | None:
    """The file beside the header that an entry names."""
    name = common.get(key, "")
    if not name:
        return None
    if re.search(r"[/\\:\0]", name) or name in (".", ".."):
        raise unreadable(path, f"names a file elsewhere, {name!r}", "Bring it beside the header, and name it there.")
    found = path.parent / name
    if not found.is_file():
        raise unreadable(
            path, f"names {name!r}, which is not beside it", f"Fetch it too, or mend {key}= of the header."
        )
    return found


def _check_length(path: Path, data: Path, common: Mapping[str, str], frame: int, channels: int, limit: float) -> None:
    """Refuse values that are cut off, contradict the header, or are too many; ``frame`` has the bytes of one moment."""
    there = data.stat().st_size
    promised = _whole(path, common, "datapoints") if "datapoints" in common else there // frame
    if there == 0 or there != promised * frame:
        problem = f"{data.name} is not as long as the header says: {promised * frame} bytes promised, {there} there"
        raise unreadable(path, problem, "It is cut off or damaged: fetch it anew.")
    _recordings.check_size(path, promised * channels, limit)


def _check_interval(path: Path, common: Mapping[str, str]) -> None:
    interval = common.get("samplinginterval", "")
    if not re.fullmatch(r"\d*\.?\d+([eE][-+]?\d{1,2})?", interval) or float(interval) <= 0:
        raise unreadable(path, f"gives {interval!r} as the interval between values", "Repair the header.")


def _whole(path: Path, common: Mapping[str, str], key: str) -> int:
    text = common.get(key, "")
    if not re.fullmatch(r"\d{1,15}", text):
        raise unreadable(path, f"gives {text!r} as {key}", "Repair the header.")
    return int(text)


importer = Importer(
    name="brainvision",
    title="BrainVision recordings (.vhdr with .eeg and .vmrk)",
    modality="series",
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={**_recordings.OPTIONS, **_metadata.FILE_OPTIONS},
)
