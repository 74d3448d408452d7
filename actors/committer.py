"""One committer for many producers: rows that arrive together become one commit.

Tasks that each commit their own result race for versions and leave a long log of tiny files. They can instead write their
payload as usual and hand the rows to this actor, which commits whatever has arrived since its last commit. A producer that
waits for the answer knows that its rows are durable. The actor keeps nothing that is not in the lake: if it dies, it starts
again, producers' calls are repeated, and rows that had landed are recognised by their ids.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray

from sensorium.catalog.declaration import Source
from sensorium.catalog.fields import Field
from sensorium.catalog.table import CommitNote, Table
from sensorium.catalog.writing import append_rows
from sensorium.platform.storage import Storage

__all__ = ["Committer", "start"]


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Committer:
    """Appends rows to one data set; ids that are there already are left out."""

    def __init__(
        self, storage: Storage, name: str, sources: Sequence[Source] = (), run: str = "", message: str = ""
    ) -> None:
        """``storage`` is the data set's folder; the rest goes into the history."""
        self._table = Table(storage.below("samples"), name)
        self._note = CommitNote("append", message=message, sources=tuple(sources), run=run)
        self._waiting: list[tuple[pa.Table, dict[str, Field], asyncio.Future[int]]] = []
        self._busy: asyncio.Task[None] | None = None

    async def append(self, rows: pa.Table, declared: dict[str, Field], *after: int) -> int:  # noqa: ARG002
        """Commit ``rows`` (payload written), together with whatever else is waiting.

        Args:
            rows: with ids; those that are there already are left out.
            declared: fields of the columns.
            after: answers of other committers; Ray does not make the call before they are there.

        Returns:
            The version that holds them, once they are durable.
        """
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, declared, answer))
        if self._busy is None or self._busy.done():
            self._busy = asyncio.create_task(self._drain())
        return await answer

    def process(self) -> int:
        """Id of the process that the actor runs in."""
        return os.getpid()

    async def _drain(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                version = await asyncio.to_thread(self._commit, group)
            except Exception as error:  # noqa: BLE001 - it belongs to the producers, who raise it
                for _, _, answer in group:
                    answer.set_exception(error)
            else:
                for _, _, answer in group:
                    answer.set_result(version)

    def _commit(self, group: list[tuple[pa.Table, dict[str, Field], Any]]) -> int:
        rows = pa.concat_tables([rows for rows, _, _ in group], promote_options="permissive")
        if not rows.num_rows:
            return int(self._table.open().version())
        declared = {name: field for _, fields, _ in group for name, field in fields.items()}
        return append_rows(self._table, _first_of_each_id(rows), declared, self._note, existing="skip").version


def start(storage: Storage, name: str, *, sources: Sequence[Source] = (), run: str = "", message: str = "") -> Any:
    """A committer for the data set ``name`` at ``storage``; it ends with the session."""
    return Committer.remote(storage, name, tuple(sources), run, message)  # type: ignore[attr-defined]


def _first_of_each_id(rows: pa.Table) -> pa.Table:
    """``rows`` without repetitions of an id: two tries of one task may both have arrived."""
    seen: set[str] = set()
    kept = []
    for index, identifier in enumerate(rows.column("id").to_pylist()):
        if identifier not in seen:
            seen.add(identifier)
            kept.append(index)
    return rows if len(kept) == rows.num_rows else rows.take(kept)
