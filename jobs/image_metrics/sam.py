"""Spectral angle between the colours of two images (SAM), in degrees.

F. A. Kruse et al., "The spectral image processing system (SIPS): interactive visualization and analysis of imaging
spectrometer data", Remote Sensing of Environment 44, 1993: the angle between two pixels taken as vectors, here of R, G and
B as they are stored, averaged over all pixels. It does not see changes of brightness. Black has no direction: the angle
of two black pixels is 0, that of a black one and another is 90 degrees, the largest that colours can have.
"""

from __future__ import annotations

import math

import numpy as np

from sensorium.jobs.image_metrics import Metric, pairs

__all__ = ["metric"]


def _compare(reference: np.ndarray, distorted: np.ndarray) -> float:
    a, b, c = (reference[..., channel].astype(np.float32) for channel in range(3))
    x, y, z = (distorted[..., channel].astype(np.float32) for channel in range(3))
    # from sine and cosine: the cosine alone has no digits left for small angles. All products are whole numbers that
    # float32 holds exactly, so that parallel vectors have a sine of exactly 0
    dot = a * x + b * y + c * z
    cross = np.sqrt((b * z - c * y) ** 2 + (c * x - a * z) ** 2 + (a * y - b * x) ** 2)
    angles = np.arctan2(cross, dot)
    one_black = reference.any(axis=2) != distorted.any(axis=2)
    angles[one_black] = math.pi / 2
    return math.degrees(float(angles.mean(dtype=np.float64)))


_compute, _ = pairs.by_features("SAM", 1, np.asarray, _compare)

metric = Metric(
    name="sam",
    title="Spectral angle",
    definition="sam/kruse1993-rgb-degrees-black90/1",
    unit="°",
    higher_is_better=False,
    compute=_compute,
    cost=0.04,
)
