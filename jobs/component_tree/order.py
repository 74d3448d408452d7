"""Hierarchical orders on values: which value is lower than which (paper, Sect. 3).

Values are 0 … n-1. Their Hasse diagram is a tree: its root is the minimum, and the values lower than v are those on the way
from v to the root. Inside, a value is known by its *rank*, its place in a walk through this tree that meets each value before
those above it and finishes one branch before the next. Ranks make the order a matter of numbers: v is lower than or equal to
w where ``rank[v] <= rank[w] <= last[rank[v]]``, and the infimum of two values is a minimum over a stretch of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorium.jobs.trees.compiled import compiled
from sensorium.platform.errors import UserError

__all__ = ["MAX_VALUES", "InvalidOrder", "Lookup", "Order", "infimum_rank", "total_order"]

#: of an order: its table for infima then holds 84 MB
MAX_VALUES = 1 << 20

#: tables from which a compiled function reads infima; see :func:`infimum_rank`
Lookup = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]


class InvalidOrder(UserError, ValueError):
    """What was given is no hierarchical order on values."""


@dataclass(frozen=True, eq=False)
class Order:
    """A hierarchical order on the values 0 … n-1.

    Attributes:
        parent: the next lower value of each value, [n]; the minimum is its own.
        rank: place of each value in the walk, int32 [n].
        value: the value of each rank, int32 [n].
        depth: values lower than each value, int32 [n].
        last: greatest rank among the values above that of a rank, itself included, int32 [n].

    Raises:
        InvalidOrder: ``parent`` is no hierarchy on 1 to :data:`MAX_VALUES` values.
    """

    parent: NDArray[np.int32]
    rank: NDArray[np.int32] = field(init=False, repr=False)
    value: NDArray[np.int32] = field(init=False, repr=False)
    depth: NDArray[np.int32] = field(init=False, repr=False)
    last: NDArray[np.int32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parent = _checked(self.parent)
        root = int(np.flatnonzero(parent == np.arange(parent.size))[0])
        rank, value, depth, last = _walk(parent, root)
        if (rank < 0).any():
            lost = int(np.flatnonzero(rank < 0)[0])
            raise InvalidOrder(
                f"parent is no hierarchy: from value {_on_cycle(parent, lost)} the way down leads back to it, never to the "
                f"minimum {root}. Give it a parent that is nearer to the minimum."
            )
        arrays = {"parent": parent, "rank": rank, "value": value, "depth": depth, "last": last}
        for name, array in arrays.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def size(self) -> int:
        """Number of values, n."""
        return int(self.parent.size)

    @property
    def minimum(self) -> int:
        """The value that is lower than all others."""
        return int(self.value[0])

    @cached_property
    def lookup(self) -> Lookup:
        """Tables for :func:`infimum_rank`: last [n], minima of parents' ranks [about log2 n, n], whole logarithms [n + 1]."""
        lower = self.rank[self.parent[self.value]]
        return self.last, _minima(lower), _logarithms(self.size)

    def infimum(self, u: ArrayLike, v: ArrayLike) -> NDArray[np.int32]:
        """The greatest value that is lower than or equal to both, element by element.

        Args:
            u: values, any shape.
            v: values, of a shape that fits u's.

        Raises:
            InvalidOrder: a value that the order does not have.
        """
        first, second = np.broadcast_arrays(self._ranks(u), self._ranks(v))
        found = _infima(first.ravel(), second.ravel(), *self.lookup)
        return self.value[found].reshape(first.shape)

    def lower_or_equal(self, u: ArrayLike, v: ArrayLike) -> NDArray[np.bool_]:
        """Whether u is lower than or equal to v, element by element.

        Raises:
            InvalidOrder: a value that the order does not have.
        """
        first, second = self._ranks(u), self._ranks(v)
        found: NDArray[np.bool_] = (first <= second) & (second <= self.last[first])
        return found

    def _ranks(self, values: ArrayLike) -> NDArray[np.int32]:
        values = np.asarray(values)
        outside = (values < 0) | (values >= self.size)
        if outside.any():
            raise InvalidOrder(f"value {values[outside].flat[0]} is not in the order, which has 0 to {self.size - 1}.")
        return np.asarray(self.rank[values])


def total_order(count: int) -> Order:
    """The usual order of numbers, 0 < 1 < … < count - 1, with which a component tree is a max-tree.

    Raises:
        InvalidOrder: fewer than 1 or more than :data:`MAX_VALUES` values.
    """
    return Order(np.maximum(np.arange(count, dtype=np.int32) - 1, 0))


