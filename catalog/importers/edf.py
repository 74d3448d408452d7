"""Recordings in EDF, EDF+ and BDF files: ``.edf`` and ``.bdf``.

``signal`` is [C, T], float32, in the physical unit that the file gives each channel, voltages (nV, mV, V) converted to µV;
``units`` says which. ``channels`` are the labels as they stand, without the blanks around them; ``sampling_rate`` is in
Hz. The 24 bits of BDF survive in float32 up to its rounding. Annotation channels are no signal and are left out.

All channels of a sample share one rate. A file whose channels have several is refused, with their names, unless the
option ``channels`` chooses some of one rate.

``recorded`` is when the recording began, ISO 8601 in local time (the format knows no time zone), where the file says so;
1985-01-01, which the EDF+ standard prescribes for hidden dates, counts as unknown. What the header says of patient,
technician and equipment is **not** imported: it is personal, and a catalog is shared. Targets come from a table of
metadata beside the files (see :mod:`._metadata`).

Source of the layout: B. Kemp et al., "A simple format for exchange of digitized polygraphic recordings",
Electroencephalography and Clinical Neurophysiology 82, 1992; the EDF+ specification of 2003; BioSemi's BDF.
"""

from __future__ import annotations

import datetime
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _metadata, _recordings
from sensorium.catalog.importers._files import head, identifiers, number, once, probe, unreadable, visible
from sensorium.platform.errors import UnreadableFile
from sensorium.platform.optional import require

__all__ = ["importer"]

_SUFFIXES = frozenset((".edf", ".bdf"))
_EDF, _BDF = b"0       ", b"\xffBIOSEMI"
_RESERVED = ("signal", "sampling_rate", "channels", "units", "recorded")
#: bytes of the header before the channels, and of each channel
_HEADER = 256
#: width in bytes of each field of the channels' headers, in their order
_WIDTHS = {
    "label": 16,
    "transducer": 80,
    "unit": 8,
    "pmin": 8,
    "pmax": 8,
    "dmin": 8,
    "dmax": 8,
    "filter": 80,
    "values": 8,
}
#: what EDF+ prescribes where the date is to be hidden
_HIDDEN = datetime.date(1985, 1, 1)
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass(frozen=True)
class _Channel:
    """What the header says of one channel; ``values`` are samples per data record."""

    index: int
    label: str
    unit: str
    values: int


@dataclass(frozen=True)
class _Header:
    """What the header says of a file that has been found complete."""

    bdf: bool
    recorded: str | None
    records: int
    seconds: float
    discontinuous: bool
    channels: tuple[_Channel, ...]

    def rate(self, channel: _Channel) -> float:
        """Sampling rate of a channel, Hz."""
        return channel.values / self.seconds


def _is_edf(path: Path) -> float:
    start = head(path, _HEADER)
    return float(len(start) == _HEADER and start[:8] in (_EDF, _BDF) and start[252:256].strip().isdigit())


def _matches(source: Source) -> float:
    return probe(source, _SUFFIXES, _is_edf)


@once
def _known(source: Source) -> _metadata.Known:
    return _metadata.of_files(source, visible(source, _SUFFIXES), _RESERVED, also=("subject",))


def _plan(source: Source) -> Iterator[Item]:
    scalars = _known(source).rows
    for path, name in identifiers(source, scalars).items():
        yield Item(name, (path,), scalars[path])


def _fields(source: Source) -> tuple[Field, ...]:
    return (
        *_known(source).fields(),
        ScalarField("units", pa.list_(pa.string()), dims="C", description="physical unit of each channel of signal"),
        ScalarField("recorded", pa.string(), description="start of the recording, ISO 8601, local time"),
    )


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    header = _header(path, number(options, "max_values", _recordings.MAX_VALUES))
    chosen = _chosen(path, header, options)
    signal, units = _signal(path, header, chosen)
    sample = {
        **item.scalars,
        "signal": signal,
        "sampling_rate": header.rate(chosen[0]),
        "channels": [channel.label for channel in chosen],
        "units": units,
    }
    return sample if header.recorded is None else {**sample, "recorded": header.recorded}


