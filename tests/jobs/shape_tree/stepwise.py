"""The paper's function Discard and Algorithms 1 to 3, step by step on plain objects: what the compiled shifts must equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.shape_tree import ShapeTree


@dataclass
class Node:
    """A node; ``children`` holds numbers."""

    altitude: int
    parent: int
    pixels: list[int]
    children: set[int] = field(default_factory=set)


class Stepwise:
    """A tree whose nodes are moved one step at a time."""

    def __init__(self, tree: ShapeTree) -> None:
        self.shape = tree.node_of_pixel.shape
        parents, altitudes = tree.parent.tolist(), tree.altitude.tolist()
        self.nodes = {n: Node(altitudes[n], parents[n], []) for n in range(tree.node_count)}
        for pixel, node in enumerate(tree.node_of_pixel.ravel().tolist()):
            self.nodes[node].pixels.append(pixel)
        for n, node in self.nodes.items():
            if n:
                self.nodes[node.parent].children.add(n)

    def discard(self, x: int) -> None:
        """Function Discard."""
        node = self.nodes.pop(x)
        parent = self.nodes[node.parent]
        parent.pixels += node.pixels
        parent.children.discard(x)
        for child in node.children:
            self.nodes[child].parent = node.parent
            parent.children.add(child)

    def step(self, x: int, v: int) -> None:
        """Algorithm 1: the altitude v is not beyond the nearest neighbour."""
        node = self.nodes[x]
        m = self.nodes[node.parent].altitude
        for child in [c for c in node.children if self.nodes[c].altitude == v]:
            self.discard(child)
        node.altitude = v
        if v == m:
            self.discard(x)

    def shift(self, x: int, v: int) -> None:
        """Algorithm 2; the root stays, and a target that reaches it stops there."""
        while x != 0 and self.nodes[x].altitude != v:
            node = self.nodes[x]
            near = [self.nodes[n].altitude for n in (*node.children, node.parent)]
            above = [a for a in near if a > node.altitude]
            below = [a for a in near if a < node.altitude]
            if above and v > min(above):
                bound = min(above)
            elif below and v < max(below):
                bound = max(below)
            else:
                bound = v
            self.step(x, bound)
            if x not in self.nodes:
                x = node.parent

    def modify(self, order: Iterable[int], criterion: Callable[[int], bool], policy: Callable[[int], int]) -> None:
        """Algorithm 3, in an order; the root is left alone."""
        for x in order:
            if x in self.nodes and x != 0 and criterion(x):
                self.shift(x, policy(x))

    def mean(self, x: int) -> int:
        """Of the neighbours' altitudes, rounded half to even."""
        node = self.nodes[x]
        near = [self.nodes[n].altitude for n in (*node.children, node.parent)]
        return round(Fraction(sum(near), len(near)))

    def image(self) -> NDArray[np.int64]:
        """With its border."""
        flat = np.empty(self.shape[0] * self.shape[1], np.int64)
        for node in self.nodes.values():
            flat[node.pixels] = node.altitude
        return flat.reshape(self.shape)
