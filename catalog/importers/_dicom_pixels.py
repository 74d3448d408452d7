"""Pixels of DICOM slices, decoded a frame at a time, and what their numbers mean."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.importers._files import unreadable
from sensorium.platform.errors import UserError
from sensorium.platform.optional import require

__all__ = ["Slices", "load", "rescaled"]

Array = npt.NDArray[Any]

_EXPORT = "Export it anew from its source, or leave it out."
#: transfer syntaxes whose pixels are as long as their header says
_PLAIN = frozenset(("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"))
_RUN_LENGTH = "1.2.840.10008.1.2.5"  # pydicom decodes it by itself


@dataclass
class Slices:
    """Stored values of a stack.

    Attributes:
        stored: [Z, Y, X].
        scales: slope and intercept of each slice.
        unit: as the header of the first file means it; empty where it says none.
        padding: stored value of what was not scanned.
    """

    stored: Array
    scales: list[tuple[float, float]]
    unit: str
    padding: int | None


def load(
    paths: Sequence[Path], frames: Sequence[tuple[int, int]], shape: tuple[int, int], modality: str, limit: float
) -> Slices:
    """Decode slices.

    Args:
        paths: the files.
        frames: of each slice the number of its file and its number in that file.
        shape: rows and columns that each must have.
        modality: of the series.
        limit: of voxels in one file.

    Raises:
        UnreadableFile: a file is gone, damaged, or not what its plan says.
        MissingDependency: the pixels are compressed, and no decoder is installed.
    """
    result: Slices | None = None
    for number, path in enumerate(paths):
        wanted = {frame: place for place, (owner, frame) in enumerate(frames) if owner == number}
        data = _opened(path, shape, limit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                scales = {frame: _scale(path, data, frame) for frame in wanted}
                pixels = list(require("pydicom.pixels", "decode pixels").iter_pixels(data, indices=sorted(wanted)))
                unit, padding = _unit(data, modality), data.get("PixelPaddingValue")
            except UserError:
                raise
            except Exception as error:  # decoders let errors of many kinds through on damaged files
                raise unreadable(path, f"its pixels cannot be decoded ({_told(error)})", _EXPORT) from error
        for frame, pixel in zip(sorted(wanted), pixels, strict=True):
            if result is None:
                start = None if padding is None else int(np.array(int(padding)).astype(pixel.dtype))  # 63536 is -2000
                result = Slices(np.zeros((len(frames), *shape), pixel.dtype), [(1.0, 0.0)] * len(frames), unit, start)
            if pixel.shape != shape:
                raise unreadable(path, f"its pixels are {pixel.shape}, its header says {shape}", _EXPORT)
            common = np.promote_types(result.stored.dtype, pixel.dtype)
            result.stored = result.stored.astype(common, copy=False)
            result.stored[wanted[frame]] = pixel
            result.scales[wanted[frame]] = scales[frame]
    if result is None:
        raise unreadable(paths[0], "has no slice", _EXPORT)
    return result


def _opened(path: Path, shape: tuple[int, int], limit: float) -> Any:
    """The data set of ``path``, its sizes compared with the file before its pixels are decoded."""
    pydicom = require("pydicom", "read DICOM files")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            there = path.stat().st_size
            data = pydicom.dcmread(path, force=True, defer_size=there)  # no element that claims more is read
            syntax = str(data.file_meta.get("TransferSyntaxUID") or "1.2.840.10008.1.2")
            count = int(data.get("NumberOfFrames") or 1)
            claimed = (int(data.Rows), int(data.Columns))
            size = count * claimed[0] * claimed[1] * int(data.get("BitsAllocated") or 16) // 8
    except Exception as error:
        raise unreadable(path, f"its header cannot be read ({_told(error)})", _EXPORT) from error
    if claimed != shape:
        raise unreadable(path, f"has slices {claimed}, its plan says {shape}", "Import it anew.")
    if count * shape[0] * shape[1] > limit:
        problem = f"its header claims {count} frames of {shape}, more voxels than the limit of {limit:g}"
        raise unreadable(path, problem, "If they are real, raise the limit with max_voxels=.")
    if syntax in _PLAIN and size > there:
        problem = f"its header claims {size} bytes of pixels ({count} x {shape}), the file has {there}"
        raise unreadable(path, problem, "It is cut off or damaged: fetch it anew.")
    if syntax not in _PLAIN and syntax != _RUN_LENGTH:
        require("pylibjpeg", "decode compressed DICOM files")
    return data


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"


def _scale(path: Path, data: Any, frame: int) -> tuple[float, float]:
    """Slope and intercept of a frame: in its functional groups, in those that all share, or of the file."""
    if data.get("ModalityLUTSequence"):
        raise unreadable(path, "its values are looked up in a table (Modality LUT)", "Convert it to rescaled values.")
    source = _transformation(data, frame)
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    scale = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    if not np.isfinite(scale).all() or scale[0] == 0:
        raise unreadable(path, f"its slope and intercept are {scale}", "Repair RescaleSlope and RescaleIntercept.")
    return scale


def _transformation(data: Any, frame: int) -> Any:
    """Where the slope of a frame stands."""
    parts = data.get("PerFrameFunctionalGroupsSequence") or []
    shared = data.get("SharedFunctionalGroupsSequence") or []
    for group in (*parts[frame : frame + 1], *shared[:1]):
        inner = group.get("PixelValueTransformationSequence")
        if inner:
            return inner[0]
    return data


def _unit(data: Any, modality: str) -> str:
    """What the header says of the unit: Hounsfield for CT, ``Units`` of PET, ``RescaleType`` else."""
    source = _transformation(data, 0)
    kind = str(source.get("RescaleType") or data.get("Units") or "")
    if modality == "CT" and kind in ("", "US") and source.get("RescaleIntercept") is not None:
        return "HU"
    return "" if kind == "US" else kind


def rescaled(path: Path, slices: Slices) -> Array:
    """Values in their unit [Z, Y, X]: integers where slopes and intercepts are whole, else float32."""
    stored, scales = slices.stored, slices.scales
    if stored.dtype.kind not in "iuf":
        raise unreadable(path, f"has values of type {stored.dtype}", _EXPORT)
    if stored.dtype.kind != "f" and all(scale == (1.0, 0.0) for scale in scales):
        return stored.astype(stored.dtype.newbyteorder("="), copy=False)
    if stored.dtype.kind == "f" or not all(slope.is_integer() and shift.is_integer() for slope, shift in scales):
        values = np.empty(stored.shape, np.float32)
        for index, (slope, shift) in enumerate(scales):
            with np.errstate(over="ignore", invalid="ignore"):
                values[index] = stored[index].astype(np.float64) * slope + shift
        if not np.isfinite(values).all():
            raise unreadable(path, "has values that are not finite", "Repair or leave it out.")
        return values
    ends = [
        int(end) * int(slope) + int(shift)
        for part, (slope, shift) in zip(stored, scales, strict=True)
        for end in (part.min(), part.max())
    ]
    kind = next(
        (k for k in ("int16", "int32", "int64") if np.iinfo(k).min <= min(ends) <= max(ends) <= np.iinfo(k).max), ""
    )
    if not kind:
        raise unreadable(path, f"has values from {min(ends)} to {max(ends)}, more than 64 bits", _EXPORT)
    whole = np.empty(stored.shape, kind)
    for index, (slope, shift) in enumerate(scales):
        whole[index] = stored[index].astype(np.int64) * int(slope) + int(shift)
    return whole
