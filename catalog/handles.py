"""What a thread keeps between commits: its transaction ids, and the tables that it has open."""

from __future__ import annotations

import itertools
import os
import threading
import uuid

from deltalake import DeltaTable, Transaction

__all__ = ["Handles", "Tickets"]

_KEPT_HANDLES = 8


class Tickets(threading.local):
    """Transaction ids of this thread: one writer that counts, so that the log keeps one entry for it, not one a commit.

    Per thread, because an id says that all lower ones of its writer have been dealt with.
    """

    def __init__(self) -> None:
        self._process = -1

    def take(self) -> Transaction:
        if self._process != os.getpid():  # a forked process is another writer
            self._process, self._writer, self._counter = os.getpid(), str(uuid.uuid4()), itertools.count(1)
        return Transaction(self._writer, next(self._counter))


class Handles(threading.local):
    """Tables that this thread has open, by folder: brought up to date, one opens many times faster than anew.

    One that is in use is not in here, so that nothing that a plan does moves it to another version.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[tuple[int, ...], DeltaTable]] = {}

    def take(self, root: str, identity: tuple[int, ...]) -> DeltaTable | None:
        held = self._held.pop(root, None)
        return held[1] if held is not None and held[0] == identity else None

    def keep(self, root: str, identity: tuple[int, ...], table: DeltaTable) -> None:
        while len(self._held) >= _KEPT_HANDLES:
            self._held.pop(next(iter(self._held)))
        self._held[root] = identity, table
