"""Regular series in NumPy archives: ``.npz``.

An archive holds named arrays, its members. Which one is what is said by options, or found by usual names:

* ``signal``: [C, T], or [T] for one channel. Several names, such as ``signal=rest,task``, make a sample of each, with the
  id ``file/member``; the scalar ``member`` says which it is, and with ``label_from=member`` so does ``label``.
* ``sampling_rate``: a member with one number, or the number itself, in Hz.
* ``channels``: a member with the C names; may be absent.
* ``scale``: a member or a number that the values are multiplied by; the product is float32. Without a scale float32,
  float64, int16 and int32 stay as they are, and narrower types become the next wider one of these.

Targets come from a table of metadata (see :mod:`._metadata`), joined by the file's name.

Nothing is ever unpickled. Sizes are checked before anything is inflated: the archive's own list of them against a limit
and against what the compression can reach, then each array's header against its member's size.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _metadata
from sensorium.catalog.importers._files import identifiers, number, once, probe, unreadable, visible
from sensorium.platform.errors import InvalidSetting, UserError, close_matches

__all__ = ["MAX_BYTES", "arrays", "importer", "members"]

Array = npt.NDArray[Any]

_SUFFIXES = frozenset((".npz",))
_RESERVED = ("signal", "sampling_rate", "channels", "member", "label")
#: usual names of members, best first
_USUAL = {
    "signal": ("signal", "signals", "data", "X", "x", "eeg"),
    "sampling_rate": ("sampling_rate", "fs", "sfreq", "sampling_frequency", "rate"),
    "channels": ("channels", "ch_names", "channel_names", "labels"),
}
MAX_BYTES = 4e9
#: deflate cannot shrink anything further
_MAX_RATIO = 1032
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SAVE = "Save it anew with numpy.savez_compressed."
#: what arrays of other types become; those that the catalog holds stay
_WIDER = {
    "int8": "int16",
    "uint8": "int16",
    "uint16": "int32",
    "float16": "float32",
    "uint32": "float64",
    "int64": "float64",
}
_KEPT = ("float32", "float64", "int16", "int32")
_FAULTS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError)


def _looks_like_series(path: Path, source: Source) -> float:
    """1 where signal and rate are found by name or option, 0.6 where only the signal is."""
    names = dict.fromkeys(members(path))
    wanted = _wanted(source.options)
    if not (set(wanted) & set(names) or (not wanted and _usual("signal", names))):
        return 0.0
    return 1.0 if "sampling_rate" in source.options or _usual("sampling_rate", names) else 0.6


def _matches(source: Source) -> float:
    return probe(source, _SUFFIXES, lambda path: _looks_like_series(path, source))


def members(path: Path) -> list[str]:
    """Names of the arrays of an archive; none where it is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return list(_members(archive))
    except _FAULTS:
        return []


