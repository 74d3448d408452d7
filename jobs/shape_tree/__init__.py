"""Shifting nodes of a tree of shapes: connected operators that keep the order of neighbouring grey values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sensorium.platform.systems import System

if TYPE_CHECKING:
    from sensorium.jobs.shape_tree.filters import Filtered, area_opening, mean_filter, quantise
    from sensorium.jobs.shape_tree.modification import Node, modify
    from sensorium.jobs.shape_tree.tree import ShapeTree, tree_of_shapes

__all__ = [
    "Filtered",
    "Node",
    "ShapeTree",
    "area_opening",
    "mean_filter",
    "modify",
    "quantise",
    "system",
    "tree_of_shapes",
]

_HOMES = {
    "Filtered": "filters",
    "Node": "modification",
    "ShapeTree": "tree",
    "area_opening": "filters",
    "mean_filter": "filters",
    "modify": "modification",
    "quantise": "filters",
    "tree_of_shapes": "tree",
}


def __getattr__(name: str) -> Any:
    """What the package offers besides its card, which must not need numba."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


system = System(
    name="shape_tree",
    title="shifting nodes of a tree of shapes",
    modality="image",
    needs="grey images, 8 or 16 bits; of colour images, their luma",
    claim="far fewer nodes while SSIM stays high, in time linear in the nodes",
    paper=1,
    operations={
        "predict": "sensorium.jobs.shape_tree.operator:operator",
        "reproduce": "sensorium.jobs.shape_tree.reproduction:reproduce",
    },
    explanation=(
        "In goes a grey image. Its level lines, nested in each other, are the nodes of a tree, the tree of shapes, in which "
        "bright and dark details are alike. An operator moves nodes to other grey values: to a few regular ones, to that of "
        "the parent where the node is small, or to the mean of the neighbours. Nodes that meet become one, so that the tree "
        "stays the tree of shapes of the image that comes out, and no step between neighbouring pixels changes its sign. "
        "After paper 1. Nothing is learnt: there is no model."
    ),
)
