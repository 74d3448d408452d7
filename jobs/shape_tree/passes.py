"""Passes of Algorithm 3 over a live tree, each in one compiled loop.

Shapes: N nodes; an image with its border is [H + 2, W + 2].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.shape_tree.shifting import Live, mean_of_neighbours, parent_of, shift, there
from sensorium.jobs.trees.compiled import compiled

__all__ = ["area_pass", "mean_pass", "proper_parts", "quantise_pass", "settled"]


@compiled
def proper_parts(node_of_pixel: NDArray[np.int32], nodes: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Size of each proper part and its first pixel, row by row; both int32 [N]."""
    pixels = np.zeros(nodes, np.int32)
    lead = np.empty(nodes, np.int32)
    flat = node_of_pixel.ravel()
    for place in range(flat.size):
        one = flat[place]
        if pixels[one] == 0:
            lead[one] = place
        pixels[one] += 1
    return pixels, lead


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
    live: Live, pixels: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The tree that a live one has become, numbered as :class:`.tree.ShapeTree` says.

    Args:
        live: the tree.
        pixels: of the image with its border.

    Returns:
        number: int32 [N], the new number of what is there for each old node.
        parent, altitude, pixels, lead: int32 [M], of the nodes that are there.
    """
    nodes = live.size
    at = np.full(pixels, -1, np.int32)
    left = 0
    for one in range(nodes):
        if live[one].up == one:
            at[live[one].lead] = one
            left += 1
    # children of each node, in the order of their first pixels
    start = np.zeros(nodes + 1, np.int32)
    for one in range(1, nodes):
        if live[one].up == one:
            start[parent_of(live, one) + 1] += 1
    for one in range(nodes):
        start[one + 1] += start[one]
    children = np.empty(left, np.int32)
    place = start[:-1].copy()
    for position in range(pixels):
        one = at[position]
        if one > 0:
            above = live[one].parent
            children[place[above]] = one
            place[above] += 1
    parent, altitude = np.zeros(left, np.int32), np.empty(left, np.int32)
    sizes, lead = np.empty(left, np.int32), np.empty(left, np.int32)
    order = np.empty(left, np.int32)
    number = place[:nodes]  # used up by now
    order[0] = number[0] = 0
    filled = 1
    for done in range(left):
        one = order[done]
        altitude[done], sizes[done], lead[done] = live[one].altitude, live[one].pixels, live[one].lead
        for position in range(start[one], start[one + 1]):
            child = children[position]
            order[filled] = child
            number[child] = filled
            parent[filled] = done
            filled += 1
    for one in range(nodes):
        if live[one].up != one:
            number[one] = number[there(live, one)]
    return number, parent, altitude, sizes, lead
