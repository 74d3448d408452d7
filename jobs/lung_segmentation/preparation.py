"""A sample of a data set as a volume in HU: upright, checked, with the body that the models are fitted in.

Padding outside the scanner's field of view (-2000, -3024, -3500) is lighter than air and becomes air. The *body* is the greatest
connected part of what is denser than lung or enclosed by that in an axial slice, after thin things such as the table and its
covers were taken off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.lung_segmentation.appearance import LOWEST, lowest
from sensorium.jobs.training.samples import Sample, require_fields
from sensorium.platform.errors import InvalidSample
from sensorium.platform.optional import require

__all__ = ["Volume", "body_of", "filled", "greatest", "prepared", "upright"]

#: denser than any lung, lighter than fat with noise
_TISSUE = -300
#: what is thinner is no body, mm: tables and blankets are
_THIN = 10.0
#: HU of air and of soft tissue with fat; a chest CT has both
_AIR, _SOFT = (-1100, -700), (-250, 250)
_LEAST_SHARE = 0.005
_HIGHEST_HU = 32767
#: axis of [Z, Y, X] of each letter, and whether it grows as in RAS
_SIDES = {"R": (2, True), "L": (2, False), "A": (1, True), "P": (1, False), "S": (0, True), "I": (0, False)}


@dataclass(frozen=True)
class Volume:
    """A CT volume, upright: z grows to the head, y to the front, x to the patient's right.

    Attributes:
        hu: int16 [Z, Y, X].
        spacing: of z, y, x in mm.
        body: bool [Z, Y, X].
        orientation: three letters, of the sample; see :func:`upright`.
    """

    hu: NDArray[np.int16]
    spacing: tuple[float, float, float]
    body: NDArray[np.bool_]
    orientation: str

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing)) / 1000

    def returned(self, array: NDArray[Any]) -> NDArray[Any]:
        """An upright array [Z, Y, X] in the sample's own orientation."""
        return np.ascontiguousarray(upright(array, self.orientation, back=True))


def upright(array: NDArray[Any], orientation: str, *, back: bool = False) -> NDArray[Any]:
    """An array [Z, Y, X] turned from an orientation (letters for x, y, z) to RAS, or back; a view."""
    sides = [_SIDES[letter] for letter in reversed(orientation)]  # of the array's axes
    if back:
        array = np.flip(array, tuple(axis for axis, grows in sides if not grows))
        back_to: NDArray[Any] = array.transpose([axis for axis, _ in sides])
        return back_to
    array = array.transpose(np.argsort([axis for axis, _ in sides]))
    return np.flip(array, tuple(axis for axis, grows in sides if not grows))


def prepared(sample: Sample) -> Volume:
    """A sample as an upright volume in HU.

    Raises:
        InvalidSample: no volume, no spacing, NaN, another modality or unit, or values that cannot be HU.
    """
    require_fields(sample, ("volume", "spacing"))
    name = f"sample {sample.get('id', '?')!r}"
    values = np.asarray(sample["volume"])
    if values.ndim != 3 or 0 in values.shape:
        raise InvalidSample(
            f"{name}, field 'volume': needs the axes z, y, x; got shape {values.shape}. Give one volume."
        )
    _check_kind(name, sample)
    values, low = _checked(name, values)
    orientation = str(sample.get("orientation") or "RAS")
    if len(orientation) != 3 or sorted(_SIDES.get(one, (9, True))[0] for one in orientation) != [0, 1, 2]:
        raise InvalidSample(
            f"{name}, field 'orientation': {orientation!r} names no three axes. Give three letters, such as RAS."
        )
    spacing = np.asarray(sample["spacing"], np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise InvalidSample(f"{name}, field 'spacing': {spacing.tolist()} is no voxel size. Give z, y, x in mm.")
    axes = np.argsort([_SIDES[letter][0] for letter in reversed(orientation)])
    turned = tuple(float(one) for one in spacing[axes])
    hu = np.ascontiguousarray(upright(_whole(values, low), orientation))
    try:
        body = body_of(hu, (turned[0], turned[1], turned[2]))
    except InvalidSample as error:
        raise InvalidSample(f"{name}: {error}") from error
    return Volume(hu, (turned[0], turned[1], turned[2]), body, orientation)


def _check_kind(name: str, sample: Sample) -> None:
    for field, wanted, remedy in (
        ("modality", "CT", ""),
        ("unit", "HU", ", or, if it is in HU, import it again with unit=HU"),
    ):
        value = sample.get(field)
        if value not in (None, "", wanted):
            raise InvalidSample(
                f"{name}, field {field!r}: {value!r}; lungs are found in CT volumes in HU only. Give one{remedy}."
            )


def _checked(name: str, values: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Values that may be HU; and the lowest that counts."""
    if values.dtype.kind not in "iuf":
        raise InvalidSample(
            f"{name}, field 'volume': values of type {values.dtype} are no HU. Give integers or floats."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise InvalidSample(
            f"{name}, field 'volume': {bad} values are NaN or infinite. Import it again with nan=VALUE."
        )
    thin = values[:: max(1, len(values) // 64), :: max(1, values.shape[1] // 128), :: max(1, values.shape[2] // 128)]
    shares = [float(((thin >= low) & (thin <= high)).mean()) for low, high in (_AIR, _SOFT)]
    if min(shares) < _LEAST_SHARE or thin.max() > _HIGHEST_HU:
        raise InvalidSample(
            f"{name}, field 'volume': values from {values.min():g} to {values.max():g} are not those of a chest CT in HU: "
            f"{shares[0]:.1%} are air (about -1000) and {shares[1]:.1%} soft tissue (about 0 to 80). Rescale stored values with "
            "slope and intercept first."
        )
    return values, LOWEST


def _whole(values: NDArray[Any], low: int) -> NDArray[np.int16]:
    """HU as whole numbers, padding as air; slice by slice, so that no second float copy comes to be."""
    out = np.empty(values.shape, np.int16)
    for place, plane in enumerate(values):
        out[place] = np.clip(np.rint(plane) if plane.dtype.kind == "f" else plane, low, _HIGHEST_HU)
    return out


def body_of(hu: NDArray[np.int16], spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    """The body, bool [Z, Y, X]; see the module's text.

    Raises:
        InvalidSample: nothing is as large and dense as a body.
    """
    solid = filled(hu > _TISSUE)
    rows, columns = (max(1, round(_THIN / 2 / one)) for one in spacing[1:])
    radii = (0, rows, columns)
    core = greatest(lowest(solid.view(np.uint8), radii).astype(bool))
    if core is None:
        raise InvalidSample("nothing in the volume is as large and dense as a body. Give a chest CT in HU.")
    grown: NDArray[np.bool_] = ~lowest((~core).view(np.uint8), radii).astype(bool)
    return np.asarray(solid & grown)


def greatest(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The connected part (6 neighbours) with most voxels; None where the mask is empty."""
    ndimage = require("scipy", "segment volumes").ndimage
    labels, count = ndimage.label(mask)
    if not count:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask [Z, Y, X] with everything that it encloses in an axial slice."""
    ndimage = require("scipy", "segment volumes").ndimage
    out = np.empty_like(mask)
    for place, plane in enumerate(mask):
        labels, count = ndimage.label(np.pad(~plane, 1, constant_values=True))
        out[place] = labels[1:-1, 1:-1] != labels[0, 0] if count else plane
    return out
