"""Volumes in NIfTI-1 and NIfTI-2 files, ``.nii`` and ``.nii.gz``, and FreeSurfer's ``.mgh`` and ``.mgz``.

``volume`` is [Z, Y, X], turned (without resampling) to the orientation RAS: x grows to the patient's right, y to the
front, z to the head, as nearly as the grid allows. ``orientation`` says so; ``spacing`` is (z, y, x) in millimetres;
``affine`` has the 16 values, row by row, of the matrix from (x, y, z) indices of this array to millimetres in the
patient's space, so that nothing of the place in space is lost. Integers without scaling keep their type; scaled values
(``scl_slope``) and all floats are float32.

A file called like a volume with an end such as ``_mask``, ``_seg`` or ``_label``, or lying under the same name in a
folder ``masks`` or ``labels`` beside it, becomes its ``mask``. A mask of whole numbers keeps them. One with fractions
was resampled, and is 1 where it reaches half of its maximum, else 0.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.fields import Field
from sensorium.catalog.importer import Importer, Item, Source, suffix
from sensorium.catalog.importers import _folders, _metadata, _volumes
from sensorium.catalog.importers._files import number, once, probe, unreadable
from sensorium.catalog.importers._finite import NAN_OPTION, finite
from sensorium.platform.errors import UnreadableFile
from sensorium.platform.optional import require

__all__ = ["importer", "load_mask", "upright"]

Array = npt.NDArray[Any]

_SUFFIXES = frozenset((".nii", ".nii.gz", ".mgh", ".mgz"))
_PACKED = (".nii.gz", ".mgz")
#: where the voxels of an MGH file begin, and how many fit into its header's types
_MGH_HEADER, _MGH_TYPES = 284, (0, 1, 3, 4, 10)
_RESERVED = ("volume", "mask", "spacing", "orientation", "unit", "affine")
_MAX_VOXELS = 1e9
_EXPORT = "Export it anew from its source, or leave it out."
#: deflate cannot shrink anything further
_MAX_RATIO = 1032
#: to millimetres; files that name no unit mean millimetres
_UNITS = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}
#: how far the grids of volume and mask may be apart, mm
_GRID = 0.1


def _is_nifti(path: Path) -> float:
    try:
        with gzip.open(path, "rb") if suffix(path) in _PACKED else path.open("rb") as stream:
            start = stream.read(348)
    except (OSError, EOFError, zlib.error):
        return 0.0
    if suffix(path) in (".mgh", ".mgz"):
        return float(_is_mgh(start))
    if len(start) < 16:
        return 0.0
    sizes = {struct.unpack(f"{order}i", start[:4])[0] for order in "<>"}
    first = 348 in sizes and start[344:348] == b"n+1\0"
    second = 540 in sizes and start[4:8] == b"n+2\0"
    return float(first or second)


def _is_mgh(start: bytes) -> bool:
    """Version 1, four lengths of an axis, a known type of values."""
    if len(start) < _MGH_HEADER:
        return False
    version, *lengths, kind = struct.unpack(">6i", start[:24])
    return version == 1 and all(0 < length < 1 << 20 for length in lengths) and kind in _MGH_TYPES


def _matches(source: Source) -> float:
    return probe(source, _SUFFIXES, _is_nifti)


@once
def _pairs(source: Source) -> _folders.Pairs:
    return _volumes.pairs(source, _SUFFIXES)


@once
def _known(source: Source) -> _metadata.Known:
    return _metadata.of_files(source, _pairs(source).paths, _RESERVED, label="none")


def _plan(source: Source) -> Iterator[Item]:
    return _volumes.items(source, _pairs(source), _known(source))


def _fields(source: Source) -> tuple[Field, ...]:
    return (*_known(source).fields(), _volumes.AFFINE)


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    limit = number(options, "max_voxels", _MAX_VOXELS)
    array, affine = _load(item.paths[0], limit, options)
    sample = {
        **item.scalars,
        "volume": array,
        "spacing": np.linalg.norm(affine[:3, :3], axis=0)[::-1].tolist(),
        "orientation": "RAS",
        "affine": affine.ravel().tolist(),
    }
    if options.get("unit"):
        sample["unit"] = options["unit"]
    if len(item.paths) > 1:
        sample["mask"] = load_mask(item.paths[1], item.paths[0], array.shape, affine, limit)
    return sample


def _load(path: Path, limit: float, options: Mapping[str, str]) -> tuple[Array, npt.NDArray[np.float64]]:
    """The array [Z, Y, X] in RAS orientation, and its affine matrix for (x, y, z) in mm."""
    nibabel = require("nibabel", "read NIfTI files")
    if not _is_nifti(path):
        raise unreadable(path, "is no NIfTI or MGH file (its header says otherwise)", _EXPORT)
    try:
        image = nibabel.load(path)
        _check_header(path, image, limit)
        if suffix(path) in _PACKED:
            image = _decompressed(path, image)
        scaled = (float(image.dataobj.slope), float(image.dataobj.inter)) != (1.0, 0.0)
        data = np.asanyarray(image.dataobj)
        data = data.reshape(data.shape[:3])  # [X, Y, Z]; further axes have length 1
        affine = np.array(image.affine, dtype=np.float64)
        if hasattr(image.header, "get_xyzt_units"):  # MGH has millimetres only
            affine[:3] *= _UNITS.get(image.header.get_xyzt_units()[0], 1.0)
    except UnreadableFile:
        raise
    except Exception as error:  # nibabel lets errors of many kinds through on broken headers and cut-off files
        raise unreadable(path, f"cannot be decoded as NIfTI ({type(error).__name__}: {error})", _EXPORT) from error
    _check_grid(path, affine)
    keep = data.dtype.kind in "iu" and not scaled
    data = data.astype(data.dtype.newbyteorder("=") if keep else np.float32, copy=False)
    if not keep:
        data = finite(path, data, options)
    return upright(data, affine)


def upright(data: Array, affine: npt.NDArray[np.float64]) -> tuple[Array, npt.NDArray[np.float64]]:
    """A volume turned to the orientation RAS, without resampling.

    Args:
        data: [X, Y, Z] along any axes of the patient's space.
        affine: 4 x 4, from (x, y, z) indices to millimetres in the patient's RAS space.

    Returns:
        The volume [Z, Y, X], and the affine matrix of its (x, y, z) indices.
    """
    nibabel = require("nibabel", "turn volumes")
    turn = nibabel.orientations.io_orientation(affine)
    turned = affine @ nibabel.orientations.inv_ornt_aff(turn, data.shape)
    data = nibabel.orientations.apply_orientation(data, turn)
    return np.ascontiguousarray(data.transpose(2, 1, 0)), turned  # [X, Y, Z] -> [Z, Y, X]


def _decompressed(path: Path, image: Any) -> Any:
    """``image`` in memory, its file read to the very end, where gzip keeps the checksum of everything before."""
    size = int(image.dataobj.offset) + math.prod(image.shape) * image.header.get_data_dtype().itemsize
    with gzip.open(path, "rb") as stream:
        content = stream.read(size)
        while stream.read(1 << 20):
            continue
    return type(image).from_bytes(content)


def _check_header(path: Path, image: Any, limit: float) -> None:
    """Refuse what is no volume, and sizes that the file cannot have, before anything is allocated."""
    shape = tuple(int(length) for length in image.shape)
    if len(shape) < 3 or math.prod(shape[3:]) != 1:
        raise unreadable(
            path, f"has shape {shape}, not that of one volume (x, y, z)", "Split it into one file per volume."
        )
    kind = image.header.get_data_dtype()
    if kind.kind not in "iuf":
        raise unreadable(path, f"has values of type {kind}", "Save it with integers or floats.")
    voxels = math.prod(shape)
    if voxels < 1:
        raise unreadable(path, f"has shape {shape}, without any voxel", "Leave it out.")
    there = path.stat().st_size
    most = there * _MAX_RATIO if suffix(path) in _PACKED else there
    if int(image.dataobj.offset) + voxels * kind.itemsize > most:
        raise unreadable(
            path,
            f"its header claims {voxels * kind.itemsize} bytes of voxels {shape}, the file has {there}",
            "It is cut off or damaged: fetch it anew.",
        )
    if voxels > limit:
        raise unreadable(
            path,
            f"its header claims {voxels} voxels {shape}, more than the limit of {limit:g}",
            f"Cut it into blocks, or, if it is real, raise the limit with max_voxels={voxels}.",
        )


def _check_grid(path: Path, affine: Array) -> None:
    """Refuse an affine matrix that spans no space: NaN, or an axis of length 0."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and lengths.all() and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-6):
        raise unreadable(
            path,
            f"its affine matrix {np.asarray(affine)[:3].tolist()} gives no voxel size",
            "Repair sform, qform or pixdim of its header.",
        )


