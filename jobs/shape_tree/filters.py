"""The operators of the paper (Section 7) on images: quantisation, area opening, mean filter.

Shapes: an image is [H, W]; a tree has N nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.shape_tree.passes import area_pass, mean_pass, proper_parts, quantise_pass, settled, smallest_first
from sensorium.jobs.shape_tree.shifting import NODE, Live, live_tree
from sensorium.jobs.shape_tree.tree import ShapeTree, tree_of_shapes
from sensorium.jobs.trees.memory import scratch
from sensorium.platform.errors import InvalidSetting

__all__ = [
    "Changing",
    "Filtered",
    "Variant",
    "area_opening",
    "changing",
    "grey_range",
    "grey_values",
    "mean_filter",
    "quantise",
]

Variant = Literal["paper", "consecutive"]


@dataclass(frozen=True)
class Filtered:
    """What an operator made of an image.

    Attributes:
        image: [H, W], in the dtype of the input.
        tree: its tree of shapes.
        node_counts: nodes of the tree after each pass; of the operators with one pass, one number.
        nodes_before: of the input's tree.
        visits: nodes that were looked at in all passes.
    """

    image: NDArray[Any]
    tree: ShapeTree
    node_counts: tuple[int, ...]
    nodes_before: int
    visits: int


@dataclass
class Changing:
    """A tree on which passes are made. Between two of them it is numbered like a :class:`.ShapeTree`.

    Attributes:
        live: records [N] of the nodes that there are.
        node_of_pixel: int32 [H + 2, W + 2].
        dtype: of the image.
        before: nodes before the first pass.
    """

    live: Live
    node_of_pixel: NDArray[np.int32]
    dtype: np.dtype[Any]
    before: int

    def settle(self) -> None:
        """Number what a pass has left."""
        parent, altitude, pixels, lead = settled(self.live, self.node_of_pixel)
        self.live = self.live[: parent.size]
        live_tree(self.live, parent, altitude)
        self.live["pixels"], self.live["lead"] = pixels, lead

    def now(self) -> ShapeTree:
        """The tree as it is."""
        parent, altitude = (np.ascontiguousarray(self.live[name]) for name in ("parent", "altitude"))
        return ShapeTree(parent, altitude, self.node_of_pixel.copy(), self.dtype)

    def filtered(self, counts: list[int], visits: int) -> Filtered:
        """The result of passes after which there were so many nodes; nothing is left here."""
        parent, altitude = (np.ascontiguousarray(self.live[name]) for name in ("parent", "altitude"))
        self.live = self.live[:0].copy()  # what takes the most memory
        tree = ShapeTree(parent, altitude, self.node_of_pixel, self.dtype)
        return Filtered(tree.reconstruct(), tree, tuple(counts), self.before, visits)


def changing(tree: ShapeTree) -> Changing:
    """A tree that is to be changed; it takes ``node_of_pixel`` over, and nothing else of ``tree``, which is no tree any more."""
    live = scratch(tree.node_count, NODE)
    live_tree(live, tree.parent, tree.altitude)
    proper_parts(live, tree.node_of_pixel)
    return Changing(live, tree.node_of_pixel, tree.dtype, live.size)


def mean_filter(image: NDArray[Any], iterations: int = 1) -> Filtered:
    """Shift each node to the mean altitude of its parent and its children, from the root to the leaves; so many times.

    The mean leaves the node itself out and is rounded, half to even; nodes are visited breadth first in the tree as it is by
    then. The tree is built once.

    Args:
        image: [H, W], see :func:`.tree_of_shapes`.
        iterations: 0 or more (the paper: 5 and 10).

    Raises:
        InvalidImage: no tree can be built of it.
        InvalidSetting: a negative number of iterations.
    """
    if iterations < 0:
        raise InvalidSetting(f"iterations must be 0 or more; got {iterations}.")
    state = changing(tree_of_shapes(image))
    counts: list[int] = []
    visits = 0
    for _ in range(iterations):
        visits += mean_pass(state.live)
        state.settle()
        counts.append(state.live.size)
    return state.filtered(counts, visits)


def area_opening(image: NDArray[Any], area: int, variant: Variant = "paper") -> Filtered:
    """Merge nodes whose proper part has fewer than ``area`` pixels with their parents.

    Args:
        image: [H, W], see :func:`.tree_of_shapes`.
        area: the paper's λ, pixels, 1 or more.
        variant: ``paper``: nodes in the order of the sizes that their proper parts have in the image, the smallest first, equal
            ones breadth first; a node that has grown to ``area`` by its turn stays. ``consecutive``: the same for 2, 3 … ``area``
            one after another, so that large nodes are reached only when all smaller ones are gone.

    Raises:
        InvalidImage: no tree can be built of it.
        InvalidSetting: a size below 1, or another variant.
    """  # fmt: skip
    if area < 1:
        raise InvalidSetting(f"area must be 1 pixel or more; got {area}.")
    if variant not in ("paper", "consecutive"):
        raise InvalidSetting(f"variant must be paper or consecutive; got {variant!r}.")
    state = changing(tree_of_shapes(image))
    visits = 0
    for size in (area,) if variant == "paper" else range(2, area + 1):
        order = smallest_first(state.live, size)
        if not order.size:
            continue
        area_pass(state.live, order, size)
        state.settle()
        visits += order.size
    return state.filtered([state.live.size], visits)


def quantise(image: NDArray[Any], levels: int) -> Filtered:
    """Shift each node to the nearest of so many regularly spaced values, the largest proper part first.

    Args:
        image: [H, W], see :func:`.tree_of_shapes`.
        levels: 2 or more; see :func:`grey_values`.

    Raises:
        InvalidImage: no tree can be built of it.
        InvalidSetting: fewer than two levels, or more than there are values.
    """
    tree = tree_of_shapes(image)
    lowest, highest = grey_range(tree)
    values = grey_values(lowest, highest, levels)
    table = _nearest(values, lowest, highest)
    state = changing(tree)
    del tree
    order = np.argsort(-state.live["pixels"], kind="stable").astype(np.int32)
    quantise_pass(state.live, order, lowest, table)
    state.settle()
    return state.filtered([state.live.size], order.size)


def grey_range(tree: ShapeTree) -> tuple[int, int]:
    """The least and the greatest value that a pixel may have: of the dtype for up to 16 bits, else the image's own and 0."""
    kind = tree.dtype
    if kind.kind == "b":
        return 0, 1
    if kind.kind in "ui" and kind.itemsize <= 2:
        limits = np.iinfo(kind)
        return int(limits.min), int(limits.max)
    return min(0, int(tree.altitude.min())), max(0, int(tree.altitude.max()))


def grey_values(lowest: int, highest: int, levels: int) -> NDArray[np.int32]:
    """So many values at equal distances from the lowest to the highest, each rounded half to even, int32 [levels].

    Raises:
        InvalidSetting: fewer than two, or more than there are values.
    """
    if not 2 <= levels <= highest - lowest + 1:
        raise InvalidSetting(
            f"levels must be from 2 to {highest - lowest + 1}, the values that there are; got {levels}."
        )
    return np.rint(np.linspace(lowest, highest, levels)).astype(np.int32)


def _nearest(values: NDArray[np.int32], lowest: int, highest: int) -> NDArray[np.int32]:
    """For each value from the lowest to the highest the nearest of ``values``; of two equally near the lower one."""
    middles = (values[:-1].astype(np.int64) + values[1:]) // 2  # a value up to here goes to the lower one
    return values[np.searchsorted(middles, np.arange(lowest, highest + 1), side="left")]
