"""From the bytes of strangers to one checked sample: which kind of file is read by what, for which fields.

What a modality takes follows from the axes of its fields: a PNG can be any field ``H W C``, NIfTI any ``Z Y X``. So a
modality of somebody else is served without a line here. NumPy arrays and JSON can be any field of any modality.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sensorium.catalog import modality as modalities
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.fields import ArrayField, check_name
from sensorium.catalog.modality import Modality
from sensorium.catalog.validation import check_sample
from sensorium.platform.errors import InvalidName, InvalidSample, UnknownField
from sensorium.serve.uploads import arrays, npy, pictures, series, sounds, values, videos, volumes
from sensorium.serve.uploads._upload import Upload
from sensorium.serve.uploads.errors import NOT_TAKEN, TOO_LARGE, RejectedUpload, shown
from sensorium.serve.uploads.kinds import TITLES, recognise
from sensorium.serve.uploads.limits import Limits

__all__ = ["WHOLE", "check_files", "only_arrays", "read", "takes"]

#: the name of a file that holds a whole sample, or the main field of its modality
WHOLE = "file"

_NAME = "upload"
_SAYS = f"data set {_NAME!r}, sample {_NAME!r}, "


@dataclass(frozen=True)
class _Reader:
    """How files of some kinds are read.

    Attributes:
        read: gives fields of a sample by name.
        dims: of the fields that such a file can be; empty for any.
        whole: such a file may hold several fields, so that none need be named.
    """

    read: Callable[[Upload], dict[str, Any]]
    dims: tuple[str, ...] = ()
    whole: bool = False


_PICTURE = _Reader(pictures.read_picture, (pictures.PICTURE, pictures.MARK))
_SOUND = _Reader(sounds.read_sound, (sounds.SOUND,))
_NIFTI = _Reader(volumes.read_nifti, (volumes.VOLUME,))
_RECORDING = _Reader(series.read_recording, (series.SERIES,), whole=True)
_VIDEO = _Reader(videos.read_video, (videos.STREAM,))

#: the readers of each kind; the first whose dims fit reads
_READERS: dict[str, tuple[_Reader, ...]] = {
    "npy": (_Reader(arrays.read_array),),
    "zip": (_Reader(arrays.read_archive, whole=True),),
    "json": (_Reader(values.read_json, whole=True),),
    "csv": (_Reader(series.read_table, (series.SERIES,), whole=True),),
    "tiff": (_PICTURE, _Reader(pictures.read_bands, (pictures.BANDS,))),
    **dict.fromkeys(("png", "jpeg", "webp", "avif", "bmp"), (_PICTURE,)),
    **dict.fromkeys(("wav", "flac", "ogg"), (_SOUND,)),
    **dict.fromkeys(("nifti", "nifti_gz"), (_NIFTI,)),
    "dicom": (_Reader(volumes.read_dicom, (volumes.VOLUME,)),),
    **dict.fromkeys(("edf", "bdf"), (_RECORDING,)),
    **dict.fromkeys(("mp4", "matroska", "avi"), (_VIDEO,)),
}


def takes(modality: str) -> dict[str, tuple[str, ...]]:
    """The kinds of files (keys of ``kinds.TITLES``) that can be each array field of a modality; ``file``: any or all.

    Raises:
        UnknownPlugin: there is no such modality.
    """
    declared = modalities.get(modality)
    found = {
        name: tuple(kind for kind in TITLES if _choice(kind, [field]) is not None)
        for name, field in declared.arrays.items()
    }
    fields = list(declared.arrays.values())
    return {WHOLE: tuple(kind for kind in TITLES if _choice(kind, fields) is not None), **found}


def _choice(kind: str, fields: Iterable[ArrayField]) -> tuple[_Reader, ArrayField] | None:
    """The first field of these that a file of this kind can be, and its reader."""
    for field in fields:
        for reader in _READERS[kind]:
            if not reader.dims or field.dims in reader.dims:
                return reader, field
    return None


def read(files: Mapping[str, bytes], modality: str, scalars: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """One sample.

    Args:
        files: by field; ``file`` for one that holds a whole sample, or the modality's main field.
        modality: of the sample.
        scalars: fields that are sent beside the files, of JSON's types; lists of an array field become arrays. What a file
            says too must agree.
        limits: of all of it.

    Returns:
        Arrays (C-contiguous, native byte order; some read-only) and scalars by field, checked as the catalog checks them.

    Raises:
        RejectedUpload: names the field or file, what is wrong, and what to do.
        UnknownPlugin: there is no such modality.
    """
    declared = modalities.get(modality)
    check_files(files, scalars, limits)
    sample: dict[str, Any] = {}
    # what holds most comes first: the whole sample, then the fields that the modality requires, then marks upon them
    required = [name for name, field in declared.arrays.items() if field.required]
    for key in sorted(files, key=lambda key: (key != WHOLE, key not in required)):
        _merge(sample, _read_one(key, files[key], declared, scalars, sample, limits), f"file {key!r}")
    _merge(sample, values.fields_of(scalars, declared), "the scalars")
    return _checked(sample, declared, limits)


def check_files(files: Mapping[str, bytes], scalars: Mapping[str, Any], limits: Limits) -> None:
    """Refuse what is wrong with the names and sizes alone, before anything is looked into.

    Raises:
        RejectedUpload: 413 or 422.
    """
    if len(files) > limits.files:
        raise RejectedUpload(
            f"{len(files)} files were sent, more than {limits.files}. Send one for each field.", TOO_LARGE
        )
    if not files and not scalars:
        raise RejectedUpload("neither a file nor a value was sent. Send a file for each field, or one for all.")
    for name in (*files, *scalars):
        _check_key(name)
    total = sum(len(data) for data in files.values())
    if total > limits.body_bytes:
        raise RejectedUpload(
            f"the files have {total} bytes, more than {limits.body_bytes}. Send less at a time.", TOO_LARGE
        )
    empty = next((key for key, data in files.items() if not data), None)
    if empty is not None:
        raise RejectedUpload(f"file {empty!r}: is empty. Send its content.")
    both = set(files) & set(scalars)
    if both:
        raise RejectedUpload(f"field {min(both)!r}: was sent as a file and as a scalar. Send one of them.")
    values.check_depth(dict(scalars), "the scalars")
    try:
        size = len(json.dumps(dict(scalars))) if scalars else 0
    except (TypeError, ValueError, RecursionError) as error:
        raise RejectedUpload("the scalars are not of JSON's types. Send numbers, text and lists.") from error
    if size > limits.json_bytes:
        raise RejectedUpload(
            f"the scalars have {size} bytes, more than {limits.json_bytes}. Send arrays as files.", TOO_LARGE
        )


def _check_key(name: str) -> None:
    try:
        check_name(name, "field")
    except InvalidName as error:
        raise RejectedUpload(
            f"{shown(name)} names no field. Use the names of the modality's fields, or {WHOLE!r}."
        ) from error
    if name == "id":
        raise RejectedUpload("an upload has no id of its own. Leave it out.")


def _read_one(
    key: str, data: bytes, modality: Modality, scalars: Mapping[str, Any], sample: Mapping[str, Any], limits: Limits
) -> dict[str, Any]:
    label = "the file" if key == WHOLE else f"field {key!r}"
    kind = recognise(data, label)
    field = modality.arrays.get(key)
    if field is None and key != WHOLE:
        if kind not in ("npy", "json") or key in modality.scalars:
            raise RejectedUpload(
                f"{label}: modality {modality.name} has no such array. Its arrays are: {', '.join(modality.arrays)}.",
                NOT_TAKEN,
            )
        field = ArrayField(key)
    choice = _choice(kind, modality.arrays.values() if field is None else [field])
    if choice is None:
        usable = takes(modality.name).get(key, ())
        raise RejectedUpload(
            f"{label}: is {TITLES[kind]}, which cannot be this of modality {modality.name}. "
            f"Send one of: {', '.join(TITLES[one] for one in usable)}.",
            NOT_TAKEN,
        )
    reader, main = choice
    wanted = field if field is not None else None if reader.whole else main
    upload = Upload(data, kind, label, wanted, modality, scalars, sample, limits)
    try:
        return reader.read(upload)
    except MemoryError as error:
        raise RejectedUpload(f"{label}: takes more memory than it may. Send a smaller file.", TOO_LARGE) from error


def _merge(sample: dict[str, Any], fresh: Mapping[str, Any], source: str) -> None:
    """Take ``fresh`` into ``sample``; what is there already must be the same."""
    for name, value in fresh.items():
        _check_key(name)
        if name in sample and not _same(sample[name], value):
            raise RejectedUpload(
                f"field {name!r}: {source} says {shown(value)}, another part of the upload says {shown(sample[name])}. "
                "Send it once."
            )
        sample.setdefault(name, value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other)


def _checked(sample: Mapping[str, Any], modality: Modality, limits: Limits) -> dict[str, Any]:
    """The sample as the catalog would take it; its arrays together within the limits."""
    size = sum(value.nbytes for value in sample.values() if isinstance(value, np.ndarray))
    if size > limits.array_bytes:
        message = f"the arrays of the sample have {size} bytes, more than {limits.array_bytes}. Send a smaller sample."
        raise RejectedUpload(message, TOO_LARGE)
    for name, value in sample.items():
        declared = modality.arrays.get(name)
        if declared is not None and declared.dims == volumes.VOLUME and getattr(value, "size", 0) > limits.voxels:
            message = f"field {name!r}: has {value.size} voxels, more than {limits.voxels}. Send a part of it."
            raise RejectedUpload(message, TOO_LARGE)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers that no rule will let pass
            checked = check_sample(_declaration(modality.name), {"id": _NAME, **sample})
    except (InvalidSample, InvalidName, UnknownField) as error:
        raise RejectedUpload(str(error).removeprefix(_SAYS)) from error
    return {**checked.scalars, **checked.arrays}


@functools.cache
def _declaration(modality: str) -> Declaration:
    return Declaration(name=_NAME, modality_name=modality)


def only_arrays(files: Mapping[str, bytes]) -> bool:
    """Whether the files are plain NumPy arrays, of which so little is parsed that it may be done in the calling process."""
    return all(data.startswith(npy.MAGIC) for data in files.values())
