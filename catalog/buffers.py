"""Memory for batches that is used again: pages that the system has yet to hand out cost as much as filling them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["Buffers"]

#: less comes out of the heap, which keeps its pages
_WORTH_BYTES = 1 << 20


def _plain(nbytes: int) -> np.ndarray:
    return np.empty(nbytes, np.uint8)


class Buffers:
    """Arrays whose memory comes back once nobody refers to them, or to a view or a tensor of them, any more.

    Memory of at most ``limit`` bytes waits to be used again. Threads may share one.
    """

    def __init__(self, limit: int = 1 << 30, allocate: Callable[[int], np.ndarray] = _plain) -> None:
        """Take memory from ``allocate``, which is given a number of bytes and returns a uint8 array."""
        self._limit, self._allocate = limit, allocate
        self._lock = threading.RLock()  # memory may come back while some is taken: the collector runs whenever it likes
        self._waiting: dict[int, list[np.ndarray]] = {}
        self._held = 0

    def take(self, shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
        """An array of this shape and dtype, whose values are whatever they are."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < _WORTH_BYTES:
            return np.empty(shape, dtype)
        with self._lock:
            waiting = self._waiting.get(nbytes)
            block = waiting.pop() if waiting else None
            self._held -= nbytes if block is not None else 0
        lease = _Lease(self, self._allocate(nbytes) if block is None else block)
        return np.asarray(lease).view(dtype).reshape(shape)

    def _back(self, block: np.ndarray) -> None:
        with self._lock:
            if self._held + block.nbytes > self._limit:
                self._waiting.clear()  # what is asked for has another size now
                self._held = 0
            if block.nbytes <= self._limit:
                self._waiting.setdefault(block.nbytes, []).append(block)
                self._held += block.nbytes


class _Lease:
    """What an array's memory belongs to, for as long as the array lives."""

    def __init__(self, owner: Buffers, block: np.ndarray) -> None:
        self._owner, self._block = owner, block
        self.__array_interface__ = block.__array_interface__

    def __del__(self) -> None:
        self._owner._back(self._block)
