"""Writers of one table on one machine take turns, so that none of them plans in vain again and again.

It is a courtesy, and nothing rests on it: the Delta commit alone decides who was first. So nothing happens on an object
store; and where there are no locks, or the turn does not come soon enough, the writer goes on without it. The kernel ends
the turn of a process that is killed. Readers do not take part.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import time
from collections.abc import Iterator

from sensorium.platform.storage import Storage

__all__ = ["SUFFIX", "turn"]

#: of the file that is locked; it lies beside the table's folder, is empty, and may be removed at any time
SUFFIX = ".lock"
#: mean seconds between two looks of a writer that has just come, and the least ever
_FIRST_WAIT_S, _LEAST_WAIT_S = 0.016, 0.001
#: seconds of waiting after which a writer looks twice as often as at first, so that those who came early are served early
_AGE_S = 0.02


@contextlib.contextmanager
def turn(storage: Storage, patience: float) -> Iterator[bool]:
    """Have the turn for the length of a block; yields whether it came within ``patience`` seconds.

    Args:
        storage: folder of the table.
        patience: seconds after which the block is entered all the same.
    """
    # opened anew each time: a lock belongs to the open file, so that threads of one process wait for each other, too
    lock = _taken(storage, time.monotonic() + patience) if storage.local else None
    try:
        yield lock is not None
    finally:
        if lock is not None:
            with contextlib.suppress(OSError):  # explicitly: a process forked meanwhile has the open file as well
                fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)


def _taken(storage: Storage, deadline: float) -> int | None:
    """A descriptor of the table's lock file, locked; None where that cannot be."""
    began = time.monotonic()
    path = storage.root + SUFFIX
    # whoever drops the table removes its log first, and must not find a new file in a folder that is emptied
    while os.path.isdir(storage.at_path("_delta_log")):
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        kept = False
        try:
            while not _locked(lock):
                now = time.monotonic()
                if now >= deadline:
                    return None
                wait = max(_LEAST_WAIT_S, _FIRST_WAIT_S / (1 + (now - began) / _AGE_S))
                time.sleep(random.uniform(0, 2 * wait))  # noqa: S311 - jitter
            kept = _is_at(lock, path)
            if kept:
                return lock
        except OSError:  # a file system without locks
            return None
        finally:
            if not kept:
                os.close(lock)
        if time.monotonic() >= deadline:
            return None
    return None


def _locked(lock: int) -> bool:
    """Lock it if nobody else has."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(lock: int, path: str) -> bool:
    """Whether the open file is the one of that name: whoever comes after its removal locks another one."""
    try:
        return os.path.samestat(os.fstat(lock), os.stat(path))
    except FileNotFoundError:
        return False
