"""Trees of shapes as files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from sensorium.jobs.shape_tree.tree import ShapeTree
from sensorium.jobs.trees import export
from sensorium.platform.errors import CorruptData

__all__ = ["from_npz", "to_graphml", "to_npz"]


def to_npz(tree: ShapeTree) -> bytes:
    """A compressed NPZ file: ``parent``, ``altitude``, ``node_of_pixel`` and ``dtype`` of the image; see :func:`from_npz`."""
    arrays = {
        "altitude": tree.altitude,
        "node_of_pixel": tree.node_of_pixel,
        "dtype": np.array(tree.dtype.str),
    }
    return export.npz(tree.parent, arrays)


def from_npz(content: bytes | Path) -> ShapeTree:
    """A tree that :func:`to_npz` wrote.

    Raises:
        CorruptData: it is no such file, or not of a tree.
    """
    where = content if isinstance(content, Path) else "the NPZ file"
    try:
        with np.load(
            io.BytesIO(content.read_bytes() if isinstance(content, Path) else content), allow_pickle=False
        ) as held:
            parent, altitude, node = (held[name] for name in ("parent", "altitude", "node_of_pixel"))
            dtype = np.dtype(str(held["dtype"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise CorruptData(f"{where} holds no tree of shapes: {error}. Write it with to_npz.") from error
    nodes = parent.size
    whole = all(array.dtype == np.int32 for array in (parent, altitude, node))
    shaped = (
        nodes > 0 and parent.shape == altitude.shape == (nodes,) and node.ndim == 2 and min(node.shape, default=0) > 2
    )
    if not (whole and shaped and dtype.kind in "buif"):
        raise CorruptData(
            f"{where} holds arrays of other shapes or dtypes than a tree of shapes has. Write it with to_npz."
        )
    ordered = parent[0] == 0 and (parent >= 0).all() and (parent[1:] < np.arange(1, nodes)).all()
    if not ordered or node.min() != 0 or node.max() >= nodes:
        raise CorruptData(f"{where}: its numbers of nodes make no tree. Write it with to_npz.")
    return ShapeTree(parent, altitude, node, dtype)


def to_graphml(tree: ShapeTree, attributes: Sequence[str] = ("altitude", "proper_part", "area")) -> bytes:
    """A GraphML file: nodes with attributes, an edge from each node to its parent.

    Raises:
        InvalidSetting: there is no such attribute.
    """
    return export.graphml(tree.parent, {name: tree.attribute(name) for name in attributes})
