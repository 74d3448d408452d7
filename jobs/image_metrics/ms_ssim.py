"""Structural similarity on luma, at five scales.

Z. Wang, E. P. Simoncelli, A. C. Bovik, "Multi-scale structural similarity for image quality assessment", 37th Asilomar
Conference on Signals, Systems and Computers, 2003, equation 7 with the exponents of section 4: at each of five scales
the mean of contrast times structure, at the coarsest times luminance, each to its power, multiplied. Window and
constants are those of ``ssim.py``. Between two scales each 2 x 2 block becomes its mean; an odd last row or column is
left out. A mean below zero (a negative of the image) counts as 0, since its power would not be a real number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, pairs

__all__ = ["LEAST", "metric"]

#: Exponents of the five scales, finest first (section 4).
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11
_SIGMA = 1.5
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2

#: Side in pixels from which the window fits into the coarsest scale.
LEAST = _WINDOW << (len(_WEIGHTS) - 1)


class _Scale(NamedTuple):
    """An image at one scale: ``plane`` [H, W], its local ``mean`` and ``variance`` [H - 10, W - 10], float64."""

    plane: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def _blur(plane: np.ndarray) -> np.ndarray:
    """Weighted mean under each window that lies inside; [H, W] to [H - 10, W - 10]."""
    cv2 = colour.opencv()
    weights = cv2.getGaussianKernel(_WINDOW, _SIGMA, cv2.CV_64F)
    margin = _WINDOW // 2
    blurred: np.ndarray = cv2.sepFilter2D(plane, cv2.CV_64F, weights, weights)[margin:-margin, margin:-margin]
    return blurred


def _describe(image: np.ndarray) -> list[_Scale]:
    plane = colour.luma(image).astype(np.float64)
    scales = []
    for scale in range(len(_WEIGHTS)):
        if scale:
            plane = _halve(plane)
        mean = _blur(plane)
        scales.append(_Scale(plane, mean, _blur(plane * plane) - mean * mean))
    return scales


def _halve(plane: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 blocks, float64: blocks of 16 x 16 levels still have no rounding."""
    height, width = (side // 2 * 2 for side in plane.shape)
    rows = plane[0:height:2] + plane[1:height:2]
    return np.ascontiguousarray((rows[:, 0:width:2] + rows[:, 1:width:2]) * 0.25)


def _compare(reference: list[_Scale], distorted: list[_Scale]) -> float:
    value = 1.0
    for scale, (x, y) in enumerate(zip(reference, distorted, strict=True)):
        covariance = _blur(x.plane * y.plane) - x.mean * y.mean
        similarity = (2 * covariance + _C2) / (x.variance + y.variance + _C2)
        if scale == len(_WEIGHTS) - 1:
            similarity *= (2 * x.mean * y.mean + _C1) / (x.mean**2 + y.mean**2 + _C1)
        value *= max(0.0, float(similarity.mean())) ** _WEIGHTS[scale]
    return value


_compute, _many = pairs.by_features("MS-SSIM", LEAST, _describe, _compare)

metric = Metric(
    name="ms_ssim",
    title="MS-SSIM (luma)",
    definition=f"ms-ssim/wang2003-gauss11-5scales-luma601/1; {colour.DEFINITION}",
    unit="",
    higher_is_better=True,
    compute=_compute,
    many=_many,
    cost=0.06,
)
