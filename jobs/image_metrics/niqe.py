"""NIQE with a model of natural pictures of our own, without a reference.

A. Mittal, R. Soundararajan, A. C. Bovik, "Making a 'completely blind' image quality analyzer", IEEE Signal Processing
Letters 20(3), 2013: 36 features of each patch of 96 x 96 pixels (18 at full and 18 at half size) are taken for normally
distributed, and the value is the distance between the image's distribution and that of natural pictures (equation 10).

Values are NOT those of the published model, whose parameters were fitted to 125 photographs. Ours is fitted, at first use
in a process, to the photographs :data:`PICTURES` that come with scikit-image as PNG; of their patches
those with more than 0.75 of the sharpest one's deviation, as in the paper. Eight pictures are few: noise and blur of a
picture raise its value, but mild compression may not, and pictures of other cameras or stored as JPEG begin at 10 to 16.
Compare values of one definition, and of one picture.

Deliberate: half size is the mean of 2 x 2 blocks. A single patch has no covariance: it counts as 0. Flat images have
finite values as well (see ``scene_statistics.py``).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, pairs, scene_statistics
from sensorium.platform.optional import require

__all__ = ["LEAST", "PICTURES", "metric"]

#: Functions of ``skimage.data``; of the stereo pair the left picture. Checked with scikit-image 0.26.
PICTURES = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "stereo_motorcycle")

#: Side of a patch in pixels; smaller images have no value.
LEAST = 96

_SHARP = 0.75


class _Normal(NamedTuple):
    """Normal distribution of features: mean [36], covariance [36, 36]."""

    mean: np.ndarray
    covariance: np.ndarray


def _patches(plane: np.ndarray, side: int) -> np.ndarray:
    """Whole patches of a plane [H, W]; [N, side, side]."""
    rows, columns = (length // side for length in plane.shape)
    cut = plane[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.swapaxes(1, 2).reshape(-1, side, side)


def _one_scale(normalised: np.ndarray) -> np.ndarray:
    """Features of patches [N, S, S]; [N, 18]."""
    count = len(normalised)
    own = scene_statistics.fit_asymmetric(normalised.reshape(count, -1))
    features = [own.shape, (own.beta_left + own.beta_right) / 2]
    for products in scene_statistics.neighbours(normalised):
        fit = scene_statistics.fit_asymmetric(products.reshape(count, -1))
        features += [fit.shape, fit.offset, fit.beta_left, fit.beta_right]
    return np.stack(features, axis=1)


def _features(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of all patches of an RGB image, [N, 36], and their mean deviation, [N]."""
    y = colour.luma(image)
    y = y[: y.shape[0] // LEAST * LEAST, : y.shape[1] // LEAST * LEAST]
    border = colour.opencv().BORDER_REPLICATE
    full, deviation = scene_statistics.normalise(y.astype(np.float32), border)
    half, _ = scene_statistics.normalise(pairs.shrink(y, 2), border)
    features = [_one_scale(_patches(full, LEAST)), _one_scale(_patches(half, LEAST // 2))]
    return np.concatenate(features, axis=1), _patches(deviation, LEAST).mean(axis=(1, 2))


def _normal(features: np.ndarray) -> _Normal:
    """Of features [N, 36]."""
    if len(features) == 1:
        return _Normal(features[0], np.zeros((features.shape[1], features.shape[1])))
    return _Normal(features.mean(axis=0), np.cov(features, rowvar=False))


def _picture(name: str) -> np.ndarray:
    """A photograph of scikit-image, RGB [H, W, 3], uint8."""
    found = getattr(require("skimage.data", "fit the model of natural pictures of NIQE"), name)()
    image = found[0] if isinstance(found, tuple) else found
    return image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)


@functools.cache
def _natural() -> _Normal:
    """The model, fitted once in a process."""
    chosen = []
    for name in PICTURES:
        features, sharpness = _features(_picture(name))
        chosen.append(features[sharpness > _SHARP * sharpness.max()])
    return _normal(np.concatenate(chosen))


def _distance(image: np.ndarray) -> float:
    natural, own = _natural(), _normal(_features(image)[0])
    difference = natural.mean - own.mean
    inverse = np.linalg.pinv((natural.covariance + own.covariance) / 2, hermitian=True)
    return float(np.sqrt(max(0.0, difference @ inverse @ difference)))


metric = Metric(
    name="niqe_local",
    title="NIQE, model fitted to scikit-image's photographs",
    definition=f"niqe-local/mittal2013-area-luma601-{'+'.join(PICTURES)}-skimage0.26/1; {colour.DEFINITION}",
    unit="",
    higher_is_better=False,
    compute=pairs.of_one("NIQE", LEAST, _distance),
    needs_reference=False,
    cost=0.18,
)
