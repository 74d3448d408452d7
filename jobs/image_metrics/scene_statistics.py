"""Statistics of natural scenes, as BRISQUE and NIQE use them: contrast-normalised luma and the distributions it follows.

A. Mittal, A. K. Moorthy, A. C. Bovik, "No-reference image quality assessment in the spatial domain", IEEE Transactions on
Image Processing 21(12), 2012, section II. Distributions are fitted by moments, their shape looked up among 0.2, 0.201 to
10 as in the authors' programs.

Flat images, which have no distribution: spread and mean 0, and the shape 10 of the end of the table.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from sensorium.jobs import colour

__all__ = ["Asymmetric", "fit_asymmetric", "fit_symmetric", "neighbours", "normalise"]

_SIDE = 7
_SIGMA = 7 / 6
_SHAPES = np.arange(200, 10001) / 1000


class Asymmetric(NamedTuple):
    """Asymmetric generalised Gaussian distributions, each field [N], float64.

    ``shape``; root mean squares ``left`` and ``right`` of zero; the scales ``beta_left`` and ``beta_right`` that stand in
    the density; ``offset``, the difference of the root mean squares times a factor of the shape.
    """

    shape: np.ndarray
    left: np.ndarray
    right: np.ndarray
    beta_left: np.ndarray
    beta_right: np.ndarray
    offset: np.ndarray


def normalise(y: np.ndarray, border: int) -> tuple[np.ndarray, np.ndarray]:
    """Contrast-normalised luma (y - mean) / (deviation + 1) under a Gaussian window of 7 x 7, and the deviation.

    Args:
        y: [H, W], float32, 0 to 255.
        border: what OpenCV takes for the samples outside; the authors' BRISQUE has zeros, their NIQE repeats the last.

    Returns:
        Both [H, W], float32.
    """
    cv2 = colour.opencv()
    weights = cv2.getGaussianKernel(_SIDE, _SIGMA, cv2.CV_64F)
    samples = y.astype(np.float64)  # the variance is a small difference of large squares
    mean = cv2.sepFilter2D(samples, cv2.CV_64F, weights, weights, borderType=border)
    square = cv2.sepFilter2D(samples * samples, cv2.CV_64F, weights, weights, borderType=border)
    # below 1e-6 it is the rounding of flat parts, which the root would make visible
    variance = np.abs(square - mean * mean)
    deviation = np.sqrt(np.where(variance < 1e-6, 0.0, variance))
    centred = samples - mean
    centred[np.abs(centred) < 1e-6] = 0.0
    return (centred / (deviation + 1)).astype(np.float32), deviation.astype(np.float32)


def neighbours(normalised: np.ndarray) -> list[np.ndarray]:
    """Products of each sample [..., H, W] with its left, upper, upper left and lower left neighbour; the image goes on at its
    other side (section II-B).
    """
    shifts = ((0, 1), (1, 0), (1, 1), (-1, 1))
    return [normalised * np.roll(normalised, shift, axis=(-2, -1)) for shift in shifts]


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """For each shape a: squared mean magnitude over mean square, which rises with it; and the factors by which a root mean
    square becomes a scale, and a difference of root mean squares becomes a mean.
    """
    one, two, three = (np.array([math.lgamma(order / shape) for shape in _SHAPES]) for order in (1, 2, 3))
    return np.exp(2 * two - one - three), np.stack([np.exp((one - three) / 2), np.exp(two - (one + three) / 2)])


def _nearest(ratio: np.ndarray) -> np.ndarray:
    """Index of the shape whose ratio is nearest."""
    ratios = _tables()[0]
    after = np.clip(np.searchsorted(ratios, ratio), 1, len(ratios) - 1)
    nearest: np.ndarray = after - (ratio - ratios[after - 1] < ratios[after] - ratio)
    return nearest


def fit_symmetric(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shape and variance of generalised Gaussian distributions around 0; samples [N, K] to [N] each (equation 4)."""
    square = np.square(samples).mean(axis=1, dtype=np.float64)
    magnitude = np.abs(samples).mean(axis=1, dtype=np.float64)
    ratio = np.divide(magnitude**2, square, out=np.ones_like(square), where=square > 0)
    return _SHAPES[_nearest(ratio)], square


def fit_asymmetric(samples: np.ndarray) -> Asymmetric:
    """Asymmetric generalised Gaussian distributions of samples [N, K] (equations 7 to 9)."""
    square = np.square(samples, dtype=np.float64)
    left, right = (_root_mean(square, side) for side in (samples < 0, samples > 0))
    magnitude, total = np.abs(samples).mean(axis=1, dtype=np.float64), square.mean(axis=1)
    # with g = left / right the paper's (g^3 + 1)(g + 1) / (g^2 + 1)^2, so written that a side may be empty
    skew = (left**3 + right**3) * (left + right)
    ratio = np.divide(magnitude**2 * skew, total * (left**2 + right**2) ** 2, out=np.ones_like(total), where=total > 0)
    index = _nearest(ratio)
    to_scale, to_offset = _tables()[1][:, index]
    return Asymmetric(_SHAPES[index], left, right, left * to_scale, right * to_scale, (right - left) * to_offset)


def _root_mean(square: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Root mean square of the samples [N, K] on one side of zero; 0 where there are none."""
    count = np.maximum(side.sum(axis=1), 1)
    root: np.ndarray = np.sqrt(np.where(side, square, 0).sum(axis=1) / count)
    return root
