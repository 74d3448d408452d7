"""The multivalued component tree of an image or a valued graph (paper, Sects. 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorium.jobs.component_tree import building
from sensorium.jobs.component_tree.grid import Grid
from sensorium.jobs.component_tree.order import Order
from sensorium.jobs.trees.hierarchy import below, child_counts, depths, nearest, path_all, subtree_any, subtree_sums
from sensorium.platform.errors import InvalidSetting, UserError

__all__ = ["ATTRIBUTES", "ComponentTree", "InvalidValues", "Rule", "component_tree"]

#: what :meth:`ComponentTree.attribute` knows
ATTRIBUTES = ("area", "proper_area", "remanence", "omega", "depth", "children")
Rule = Literal["direct", "min", "max"]
#: points are counted in 32 bits
_MAX_POINTS = (1 << 31) - 1


class InvalidValues(UserError, ValueError):
    """Values, or edges between points, of which no tree can be built."""


@dataclass(frozen=True, eq=False)
class ComponentTree:
    """The components of all threshold sets of F, by inclusion.

    Attributes:
        parent: the next larger node, int32 [nodes]; node 0 is the root and its own parent, parents come before children.
        value: ω, the greatest value at whose threshold the node is a component (Eq. 5), int32 [nodes].
        node_of_point: the smallest node that holds each point, int32, shape of the values.
        order: on the values.
    """

    parent: NDArray[np.int32]
    value: NDArray[np.int32]
    node_of_point: NDArray[np.int32]
    order: Order

    @property
    def node_count(self) -> int:
        """Number of nodes."""
        return int(self.parent.size)

    def attribute(self, name: str) -> NDArray[Any]:
        """A number for each node, [nodes].

        Args:
            name: ``area``, points of the node; ``proper_area``, of its proper part (Eq. 6; may be 0); ``remanence``, τ, the
                number of threshold sets that it is a component of (Eq. 4); ``omega``, ω; ``depth``, steps from the root;
                ``children``, their number.

        Raises:
            InvalidSetting: no such attribute.
        """
        if name == "omega":
            return self.value
        if name == "depth":
            return depths(self.parent)
        if name == "children":
            return child_counts(self.parent)
        if name == "remanence":
            return self._remanence()
        if name not in ("area", "proper_area"):
            raise InvalidSetting(f"attribute must be one of {', '.join(ATTRIBUTES)}; got {name!r}.")
        own = np.bincount(self.node_of_point.ravel(), minlength=self.node_count)
        return own if name == "proper_area" else subtree_sums(self.parent, own)

    def _remanence(self) -> NDArray[np.int32]:
        """Thresholds from ω down to, and without, the parent's ω; all of them lie on one way, for X has points above each."""
        depth = self.order.depth[self.value]
        remanence = depth - depth[self.parent]
        remanence[0] = depth[0] + 1
        return remanence

    def reconstruct(self) -> NDArray[np.int32]:
        """The image, int32, shape of the values: each point has the value of the smallest node that holds it (Eq. 7)."""
        return np.asarray(self.value[self.node_of_point])

    def proper_part(self, node: int) -> NDArray[np.intp]:
        """Numbers of the points of a node that no child holds, line by line from 0; may be empty.

        Raises:
            InvalidSetting: no such node.
        """
        return np.flatnonzero(self.node_of_point == self._checked(node))

    def points(self, node: int) -> NDArray[np.intp]:
        """Numbers of the points of a node, line by line from 0.

        Raises:
            InvalidSetting: no such node.
        """
        inside = np.zeros(self.node_count, np.bool_)
        inside[self._checked(node)] = True
        return np.flatnonzero(below(self.parent, inside)[self.node_of_point])

    def filter(
        self, keep: str | ArrayLike, at_least: float = -np.inf, at_most: float = np.inf, *, rule: Rule = "direct"
    ) -> ComponentTree:
        """The tree without some nodes; their points go to the next larger node that stays. The root always stays.

        Its :meth:`reconstruct` is the filtered image. With the rules ``min`` and ``max`` the result is the component tree
        of that image. With ``direct`` the tree of the image may have nodes again that were taken out: a node without a proper
        part is there as long as two neighbouring branches above it are.

        Args:
            keep: one truth value a node, [nodes]; or the name of an attribute, which must be within the bounds.
            at_least: lower bound of the attribute.
            at_most: upper bound of the attribute.
            rule: ``direct``: each node for itself; ``min``: a node stays if it and all larger ones around it are to be kept;
                ``max``: a node stays if it, or one inside it, is to be kept.

        Raises:
            InvalidSetting: no such attribute or rule, or flags that are not one a node.
        """
        flags = self._flags(keep, at_least, at_most)
        flags[0] = True
        if rule == "min":
            flags = path_all(self.parent, flags)
        elif rule == "max":
            flags = subtree_any(self.parent, flags)
        elif rule != "direct":
            raise InvalidSetting(f"rule must be direct, min or max; got {rule!r}.")
        heir = nearest(self.parent, flags)
        number = (np.cumsum(flags) - 1).astype(np.int32)
        parent = number[heir[self.parent[flags]]]
        return ComponentTree(parent, self.value[flags], number[heir][self.node_of_point], self.order)

    def _flags(self, keep: str | ArrayLike, at_least: float, at_most: float) -> NDArray[np.bool_]:
        if isinstance(keep, str):
            amount = self.attribute(keep)
            return np.asarray((amount >= at_least) & (amount <= at_most))
        flags = np.array(keep)
        if flags.dtype != np.bool_ or flags.shape != self.parent.shape:
            raise InvalidSetting(
                f"keep must be an attribute's name or one truth value a node, bool [{self.node_count}]; "
                f"got {flags.dtype} {list(flags.shape)}."
            )
        return flags

    def _checked(self, node: int) -> int:
        if not 0 <= node < self.node_count:
            raise InvalidSetting(f"node {node} is not in the tree, which has nodes 0 to {self.node_count - 1}.")
        return node


