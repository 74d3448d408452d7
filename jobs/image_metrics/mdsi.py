"""Mean deviation similarity index (MDSI), over colour.

H. Ziaei Nafchi, A. Shahkolaei, R. Hedjam, M. Cheriet, "Mean deviation similarity index: efficient and reliable
full-reference image quality evaluator", IEEE Access 4, 2016, equations 1 to 13: similarity of gradients of the two
images and of each with their mean (C1 = 140, C2 = 55), similarity of chromaticity (C3 = 550), their sum with the weights
0.6 and 0.4, and the mean deviation of its fourth root, to the power 1/4. 0 for identical images.

Images are reduced by round(shorter side / 256) first, as the authors do, here over whole blocks. Where the sum is
negative its fourth root is the complex one, as in the authors' program.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sensorium.jobs.image_metrics import Metric, maps, pairs

__all__ = ["metric"]

#: Luminance L and chromaticities H and M (equation 5, section II-B).
_LHM = ((0.2989, 0.5870, 0.1140), (0.30, 0.04, -0.35), (0.34, -0.60, 0.17))
_C1 = 140.0
_C2 = 55.0
_C3 = np.float32(550.0)
_ALPHA = np.float32(0.6)
_LEAST = 8


class _Features(NamedTuple):
    """Planes [H, W], float32: luminance, its gradient's magnitude, two chromaticities, and their squares' sum."""

    luminance: np.ndarray
    gradient: np.ndarray
    h: np.ndarray
    m: np.ndarray
    energy: np.ndarray


def _describe(image: np.ndarray) -> _Features:
    small = pairs.shrink(image, max(1, round(min(image.shape[:2]) / 256)))
    luminance, h, m = maps.linear(small, _LHM)
    return _Features(luminance, maps.gradient(luminance, maps.PREWITT), h, m, h * h + m * m)


def _compare(x: _Features, y: _Features) -> float:
    fused = maps.gradient((x.luminance + y.luminance) / 2, maps.PREWITT)
    similarity = maps.similarity(x.gradient, y.gradient, _C1)
    # first the difference: for identical images it must be exactly 0, since the fourth root would enlarge any rounding
    similarity += maps.similarity(x.gradient, fused, _C2) - maps.similarity(y.gradient, fused, _C2)
    chromaticity = (2 * (x.h * y.h + x.m * y.m) + _C3) / (x.energy + y.energy + _C3)
    combined = _ALPHA * similarity + (1 - _ALPHA) * chromaticity
    root = np.sqrt(np.sqrt(np.abs(combined)))
    turned = root * np.float32(np.sqrt(0.5))  # real and imaginary part of the fourth root of a negative number
    real = np.where(combined < 0, turned, root)
    imaginary = np.where(combined < 0, turned, np.float32(0))
    real -= real.mean(dtype=np.float64)
    imaginary -= imaginary.mean(dtype=np.float64)
    return float(maps.magnitude(real, imaginary).mean(dtype=np.float64) ** 0.25)


_compute, _many = pairs.by_features("MDSI", _LEAST, _describe, _compare)

metric = Metric(
    name="mdsi",
    title="MDSI",
    definition="mdsi/nafchi2016-sum/1",
    unit="",
    higher_is_better=False,
    compute=_compute,
    many=_many,
    cost=0.012,
)
