"""Building the multivalued component tree: edges by the infimum of their two values, greatest first, and union-find.

Two neighbours are in one component of the threshold set at v exactly where v is lower than or equal to both values, hence to
their infimum. Joining along the edges from the greatest infimum down therefore meets every component of every threshold set,
each after those it contains: what the paper's function Flood reaches by recursion, without any. A node comes to be where
points have the value itself (its flat zones) or where an edge joins two components that are both strictly greater (a node
without a proper part, Eq. 6). Nodes that the paper's Algorithm 1 would build twice never come to be.

Edges that can be seen from nearby to close a circle in the threshold set of their infimum are left out: they cannot join
anything. Of a plane with 8-adjacency and random values that is most of the diagonals.

Names: N points, E edges, Z flat zones, n values; *rank* as in :mod:`.order`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.component_tree.grid import Grid
from sensorium.jobs.component_tree.order import Order, infimum_rank
from sensorium.jobs.trees.compiled import compiled
from sensorium.jobs.trees.union_find import find, fresh, join, labelled

__all__ = ["Built", "built", "ranked"]

#: edges whose ends are looked up together; see :func:`_approach`
_BATCH = 32


#: flat zones as disjoint sets of points, int32 [N]; of edges that may join two of them one point and the other, and the rank
#: of the infimum of their values, int32 [E] each
_Candidates = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


class Built(NamedTuple):
    """A tree, or a forest.

    Attributes:
        parent: of each node, int32 [nodes]; parents come before their children.
        node_rank: rank of each node's ω, int32 [nodes].
        node_of_point: the smallest node that holds each point, int32 [N].
        roots: number of nodes that are their own parent.
    """

    parent: NDArray[np.int32]
    node_rank: NDArray[np.int32]
    node_of_point: NDArray[np.int32]
    roots: int


@compiled
def ranked(values: NDArray[Any], rank: NDArray[np.int32]) -> tuple[NDArray[np.int32], int]:
    """Ranks of the values of all points, and the first point whose value is outside the order (-1: there is none)."""
    found = np.empty(values.size, np.int32)
    for point in range(values.size):
        value = values[point]
        if value < 0 or value >= rank.size:
            return found, point
        found[point] = rank[value]
    return found, -1


@compiled
def _of_edges(
    ranks: NDArray[np.int32],
    edges: NDArray[Any],
    last: NDArray[np.int32],
    minima: NDArray[np.int32],
    logarithm: NDArray[np.uint8],
) -> _Candidates:
    """Flat zones and candidates of a graph with edges [E, 2]."""
    up = fresh(ranks.size)
    first = np.empty(edges.shape[0], np.int32)
    second = np.empty(edges.shape[0], np.int32)
    key = np.empty(edges.shape[0], np.int32)
    kept = 0
    for edge in range(edges.shape[0]):
        p, q = edges[edge, 0], edges[edge, 1]
        if ranks[p] == ranks[q]:
            join(up, p, q)
            continue
        first[kept], second[kept] = p, q
        key[kept] = infimum_rank(ranks[p], ranks[q], last, minima, logarithm)
        kept += 1
    return up, first[:kept], second[:kept], key[:kept]


@compiled
def _of_grid(
    ranks: NDArray[np.int32],
    shape: tuple[int, int, int],
    offsets: NDArray[np.int64],
    detours: NDArray[np.int64],
    detour_counts: NDArray[np.int64],
    last: NDArray[np.int32],
    minima: NDArray[np.int32],
    logarithm: NDArray[np.uint8],
) -> _Candidates:
    """Flat zones and candidates of a :class:`.Grid`, whose arrays these are."""
    depth, height, width = shape
    up = fresh(ranks.size)
    room = offsets.shape[0] * ranks.size  # memory that is not written to is not taken
    first, second, key = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.int32)
    kept = 0
    for z in range(depth):
        for y in range(height):
            for k in range(offsets.shape[0]):
                dz, dy, dx = offsets[k]
                if z + dz >= depth or not 0 <= y + dy < height:
                    continue
                line = (z * height + y) * width
                step = (dz * height + dy) * width + dx
                begin, end = line + max(0, -dx), line + width - max(0, dx)
                for p in range(begin, end):
                    q = p + step
                    u, v = ranks[p], ranks[q]
                    # with the edge to the left and those along the lines, this one may close a circle
                    left = p - 1 if step != 1 and p > begin else p
                    u_left, v_left = ranks[left], ranks[left + step]
                    if u == v:
                        if left == p or u_left != u or v_left != u:
                            join(up, p, q)
                        continue
                    low = infimum_rank(u, v, last, minima, logarithm)
                    top = last[low]
                    if left != p and low <= u_left <= top and low <= v_left <= top:
                        continue
                    redundant = False
                    for detour in range(detour_counts[k]):
                        redundant |= low <= ranks[p + detours[k, detour]] <= top
                    if redundant:
                        continue
                    first[kept], second[kept], key[kept] = p, q, low
                    kept += 1
    return up, first[:kept], second[:kept], key[:kept]


def built(ranks: NDArray[np.int32], order: Order, graph: Grid | NDArray[np.int64]) -> Built:
    """The tree of a graph, or its forest where the graph is not connected.

    Args:
        ranks: of the points' values, int32 [N].
        order: on the values.
        graph: a grid, or edges between points, int64 [E, 2].
    """
    zone, zone_rank, ends, stops = _zones_and_edges(ranks, order, graph)
    above, element_rank = _joined(ends, stops, zone_rank)
    del ends  # as large as all that follows
    return Built(*_numbered(above, element_rank, zone, order.size))


def _zones_and_edges(
    ranks: NDArray[np.int32], order: Order, graph: Grid | NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Flat zone of each point, rank of each flat zone, and what :func:`_sorted` gives."""
    if isinstance(graph, Grid):
        arrays = (graph.shape, graph.offsets, graph.detours, graph.detour_counts)
        found = _of_grid(ranks, *arrays, *order.lookup)
    else:
        found = _of_edges(ranks, graph, *order.lookup)
    up, first, second, key = found
    zone, zones = labelled(up)
    zone_rank = np.empty(zones, np.int32)
    zone_rank[zone] = ranks
    return zone, zone_rank, *_sorted(zone, first, second, key, order.size)


