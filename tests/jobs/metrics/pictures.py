"""Pictures and distortions that are the same on every machine: photographs of scikit-image and whole-number arithmetic."""

import numpy as np
import skimage.data

__all__ = ["DISTORTIONS", "PICTURES", "distort", "noisy", "picture"]

#: name -> photograph, and the rows and columns that are taken
PICTURES = {
    "astronaut_256": ("astronaut", slice(0, 256), slice(128, 384)),
    "coffee_256": ("coffee", slice(100, 356), slice(200, 456)),
    "chelsea_300": ("chelsea", slice(0, 300), slice(0, 450)),
    "astronaut_512": ("astronaut", slice(0, 512), slice(0, 512)),
}

DISTORTIONS = ("noise", "blocks", "steps", "blur", "colour", "dark")


def picture(name: str) -> np.ndarray:
    """[H, W, 3], uint8."""
    source, rows, columns = PICTURES[name]
    return np.ascontiguousarray(getattr(skimage.data, source)()[rows, columns])


def noisy(image: np.ndarray, strength: int, seed: int = 0) -> np.ndarray:
    """Uniform noise of whole levels, up to ``strength`` either way."""
    noise = np.random.default_rng(seed).integers(-strength, strength + 1, image.shape)
    return np.clip(image.astype(np.int64) + noise, 0, 255).astype(np.uint8)


def distort(image: np.ndarray, how: str) -> np.ndarray:
    """One of :data:`DISTORTIONS`; [H, W, 3], uint8."""
    wide = image.astype(np.int64)
    if how == "noise":
        return noisy(image, 20)
    if how == "blocks":  # every 8 x 8 block half way to its mean, as coarse JPEG does
        out = wide.copy()
        for row in range(0, len(wide), 8):
            for column in range(0, wide.shape[1], 8):
                block = out[row : row + 8, column : column + 8]
                block[:] = (block + block.sum(axis=(0, 1)) // block[..., 0].size) // 2
        return out.astype(np.uint8)
    if how == "steps":
        return (wide // 24 * 24 + 12).clip(0, 255).astype(np.uint8)
    if how == "blur":
        padded = np.pad(wide, ((2, 2), (2, 2), (0, 0)), mode="edge")
        rows = sum(padded[shift : shift + len(wide)] for shift in range(5))
        return (sum(rows[:, shift : shift + wide.shape[1]] for shift in range(5)) // 25).astype(np.uint8)
    if how == "colour":
        grey = wide.sum(axis=2, keepdims=True) // 3
        return ((wide + 2 * grey) // 3).astype(np.uint8)
    if how == "dark":
        return (wide * 3 // 5).astype(np.uint8)
    raise ValueError(how)
