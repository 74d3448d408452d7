"""Segments of ragged, sorted times as tiles: small dense blocks of neighbouring centres against all keys within reach.

The times of each group (a series, or the visits of a sample) are sorted, so the segment of a centre is a run of keys, and
neighbouring centres share most of it. A tile takes a few neighbouring centres and the run that holds all their segments;
tiles of like size are stacked and computed as dense blocks, with a mask for what is outside of a segment. There is no loop
over samples, variables or times, and work and memory grow with the pairs inside segments, not with the square of a group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

__all__ = ["BORDER", "Tiles", "cut", "map_tiles"]

#: hours beyond L/2 that count as inside: times are whole minutes, and both borders of Eq. 1 shall count whatever the rounding
BORDER = 1e-4

#: lengths of runs are rounded up to these, so that tiles of like length can be stacked
_WIDTHS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_LAST = _WIDTHS[-1]
#: sizes of tiles; a group of n elements is cut into tiles of the smallest size of n or more, or the largest
_SIZES = (2, 4, 8, 16)


@dataclass(frozen=True)
class Tiles:
    """Tiles of one size: G tiles of Q centres against W keys.

    Attributes:
        centres: [G, Q] int64, indices of elements; a tile that is cut short repeats its last one.
        keys: [G, W] int64, indices of elements; beyond the run, the run's last one.
        valid: [G, W] bool, inside the run.
    """

    centres: torch.Tensor
    keys: torch.Tensor
    valid: torch.Tensor

    @property
    def pairs(self) -> int:
        """G·Q·W, padding included."""
        return int(self.keys.numel() * self.centres.shape[1])

    def part(self, start: int, stop: int) -> Tiles:
        """The tiles from ``start`` to ``stop``."""
        return Tiles(self.centres[start:stop], self.keys[start:stop], self.valid[start:stop])


def cut(times: torch.Tensor, offsets: torch.Tensor, reach: float) -> tuple[list[Tiles], torch.Tensor]:
    """Tiles of all elements, and where each element's row is.

    Args:
        times: [N] hours, rising within each group.
        offsets: [groups + 1] int64, where each group begins.
        reach: hours to either side of a centre (the longest L/2 of the layer); may be infinite.

    Returns:
        the tiles by size, and ``rows`` [N]: if the rows [G·Q, ...] of all tiles are stacked in that order, ``rows[i]`` is that
        of element i.
    """
    count, device = len(times), times.device
    if not count:
        return [], torch.zeros(0, dtype=torch.int64, device=device)
    groups = torch.repeat_interleave(torch.arange(len(offsets) - 1, device=device), offsets.diff(), output_size=count)
    first, last = _runs(times, groups, offsets, reach)

    sizes = torch.tensor(_SIZES, device=device)
    lengths = offsets.diff()
    size = sizes[torch.bucketize(lengths, sizes).clamp(max=len(_SIZES) - 1)]  # [groups]
    tiles = -(-lengths // size)  # [groups]
    owner = torch.repeat_interleave(torch.arange(len(tiles), device=device), tiles)
    before = tiles.cumsum(0) - tiles
    start = offsets[owner] + (torch.arange(len(owner), device=device) - before[owner]) * size[owner]
    stop = torch.minimum(start + size[owner], offsets[owner + 1])
    low, high = first[start], last[stop - 1]

    kind = _width(high - low) * (_SIZES[-1] + 1) + size[owner]
    found: list[Tiles] = []
    rows = torch.empty(count, dtype=torch.int64, device=device)
    done = 0
    for value in kind.unique().tolist():
        chosen = (kind == value).nonzero().squeeze(1)
        width, side = divmod(value, _SIZES[-1] + 1)
        steps = torch.arange(side, device=device)
        centres = torch.minimum(start[chosen, None] + steps, stop[chosen, None] - 1)
        keys = low[chosen, None] + torch.arange(width, device=device)
        valid = keys < high[chosen, None]
        found.append(Tiles(centres, torch.minimum(keys, high[chosen, None] - 1), valid))
        real = start[chosen, None] + steps < stop[chosen, None]
        places = torch.arange(done, done + centres.numel(), device=device).view_as(centres)
        rows[centres[real]] = places[real]
        done += centres.numel()
    return found, rows


def _runs(
    times: torch.Tensor, groups: torch.Tensor, offsets: torch.Tensor, reach: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """[N] the first key within reach of each element, and the one after the last."""
    if reach == float("inf"):
        return offsets[groups], offsets[groups + 1]
    wide = times.double()
    wide = wide - wide.min()
    # one rising row for all groups: each is shifted beyond the reach of the one before
    row = wide + groups * (wide.max() + 2 * (reach + BORDER) + 1)
    first = torch.searchsorted(row, row - (reach + BORDER))
    last = torch.searchsorted(row, row + (reach + BORDER), right=True)
    return first, last


def _width(lengths: torch.Tensor) -> torch.Tensor:
    """Each length rounded up to one of ``_WIDTHS``, or to a multiple of the last."""
    widths = torch.tensor(_WIDTHS, device=lengths.device)
    small = widths[torch.bucketize(lengths, widths).clamp(max=len(_WIDTHS) - 1)]
    return torch.where(lengths > _LAST, -(-lengths // _LAST) * _LAST, small)


def map_tiles(function: Callable[[Tiles], torch.Tensor], tiles: list[Tiles], numbers: int, budget: int) -> torch.Tensor:
    """Rows [sum of G·Q, ...] of ``function`` (tiles of one size -> [G, Q, ...]) over all tiles.

    Args:
        function: may use tensors that need gradients.
        tiles: of :func:`cut`.
        numbers: numbers that the function holds per pair of centre and key.
        budget: numbers held at once. A stack of tiles beyond it is computed in parts, each anew in the backward pass (so
            that memory is bounded there too, for a third more time). A single tile may exceed it.
    """
    parts: list[torch.Tensor] = []
    total = sum(stack.pairs for stack in tiles) * numbers
    for stack in tiles:
        each = max(1, budget // (numbers * stack.centres.shape[1] * stack.keys.shape[1]))
        for start in range(0, len(stack.centres), each):
            part = stack.part(start, start + each)
            rows = function(part) if total <= budget else checkpoint(function, part, use_reentrant=False)
            parts.append(rows.flatten(0, 1))
    return torch.cat(parts)
