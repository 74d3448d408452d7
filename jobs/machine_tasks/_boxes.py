"""Boxes of objects: reading them from labels, how much two overlap, which belongs to which, cutting them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.platform.errors import InvalidSample

__all__ = ["COLUMNS", "Boxes", "cut", "iou", "labelled", "matched", "row_of"]

#: [N, 4] of x, y, width and height in pixels from the top left corner
Boxes = npt.NDArray[np.float64]

#: Arrow types of the columns that say where an object is
COLUMNS = {"x": "float64", "y": "float64", "width": "float64", "height": "float64"}

_PARTS = ("x", "y", "width", "height")


def labelled(labels: Mapping[str, Any], size: tuple[int, int], field: str = "boxes") -> Boxes | None:
    """The boxes that a sample's labels give, cut off at the picture's edges; None where the sample has none.

    Args:
        labels: with ``field``: a list of ``[x, y, width, height]``, or of structs of these names.
        size: height and width of the picture, pixels.
        field: its name.

    Raises:
        InvalidSample: it is no list of boxes, or one lies outside the picture.
    """
    given = labels.get(field)
    if given is None:
        return None
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InvalidSample(f"label {field!r} must be a list of [x, y, width, height]; got {given!r}.")
    found = [_box(one, f"box {number} of {field!r}", size) for number, one in enumerate(given)]
    return np.array(found, np.float64).reshape(-1, 4)


def _box(given: Any, which: str, size: tuple[int, int]) -> list[float]:
    values: Any = [given.get(part) for part in _PARTS] if isinstance(given, Mapping) else given
    try:
        x, y, width, height = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise InvalidSample(f"{which} must be four numbers, x, y, width and height; got {given!r}.") from error
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise InvalidSample(f"{which} must be finite, with a width and height above 0; got {given!r}.")
    left, top = max(0.0, x), max(0.0, y)
    right, bottom = min(float(size[1]), x + width), min(float(size[0]), y + height)
    if right - left < 1 or bottom - top < 1:
        raise InvalidSample(
            f"{which}, {given!r}, lies outside the picture of {size[1]} x {size[0]} pixels. Correct the label; labels are of "
            "whole pictures, not of tiles."
        )
    return [left, top, right - left, bottom - top]


def iou(one: Boxes, other: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of each box of ``one`` [N, 4] with each of ``other`` [M, 4]: [N, M], from 0 to 1."""
    first, second = one[:, None, :], other[None, :, :]
    begin = np.maximum(first[..., :2], second[..., :2])
    end = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    shared = np.prod(np.maximum(0.0, end - begin), axis=2)
    union = np.prod(first[..., 2:], axis=2) + np.prod(second[..., 2:], axis=2) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def matched(overlaps: npt.NDArray[np.float64]) -> list[int | None]:
    """For each row of ``overlaps`` [N, M] the column that belongs to it, None where none is left that overlaps.

    The pair with the largest overlap is taken first, then the largest among the rest: no box serves two objects. Ties go to
    the first row, then to the first column.
    """
    left = overlaps.copy()
    found: list[int | None] = [None] * len(left)
    while left.size and left.max() > 0:
        row, column = divmod(int(left.argmax()), left.shape[1])
        found[row] = column
        left[row], left[:, column] = 0.0, 0.0
    return found


def row_of(box: npt.NDArray[np.float64]) -> dict[str, float]:
    """Columns that say where an object is."""
    return dict(zip(_PARTS, map(float, box), strict=True))


def cut(picture: np.ndarray, box: Sequence[float] | npt.NDArray[np.float64], margin: float = 0.0) -> np.ndarray:
    """What of ``picture`` [H, W, 3] lies in a box, rounded outwards to whole pixels and cut off at the edges.

    Args:
        picture: any picture.
        box: x, y, width, height, which overlaps the picture.
        margin: added at each side, in shares of the box's own width and height.
    """
    x, y, width, height = (float(value) for value in box)
    left, top = math.floor(x - margin * width), math.floor(y - margin * height)
    right, bottom = math.ceil(x + (1 + margin) * width), math.ceil(y + (1 + margin) * height)
    return picture[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
