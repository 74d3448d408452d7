"""Records of PhysioNet's Waveform Database (WFDB): a header ``.hea``, its values (``.dat``, ``.mat``) and annotations (``.atr``).

``signal`` is [C, T], float32, in the physical units that the header gives, voltages converted to µV as of all recordings;
``units`` says which. ``channels`` are the signals' names, ``sampling_rate`` is in Hz; ``recorded`` is when the recording
began, ISO 8601 in local time, where the header says so. The annotations of the option ``annotator`` become
``annotation_times`` (s), ``annotation_labels`` (WFDB's symbols, such as N and V) and ``annotation_notes`` (rhythms and texts).

All channels of a sample share one rate; the option ``channels`` chooses some where the record has several. Values that the
recorder marked as invalid are not finite: such a record is refused, or gets the number of the option ``nan`` there. What the
header's comments say of the patient is **not** imported. A record of several segments is no sample; its segments are, each
of its own. All files must lie beside the header: names of other folders, and of servers, are refused.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.fields import Field
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _metadata, _recordings
from sensorium.catalog.importers._files import head, identifiers, number, once, probe, unreadable, visible
from sensorium.catalog.importers._finite import NAN_OPTION, finite
from sensorium.catalog.importers._text import lines
from sensorium.platform.errors import InvalidSetting, UnreadableFile
from sensorium.platform.optional import require

__all__ = ["importer"]

_HEADERS = frozenset((".hea",))
#: what lies in a folder of records
_PARTS = _HEADERS | {".dat", ".mat", ".atr", ".qrs", ".ann"}
_MAX_HEADER = 1 << 22
_RECORD = re.compile(
    r"\s*(?P<name>[-\w]+)(/(?P<segments>\d+))?\s+(?P<count>\d{1,5})"
    r"(\s+(?P<rate>\d*\.?\d+)\S*(\s+(?P<length>\d{1,15})(\s.*)?)?)?\s*"
)
_SIGNAL = re.compile(r"\s*(?P<file>\S+)\s+(?P<format>\d+)(x(?P<frame>\d{1,6}))?(:\d+)?(\+(?P<offset>\d{1,15}))?(\s.*)?")
_BESIDE = re.compile(r"[-\w]+(\.\w+)?")
#: bytes of a value; formats that are compressed are not among them
_BYTES = {
    "8": 1.0,
    "16": 2.0,
    "24": 3.0,
    "32": 4.0,
    "61": 2.0,
    "80": 1.0,
    "160": 2.0,
    "212": 1.5,
    "310": 4 / 3,
    "311": 4 / 3,
}


@dataclass(frozen=True)
class _Header:
    """What the header says: values of the record per second, and of each signal in one such step."""

    rate: float
    frames: tuple[int, ...]


def _is_header(path: Path) -> float | None:
    if path.suffix.lower() not in _HEADERS:
        return None
    text = head(path, 4096).decode("utf-8", "replace").splitlines()
    told = [line for line in text if line.strip() and not line.lstrip().startswith("#")]
    record = _RECORD.fullmatch(told[0]) if told else None
    return float(
        record is not None and (len(told) == 1 or record["segments"] or _SIGNAL.fullmatch(told[1])) is not None
    )


def _matches(source: Source) -> float:
    return probe(source, _PARTS, _is_header)


@once
def _known(source: Source) -> _metadata.Known:
    reserved = _recordings.RESERVED
    files = [path for path in visible(source, _HEADERS) if source.path.is_file() or not _has_segments(path)]
    if not files:
        raise unreadable(source.path, "holds headers of several segments only", "Fetch the segments too.")
    return _metadata.of_files(source, files, reserved, also=("subject", "record"))


def _has_segments(path: Path) -> bool:
    first = head(path, 200).decode("utf-8", "replace").partition("\n")[0]
    return re.match(r"\s*[-\w]+/\d+\s", first) is not None


def _plan(source: Source) -> Iterator[Item]:
    scalars = _known(source).rows
    for path, name in identifiers(source, scalars).items():
        yield Item(name, (path,), scalars[path])


def _fields(source: Source) -> tuple[Field, ...]:
    return (*_known(source).fields(), *_recordings.FIELDS)


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    header = _header(path, number(options, "max_values", _recordings.MAX_VALUES))
    record, wanted = _decoded(path, header, options)
    made = [_recordings.in_microvolts(str(unit)) for unit in record.units]
    signal = np.stack(record.e_p_signal)  # [C, T], float64
    scaled = (signal * np.array([factor for factor, _ in made])[:, None]).astype(np.float32)
    sample = {
        **item.scalars,
        "signal": finite(path, scaled, options),
        "sampling_rate": header.rate * header.frames[wanted[0]],
        "channels": [str(name or f"signal {place + 1}") for place, name in zip(wanted, record.sig_name, strict=True)],
        "units": [unit for _, unit in made],
        **_annotations(path, header.rate, options),
    }
    began = record.base_datetime
    return sample if began is None else {**sample, "recorded": began.isoformat()}


def _header(path: Path, limit: float) -> _Header:
    """The header of a record whose files lie beside it and are as long as it says.

    Raises:
        UnreadableFile: it is none, contradicts its files, names others than those beside it, or claims more than the limit.
    """
    told = [
        line
        for line in lines(path, _MAX_HEADER, fallback="latin-1")
        if line.strip() and not line.lstrip().startswith("#")
    ]
    record = _RECORD.fullmatch(told[0]) if told else None
    if record is None:
        raise unreadable(path, "is no header of a WFDB record (its first line says otherwise)", _recordings.EXPORT)
    if record["segments"]:
        raise unreadable(path, f"is a record of {record['segments']} segments", "Import the segments, each of its own.")
    count = int(record["count"])
    signals = [_SIGNAL.fullmatch(line) for line in told[1:]]
    if count < 1 or len(signals) != count or not all(signals):
        raise unreadable(path, f"claims {count} signals and describes {sum(map(bool, signals))}", "Repair the header.")
    described = [signal for signal in signals if signal is not None]
    rate = float(record["rate"] or 250)  # WFDB's own, where a header says nothing
    if rate <= 0:
        raise unreadable(path, "gives 0 Hz as its rate", "Repair the header.")
    frames = tuple(int(signal["frame"] or 1) for signal in described)
    length = int(record["length"] or 0)
    for name in dict.fromkeys(signal["file"] for signal in described):
        _check_file(path, name, [signal for signal in described if signal["file"] == name], length)
    there = sum((path.parent / name).stat().st_size for name in {signal["file"] for signal in described})
    _recordings.check_size(path, length * sum(frames) or there, limit)
    return _Header(rate, frames)


def _check_file(path: Path, name: str, signals: Sequence[re.Match[str]], length: int) -> None:
    """Refuse a file of values that lies elsewhere, is absent, or is shorter than the header says."""
    if not _BESIDE.fullmatch(name):
        raise unreadable(path, f"names a file elsewhere, {name!r}", "Bring it beside the header, and name it there.")
    data = path.parent / name
    if not data.is_file():
        raise unreadable(path, f"names {name!r}, which is not beside it", "Fetch it too.")
    width = _BYTES.get(signals[0]["format"])
    values = length * sum(int(signal["frame"] or 1) for signal in signals)
    if min(int(signal["frame"] or 1) for signal in signals) < 1:
        raise unreadable(path, "has a signal of 0 values per frame", "Repair the header.")
    promised = math.floor(values * (width or 0)) + int(signals[0]["offset"] or 0)
    there = data.stat().st_size
    if there < promised or there == 0:
        problem = f"{name} is cut off: {promised} bytes promised, {there} there"
        raise unreadable(path, problem, "Fetch it anew.")


def _decoded(path: Path, header: _Header, options: Mapping[str, str]) -> tuple[Any, list[int]]:
    """The record as WFDB decodes it, and which of its signals it holds."""
    name = str(path.absolute())[: -len(path.suffix)]
    wfdb = _library()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = [str(one or "") for one in wfdb.rdheader(name).sig_name]
            wanted = _recordings.chosen(path, names, options)
            rates = [header.rate * header.frames[place] for place in wanted]
            if len(set(rates)) > 1:
                told = ", ".join(f"{names[place]!r} ({rate:g} Hz)" for place, rate in zip(wanted, rates, strict=True))
                problem = f"its channels have several rates: {told}"
                raise unreadable(path, problem, "Choose channels of one rate with channels=GLOB,GLOB.")
            record = wfdb.rdrecord(name, channels=wanted, physical=True, smooth_frames=False)
    except UnreadableFile:
        raise
    except Exception as error:  # the decoder lets errors of many kinds through
        problem = f"cannot be decoded as a WFDB record ({type(error).__name__}: {error})"
        raise unreadable(path, problem, _recordings.EXPORT) from error
    return record, wanted


def _annotations(path: Path, rate: float, options: Mapping[str, str]) -> dict[str, list[Any]]:
    """What the annotator wrote, where there is a file of that end."""
    ending = options.get("annotator", "atr")
    if not re.fullmatch(r"[A-Za-z0-9_]+", ending):
        raise InvalidSetting(f"annotator must be the end of a file's name, such as atr; got {ending!r}.")
    beside = path.with_suffix(f".{ending}")
    if ending == "none" or not beside.is_file():
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _library().rdann(str(path.absolute())[: -len(path.suffix)], ending)
            times: npt.NDArray[np.float64] = np.asarray(found.sample, dtype=np.float64) / float(found.fs or rate)
            notes = [str(note).strip("\0 ") for note in found.aux_note]
            return _recordings.noted(times.tolist(), list(found.symbol), notes=notes)
    except Exception as error:  # as above
        problem = f"cannot be decoded as annotations ({type(error).__name__}: {error})"
        raise unreadable(beside, problem, "Fetch it anew, or leave it out with annotator=none.") from error


def _library() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it builds its tables with what pandas is about to drop
        return require("wfdb", "read WFDB records")


importer = Importer(
    name="wfdb",
    title="WFDB records of PhysioNet (.hea with .dat or .mat)",
    modality="series",
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        **_recordings.OPTIONS,
        "annotator": "end of the files of annotations (default: atr); none",
        **NAN_OPTION,
        **_metadata.FILE_OPTIONS,
    },
)
