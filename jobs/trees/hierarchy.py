"""Passes over a tree (``parent`` as the package says): each is one loop over its nodes.

Shapes: N nodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.trees.compiled import compiled

__all__ = ["below", "child_counts", "depths", "nearest", "path_all", "subtree_any", "subtree_sums"]


@compiled
def depths(parent: NDArray[np.int32]) -> NDArray[np.int32]:
    """Steps from the root to each node, [N]."""
    depth = np.zeros(parent.size, np.int32)
    for node in range(1, parent.size):
        depth[node] = depth[parent[node]] + 1
    return depth


@compiled
def child_counts(parent: NDArray[np.int32]) -> NDArray[np.int32]:
    """Children of each node, [N]."""
    count = np.zeros(parent.size, np.int32)
    for node in range(1, parent.size):
        count[parent[node]] += 1
    return count


@compiled
def subtree_sums(parent: NDArray[np.int32], own: NDArray[Any]) -> NDArray[Any]:
    """Sum of ``own`` (int64 or float64 [N]) over each node and all that are below it, [N]."""
    total = own.copy()
    for node in range(parent.size - 1, 0, -1):
        total[parent[node]] += total[node]
    return total


@compiled
def subtree_any(parent: NDArray[np.int32], flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a node, or any below it, has its flag, [N]."""
    found = flags.copy()
    for node in range(parent.size - 1, 0, -1):
        if found[node]:
            found[parent[node]] = True
    return found


@compiled
def path_all(parent: NDArray[np.int32], flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a node, and all above it, have their flags, [N]."""
    found = flags.copy()
    for node in range(1, parent.size):
        if not found[parent[node]]:
            found[node] = False
    return found


@compiled
def below(parent: NDArray[np.int32], flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a node, or any above it, has its flag, [N]."""
    found = flags.copy()
    for node in range(1, parent.size):
        if found[parent[node]]:
            found[node] = True
    return found


@compiled
def nearest(parent: NDArray[np.int32], flags: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The node itself, or the first on its way to the root, that has its flag, int32 [N]; the root's must be set."""
    found = np.zeros(parent.size, np.int32)
    for node in range(1, parent.size):
        found[node] = node if flags[node] else found[parent[node]]
    return found
