"""Edge restoration: how many edges are still there, and how many are new (F1).

In the spirit of A. Kirillova, E. Lyapustin, A. Antsiferova, D. Vatolin, "ERQA: edge-restoration quality assessment for
video super-resolution", VISAPP 2022, but not that metric: its own definition is

* edges: Canny's on luma, Sobel gradients of 3 x 3, L1 magnitude, thresholds 100 and 200;
* an edge pixel is matched if the other image has an edge pixel in the 3 x 3 pixels around it;
* the distorted edges are moved as a whole by up to 2 pixels along each axis, and pixels are counted where both images
  overlap; precision is the share of distorted edge pixels that are matched, recall that of the reference's;
* the value is F1 = 2 P R / (P + R) of the best of the 25 moves: 1 if all edges are restored, 0 if none is. Two images
  without any edge have 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, pairs

__all__ = ["metric"]

_THRESHOLDS = (100, 200)
_SHIFT = 2
_LEAST = 16


class _Edges(NamedTuple):
    """Masks [H, W], uint8, 0 or 1: edge pixels, and all pixels within a pixel of one."""

    exact: np.ndarray
    near: np.ndarray


def _describe(image: np.ndarray) -> _Edges:
    cv2 = colour.opencv()
    exact = np.minimum(cv2.Canny(colour.luma(image), *_THRESHOLDS), 1)
    return _Edges(exact, cv2.dilate(exact, np.ones((3, 3), np.uint8)))


def _moved(mask: np.ndarray, down: int, right: int) -> np.ndarray:
    """The part of ``mask`` that lies on the other image when that one, of the same size, is moved."""
    height, width = mask.shape
    return mask[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]


def _f1(reference: _Edges, distorted: _Edges, down: int, right: int) -> float:
    """With the distorted edges moved by ``down`` and ``right`` pixels."""
    cv2 = colour.opencv()
    original, near_original = (_moved(mask, down, right) for mask in reference)
    restored, near_restored = (_moved(mask, -down, -right) for mask in distorted)
    there, needed = cv2.countNonZero(restored), cv2.countNonZero(original)
    if not there or not needed:
        return 1.0 if there == needed else 0.0
    precision = cv2.countNonZero(cv2.bitwise_and(restored, near_original)) / there
    recall = cv2.countNonZero(cv2.bitwise_and(original, near_restored)) / needed
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _compare(reference: _Edges, distorted: _Edges) -> float:
    if not reference.exact.any() or not distorted.exact.any():
        # asked of the whole images: a move must not push the only edge out of sight and call that a success
        return 0.0 if reference.exact.any() or distorted.exact.any() else 1.0
    moves = range(-_SHIFT, _SHIFT + 1)
    return max(_f1(reference, distorted, down, right) for down in moves for right in moves)


_compute, _many = pairs.by_features("The F1 of edges", _LEAST, _describe, _compare)

metric = Metric(
    name="edge_f1",
    title="Restored edges (F1)",
    definition=f"edge-f1/canny100-200-near1-shift2-luma601/1; {colour.DEFINITION}",
    unit="",
    higher_is_better=True,
    compute=_compute,
    many=_many,
    cost=0.015,
)
