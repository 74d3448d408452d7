"""A digital chest phantom: **simulated** CT volumes with exact masks, for claims about lesions.

Body, lungs with a heart between them, ribs, spine, airways, branching vessels, ground glass and consolidations at the pleura, a
table, padding outside the field of view; blurred by the grid and with noise. Nothing is measured on a patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.platform.optional import require

__all__ = ["Phantom", "phantom"]

#: HU
_AIR, _LUNG, _TISSUE, _FAT, _BONE, _VESSEL, _TABLE, _PADDING = -1000, -860, 40, -90, 500, 45, -150, -3024
_GLASS, _DENSE = (-550, -300), (-60, 35)
#: of the field of view, mm: y, x; and its height
_FIELD, _HEIGHT = (300.0, 380.0), 300.0


@dataclass(frozen=True)
class Phantom:
    """A simulated chest.

    Attributes:
        hu: int16 [Z, Y, X], RAS: z grows to the head, y to the front, x to the patient's right.
        lungs: uint8 [Z, Y, X]: 1 right, 2 left; vessels and lesions belong to them, airways outside do not.
        lesions: uint8 [Z, Y, X]: 1 ground glass, 2 consolidation.
        airways: bool [Z, Y, X].
        spacing: z, y, x in mm.
    """

    hu: NDArray[np.int16]
    lungs: NDArray[np.uint8]
    lesions: NDArray[np.uint8]
    airways: NDArray[np.bool_]
    spacing: tuple[float, float, float]


def phantom(
    seed: int, shape: tuple[int, int, int] = (60, 120, 152), *, lesions: int = 6, noise: float = 30.0
) -> Phantom:
    """A chest.

    Args:
        seed: of anatomy, lesions and noise.
        shape: of the grid [Z, Y, X].
        lesions: how many of each kind.
        noise: standard deviation, HU.
    """
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    size = float(rng.uniform(0.93, 1.03))
    body = (x / 0.9) ** 2 + ((y - 0.08) / 0.72) ** 2 + 0 * z < size
    hu = np.where(body, np.float32(_TISSUE), np.float32(_AIR))
    hu[((x / 0.86) ** 2 + ((y - 0.08) / 0.67) ** 2 >= size) & body] = _FAT
    lungs = _lungs(rng, x, y, z, size)
    hu[lungs > 0] = _LUNG + 60 * rng.uniform(-1, 1)  # breathing in more or less
    _bones(hu, body & (lungs == 0), x, y, z)
    airways = _airways(x, y, z) & (lungs == 0)
    hu[_grown(airways) & ~airways & (lungs == 0)] = _TISSUE
    hu[airways] = _AIR
    stomach = ((x + 0.4) / 0.14) ** 2 + ((y - 0.12) / 0.16) ** 2 + ((z + 0.74) / 0.14) ** 2 < 1
    hu[stomach & (lungs == 0)] = _AIR
    _vessels(hu, lungs > 0, rng)
    ill = _lesions(hu, lungs, rng, lesions)
    table = np.abs(y + 0.8 - 0.03 * x**2) < 0.03
    hu[np.broadcast_to(table & (np.abs(x) < 0.7), shape) & ~body] = _TABLE
    hu = _blurred(hu) + rng.normal(0, noise, shape).astype(np.float32)
    hu = np.clip(hu, -1024, 3071)
    hu[np.broadcast_to((x / 1.05) ** 2 + (y / 1.15) ** 2 > 1, shape)] = _PADDING
    spacing = (_HEIGHT / shape[0], _FIELD[0] / shape[1], _FIELD[1] / shape[2])
    return Phantom(np.rint(hu).astype(np.int16), lungs, ill, airways, spacing)


def _lungs(
    rng: np.random.Generator, x: NDArray[np.float32], y: NDArray[np.float32], z: NDArray[np.float32], size: float
) -> NDArray[np.uint8]:
    """Two lungs, narrower towards the head, hollowed from below by a diaphragm and on the left by the heart."""
    out = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.uint8)
    heart = ((x + 0.12) / 0.33) ** 2 + ((y - 0.22) / 0.32) ** 2 + ((z + 0.25) / 0.45) ** 2 < size
    for name, side in ((1, 1), (2, -1)):
        centre = 0.43 * side + rng.normal(0, 0.01)
        top = 1 - 0.35 * np.maximum(z, 0) ** 2
        lobe = ((x - centre) / (0.31 * top)) ** 2 + ((y - 0.06) / (0.5 * top)) ** 2 + (z / 0.9) ** 4 < size
        dome = z > -0.72 + 0.3 * np.exp(-(((x - centre) / 0.3) ** 2) - ((y - 0.1) / 0.4) ** 2)
        out[lobe & dome & ~heart] = name
    return out


def _bones(
    hu: NDArray[np.float32], where: NDArray[np.bool_], x: NDArray[np.float32], y: NDArray[np.float32],
    z: NDArray[np.float32],
) -> None:  # fmt: skip
    """Spine, breastbone, and ribs that slope to the front."""
    ring = (x / 0.8) ** 2 + ((y - 0.08) / 0.6) ** 2
    ribs = (np.abs(ring - 1) < 0.06) & (np.sin(28 * (z + 0.25 * y)) > 0.35)
    spine = (x / 0.1) ** 2 + ((y + 0.52) / 0.12) ** 2 < 1
    hu[(ribs | spine) & where] = _BONE


def _airways(x: NDArray[np.float32], y: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.bool_]:
    """A trachea of 18 mm that parts into two main bronchi."""
    down = np.maximum(0.3 - z, 0)
    apart = np.abs(np.abs(x) - 0.75 * down)
    return np.asarray(((apart / 0.048) ** 2 + ((y + 0.02) / 0.06) ** 2 < 1) & (z > 0.02))


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    ndimage = require("scipy", "simulate volumes").ndimage
    return np.asarray(ndimage.binary_dilation(mask, np.ones((1, 3, 3), bool)))


def _vessels(hu: NDArray[np.float32], where: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Tubes that run outwards from the hilum of each lung, thinner on their way."""
    shape = np.array(hu.shape)
    for _ in range(70):
        side = rng.choice((-1, 1))
        place = shape * (0.5, 0.48, 0.5 + side * 0.11) + rng.normal(0, 2, 3)
        way = np.array([rng.normal(0, 0.8), rng.normal(0, 0.8), side * rng.uniform(0.4, 1)])
        for step in range(int(0.3 * shape[2])):
            radius = max(0.5, 2.2 * shape[2] / 152 * (1 - step / (0.28 * shape[2])))
            way = way / np.linalg.norm(way) + rng.normal(0, 0.12, 3)
            place = place + way * (0.7, 1.0, 1.0)
            _ball(hu, where, place, radius, _VESSEL)