def arrays(path: Path, names: Sequence[str], limit: float) -> list[Array]:
    """Arrays of an archive by name; nothing is unpickled, and sizes are checked before anything is inflated.

    Args:
        path: of the archive.
        names: of arrays, in the order wanted.
        limit: of the bytes of all arrays of the archive.

    Raises:
        UnreadableFile: it is no such archive, is larger than ``limit``, or has no array of a name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(path, archive, limit)
            found = _members(archive)
            return [_load(path, archive, found, name, "array") for name in names]
    except UserError:
        raise
    except _FAULTS as error:
        reason = str(error) or type(error).__name__
        raise unreadable(path, f"cannot be read as a NumPy archive ({reason})", _SAVE) from error


def _wanted(options: Mapping[str, str]) -> list[str]:
    """The members that the option ``signal`` names; none where it is not given."""
    names = [name.strip() for name in options.get("signal", "").split(",") if name.strip()]
    if len(set(names)) < len(names) or ("signal" in options and not names):
        raise InvalidSetting(f"signal must name members of the archives, each once; got {options['signal']!r}.")
    return names


def _labelled(options: Mapping[str, str]) -> bool:
    text = options.get("label_from")
    if text not in (None, "member"):
        raise InvalidSetting(f"label_from must be member, or not be given; got {text!r}.")
    return text is not None


@once
def _known(source: Source) -> _metadata.Known:
    taken = _RESERVED if _labelled(source.options) else tuple(name for name in _RESERVED if name != "label")
    folders = "none" if _labelled(source.options) else "auto"
    return _metadata.of_files(source, visible(source, _SUFFIXES), taken, label=folders, also=("subject",))


def _plan(source: Source) -> Iterator[Item]:
    scalars = _known(source).rows
    names = _wanted(source.options)
    for path, name in identifiers(source, scalars).items():
        for member in names or [""]:
            named = {"member": member} if member else {}
            yield Item(f"{name}/{member}" if len(names) > 1 else name, (path,), {**scalars[path], **named})


def _fields(source: Source) -> tuple[Field, ...]:
    own = [ScalarField("member", pa.string(), description="array of the archive that became the signal")]
    if _labelled(source.options):
        own.append(ScalarField("label", pa.string(), description="the member's name"))
    return (*_known(source).fields(), *own)


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(path, archive, number(options, "max_bytes", MAX_BYTES))
            sample = _sample(path, archive, item.scalars.get("member", ""), options)
    except UserError:
        raise
    except _FAULTS as error:
        reason = str(error) or type(error).__name__
        raise unreadable(path, f"cannot be read as a NumPy archive ({reason})", _SAVE) from error
    if _labelled(options):
        sample["label"] = sample["member"]
    return {**item.scalars, **sample}


def _sample(path: Path, archive: zipfile.ZipFile, member: str, options: Mapping[str, str]) -> dict[str, Any]:
    members = _members(archive)
    name = member or _usual("signal", members)
    if not name:
        problem = f"no array has a usual name of a signal (there are: {', '.join(members)})"
        raise unreadable(path, problem, "Name it with signal=NAME.")
    signal = _load(path, archive, members, name, "signal")
    if signal.ndim not in (1, 2) or signal.size == 0:
        problem = f"array {name!r} has shape {signal.shape}, not [channels, times]"
        raise unreadable(path, problem, "Save one array [channels, times] per recording.")
    signal = np.atleast_2d(signal)
    sample: dict[str, Any] = {"member": name, "sampling_rate": _rate(path, archive, members, options)}
    channels = _channels(path, archive, members, options)
    if channels is not None:
        if len(channels) != len(signal):
            problem = f"array {name!r} has shape {signal.shape}, and there are {len(channels)} names of channels"
            raise unreadable(path, problem, "Save it as [channels, times], with a name for each channel.")
        sample["channels"] = channels
    return {**sample, "signal": _scaled(path, name, signal, _scale(path, archive, members, options))}


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The arrays of an archive by name."""
    return {info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")}


def _usual(role: str, members: Mapping[str, object]) -> str:
    return next((name for name in _USUAL[role] if name in members), "")


def _check_sizes(path: Path, archive: zipfile.ZipFile, limit: float) -> None:
    """Refuse sizes that are too large, or that the file cannot have, by the archive's own list."""
    infos = archive.infolist()
    if not _members(archive):
        raise unreadable(path, "holds no array", "Leave it out.")
    strange = next((info for info in infos if info.compress_type not in _METHODS or info.flag_bits & 1), None)
    if strange is not None:
        raise unreadable(path, f"array {strange.filename!r} is encrypted or compressed in a foreign way", _SAVE)
    there = path.stat().st_size
    total = sum(info.file_size for info in infos)
    packed = sum(info.compress_size for info in infos)
    if packed > there or any(info.file_size > max(info.compress_size, 1) * _MAX_RATIO for info in infos):
        raise unreadable(path, f"its list claims {total} bytes out of {there}, which no compression reaches", _SAVE)
    if total > limit:
        raise unreadable(
            path,
            f"its arrays have {total} bytes, more than the limit of {limit:g}",
            f"Split it, or, if it is real, raise the limit with max_bytes={total}.",
        )


def _load(path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str, role: str) -> Array:
    """The array ``name``, once its header agrees with its size; objects, which would be unpickled, are refused."""
    if name not in members:
        hint = close_matches(name, members)
        raise unreadable(path, f"has no array {name!r} ({role}=)", f"Mend the option. {hint}".rstrip())
    info = members[name]
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(stream)
        if dtype.hasobject:
            raise unreadable(
                path, f"array {name!r} holds Python objects, which are never unpickled", "Save plain arrays."
            )
        if math.prod(shape) * dtype.itemsize != info.file_size - stream.tell():
            problem = f"array {name!r}: its header claims {shape} of {dtype}, its size says otherwise"
            raise unreadable(path, problem, _SAVE)
    with archive.open(info) as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
        while stream.read(1 << 20):  # to the end, where the checksum is compared
            continue
    return array


def _value(
    path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], options: Mapping[str, str], role: str
) -> Array | None:
    """What the option ``role`` means: the member of that name, else the number itself; None where nothing is said."""
    text = options.get(role)
    name = text if text is not None else _usual(role, members) if role in _USUAL else None
    if not name:
        return None
    if name not in members and re.fullmatch(r"[-+.\deE\s]+", name):
        return np.array(number(options, role, 0.0))
    value = _load(path, archive, members, name, role)
    if value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise unreadable(path, f"array {name!r} ({role}) holds no finite numbers", "Save numbers there.")
    return value.astype(np.float64)


