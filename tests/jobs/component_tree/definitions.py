"""The multivalued component tree straight from its definitions (paper, Eqs. 1 to 7), with sets; slow and plain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.component_tree import ComponentTree


@dataclass(frozen=True)
class Node:
    """X: its points, the values at whose thresholds it is a component, the greatest of them, its proper part, its parent."""

    points: frozenset[int]
    values: frozenset[int]
    omega: int
    proper: frozenset[int]
    parent: frozenset[int]


def lower_values(parent: Sequence[int], value: int) -> list[int]:
    """The value and all lower ones, down to the minimum."""
    found = [value]
    while parent[found[-1]] != found[-1]:
        found.append(parent[found[-1]])
    return found


def neighbours(shape: tuple[int, ...], adjacency: int) -> list[tuple[int, int]]:
    """All pairs of neighbours, from the distances of coordinates."""
    places = list(np.ndindex(shape))
    farthest = {4: 1, 8: 2, 6: 1, 26: 3}[adjacency]
    pairs = []
    for p, one in enumerate(places):
        for q, other in enumerate(places[:p]):
            steps = [abs(a - b) for a, b in zip(one, other, strict=True)]
            if max(steps) == 1 and sum(steps) <= farthest:
                pairs.append((q, p))
    return pairs


def components(points: set[int], pairs: Sequence[tuple[int, int]]) -> list[frozenset[int]]:
    """The maximal connected sets of points."""
    links: dict[int, list[int]] = {point: [] for point in points}
    for p, q in pairs:
        if p in points and q in points:
            links[p].append(q)
            links[q].append(p)
    found, left = [], set(points)
    while left:
        waiting = [left.pop()]
        component = set(waiting)
        while waiting:
            fresh = [point for point in links[waiting.pop()] if point in left]
            left.difference_update(fresh)
            component.update(fresh)
            waiting += fresh
        found.append(frozenset(component))
    return found


def nodes_of(
    values: Sequence[int], parent: Sequence[int], pairs: Sequence[tuple[int, int]]
) -> dict[frozenset[int], Node]:
    """Θ, with what belongs to each of its nodes."""
    lower = {value: set(lower_values(parent, value)) for value in range(len(parent))}
    thresholds: dict[frozenset[int], set[int]] = {}
    for v in range(len(parent)):
        points = {x for x, value in enumerate(values) if v in lower[value]}
        for component in components(points, pairs):
            thresholds.setdefault(component, set()).add(v)
    nodes = {}
    for points, at in thresholds.items():
        omega = max(at, key=lambda v: len(lower[v]))
        inside = [other for other in thresholds if other < points]
        around = [other for other in thresholds if points < other]
        proper = points.difference(*inside)
        nodes[points] = Node(points, frozenset(at), omega, proper, min(around, key=len, default=points))
    return nodes


def same(tree: ComponentTree, nodes: dict[frozenset[int], Node]) -> None:
    """Assert that a tree has these nodes, with these values, proper parts, parents, remanences."""
    points = [frozenset(tree.points(node).tolist()) for node in range(tree.node_count)]
    assert set(points) == set(nodes)
    assert len(set(points)) == len(points)
    remanence, area = tree.attribute("remanence"), tree.attribute("area")
    for number, found in enumerate(points):
        node = nodes[found]
        assert tree.value[number] == node.omega
        assert remanence[number] == len(node.values)
        assert area[number] == len(node.points)
        assert frozenset(tree.proper_part(number).tolist()) == node.proper
        assert points[tree.parent[number]] == node.parent
        assert number == 0 or tree.parent[number] < number


def random_parents(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random hierarchy with its values in random order: bushy, a chain, or in between."""
    reach = int(rng.integers(1, count + 1))
    parent = np.array([max(0, v - int(rng.integers(1, reach + 1))) for v in range(count)])
    names = rng.permutation(count)
    shuffled = np.empty(count, np.int64)
    shuffled[names] = names[parent]
    return shuffled
