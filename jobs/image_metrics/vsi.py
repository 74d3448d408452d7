"""Visual saliency-induced index (VSI), over colour.

L. Zhang, Y. Shen, H. Li, "VSI: a visual saliency-induced index for perceptual image quality assessment", IEEE
Transactions on Image Processing 23(10), 2014, equations 1 to 8 and table II: similarity of saliency (C1 = 1.27), of
gradients (C2 = 386, power 0.4) and of two chromaticities (C3 = 130, power 0.02), weighted by the greater saliency. 1 for
identical images. Saliency is SDSP (L. Zhang, Z. Gu, H. Li, "SDSP: a novel saliency detection method by combining simple
priors", ICIP 2013): a band of frequencies, nearness to the centre, and warmth of colour, on 256 x 256 pixels.

Deliberate: the image is reduced to 256 x 256 by means over areas, not by sampling; before the comparison it is reduced by
round(shorter side / 256) over whole blocks; where an axis of colour has one value all over, it says nothing about warmth,
and where neither says anything (grey images) warmth is 1 everywhere, not 0.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, maps, pairs

__all__ = ["metric"]

#: Table II.
_C1 = 1.27
_C2 = 386.0
_C3 = 130.0
_ALPHA = 0.4
_BETA = 0.02

#: SDSP: side in pixels, centre (cycles a pixel) and width of the band, scale of nearness (pixels) and of warmth.
_SIDE = 256
_OMEGA = 0.021
_SIGMA_F = 1.34
_SIGMA_D = 145.0
_SIGMA_C = 0.001

#: An axis of L*a*b* with a smaller range than this has one value: 8-bit colours that differ lie further apart.
_NO_RANGE = 0.01

#: Equation 3.
_LMN = ((0.06, 0.63, 0.27), (0.30, 0.04, -0.35), (0.34, -0.60, 0.17))
_LEAST = 8


class _Features(NamedTuple):
    """Planes [H, W], float32: saliency in [0, 1], gradient's magnitude, two chromaticities."""

    saliency: np.ndarray
    gradient: np.ndarray
    m: np.ndarray
    n: np.ndarray


@functools.cache
def _band() -> np.ndarray:
    """Log-Gabor filter over the frequencies of a real transform, [256, 129], float32."""
    rows, columns = np.fft.fftfreq(_SIDE)[:, np.newaxis], np.fft.rfftfreq(_SIDE)
    radius = np.hypot(rows, columns)
    inside = (radius > 0) & (radius <= 0.5)
    gain = np.zeros(radius.shape)
    gain[inside] = np.exp(-(np.log(radius[inside] / _OMEGA) ** 2) / (2 * _SIGMA_F**2))
    return gain.astype(np.float32)


@functools.cache
def _nearness() -> np.ndarray:
    """Gaussian around the centre, [256, 256], float32."""
    offset = np.arange(1, _SIDE + 1) - _SIDE / 2
    return np.exp(-(offset[:, np.newaxis] ** 2 + offset**2) / _SIGMA_D**2).astype(np.float32)


#: Linear sRGB to XYZ over the white of D65 (IEC 61966-2-1), and what L*a*b* makes of its cube roots.
_XYZ = tuple(
    tuple(weight / white for weight in row)
    for row, white in (
        ((0.4124564, 0.3575761, 0.1804375), 0.95047),
        ((0.2126729, 0.7151522, 0.0721750), 1.0),
        ((0.0193339, 0.1191920, 0.9503041), 1.08883),
    )
)
_LAB = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))


def _lab(image: np.ndarray) -> list[np.ndarray]:
    """L* (less 16), a* and b* of sRGB [H, W, 3], float32, 0 to 255. OpenCV's own are off by up to 0.4."""
    cv2 = colour.opencv()
    scaled = image / np.float32(255)
    linear = np.where(
        scaled > 0.04045, np.power((scaled + np.float32(0.055)) / np.float32(1.055), np.float32(2.4)), scaled / 12.92
    )
    xyz = cv2.transform(linear.astype(np.float32), np.array(_XYZ, np.float32))
    roots = np.where(xyz > 0.008856, np.cbrt(xyz), (np.float32(903.3) * xyz + 16) / 116)
    return list(maps.linear(roots.astype(np.float32), _LAB))


def _warmth(axes: list[np.ndarray]) -> np.ndarray | float:
    """Of the axes a* and b*, [256, 256]: near 1 but where both are at their lowest."""
    told = [(axis - axis.min()) / np.ptp(axis) for axis in axes if np.ptp(axis) > _NO_RANGE]
    if not told:
        return 1.0
    squares = sum((axis * axis for axis in told), start=np.zeros_like(axes[0]))
    warmth: np.ndarray = 1 - np.exp(-squares / np.float32(_SIGMA_C**2))
    return warmth


def _saliency(image: np.ndarray) -> np.ndarray:
    """SDSP of an RGB image [H, W, 3], float32, 0 to 255; [H, W], float32, 0 to 1, or 0 everywhere."""
    cv2 = colour.opencv()
    height, width = image.shape[:2]
    smooth = cv2.INTER_AREA if min(height, width) > _SIDE else cv2.INTER_LINEAR
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=smooth)
    axes = _lab(small)
    filtered = np.fft.irfft2(np.fft.rfft2(np.stack(axes)) * _band(), s=(_SIDE, _SIDE))
    salient = np.sqrt((filtered**2).sum(axis=0)) * _nearness() * _warmth(axes[1:])
    salient = cv2.resize(salient.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    lowest, highest = float(salient.min()), float(salient.max())
    if highest - lowest < 1e-6:
        return np.zeros_like(salient)
    scaled: np.ndarray = (salient - lowest) / (highest - lowest)
    return scaled


def _describe(image: np.ndarray) -> _Features:
    factor = max(1, round(min(image.shape[:2]) / 256))
    luminance, m, n = maps.linear(pairs.shrink(image, factor), _LMN)
    saliency = pairs.shrink(_saliency(image.astype(np.float32)), factor)
    return _Features(saliency, maps.gradient(luminance, maps.SCHARR), m, n)


def _compare(x: _Features, y: _Features) -> float:
    similarity = np.power(maps.similarity(x.gradient, y.gradient, _C2), np.float32(_ALPHA))
    similarity *= maps.similarity(x.saliency, y.saliency, _C1)
    chromatic = maps.similarity(x.m, y.m, _C3) * maps.similarity(x.n, y.n, _C3)
    # of opposite colours it is negative; then the real part of its complex power, as in the authors' program
    power = np.power(np.abs(chromatic), np.float32(_BETA))
    power[chromatic < 0] *= np.float32(math.cos(math.pi * _BETA))
    similarity *= power
    return pairs.weighted_mean(similarity, np.maximum(x.saliency, y.saliency))


_compute, _many = pairs.by_features("VSI", _LEAST, _describe, _compare)

metric = Metric(
    name="vsi",
    title="VSI",
    definition="vsi/zhang2014-sdsp-area/1",
    unit="",
    higher_is_better=True,
    compute=_compute,
    many=_many,
    cost=0.05,
)
