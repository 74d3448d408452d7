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
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from sensorium.catalog.declaration import Declaration, Source
from sensorium.catalog.statistics import column_statistics
from sensorium.platform.errors import (
    CommitConflict,
    ExpiredVersion,
    StorageError,
    UnknownDataset,
    UnknownVersion,
)
from sensorium.platform.storage import Storage, plain

__all__ = ["Change", "CommitNote", "Table", "TableFile", "parquet", "pick_version"]

logger = logging.getLogger(__name__)

#: a commit is given up after so long a time of losing to others
_PATIENCE_S = 120.0
_LONGEST_WAIT_S = 0.5
_ROW_GROUP = 65_536
#: a version stays readable until *we* vacuum it; the log is never shortened behind our back
_PROPERTIES = {
    "delta.checkpointInterval": "50",
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
}
_EXPIRED = "sensorium.expired"
_NOTE = "sensorium."


class _Tickets(threading.local):
    """Transaction ids of this thread: one writer that counts, so that the log keeps one entry for it, not one a commit.

    Per thread, because an id says that all lower ones of its writer have been dealt with.
    """

    def __init__(self) -> None:
        self._process = -1

    def take(self) -> Transaction:
        if self._process != os.getpid():  # a forked process is another writer
            self._process, self._writer, self._counter = os.getpid(), str(uuid.uuid4()), itertools.count(1)
        return Transaction(self._writer, next(self._counter))


_tickets = _Tickets()


