"""An array of a sample as the bytes of a usual file, without loss: PNG, WAV, a video's own stream, else NPY."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.platform.optional import require

__all__ = ["encoded", "file_name"]

#: dtype -> how a WAV file holds it
_SUBTYPES = {"int16": "PCM_16", "int32": "PCM_32", "float32": "FLOAT", "float64": "DOUBLE"}
_LONGEST_NAME = 200


def encoded(name: str, array: npt.NDArray[Any], sample: Mapping[str, Any]) -> tuple[str, bytes]:
    """The suffix and the content of the file that holds ``array``, the field ``name`` of ``sample``."""
    if name == "encoded" and array.dtype == np.uint8 and array.ndim == 1:
        return _stream_suffix(array), array.tobytes()
    if name in ("image", "before", "after", "mask", "labels", "change") and _fits_png(array):
        return "png", _png(array)
    rate = sample.get("sampling_rate")
    if name == "audio" and rate is not None and float(rate).is_integer() and array.dtype.name in _SUBTYPES:
        return "wav", _wav(array, int(rate))
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return "npy", file.getvalue()


def _fits_png(array: npt.NDArray[Any]) -> bool:
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1):
        return array.dtype in (np.uint8, np.uint16)
    return array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8


def _png(array: npt.NDArray[Any]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    Image.fromarray(np.ascontiguousarray(flat)).save(file, "PNG")
    return file.getvalue()


def _wav(array: npt.NDArray[Any], rate: int) -> bytes:
    soundfile = require("soundfile", "write WAV files")
    file = io.BytesIO()
    soundfile.write(file, array.T, rate, subtype=_SUBTYPES[array.dtype.name], format="WAV")
    return file.getvalue()


def _stream_suffix(array: npt.NDArray[Any]) -> str:
    start = array[:16].tobytes()
    if start[4:8] == b"ftyp":
        return "mp4"
    if start[:4] == b"\x1a\x45\xdf\xa3":
        return "mkv"
    return "avi" if start[:4] == b"RIFF" else "bin"


def file_name(identifier: str, taken: set[str]) -> str:
    """A name for a sample's files from its id: without dots and folders, and that of no other; it is added to ``taken``."""
    base = (
        "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in identifier)[:_LONGEST_NAME] or "_"
    )
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    return name
