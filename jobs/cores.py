"""A core of its own for work that keeps one core busy.

Encoders start threads even where they are told to use one, and hand a picture from one to the next. Spread over the cores
of a busy machine, each hand-over waits for a core to wake or to be free: two encoders side by side on two cores take up to
a fifth longer than each on a core of its own (``python -m tests.benchmarks sweep``).
"""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["one_core"]


@contextmanager
def one_core() -> Iterator[int | None]:
    """Keep this thread, and the threads and programs that it starts, on one core for the length of the block.

    The core is one that no other block on this machine holds; a lock on a file says so, which the kernel gives back whatever
    becomes of the process. Where there is none left, or the system has no such thing, nothing is changed.

    Yields:
        The core's number, or None.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    allowed = os.sched_getaffinity(0)
    held = _claim(sorted(allowed))
    if held is None:
        yield None
        return
    core, lock = held
    try:
        os.sched_setaffinity(0, {core})
        yield core
    finally:
        os.sched_setaffinity(0, allowed)
        os.close(lock)


def _claim(cores: list[int]) -> tuple[int, int] | None:
    """A free core and the open file whose lock says that it is taken."""
    try:
        folder = Path(tempfile.gettempdir()) / f"sensorium-cores-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        # in any order: of two that begin at the same moment neither should wait for the other's core
        for core in random.sample(cores, len(cores)):
            lock = os.open(folder / str(core), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            return core, lock
    except OSError:  # a folder of somebody else's, or a full disk: then without
        return None
    return None
