"""From zones to nodes, numbered breadth first.

Shapes: Z zones, N nodes, C cells (:mod:`.immersion`); an image with its border is [H + 2, W + 2].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.trees.compiled import compiled

__all__ = ["breadth_first", "nodes_of_zones"]


@compiled
def nodes_of_zones(
    zone: NDArray[np.int32], parent: NDArray[np.int32], level: NDArray[np.uint16], height: int, width: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint16]]:
    """Join zones with the zone around them where both have one level; number what results by its first pixel.

    Args:
        zone: int32 [C], of pixels.
        parent: int32 [Z], the zone in which each lies.
        level: uint16 [Z].
        height: of the image without border.
        width: likewise.

    Returns:
        node: int32 [H + 2, W + 2], of each pixel; nodes are numbered as they come, row by row.
        above: int32 [N], the parent of each node; of the first, the root, itself.
        altitude: uint16 [N], level of each.
    """
    zones = parent.size
    same = np.empty(zones, np.int32)  # the first zone of each zone's node
    nodes = 0
    for one in range(zones):
        if one > 0 and level[parent[one]] == level[one]:
            same[one] = same[parent[one]]
        else:
            same[one] = one
            nodes += 1
    number = np.full(zones, -1, np.int32)
    first = np.empty(nodes, np.int32)
    node = np.empty((height + 2, width + 2), np.int32)
    row = width + 3
    found = 0
    for y in range(height + 2):
        for x in range(width + 2):
            its = same[zone[(y + 1) * row + 1 + x]]
            if number[its] < 0:
                number[its] = found
                first[found] = its
                found += 1
            node[y, x] = number[its]
    above = np.empty(nodes, np.int32)
    altitude = np.empty(nodes, np.uint16)
    for one in range(nodes):
        above[one] = number[same[parent[first[one]]]]
        altitude[one] = level[first[one]]
    return node, above, altitude


@compiled
def breadth_first(above: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Breadth-first order of a tree; siblings keep their order.

    Args:
        above: int32 [N], the parent of each node; the root is node 0.

    Returns:
        order: int32 [N], nodes in the order.
        rank: int32 [N], the place of each node in it.
    """
    nodes = above.size
    start = np.zeros(nodes + 1, np.int32)
    for one in range(1, nodes):
        start[above[one] + 1] += 1
    for one in range(nodes):
        start[one + 1] += start[one]
    place = start[:-1].copy()
    children = np.empty(nodes, np.int32)
    for one in range(1, nodes):
        children[place[above[one]]] = one
        place[above[one]] += 1
    order = np.empty(nodes, np.int32)
    rank = np.empty(nodes, np.int32)
    order[0] = rank[0] = 0
    filled = 1
    for done in range(nodes):
        one = order[done]
        for position in range(start[one], start[one + 1]):
            child = children[position]
            order[filled] = child
            rank[child] = filled
            filled += 1
    return order, rank
