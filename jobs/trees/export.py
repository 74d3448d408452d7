"""Trees as files: NumPy archives and GraphML."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from sensorium.platform.errors import InvalidSetting

__all__ = ["graphml", "npz"]

_TYPES = {"b": "boolean", "i": "long", "u": "long", "f": "double"}


def npz(parent: NDArray[np.int32], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A compressed archive for ``numpy.load``: ``parent`` and ``arrays`` by their names; nothing in it is pickled.

    Raises:
        InvalidSetting: an array of objects, or one that is called ``parent``.
    """
    for name, array in arrays.items():
        if name == "parent" or np.asarray(array).dtype.kind not in "biufU":
            raise InvalidSetting(f"array {name!r} of dtype {np.asarray(array).dtype} cannot be kept beside parent.")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, parent=parent, **arrays)
    return buffer.getvalue()


def graphml(parent: NDArray[np.int32], attributes: Mapping[str, NDArray[Any]]) -> bytes:
    """The tree as GraphML, UTF-8: nodes ``n0`` (the root) …, an edge from each other node to its parent.

    Args:
        parent: a tree as the package says, [N].
        attributes: numbers or truth values of the nodes, [N] each, which become data of the nodes.

    Raises:
        InvalidSetting: an attribute that is not one number or truth value a node.
    """
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">',
    ]
    columns = []
    for index, (name, values) in enumerate(attributes.items()):
        array = np.asarray(values)
        if array.shape != parent.shape or array.dtype.kind not in _TYPES:
            raise InvalidSetting(
                f"attribute {name!r} must be one number a node, [{parent.size}]; got {array.dtype} {list(array.shape)}."
            )
        kind = _TYPES[array.dtype.kind]
        lines.append(f'<key id="d{index}" for="node" attr.name={quoteattr(name)} attr.type="{kind}"/>')
        texts = [str(value).lower() for value in array.tolist()] if kind == "boolean" else map(str, array.tolist())
        columns.append([f'<data key="d{index}">{text}</data>' for text in texts])
    lines.append('<graph edgedefault="directed">')
    lines += [f'<node id="n{node}">{"".join(column[node] for column in columns)}</node>' for node in range(parent.size)]
    lines += [f'<edge source="n{node}" target="n{above}"/>' for node, above in enumerate(parent.tolist()) if node]
    lines += ["</graph>", "</graphml>", ""]
    return "\n".join(lines).encode()
