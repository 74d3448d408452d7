"""Strategy 1 (paper, Sect. 5.1): a preorder on colours from the component tree of an image's histogram.

The colour cube, with neighbours one step apart in one channel, is itself a grey image whose grey levels are the histogram.
The proper parts of its component tree are classes of colours that are mutually lower and greater; the tree orders them. The
minimum holds the rarest colours, those that the image does not have; frequent colours are maxima. Values here are the
*classes*: a tree built of them gives back the class of each point, and two colours of one class are one value to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorium.jobs.component_tree.order import InvalidOrder, Order, total_order
from sensorium.jobs.component_tree.tree import InvalidValues, component_tree

__all__ = ["HistogramOrder", "colour_codes", "order_from_histogram", "palette"]


@dataclass(frozen=True, eq=False)
class HistogramOrder(Order):
    """The order on an image's classes of colours, with the image in them.

    Attributes:
        values: class of each point of the image, int32 [Y, X].
        colours: the image's different colours in lexicographic order, uint8 [M, 3].
        class_of_colour: class of each of them, int32 [M].
        counts: points of each of them, int64 [M].
    """

    values: NDArray[np.int32]
    colours: NDArray[np.uint8]
    class_of_colour: NDArray[np.int32]
    counts: NDArray[np.int64]


def order_from_histogram(image: ArrayLike, bits: int = 8) -> HistogramOrder:
    """Order an image's colours by the component tree of its histogram, on the 6-adjacent cube of colours.

    Args:
        image: uint8 [Y, X, 3].
        bits: of each channel that are kept, 1 to 8; 8 is the paper's cube of 256 levels. With fewer, colours are alike
            sooner, so that the histogram of a photograph has broad hills instead of single points.

    Raises:
        InvalidValues: no such image, or bits.
    """
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InvalidValues(f"a colour image is uint8 [Y, X, 3]; got {array.dtype} {list(array.shape)}.")
    if not 1 <= bits <= 8:
        raise InvalidValues(f"bits must be 1 to 8; got {bits}.")
    found, colour_of_point, counts = np.unique(colour_codes(array, bits), return_inverse=True, return_counts=True)
    classes, parent = _classes(found, counts, bits)
    colours = np.stack([(found >> shift) & ((1 << bits) - 1) for shift in (2 * bits, bits, 0)], axis=1)
    values = classes[colour_of_point].reshape(array.shape[:2])
    spread = (colours << (8 - bits)).astype(np.uint8)
    return HistogramOrder(parent, values=values, colours=spread, class_of_colour=classes, counts=counts)


def colour_codes(image: NDArray[np.uint8], bits: int) -> NDArray[np.int32]:
    """A number for each point's colour [Y, X, 3] of so many bits a channel: red, then green, then blue, int32 [Y, X]."""
    channels = (image >> (8 - bits)).astype(np.int32)
    codes: NDArray[np.int32] = (channels[..., 0] << 2 * bits) | (channels[..., 1] << bits) | channels[..., 2]
    return codes


def _classes(
    found: NDArray[np.int32], counts: NDArray[np.int64], bits: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Class of each colour that there is, and the parents of the classes.

    Colours that there are not all have the grey level 0. As they are in no component of a level above, one point that is
    next to all others stands for the whole of them; the cube need not be filled.
    """
    edges = [_neighbours(found, bits, channel) for channel in range(3)]
    levels, rank = np.unique(counts, return_inverse=True)
    if found.size < 1 << 3 * bits:
        absent = np.stack([np.arange(found.size), np.full(found.size, found.size)], axis=1)
        edges.append(absent)
        rank = np.append(rank + 1, 0)
    tree = component_tree(rank, total_order(levels.size + 1), edges=np.concatenate(edges))
    return tree.node_of_point[: found.size], tree.parent


def _neighbours(found: NDArray[np.int32], bits: int, channel: int) -> NDArray[np.int64]:
    """Pairs of colours that there are and that differ by 1 in one channel (0 is the last, which counts by ones)."""
    shift = channel * bits
    below_top = np.flatnonzero((found >> shift) & ((1 << bits) - 1) != (1 << bits) - 1)
    wanted = found[below_top] + (1 << shift)
    place = np.searchsorted(found, wanted)
    there = found[np.minimum(place, found.size - 1)] == wanted
    return np.stack([below_top[there], place[there]], axis=1)


def palette(order: Order, values: ArrayLike, image: ArrayLike) -> NDArray[Any]:
    """A colour for each value: the mean of the image at the points that have it, else at those with a greater value.

    Args:
        order: on the values.
        values: of the points, any shape.
        image: colours of the same points, [..., C].

    Returns:
        float64 [n, C], in the image's unit; 0 for values with no point at or above them.

    Raises:
        InvalidOrder: values that the order does not have.
    """
    flat = np.asarray(values).ravel()
    if flat.size and (flat.min() < 0 or flat.max() >= order.size):
        raise InvalidOrder(f"values go from {flat.min()} to {flat.max()}; the order has 0 to {order.size - 1}.")
    pixels = np.asarray(image).reshape(flat.size, -1)
    own = np.bincount(flat, minlength=order.size)
    sums = np.stack([np.bincount(flat, pixels[:, c], order.size) for c in range(pixels.shape[1])], axis=1)
    above = np.concatenate([own[:, None], sums], axis=1)[order.value]  # by rank, so that a value's own come next to it
    running = np.concatenate([np.zeros((1, above.shape[1])), np.cumsum(above, axis=0)])
    total = (running[order.last + 1] - running[: order.size])[order.rank]
    chosen = np.where(own[:, None] > 0, np.concatenate([own[:, None], sums], axis=1), total)
    return np.asarray(chosen[:, 1:] / np.maximum(chosen[:, :1], 1))
