"""The tree of shapes of a grey image.

Shapes: an image is [H, W], with its border [H + 2, W + 2]; a tree has N nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.shape_tree import attributes
from sensorium.jobs.shape_tree.immersion import Room, front, guarded, inclusions, stride
from sensorium.jobs.shape_tree.levels import Levels, levels_of
from sensorium.jobs.shape_tree.numbering import breadth_first, nodes_of_zones, renumber
from sensorium.jobs.trees.memory import scratch

__all__ = ["ShapeTree", "tree_of_shapes"]


@dataclass(frozen=True, eq=False)
class ShapeTree:
    """A tree of shapes (Definition 1 of the paper), of an image with a border of zeros one pixel wide.

    Nodes are numbered breadth first, siblings in the order of the first pixels of their proper parts, row by row: node 0 is
    the root, which holds the border, and a parent's number is lower than its children's.

    Attributes:
        parent: int32 [N]; of the root, itself.
        altitude: int32 [N], the image's value on the proper part of each node.
        node_of_pixel: int32 [H + 2, W + 2], the node in whose proper part each pixel lies.
        dtype: of the image.
    """

    parent: NDArray[np.int32]
    altitude: NDArray[np.int32]
    node_of_pixel: NDArray[np.int32]
    dtype: np.dtype[Any]
    _attributes: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    @property
    def node_count(self) -> int:
        """Nodes, the root included."""
        return int(self.parent.size)

    def attribute(self, name: str) -> NDArray[Any]:
        """An attribute of every node, [N]; see :data:`.attributes.NAMES`. Kept once it is computed: do not write to it.

        Raises:
            InvalidSetting: there is no such attribute.
        """
        return attributes.attribute(self, name, self._attributes)

    def reconstruct(self) -> NDArray[Any]:
        """The image [H, W], in its dtype: each pixel has the altitude of its node (Property 5)."""
        inner: NDArray[Any] = self.altitude.astype(self.dtype)[self.node_of_pixel[1:-1, 1:-1]]
        return inner


def tree_of_shapes(image: NDArray[Any]) -> ShapeTree:
    """The tree of shapes of an image [H, W], equal to Higra's of the image with a border of zeros.

    Args:
        image: integers or whole floats that lie, with 0, within 65,536 values.

    Raises:
        InvalidImage: no such image.
    """
    levels = levels_of(image)
    height, width = levels.values.shape
    parent, level, zone = _zones(levels)
    node, above, altitude = nodes_of_zones(zone, parent, level, height, width)
    del zone, parent, level
    parents, altitudes = scratch(above.size, np.int32), scratch(above.size, np.int32)
    renumber(above, altitude, levels.lowest, *breadth_first(above), parents, altitudes, node)
    return ShapeTree(parents, altitudes, node, levels.dtype)


def _zones(levels: Levels) -> tuple[NDArray[np.int32], NDArray[np.uint16], NDArray[np.int32]]:
    """Zones of the front: the zone in which each lies, its level, and the zone of each cell."""
    height, width = levels.values.shape
    row = stride(width)
    shift, kind = (8, np.uint16) if levels.count <= 256 else (16, np.uint32)
    cells = scratch((height + 4) * row, kind)
    guarded(levels.values, levels.outside, cells, shift)
    room = Room.of(cells.size)
    zones, noted = front(cells, row, shift, levels.count, row + 1, *(getattr(room, one.name) for one in fields(room)))
    zone, level, first, contacts = room.zone, room.level[:zones], room.first[: zones + 1], room.contacts[:noted]
    del cells, room  # and with it what only the front needs
    parent = scratch(zones, np.int32)
    inclusions(zone, first, contacts, parent, scratch(zones, np.int32))
    return parent, level, zone
