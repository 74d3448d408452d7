"""Signal to reconstruction error ratio (SRE), in dB.

C. Lanaras, J. Bioucas-Dias, S. Galliani, E. Baltsavias, K. Schindler, "Super-resolution of Sentinel-2 images: learning a
globally applicable deep neural network", ISPRS Journal of Photogrammetry and Remote Sensing 146, 2018, equation 5: in each
channel 10 log10(squared mean of the reference / mean squared error), averaged over R, G and B. Unlike PSNR it relates the
error to the image's own brightness. A channel's value ends at plus and minus :data:`CAP`: the first for identical
channels, the second for a black reference that comes back otherwise.
"""

from __future__ import annotations

import math

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, pairs

__all__ = ["CAP", "metric"]

#: Value of identical channels, and the largest there is (dB).
CAP = 100.0


def _ratio(mean: float, squared_error: float) -> float:
    """Of one channel, in dB."""
    if squared_error == 0:
        return CAP
    if mean == 0:
        return -CAP
    return max(-CAP, min(CAP, 10 * math.log10(mean**2 / squared_error)))


def _compare(reference: np.ndarray, distorted: np.ndarray) -> float:
    cv2 = colour.opencv()
    means = cv2.mean(reference)[:3]
    errors = cv2.mean(np.square(cv2.absdiff(reference, distorted).astype(np.float32)))[:3]
    return float(np.mean([_ratio(mean, error) for mean, error in zip(means, errors, strict=True)]))


_compute, _ = pairs.by_features("SRE", 1, np.ascontiguousarray, _compare)

metric = Metric(
    name="sre",
    title="SRE",
    definition=f"sre/lanaras2018-rgb-cap{CAP:g}/1",
    unit="dB",
    higher_is_better=True,
    compute=_compute,
    cost=0.003,
)
