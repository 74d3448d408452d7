"""Plain measures of one image, without a reference: total variation, colourfulness, brightness.

None says by itself what is better; ``higher_is_better`` states the sense in which each is usually read: more detail kept,
more colour, more light. Compare them with the value of the uncompressed image.
"""

from __future__ import annotations

import math

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, pairs

__all__ = ["brightness", "colourfulness", "total_variation"]


def _total_variation(image: np.ndarray) -> float:
    """Sum of the magnitudes of all differences of neighbours, across and down, over the number of pixels; in levels.

    The discrete, anisotropic form of L. I. Rudin, S. Osher, E. Fatemi, "Nonlinear total variation based noise removal
    algorithms", Physica D 60, 1992, on luma. 0 for a flat image.
    """
    cv2 = colour.opencv()
    y = colour.luma(image)
    total = cv2.norm(y[:, 1:], y[:, :-1], cv2.NORM_L1) if y.shape[1] > 1 else 0.0
    total += cv2.norm(y[1:], y[:-1], cv2.NORM_L1) if y.shape[0] > 1 else 0.0
    return float(total / y.size)


def _colourfulness(image: np.ndarray) -> float:
    """D. Hasler, S. Süsstrunk, "Measuring colourfulness in natural images", Human Vision and Electronic Imaging VIII,
    2003, equation for M^(3): spread plus 0.3 times the mean, both as lengths in the plane of the opponent colours
    rg = R - G and yb = (R + G) / 2 - B. 0 for a grey image, above 100 for an extremely colourful one.
    """
    cv2 = colour.opencv()
    opponent = np.array([[1, -1, 0], [0.5, 0.5, -1]], np.float32)
    mean, spread = cv2.meanStdDev(cv2.transform(np.ascontiguousarray(image).astype(np.float32), opponent))
    return math.hypot(*spread.ravel()) + 0.3 * math.hypot(*mean.ravel())


def _brightness(image: np.ndarray) -> float:
    """Mean of luma, 0 to 255."""
    return float(colour.luma(image).mean())


total_variation = Metric(
    name="total_variation",
    title="Total variation of luma per pixel",
    definition=f"total-variation/anisotropic-luma601/1; {colour.DEFINITION}",
    unit="levels",
    higher_is_better=True,
    compute=pairs.of_one("Total variation", 1, _total_variation),
    needs_reference=False,
    cost=0.001,
)

colourfulness = Metric(
    name="colourfulness",
    title="Colourfulness",
    definition="colourfulness/hasler2003-m3/1",
    unit="",
    higher_is_better=True,
    compute=pairs.of_one("Colourfulness", 1, _colourfulness),
    needs_reference=False,
    cost=0.004,
)

brightness = Metric(
    name="brightness",
    title="Mean luma",
    definition=f"brightness/luma601/1; {colour.DEFINITION}",
    unit="levels",
    higher_is_better=True,
    compute=pairs.of_one("Brightness", 1, _brightness),
    needs_reference=False,
    cost=0.001,
)
