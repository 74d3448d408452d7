"""The log of a table on disk: what has to be there before a commit may be told to have succeeded."""

from __future__ import annotations

import contextlib
import json

from sensorium.platform.errors import SensoriumError, StorageError
from sensorium.platform.storage import Storage, plain

__all__ = ["CHECKPOINT", "forget", "settle", "sync_checkpoint"]

#: Delta sums up the log every so many versions
CHECKPOINT = 50
#: folders of a lake that are new where a table is: its log, itself, the data set, all data sets, the lake; and the one above
_LEVELS = 6
#: table -> the newest version of it whose log this process has seen on disk
_settled: dict[str, int] = {}


def settle(storage: Storage, name: str, version: int) -> None:
    """Return only when the log up to ``version`` is on disk: entries of others too, on which this one rests.

    Nothing is done on an object store, which does not answer before.

    Args:
        storage: folder of the table.
        name: of the data set, for messages.
        version: that was committed.

    Raises:
        StorageError: the disk does not confirm it; the version is there all the same.
    """
    if not storage.local:
        return
    known = _settled.get(storage.root)
    first = max(0, version - CHECKPOINT) if known is None else min(known + 1, version)
    try:
        for number in range(first, version + 1):
            with contextlib.suppress(FileNotFoundError):
                storage.sync("_delta_log", f"{number:020}.json")
        sync_checkpoint(storage)
        storage.sync_names("_delta_log", levels=_LEVELS if known is None else 2)
    except SensoriumError as error:
        raise StorageError(
            f"data set {name!r}: version {version} is there, but the disk at {storage.url} has not confirmed it "
            f"({plain(_first_cause(error))}). Look at the disk before you rely on it."
        ) from error
    _settled[storage.root] = max(version, _settled.get(storage.root, 0))


def sync_checkpoint(storage: Storage) -> None:
    """See to it that the checkpoint is on disk: Delta trusts the one that is named, which must not be cut short."""
    if not storage.local:
        return
    with contextlib.suppress(FileNotFoundError, ValueError):
        last = json.loads(storage.read("_delta_log", "_last_checkpoint"))["version"]
        storage.sync("_delta_log", f"{last:020}.checkpoint.parquet")
        storage.sync("_delta_log", "_last_checkpoint")


def forget(storage: Storage) -> None:
    """Forget what was seen of a table that was there before."""
    _settled.pop(storage.root, None)


def _first_cause(error: BaseException) -> Exception:
    """What a driver said, without what we made of it."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error if isinstance(error, Exception) else Exception(str(error))
