"""Images of the catalog as grey images of whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.shape_tree.levels import InvalidImage

__all__ = ["grey_of"]

#: luma of ITU-R BT.601
_LUMA = (0.299, 0.587, 0.114)


def grey_of(image: NDArray[Any], steps: int = 256) -> NDArray[Any]:
    """A grey image [H, W] of an image [H, W, C].

    One channel is taken as it is, of three or four the luma (alpha is left out), rounded half to even in the dtype of the image.
    Floats must lie in [0, 1]: they become 0 to ``steps`` - 1, in 8 or 16 bits.

    Raises:
        InvalidImage: floats beyond [0, 1] or not finite, or another number of channels.
    """  # fmt: skip
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise InvalidImage(f"an image has the shape [H, W, C] with 1, 3 or 4 channels; got {list(image.shape)}.")
    grey = image[..., 0] if image.shape[2] == 1 else image[..., :3].astype(np.float64) @ np.array(_LUMA)
    if image.dtype.kind != "f":
        return grey.astype(image.dtype) if image.shape[2] == 1 else np.rint(grey).astype(image.dtype)
    if not ((grey >= 0) & (grey <= 1)).all():  # so does NaN fail
        raise InvalidImage(
            f"floats must lie in [0, 1]; they go from {grey.min():g} to {grey.max():g}. Rescale the image, or store integers."
        )
    scaled: NDArray[Any] = np.rint(grey.astype(np.float64) * (steps - 1)).astype(
        np.uint8 if steps <= 256 else np.uint16
    )
    return scaled
