"""Threads of this process in which chunks are coded: codecs let go of the interpreter while they work."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_threads"]

A = TypeVar("A")
B = TypeVar("B")

#: less than this is done before a second thread has begun
_WORTH_BYTES = 2 << 20
#: smaller items keep the interpreter busy, which one thread does best
_WORTH_ITEM_BYTES = 32 << 10


def in_threads(work: Callable[[A], B], items: Sequence[A], nbytes: int) -> list[B]:
    """``work`` of each item, in order; by several threads where ``nbytes`` of plain data are worth it."""
    cores = len(os.sched_getaffinity(0))
    if len(items) < 2 or nbytes < max(_WORTH_BYTES, len(items) * _WORTH_ITEM_BYTES) or cores < 2:
        return [work(item) for item in items]
    # a few long stretches: handing over each chunk by itself costs more than small ones take
    step = max(1, -(-len(items) // (4 * cores)))
    parts = [items[begin : begin + step] for begin in range(0, len(items), step)]
    done = _pool(os.getpid(), cores).map(lambda part: [work(item) for item in part], parts)
    return [result for part in done for result in part]


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # noqa: ARG001 - a forked process has none of its parent's threads
    return ThreadPoolExecutor(threads, thread_name_prefix="sensorium-chunks")
