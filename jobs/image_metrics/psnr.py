"""Peak signal-to-noise ratio, over RGB and over luma.

PSNR = 10 log10(255^2 / MSE), in dB, with the mean squared error over all samples of all channels. Identical images
would give infinity, which neither tables nor JSON carry well: values end at :data:`CAP`, as elsewhere in the field
(VMAF's PSNR ends at 60 dB). Only images that differ in a handful of samples come near it.
"""

from __future__ import annotations

import math

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric

__all__ = ["CAP", "luma", "rgb"]

#: Value of identical images, and the largest there is (dB).
CAP = 100.0


def _psnr(reference: np.ndarray, distorted: np.ndarray) -> float:
    """Of two uint8 arrays of one shape."""
    cv2 = colour.opencv()
    squared_error = cv2.norm(np.ascontiguousarray(reference), np.ascontiguousarray(distorted), cv2.NORM_L2SQR)
    if squared_error == 0:
        return CAP
    return min(CAP, 10 * math.log10(255**2 * reference.size / squared_error))


def _over_rgb(reference: np.ndarray, distorted: np.ndarray) -> float:
    """PSNR over R, G and B in dB. Raises InvalidSample for anything but two RGB images [H, W, 3], uint8."""
    colour.check_rgb8(reference, distorted)
    return _psnr(reference, distorted)


def _over_luma(reference: np.ndarray, distorted: np.ndarray) -> float:
    """PSNR over luma in dB. Raises InvalidSample for anything but two RGB images [H, W, 3], uint8."""
    colour.check_rgb8(reference, distorted)
    return _psnr(colour.luma(reference), colour.luma(distorted))


rgb = Metric(
    name="psnr",
    title="PSNR (RGB)",
    definition=f"psnr/rgb-cap{CAP:g}/1",
    unit="dB",
    higher_is_better=True,
    compute=_over_rgb,
    cost=0.0005,
)

luma = Metric(
    name="psnr_y",
    title="PSNR (luma)",
    definition=f"psnr/luma-cap{CAP:g}/1; {colour.DEFINITION}",
    unit="dB",
    higher_is_better=True,
    compute=_over_luma,
    cost=0.0005,
)
