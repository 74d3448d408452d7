"""Grey images as levels: what the tree is built from.

Shapes: an image is [H, W]; with the border of zeros it is [H + 2, W + 2].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.platform.errors import UserError

__all__ = ["MOST_PIXELS", "MOST_VALUES", "InvalidImage", "Levels", "levels_of"]

#: values from the lowest to the highest that a tree can be built of, the border's 0 among them: 16 bits
MOST_VALUES = 1 << 16
#: pixels of an image: positions and their adjacencies are counted in 32 bits
MOST_PIXELS = 1 << 28


class InvalidImage(UserError, ValueError):
    """An array that no tree of shapes can be built of."""


@dataclass(frozen=True)
class Levels:
    """A grey image as whole numbers from 0.

    Attributes:
        values: [H, W], the image minus ``lowest``: uint8 or uint16.
        lowest: value of level 0: the lowest of the image and of the border, 0 or below.
        count: levels from the lowest to the highest of both.
        dtype: of the image.
    """

    values: NDArray[Any]
    lowest: int
    count: int
    dtype: np.dtype[Any]

    @property
    def outside(self) -> int:
        """Level of the border, whose value is 0."""
        return -self.lowest


def levels_of(image: NDArray[Any]) -> Levels:
    """Check an image [H, W] and count its values from 0.

    Integers of any width and floats that are whole numbers will do, as long as they and the border's 0 lie within 65,536
    values; booleans are 0 and 1.

    Raises:
        InvalidImage: another rank, no pixel, too many of them, values that are not finite, not whole, or too far apart.
    """
    array = np.asarray(image)
    if array.ndim != 2 or array.size == 0:
        raise InvalidImage(f"a grey image has two dimensions and a pixel at least; got the shape {array.shape}.")
    if array.size > MOST_PIXELS:
        raise InvalidImage(f"an image may have {MOST_PIXELS:,} pixels; got {array.size:,}. Cut it into tiles.")
    if array.dtype.kind not in "buif":
        raise InvalidImage(f"an image holds integers, whole floats or booleans; got the dtype {array.dtype}.")
    least, most = array.min(), array.max()
    if not (np.isfinite(least) and np.isfinite(most)):  # NaN spreads to both
        raise InvalidImage("the image holds values that are not finite. Replace NaN and infinity by numbers.")
    lowest, highest = min(0, int(np.floor(least))), max(0, int(np.ceil(most)))
    if highest - lowest >= MOST_VALUES:
        raise InvalidImage(
            f"values from {lowest} to {highest}, the border's 0 among them, are more than {MOST_VALUES:,}. "
            "Quantise the image to 16 bits first."
        )
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise InvalidImage(
            "the image holds floats that are not whole numbers. Quantise it first, such as (255 * image).round()."
        )
    kind = np.uint8 if highest - lowest < 256 else np.uint16
    if lowest == 0:
        values = array.astype(kind)
    else:
        wide = np.int32 if array.dtype.itemsize < 4 else array.dtype
        values = (array.astype(wide) - wide_of(wide, lowest)).astype(kind)
    return Levels(np.ascontiguousarray(values), lowest, highest - lowest + 1, array.dtype)


def wide_of(kind: Any, value: int) -> Any:
    """``value`` as a scalar of ``kind``, so that a subtraction keeps to it."""
    return np.dtype(kind).type(value)
