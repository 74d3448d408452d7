"""Feature similarity index over colour (FSIMc).

L. Zhang, L. Zhang, X. Mou, D. Zhang, "FSIM: a feature similarity index for image quality assessment", IEEE Transactions
on Image Processing 20(8), 2011, equations 1 to 11: similarity of phase congruency (T1 = 0.85), of gradients (T2 = 160) and
of the chromaticities I and Q (T3 = T4 = 200, power 0.03), weighted by the greater phase congruency. 1 for identical
images. Phase congruency is P. Kovesi's, "Image features from phase congruency", Videre 1(3), 1999, with the settings of
the paper: four scales from a wavelength of 6 pixels on, each twice the last, four orientations, noise removed at two
standard deviations, its estimate divided by 1.7.

Images are reduced by round(shorter side / 256) first, as the authors do, here over whole blocks. Of two opposite colours
the magnitude of the product is taken before the power.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from sensorium.jobs.image_metrics import Metric, maps, pairs

__all__ = ["metric"]

_T1 = 0.85
_T2 = 160.0
_T34 = 200.0
_LAMBDA = 0.03

#: Of the log-Gabor filters: scales, orientations, shortest wavelength (pixels), ratio of neighbouring wavelengths, ratio of
#: a filter's spread to its centre, and of the angle between orientations to the angular standard deviation.
_SCALES = 4
_ORIENTATIONS = 4
_SHORTEST = 6
_RATIO = 2
_SIGMA_F = 0.55
_DELTA_THETA = 1.2

#: Low-pass filter that keeps the corners of the spectrum out: cutoff (cycles a pixel) and order.
_CUTOFF = 0.45
_ORDER = 15

#: Standard deviations of noise that are removed, and Kovesi's correction of the estimate.
_NOISE_K = 2.0
_NOISE_SCALE = 1.7

#: Keeps 0 / 0 away where there is no energy at all.
_TINY = np.float32(np.finfo(np.float32).eps)

_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_LEAST = 16


class _Bank(NamedTuple):
    """Filters for one size: ``gains`` [orientation, scale, H, W], float32, and for each orientation the noise energy that
    one unit of median squared response at the finest scale stands for.
    """

    gains: np.ndarray
    noise: tuple[float, ...]


class _Features(NamedTuple):
    """Planes [H, W], float32: phase congruency, gradient's magnitude, chromaticities."""

    congruency: np.ndarray
    gradient: np.ndarray
    i: np.ndarray
    q: np.ndarray


def _frequencies(length: int) -> np.ndarray:
    """Of a transform's samples, as Kovesi has them: an odd length is stretched so that it reaches 1/2 on both sides."""
    return np.fft.fftfreq(length) * (length / (length - 1) if length % 2 else 1)


@functools.lru_cache(maxsize=4)  # a few sizes at a time: 4 MB each for 256 x 256
def _bank(height: int, width: int) -> _Bank:
    rows, columns = _frequencies(height)[:, np.newaxis], _frequencies(width)
    radius, theta = np.hypot(rows, columns), np.arctan2(-columns, rows)
    low_pass = 1 / (1 + (radius / _CUTOFF) ** (2 * _ORDER))
    radius[0, 0] = 1
    radial = []
    for scale in range(_SCALES):
        centre = 1 / (_SHORTEST * _RATIO**scale)
        gain = np.exp(-(np.log(radius / centre) ** 2) / (2 * math.log(_SIGMA_F) ** 2)) * low_pass
        gain[0, 0] = 0
        radial.append(gain)
    spread = math.pi / _ORIENTATIONS / _DELTA_THETA
    angular = []
    for orientation in range(_ORIENTATIONS):
        difference = theta - orientation * math.pi / _ORIENTATIONS
        distance = np.abs(np.arctan2(np.sin(difference), np.cos(difference)))
        angular.append(np.exp(-(distance**2) / (2 * spread**2)))
    gains = np.stack(angular)[:, np.newaxis] * np.stack(radial)
    return _Bank(gains.astype(np.float32), tuple(_noise(filters) for filters in gains))


def _noise(filters: np.ndarray) -> float:
    """Expected squared energy of noise per unit of the median squared response at the finest scale; [scale, H, W]."""
    kernels = np.fft.ifft2(filters).real * math.sqrt(filters[0].size)
    products = np.einsum("ahw,bhw->ab", kernels, kernels)
    squares, pairs_ = np.trace(products), (products.sum() - np.trace(products)) / 2
    power = 1 / (math.log(2) * (filters[0] ** 2).sum())
    return float(power * (2 * squares + 4 * pairs_))


def _congruency(plane: np.ndarray) -> np.ndarray:
    """Phase congruency in [0, 1] of a plane [H, W], float32."""
    bank = _bank(*plane.shape)
    spectrum = np.fft.fft2(plane)
    energies, amplitudes = np.zeros_like(plane), np.zeros_like(plane)
    for gains, noise in zip(bank.gains, bank.noise, strict=True):
        responses = np.fft.ifft2(spectrum * gains)  # [scale, H, W], complex: even and odd filters
        amplitude = np.abs(responses)
        total = responses.sum(axis=0)
        mean = total / (np.abs(total) + _TINY)
        aligned = responses * mean.conj()
        energy = (aligned.real - np.abs(aligned.imag)).sum(axis=0)
        tau = math.sqrt(float(np.median(amplitude[0])) ** 2 * noise / 2)
        threshold = tau * (math.sqrt(math.pi / 2) + _NOISE_K * math.sqrt(2 - math.pi / 2)) / _NOISE_SCALE
        energies += np.maximum(energy - np.float32(threshold), 0)
        amplitudes += amplitude.sum(axis=0)
    return (energies + _TINY) / (amplitudes + _TINY)


def _describe(image: np.ndarray) -> _Features:
    y, i, q = maps.linear(pairs.shrink(image, max(1, round(min(image.shape[:2]) / 256))), _YIQ)
    return _Features(_congruency(y), maps.gradient(y, maps.SCHARR), i, q)


def _compare(x: _Features, y: _Features) -> float:
    similarity = maps.similarity(x.congruency, y.congruency, _T1) * maps.similarity(x.gradient, y.gradient, _T2)
    chromatic = maps.similarity(x.i, y.i, _T34) * maps.similarity(x.q, y.q, _T34)
    similarity *= np.power(np.abs(chromatic), np.float32(_LAMBDA))
    return pairs.weighted_mean(similarity, np.maximum(x.congruency, y.congruency))


_compute, _many = pairs.by_features("FSIM", _LEAST, _describe, _compare)

metric = Metric(
    name="fsim",
    title="FSIM (colour)",
    definition="fsimc/zhang2011/1",
    unit="",
    higher_is_better=True,
    compute=_compute,
    many=_many,
    cost=0.1,
)
