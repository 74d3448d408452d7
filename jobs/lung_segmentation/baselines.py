"""What the system is compared with: a threshold with morphology, and iterated conditional modes (ICM)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.lung_segmentation.anatomy import lungs
from sensorium.jobs.lung_segmentation.appearance import lowest
from sensorium.jobs.lung_segmentation.field import LUNG, agreement, labelled, potential, smoothed
from sensorium.jobs.lung_segmentation.segmentation import Model

__all__ = ["iterated_modes", "threshold_and_morphology"]

#: HU, as usual for lungs
_THRESHOLD = -400
#: of the closing that takes vessels in, mm
_CLOSING = 6.0
_ROUNDS = 20


def threshold_and_morphology(model: Model) -> NDArray[np.uint8]:
    """Lighter than -400 HU within the body, airways and bowel out, then a closing of 6 mm; uint8 [Z, Y, X] as ``lungs``."""
    volume = model.volume
    within = model.evidence.body
    found = lungs(volume, volume.hu < _THRESHOLD, within)
    radii = tuple(max(1, round(_CLOSING / one)) for one in volume.spacing)
    rim = [(radius, radius) for radius in radii]
    inner = tuple(slice(radius, -radius) for radius in radii)
    out = found.copy()
    for side in np.unique(found[found > 0]):
        wide = ~lowest(np.pad(found != side, rim, constant_values=True), (radii[0], radii[1], radii[2]))
        closed = lowest(wide, (radii[0], radii[1], radii[2]))[inner]
        out[closed & (found == 0) & within] = side
    return out


def iterated_modes(model: Model) -> NDArray[np.uint8]:
    """ICM: the LCG of the CT alone, and each voxel's most probable label given its neighbours, until nothing
    changes, 20 rounds at most.

    The potential is that of the first map, as in Eq. 8. All voxels change at once.
    """
    evidence = model.evidence.only((0,))
    labels = labelled(evidence)
    strength = potential(agreement(labels))
    for _ in range(_ROUNDS):
        further = smoothed(evidence, labels, strength)
        if np.array_equal(further, labels):
            break
        labels = further
    return lungs(model.volume, labels == LUNG, evidence.body)
