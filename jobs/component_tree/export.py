"""Component trees as files."""

from __future__ import annotations

import numpy as np

from sensorium.jobs.component_tree.tree import ATTRIBUTES, ComponentTree
from sensorium.jobs.trees import export

__all__ = ["to_graphml", "to_npz"]


def to_npz(tree: ComponentTree) -> bytes:
    """An archive for ``numpy.load`` from which the tree, and the image, can be made again.

    Holds ``parent``, ``value`` (ω), ``node_of_point``, ``order`` (the next lower value of each value) and every attribute by
    its name.
    """
    arrays = {"value": tree.value, "node_of_point": tree.node_of_point, "order": np.asarray(tree.order.parent)}
    return export.npz(tree.parent, arrays | {name: tree.attribute(name) for name in ATTRIBUTES})


def to_graphml(tree: ComponentTree) -> bytes:
    """The tree as GraphML with every attribute of its nodes, for tools that draw graphs; without its points."""
    return export.graphml(tree.parent, {name: tree.attribute(name) for name in ATTRIBUTES})