def component_tree(
    values: ArrayLike, order: Order, adjacency: int | None = None, *, edges: ArrayLike | None = None
) -> ComponentTree:
    """Build the multivalued component tree of F.

    Args:
        values: F, integers of the order: a plane [Y, X], a volume [Z, Y, X], or with ``edges`` the values of a graph's points.
        order: on the values; it may have values that no point has.
        adjacency: 4 or 8 of a plane, 6 or 26 of a volume; the smaller one without.
        edges: pairs of points that are neighbours, int [E, 2], each once or more often, in any direction; points are numbered
            from 0, and all of them must be connected. Instead of ``adjacency``.

    Raises:
        InvalidValues: values that are no integers, not in the order, none or too many; edges to points that are not there, or
            that leave the graph in parts.
        InvalidSetting: no such adjacency for values of this rank; both adjacency and edges.
    """
    array = _integers(values)
    if edges is not None and adjacency is not None:
        raise InvalidSetting(f"give either adjacency or edges; got adjacency {adjacency} and edges.")
    if edges is None and array.ndim not in (2, 3):
        raise InvalidValues(
            f"values must be a plane [Y, X] or a volume [Z, Y, X]; got shape {array.shape}. "
            "A line is a plane of shape (1, N); for colours take order_from_histogram(image).values; for a graph give edges."
        )
    if edges is None:
        graph: Grid | NDArray[np.int64] = Grid.of(array.shape, adjacency or (4 if array.ndim == 2 else 6))
    else:
        graph = _pairs(edges, array.size)
    ranks, bad = building.ranked(array.ravel(), order.rank)
    if bad >= 0:
        at = tuple(int(index) for index in np.unravel_index(bad, array.shape))
        raise InvalidValues(
            f"values{list(at)} is {array[at]}, which is not in the order: that has the values 0 to {order.size - 1}. "
            "Give an order on all values, or map them first."
        )
    parent, node_rank, node_of_point, roots = building.built(ranks, order, graph)
    if roots > 1:
        raise InvalidValues(
            f"edges leave the graph in {roots} parts; a component tree needs a connected one (paper, Sect. 3). "
            "Join the parts through a point that has the minimum of the order, or build a tree of each."
        )
    return ComponentTree(parent, order.value[node_rank], node_of_point.reshape(array.shape), order)


def _integers(values: ArrayLike) -> NDArray[Any]:
    """The values as a contiguous array of integers."""
    array = np.asarray(values)
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if array.dtype.kind not in "iu":
        missing = "; some are NaN" if array.dtype.kind in "fc" and np.isnan(array).any() else ""
        raise InvalidValues(
            f"values must be integers, each a value of the order; got {array.dtype}{missing}. Number the values first, such "
            "as with np.unique(values, return_inverse=True)."
        )
    if not 1 <= array.size <= _MAX_POINTS:
        raise InvalidValues(
            f"values must be of 1 to {_MAX_POINTS} points; got {array.size}. Give an image that has points."
        )
    return np.ascontiguousarray(array)


def _pairs(edges: ArrayLike, points: int) -> NDArray[np.int64]:
    """Edges as int64 [E, 2] between points that there are."""
    array = np.asarray(edges)
    if array.size == 0:
        return np.zeros((0, 2), np.int64)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise InvalidValues(f"edges must be pairs of points, integers [E, 2]; got {array.dtype} {list(array.shape)}.")
    outside = np.flatnonzero(((array < 0) | (array >= points)).any(axis=1))
    if outside.size:
        raise InvalidValues(
            f"edges[{outside[0]}] is {array[outside[0]].tolist()}; points are numbered from 0 to {points - 1}."
        )
    return np.ascontiguousarray(array, np.int64)