@dataclass(frozen=True)
class CommitNote:
    """What a commit says of itself in the history.

    Attributes:
        operation: ``append``, ``update``, ``delete``, ``compact`` …
        samples: how many samples it touched.
        message: the user's remark.
        sources: data sets, at versions, that the samples were made from.
        run: id of the run that made them.
        key: the user's idempotency key: a second change with the same key does nothing.
    """

    operation: str
    samples: int = 0
    message: str = ""
    sources: tuple[Source, ...] = ()
    run: str = ""
    key: str = ""

    def metadata(self) -> dict[str, str]:
        content: dict[str, str] = {"operation": self.operation, "samples": str(self.samples)}
        if self.sources:
            content["sources"] = json.dumps([[source.dataset, source.version] for source in self.sources])
        content.update({name: value for name in ("message", "run", "key") if (value := getattr(self, name))})
        return {_NOTE + name: value for name, value in content.items()}

    @classmethod
    def read(cls, commit: Mapping[str, Any]) -> CommitNote:
        """From an entry of the Delta history."""
        found = {key.removeprefix(_NOTE): value for key, value in commit.items() if key.startswith(_NOTE)}
        return cls(
            operation=found.get("operation", str(commit.get("operation", "")).lower()),
            samples=int(found.get("samples", 0)),
            message=found.get("message", ""),
            sources=tuple(Source(name, version) for name, version in json.loads(found.get("sources", "[]"))),
            run=found.get("run", ""),
            key=found.get("key", ""),
        )


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
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self.storage = storage
        self.name = name

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
                    configuration={**_PROPERTIES, **declaration.properties()},
                    storage_options=self.storage.delta_options(),
                    commit_properties=CommitProperties(custom_metadata=note.metadata()),
                    raise_if_key_not_exists=False,
                    mode="error",
                )
            except DeltaError:
                if self.exists():
                    return False
                raise
        return True

    def exists(self) -> bool:
        return bool(DeltaTable.is_deltatable(self.storage.root, self.storage.delta_options()))

    def open(self, version: int | None = None) -> DeltaTable:
        """The table at ``version``, or at its newest.

        Raises:
            UnknownDataset: there is no table.
            UnknownVersion, ExpiredVersion: there is, but not that version, or it was vacuumed.
        """
        options = self.storage.delta_options()
        with self._translated():
            try:
                newest = DeltaTable(self.storage.root, storage_options=options)
            except TableNotFoundError as error:
                raise UnknownDataset(
                    f"there is no data set {self.name!r}: {self.storage.url} holds no table."
                ) from error
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
        mark = json.loads(newest.metadata().configuration.get(_EXPIRED) or '{"before": 0, "kept": []}')
        return version < mark["before"] and version not in mark["kept"]

    def mark_expired(self, before: int, kept: Sequence[int]) -> None:
        """Declare the versions under ``before`` unreadable, except ``kept``; precedes the removal of their files."""
        mark = json.dumps({"before": before, "kept": sorted(kept)})
        self.set_properties({_EXPIRED: mark}, CommitNote("vacuum"))

    # -- changing -----------------------------------------------------------------------------------------------------

    def commit(self, plan: Callable[[DeltaTable], Change | None], note: CommitNote) -> int:
        """Make ``plan`` for the newest version and commit it as the next; plan again where another writer was first.

        ``plan`` may be called several times. It returns None where nothing is to be done.

        Returns:
            The version that holds the change (the newest one where there was nothing to do).

        Raises:
            CommitConflict: other writers were faster for two minutes.
        """
        ticket = Transaction(note.key, 0) if note.key else _tickets.take()

        def attempt(table: DeltaTable) -> int | None:
            landed = self._landed(table, ticket)
            if landed is not None:
                return landed
            change = plan(table)
            if change is None:
                return table.version()
            properties = CommitProperties(
                custom_metadata={
                    **(change.note or note).metadata(),
                    _NOTE + "ticket": f"{ticket.app_id}:{ticket.version}",
                },
                max_commit_retries=0,
                app_transactions=[ticket],
            )
            if change.widening is not None:
                write_deltalake(
                    table, change.widening, mode="append", schema_mode="merge", commit_properties=properties
                )
                return int(table.version())
            table.create_write_transaction(
                [*change.add, *change.remove], "append", table.schema(), commit_properties=properties
            )
            return table.version() + 1

        return self._retried(attempt, note.operation)

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

    def set_properties(self, properties: Mapping[str, str], note: CommitNote) -> int:
        """Set table properties in one commit."""

        def attempt(table: DeltaTable) -> int | None:
            table.alter.set_table_properties(
                dict(properties),
                raise_if_not_exists=False,
                commit_properties=CommitProperties(custom_metadata=note.metadata(), max_commit_retries=0),
            )
            return table.version()

        return self._retried(attempt, note.operation)

    def write_file(self, rows: pa.Table) -> AddAction:
        """Write ``rows`` as a new Parquet file; it is part of the table once its action is committed."""
        buffer = io.BytesIO()
        pq.write_table(rows, buffer, compression="zstd", row_group_size=_ROW_GROUP, write_page_index=True)
        content = buffer.getvalue()
        path = f"part-{uuid.uuid4().hex}.parquet"
        self.storage.write(content, path)
        statistics = json.dumps(column_statistics(rows))
        return AddAction(path, len(content), {}, _milliseconds(), True, statistics)

    def read_file(self, file: TableFile, columns: list[str] | None = None) -> pa.Table:
        """The rows of one file of the table."""
        with parquet(self.storage, file.path) as opened:
            return opened.read(columns=columns, use_threads=self.storage.local)

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
        return next((int(c["version"]) for c in table.history() if c.get(_NOTE + "ticket") == sought), None)

    def _retried(self, attempt: Callable[[DeltaTable], int | None], operation: str) -> int:
        deadline = time.monotonic() + _PATIENCE_S
        for tries in itertools.count():
            with self._translated():
                try:
                    version = attempt(self.open())
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
            if version is not None:
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
                    f"data set {self.name!r}: the table at {self.storage.url} failed: {plain(error)}"
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


def pick_version(history: Sequence[Mapping[str, Any]], moment: datetime, name: str) -> int:
    """The version that was the newest at ``moment`` (naive times are UTC)."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    wanted = moment.timestamp() * 1000
    versions = [int(commit["version"]) for commit in history if commit["timestamp"] <= wanted]
    if not versions:
        first = datetime.fromtimestamp(history[0]["timestamp"] / 1000, UTC)
        raise UnknownVersion(
            f"data set {name!r} did not exist at {moment.isoformat()}; it was made at {first.isoformat()}."
        )
    return max(versions)


def _milliseconds() -> int:
    return int(time.time() * 1000)
