"""Maps of gradients and of similarity, as GMSD, MDSI, VSI and FSIM build them."""

from __future__ import annotations

import numpy as np

from sensorium.jobs import colour

__all__ = ["PREWITT", "SCHARR", "gradient", "linear", "magnitude", "similarity"]

#: Smoothing across the derivative [-1, 0, 1]; both operators give 1 for a ramp of slope 1/2 a pixel.
PREWITT = (1 / 3, 1 / 3, 1 / 3)
SCHARR = (3 / 16, 10 / 16, 3 / 16)


def gradient(plane: np.ndarray, smoothing: tuple[float, float, float]) -> np.ndarray:
    """Magnitude of the gradient of a plane [H, W], float32; zeros are assumed outside, as in the authors' programs."""
    cv2 = colour.opencv()
    across, along = np.array(smoothing, np.float32), np.array((-1, 0, 1), np.float32)
    horizontal = cv2.sepFilter2D(plane, cv2.CV_32F, along, across, borderType=cv2.BORDER_CONSTANT)
    vertical = cv2.sepFilter2D(plane, cv2.CV_32F, across, along, borderType=cv2.BORDER_CONSTANT)
    return magnitude(horizontal, vertical)


def magnitude(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Root of the sum of squares. Not OpenCV's, whose last bit depends on where in memory the result comes to lie."""
    squares: np.ndarray = one * one
    squares += other * other
    np.sqrt(squares, out=squares)
    return squares


def similarity(one: np.ndarray, other: np.ndarray, constant: float) -> np.ndarray:
    """(2 a b + c) / (a^2 + b^2 + c), sample by sample; 1 where both are equal."""
    numerator: np.ndarray = one * other
    numerator *= 2
    numerator += np.float32(constant)
    denominator = one * one
    denominator += other * other
    denominator += np.float32(constant)
    numerator /= denominator
    return numerator


def linear(image: np.ndarray, matrix: tuple[tuple[float, ...], ...]) -> tuple[np.ndarray, ...]:
    """Planes [H, W], float32, one for each row of ``matrix``, of an RGB image [H, W, 3], float32."""
    cv2 = colour.opencv()
    planes: tuple[np.ndarray, ...] = cv2.split(cv2.transform(image, np.array(matrix, np.float32)))
    return planes
