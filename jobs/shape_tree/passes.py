"""Passes of Algorithm 3 over a live tree, each in one compiled loop.

Shapes: N nodes; an image with its border is [H + 2, W + 2].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.shape_tree.shifting import Live, mean_of_neighbours, parent_of, shift, there
from sensorium.jobs.trees.compiled import compiled

__all__ = ["area_pass", "mean_pass", "proper_parts", "quantise_pass", "settled", "smallest_first"]


@compiled
def proper_parts(live: Live, node_of_pixel: NDArray[np.int32]) -> None:
    """Size of each proper part and its first pixel, row by row, into ``pixels`` and ``lead`` of the nodes."""
    for one in range(live.size):
        live[one].pixels = 0
    flat = node_of_pixel.ravel()
    for place in range(flat.size):
        node = live[flat[place]]
        if node.pixels == 0:
            node.lead = place
        node.pixels += 1


@compiled
def mean_pass(live: Live) -> int:
    """Shift every node to the mean of its neighbours, from the root to the leaves, breadth first; how many were visited.

    The order is that of the tree before the pass; means, and which nodes are there, are those of the tree by then.
    """
    taken = np.empty(live.size, np.int32)
    visits = 0
    for one in range(1, live.size):
        if live[one].up == one:
            visits += 1
            shift(live, one, mean_of_neighbours(live, one), taken)
    return visits


@compiled
def smallest_first(live: Live, area: int) -> NDArray[np.int32]:
    """Nodes with proper parts smaller than ``area``, the smallest first, equal ones by their numbers; all must be there."""
    start = np.zeros(area + 1, np.int64)
    for one in range(live.size):
        if live[one].pixels < area:
            start[live[one].pixels + 1] += 1
    for size in range(area):
        start[size + 1] += start[size]
    order = np.empty(start[area], np.int32)
    for one in range(live.size):
        size = live[one].pixels
        if size < area:
            order[start[size]] = one
            start[size] += 1
    return order


@compiled
def area_pass(live: Live, order: NDArray[np.int32], area: int) -> None:
    """Merge nodes with proper parts smaller than ``area`` with their parents, in an order, each if it is so small still."""
    taken = np.empty(live.size, np.int32)
    for one in order:
        if one != 0 and live[one].up == one and live[one].pixels < area:
            shift(live, one, live[parent_of(live, one)].altitude, taken)


@compiled
def quantise_pass(live: Live, order: NDArray[np.int32], lowest: int, table: NDArray[np.int32]) -> None:
    """Shift every node to the value that ``table`` gives for its altitude, counted from ``lowest``; in an order."""
    taken = np.empty(live.size, np.int32)
    for one in order:
        if one != 0 and live[one].up == one:
            shift(live, one, table[live[one].altitude - lowest], taken)


@compiled
def settled(
    live: Live, node_of_pixel: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The tree that a live one has become, numbered as :class:`.tree.ShapeTree` says.

    Args:
        live: the tree; used up, since lists and bounds make room for what is counted here.
        node_of_pixel: int32 [H + 2, W + 2], nodes of ``live``; those of the result afterwards.

    Returns:
        parent, altitude, pixels, lead: int32 [M], of the nodes that are there.
    """
    flat = node_of_pixel.ravel()
    left = _siblings(live, flat)
    parent, altitude = np.zeros(left, np.int32), np.empty(left, np.int32)
    sizes, lead = np.empty(left, np.int32), np.empty(left, np.int32)
    # breadth first; of the records, ``floor`` holds the queue, in its own order, and ``roof`` the new number of each
    live[0].floor = live[0].roof = 0
    filled = 1
    for done in range(left):
        one = live[done].floor
        node = live[one]
        altitude[done], sizes[done], lead[done] = node.altitude, node.pixels, node.lead
        child = node.child
        while child >= 0:
            live[filled].floor = child
            live[child].roof = filled
            parent[filled] = done
            filled += 1
            child = live[child].later
    for place in range(flat.size):
        flat[place] = live[there(live, flat[place])].roof
    return parent, altitude, sizes, lead


@compiled
def _siblings(live: Live, flat: NDArray[np.int32]) -> int:
    """Make each list of children that of the nodes which are there, in the order of their first pixels; how many there are.

    A bit for each pixel says whether it is somebody's first: that takes less memory than nodes in their order.
    """
    leads = np.zeros((flat.size >> 6) + 1, np.uint64)
    left = 0
    for one in range(live.size):
        node = live[one]
        if node.up == one:
            node.child = -1
            leads[node.lead >> 6] |= np.uint64(1) << np.uint64(node.lead & 63)
            left += 1
    for word in range(leads.size - 1, -1, -1):
        bits = leads[word]
        if bits == 0:
            continue
        for bit in range(63, -1, -1):
            if not bits >> np.uint64(bit) & np.uint64(1):
                continue
            one = there(live, flat[(word << 6) + bit])
            if one > 0:
                above = live[parent_of(live, one)]
                live[one].later = above.child
                above.child = one
    return left
