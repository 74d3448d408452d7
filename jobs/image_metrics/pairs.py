"""What metrics of a pair of images share: refusing bad pairs, and looking at a reference once for many distorted images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Values
from sensorium.platform.errors import InvalidSample

__all__ = ["by_features", "check", "check_clip", "of_one", "shrink", "weighted_mean"]

Features = TypeVar("Features")
Compute = Callable[[np.ndarray, np.ndarray], Values]
Many = Callable[[np.ndarray, Sequence[np.ndarray]], list[Values]]


def check(title: str, least: int, reference: np.ndarray, *distorted: np.ndarray) -> None:
    """Refuse what cannot be compared.

    Raises:
        InvalidSample: not RGB images [H, W, 3], uint8, of one size, or a side is shorter than ``least`` pixels.
    """
    colour.check_rgb8(reference, *distorted)
    height, width = reference.shape[:2]
    if min(height, width) < least:
        raise InvalidSample(
            f"{title} needs images of at least {least} x {least} pixels; got {height} x {width}. Leave such images out."
        )


def check_clip(title: str, least: int, reference: Sequence[np.ndarray], distorted: Sequence[np.ndarray]) -> None:
    """The same for two clips, frame by frame.

    Raises:
        InvalidSample: also if there is no frame, or not as many in one as in the other.
    """
    if not reference or len(reference) != len(distorted):
        raise InvalidSample(
            f"clips to compare must have as many frames, and at least one; got {len(reference)} and {len(distorted)}."
        )
    check(title, least, reference[0], *reference[1:], *distorted)


def by_features(
    title: str, least: int, describe: Callable[[np.ndarray], Features], compare: Callable[[Features, Features], float]
) -> tuple[Compute, Many]:
    """``compute`` and ``many`` of a metric that first describes each image by itself.

    ``many`` describes the reference once; its numbers are those of ``compute`` to the bit, since the steps are the same.

    Args:
        title: in messages.
        least: shortest side in pixels that the metric takes.
        describe: an RGB image [H, W, 3], uint8, to whatever ``compare`` needs; must not change the image.
        compare: the reference's description and a distorted image's to the value; must not change either.
    """

    def compute(reference: np.ndarray, distorted: np.ndarray) -> float:
        check(title, least, reference, distorted)
        return compare(describe(reference), describe(distorted))

    def many(reference: np.ndarray, distorted: Sequence[np.ndarray]) -> list[Values]:
        check(title, least, reference, *distorted)
        described = describe(reference)
        return [compare(described, describe(image)) for image in distorted]

    return compute, many


def of_one(title: str, least: int, describe: Callable[[np.ndarray], Values]) -> Compute:
    """``compute`` of a metric without a reference: of the distorted image alone, after the same checks."""

    def compute(reference: np.ndarray, distorted: np.ndarray) -> Values:
        check(title, least, reference, distorted)
        return describe(distorted)

    return compute


def shrink(image: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of ``factor`` x ``factor`` samples; [H, W] or [H, W, C] to [H // factor, W // factor, ...], float32.

    Blocks begin at the first row and column, and rows and columns that fill no block are left out: no border has to be
    invented.
    """
    samples = image.astype(np.float32)
    if factor == 1:
        return samples
    height, width = (side // factor for side in samples.shape[:2])
    cv2 = colour.opencv()
    whole = np.ascontiguousarray(samples[: height * factor, : width * factor])
    blocks: np.ndarray = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    return blocks


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Mean with ``weights`` of the same shape; the plain mean where all weights are 0 (flat images)."""
    total = float(weights.sum(dtype=np.float64))
    if total == 0:
        return float(values.mean(dtype=np.float64))
    return float(np.multiply(values, weights).sum(dtype=np.float64) / total)