def _header(path: Path, limit: float) -> _Header:
    """The header of a file that is as long as it says.

    Raises:
        UnreadableFile: it is none of these files, is cut off, or its header contradicts itself.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(_HEADER)
            if len(start) < _HEADER or start[:8] not in (_EDF, _BDF):
                raise unreadable(path, "is no EDF or BDF file (its header says otherwise)", _recordings.EXPORT)
            count = _whole(path, start[252:256], "number of channels", 1)
            details = stream.read(_HEADER * count)
    except OSError as error:
        raise unreadable(path, f"cannot be read ({error.strerror or error})", "Check that it is there.") from error
    if len(details) < _HEADER * count:
        raise unreadable(path, f"is cut off within the header of its {count} channels", _recordings.EXPORT)
    records = _whole(path, start[236:244], "number of data records", -1)
    seconds = _decimal(path, start[244:252], "duration of a data record")
    if records == -1:
        raise unreadable(
            path,
            "its recording was never finished (-1 data records)",
            "Finish or repair it with the recorder's program.",
        )
    if records == 0:
        raise unreadable(path, "holds no data record", "Leave it out.")
    bdf = start[:8] == _BDF
    annotations = "BDF Annotations" if bdf else "EDF Annotations"
    channels = _channels(path, details, count, annotations)
    _check_size(path, channels, records, 3 if bdf else 2, limit)
    ordinary = tuple(channel for channel in channels if channel.label != annotations)
    if not ordinary:
        raise unreadable(path, "holds annotations only, no signal", "Leave it out.")
    if seconds <= 0:
        raise unreadable(path, f"its data records last {seconds:g} s", "Repair the header.")
    recorded = _recorded(start)
    return _Header(bdf, recorded, records, seconds, start[192:197] in (b"EDF+D", b"BDF+D"), ordinary)


def _channels(path: Path, details: bytes, count: int, annotations: str) -> tuple[_Channel, ...]:
    """The channels' headers, which lie field by field; their scales are checked, for the decoder divides by them."""
    columns: dict[str, list[bytes]] = {}
    place = 0
    for name, width in _WIDTHS.items():
        columns[name] = [details[place + width * index : place + width * (index + 1)] for index in range(count)]
        place += width * count
    channels = []
    for index in range(count):
        label = _text(columns["label"][index])
        values = _whole(path, columns["values"][index], f"samples per record of channel {label!r}", 1)
        channels.append(_Channel(index, label, _text(columns["unit"][index]), values))
        if label == annotations:
            continue
        low, high = (_decimal(path, columns[name][index], f"range of channel {label!r}") for name in ("pmin", "pmax"))
        bottom, top = (
            _whole(path, columns[name][index], f"range of channel {label!r}", -(1 << 23)) for name in ("dmin", "dmax")
        )
        if top <= bottom or high == low:
            problem = f"channel {label!r} maps {bottom} … {top} to {low:g} … {high:g}, which is no scale"
            raise unreadable(path, problem, "Repair the header.")
    return tuple(channels)


def _check_size(path: Path, channels: Sequence[_Channel], records: int, width: int, limit: float) -> None:
    values = records * sum(channel.values for channel in channels)
    promised = _HEADER * (len(channels) + 1) + values * width
    there = path.stat().st_size
    if promised != there:
        what = "is cut off" if there < promised else "is longer than its header says"
        raise unreadable(path, f"{what}: {promised} bytes promised, {there} there", _recordings.EXPORT)
    _recordings.check_size(path, values, limit)


