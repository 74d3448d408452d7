"""The sample table: a Delta table changed by one kind of transaction.

Every change (append, update, delete, compaction) is planned on one version and committed as exactly the next one, or not
at all: the files to add and to remove go into a single Delta commit, without the library's own rebasing. If another
writer was first, the plan is made anew on what is there now, after a wait with jitter. Changes are thus serialisable, ids
are unique however many processes write, and an append survives concurrent deletes and schema changes.

Each commit carries a transaction id. If its outcome is unknown (a lost connection, a retried task) it is looked up before
anything is committed again.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from sensorium.catalog import formats, settling, turns
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.handles import Handles, Tickets
from sensorium.catalog.notes import MARK, CommitNote
from sensorium.catalog.statistics import column_statistics
from sensorium.platform.errors import (
    CommitConflict,
    ExpiredVersion,
    StorageError,
    UnknownDataset,
    UnknownVersion,
)
from sensorium.platform.storage import Storage, plain

__all__ = ["Change", "CommitNote", "Table", "TableFile", "parquet"]

logger = logging.getLogger(__name__)

#: a commit is given up after so long a time of losing to others
_PATIENCE_S = 120.0
_LONGEST_WAIT_S = 0.5
#: a writer waits so long for other writers of this machine, then plans at the same time as they do
_TURN_S = 5.0
#: plans that failed for want of a file after which it is missing from the newest version, too
_LOST_FILES = 5
_ROW_GROUP = 65_536
#: a version stays readable until *we* vacuum it; the log is never shortened behind our back
_PROPERTIES = {
    "delta.checkpointInterval": str(settling.CHECKPOINT),
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    # how long a checkpoint names files that were removed: only Delta's own vacuum asks, and every opening reads it
    "delta.deletedFileRetentionDuration": "interval 0 days",
}
_tickets, _handles = Tickets(), Handles()
_EXPIRED = "sensorium.expired"


@dataclass(frozen=True)
class TableFile:
    """A Parquet file of the table.

    Attributes:
        path: below the table's folder.
        size: bytes.
        rows: number of samples.
        first, last: least and greatest sample id in it; None where unknown.
    """

    path: str
    size: int
    rows: int
    first: str | None
    last: str | None

    def may_hold(self, first: str, last: str) -> bool:
        """Whether it may hold an id from ``first`` to ``last``."""
        return (self.first is None or self.first <= last) and (self.last is None or self.last >= first)


@dataclass
class Change:
    """Files to add to and to remove from a version of the table; or rows that bring new columns with them."""

    add: list[AddAction] = field(default_factory=list)
    remove: list[RemoveAction] = field(default_factory=list)
    widening: pa.Table | None = None
    note: CommitNote | None = None


class Table:
    """The sample table of one data set.

    Attributes:
        storage: the table's folder.
        name: of the data set, for messages.
        durable: whether a commit is on disk when it is told to have succeeded; files of the table are, before they are in it.
    """

    def __init__(self, storage: Storage, name: str, *, durable: bool = True) -> None:
        self.storage = storage
        self.name = name
        self.durable = durable

    def neighbour(self, name: str) -> Table:
        """The sample table of another data set of the lake."""
        return Table(self.storage.above().above().below(name, "samples"), name)

    # -- opening ------------------------------------------------------------------------------------------------------

    def create(self, declaration: Declaration, note: CommitNote) -> bool:
        """Create the table at version 0; False if it is there already."""
        with self._translated():
            try:
                DeltaTable.create(
                    self.storage.root,
                    schema=declaration.schema(),
                    name=declaration.name,
                    configuration={**_PROPERTIES, formats.PROPERTY: str(formats.FORMAT), **declaration.properties()},
                    storage_options=self.storage.delta_options(),
                    commit_properties=CommitProperties(custom_metadata=note.metadata()),
                    raise_if_key_not_exists=False,
                    mode="error",
                )
            except DeltaError:
                if self.exists():
                    return False
                raise
        settling.forget(self.storage)  # there may have been another table of that name
        self._settle(0)
        return True

    def exists(self) -> bool:
        with self.storage.translated():
            return bool(DeltaTable.is_deltatable(self.storage.root, self.storage.delta_options()))

    def open(self, version: int | None = None) -> DeltaTable:
        """The table at ``version``, or at its newest.

        Raises:
            UnknownDataset: there is no table.
            UnknownVersion, ExpiredVersion: there is, but not that version, or it was vacuumed.
            NewerFormat: it was written by a newer catalog.
        """
        options = self.storage.delta_options()
        with self._translated():
            try:
                newest = DeltaTable(self.storage.root, storage_options=options)
            except TableNotFoundError as error:
                raise UnknownDataset(
                    f"there is no data set {self.name!r}: {self.storage.url} holds no table."
                ) from error
            formats.check_table(newest.metadata().configuration, f"data set {self.name!r}")
            if version is None or version == newest.version():
                return newest
            if not 0 <= version < newest.version():
                raise UnknownVersion(
                    f"data set {self.name!r} has no version {version}; it has 0 to {newest.version()}. See its history."
                )
            if self.expired(newest, version):
                raise ExpiredVersion(
                    f"data set {self.name!r}: version {version} was removed by a vacuum. "
                    "Tag a version to keep it; see the history for those that are left."
                )
            return DeltaTable(self.storage.root, version=version, storage_options=options)

    @contextlib.contextmanager
    def newest(self) -> Iterator[DeltaTable]:
        """The newest version for the length of a block, after which it must not be used any more; see :meth:`open`."""
        identity = self._identity()
        table = _handles.take(self.storage.root, identity) if identity else None
        if table is not None:
            try:
                table.update_incremental()
            except DeltaError:
                table = None
        if table is None:
            table = self.open()
        formats.check_table(table.metadata().configuration, f"data set {self.name!r}")
        yield table
        if identity:
            _handles.keep(self.storage.root, identity, table)

    def _identity(self) -> tuple[int, ...]:
        """What tells this table from another that was there before; empty where it cannot be told."""
        if not self.storage.local:
            return ()
        try:
            first = os.stat(self.storage.at_path("_delta_log", f"{0:020}.json"))
        except OSError:
            return ()
        return os.getpid(), first.st_dev, first.st_ino, first.st_mtime_ns

    def declaration(self, table: DeltaTable) -> Declaration:
        """The declaration at the version of ``table``."""
        return Declaration.read(self.name, pa.schema(table.schema().to_arrow()), table.metadata().configuration)

    def files(self, table: DeltaTable) -> list[TableFile]:
        """The Parquet files of that version."""
        with self._translated():
            actions = pa.table(table.get_add_actions(flatten=True))
        rows = actions.to_pylist()
        return [
            TableFile(
                path=row["path"],
                size=row["size_bytes"],
                rows=row["num_records"] or 0,
                first=row.get("min.id"),
                last=row.get("max.id"),
            )
            for row in rows
        ]

    def added_in(self, version: int) -> list[str]:
        """Paths of the files that the commit of ``version`` added."""
        lines = self.storage.read("_delta_log", f"{version:020}.json").splitlines()
        return [entry["add"]["path"] for entry in map(json.loads, lines) if "add" in entry]

    def scan(self, table: DeltaTable) -> pl.LazyFrame:
        """A lazy frame of that version; filters and columns are pushed down to the Parquet files."""
        return pl.scan_delta(table)

    def history(self) -> list[dict[str, Any]]:
        """The commits, oldest first, each with ``version`` and ``timestamp`` (ms since 1970)."""
        with self._translated():
            return sorted(self.open().history(), key=lambda commit: int(commit["version"]))

    # -- expiry -------------------------------------------------------------------------------------------------------

    @staticmethod
    def expired(newest: DeltaTable, version: int) -> bool:
        """Whether a vacuum has taken ``version``'s payload."""
        before, kept = _expiry(newest)
        return version < before and version not in kept

    def mark_expired(self, before: int, kept: Sequence[int]) -> None:
        """Declare the versions under ``before`` unreadable, except ``kept``; precedes the removal of their files.

        What another vacuum declared unreadable stays so.
        """

        def properties(table: DeltaTable) -> dict[str, str]:
            earlier, spared = _expiry(table)
            left = {v for v in kept if v >= earlier or v in spared} | {v for v in spared if v >= before or v in kept}
            return {_EXPIRED: json.dumps({"before": max(before, earlier), "kept": sorted(left)})}

        self.set_properties(properties, CommitNote("vacuum"))

    @contextlib.contextmanager
    def readable(self, version: int) -> Iterator[None]:
        """Say that ``version`` was vacuumed where that is why its rows or payload are gone under the reader's hands.

        Raises:
            ExpiredVersion: a vacuum removed the version meanwhile.
        """
        try:
            yield
        except ExpiredVersion:
            raise
        except Exception:
            self.open(version)
            raise

    # -- changing -----------------------------------------------------------------------------------------------------

    def commit(
        self, plan: Callable[[DeltaTable], Change | None], note: CommitNote, *, patience: float = _PATIENCE_S
    ) -> int:
        """Make ``plan`` for the newest version and commit it as the next; plan again where another writer was first.

        ``plan`` may be called several times. It returns None where nothing is to be done.

        Args:
            plan: what to change in a version.
            note: for the history.
            patience: seconds after which it is given up where others are always first.

        Returns:
            The version that holds the change (the newest one where there was nothing to do).

        Raises:
            CommitConflict: other writers were faster for so long.
        """
        ticket = Transaction(note.key, 0) if note.key else _tickets.take()

        def attempt(table: DeltaTable) -> int | None:
            landed = self._landed(table, ticket)
            if landed is not None:
                return landed
            if formats.check_table(table.metadata().configuration, self.name) < formats.FORMAT:
                _set_properties(table, {formats.PROPERTY: str(formats.FORMAT)}, CommitNote("upgrade"))
            change = plan(table)
            if change is None:
                return table.version()
            properties = CommitProperties(
                custom_metadata={
                    **(change.note or note).metadata(),
                    MARK + "ticket": f"{ticket.app_id}:{ticket.version}",
                },
                max_commit_retries=0,
                app_transactions=[ticket],
            )
            if change.widening is not None:
                write_deltalake(
                    table, change.widening, mode="append", schema_mode="merge", commit_properties=properties
                )
                version = int(table.version())
                for path in self.added_in(version):  # Delta wrote the file and the commit in one go
                    self.storage.sync(path)
                return version
            table.create_write_transaction(
                [*change.add, *change.remove], "append", table.schema(), commit_properties=properties
            )
            return table.version() + 1

        return self._retried(attempt, note.operation, patience)

    def landed(self, key: str) -> int | None:
        """The version made by an earlier change with the idempotency key ``key``, if there was one."""
        return self._landed(self.open(), Transaction(key, 0))

    def add_columns(self, columns: Iterable[pa.Field], note: CommitNote) -> None:
        """Add nullable columns that are not there yet, in one commit."""
        wanted = list(columns)

        def attempt(table: DeltaTable) -> int | None:
            there = {column.name for column in table.schema().fields}
            missing = [column.with_nullable(True) for column in wanted if column.name not in there]
            if missing:
                fields = Schema.from_arrow(pa.schema(missing)).fields
                table.alter.add_columns(
                    fields, commit_properties=CommitProperties(custom_metadata=note.metadata(), max_commit_retries=0)
                )
            return table.version()

        self._retried(attempt, note.operation)

    def set_properties(
        self, properties: Mapping[str, str] | Callable[[DeltaTable], Mapping[str, str]], note: CommitNote
    ) -> int:
        """Set table properties, given or made from the newest version, in one commit."""

        def attempt(table: DeltaTable) -> int | None:
            _set_properties(table, properties(table) if callable(properties) else properties, note)
            return table.version()

        return self._retried(attempt, note.operation)

    def checkpoint(self) -> None:
        """Sum up the log, so that the newest version opens quickly."""
        with self._translated():
            table = self.open()
            table.create_checkpoint()
        settling.sync_checkpoint(self.storage)

    def write_file(self, rows: pa.Table) -> AddAction:
        """Write ``rows`` as a new Parquet file; it is part of the table once its action is committed."""
        buffer = io.BytesIO()
        pq.write_table(rows, buffer, compression="zstd", row_group_size=_ROW_GROUP, write_page_index=True)
        content = buffer.getvalue()
        path = f"part-{uuid.uuid4().hex}.parquet"
        self.storage.write(content, path, durable=True)  # always: a table with a file cut short cannot be read at all
        statistics = json.dumps(column_statistics(rows))
        return AddAction(path, len(content), {}, _milliseconds(), True, statistics)

    def read_file(self, file: TableFile, columns: list[str] | None = None) -> pa.Table:
        """The rows of one file of the table."""
        with parquet(self.storage, file.path) as opened:
            return opened.read(columns=columns, use_threads=self.storage.local)

    def still_there(self, actions: Iterable[AddAction]) -> bool:
        """Whether files that were written for an earlier attempt are there; they count as new then, for a vacuum."""
        return all(self.storage.touch(action.path) for action in actions)

    @staticmethod
    def removal(file: TableFile) -> RemoveAction:
        """The action that removes ``file`` from the table; older versions still have it."""
        return RemoveAction(file.path, True, _milliseconds(), size=file.size)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _landed(self, table: DeltaTable, ticket: Transaction) -> int | None:
        """The version that a transaction with this ticket made, if there is one."""
        last = table.transaction_version(ticket.app_id)
        if last is None or last < ticket.version:
            return None
        sought = f"{ticket.app_id}:{ticket.version}"
        return next((int(c["version"]) for c in table.history() if c.get(MARK + "ticket") == sought), None)

    def _settle(self, version: int) -> None:
        if self.durable:
            settling.settle(self.storage, self.name, version)

    def _retried(
        self, attempt: Callable[[DeltaTable], int | None], operation: str, patience: float = _PATIENCE_S
    ) -> int:
        deadline = time.monotonic() + patience
        for tries in itertools.count():
            with self._translated():
                try:
                    with turns.turn(self.storage, min(patience, _TURN_S)), self.newest() as table:
                        version = attempt(table)
                except CommitFailedError as error:
                    if "No space left" in str(error):
                        raise
                    if time.monotonic() > deadline:
                        raise CommitConflict(
                            f"data set {self.name!r}: {operation} lost to concurrent writers {tries + 1} times ({error}). "
                            "Nothing was committed; write larger batches, or through one committer, and try again."
                        ) from error
                    logger.debug("data set %r: %s lost a race, attempt %d", self.name, operation, tries + 1)
                    wait = random.uniform(0, min(_LONGEST_WAIT_S, 0.005 * 2 ** min(tries, 7)))  # noqa: S311 - jitter
                    time.sleep(wait)
                    continue
                except FileNotFoundError as error:
                    # a vacuum with a short grace took a file of the version that was planned on: there is a newer one
                    if tries >= _LOST_FILES:
                        raise StorageError(
                            f"data set {self.name!r}: a file of the table is missing ({plain(error)}). "
                            "Nothing was committed: restore it from a copy."
                        ) from error
                    continue
            if version is not None:
                self._settle(version)
                return version
        raise StorageError(
            f"data set {self.name!r}: {operation} did not finish."
        )  # pragma: no cover - count() is endless

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what Delta raises into our errors."""
        with self.storage.translated():
            try:
                yield
            except CommitFailedError:
                raise
            except DeltaError as error:
                text = str(error)
                if "No space left" in text:
                    raise StorageError(
                        f"data set {self.name!r}: the disk of {self.storage.url} is full. "
                        "Free space and run the command again; nothing was committed."
                    ) from error
                raise StorageError(
                    f"data set {self.name!r}: the table at {self.storage.url} failed: {plain(error).rstrip('.')}. "
                    "Look at the storage there, and try again."
                ) from error


@contextlib.contextmanager
def parquet(storage: Storage, *parts: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file of a storage.

    A local one is read by Arrow itself. One that goes through Python's fsspec is read in this thread only: Arrow's own
    threads would still be in Python when the interpreter ends, and abort the process.
    """
    with storage.translated(*parts):
        if storage.local:
            with pq.ParquetFile(storage.at_path(*parts)) as file:
                yield file
            return
        with storage.fs.open(storage.at_path(*parts)) as raw, pq.ParquetFile(raw, pre_buffer=False) as file:
            yield file


def _expiry(table: DeltaTable) -> tuple[int, set[int]]:
    """The version before which all are unreadable, and those that are not."""
    mark = json.loads(table.metadata().configuration.get(_EXPIRED) or '{"before": 0, "kept": []}')
    return int(mark["before"]), {int(version) for version in mark["kept"]}


def _set_properties(table: DeltaTable, properties: Mapping[str, str], note: CommitNote) -> None:
    table.alter.set_table_properties(
        dict(properties),
        raise_if_not_exists=False,
        commit_properties=CommitProperties(custom_metadata=note.metadata(), max_commit_retries=0),
    )


def _milliseconds() -> int:
    return int(time.time() * 1000)