def _checked(parent: Any) -> NDArray[np.int32]:
    """A copy of the parents as int32, with exactly one root."""
    given = np.asarray(parent)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise InvalidOrder(f"parent must be a list of integers, one a value; got {given.dtype} of shape {given.shape}.")
    if not 1 <= given.size <= MAX_VALUES:
        raise InvalidOrder(
            f"an order has 1 to {MAX_VALUES} values; parent has {given.size}. Quantise, or merge values that may be equal."
        )
    outside = np.flatnonzero((given < 0) | (given >= given.size))
    if outside.size:
        raise InvalidOrder(
            f"parent[{outside[0]}] is {given[outside[0]]}; it must be a value of the order, 0 to {given.size - 1}."
        )
    roots = np.flatnonzero(given == np.arange(given.size))
    if roots.size != 1:
        shown = ", ".join(map(str, roots[:5])) or "none"
        raise InvalidOrder(
            f"parent must have one minimum, a value that is its own parent; got {roots.size} ({shown}). "
            "Let the others lead to one of them."
        )
    return given.astype(np.int32)


@compiled
def _walk(
    parent: NDArray[np.int32], root: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Rank (-1 where no way leads from the root), value, depth, last; see :class:`Order`. Lower children come first."""
    count = parent.size
    first = np.full(count, -1, np.int32)  # child with the smallest value
    following = np.full(count, -1, np.int32)  # next child of the same parent
    for v in range(count - 1, -1, -1):
        if v != root:
            following[v] = first[parent[v]]
            first[parent[v]] = v
    rank = np.full(count, -1, np.int32)
    value = np.empty(count, np.int32)
    depth = np.zeros(count, np.int32)
    last = np.empty(count, np.int32)
    met = 0
    v = root
    while v >= 0:
        if rank[v] < 0:  # on the way up
            rank[v] = met
            value[met] = v
            if v != root:
                depth[v] = depth[parent[v]] + 1
            met += 1
            if first[v] >= 0:
                v = first[v]
                continue
        last[rank[v]] = met - 1
        if v == root:
            break
        v = following[v] if following[v] >= 0 else parent[v]
    return rank, value, depth, last


@compiled
def _on_cycle(parent: NDArray[np.int32], start: int) -> int:
    """A value of the cycle into which the way from ``start`` leads."""
    v = start
    for _ in range(parent.size):
        v = parent[v]
    return v


def _minima(lower: NDArray[np.int32]) -> NDArray[np.int32]:
    """Row k holds the minimum of ``lower`` over the 2^k entries from each on (fewer at the end)."""
    rows = [lower.astype(np.int32)]
    width = 1
    while 2 * width <= lower.size:
        row = rows[-1].copy()
        np.minimum(row[:-width], row[width:], out=row[:-width])
        rows.append(row)
        width *= 2
    return np.stack(rows)


def _logarithms(count: int) -> NDArray[np.uint8]:
    """floor(log2 x) for x = 0 … count; 0 for x = 0."""
    logarithm = np.zeros(count + 1, np.uint8)
    for power in range(1, count.bit_length()):
        logarithm[1 << power :] = power
    return logarithm


@compiled
def infimum_rank(
    u: int, v: int, last: NDArray[np.int32], minima: NDArray[np.int32], logarithm: NDArray[np.uint8]
) -> int:
    """The rank of the infimum of two ranks, from :attr:`Order.lookup`.

    Of u < v that are not comparable, it is the least rank of a parent between them: those ranks all lie above the infimum,
    and the child of it that leads to v is among them.
    """
    if u > v:
        u, v = v, u
    if v <= last[u]:
        return u
    level = logarithm[v - u]
    found: int = min(minima[level, u + 1], minima[level, v + 1 - (1 << level)])
    return found


@compiled
def _infima(
    first: NDArray[np.int32],
    second: NDArray[np.int32],
    last: NDArray[np.int32],
    minima: NDArray[np.int32],
    logarithm: NDArray[np.uint8],
) -> NDArray[np.int32]:
    """:func:`infimum_rank` of pairs."""
    found = np.empty(first.size, np.int32)
    for index in range(first.size):
        found[index] = infimum_rank(first[index], second[index], last, minima, logarithm)
    return found
