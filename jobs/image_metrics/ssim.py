"""Structural similarity on luma, at one scale.

Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE Transactions on Image Processing 13(4), 2004, equation 13, with the parameters of section III-C: a
Gaussian window of 11 x 11 samples with a standard deviation of 1.5, K1 = 0.01, K2 = 0.03, L = 255, population (not
sample) variances, and the mean over all positions at which the window lies inside the image. No downsampling first.
"""

from __future__ import annotations

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric
from sensorium.platform.errors import InvalidSample

__all__ = ["WINDOW", "metric"]

#: Side of the window in pixels; smaller images have no SSIM.
WINDOW = 11
_SIGMA = 1.5
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2

#: Window positions are visited in bands of rows of about this many samples: a band's arrays stay in the processor's
#: cache, and are allocated once per image. Three times as fast as plain expressions over the whole image.
_BAND = 32768
_MARGIN = WINDOW // 2


def _blur(values: np.ndarray, into: np.ndarray) -> np.ndarray:
    """Weighted mean under each window that lies inside; [H, W] to [H - 10, W - 10], a view of ``into`` [H, W]."""
    cv2 = colour.opencv()
    weights = cv2.getGaussianKernel(WINDOW, _SIGMA, cv2.CV_64F)
    cv2.sepFilter2D(values, cv2.CV_64F, weights, weights, dst=into)
    return into[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def _similarity(luma_x: np.ndarray, luma_y: np.ndarray, scratch: np.ndarray) -> float:
    """Sum over all window positions of the similarity of two planes of luma [H, W], uint8 (equation 13).

    ``scratch``: float64, [7, at least H, W]. Everything below works in place on it.
    """
    x, y, product, *blurred = scratch[:, : luma_x.shape[0]]
    x[:], y[:] = luma_x, luma_y
    mean_x, mean_y = _blur(x, blurred[0]), _blur(y, blurred[1])
    covariance = _blur(np.multiply(x, y, out=product), blurred[2])
    x *= x
    y *= y
    x += y
    variances = _blur(x, blurred[3])  # of x and of y, summed: the formula needs no more
    means = np.multiply(mean_x, mean_y, out=product[: mean_x.shape[0], : mean_x.shape[1]])
    mean_x *= mean_x
    mean_y *= mean_y
    mean_x += mean_y
    squared_means = mean_x
    covariance -= means
    variances -= squared_means
    # (2 means + C1) / (squared means + C1) times (2 covariance + C2) / (variances + C2)
    for numerator, denominator, constant in ((means, squared_means, _C1), (covariance, variances, _C2)):
        numerator *= 2
        numerator += constant
        denominator += constant
        numerator /= denominator
    means *= covariance
    return float(means.sum())


def _compute(reference: np.ndarray, distorted: np.ndarray) -> float:
    """SSIM of two RGB images [H, W, 3], uint8.

    Raises:
        InvalidSample: they are not that, differ in size, or are smaller than the window.
    """
    colour.check_rgb8(reference, distorted)
    height, width = reference.shape[:2]
    if min(height, width) < WINDOW:
        raise InvalidSample(
            f"SSIM needs images of at least {WINDOW} x {WINDOW} pixels; got {height} x {width}. Leave such images out."
        )
    x, y = colour.luma(reference), colour.luma(distorted)
    rows, columns = height - WINDOW + 1, width - WINDOW + 1
    step = min(rows, max(WINDOW, _BAND // width))
    scratch = np.empty((7, step + WINDOW - 1, width))
    bands = [slice(start, min(start + step, rows) + WINDOW - 1) for start in range(0, rows, step)]
    total = sum(_similarity(x[band], y[band], scratch) for band in bands)
    return float(total / (rows * columns))


metric = Metric(
    name="ssim",
    title="SSIM (luma)",
    definition=f"ssim/wang2004-gauss11-luma601/1; {colour.DEFINITION}",
    unit="",
    higher_is_better=True,
    compute=_compute,
    cost=0.025,
)
