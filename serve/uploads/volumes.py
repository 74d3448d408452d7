"""Volumes: NIfTI as its importer reads it, DICOM as one file or as a zip of slices. All are turned to orientation RAS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.importer import Item
from sensorium.catalog.importers import nifti
from sensorium.platform.optional import require
from sensorium.serve.uploads import archives
from sensorium.serve.uploads._upload import Upload, on_disk, target, too_large
from sensorium.serve.uploads.errors import NOT_TAKEN, RejectedUpload, shown
from sensorium.serve.uploads.kinds import is_dicom

__all__ = ["VOLUME", "read_dicom", "read_nifti", "read_slices"]

Array = npt.NDArray[Any]

VOLUME = "Z Y X"
_SMALLER = "Send a part of it."
_EXPORT = "Export it anew from its source."
#: values as they are, which alone can be measured before they are decoded, and the compressions that pydicom's own and
#: Pillow's decoders read
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_PACKED = (
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
)
#: how far distances of slices may differ, as a part of their mean, and directions, per element
_TOLERANCE = 0.05
#: DICOM's patient space (to the left, to the back, up) to RAS
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_nifti(upload: Upload) -> dict[str, Any]:
    """``volume`` [Z, Y, X], ``spacing``, ``orientation`` RAS and ``affine``; ``mask`` on the grid of a volume read before.

    Raises:
        RejectedUpload: 413 too many voxels, 422 damaged, or a mask on another grid.
    """
    field = target(upload)
    data = archives.gunzip(upload.data, upload.label, upload.limits) if upload.kind == "nifti_gz" else None
    with on_disk(upload, ".nii", data) as path:
        _check_nifti(upload, path)
        if field.required:
            read = nifti.importer.read(Item("upload", (path,)), {})
            return {field.name: read.pop("volume"), **read}
        owner = next(
            (one.name for one in upload.modality.arrays.values() if one.required and one.name in upload.sample), None
        )
        if owner is None or "affine" not in upload.sample:
            raise RejectedUpload(
                f"{upload.label}: its grid cannot be compared. Send the volume as NIfTI too, or .npy both."
            )
        affine = np.asarray(upload.sample["affine"], dtype=np.float64).reshape(4, 4)
        shape = upload.sample[owner].shape
        return {field.name: nifti.load_mask(path, Path(owner), shape, affine, upload.limits.voxels)}


def _check_nifti(upload: Upload, path: Path) -> None:
    """Compare the header with the limits; whether the file is as long as it says is the importer's to check."""
    nibabel = require("nibabel", "read NIfTI files")
    image = nibabel.load(path)
    voxels = math.prod(int(length) for length in image.shape)
    size = voxels * max(4, image.header.get_data_dtype().itemsize)  # scaled values become float32
    there = path.stat().st_size
    if voxels > upload.limits.voxels:
        raise too_large(
            upload, f"voxels {tuple(image.shape)} out of {there} bytes", voxels, upload.limits.voxels, _SMALLER
        )
    if size > upload.limits.array_bytes:
        raise too_large(upload, f"bytes of voxels {tuple(image.shape)}", size, upload.limits.array_bytes, _SMALLER)


# -- DICOM ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Picture:
    """What one DICOM file gives; nothing else of it is kept, whoever the patient is.

    Attributes:
        values: [Z, Y, X], rescaled.
        position: of the first voxel, mm, in DICOM's patient space; None where the file says nothing of it.
        axes: 3 x 2, directions of growing x and of growing y; likewise.
        spacing: (y, x) in mm; likewise.
        step: from frame to frame, mm; 0 where the file says nothing of it.
        series: its identifier, to see that slices belong together; it leaves this module with nobody.
        unit: of the values.
    """

    values: Array
    position: Array | None
    axes: Array | None
    spacing: tuple[float, float] | None
    step: float
    series: str
    unit: str


def read_dicom(upload: Upload) -> dict[str, Any]:
    """``volume`` [Z, Y, X] of one file: all its frames, or its one slice.

    Raises:
        RejectedUpload: 413 too many voxels, 415 colours or a compression that is not taken, 422 damaged.
    """
    return _joined(upload, [_picture(upload, upload.data, upload.label)])