def _chosen(path: Path, header: _Header, options: Mapping[str, str]) -> list[_Channel]:
    """The channels that the option wants, all of one rate, in the file's order."""
    chosen = [
        header.channels[place] for place in _recordings.chosen(path, [one.label for one in header.channels], options)
    ]
    rates = Counter(channel.values for channel in chosen)
    if len(rates) > 1:
        usual = rates.most_common(1)[0][0]
        others = ", ".join(f"{one.label!r} ({header.rate(one):g} Hz)" for one in chosen if one.values != usual)
        raise unreadable(
            path,
            f"most channels have {usual / header.seconds:g} Hz, but not {others}",
            "Choose channels of one rate with channels=GLOB,GLOB.",
        )
    return chosen


def _signal(path: Path, header: _Header, chosen: Sequence[_Channel]) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Values [C, T] in physical units, and these units."""
    edfio = require("edfio", "read EDF and BDF files")
    read = edfio.read_bdf if header.bdf else edfio.read_edf
    signal = np.empty((len(chosen), header.records * chosen[0].values), np.float32)
    units = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the decoder's opinions; sizes and scales have been checked
            file = read(path, header_encoding="latin-1")
            if header.discontinuous and not file.is_continuous:
                raise unreadable(path, "has gaps between its data records", "Export its continuous parts one by one.")
            decoded = dict(zip((one.index for one in header.channels), file.signals, strict=True))
            for row, channel in enumerate(chosen):
                factor, unit = _recordings.in_microvolts(channel.unit)
                np.multiply(decoded[channel.index].data, factor, out=signal[row], casting="same_kind")
                units.append(unit)
    except UnreadableFile:
        raise
    except Exception as error:  # the decoder lets errors of many kinds through on broken headers
        raise unreadable(path, f"cannot be decoded ({type(error).__name__}: {error})", _recordings.EXPORT) from error
    if not np.isfinite(signal).all():
        place = int((~np.isfinite(signal)).any(axis=1).argmax())
        raise unreadable(
            path, f"channel {chosen[place].label!r} is not finite in float32", "Repair its physical range."
        )
    return signal, units


def _recorded(start: bytes) -> str | None:
    """Start of the recording; from EDF+'s own subfield, where years have four digits, else from the old fields."""
    match = re.match(r"Startdate\s+(\d\d)-([A-Z]{3})-(\d{4})", _text(start[88:168]), re.IGNORECASE)
    old = re.fullmatch(r"(\d\d)\.(\d\d)\.(\d\d)", _text(start[168:176]))
    time = re.fullmatch(r"(\d\d)\.(\d\d)\.(\d\d)", _text(start[176:184]))
    try:
        if match and match[2].upper() in _MONTHS:
            date = datetime.date(int(match[3]), _MONTHS.index(match[2].upper()) + 1, int(match[1]))
        elif old:
            year = int(old[3])
            date = datetime.date(year + (1900 if year >= 85 else 2000), int(old[2]), int(old[1]))
        else:
            return None
        moment = datetime.time(int(time[1]), int(time[2]), int(time[3])) if time else datetime.time()
    except ValueError:  # a date that no calendar has
        return None
    return None if date == _HIDDEN else datetime.datetime.combine(date, moment).isoformat()


def _text(raw: bytes) -> str:
    return raw.decode("latin-1").strip(" \0")


def _whole(path: Path, raw: bytes, what: str, least: int) -> int:
    text = _text(raw)
    if not re.fullmatch(r"[+-]?\d+", text) or int(text) < least:
        raise unreadable(path, f"its header gives {text!r} as {what}", _recordings.EXPORT)
    return int(text)


def _decimal(path: Path, raw: bytes, what: str) -> float:
    text = _text(raw)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise unreadable(path, f"its header gives {text!r} as {what}", _recordings.EXPORT)
    return value


importer = Importer(
    name="edf",
    title="EDF, EDF+ and BDF recordings (.edf, .bdf)",
    modality="series",
    matches=_matches,
    guarded=False,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={**_recordings.OPTIONS, **_metadata.FILE_OPTIONS},
)
