"""Volumes in MetaImage files, as ITK writes them: ``.mha``, and ``.mhd`` with its ``.raw`` or ``.zraw`` beside it.

``volume`` is [Z, Y, X] in the type of the file, turned (without resampling) to the orientation RAS, as the NIfTI importer does
it; ``orientation``, ``spacing`` (z, y, x in mm) and ``affine`` (16 values, (x, y, z) indices to millimetres in RAS) follow
from ``ElementSpacing``, ``TransformMatrix`` and ``Offset``, which are in LPS. Without a matrix ``AnatomicalOrientation`` is
used, which names the sides that the axes come *from*; with one it is not, and ``CenterOfRotation`` never is, as in ITK.

A file called like a volume with an end such as ``_mask`` or ``_seg``, or under the same name in a folder ``masks`` or
``labels``, becomes its ``mask``, as with NIfTI.

The header is read here, and nothing but NumPy and zlib touches the data: their length is known beforehand, and nothing
beyond it is inflated. Data in text, in lists of files and in files of other folders are refused.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.fields import Field
from sensorium.catalog.importer import Importer, Item, Source, suffix
from sensorium.catalog.importers import _folders, _metadata, _volumes
from sensorium.catalog.importers._files import head, number, once, probe, unreadable
from sensorium.catalog.importers._finite import NAN_OPTION, finite
from sensorium.catalog.importers.nifti import upright
from sensorium.platform.errors import UnreadableFile

__all__ = ["importer"]

Array = npt.NDArray[Any]

_SUFFIXES = frozenset((".mha", ".mhd"))
#: files of values, which say nothing without a header
_DATA = frozenset((".raw", ".zraw"))
_RESERVED = ("volume", "mask", "spacing", "orientation", "unit", "affine")
_MAX_VOXELS = 1e9
_HEADER_BYTES = 1 << 16
_EXPORT = "Export it anew from its source, or leave it out."
_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
#: the side that an axis comes from -> its direction in RAS
_FROM = {
    **{"R": (-1, 0, 0), "L": (1, 0, 0), "A": (0, -1, 0), "P": (0, 1, 0), "I": (0, 0, 1), "S": (0, 0, -1)},
}
#: how far the grids of volume and mask may be apart, mm
_GRID = 0.1


@dataclass(frozen=True)
class _Header:
    """What a header says, checked.

    Attributes:
        shape: [Z, Y, X].
        kind: of the values, in the file's byte order.
        affine: 4 x 4, indices (x, y, z) to millimetres in RAS.
        data: file of the values.
        start: of the values in it; -1 where they are its end.
        packed: length of the compressed values, 0 where that is not said, None where they are not compressed.
    """

    shape: tuple[int, int, int]
    kind: np.dtype[Any]
    affine: npt.NDArray[np.float64]
    data: Path
    start: int
    packed: int | None

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.kind.itemsize


def _is_meta(path: Path) -> float | None:
    if suffix(path) in _DATA:
        return None
    words = _words(head(path, _HEADER_BYTES))[0]
    return float({"NDims", "DimSize", "ElementType", "ElementDataFile"} <= set(words))


def _matches(source: Source) -> float:
    return probe(source, _SUFFIXES | _DATA, _is_meta)


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
    volume, affine = _load(item.paths[0], limit)
    sample = {
        **item.scalars,
        "volume": finite(item.paths[0], volume, options),
        "spacing": np.linalg.norm(affine[:3, :3], axis=0)[::-1].tolist(),
        "orientation": "RAS",
        "affine": affine.ravel().tolist(),
    }
    if options.get("unit"):
        sample["unit"] = options["unit"]
    if len(item.paths) > 1:
        sample["mask"] = _mask(item.paths[1], item.paths[0], volume.shape, affine, limit)
    return sample


def _load(path: Path, limit: float) -> tuple[Array, npt.NDArray[np.float64]]:
    """The volume [Z, Y, X] in RAS orientation, and its affine matrix."""
    try:
        header = _header(path)
        voxels = math.prod(header.shape)
        if voxels > limit:
            problem = f"its header claims {voxels} voxels {header.shape}, more than the limit of {limit:g}"
            remedy = f"Cut it into blocks, or, if it is real, raise the limit with max_voxels={voxels}."
            raise unreadable(path, problem, remedy)
        values = np.frombuffer(_content(path, header), header.kind).reshape(header.shape)
    except UnreadableFile:
        raise
    except (OSError, ValueError, OverflowError, zlib.error) as error:
        raise unreadable(path, f"cannot be decoded as MetaImage ({error})", _EXPORT) from error
    return upright(values.astype(header.kind.newbyteorder("="), copy=False).transpose(2, 1, 0), header.affine)


def _words(start: bytes) -> tuple[dict[str, str], int]:
    """The keys of a header with their values, and where it ends; ``ElementDataFile`` is its last line."""
    words: dict[str, str] = {}
    end = 0
    while "ElementDataFile" not in words:
        stop = start.find(b"\n", end)
        line = start[end:] if stop < 0 else start[end:stop]
        key, mark, value = line.partition(b"=")
        if not mark or len(key) > 64:
            break
        words[key.decode("latin-1").strip()] = value.decode("utf-8", "surrogateescape").strip()
        end = len(start) if stop < 0 else stop + 1
    return words, end


def _header(path: Path) -> _Header:
    if not path.exists():
        raise unreadable(path, "is gone", "Import it anew.")
    words, end = _words(head(path, _HEADER_BYTES))
    absent = [key for key in ("NDims", "DimSize", "ElementType", "ElementDataFile") if key not in words]
    if absent:
        raise unreadable(path, f"is no MetaImage file (its header has no {absent[0]})", _EXPORT)
    _refuse_others(path, words)
    sizes = [int(text) for text in words["DimSize"].split()]
    if len(sizes) != int(words["NDims"]) or min(sizes, default=0) < 1:
        raise unreadable(path, f"has DimSize {words['DimSize']} and NDims {words['NDims']}", _EXPORT)
    if len(sizes) < 3 or math.prod(sizes[3:]) != 1:
        raise unreadable(path, f"has shape {sizes}, not that of one volume (x, y, z)", "Save one file per volume.")
    big = any(words.get(key, "").lower() == "true" for key in ("ElementByteOrderMSB", "BinaryDataByteOrderMSB"))
    name = words["ElementDataFile"]
    local = name.upper() == "LOCAL"
    if not local and (Path(name).name != name or name in ("", ".", "..")):
        raise unreadable(path, f"its values are said to be in {name!r}, not beside it", "Put both into one folder.")
    return _Header(
        shape=(sizes[2], sizes[1], sizes[0]),
        kind=np.dtype(_TYPES[words["ElementType"]]).newbyteorder(">" if big else "<"),
        affine=_affine(path, words, len(sizes)),
        data=path if local else path.parent / name,
        start=int(words.get("HeaderSize", "0")) or (end if local else 0),
        packed=int(words.get("CompressedDataSize", "0")) if words.get("CompressedData", "").lower() == "true" else None,
    )


def _refuse_others(path: Path, words: Mapping[str, str]) -> None:
    """Refuse what the format can say and this importer does not take."""
    if words["ElementType"] not in _TYPES or words.get("ElementNumberOfChannels", "1") != "1":
        problem = f"has {words.get('ElementNumberOfChannels', '1')} channels of {words['ElementType']}"
        raise unreadable(path, problem, f"Save it with one channel of {', '.join(_TYPES)}.")
    if words.get("ObjectType", "Image") != "Image" or words.get("BinaryData", "True").lower() == "false":
        raise unreadable(path, "has no binary image", "Save it as an image with BinaryData = True.")
    if words["ElementDataFile"].split()[:1] == ["LIST"] or "%" in words["ElementDataFile"]:
        raise unreadable(path, "has its values in a list of files", "Save it with one file of values.")
    slope = words.get("ElementToIntensityFunctionSlope", "1")
    shift = words.get("ElementToIntensityFunctionOffset", "0")
    if (float(slope), float(shift)) != (1.0, 0.0):
        raise unreadable(path, f"has values to be scaled ({slope}, {shift})", "Save it with its true values.")


def _affine(path: Path, words: Mapping[str, str], axes: int) -> npt.NDArray[np.float64]:
    """Indices (x, y, z) to millimetres in RAS."""
    spacing = _numbers(path, words, ("ElementSpacing", "ElementSize"), axes, [1.0] * axes)
    offset = _numbers(path, words, ("Offset", "Position", "Origin"), axes, [0.0] * axes)
    identity = np.eye(axes).ravel().tolist()
    matrix = _numbers(path, words, ("TransformMatrix", "Orientation", "Rotation"), axes * axes, identity)
    result = np.eye(4)
    # the directions of the axes stand one after the other; as columns, and from LPS to RAS
    result[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ matrix.reshape(axes, axes)[:3, :3].T
    letters = words.get("AnatomicalOrientation", "")
    named = {"TransformMatrix", "Orientation", "Rotation"} & set(words)
    if not named and len(letters) >= 3 and set(letters[:3]) <= set(_FROM):
        result[:3, :3] = np.array([_FROM[letter] for letter in letters[:3]]).T
    result[:3, :3] *= spacing[:3]
    result[:3, 3] = offset[:3] * (-1, -1, 1)
    lengths = np.linalg.norm(result[:3, :3], axis=0)
    if not lengths.all() or abs(np.linalg.det(result[:3, :3] / lengths)) < 1e-6:
        problem = f"its spacing {spacing.tolist()} and matrix {matrix.tolist()} give no voxel size"
        raise unreadable(path, problem, "Repair ElementSpacing or TransformMatrix.")
    return result


def _numbers(
    path: Path, words: Mapping[str, str], names: tuple[str, ...], count: int, default: list[float]
) -> npt.NDArray[np.float64]:
    """The numbers of the first key that is there; ``default`` where none is."""
    text = next((words[name] for name in names if name in words), None)
    values = np.array(default if text is None else [float(part) for part in text.split()])
    if values.shape != (count,) or not np.isfinite(values).all():
        raise unreadable(path, f"has {names[0]} = {text}, not {count} finite numbers", _EXPORT)
    return values


def _content(path: Path, header: _Header) -> bytes:
    """The values, of which there are exactly as many as the header says."""
    if not header.data.is_file():
        raise unreadable(path, f"its values are missing: there is no {header.data.name} beside it", "Put it there.")
    there = header.data.stat().st_size
    length = header.nbytes if header.packed is None else header.packed or there - max(header.start, 0)
    start = header.start if header.start >= 0 else there - length
    if start < 0 or start + length > there or (header.packed is None and start + length < there):
        problem = f"its header claims {length} bytes of values from {start} on, {header.data.name} has {there} bytes"
        raise unreadable(path, problem, "It is cut off or its header is wrong: fetch it anew.")
    with header.data.open("rb") as stream:
        stream.seek(start)
        content = stream.read(length)
    if header.packed is None:
        return content
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # zlib or gzip
    inflated = inflater.decompress(content, header.nbytes + 1)
    if len(inflated) != header.nbytes or not inflater.eof:
        problem = f"its compressed values are {len(inflated)} bytes or more, its header claims {header.nbytes}"
        raise unreadable(path, problem, "It is cut off or damaged: fetch it anew.")
    return inflated


def _mask(path: Path, owner: Path, shape: tuple[int, ...], affine: npt.NDArray[np.float64], limit: float) -> Array:
    values, grid = _load(path, limit)
    if values.shape != shape or not np.allclose(grid, affine, atol=_GRID, rtol=0):
        problem = f"is not on the grid of {owner} (shape {values.shape} and {shape})"
        raise unreadable(path, problem, "Resample it to the volume's grid.")
    whole = np.nan_to_num(values).astype(np.int64) if values.dtype.kind == "f" else values
    if not np.array_equal(values, whole):
        raise unreadable(path, "is no mask: it has fractions", "Save it with whole numbers.")
    return whole if values.dtype.kind != "f" else whole.astype(np.int32)


importer = Importer(
    name="metaimage",
    title="MetaImage volumes (.mha, .mhd)",
    modality="volume",
    matches=_matches,
    guarded=False,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "unit": "of the values, such as HU (default: none)",
        "max_voxels": f"refuse files whose header claims more (default {_MAX_VOXELS:.0f})",
        **NAN_OPTION,
        **_folders.MASK_OPTION,
        **_metadata.FILE_OPTIONS,
    },
)
