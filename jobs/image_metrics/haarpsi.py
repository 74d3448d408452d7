"""Haar wavelet-based perceptual similarity index (HaarPSI), over colour.

R. Reisenhofer, S. Bosse, G. Kutyniok, T. Wiegand, "A Haar wavelet-based perceptual similarity index for image quality
assessment", Signal Processing: Image Communication 61, 2018, equations 4 to 13: on means of 2 x 2 blocks in YIQ, the
similarity (C = 30) of Haar coefficients of Y at the two finest scales, in two orientations, and of the chromaticities;
through a logistic function (alpha = 4.2), weighted by the greater coefficient of the third scale, and back through its
inverse, squared. 1 for identical images. Zeros are assumed outside the image, as in the authors' program.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, maps, pairs

__all__ = ["metric"]

_C = 30.0
_ALPHA = 4.2
_SCALES = (2, 4, 8)

#: NTSC's YIQ.
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))

#: The largest wavelet has 8 x 8 samples of the halved image.
_LEAST = 16


class _Features(NamedTuple):
    """Magnitudes, float32: Haar coefficients [2 orientations, 3 scales] of [H, W], and chromaticities I and Q [H, W]."""

    haar: list[list[np.ndarray]]
    chromaticity: list[np.ndarray]


def _haar(plane: np.ndarray, side: int) -> list[np.ndarray]:
    """Magnitudes of the coefficients of wavelets of ``side`` samples, horizontal and vertical; their norm is that of a mean
    of ``side`` differences.
    """
    cv2 = colour.opencv()
    mean = np.full(side, 1 / side, np.float32)
    step = np.repeat(np.array([1, -1], np.float32), side // 2)
    anchor = (side // 2 - 1, side // 2 - 1)
    filters = ((mean, step), (step, mean))  # along x, along y
    return [
        np.abs(cv2.sepFilter2D(plane, cv2.CV_32F, x, y, anchor=anchor, borderType=cv2.BORDER_CONSTANT))
        for x, y in filters
    ]


def _describe(image: np.ndarray) -> _Features:
    cv2 = colour.opencv()
    y, i, q = maps.linear(pairs.shrink(image, 2), _YIQ)
    scales = [_haar(y, side) for side in _SCALES]
    means = [cv2.blur(plane, (2, 2), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT) for plane in (i, q)]
    return _Features([list(orientation) for orientation in zip(*scales, strict=True)], [np.abs(mean) for mean in means])


def _compare(x: _Features, y: _Features) -> float:
    similarities, weights = [], []
    for one, other in zip(x.haar, y.haar, strict=True):
        fine, finer = (maps.similarity(a, b, _C) for a, b in zip(one[:2], other[:2], strict=True))
        similarities.append((fine + finer) / 2)
        weights.append(np.maximum(one[2], other[2]))
    i, q = (maps.similarity(a, b, _C) for a, b in zip(x.chromaticity, y.chromaticity, strict=True))
    similarities.append((i + q) / 2)
    weights.append((weights[0] + weights[1]) / 2)
    logistic = 1 / (1 + np.exp(np.stack(similarities) * np.float32(-_ALPHA)))
    mean = pairs.weighted_mean(logistic, np.stack(weights))
    return (math.log(mean / (1 - mean)) / _ALPHA) ** 2


_compute, _many = pairs.by_features("HaarPSI", _LEAST, _describe, _compare)

metric = Metric(
    name="haarpsi",
    title="HaarPSI",
    definition="haarpsi/reisenhofer2018-yiq/1",
    unit="",
    higher_is_better=True,
    compute=_compute,
    many=_many,
    cost=0.012,
)
