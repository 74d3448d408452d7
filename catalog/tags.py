"""Tags: names of versions, in a small Delta table beside the samples."""

from __future__ import annotations

import random
import time

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from sensorium.catalog.fields import check_name
from sensorium.platform.errors import CommitConflict, UnknownVersion, UserError, close_matches
from sensorium.platform.storage import Storage

__all__ = ["put", "read", "resolve"]

_FOLDER = "tags"
_SCHEMA = pa.schema([("tag", pa.string()), ("version", pa.int64())])
_TRIES = 50


def read(storage: Storage) -> dict[str, int]:
    """The tags of a data set."""
    table = _open(storage)
    if table is None:
        return {}
    rows = pa.table(table.to_pyarrow_table()).to_pylist()
    return {row["tag"]: row["version"] for row in sorted(rows, key=lambda row: str(row["tag"]))}


def put(storage: Storage, name: str, tag: str, version: int, *, move: bool) -> None:
    """Let ``tag`` name ``version``.

    Raises:
        UserError: it names another version already, and ``move`` is false.
    """
    check_name(tag, "tag")
    for _ in range(_TRIES):
        table = _open(storage)
        current = read(storage)
        if current.get(tag) == version:
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
                continue
            write_deltalake(table, rows, mode="overwrite", commit_properties=CommitProperties(max_commit_retries=0))
        except (CommitFailedError, DeltaError):
            time.sleep(random.uniform(0, 0.05))  # noqa: S311 - another writer was first: jitter, then look again
            continue
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


def _open(storage: Storage) -> DeltaTable | None:
    try:
        return DeltaTable(storage.at_path(_FOLDER), storage_options=storage.delta_options())
    except TableNotFoundError:
        return None
