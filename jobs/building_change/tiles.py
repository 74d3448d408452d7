"""Where tiles lie in a scene, and how predictions of overlapping tiles are put together in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Grid", "Pixels", "cut", "origins", "stitched"]

Weights = npt.NDArray[np.float32]


class Pixels(Protocol):
    """Pixels [H, W, ...] of a scene: a NumPy array, or an array of the catalog that is still in storage."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size."""

    def __getitem__(self, key: Any, /) -> np.ndarray:
        """A window, by slices; only this is read."""


@dataclass(frozen=True)
class Grid:
    """Tiles that cover a scene.

    Attributes:
        height, width: of the scene, pixels.
        tile: side of a tile.
        overlap: of neighbours at least; the last tile of a row or column is moved inwards to end with the scene.
    """

    height: int
    width: int
    tile: int
    overlap: int = 0

    @property
    def rows(self) -> list[int]:
        """Upper edges of tiles."""
        return origins(self.height, self.tile, self.overlap)

    @property
    def columns(self) -> list[int]:
        """Left edges of tiles."""
        return origins(self.width, self.tile, self.overlap)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def place(self, number: int) -> tuple[int, int]:
        """Upper and left edge of a tile, counted row by row."""
        columns = self.columns
        return self.rows[number // len(columns)], columns[number % len(columns)]


def origins(length: int, tile: int, overlap: int = 0) -> list[int]:
    """Where tiles begin along an axis, so that all of it is covered."""
    if length <= tile:
        return [0]
    begins = list(range(0, length - tile, tile - overlap))
    return [*begins, length - tile]


def cut(scene: Pixels, row: int, column: int, tile: int) -> np.ndarray:
    """The tile [tile, tile, ...] at a place; what a smaller scene lacks is mirrored at its lower and right edges."""
    found = np.asarray(scene[row : row + tile, column : column + tile])
    lacking = [(0, max(0, tile - size)) for size in found.shape[:2]]
    if any(after for _, after in lacking):
        found = np.pad(found, [*lacking, *[(0, 0)] * (found.ndim - 2)], mode="symmetric")
    return found


def _fading(tile: int, overlap: int) -> Weights:
    """Weights along a side: 1 in the middle, falling towards 0 across the overlap at both ends."""
    rise = (np.arange(overlap, dtype=np.float32) + 1) / (overlap + 1)
    weights = np.ones(tile, np.float32)
    weights[:overlap] = np.minimum(weights[:overlap], rise)
    weights[tile - overlap :] = np.minimum(weights[tile - overlap :], rise[::-1])
    return weights


def stitched(
    grid: Grid, values: Callable[[Sequence[tuple[int, int]]], npt.NDArray[np.float32]], batch: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Values of a whole scene, from its top down in bands [h, width]; where tiles overlap, their weighted mean.

    Never more than one row of tiles is in memory.

    Args:
        grid: of the tiles.
        values: of the tiles at places (upper and left edge), [n, tile, tile].
        batch: tiles asked for at a time.
    """
    side = _fading(grid.tile, grid.overlap)
    weights = np.outer(side, side)
    total = np.zeros((grid.tile, max(grid.width, grid.tile)), np.float32)
    share = np.zeros_like(total)
    rows, columns = grid.rows, grid.columns
    for row, following in zip(rows, [*rows[1:], grid.height], strict=True):
        for begin in range(0, len(columns), batch):
            places = [(row, column) for column in columns[begin : begin + batch]]
            for (_, column), found in zip(places, values(places), strict=True):
                window = np.s_[:, column : column + grid.tile]
                total[window] += found * weights
                share[window] += weights
        done = min(following, grid.height) - row
        yield total[:done, : grid.width] / share[:done, : grid.width]
        for sums in (total, share):
            sums[: grid.tile - done] = sums[done:]
            sums[grid.tile - done :] = 0
