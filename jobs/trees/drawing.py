"""Drawing a small tree: root at the top, leaves side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.trees.compiled import compiled
from sensorium.jobs.trees.hierarchy import depths
from sensorium.platform.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

__all__ = ["MAX_DRAWN", "draw_tree", "layout"]

#: more nodes than that are a grey patch
MAX_DRAWN = 2000


def layout(parent: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places of the nodes.

    Args:
        parent: a tree as the package says, [N].

    Returns:
        x: leaves at 0, 1, 2 …, side by side where they have the same parent; others in the middle of their outermost
            children, [N].
        y: minus the steps from the root, [N].
    """
    return _across(parent), -depths(parent).astype(np.float64)


@compiled
def _across(parent: NDArray[np.int32]) -> NDArray[np.float64]:
    """The x of :func:`layout`: first how many leaves each node has, then where its leaves begin, then the middles."""
    count = parent.size
    leaves = np.zeros(count, np.int64)
    for node in range(count - 1, -1, -1):
        leaves[node] = max(1, leaves[node])
        if node:
            leaves[parent[node]] += leaves[node]
    begin = np.zeros(count, np.int64)
    used = np.zeros(count, np.int64)
    for node in range(1, count):
        above = parent[node]
        begin[node] = begin[above] + used[above]
        used[above] += leaves[node]
    x = np.empty(count)
    leftmost, rightmost = np.full(count, np.inf), np.full(count, -np.inf)
    for node in range(count - 1, -1, -1):
        x[node] = (leftmost[node] + rightmost[node]) / 2 if used[node] else begin[node]
        leftmost[parent[node]] = min(leftmost[parent[node]], x[node])
        rightmost[parent[node]] = max(rightmost[parent[node]], x[node])
    return x


def draw_tree(
    axes: Axes,
    parent: NDArray[np.int32],
    colours: NDArray[Any] | None = None,
    labels: Sequence[str] | None = None,
    sizes: NDArray[Any] | None = None,
) -> None:
    """Draw a tree.

    Args:
        axes: of matplotlib.
        parent: a tree as the package says, [N].
        colours: of the nodes, RGB in [0, 1], [N, 3].
        labels: a text beside each node, N of them.
        sizes: of the nodes, any unit; areas of the discs are between 20 and 200 points² and grow with their roots.

    Raises:
        InvalidSetting: more than :data:`MAX_DRAWN` nodes.
    """
    if parent.size > MAX_DRAWN:
        raise InvalidSetting(
            f"a tree of {parent.size} nodes cannot be read when drawn; filter it to {MAX_DRAWN} or fewer first."
        )
    x, y = layout(parent)
    from matplotlib.collections import LineCollection

    ends = np.stack([np.stack([x[1:], y[1:]], 1), np.stack([x[parent[1:]], y[parent[1:]]], 1)], axis=1)
    axes.add_collection(LineCollection(list(ends), colors="0.6", linewidths=0.8, zorder=1))
    root = np.sqrt(np.ones(parent.size) if sizes is None else np.asarray(sizes, np.float64))
    area = 20 + 180 * root / root.max() if sizes is not None else np.full(parent.size, 60.0)
    fill = "tab:blue" if colours is None else np.clip(colours, 0, 1)
    axes.scatter(x, y, s=area, c=fill, edgecolors="0.2", linewidths=0.5, zorder=2)
    for node, label in enumerate(labels or ()):
        axes.annotate(label, (x[node], y[node]), (4, 4), textcoords="offset points", fontsize="x-small")
    axes.margins(0.05)
    axes.set_axis_off()