def read_slices(upload: Upload) -> dict[str, Any]:
    """``volume`` [Z, Y, X] of a zip of DICOM files, one slice each, put in order by their positions.

    Raises:
        RejectedUpload: as :func:`read_dicom`; 422 for slices that are missing, or not of one series.
    """
    pictures: list[_Picture] = []
    with archives.opened(upload.data, upload.label) as archive:
        infos = archives.members(archive, len(upload.data), upload.label, upload.limits)
        for info in infos:
            name = f"{upload.label}, {shown(info.filename)}"
            content = archives.read_member(archive, info, upload.label)
            if not is_dicom(content):
                raise RejectedUpload(f"{name}: is no DICOM file. Pack nothing but the slices of one series.", NOT_TAKEN)
            pictures.append(_picture(upload, content, name))
            total = sum(picture.values.size for picture in pictures)
            if total > upload.limits.voxels or total * 4 > upload.limits.array_bytes:
                raise too_large(
                    upload, "voxels", total, min(upload.limits.voxels, upload.limits.array_bytes // 4), _SMALLER
                )
    return _joined(upload, pictures)


def _picture(upload: Upload, data: bytes, label: str) -> _Picture:
    pydicom = require("pydicom", "read DICOM files")
    with pydicom.config.disable_value_validation(), on_disk(replace(upload, label=label), ".dcm", data) as path:
        syntax = str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", ""))
        if not syntax:
            raise RejectedUpload(f"{label}: is DICOM without a transfer syntax, or cut off. {_EXPORT}")
        if syntax not in (*_PLAIN, *_PACKED):  # deflated ones unpack before anything can be measured
            raise RejectedUpload(f"{label}: transfer syntax {shown(syntax)} is not taken. {_EXPORT}", NOT_TAKEN)
        header = pydicom.dcmread(path)
        _check_dicom(upload, header, label, packed=syntax in _PACKED)
        return _placed(header, label)


def _check_dicom(upload: Upload, header: Any, label: str, *, packed: bool) -> None:
    """Compare what the file claims with the limits and with the bytes that are there."""
    frames, rows, columns = int(header.get("NumberOfFrames", 1) or 1), int(header.Rows), int(header.Columns)
    bits, voxels = int(header.BitsAllocated), frames * rows * columns
    if int(header.get("SamplesPerPixel", 1)) != 1 or bits not in (8, 16, 32):
        raise RejectedUpload(
            f"{label}: holds colours, or values of {bits} bits. Send grey values of 8, 16 or 32.", NOT_TAKEN
        )
    if min(frames, rows, columns) < 1 or "PixelData" not in header:
        raise RejectedUpload(f"{label}: holds no picture (shape {[frames, rows, columns]}). {_EXPORT}")
    if voxels > upload.limits.voxels:
        raise too_large(upload, f"voxels {[frames, rows, columns]}", voxels, upload.limits.voxels, _SMALLER)
    if voxels * 4 > upload.limits.array_bytes:
        raise too_large(upload, "bytes", voxels * 4, upload.limits.array_bytes, _SMALLER)
    there = len(header.PixelData)
    if not packed and there not in (voxels * bits // 8, voxels * bits // 8 + 1):  # padded to even length
        raise RejectedUpload(
            f"{label}: claims {voxels * bits // 8} bytes of voxels {[frames, rows, columns]}, and {there} are there. {_EXPORT}"
        )


def _placed(header: Any, label: str) -> _Picture:
    values = np.asarray(header.pixel_array)
    values = values[np.newaxis] if values.ndim == 2 else values  # [Z, Y, X]
    orientation, position = header.get("ImageOrientationPatient"), header.get("ImagePositionPatient")
    spacing = header.get("PixelSpacing")
    known = orientation is not None and position is not None and spacing is not None
    axes = np.asarray([float(value) for value in orientation]).reshape(2, 3).T if known else None
    if axes is not None and not np.allclose(axes.T @ axes, np.eye(2), atol=1e-2):  # also where it is not finite
        raise RejectedUpload(f"{label}: its ImageOrientationPatient gives no two directions. {_EXPORT}")
    kind = str(header.get("RescaleType", "HU"))
    return _Picture(
        values=_rescaled(values, float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0)), label),
        position=np.asarray([float(value) for value in position]).reshape(3) if known else None,
        axes=axes,
        spacing=(float(spacing[0]), float(spacing[1])) if known else None,
        step=float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 0),
        series=str(header.get("SeriesInstanceUID", "")),
        unit="HU" if str(header.get("Modality", "")) == "CT" and kind in ("HU", "US") else "",
    )


