"""The 36 features of BRISQUE, without a reference and without its regression.

A. Mittal, A. K. Moorthy, A. C. Bovik, "No-reference image quality assessment in the spatial domain", IEEE Transactions on
Image Processing 21(12), 2012, table I: at each of two scales the shape and variance of contrast-normalised luma, and for
products of neighbours in four directions shape, mean, and left and right variance. The paper's score needs a regression
fitted to opinions of people, which is not part of this; the features serve as they are, for instance as what a model of
one's own is fitted to. None is better by itself.

Deliberate: the second scale is the mean of 2 x 2 blocks, not a bicubic reduction.
"""

from __future__ import annotations

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, pairs, scene_statistics

__all__ = ["metric"]

_LEAST = 16
_FEATURES = 36


def _one_scale(y: np.ndarray) -> list[float]:
    """18 features of luma [H, W], float32."""
    normalised, _ = scene_statistics.normalise(y, colour.opencv().BORDER_CONSTANT)
    shape, variance = scene_statistics.fit_symmetric(normalised.reshape(1, -1))
    products = np.stack(scene_statistics.neighbours(normalised)).reshape(4, -1)
    fit = scene_statistics.fit_asymmetric(products)
    directions = np.stack([fit.shape, fit.offset, fit.left**2, fit.right**2], axis=1)
    return [float(shape[0]), float(variance[0]), *directions.ravel().tolist()]


def _features(image: np.ndarray) -> list[float]:
    y = colour.luma(image)
    return [*_one_scale(y.astype(np.float32)), *_one_scale(pairs.shrink(y, 2))]


metric = Metric(
    name="brisque",
    title="BRISQUE's features (no score)",
    definition=f"brisque-features/mittal2012-area-luma601/1; {colour.DEFINITION}",
    unit="",
    higher_is_better=False,
    compute=pairs.of_one("BRISQUE's features", _LEAST, _features),
    columns=tuple(f"brisque_{index:02d}" for index in range(1, _FEATURES + 1)),
    needs_reference=False,
    cost=0.09,
)
