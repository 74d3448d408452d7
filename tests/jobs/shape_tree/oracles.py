"""What trees are compared with: Higra's, and laws on pairs of pixels."""

from __future__ import annotations

from typing import Any

import higra
import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.shape_tree import ShapeTree, tree_of_shapes

__all__ = ["assert_equal_trees", "assert_higra", "assert_p1", "assert_p2", "bordered", "spiral"]


def bordered(image: NDArray[Any]) -> NDArray[np.int64]:
    """With the border of zeros."""
    return np.pad(image.astype(np.int64), 1)


def assert_higra(image: NDArray[Any]) -> None:
    """The tree equals Higra's of the image with its border: proper parts, parents, altitudes."""
    tree = tree_of_shapes(image)
    other, altitudes = higra.component_tree_tree_of_shapes_image2d(bordered(image).astype(np.float64), "none")
    leaves, parents = other.num_leaves(), other.parents()
    assert tree.node_count == other.num_vertices() - leaves
    ours = np.full(parents.size, -1)  # the number that each node of the other tree has here
    ours[parents[:leaves]] = tree.node_of_pixel.ravel()
    np.testing.assert_array_equal(ours[parents[:leaves]], tree.node_of_pixel.ravel())
    theirs = np.arange(leaves, parents.size)
    assert (ours[theirs] >= 0).all()
    np.testing.assert_array_equal(tree.parent[ours[theirs]], ours[parents[theirs]])
    np.testing.assert_array_equal(tree.altitude[ours[theirs]], altitudes[theirs])
    np.testing.assert_array_equal(tree.reconstruct(), image)


def assert_equal_trees(one: ShapeTree, other: ShapeTree) -> None:
    for name in ("parent", "altitude", "node_of_pixel"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def assert_p1(tree: ShapeTree) -> None:
    """The tree is the tree of shapes of its image, down to the numbers of its nodes."""
    assert_equal_trees(tree, tree_of_shapes(tree.reconstruct()))


def assert_p2(before: NDArray[Any], after: NDArray[Any]) -> None:
    """No gradient between 4-neighbours, the border's among them, changes its sign, and none appears."""
    one, other = bordered(before), bordered(after)
    for axis in (0, 1):
        was, is_now = np.sign(np.diff(one, axis=axis)), np.sign(np.diff(other, axis=axis))
        assert ((is_now == was) | (is_now == 0)).all()


def spiral(size: int) -> NDArray[np.uint8]:
    """A line one pixel wide that winds inwards, with gaps of one pixel."""
    image = np.zeros((size, size), np.uint8)
    y, x, dy, dx = 0, 0, 0, 1
    turns = 0
    while turns < 2:
        image[y, x] = 200
        ahead = (y + 2 * dy, x + 2 * dx)
        inside = all(0 <= place < size for place in (y + dy, x + dx))
        free = not all(0 <= place < size for place in ahead) or not image[ahead]
        if inside and free and not image[y + dy, x + dx]:
            y, x, turns = y + dy, x + dx, 0
        else:
            dy, dx, turns = dx, -dy, turns + 1
    return image