def _rescaled(values: Array, slope: float, intercept: float, label: str) -> Array:
    """``values`` times slope plus intercept: int32 where both are whole and nothing is lost, else float32."""
    if not (math.isfinite(slope) and math.isfinite(intercept) and slope):
        raise RejectedUpload(f"{label}: its rescale slope and intercept are {slope} and {intercept}. {_EXPORT}")
    if (slope, intercept) == (1.0, 0.0):
        return values
    largest = float(np.abs(values.astype(np.float64)).max(initial=0)) * abs(slope) + abs(intercept)
    if slope.is_integer() and intercept.is_integer() and largest < 2**31:
        scaled: Array = values.astype(np.int32) * np.int32(slope) + np.int32(intercept)
        return scaled.astype(np.int16) if largest < 2**15 else scaled
    return (values * slope + intercept).astype(np.float32)


@np.errstate(over="ignore", invalid="ignore")  # of positions that no grid will be made of
def _joined(upload: Upload, pictures: Sequence[_Picture]) -> dict[str, Any]:
    """One volume of all pictures, turned to RAS; as it stands where the files say nothing of their place."""
    name = target(upload).name
    first = pictures[0] if pictures else None
    if first is None:
        raise RejectedUpload(f"{upload.label}: holds no slice. Pack the slices of one series.")
    unit = {"unit": first.unit} if first.unit else {}
    if len(pictures) == 1:
        if first.axes is None or (not first.step and len(first.values) > 1):
            return {name: first.values, **unit}
        normal = np.cross(first.axes[:, 0], first.axes[:, 1])
        return {**_upright(name, first.values, first, normal * (first.step or 1.0)), **unit}
    ordered, step = _ordered(upload, pictures)
    return {**_upright(name, np.concatenate([one.values for one in ordered]), ordered[0], step), **unit}


def _ordered(upload: Upload, pictures: Sequence[_Picture]) -> tuple[list[_Picture], Array]:
    """The slices along their normal, and the step [3] from one to the next in mm."""
    first = pictures[0]
    if any(one.position is None or one.axes is None for one in pictures):
        raise RejectedUpload(f"{upload.label}: a slice says nothing of its place (ImagePositionPatient). {_EXPORT}")
    alike = all(
        one.series == first.series
        and one.values.shape == (1, *first.values.shape[1:])
        and np.allclose(np.asarray(one.axes), np.asarray(first.axes), atol=1e-3)
        and one.spacing == first.spacing
        for one in pictures
    )
    if not alike:
        raise RejectedUpload(
            f"{upload.label}: its slices differ in series, size, spacing or direction. Send one series."
        )
    normal = np.cross(np.asarray(first.axes)[:, 0], np.asarray(first.axes)[:, 1])
    ordered = sorted(pictures, key=lambda one: float(np.asarray(one.position) @ normal))
    places = np.asarray([np.asarray(one.position) @ normal for one in ordered])
    steps = np.diff(places)
    if not (
        np.isfinite(places).all() and (np.abs(steps - steps.mean()) <= _TOLERANCE * steps.mean()).all() and steps.all()
    ):
        raise RejectedUpload(
            f"{upload.label}: distances between its slices go from {steps.min():g} to {steps.max():g} mm. "
            "Send each slice once, and all of them."
        )
    step = (np.asarray(ordered[-1].position) - np.asarray(ordered[0].position)) / (len(ordered) - 1)
    return ordered, step


def _upright(name: str, values: Array, first: _Picture, step: Array) -> dict[str, Any]:
    """``values`` [Z, Y, X] turned to RAS, with spacing (z, y, x) in mm and affine."""
    affine = np.eye(4)
    rows, columns = first.spacing or (1.0, 1.0)  # distance of rows is that along y
    directions = np.asarray(first.axes)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = directions[:, 0] * columns, directions[:, 1] * rows, step
    affine[:3, 3] = first.position
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9):
        raise RejectedUpload(f"field {name!r}: its spacing and position give no grid. {_EXPORT}")
    turned, grid = nifti.upright(values.transpose(2, 1, 0), _TO_RAS @ affine)
    return {
        name: turned,
        "spacing": np.linalg.norm(grid[:3, :3], axis=0)[::-1].tolist(),
        "orientation": "RAS",
        "affine": grid.ravel().tolist(),
    }