@compiled
def _sorted(
    zone: NDArray[np.int32],
    first: NDArray[np.int32],
    second: NDArray[np.int32],
    key: NDArray[np.int32],
    size: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The zones that each edge touches, [E, 2], greatest key first (counting sort), and where each key's edges stop, [n]."""
    place = np.zeros(size + 1, np.int64)
    for edge in range(key.size):
        place[key[edge]] += 1
    before = 0
    for rank in range(size, -1, -1):
        count = place[rank]
        place[rank] = before
        before += count
    ends = np.empty((key.size, 2), np.int32)
    for edge in range(key.size):
        at = place[key[edge]]
        place[key[edge]] = at + 1
        ends[at, 0] = zone[first[edge]]
        ends[at, 1] = zone[second[edge]]
    return ends, place


@compiled
def _approach(up: NDArray[np.int32], batch: NDArray[np.int32], near: NDArray[np.int32]) -> None:
    """Go two steps up from both ends of each edge of a batch.

    Edges of one key lie all over the image, so each step waits for main memory; these steps do not depend on one another and
    wait together. It takes a third off the time of joining random values.
    """
    for edge in range(batch.shape[0]):
        near[edge, 0], near[edge, 1] = up[batch[edge, 0]], up[batch[edge, 1]]
    for edge in range(batch.shape[0]):
        near[edge, 0], near[edge, 1] = up[near[edge, 0]], up[near[edge, 1]]


@compiled
def _joined(
    ends: NDArray[np.int32], stops: NDArray[np.int64], zone_rank: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Join flat zones into components, from the greatest key down.

    An *element* is a flat zone, or a node that has no point of its own. Several elements of one rank may turn out to be one
    node: all but one of them are then below another of the same rank.

    Returns:
        above: the element above each, int32 [M]; a root is above itself.
        element_rank: rank of each element's value, int32 [M].
    """
    zones = zone_rank.size
    up = np.empty(2 * zones, np.int32)
    up[:zones] = fresh(zones)
    above = np.empty(2 * zones, np.int32)
    above[:zones] = up[:zones]
    element_rank = np.empty(2 * zones, np.int32)
    element_rank[:zones] = zone_rank
    near = np.empty((_BATCH, 2), np.int32)
    count, begin = zones, 0
    for rank in range(stops.size - 2, -1, -1):
        while begin < stops[rank]:
            batch = ends[begin : min(begin + _BATCH, stops[rank])]
            _approach(up, batch, near)
            for edge in range(batch.shape[0]):
                a, b = find(up, near[edge, 0]), find(up, near[edge, 1])
                up[batch[edge, 0]], up[batch[edge, 1]] = a, b
                if a == b:
                    continue
                if element_rank[a] == rank:
                    up[b] = above[b] = a
                elif element_rank[b] == rank:
                    up[a] = above[a] = b
                else:
                    up[count] = above[count] = count
                    element_rank[count] = rank
                    up[a] = above[a] = up[b] = above[b] = count
                    count += 1
            begin += batch.shape[0]
    return above[:count], element_rank[:count]


@compiled
def _numbered(
    above: NDArray[np.int32], element_rank: NDArray[np.int32], zone: NDArray[np.int32], size: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], int]:
    """Nodes in the order of their ranks, so that parents come first; see :func:`built`. Overwrites ``above`` and ``zone``."""
    place = np.zeros(size + 1, np.int64)
    for element in range(above.size):
        if above[element] == element or element_rank[above[element]] != element_rank[element]:
            place[element_rank[element] + 1] += 1
    for rank in range(size):
        place[rank + 1] += place[rank]
    count, roots = place[size], 0
    node = np.empty(above.size, np.int32)
    node_rank = np.empty(count, np.int32)
    for element in range(above.size):
        if above[element] == element or element_rank[above[element]] != element_rank[element]:
            rank = element_rank[element]
            node[element] = place[rank]
            node_rank[place[rank]] = rank
            place[rank] += 1
        else:
            node[element] = -1
    for element in range(above.size):
        if node[element] < 0:  # the same node as the one above
            head = above[element]
            while node[head] < 0:
                head = above[head]
            same = element
            while node[same] < 0:
                node[same] = node[head]
                same = above[same]
    parent = np.empty(count, np.int32)
    for element in range(above.size):
        head = above[element]
        if head == element:
            roots += 1
            parent[node[element]] = node[element]
        elif element_rank[head] != element_rank[element]:
            parent[node[element]] = node[head]
    for point in range(zone.size):
        zone[point] = node[zone[point]]
    return parent, node_rank, zone, roots