def _rate(
    path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], options: Mapping[str, str]
) -> float:
    value = _value(path, archive, members, options, "sampling_rate")
    if value is None:
        problem = f"no array has a usual name of a sampling rate (there are: {', '.join(members)})"
        raise unreadable(path, problem, "Say sampling_rate=HZ, or sampling_rate=NAME of an array.")
    if value.size != 1 or not value.item() > 0:
        raise unreadable(path, f"its sampling rate is {value.tolist()}", "Say sampling_rate=HZ, one number above 0.")
    return float(value.item())


def _scale(
    path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], options: Mapping[str, str]
) -> Array | None:
    value = _value(path, archive, members, options, "scale")
    if value is not None and (value.size != 1 or value.item() == 0):
        raise unreadable(path, f"its scale is {value.tolist()}", "Give one number other than 0 with scale=.")
    return value


def _channels(
    path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], options: Mapping[str, str]
) -> list[str] | None:
    name = options.get("channels") or _usual("channels", members)
    if not name:
        return None
    names = _load(path, archive, members, name, "channels")
    if names.dtype.kind not in "US" or names.ndim != 1:
        if "channels" not in options:  # an array of that usual name may be something else
            return None
        raise unreadable(path, f"array {name!r} holds no list of names", "Name another with channels=NAME.")
    return [text.decode("latin-1").strip() if isinstance(text, bytes) else text.strip() for text in names.tolist()]


def _scaled(path: Path, name: str, signal: Array, scale: Array | None) -> Array:
    """``signal`` in a type that the catalog holds, multiplied by ``scale`` where there is one; finite throughout."""
    kind = signal.dtype.name
    if kind not in _KEPT and kind not in _WIDER:
        raise unreadable(path, f"array {name!r} has values of type {kind}", "Save it with integers or floats.")
    if signal.dtype.kind == "f" and not np.isfinite(signal).all():
        row, column = (int(index[0]) for index in np.nonzero(~np.isfinite(signal)))
        problem = f"array {name!r}: the value of channel {row} at {column} is {signal[row, column]}, not finite"
        raise unreadable(path, problem, "Repair or cut it.")
    if scale is None:
        wide = signal.astype(kind if kind in _KEPT else _WIDER[kind])
        if kind == "int64" and not np.array_equal(wide.astype(np.int64), signal):
            raise unreadable(path, f"array {name!r} has integers beyond 2^53", "Save it as float64 or int32.")
        return np.ascontiguousarray(wide)
    with np.errstate(over="ignore"):
        product = np.multiply(signal, float(scale.item()), dtype=np.float64).astype(np.float32)
    if not np.isfinite(product).all():
        raise unreadable(path, f"array {name!r} times {scale.item():g} does not fit into float32", "Mend the scale.")
    return np.ascontiguousarray(product)


importer = Importer(
    name="npz",
    title="regular series in NumPy archives (.npz)",
    modality="series",
    matches=_matches,
    guarded=False,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "signal": "name of the array [C, T]; several, parted by commas, make a sample of each "
        f"(default: the first of {', '.join(_USUAL['signal'])})",
        "sampling_rate": f"in Hz, or the name of an array with it (default: {', '.join(_USUAL['sampling_rate'])})",
        "channels": f"name of the array with the channels' names (default: {', '.join(_USUAL['channels'])})",
        "scale": "number above 0 that values are multiplied by, or the name of an array with it (default: none)",
        "label_from": "member: the array's name becomes the label (default: no label from it)",
        "max_bytes": f"refuse archives whose arrays are larger together (default {MAX_BYTES:.0f})",
        **_metadata.FILE_OPTIONS,
    },
)
