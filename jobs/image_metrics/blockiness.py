"""Visibility of a grid of 8 x 8 blocks in luma, without a reference; in levels.

The idea of Z. Wang, H. R. Sheikh, A. C. Bovik, "No-reference perceptual quality assessment of JPEG compressed images",
ICIP 2002, in a plain form: along each axis, the mean magnitude of the differences across the borders of blocks less that
of all other differences of neighbours, and of both axes the mean. The grid begins at the first row and column. About 0
(it may be slightly negative) without blocks, 0 for a flat image.
"""

from __future__ import annotations

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, pairs

__all__ = ["metric"]

_BLOCK = 8

#: Shortest side in pixels: two blocks.
_LEAST = 2 * _BLOCK


def _excess(y: np.ndarray) -> float:
    """Along the columns of luma [H, W], uint8."""
    steps = colour.opencv().absdiff(y[1:], y[:-1]).mean(axis=1)  # of each pair of rows, [H - 1]
    border = np.arange(1, len(y)) % _BLOCK == 0
    return float(steps[border].mean() - steps[~border].mean())


def _blockiness(image: np.ndarray) -> float:
    y = colour.luma(image)
    return (_excess(y) + _excess(np.ascontiguousarray(y.T))) / 2


metric = Metric(
    name="blockiness",
    title="Blockiness of an 8 x 8 grid",
    definition=f"blockiness/8x8-step-excess-luma601/1; {colour.DEFINITION}",
    unit="levels",
    higher_is_better=False,
    compute=pairs.of_one("Blockiness", _LEAST, _blockiness),
    needs_reference=False,
    cost=0.002,
)
