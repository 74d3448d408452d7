"""Deviation of the similarity of gradient magnitudes (GMSD), on luma.

W. Xue, L. Zhang, X. Mou, A. C. Bovik, "Gradient magnitude similarity deviation: a highly efficient perceptual image
quality index", IEEE Transactions on Image Processing 23(2), 2014, equations 1 to 6: means of 2 x 2 blocks, Prewitt
gradients, their similarity with c = 170 on levels 0 to 255, and its standard deviation over the image. 0 for images
whose gradients are the same, flat ones among them.
"""

from __future__ import annotations

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, maps, pairs

__all__ = ["metric"]

_C = 170.0
_LEAST = 8


def _describe(image: np.ndarray) -> np.ndarray:
    return maps.gradient(pairs.shrink(colour.luma(image), 2), maps.PREWITT)


def _compare(reference: np.ndarray, distorted: np.ndarray) -> float:
    return float(maps.similarity(reference, distorted, _C).std(dtype=np.float64))


_compute, _many = pairs.by_features("GMSD", _LEAST, _describe, _compare)

metric = Metric(
    name="gmsd",
    title="GMSD (luma)",
    definition=f"gmsd/xue2014-prewitt-luma601/1; {colour.DEFINITION}",
    unit="",
    higher_is_better=False,
    compute=_compute,
    many=_many,
    cost=0.003,
)
