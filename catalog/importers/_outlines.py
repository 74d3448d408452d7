"""Objects as COCO outlines them, polygons and run lengths, painted into an array of labels.

A pixel belongs to a polygon exactly where the reference implementation says so (``maskApi.c`` of cocoapi: ``rleFrPoly``,
``rleFrString``): boundaries are walked on a grid five times finer, and each column is filled between its crossings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["paint"]

Array = npt.NDArray[Any]

#: steps per pixel of the walk along a boundary
_FINE = 5
#: coordinates beyond this many pixels, and longer walks, are no outline of anything in a picture
_FARTHEST, _MAX_STEPS = 1e6, 20_000_000


def paint(canvas: Array, outline: Any, value: int) -> None:
    """Set ``canvas`` [H, W] to ``value`` where the object is.

    Args:
        canvas: changed in place.
        outline: a list of polygons [x0, y0, x1, y1, ...] in pixels, which are united; or run lengths, a mapping of
            ``size`` [H, W] and ``counts``, a list or its text form.
        value: to set.

    Raises:
        ValueError: it is none of these, or does not fit the canvas.
    """
    if isinstance(outline, Mapping):
        canvas[_run_lengths(outline, canvas.shape)] = value
        return
    if not isinstance(outline, Sequence) or isinstance(outline, str):
        raise ValueError("the segmentation is neither polygons nor run lengths")
    for polygon in outline:
        left, inside = _polygon(polygon, *canvas.shape)
        canvas[:, left : left + inside.shape[1]][inside] = value


def _polygon(polygon: Any, height: int, width: int) -> tuple[int, Array]:
    """The first column of a polygon, and where it is [height, columns]."""
    try:
        flat = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("a polygon is no list of numbers") from error
    if flat.ndim != 1 or flat.size < 6 or flat.size % 2 or not (np.abs(flat) <= _FARTHEST).all():
        raise ValueError("a polygon must be x and y of three points or more, in pixels")
    x, y = _walk(flat.reshape(-1, 2))
    # between two steps that differ in x the boundary crosses from one fine column to the next
    crosses = x[1:] != x[:-1]
    column = (np.where(x[1:] < x[:-1], x[1:], x[1:] - 1)[crosses] + 0.5) / _FINE - 0.5
    row = (np.minimum(y[1:], y[:-1])[crosses] + 0.5) / _FINE - 0.5
    centred = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    columns = column[centred].astype(np.int64)
    rows = np.ceil(np.clip(row[centred], 0, height)).astype(np.int64)
    if not columns.size:
        return 0, np.zeros((height, 0), dtype=bool)
    left, count = int(columns.min()), int(columns.max() - columns.min()) + 1
    toggles = np.bincount((columns - left) * height + rows, minlength=count * height)[: count * height]
    inside = (np.cumsum(toggles) & 1).astype(bool)  # column by column
    return left, inside.reshape(count, height).T


def _walk(points: Array) -> tuple[Array, Array]:
    """Columns and rows [steps] of the closed walk along ``points`` [K, 2] on the fine grid."""
    start = np.trunc(_FINE * points + 0.5).astype(np.int64)
    end = np.roll(start, -1, axis=0)
    reach = np.abs(end - start)
    lengths = reach.max(axis=1)
    if int((lengths + 1).sum()) > _MAX_STEPS:
        raise ValueError("a polygon is too long to be an outline in a picture")
    along_x = reach[:, 0] >= reach[:, 1]
    # an edge is computed from its end with the smaller coordinate, so that it is the same in both directions
    backwards = np.where(along_x, start[:, 0] > end[:, 0], start[:, 1] > end[:, 1])
    first, last = (np.where(backwards[:, None], *pair) for pair in ((end, start), (start, end)))
    rise = np.where(along_x, (last - first)[:, 1], (last - first)[:, 0]) / np.maximum(lengths, 1)
    edge = np.repeat(np.arange(len(start)), lengths + 1)
    step = np.arange(edge.size) - np.repeat(np.cumsum(lengths + 1) - (lengths + 1), lengths + 1)
    step = np.where(backwards[edge], lengths[edge] - step, step)
    along = np.where(along_x, first[:, 0], first[:, 1])[edge] + step
    across = np.trunc(np.where(along_x, first[:, 1], first[:, 0])[edge] + rise[edge] * step + 0.5).astype(np.int64)
    return np.where(along_x[edge], along, across), np.where(along_x[edge], across, along)


def _run_lengths(outline: Mapping[str, Any], shape: Sequence[int]) -> Array:
    """Where run lengths [H, W] are odd-numbered, counted column by column from 0."""
    if list(outline.get("size", ())) != list(shape):
        raise ValueError(f"the run lengths are of size {outline.get('size')!r:.40}, the picture is {list(shape)}")
    counts = outline.get("counts")
    lengths = _from_text(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not all(type(length) is int and length >= 0 for length in lengths):
        raise ValueError("the run lengths are no whole numbers")
    height, width = shape
    if sum(lengths) != height * width:
        raise ValueError(f"the run lengths add up to {sum(lengths)}, not to {height} x {width} pixels")
    odd = np.arange(len(lengths)) % 2 == 1
    return np.repeat(odd, lengths).reshape(width, height).T


def _from_text(text: str) -> list[int]:
    """Run lengths from their text: six bits a character from ``0`` on, five of the number, lowest first, one for "more".

    From the fourth number on, what is written is the difference to the last but one.
    """
    lengths: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("the run lengths are no text of cocoapi's form")
        number |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            number -= 1 << shift
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
        number = shift = 0
    if shift:
        raise ValueError("the text of run lengths is cut off")
    return lengths
