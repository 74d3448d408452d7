"""Strategy 2 (paper, Sect. 5.2): an order on an enriched set of values from a binary partition tree of the values.

Each value of the image is a leaf, hence a maximum; what unites two of them is a new, lower value. Those that are neighbours
in the image most often are united first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorium.jobs.component_tree.grid import grid_edges
from sensorium.jobs.component_tree.order import Order
from sensorium.jobs.component_tree.tree import InvalidValues
from sensorium.jobs.trees.compiled import compiled

__all__ = ["MAX_MERGED", "cooccurrence", "order_from_cooccurrence"]

#: values that a binary partition tree is built of; the matrix of these has 134 MB
MAX_MERGED = 4096


def order_from_cooccurrence(values: ArrayLike, count: int | None = None, adjacency: int | None = None) -> Order:
    """Order the values 0 … count - 1, which become the maxima among 2 count - 1.

    The pair with the greatest priority is united first, into the value ``count``, the next into ``count + 1``, and so on. The
    priority of two unions is the greatest of any two of their values: with it the paper's Fig. 6 comes out, with sums or
    means it does not. Among equal priorities the pair with the lowest smaller number goes first, then that with the
    lowest greater number.

    Args:
        values: integers, a plane [Y, X] or a volume [Z, Y, X].
        count: number of values, some of which no point may have; one more than the greatest without.
        adjacency: of the points, as of :func:`.tree.component_tree`.

    Raises:
        InvalidValues: values that are no integers from 0 to count - 1, or more than :data:`MAX_MERGED`.
        InvalidSetting: no such adjacency.
    """
    return Order(_merged(cooccurrence(values, count, adjacency)))


def cooccurrence(values: ArrayLike, count: int | None = None, adjacency: int | None = None) -> NDArray[np.int64]:
    """How often two values are neighbours: ordered pairs of points, so that the matrix is symmetric, int64 [count, count].

    Raises:
        InvalidValues: values that are no integers from 0 to count - 1, or more than :data:`MAX_MERGED`.
        InvalidSetting: no such adjacency.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "iub" or array.ndim not in (2, 3) or not array.size:
        raise InvalidValues(f"values must be integers [Y, X] or [Z, Y, X]; got {array.dtype} {list(array.shape)}.")
    size = int(array.max()) + 1 if count is None else count
    if not 1 <= size <= MAX_MERGED:
        raise InvalidValues(
            f"a binary partition tree is built of 1 to {MAX_MERGED} values; got {size}. Quantise, or number only those "
            "that there are."
        )
    if array.min() < 0 or array.max() >= size:
        raise InvalidValues(f"values must be 0 to {size - 1}; got {array.min()} to {array.max()}.")
    matrix = np.zeros((size, size), np.int64)
    flat = array.ravel().astype(np.int32)
    _count(flat, grid_edges(array.shape, adjacency or (4 if array.ndim == 2 else 6)), matrix)
    return matrix


@compiled
def _count(flat: NDArray[np.int32], edges: NDArray[np.int64], matrix: NDArray[np.int64]) -> None:
    for edge in range(edges.shape[0]):
        u, v = flat[edges[edge, 0]], flat[edges[edge, 1]]
        matrix[u, v] += 1
        matrix[v, u] += 1


@compiled
def _merged(matrix: NDArray[np.int64]) -> NDArray[np.int32]:
    """Parents of the values and their unions, int32 [2 n - 1], by priorities [n, n], which are overwritten.

    Each union lives on in the row of one of its two. ``best`` is the row that a row would be united with; it is looked for
    again only where it was one of the two that have just been united.
    """
    size = matrix.shape[0]
    parent = np.arange(2 * size - 1).astype(np.int32)
    number = np.arange(size).astype(np.int32)  # of each row's value; -1 for rows that are used up
    best = np.empty(size, np.int32)
    for row in range(size):
        best[row] = _partner(matrix, number, row)
    for union in range(size, 2 * size - 1):
        a = -1
        for row in range(size):
            if number[row] >= 0 and (a < 0 or _goes_before(matrix, number, best, row, a)):
                a = row
        b = best[a]
        parent[number[a]] = parent[number[b]] = union
        number[a], number[b] = union, -1
        for row in range(size):
            if number[row] >= 0 and row != a:
                matrix[a, row] = matrix[row, a] = max(matrix[a, row], matrix[b, row])
        for row in range(size):
            if number[row] >= 0 and (row == a or best[row] == a or best[row] == b):
                best[row] = _partner(matrix, number, row)
    return parent


@compiled
def _partner(matrix: NDArray[np.int64], number: NDArray[np.int32], row: int) -> int:
    """The row with the greatest priority, then the lowest number; -1 where there is no other."""
    found = -1
    for other in range(number.size):
        if other == row or number[other] < 0:
            continue
        if (
            found < 0
            or matrix[row, other] > matrix[row, found]
            or (matrix[row, other] == matrix[row, found] and number[other] < number[found])
        ):
            found = other
    return found


@compiled
def _goes_before(
    matrix: NDArray[np.int64], number: NDArray[np.int32], best: NDArray[np.int32], row: int, other: int
) -> bool:
    """Whether a row's best pair is united before another row's."""
    own, rival = matrix[row, best[row]], matrix[other, best[other]]
    before: bool = own > rival or (own == rival and number[row] < number[other])
    return before
