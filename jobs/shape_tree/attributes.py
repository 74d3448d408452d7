"""Attributes of the nodes of a tree of shapes.

Shapes: an image with its border is [H + 2, W + 2]; a tree has N nodes. A *shape* is a node with all that is below it, its
*proper part* what is in none below it. Areas and lengths are in pixels; the border counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.trees.compiled import compiled
from sensorium.jobs.trees.hierarchy import child_counts, depths, subtree_sums
from sensorium.platform.errors import InvalidSetting, close_matches

if TYPE_CHECKING:
    from sensorium.jobs.shape_tree.tree import ShapeTree

__all__ = ["NAMES", "attribute"]


def attribute(tree: ShapeTree, name: str, known: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """An attribute of every node, [N]; also kept in ``known``, as are those that it is made from.

    Raises:
        InvalidSetting: there is no such attribute.
    """
    if name not in _MAKERS:
        raise InvalidSetting(
            f"there is no attribute {name!r}; there are {', '.join(NAMES)}. {close_matches(name, NAMES)}".rstrip()
        )
    if name not in known:
        known[name] = _MAKERS[name](tree)
        known[name].flags.writeable = False
    return known[name]


def _altitude(tree: ShapeTree) -> NDArray[np.int32]:
    return tree.altitude.copy()


def _proper_part(tree: ShapeTree) -> NDArray[np.int64]:
    return np.bincount(tree.node_of_pixel.ravel(), minlength=tree.node_count)


def _area(tree: ShapeTree) -> NDArray[np.int64]:
    area: NDArray[np.int64] = subtree_sums(tree.parent, tree.attribute("proper_part").copy())
    return area


def _depth(tree: ShapeTree) -> NDArray[np.int32]:
    depth: NDArray[np.int32] = depths(tree.parent)
    return depth


def _children(tree: ShapeTree) -> NDArray[np.int32]:
    count: NDArray[np.int32] = child_counts(tree.parent)
    return count


def _perimeter(tree: ShapeTree) -> NDArray[np.int64]:
    """Sides of pixels between the shape and what is outside, the outside of the border included.

    A shape has four sides for each pixel, less two for each pair of 4-neighbours that lie in it both: those whose lowest
    common shape lies in it.
    """
    pairs = common_pairs(tree.node_of_pixel, tree.parent, heavy_paths(tree.parent, tree.attribute("area")))
    inner: NDArray[np.int64] = subtree_sums(tree.parent, pairs)
    sides: NDArray[np.int64] = 4 * tree.attribute("area") - 2 * inner
    return sides


def _elongation(tree: ShapeTree) -> NDArray[np.float64]:
    """Longest over shortest axis of the ellipse with the shape's second moments; 1 for a single pixel, a square, a disc."""
    height, width = tree.node_of_pixel.shape
    y, x = np.divmod(np.arange(height * width), width)
    flat, area = tree.node_of_pixel.ravel(), tree.attribute("area").astype(np.float64)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(flat, values, minlength=tree.node_count)
        total: NDArray[np.float64] = subtree_sums(tree.parent, sums)
        return total / area

    # from the middle of the image, so that squares stay small; a pixel is a unit square: 1/12 of its own along each axis
    dy, dx = y - (height - 1) / 2, x - (width - 1) / 2
    my, mx = mean(dy), mean(dx)
    vy, vx = mean(dy * dy) - my * my + 1 / 12, mean(dx * dx) - mx * mx + 1 / 12
    middle, half = (vy + vx) / 2, np.hypot((vy - vx) / 2, mean(dy * dx) - my * mx)
    ratio: NDArray[np.float64] = np.sqrt((middle + half) / np.maximum(middle - half, 1 / 12))
    return ratio


def _mean(tree: ShapeTree) -> NDArray[np.float64]:
    """Of the grey values in the shape."""
    own = tree.attribute("proper_part") * tree.altitude.astype(np.int64)
    total: NDArray[np.int64] = subtree_sums(tree.parent, own)
    mean: NDArray[np.float64] = total / tree.attribute("area")
    return mean


def _variance(tree: ShapeTree) -> NDArray[np.float64]:
    """Of the grey values in the shape, with its own mean; whole numbers until the division, so that nothing cancels."""
    own = tree.attribute("proper_part") * tree.altitude.astype(np.int64)
    total: NDArray[np.int64] = subtree_sums(tree.parent, own)
    squares: NDArray[np.int64] = subtree_sums(tree.parent, own * tree.altitude)
    area = tree.attribute("area")
    mean = total / area
    # sum of (value - m)² for the whole number m next to the mean, less what m is off: small terms only
    near = np.rint(mean).astype(np.int64)
    around = squares - 2 * near * total + near * near * area
    variance: NDArray[np.float64] = np.maximum(around / area - (mean - near) ** 2, 0)
    return variance


def _volume(tree: ShapeTree) -> NDArray[np.int64]:
    """Area times distance to the parent's altitude, and the volumes of all that is below."""
    step = np.abs(tree.altitude - tree.altitude[tree.parent]).astype(np.int64)
    volume: NDArray[np.int64] = subtree_sums(tree.parent, step * tree.attribute("area"))
    return volume


_MAKERS: dict[str, Callable[[ShapeTree], NDArray[Any]]] = {
    "altitude": _altitude,
    "area": _area,
    "children": _children,
    "depth": _depth,
    "elongation": _elongation,
    "mean": _mean,
    "perimeter": _perimeter,
    "proper_part": _proper_part,
    "variance": _variance,
    "volume": _volume,
}
#: of all attributes
NAMES = tuple(_MAKERS)


@compiled
def heavy_paths(parent: NDArray[np.int32], area: NDArray[np.int64]) -> NDArray[np.int32]:
    """The first node of each node's heavy path, int32 [N]: a path goes on to the child with the largest area.

    From any node to the root there are at most log2 of the pixels such paths.
    """
    heavy = np.full(parent.size, -1, np.int32)
    for one in range(1, parent.size):
        above = parent[one]
        if heavy[above] < 0 or area[one] > area[heavy[above]]:
            heavy[above] = one
    first = np.arange(parent.size).astype(np.int32)
    for one in range(1, parent.size):
        if heavy[parent[one]] == one:
            first[one] = first[parent[one]]
    return first


@compiled
def _lowest_common(parent: NDArray[np.int32], first: NDArray[np.int32], a: int, b: int) -> int:
    """The lowest shape that has both nodes in it. A path's first node with the larger number is not above the other's."""
    while first[a] != first[b]:
        if first[a] > first[b]:
            a = parent[first[a]]
        else:
            b = parent[first[b]]
    return min(a, b)


@compiled
def common_pairs(
    node_of_pixel: NDArray[np.int32], parent: NDArray[np.int32], first: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Pairs of 4-neighbours whose lowest common shape each node is, int64 [N]; ``first``: of heavy paths."""
    height, width = node_of_pixel.shape
    pairs = np.zeros(parent.size, np.int64)
    for y in range(height):
        for x in range(width):
            one = node_of_pixel[y, x]
            if x + 1 < width:
                pairs[_lowest_common(parent, first, one, node_of_pixel[y, x + 1])] += 1
            if y + 1 < height:
                pairs[_lowest_common(parent, first, one, node_of_pixel[y + 1, x])] += 1
    return pairs
