"""Disjoint sets in an array: ``up[x]`` leads towards the root of x's set, and a root leads to itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.trees.compiled import compiled

__all__ = ["find", "fresh", "join", "labelled"]


@compiled
def fresh(count: int) -> NDArray[np.int32]:
    """``count`` sets of one element each."""
    return np.arange(count).astype(np.int32)


@compiled
def find(up: NDArray[np.int32], x: int) -> int:
    """The root of x's set; halves the path on its way."""
    while up[x] != x:
        up[x] = up[up[x]]
        x = up[x]
    return x


@compiled
def join(up: NDArray[np.int32], a: int, b: int) -> int:
    """Unite the sets of a and b; the root is the smallest element. Gives the root."""
    a, b = find(up, a), find(up, b)
    if a > b:
        a, b = b, a
    up[b] = a
    return a


@compiled
def labelled(up: NDArray[np.int32]) -> tuple[NDArray[np.int32], int]:
    """Number the sets that :func:`join` made by their smallest elements; in place, ``up`` holds no sets afterwards.

    Returns:
        label: ``up`` itself, of each element the number of its set, from 0.
        count: of the sets.
    """
    count = 0
    for x in range(up.size):
        above = up[x]
        if above == x:
            up[x] = count
            count += 1
        else:
            up[x] = up[above]  # smaller than x, hence a label already
    return up, count