def load_mask(path: Path, owner: Path, shape: tuple[int, ...], affine: npt.NDArray[np.float64], limit: float) -> Array:
    """The mask of a volume [Z, Y, X] as integers; see the module's text for masks with fractions.

    Args:
        path: of the mask.
        owner: of its volume, for the message.
        shape: of the volume as it was read.
        affine: likewise.
        limit: of voxels.

    Raises:
        UnreadableFile: it cannot be decoded, is no mask, or is not on the volume's grid.
    """
    values, grid = _load(path, limit, {})
    if values.shape != shape or not np.allclose(grid, affine, atol=_GRID, rtol=0):
        raise unreadable(
            path,
            f"is not on the grid of {owner} (shape {values.shape} and {shape})",
            "Resample it to the volume's grid.",
        )
    if values.dtype.kind in "iu":
        return values
    whole = np.rint(values)
    if np.array_equal(values, whole):
        return whole.astype(np.uint8 if whole.min() >= 0 and whole.max() <= 255 else np.int32)
    if values.max() <= 0:
        raise unreadable(path, f"is no mask: its fractions go up to {values.max()} only", _EXPORT)
    marked: Array = (values >= 0.5 * values.max()).astype(np.uint8)
    return marked


importer = Importer(
    name="nifti",
    title="NIfTI and FreeSurfer volumes (.nii, .nii.gz, .mgh, .mgz)",
    modality="volume",
    matches=_matches,
    guarded=False,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "unit": "of the values, such as HU (default: none)",
        **NAN_OPTION,
        "max_voxels": f"refuse files whose header claims more (default {_MAX_VOXELS:.0f})",
        **_folders.MASK_OPTION,
        **_metadata.FILE_OPTIONS,
    },
)