def _ball(
    hu: NDArray[np.float32], where: NDArray[np.bool_], centre: NDArray[np.float64], radius: float, value: float
) -> None:
    low = np.maximum(np.floor(centre - radius).astype(int), 0)
    high = np.minimum(np.ceil(centre + radius).astype(int) + 1, hu.shape)
    if (low >= high).any():
        return
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    grid = np.ogrid[box]
    inside = sum(((g - c) / radius) ** 2 for g, c in zip(grid, centre, strict=True)) <= 1
    hu[box][inside & where[box]] = value


def _lesions(
    hu: NDArray[np.float32], lungs: NDArray[np.uint8], rng: np.random.Generator, count: int
) -> NDArray[np.uint8]:
    """Ground glass anywhere in the lungs, and consolidations, as dense as the chest, at the lower and back pleura."""
    out = np.zeros(hu.shape, np.uint8)
    inside = lungs > 0
    ndimage = require("scipy", "simulate volumes").ndimage
    rim = np.argwhere(inside & ~ndimage.binary_erosion(inside, iterations=2))
    rim = rim[rim[:, 1] < 0.5 * hu.shape[1]]
    deep = np.argwhere(inside)
    scale = hu.shape[2] / 152
    for kind, (low, high), places in ((1, _GLASS, deep), (2, _DENSE, rim)):
        for _ in range(count):
            spot = np.zeros(hu.shape, np.float32)
            centre = places[rng.integers(len(places))].astype(np.float64)
            for _ in range(3):  # not quite round
                _ball(spot, inside, centre, float(rng.uniform(3, 8)) * scale, 1.0)
                centre = centre + rng.normal(0, 4 * scale, 3)
            hu[spot > 0] = rng.uniform(low, high)
            out[spot > 0] = kind
    return out


def _blurred(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    ndimage = require("scipy", "simulate volumes").ndimage
    return np.asarray(ndimage.gaussian_filter(hu, 0.6))
