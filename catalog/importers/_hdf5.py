"""Data sets of HDF5 files, whose claims are checked before they are read; nothing outside the file is ever followed.

HDF5 may point to other files (external and soft links, virtual data sets, external storage), load plug-ins from disk for
foreign filters, and claim any size for what was never written. All of these are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.importers._files import head, unreadable
from sensorium.platform.errors import UserError
from sensorium.platform.optional import require

__all__ = [
    "SIGNATURE",
    "checked",
    "data_sets",
    "is_hdf5",
    "is_plain",
    "listed",
    "opened",
    "plain",
    "stored",
    "there",
]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: filters that come with the library: deflate, shuffle, Fletcher-32, SZIP, n-bit, scale-offset, and LZF of h5py
_FILTERS = frozenset((1, 2, 3, 4, 5, 6, 32000))
#: deflate cannot shrink anything further
_MAX_RATIO = 1032
_EXPORT = "Export it anew from its source, or leave it out."


def is_hdf5(path: Path) -> bool:
    """By the signature, at the start or behind a user block, as MATLAB writes one."""
    start = head(path, 520)
    return start[:8] == SIGNATURE or start[512:520] == SIGNATURE


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file ``path`` to read.

    Raises:
        UnreadableFile: it is no HDF5, or damaged; also for what goes wrong inside the block.
    """
    h5py = require("h5py", "read HDF5 files")
    if not is_hdf5(path):
        problem = "is no HDF5 file (its first bytes say otherwise)" if path.is_file() else "there is no such file"
        raise unreadable(path, problem, _EXPORT)
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except UserError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise unreadable(path, f"cannot be read as HDF5 ({error})", _EXPORT) from error


def data_sets(group: Any, *, deep: bool) -> Iterator[tuple[str, Any]]:
    """The data sets of a group, and of those below it, with their paths; only what is really there, nothing linked."""
    h5py = require("h5py", "read HDF5 files")
    waiting = [(group, "")]
    seen: set[int] = set()
    while waiting:
        here, place = waiting.pop()
        for name in here:
            if not isinstance(here.get(name, getlink=True), h5py.HardLink):
                continue
            child = here[name]
            address = h5py.h5o.get_info(child.id).addr
            if address in seen:  # two names of one object, or a circle
                continue
            seen.add(address)
            if isinstance(child, h5py.Dataset):
                yield f"{place}{name}", child
            elif deep and isinstance(child, h5py.Group):
                waiting.append((child, f"{place}{name}/"))


def there(path: Path, file: Any, name: str) -> Any:
    """The group or data set ``name``, reached over nothing but what the file itself holds.

    Raises:
        UnreadableFile: there is none, or a link is in the way.
    """
    h5py = require("h5py", "read HDF5 files")
    here = file
    for part in (part for part in name.split("/") if part):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if link is None:
            raise unreadable(path, f"has no data set {name!r}", "Mend the option that names it.")
        if not isinstance(link, h5py.HardLink):
            raise unreadable(path, f"{name!r} is a link, which is not followed", "Save it with the data itself.")
        here = here[part]
    return here


def checked(path: Path, file: Any, name: str, limit: float, *, rows: bool = False, texts: bool = False) -> Any:
    """The data set ``name``, which may be read; of one that is read by ``rows`` only a row must keep to the limit.

    Raises:
        UnreadableFile: it is not there, lies elsewhere, holds no numbers (nor ``texts``), or claims a size that it
            cannot have.
    """
    h5py = require("h5py", "read HDF5 files")
    data = there(path, file, name)
    if not isinstance(data, h5py.Dataset):
        raise unreadable(path, f"{name!r} is a group, not a data set", "Name a data set in it.")
    if data.external or data.is_virtual:
        raise unreadable(path, f"{name!r} has its values in other files", "Save it with the data itself.")
    _check_type(path, name, data, texts=texts)
    _check_size(path, name, data, limit, rows=rows)
    return data


def is_plain(kind: Any) -> bool:
    """Whether values of this type are numbers or texts."""
    text = require("h5py", "read HDF5 files").check_string_dtype(kind) is not None
    return bool(text or (kind.kind in "biuf" and kind.subdtype is None))


def _check_type(path: Path, name: str, data: Any, *, texts: bool) -> None:
    if data.shape is None or not (data.dtype.kind in "biuf" or (texts and is_plain(data.dtype))):
        problem = f"{name!r} has values of type {data.dtype}, no numbers"
        raise unreadable(path, problem, "Name a data set of numbers: references and objects are never followed.")
    plan = data.id.get_create_plist()
    foreign = [
        code for code in (plan.get_filter(index)[0] for index in range(plan.get_nfilters())) if code not in _FILTERS
    ]
    if foreign:
        problem = f"{name!r} is packed by a foreign filter (number {foreign[0]})"
        raise unreadable(path, problem, "Save it with gzip, or without a filter.")


def _check_size(path: Path, name: str, data: Any, limit: float, *, rows: bool) -> None:
    shape = tuple(int(length) for length in data.shape)
    values = math.prod(shape[1:] if rows else shape)
    if math.prod(shape) < 1:
        raise unreadable(path, f"{name!r} has shape {shape}, without any value", "Leave it out.")
    if values > limit:
        problem = f"{name!r} claims {values} values {shape}, more than the limit of {limit:g}"
        raise unreadable(path, problem, f"Cut it, or, if it is real, raise the limit with max_values={values}.")
    chunk = math.prod(data.chunks) if data.chunks else 0
    if chunk > max(limit, 1 << 20):  # a chunk is unpacked as a whole
        raise unreadable(path, f"{name!r} claims chunks {data.chunks}", "Save it in smaller chunks.")
    held = min(data.id.get_storage_size(), path.stat().st_size)
    claimed = math.prod(shape) * data.dtype.itemsize
    if claimed > held * (_MAX_RATIO if data.chunks else 1):
        problem = f"{name!r} claims {claimed} bytes {shape}, of which {held} are stored"
        raise unreadable(path, problem, "It is cut off, or was never written: fetch it anew.")


def stored(data: Any, row: int | None = None) -> npt.NDArray[Any]:
    """The values of a data set, or of one row of it, in this machine's byte order."""
    values = np.asarray(data[()] if row is None else data[row])
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))


def listed(data: Any, row: int | None = None) -> Any:
    """The value of a data set of few values, or of one row of it: a number, a text, or a list of them."""
    return plain(data[()] if row is None else data[row])


def plain(value: Any) -> Any:
    """A value as h5py gives it as one of Python's own, texts decoded."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return [plain(part) for part in value] if isinstance(value, list) else value
