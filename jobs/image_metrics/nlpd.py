"""Normalised Laplacian pyramid distance (NLPD), on luma.

V. Laparra, J. Ballé, A. Berardino, E. P. Simoncelli, "Perceptual image quality assessment using a normalized Laplacian
pyramid", Human Vision and Electronic Imaging, 2016: a Laplacian pyramid of six bands (the last is the low-pass rest),
each sample divided by a constant plus a weighted sum of its neighbours' magnitudes, and the root mean squared difference
of two images in each band, averaged over bands. Constants and weights are those that the authors fitted to photographs
and publish with their program. Luma in [0, 1]. 0 for identical images.

Deliberate: the pyramid's borders are mirrored around the outermost sample, so that interpolation meets the same pattern
of samples and gaps inside and outside; the neighbours of the normalisation are 0 outside, as the authors have it.
"""

from __future__ import annotations

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, pairs

__all__ = ["LEAST", "metric"]

#: Low-pass filter of the pyramid, along each axis.
_KERNEL = np.array((0.05, 0.25, 0.4, 0.25, 0.05), np.float32)

#: Of each band, finest first: the constant, and the weights of the neighbours above, left, right and below.
_NORMALISATION = (
    (0.0248, (0.1011, 0.1493, 0.1460, 0.1015)),
    (0.0185, (0.0757, 0.1986, 0.1846, 0.0837)),
    (0.0179, (0.0477, 0.2138, 0.2243, 0.0467)),
    (0.0191, (0.0, 0.2503, 0.2616, 0.0)),
    (0.0220, (0.0, 0.2598, 0.2552, 0.0)),
    (0.2782, (0.0, 0.2215, 0.0717, 0.0)),
)

#: Side in pixels from which the coarsest band has two samples.
LEAST = 1 << len(_NORMALISATION)


def _smooth(plane: np.ndarray, gain: float = 1.0) -> np.ndarray:
    cv2 = colour.opencv()
    kernel = _KERNEL * np.float32(gain)
    smoothed: np.ndarray = cv2.sepFilter2D(plane, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return smoothed


def _bands(plane: np.ndarray) -> list[np.ndarray]:
    """Laplacian pyramid of a plane [H, W], float32; each band has half the sides of the last, rounded up."""
    bands = []
    for _ in _NORMALISATION[1:]:
        coarse = np.ascontiguousarray(_smooth(plane)[::2, ::2])
        spread = np.zeros_like(plane)
        spread[::2, ::2] = coarse
        bands.append(plane - _smooth(spread, 2))  # 2 along each axis: three of four samples of ``spread`` are gaps
        plane = coarse
    return [*bands, plane]


def _normalise(band: np.ndarray, constant: float, weights: tuple[float, float, float, float]) -> np.ndarray:
    """Each sample over the constant plus its neighbours' weighted magnitudes.

    A convolution: it is the sample to the right that has the weight on the left, and so on.
    """
    above, left, right, below = weights
    cv2 = colour.opencv()
    kernel = np.array([[0, below, 0], [right, 0, left], [0, above, 0]], np.float32)
    divisor = cv2.filter2D(np.abs(band), cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT)
    divisor += np.float32(constant)
    normalised: np.ndarray = band / divisor
    return normalised


def _describe(image: np.ndarray) -> list[np.ndarray]:
    bands = _bands(colour.luma(image).astype(np.float32) / np.float32(255))
    return [_normalise(band, *settings) for band, settings in zip(bands, _NORMALISATION, strict=True)]


def _compare(x: list[np.ndarray], y: list[np.ndarray]) -> float:
    distances = [np.sqrt(np.square(a - b).mean(dtype=np.float64)) for a, b in zip(x, y, strict=True)]
    return float(np.mean(distances))


_compute, _many = pairs.by_features("NLPD", LEAST, _describe, _compare)

metric = Metric(
    name="nlpd",
    title="NLPD (luma)",
    definition=f"nlpd/laparra2016-mirrored-luma601/1; {colour.DEFINITION}",
    unit="",
    higher_is_better=False,
    compute=_compute,
    many=_many,
    cost=0.01,
)
