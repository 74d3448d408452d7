"""Volumes: CT, MR, microscopy stacks.

An array is [Z, Y, X]. ``orientation`` has three letters in the order **x, y, z** (as NIfTI tools write it), each naming
the side of the body towards which that index grows: R or L, A or P, S or I. ``"RAS"`` means that ``volume[z, y, x]``
goes to the patient's right with x, to the front with y and to the head with z; DICOM's usual one is ``"LPS"``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import ArrayField, ScalarField
from sensorium.catalog.modalities import _drawing, _sheets
from sensorium.catalog.modalities._declare import FLOATS, INTEGERS, mark_field, present
from sensorium.catalog.modalities._writing import with_suffix
from sensorium.catalog.modality import Modality, Violation
from sensorium.platform.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["affine_of", "modality", "write"]

#: letter -> axis of the patient's space (x, y, z) and direction in it
_SIDES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}

_FIELDS = (
    ArrayField(
        "volume",
        "Z Y X",
        dtypes=(*INTEGERS, *FLOATS),
        required=True,
        description="values in the scalar 'unit'; no range is enforced, scanners pad with values such as -3500 HU",
    ),
    mark_field("mask", "Z Y X", "the organ or lesion, where not 0"),
    ScalarField("spacing", pa.list_(pa.float64()), unit="mm", per_dataset=True, description="voxel size: z, y, x"),
    ScalarField(
        "orientation", pa.string(), per_dataset=True, description="sides towards which x, y, z grow, such as RAS"
    ),
    ScalarField("unit", pa.string(), per_dataset=True, description="of the values, such as HU"),
)


def check(sample: Mapping[str, Any]) -> Iterator[Violation]:
    """Three positive spacings, and an orientation that names three different axes."""
    if present(sample, "spacing"):
        spacing = np.asarray(sample["spacing"], dtype=np.float64)
        if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
            yield Violation(
                "spacing",
                f"needs three finite lengths above 0 mm; got {spacing.tolist()}",
                "Give the voxel size as (z, y, x) in millimetres",
            )
    if present(sample, "orientation") and not _is_orientation(sample["orientation"]):
        yield Violation(
            "orientation",
            f"needs one letter of R/L, one of A/P and one of S/I, for x, y and z; got {sample['orientation']!r}",
            "Name the side towards which each index grows, such as 'RAS' or 'LPS'",
        )


def _is_orientation(text: object) -> bool:
    return isinstance(text, str) and len(text) == 3 and sorted(_SIDES[s][0] for s in text if s in _SIDES) == [0, 1, 2]


def preview(axes: Axes, sample: Mapping[str, Any]) -> None:
    """Draw the middle axial slice as radiologists hang it (front up, the patient's right on the left) in true aspect.

    Hounsfield units are shown through a lung window (-1350 to 150 HU), others between their percentiles 1 and 99.
    """
    volume = _drawing.lazily(sample, "volume")
    flips = _flips(sample.get("orientation"))
    middle = len(volume) // 2
    shown = _drawing.thin(np.asarray(volume[middle])[flips])  # [Y, X]
    spacing = sample.get("spacing")
    aspect = float(spacing[1]) / float(spacing[2]) if spacing is not None else 1.0
    if sample.get("unit") == "HU":
        axes.imshow(shown, cmap="gray", vmin=-1350, vmax=150, aspect=aspect)
    else:
        axes.imshow(_drawing.stretch(shown, 1, 99), cmap="gray", vmin=0, vmax=1, aspect=aspect)
    mask = _drawing.lazily(sample, "mask")
    if mask is not None:
        _drawing.outline(axes, _drawing.thin(np.asarray(mask[middle])[flips]))
    axes.set_axis_off()


def _flips(orientation: object) -> tuple[slice, slice]:
    """How to turn a slice [Y, X] so that the front is up and the patient's right is on the left."""
    if not _is_orientation(orientation):
        return slice(None), slice(None)
    backwards = slice(None, None, -1)
    letters = str(orientation)
    return backwards if letters[1] == "A" else slice(None), backwards if letters[0] == "R" else slice(None)


def write(sample: Mapping[str, Any], path: Path) -> Path:
    """Write ``volume`` as NIfTI to ``path`` + ``.nii.gz``, and ``mask``, if there is one, to ``_mask.nii.gz`` beside.

    Spacing and orientation (RAS where none is given) are in the affine matrix; ``affine`` of the sample (16 values, as
    the NIfTI importer gives it) is used where it agrees with the spacing. Reading a volume of orientation RAS back
    through the importer gives the identical array; others come back turned to RAS. Booleans are written as 0 and 1,
    float16 as float32, for NIfTI has neither.
    """
    affine = affine_of(sample)
    if sample.get("mask") is not None:
        _write_nifti(np.asarray(sample["mask"]), affine, with_suffix(path, "_mask.nii.gz"))
    return _write_nifti(np.asarray(sample["volume"]), affine, with_suffix(path, ".nii.gz"))


def _write_nifti(array: npt.NDArray[Any], affine: npt.NDArray[np.float64], target: Path) -> Path:
    nibabel = require("nibabel", "write NIfTI files")
    known = {"bool": "uint8", "float16": "float32"}
    data = array.astype(known.get(array.dtype.name, array.dtype)).transpose(2, 1, 0)  # [Z, Y, X] -> [X, Y, Z]
    kind = nibabel.Nifti2Image if max(data.shape) > 32767 else nibabel.Nifti1Image  # NIfTI-1 counts in 16 bits
    image = kind(data, affine, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, target)
    return target


def affine_of(sample: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Matrix from indices (x, y, z) to millimetres in the patient's RAS space."""
    spacing = np.asarray(sample["spacing"] if present(sample, "spacing") else (1.0, 1.0, 1.0), dtype=np.float64)[::-1]
    if present(sample, "affine"):
        stored = np.asarray(sample["affine"], dtype=np.float64).reshape(4, 4)
        if np.allclose(np.linalg.norm(stored[:3, :3], axis=0), spacing, rtol=1e-3):
            return stored
    orientation = sample.get("orientation")
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for axis, letter in enumerate(orientation if _is_orientation(orientation) and orientation else "RAS"):
        side, sign = _SIDES[letter]
        matrix[side, axis] = sign * spacing[axis]
    return matrix


def steps(sample: Mapping[str, Any]) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Axial slices as radiologists hang them, the mask tinted; at most 200, evenly spread."""
    volume, mask = _drawing.lazily(sample, "volume"), _drawing.lazily(sample, "mask")
    flips = _flips(sample.get("orientation"))
    for index in _sheets.evenly(len(volume), 200):
        shown, how = _sheets.windowed(_drawing.thin(np.asarray(volume[index])[flips]), sample.get("unit"))
        pixels = np.repeat((np.asarray(shown) * 255 + 0.5).astype(np.uint8)[..., np.newaxis], 3, axis=2)
        if mask is not None:
            marked = _drawing.thin(np.asarray(mask[index])[flips]) != 0
            pixels[marked] = (0.6 * pixels[marked] + 0.4 * np.array([255, 45, 149])).astype(np.uint8)
        yield f"slice {index} of {len(volume)}, {how}", pixels


modality = Modality(
    name="volume",
    title="CT, MR and other volumes",
    fields=_FIELDS,
    check=check,
    preview=preview,
    sheet=_sheets.planes,
    steps=steps,
    export=write,
)
