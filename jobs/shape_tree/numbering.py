"""From zones to nodes, numbered breadth first.

Shapes: Z zones, N nodes, C cells (:mod:`.immersion`); an image with its border is [H + 2, W + 2].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.trees.compiled import compiled
from sensorium.jobs.trees.memory import scratch

__all__ = ["breadth_first", "nodes_of_zones", "renumber"]


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
    number, first = scratch(parent.size, np.int32), scratch(parent.size, np.int32)
    node = np.empty((height + 2, width + 2), np.int32)
    nodes = _nodes(zone, parent, level, number, first, node)
    above, altitude = scratch(nodes, np.int32), scratch(nodes, np.uint16)
    _parents(parent, level, number, first, above, altitude)
    return node, above, altitude


@compiled
def _nodes(
    zone: NDArray[np.int32], parent: NDArray[np.int32], level: NDArray[np.uint16],
    number: NDArray[np.int32], first: NDArray[np.int32], node: NDArray[np.int32],
) -> int:  # fmt: skip
    """The node of each pixel, into ``node``; how many there are.

    The other two [Z] are filled: ``number``, of each zone's node; ``first``, of each node the first zone. Until a zone is met,
    its number is -1 - the first zone of its node: one place to look at, for every pixel looks at random.
    """
    for one in range(parent.size):
        number[one] = number[parent[one]] if one > 0 and level[parent[one]] == level[one] else -1 - one
    height, width = node.shape
    row = width + 1
    nodes = 0
    for y in range(height):
        for x in range(width):
            its = zone[(y + 1) * row + 1 + x]
            found = number[its]
            if found < 0:
                head = -1 - found
                if number[head] < 0:
                    number[head] = nodes
                    first[nodes] = head
                    nodes += 1
                found = number[its] = number[head]
            node[y, x] = found
    return nodes


@compiled
def _parents(
    parent: NDArray[np.int32], level: NDArray[np.uint16],
    number: NDArray[np.int32], first: NDArray[np.int32],
    above: NDArray[np.int32], altitude: NDArray[np.uint16],
) -> None:  # fmt: skip
    """Parent and level of each node, into ``above`` and ``altitude`` [N]; see :func:`_nodes`."""
    for one in range(above.size):
        above[one] = number[parent[first[one]]]
        altitude[one] = level[first[one]]


def breadth_first(above: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Breadth-first order of a tree; siblings keep their order.

    Args:
        above: int32 [N], the parent of each node; the root is node 0.

    Returns:
        order: int32 [N], nodes in the order.
        rank: int32 [N], the place of each node in it.
    """
    order, rank, place, children = (scratch(above.size, np.int32) for _ in range(4))
    _breadth_first(above, scratch(above.size + 1, np.int32), place, children, order, rank)
    return order, rank


@compiled
def _breadth_first(
    above: NDArray[np.int32], start: NDArray[np.int32], place: NDArray[np.int32], children: NDArray[np.int32],
    order: NDArray[np.int32], rank: NDArray[np.int32],
) -> None:  # fmt: skip
    """See there; ``children`` [N] of all nodes, those of one begin at its ``start`` [N + 1]; ``place``: where its next goes."""
    nodes = above.size
    start[:] = 0
    for one in range(1, nodes):
        start[above[one] + 1] += 1
    for one in range(nodes):
        start[one + 1] += start[one]
        place[one] = start[one]
    for one in range(1, nodes):
        children[place[above[one]]] = one
        place[above[one]] += 1
    order[0] = rank[0] = 0
    filled = 1
    for done in range(nodes):
        one = order[done]
        for position in range(start[one], start[one + 1]):
            child = children[position]
            order[filled] = child
            rank[child] = filled
            filled += 1


@compiled
def renumber(
    above: NDArray[np.int32], altitude: NDArray[np.uint16], lowest: int, order: NDArray[np.int32], rank: NDArray[np.int32],
    parents: NDArray[np.int32], altitudes: NDArray[np.int32], node: NDArray[np.int32],
) -> None:  # fmt: skip
    """Number nodes by ``rank``: parents and altitudes, from levels and the lowest of them, into [N] each, ``node`` in place."""
    for place in range(order.size):
        one = order[place]
        parents[place] = rank[above[one]]
        altitudes[place] = altitude[one] + lowest
    flat = node.ravel()
    for place in range(flat.size):
        flat[place] = rank[flat[place]]
