"""Arrays whose memory goes back to the system as soon as they do.

What ``malloc`` gives is often kept for later when it is freed, in pieces too small for the next large array: the peak of a
computation with several stages is then nearly the sum of theirs.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["scratch"]

#: smaller ones are not worth a mapping
_SMALLEST = 1 << 20


def scratch(count: int, dtype: DTypeLike) -> NDArray[Any]:
    """An array [count] with nothing in particular in it. Pages that are never touched take no memory."""
    kind = np.dtype(dtype)
    size = count * kind.itemsize
    if size < _SMALLEST or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.empty(count, kind)
    mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapped.madvise(mmap.MADV_HUGEPAGE)  # as NumPy does: random access would miss the table of small pages
    return np.frombuffer(mapped, kind)
