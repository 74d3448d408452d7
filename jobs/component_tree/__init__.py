"""Trees of the components of images whose values are ordered only in part: colours, labels.

>>> from sensorium.jobs.component_tree import component_tree, order_from_histogram
>>> order = order_from_histogram(photograph)
>>> tree = component_tree(order.values, order)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sensorium.platform.systems import System

if TYPE_CHECKING:
    from sensorium.jobs.component_tree.cooccurrence import order_from_cooccurrence
    from sensorium.jobs.component_tree.export import to_graphml, to_npz
    from sensorium.jobs.component_tree.histogram import HistogramOrder, order_from_histogram, palette
    from sensorium.jobs.component_tree.order import Order, total_order
    from sensorium.jobs.component_tree.tree import ComponentTree, component_tree

__all__ = [
    "ComponentTree",
    "HistogramOrder",
    "Order",
    "component_tree",
    "order_from_cooccurrence",
    "order_from_histogram",
    "palette",
    "system",
    "to_graphml",
    "to_npz",
    "total_order",
]

_HOME = {
    "ComponentTree": "tree",
    "HistogramOrder": "histogram",
    "Order": "order",
    "component_tree": "tree",
    "order_from_cooccurrence": "cooccurrence",
    "order_from_histogram": "histogram",
    "palette": "histogram",
    "to_graphml": "export",
    "to_npz": "export",
    "total_order": "order",
}

system = System(
    name="component_tree",
    title="multivalued component tree",
    modality="image",
    needs="colour images, label images, or volumes of labels",
    claim="one tree for images of any value set, lossless",
    paper=2,
    operations={
        "predict": "sensorium.jobs.component_tree.operator:operator",
        "reproduce": "sensorium.jobs.component_tree.reproduction:reproduce",
    },
    explanation=(
        "In goes an image whose values have no natural order, such as colours or labels. First the values are put into a "
        "hierarchy: colours by how frequent they and their neighbours in the colour cube are, labels by how often they touch "
        "each other. Then every connected region above every value becomes a node of one tree, from which the image can be "
        "rebuilt without loss. Out come the tree's size and the image without the regions that are too small, or have too "
        "little of whatever attribute is asked for. After paper 2; nothing is learnt."
    ),
)


def __getattr__(name: str) -> Any:
    """Import on first use: listing systems must not import numba."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
