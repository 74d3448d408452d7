"""How well one mask of a volume fits another: overlap, distances of surfaces in mm, difference in volume. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.platform.errors import InvalidSetting
from sensorium.platform.optional import require

__all__ = ["MaskFit", "mask_fit", "surface"]


@dataclass(frozen=True)
class MaskFit:
    """Of a mask to the true one.

    Attributes:
        dice: 2 |A and B| / (|A| + |B|); 1 for two empty masks.
        overlap: |A and B| / |A or B| (Jaccard).
        hausdorff: greatest distance from a surface voxel of one mask to the other's surface, mm; infinite where one mask is
            empty, 0 where both are.
        hausdorff95: the greater of the two percentiles 95 of these distances, mm.
        volume_difference: | |A| - |B| | in percent of the true one's; infinite where this is empty and the other is not.
    """

    dice: float
    overlap: float
    hausdorff: float
    hausdorff95: float
    volume_difference: float


def surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels of a mask with a neighbour across a side (4 in a plane, 6 in a volume) that is not of it or beyond the border."""
    ndimage = require("scipy", "measure masks").ndimage
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def mask_fit(mask: NDArray[Any], truth: NDArray[Any], spacing: tuple[float, ...]) -> MaskFit:
    """Compare a mask with the true one.

    Args:
        mask: of any shape; what is not 0 belongs.
        truth: of the same shape, likewise.
        spacing: between voxels along each axis, mm.

    Raises:
        InvalidSetting: they differ in shape, or there is not one spacing for each axis.
    """
    one, two = np.asarray(mask) != 0, np.asarray(truth) != 0
    if one.shape != two.shape or len(spacing) != one.ndim:
        raise InvalidSetting(
            f"masks of one grid are compared; got shapes {one.shape}, {two.shape} and spacing {spacing}."
        )
    sizes, common = (int(one.sum()), int(two.sum())), int((one & two).sum())
    if not all(sizes):
        far = 0.0 if not any(sizes) else float("inf")
        return MaskFit(float(not far), float(not far), far, far, 0.0 if not far else 100.0 if sizes[1] else far)
    box = tuple(slice(np.flatnonzero(side).min(), np.flatnonzero(side).max() + 1) for side in _sides(one | two))
    there, back = _distances(one[box], two[box], spacing), _distances(two[box], one[box], spacing)
    return MaskFit(
        dice=2 * common / sum(sizes),
        overlap=common / (sum(sizes) - common),
        hausdorff=float(max(there.max(), back.max())),
        hausdorff95=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        volume_difference=100 * abs(sizes[0] - sizes[1]) / sizes[1],
    )


def _sides(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Where a mask has anything, along each axis."""
    return [
        np.asarray(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        for axis in range(mask.ndim)
    ]


def _distances(one: NDArray[np.bool_], two: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """From each surface voxel of ``one`` to the nearest of ``two``, mm."""
    ndimage = require("scipy", "measure masks").ndimage
    return np.asarray(ndimage.distance_transform_edt(~surface(two), sampling=spacing)[surface(one)])
