"""A simulated slice of a synchrotron microtomography, for want of a real one: always labelled as simulated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sensorium.platform.optional import require

__all__ = ["microtomography"]

#: of the background, of tissue, and of cell walls
_GREY = (78.0, 112.0, 150.0)
#: standard deviations of the scanner's blur, pixels: a slice of a tomography is sharp over two to three pixels
_BLUR = 1.2
#: of the noise after that blur, grey levels; with it the tree has 0.29 nodes a pixel, as the paper's image (Fig. 8)
_NOISE = 9.0


def microtomography(size: int = 2050, seed: int = 0, noise: float = _NOISE) -> NDArray[np.uint8]:
    """Cells with bright walls in a round sample, blurred, under noise that is blurred as well, uint8 [size, size].

    Args:
        size: pixels of a side (the paper's image: 2050).
        seed: of the cells and the noise.
        noise: standard deviation, grey levels.
    """
    ndimage = require("scipy.ndimage", "simulate a microtomography")
    spatial = require("scipy.spatial", "simulate a microtomography")
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    radius = np.hypot(y - size / 2, x - size / 2)
    centres = rng.uniform(0, size, (max(8, size * size // 1600), 2))
    near, _ = spatial.cKDTree(centres).query(np.stack([y.ravel(), x.ravel()], axis=1), k=2)
    wall = (near[:, 1] - near[:, 0]).reshape(size, size) < 4
    inside = radius < 0.47 * size
    grey = np.where(inside, np.where(wall, _GREY[2], _GREY[1]), _GREY[0])
    grey += 8 * (radius / size) ** 2  # cupping: rays through the middle are hardened
    blurred = ndimage.gaussian_filter(grey.astype(np.float32), _BLUR)
    grain = ndimage.gaussian_filter(rng.standard_normal((size, size), np.float32), _BLUR)
    noisy = blurred + noise / grain.std() * grain
    slice_: NDArray[np.uint8] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return slice_
