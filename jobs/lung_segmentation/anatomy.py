"""Around the models: air that is not of the lungs, and from the label lung to two lungs, left and right told apart.

The paper does not say how; every stage and every method it is compared with goes through the same steps here. Airways and gas
of the bowel are taken out before the minimum filters, which would spread them over their walls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.lung_segmentation.appearance import lowest
from sensorium.jobs.lung_segmentation.preparation import Volume
from sensorium.platform.optional import require

__all__ = ["LEFT", "RIGHT", "airways", "enclosed_gas", "lungs"]

#: values of the result; the patient's own sides
RIGHT, LEFT = 1, 2
#: air in airways is lighter than lung tissue
_AIRWAY = -880
#: cross-section of a trachea or main bronchus, mm²
_SECTION = (25.0, 700.0)
#: how far from one slice to the next a cross-section may grow before it has leaked into a lung: factor, and mm²
_GROWTH = (1.3, 40.0)
#: of the body's width, how far from its middle the trachea may be
_OFF_MIDDLE = 0.15
#: smoothed, gas is lighter; even emphysema seldom is over more than a few ml
_GAS = -950
#: mm, voxels that are smaller are smoothed, as there is more noise in them
_SMOOTHED = 3.0
#: mm: a part of gas with the edge that its wall blurs, and as far beyond, what surrounds it
_EDGE = 3.0
#: ml of a part of gas outside the lungs; more would be a lung
_GAS_ML = (1.0, 1000.0)
#: of what surrounds it, the share that is denser than lung
_ENCLOSED, _SOFT = 0.8, -400
#: of an axial section, mm²: a hole that is smaller is a vessel or a nodule, a greater one may be the dome of the diaphragm
_HOLE = 700.0
#: of the larger lung, and ml, that a part needs to be a lung
_LEAST_SHARE, _LEAST_ML = 0.1, 20.0
#: of an airway, mm
_WALL = 1.5
#: of what is left of two lungs that touch, thinned, that each has at least
_LEAST_PART = 0.15


def airways(volume: Volume) -> NDArray[np.bool_]:
    """Trachea and main bronchi, bool [Z, Y, X]: tubes of air followed downwards from the neck until they open into a lung.

    Empty where no trachea is seen in the upper half.
    """
    ndimage = require("scipy", "segment volumes").ndimage
    found = np.zeros(volume.hu.shape, bool)
    pixel = volume.spacing[1] * volume.spacing[2]
    above: NDArray[np.int32] | None = None  # the sections of the slice above, numbered
    for place in range(len(found) - 1, -1, -1):
        labels, count = ndimage.label((volume.hu[place] < _AIRWAY) & volume.body[place])
        if above is None:
            kept = _seed(labels, count, volume, place) if 2 * place >= len(found) else []
        else:
            kept = _continued(labels, above, pixel)
            if not kept:
                break
        if kept:
            above = np.where(np.isin(labels, kept), labels, 0)
            found[place] = above > 0
    walls = tuple(max(1, round(_WALL / one)) for one in volume.spacing[1:])
    return ~np.asarray(lowest((~found).view(np.uint8), (0, walls[0], walls[1])).astype(bool))


def _seed(labels: NDArray[np.int32], count: int, volume: Volume, place: int) -> list[int]:
    """The number of the round section nearest to the middle of the body; none where there is none."""
    across = np.flatnonzero(volume.body[place].any(axis=0))
    if not across.size or not count:
        return []
    middle, width = (across[0] + across[-1]) / 2, across[-1] - across[0] + 1
    best: list[tuple[float, int]] = []
    for number in range(1, count + 1):
        rows, columns = np.nonzero(labels == number)
        area = rows.size * volume.spacing[1] * volume.spacing[2]
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        off = abs(columns.mean() - middle) / width
        if _SECTION[0] <= area <= _SECTION[1] and off < _OFF_MIDDLE and rows.size > 0.5 * box:
            best.append((off, number))
    return [min(best)[1]] if best else []


def _continued(labels: NDArray[np.int32], above: NDArray[np.int32], pixel: float) -> list[int]:
    """Numbers of sections that overlap one of the slice above and have not grown as one does that opens into a lung."""
    area, before = (np.bincount(one.ravel()) * pixel for one in (labels, above))
    kept = []
    for number in np.unique(labels[above > 0]):
        widest = before[np.unique(above[(labels == number) & (above > 0)])].max() if number else 0.0
        if number and area[number] <= min(_GROWTH[0] * widest + _GROWTH[1], _SECTION[1]):
            kept.append(int(number))
    return kept


def enclosed_gas(volume: Volume) -> NDArray[np.bool_]:
    """Gas of stomach and bowel with its wall, bool [Z, Y, X]: air around which there is soft tissue, not lung."""
    ndimage = require("scipy", "segment volumes").ndimage
    out = np.zeros(volume.hu.shape, bool)
    near = _voxels(_EDGE, volume)
    beyond = _voxels(2 * _EDGE, volume)
    window = [3 if one < _SMOOTHED else 1 for one in volume.spacing]
    light = (ndimage.uniform_filter(volume.hu, window) < _GAS) & volume.body
    labels, _ = ndimage.label(light)
    sizes = np.bincount(labels.ravel()) * volume.voxel_ml
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if not _GAS_ML[0] <= sizes[number] <= _GAS_ML[1]:
            continue
        wide = tuple(slice(max(0, one.start - far), one.stop + far) for one, far in zip(box, beyond, strict=True))
        inner = _grown(labels[wide] == number, near)
        outer = _grown(labels[wide] == number, beyond)
        around = volume.hu[wide][outer & ~inner & volume.body[wide]]
        if around.size and (around > _SOFT).mean() > _ENCLOSED:
            out[wide] |= inner
    return out


def _voxels(length: float, volume: Volume) -> tuple[int, int, int]:
    """A length in voxels along each axis, 1 or more."""
    z, y, x = (max(1, round(length / one)) for one in volume.spacing)
    return z, y, x


def _grown(mask: NDArray[np.bool_], radii: tuple[int, int, int]) -> NDArray[np.bool_]:
    return ~np.asarray(lowest((~mask).view(np.uint8), radii).astype(bool))


def lungs(volume: Volume, mask: NDArray[np.bool_], within: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The lungs among voxels labelled lung.

    Args:
        volume: upright.
        mask: bool [Z, Y, X], labelled lung.
        within: likewise, where lungs may be: the body without airways and gas.

    Returns:
        uint8 [Z, Y, X]: 0, ``RIGHT`` or ``LEFT``, with what they enclose, such as vessels.
    """
    ndimage = require("scipy", "segment volumes").ndimage
    labels, count = ndimage.label(mask & within)
    if not count:
        return np.zeros(mask.shape, np.uint8)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    order = np.argsort(sizes)[::-1][:2]
    least = max(_LEAST_SHARE * sizes[order[0]], min(_LEAST_ML / volume.voxel_ml, sizes[order[0]]))
    kept = [int(one) for one in order if sizes[one] >= least]
    parts = [labels == one for one in kept]
    if len(parts) == 1:
        parts = _parted(parts[0], volume)
    return _sided([_whole(part, volume) & within for part in parts], volume)


