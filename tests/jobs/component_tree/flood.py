"""Algorithm 1 and function Flood of the paper, line by line in plain Python; with the project's decisions.

These are: a fictitious root (line 8 wants a point at the minimum), from which a node with the points of its only child is
dropped afterwards; levels in progress are marked on every branch (line 10); line 27 goes to the next lower value.

``moving`` mends what the printed function leaves open: a point that waits at the infimum of two values (line 20) is not taken
when a neighbour of its own branch is reached first (line 17 wants status -1), and later begins a node of its own beside that
of the neighbour. Here it is then moved to the greater infimum.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["flooded"]


def flooded(
    values: Sequence[int], neighbours: Sequence[Sequence[int]], parent: Sequence[int], *, moving: bool
) -> tuple[list[int], list[int], list[int]]:
    """The tree of a connected graph.

    Args:
        values: F(x) of each point.
        neighbours: of each point.
        parent: the order.
        moving: see above.

    Returns:
        above: of each node; the root is its own.
        omega: of each node.
        node: smallest one that holds each point.
    """
    lower = [_way(parent, v) for v in range(len(parent))]
    minimum = lower[0][0]
    waiting: list[list[int]] = [[] for _ in parent]
    place = [-1] * len(values)  # level at which a point waits; -1: not met; -2: in a node
    current: list[int] = [-1] * len(parent)  # the node of each level that is being built
    progress = [False] * len(parent)
    above: list[int] = []
    omega: list[int] = []
    node = [-1] * len(values)

    def put(x: int, level: int) -> None:
        waiting[level].append(x)
        place[x] = level
        progress[level] = True

    def flood(u: int) -> int:
        depth = len(lower[u]) - 1
        while waiting[u]:
            x = waiting[u].pop()
            if place[x] != u:
                continue  # moved since
            if current[u] < 0:
                current[u] = len(above)
                above.append(-1)
                omega.append(u)
            w = values[x]
            if w != u:
                put(x, w)
                while len(lower[w]) - 1 > depth:
                    w = flood(w)
                continue
            place[x], node[x] = -2, current[u]
            for y in neighbours[x]:
                common = 0
                for a, b in zip(lower[u], lower[values[y]], strict=False):
                    if a != b:
                        break
                    common += 1
                w = lower[u][common - 1]
                if values[y] != w and common - 1 == depth:
                    w = values[y]  # u is lower than F(y)
                if place[y] == -1 or (moving and place[y] >= 0 and len(lower[w]) > len(lower[place[y]])):
                    put(y, w)
                    while len(lower[w]) - 1 > depth:
                        w = flood(w)
        progress[u] = False
        w = u
        if u != minimum:
            w = parent[u]
            while not progress[w]:
                w = parent[w]
            if current[w] < 0:
                current[w] = len(above)
                above.append(-1)
                omega.append(w)
            above[current[u]] = current[w]
        else:
            above[current[u]] = current[u]
        current[u] = -1
        return w

    put(0, minimum)
    flood(minimum)
    return _without_repeated_nodes(above, omega, node)


def _way(parent: Sequence[int], value: int) -> list[int]:
    """From the minimum up to the value."""
    found = [value]
    while parent[found[-1]] != found[-1]:
        found.append(parent[found[-1]])
    return found[::-1]


def _without_repeated_nodes(
    above: list[int], omega: list[int], node: list[int]
) -> tuple[list[int], list[int], list[int]]:
    """The tree without nodes that have no point of their own and one child only; the child, with its greater value, stays."""
    own = set(node)
    children: dict[int, list[int]] = {}
    for child, over in enumerate(above):
        if child != over:
            children.setdefault(over, []).append(child)
    repeated = {n for n in range(len(above)) if n not in own and len(children.get(n, [])) == 1}
    kept = [n for n in range(len(above)) if n not in repeated]
    number = {n: index for index, n in enumerate(kept)}
    found = []
    for n in kept:
        over = above[n]
        while over in repeated and above[over] != over:
            over = above[over]
        found.append(number.get(over, number[n]))
    return found, [omega[n] for n in kept], [number[n] for n in node]
