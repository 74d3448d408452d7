"""Which points of a grid are neighbours.

Grids are treated as [Z, Y, X]; a plane has Z = 1. Points are numbered line by line.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.platform.errors import InvalidSetting

__all__ = ["ADJACENCIES", "Grid", "grid_edges"]

#: adjacency -> rank of the grid, how many coordinates may differ (by 1)
ADJACENCIES = {4: (2, 1), 8: (2, 2), 6: (3, 1), 26: (3, 3)}


@dataclass(frozen=True, eq=False)
class Grid:
    """The neighbours of a grid's points, each pair once.

    Attributes:
        shape: Z, Y, X.
        offsets: steps (z, y, x) from a point to its neighbours that come later, int64 [K, 3].
        detours: for each offset, the numbers to add to a point's for the points that lie in between: inside the smallest
            box around the two, int64 [K, 6], of which the first ``detour_counts`` are used.
        detour_counts: 0 where the two differ in one coordinate, 2 in two, 6 in three, int64 [K].
    """

    shape: tuple[int, int, int]
    offsets: NDArray[np.int64]
    detours: NDArray[np.int64]
    detour_counts: NDArray[np.int64]

    @classmethod
    def of(cls, shape: tuple[int, ...], adjacency: int) -> Grid:
        """The grid of an array.

        Args:
            shape: of the array, two or three lengths.
            adjacency: 4 or 8 of a plane, 6 or 26 of a volume.

        Raises:
            InvalidSetting: no such adjacency for an array of this rank.
        """
        rank, differing = ADJACENCIES.get(adjacency, (0, 0))
        if rank != len(shape):
            raise InvalidSetting(
                f"adjacency must be 4 or 8 for a plane [Y, X], 6 or 26 for a volume [Z, Y, X]; got {adjacency} for an array "
                f"of shape {shape}. Any other graph: give its edges."
            )
        z, y, x = (1,) * (3 - rank) + shape
        steps = [
            step
            for step in itertools.product((-1, 0, 1), repeat=3)
            if step > (0, 0, 0) and sum(map(abs, step)) <= differing and (rank == 3 or step[0] == 0)
        ]
        detours = np.zeros((len(steps), 6), np.int64)
        counts = np.zeros(len(steps), np.int64)
        for index, step in enumerate(steps):
            parts = itertools.product(*((0, part) if part else (0,) for part in step))
            between = [part for part in parts if part not in ((0, 0, 0), step)]
            counts[index] = len(between)
            detours[index, : len(between)] = [(dz * y + dy) * x + dx for dz, dy, dx in between]
        return cls((z, y, x), np.array(steps, np.int64), detours, counts)


def grid_edges(shape: tuple[int, ...], adjacency: int) -> NDArray[np.int64]:
    """The pairs of neighbours of a grid as edges of a graph, int64 [E, 2].

    Raises:
        InvalidSetting: no such adjacency for an array of this rank.
    """
    grid = Grid.of(shape, adjacency)
    numbers = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    parts = []
    for offset in grid.offsets:
        here = tuple(slice(max(0, -step), size - max(0, step)) for step, size in zip(offset, grid.shape, strict=True))
        there = tuple(slice(max(0, step), size + min(0, step)) for step, size in zip(offset, grid.shape, strict=True))
        parts.append(np.stack([numbers[here].ravel(), numbers[there].ravel()], axis=1))
    return np.concatenate(parts)
