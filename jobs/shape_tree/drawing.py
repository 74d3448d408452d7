"""Pictures of trees of shapes: level lines over their image, small trees, results of operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.shape_tree.config import ShapeTreeConfig
from sensorium.jobs.shape_tree.grey import grey_of
from sensorium.jobs.shape_tree.tree import ShapeTree, tree_of_shapes
from sensorium.jobs.training.samples import Picture, Sample
from sensorium.jobs.trees.drawing import draw_tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_grey", "draw_level_lines", "draw_shapes", "illustrate", "level_lines"]

#: nodes up to which the tree itself is drawn
_READABLE = 300


def level_lines(tree: ShapeTree, *, least_area: int = 0) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The level lines of an image: sides of pixels across which the node changes.

    Args:
        tree: of the image [H, W].
        least_area: only lines around shapes of so many pixels or more; smaller shapes count to the one around them.

    Returns:
        across: int32 [K, 2], row and column of pixels that a line parts from their right neighbours.
        below: int32 [K, 2], of those that one parts from the ones below. Rows and columns are those of the image without border.
    """  # fmt: skip
    node: NDArray[Any] = tree.node_of_pixel
    if least_area > 0:
        kept = tree.attribute("area") >= least_area
        kept[0] = True
        node = _around(tree.parent, kept)[node]
    across = np.argwhere(node[1:-1, :-1] != node[1:-1, 1:]) - (0, 1)
    below = np.argwhere(node[:-1, 1:-1] != node[1:, 1:-1]) - (1, 0)
    return across.astype(np.int32), below.astype(np.int32)


def _around(parent: NDArray[np.int32], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The lowest kept node that holds each node; areas shrink downwards, so that what is left out is left out to its leaves."""
    found = np.where(kept, np.arange(parent.size), parent)
    while True:
        further = found[found]
        if np.array_equal(further, found):
            return found
        found = further


def draw_grey(axes: Axes, image: NDArray[Any], title: str = "") -> None:
    """An image [H, W] in greys from its least to its greatest value; 8 bits from 0 to 255."""
    low, high = (0, 255) if image.dtype == np.uint8 else (None, None)
    axes.imshow(image, cmap="gray", interpolation="nearest", vmin=low, vmax=high)
    axes.set_axis_off()
    axes.set_title(title, fontsize="medium")


def draw_level_lines(axes: Axes, image: NDArray[Any], tree: ShapeTree, *, least_area: int = 0) -> None:
    """The level lines of a tree over its image [H, W]; see :func:`level_lines`."""
    from matplotlib.collections import LineCollection

    draw_grey(axes, image)
    across, below = level_lines(tree, least_area=least_area)
    right = across[:, ::-1, np.newaxis] + np.array([[0.5, 0.5], [-0.5, 0.5]])  # x, y of both ends
    under = below[:, ::-1, np.newaxis] + np.array([[-0.5, 0.5], [0.5, 0.5]])
    ends = np.concatenate([right, under]).transpose(0, 2, 1)
    axes.add_collection(LineCollection(list(ends), colors="tab:red", linewidths=0.5))
    axes.set_title(f"{tree.node_count:,} nodes" + (f", lines of {least_area} pixels or more" if least_area else ""))


def draw_shapes(axes: Axes, tree: ShapeTree) -> None:
    """A small tree: discs in the grey of their altitude, as large as their proper parts, with the altitude beside them.

    Raises:
        InvalidSetting: it has too many nodes to be drawn.
    """
    lowest, highest = int(tree.altitude.min()), int(tree.altitude.max())
    shade = (tree.altitude - lowest) / max(1, highest - lowest)
    labels = [str(value) for value in tree.altitude.tolist()] if tree.node_count <= 60 else None
    draw_tree(axes, tree.parent, np.repeat(shade[:, np.newaxis], 3, axis=1), labels, tree.attribute("proper_part"))
    axes.set_title(f"{tree.node_count:,} nodes")


def illustrate(config: ShapeTreeConfig, sample: Sample, result: Mapping[str, Any]) -> Mapping[str, Picture]:
    """Before and after, and the level lines that are left; of a small tree, the tree."""
    before = grey_of(np.asarray(sample["image"]), config.steps)
    after = np.asarray(result["image"])[..., 0]
    pictures: dict[str, Picture] = {
        "before": lambda axes: draw_grey(axes, before, f"{result['nodes_before']:,} nodes"),
        "after": lambda axes: draw_grey(axes, after, f"{result['nodes']:,} nodes"),
    }
    if result["nodes"] <= _READABLE or before.size <= 1 << 16:
        tree = tree_of_shapes(after)
        pictures["level_lines"] = lambda axes: draw_level_lines(axes, after, tree)
        if tree.node_count <= _READABLE:
            pictures["tree"] = lambda axes: draw_shapes(axes, tree)
    return pictures
