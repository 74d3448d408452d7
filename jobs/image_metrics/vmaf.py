"""VMAF of libvmaf, model ``vmaf_v0.6.1``, run by ffmpeg beside the process.

Z. Li et al., "Toward a practical perceptual video quality metric", Netflix Technology Blog, 2016; the numbers are those
of libvmaf, on a scale of 0 to 100.

* Luma is BT.601 on the limited range 16 to 235, rounded once: the range of the videos that the model was fitted to.
* Images: the model's feature of motion is forced to 0. Without that, an image that follows another in one stream has
  motion of 50 and more, which alone takes the value to 100. With it, a value depends on its own pair only, so that
  many distorted images share one process, and the numbers are those of one process each.
* Identical images do not have 100, but the image's own highest value, about 97.4: the model adds up to 100 only with
  motion.
* Clips: with motion, at 25 frames a second; the mean over the frames, as the ``vmaf`` program gives it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, Values, ffmpeg_pairs, pairs

__all__ = ["LEAST", "metric"]

#: Side in pixels of the widest window of VIF, one of the features; libvmaf refuses smaller images.
LEAST = 17

_FILTER = "libvmaf=model=version=vmaf_v0.6.1{motion}:n_threads=1:log_fmt=json:log_path={{report}}"
_STILL = _FILTER.format(motion=r"\\:motion.motion_force_zero=true")
_MOVING = _FILTER.format(motion="")


def _luma(image: np.ndarray) -> np.ndarray:
    """Luma of BT.601 in the limited range, [H, W], uint8: 16 + 219 / 255 (0.299 R + 0.587 G + 0.114 B)."""
    cv2 = colour.opencv()
    weights = np.array([[0.299 * 219 / 255, 0.587 * 219 / 255, 0.114 * 219 / 255, 16]])
    y: np.ndarray = cv2.transform(np.ascontiguousarray(image), weights)
    return y


def _scores(filter_: str, reference: Sequence[np.ndarray], distorted: Sequence[np.ndarray]) -> list[float]:
    """Of each pair of frames of luma."""
    frames = json.loads(ffmpeg_pairs.report(filter_, distorted, reference))["frames"]
    return [float(frame["metrics"]["vmaf"]) for frame in frames]


def _many(reference: np.ndarray, distorted: Sequence[np.ndarray]) -> list[Values]:
    pairs.check("VMAF", LEAST, reference, *distorted)
    original = _luma(reference)
    return [
        score
        for batch in ffmpeg_pairs.batches(distorted)
        for score in _scores(_STILL, [original] * len(batch), [_luma(image) for image in batch])
    ]


def _compute(reference: np.ndarray, distorted: np.ndarray) -> Values:
    return _many(reference, [distorted])[0]


def _clip(reference: Sequence[np.ndarray], distorted: Sequence[np.ndarray]) -> float:
    pairs.check_clip("VMAF", LEAST, reference, distorted)
    scores = _scores(_MOVING, [_luma(frame) for frame in reference], [_luma(frame) for frame in distorted])
    return float(np.mean(scores))


metric = Metric(
    name="vmaf",
    title="VMAF (v0.6.1, still images without motion)",
    definition="vmaf/libvmaf-v0.6.1-motion0-luma601limited/1; clip 25 Hz with motion, mean",
    unit="",
    higher_is_better=True,
    compute=_compute,
    many=_many,
    clip=_clip,
    cost=0.15,
)
