"""Tags: names of versions, in a small Delta table beside the samples."""

from __future__ import annotations

import random
import time

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from sensorium.catalog import settling
from sensorium.catalog.fields import check_name
from sensorium.catalog.table import Table
from sensorium.platform.errors import CommitConflict, UnknownVersion, UserError, close_matches
from sensorium.platform.storage import Storage

__all__ = ["put", "read", "resolve"]

_FOLDER = "tags"
_SCHEMA = pa.schema([("tag", pa.string()), ("version", pa.int64())])
_TRIES = 50


def read(storage: Storage) -> dict[str, int]:
    """The tags of a data set."""
    return _content(_open(storage))


def put(storage: Storage, name: str, tag: str, version: int, *, move: bool) -> None:
    """Let ``tag`` name ``version``; it would do so after a loss of power, too.

    Raises:
        UserError: it names another version already, and ``move`` is false.
        StorageError: the disk does not confirm it.
    """
    check_name(tag, "tag")
    beside = Table(storage.below(_FOLDER), name)
    for _ in range(_TRIES):
        table = _open(storage)
        current = _content(table)
        if table is not None and current.get(tag) == version:  # perhaps another process has just put it
            settling.settle(beside.storage, f"{name}/{_FOLDER}", table.version())
            return
        if tag in current and not move:
            raise UserError(
                f"data set {name!r}: tag {tag!r} names version {current[tag]}, not {version}. "
                "Choose another tag, or move it with move=True (--move)."
            )
        current[tag] = version
        rows = pa.table({"tag": list(current), "version": list(current.values())}, schema=_SCHEMA)
        try:
            if table is None:
                DeltaTable.create(
                    storage.at_path(_FOLDER), _SCHEMA, mode="error", storage_options=storage.delta_options()
                )
                settling.forget(beside.storage)  # there may have been another table of that name
                continue
            added = beside.write_file(rows)  # on disk before it is named
            actions: list[AddAction | RemoveAction] = [added, *map(beside.removal, beside.files(table))]
            table.create_write_transaction(
                actions, "append", table.schema(), commit_properties=CommitProperties(max_commit_retries=0)
            )
        except (CommitFailedError, DeltaError):
            time.sleep(random.uniform(0, 0.05))  # noqa: S311 - another writer was first: jitter, then look again
            continue
        settling.settle(beside.storage, f"{name}/{_FOLDER}", table.version() + 1)
        return
    raise CommitConflict(f"data set {name!r}: tag {tag!r} lost to concurrent writers {_TRIES} times. Try again.")


def resolve(storage: Storage, name: str, version: int | str) -> int:
    """The number of a version given as a number, a text of digits, or a tag."""
    if isinstance(version, int):
        return version
    if version.isdecimal():
        return int(version)
    known = read(storage)
    if version not in known:
        raise UnknownVersion(
            f"data set {name!r} has no tag {version!r}. {close_matches(version, known) or 'It has no tags.'}"
        )
    return known[version]


def _content(table: DeltaTable | None) -> dict[str, int]:
    if table is None:
        return {}
    rows = pa.table(table.to_pyarrow_table()).to_pylist()
    return {row["tag"]: row["version"] for row in sorted(rows, key=lambda row: str(row["tag"]))}


def _open(storage: Storage) -> DeltaTable | None:
    try:
        return DeltaTable(storage.at_path(_FOLDER), storage_options=storage.delta_options())
    except TableNotFoundError:
        return None
