"""Numbers written out: JSON for scalars and small arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.fields import ArrayField
from sensorium.catalog.modality import Modality
from sensorium.serve.uploads._upload import Upload
from sensorium.serve.uploads.errors import TOO_LARGE, RejectedUpload, shown

__all__ = ["check_depth", "fields_of", "read_json"]

#: an object of lists of as many axes as arrays have anywhere
_DEEPEST = 12
_DTYPES = ("bool", "uint8", "int16", "int32", "int64", "float32", "float64")


def read_json(upload: Upload) -> dict[str, Any]:
    """An object whose keys are fields, or the value of one field: numbers, text, lists; nested lists become arrays.

    Raises:
        RejectedUpload: 413 too long, 422 no JSON, a key that comes twice, or lists that make no array.
    """
    if len(upload.data) > upload.limits.json_bytes:
        raise RejectedUpload(
            f"{upload.label}: has {len(upload.data)} bytes of JSON, more than {upload.limits.json_bytes}. "
            "Send large arrays as .npy or .npz.",
            TOO_LARGE,
        )
    try:
        content = json.loads(upload.data.decode("utf-8-sig"), object_pairs_hook=_once)
    except RejectedUpload as error:
        raise RejectedUpload(f"{upload.label}: {error}") from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are among them
        raise RejectedUpload(f"{upload.label}: is no JSON ({shown(str(error), 100)}). Mend it.") from error
    check_depth(content, upload.label)
    if upload.field is not None:
        return fields_of({upload.field.name: content}, upload.modality)
    if not isinstance(content, dict):
        raise RejectedUpload(
            f"{upload.label}: is a JSON {type(content).__name__}. Send an object whose keys are fields."
        )
    return fields_of(content, upload.modality)


def check_depth(content: Any, label: str) -> None:
    """Refuse lists within lists beyond reason, on which parsers further on might run out of stack.

    Raises:
        RejectedUpload: 422.
    """
    level = [content]
    for _ in range(_DEEPEST):
        level = [
            inner
            for value in level
            if isinstance(value, (list, dict))
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise RejectedUpload(f"{label}: is nested more than {_DEEPEST} deep. Send plain lists.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise RejectedUpload("a key of its JSON comes twice. Send each field once.")
    return content


def fields_of(content: Mapping[str, Any], modality: Modality) -> dict[str, Any]:
    """``content`` with the lists of array fields as arrays: those that the modality declares, in a type that it allows.

    Whole numbers take the first allowed type that holds them; others the first float, to which they are rounded.

    Raises:
        RejectedUpload: 422, lists of unequal lengths, or of something else than numbers.
    """
    return {
        name: _as_array(name, value, modality.arrays[name])
        if name in modality.arrays and isinstance(value, (list, int, float))
        else value
        for name, value in content.items()
    }


def _as_array(name: str, value: Any, field: ArrayField) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise RejectedUpload(f"field {name!r}: its lists have unequal lengths. Send an array.") from error
    if array.dtype.kind not in "biuf":
        raise RejectedUpload(f"field {name!r}: its lists hold something else than numbers. Send numbers.")
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit becomes infinite, which is refused later on
        if array.dtype.kind == "f":
            return array.astype(next((kind for kind in field.dtypes if kind.startswith("float")), "float64"))
        for kind in field.dtypes or _DTYPES:
            converted: npt.NDArray[Any] = array.astype(kind)
            if np.array_equal(converted, array):
                return converted
    return array