def _whole(part: NDArray[np.bool_], volume: Volume) -> NDArray[np.bool_]:
    """A part [Z, Y, X] with its cavities, and with the small holes of its axial sections."""
    ndimage = require("scipy", "segment volumes").ndimage
    box = ndimage.find_objects(part.view(np.uint8))[0]
    labels, _ = ndimage.label(np.pad(~part[box], 1, constant_values=True))
    solid = labels != labels[0, 0, 0]
    most = _HOLE / (volume.spacing[1] * volume.spacing[2])
    for plane in solid:
        holes, _ = ndimage.label(~plane)
        small = np.bincount(holes.ravel()) < most
        small[[0, holes[0, 0]]] = False
        plane |= small[holes]
    out = np.zeros_like(part)
    out[box] = solid[1:-1, 1:-1, 1:-1]
    return out


def _parted(mask: NDArray[np.bool_], volume: Volume) -> list[NDArray[np.bool_]]:
    """Two lungs that touch, parted where they are joined most thinly; one part where they do not come apart.

    Worked out on every so many-th voxel along each axis, about 3 mm apart.
    """
    ndimage = require("scipy", "segment volumes").ndimage
    steps = tuple(max(1, round(3.0 / one)) for one in volume.spacing)
    coarse = mask[:: steps[0], :: steps[1], :: steps[2]]
    core = coarse
    for _ in range(6):
        core = lowest(np.pad(core, 1).view(np.uint8), (1, 1, 1)).astype(bool)[1:-1, 1:-1, 1:-1]
        labels, _ = ndimage.label(core)
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        order = np.argsort(sizes)[::-1][:2]
        if len(order) > 1 and sizes[order[1]] > _LEAST_PART * core.sum():
            break
    else:
        return [mask]
    seeds = np.where(labels == order[0], 1, np.where(labels == order[1], 2, 0))
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    side = seeds[tuple(nearest)].astype(np.uint8)
    for axis, step in enumerate(steps):
        side = side.repeat(step, axis=axis)
    side = side[: mask.shape[0], : mask.shape[1], : mask.shape[2]]
    return [mask & (side == 1), mask & (side == 2)]


def _sided(parts: Sequence[NDArray[np.bool_]], volume: Volume) -> NDArray[np.uint8]:
    """Parts with their sides: x grows to the patient's right; a single one is on the side of the body's middle that it is on."""
    out = np.zeros(volume.hu.shape, np.uint8)
    places = [float(np.nonzero(part)[2].mean()) for part in parts]
    across = np.flatnonzero(volume.body.any(axis=(0, 1)))
    middle = (across[0] + across[-1]) / 2 if len(parts) < 2 else float(np.mean(places))
    for part, place in zip(parts, places, strict=True):
        out[part] = RIGHT if place > middle else LEFT
    return out
