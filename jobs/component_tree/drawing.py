"""Pictures of a result: the image before and after, and the greatest branches of the tree."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sensorium.jobs.component_tree.config import ComponentTreeConfig
from sensorium.jobs.component_tree.order import Order
from sensorium.jobs.component_tree.tree import ComponentTree
from sensorium.jobs.trees.drawing import draw_tree
from sensorium.jobs.trees.hierarchy import subtree_sums

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sensorium.jobs.training.samples import Picture, Sample

__all__ = ["branches", "draw_values", "illustrate", "node_colours", "sheet"]

#: branches that are drawn of a result
_LEAVES = 40


def illustrate(config: ComponentTreeConfig, sample: Sample, result: Mapping[str, Any]) -> dict[str, Picture]:
    """The values before and after the filter, and the tree's greatest branches, each node in the mean colour of its points."""
    given, filtered = np.asarray(sample[config.values]), np.asarray(result["filtered"])
    tree = ComponentTree(
        np.asarray(result["parent"], np.int32),
        np.asarray(result["omega"], np.int32),
        np.asarray(result["node_of_point"], np.int32),
        Order(np.asarray(result["order"])),
    )
    few = branches(tree, _LEAVES)
    middle = given.shape[0] // 2 if config.values == "volume" else ...

    def drawn(axes: Axes) -> None:
        draw_tree(axes, few.parent, node_colours(few, given), sizes=few.attribute("area"))
        axes.set_title(f"the greatest branches of {tree.node_count} nodes", fontsize="small")

    return {
        "values": lambda axes: draw_values(axes, given[middle]),
        "filtered": lambda axes: draw_values(axes, filtered[middle]),
        "tree": drawn,
    }


def draw_values(axes: Axes, values: NDArray[Any]) -> None:
    """Draw colours [Y, X, 3], or grey levels or labels [Y, X] or [Y, X, 1]."""
    shown = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    axes.imshow(shown, cmap=None if shown.ndim == 3 else "viridis", interpolation="nearest")
    axes.set_axis_off()


def branches(tree: ComponentTree, leaves: int) -> ComponentTree:
    """The tree of the nodes where its greatest branches part and end; what lies between, one node after another, is left out.

    Args:
        tree: of any size.
        leaves: at most so many are left; a branch is as great as the area at which it comes to be.
    """
    area = tree.attribute("area")
    inner = np.zeros(tree.node_count, np.int64)  # area of the greatest child
    np.maximum.at(inner, tree.parent[1:], area[1:])
    bounds = np.unique(area)
    # with nodes from an area on, a leaf is one that is large enough and whose children are not
    ends = np.searchsorted(np.sort(inner), bounds) - np.searchsorted(np.sort(area), bounds)
    enough = bounds[min(int(np.argmax(ends <= leaves)), bounds.size - 1)]
    pruned = tree.filter("area", at_least=float(enough))
    return pruned.filter(pruned.attribute("children") != 1)


def node_colours(tree: ComponentTree, image: NDArray[Any]) -> NDArray[np.float64]:
    """The mean colour of each node's points, RGB in [0, 1], [nodes, 3].

    Args:
        tree: of the image's points.
        image: RGB in [0, 255], [Y, X, 3 or 4]; of any other array the values, relative to the greatest, are grey.
    """
    points = tree.node_of_point.ravel()
    pixels = image.reshape(points.size, -1)[:, :3].astype(np.float64)
    if pixels.shape[1] < 3:
        pixels = np.repeat(255 * pixels[:, :1] / max(1.0, float(pixels.max())), 3, axis=1)
    area = np.maximum(tree.attribute("area"), 1)
    sums = [subtree_sums(tree.parent, np.bincount(points, pixels[:, c], tree.node_count)) for c in range(3)]
    return np.asarray(np.stack(sums, axis=1) / area[:, None] / 255)


def sheet(pictures: Mapping[str, Picture], size: float = 4.5) -> bytes:
    """Pictures side by side as a PNG file, each below its name and ``size`` inches wide."""
    figure = Figure(figsize=(size * len(pictures), size), layout="constrained")
    FigureCanvasAgg(figure)
    for index, (name, draw) in enumerate(pictures.items()):
        axes = figure.add_subplot(1, len(pictures), index + 1)
        draw(axes)
        axes.set_title(name, fontsize="medium")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    return content.getvalue()
