"""The simplest rival: how far two pictures are apart, pixel by pixel, parted in two by Otsu's threshold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["differenced", "otsu"]

_BINS = 256


def otsu(values: npt.NDArray[np.float64]) -> float:
    """The threshold that parts values best: that with the greatest variance between the two classes.

    N. Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979) 62-66. Values that are all the same stay below it.
    """
    counts, edges = np.histogram(values, bins=_BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[::-1][1:]
    sums = np.cumsum(counts * middles)
    lower = sums[:-1] / np.maximum(below, 1)
    upper = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * (upper - lower) ** 2
    # empty bins between the classes are all as good: the middle of them, not the first
    best = np.flatnonzero(between == between.max())
    return float(edges[1:-1][best].mean()) if between.max() > 0 else float(values.max())


def differenced(before: npt.NDArray[np.generic], after: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """What changed [H, W], 1 or 0, between pictures [H, W, C]; needs no training.

    Each band of each date is standardised by its own mean and deviation, so that a change of light as a whole is none.
    """
    scaled = []
    for picture in (before, after):
        values = np.asarray(picture, np.float64)
        deviation = values.std(axis=(0, 1))
        scaled.append((values - values.mean(axis=(0, 1))) / np.where(deviation > 0, deviation, 1))
    distance = np.sqrt(((scaled[1] - scaled[0]) ** 2).mean(axis=2))
    changed: npt.NDArray[np.uint8] = (distance > otsu(distance)).astype(np.uint8)
    return changed
