"""Pictures: as importers of picture folders read them, and TIFF of many bands."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.importers import image_folder
from sensorium.platform.optional import require
from sensorium.serve.uploads._upload import Upload, on_disk, target, too_large
from sensorium.serve.uploads.errors import TOO_LARGE, RejectedUpload

__all__ = ["BANDS", "MARK", "PICTURE", "read_bands", "read_picture"]

#: dims of the fields that a picture can be
PICTURE, MARK, BANDS = "H W C", "H W", "H W L"
_SMALLER = "Send a smaller picture, or tiles of it."


def read_picture(upload: Upload) -> dict[str, Any]:
    """``{field: [H, W, C]}`` of uint8, uint16 or float32, turned as its EXIF orientation says; [H, W] for a mark.

    Palettes, CMYK and alpha as :mod:`sensorium.catalog.importers.image_folder` says. For an image field alpha is kept.

    Raises:
        RejectedUpload: 413 too many pixels, 422 damaged, or of several frames.
    """
    field = target(upload)
    _check_size(upload)
    convert = image_folder.as_mask if field.dims == MARK else image_folder.as_picture
    with on_disk(upload, f".{upload.kind}") as path:
        return {field.name: image_folder.decode(path, upload.limits.pixels, convert)}


def _check_size(upload: Upload) -> None:
    """Compare the header with the limits; only the one reader that the content names looks at it."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's own limit of pixels; ours follows
            with Image.open(io.BytesIO(upload.data), formats=(upload.kind.upper(),)) as image:
                (width, height), bands = image.size, len(image.getbands())
    except Image.DecompressionBombError as error:
        message = f"{upload.label}: its header claims far more than {upload.limits.pixels} pixels. {_SMALLER}"
        raise RejectedUpload(message, TOO_LARGE) from error
    except Exception as error:  # decoders raise whatever comes to their mind on broken files
        raise RejectedUpload(
            f"{upload.label}: cannot be decoded as {upload.kind.upper()} ({type(error).__name__}). Export it anew."
        ) from error
    pixels = width * height
    if pixels > upload.limits.pixels:
        raise too_large(upload, f"pixels ({width} x {height})", pixels, upload.limits.pixels, _SMALLER)
    if pixels * bands > upload.limits.array_bytes:
        raise too_large(upload, "bytes", pixels * bands, upload.limits.array_bytes, _SMALLER)


def read_bands(upload: Upload) -> dict[str, Any]:
    """``{field: [H, W, L]}`` of a TIFF whose bands are samples of a pixel, or pages (or planes) of equal size.

    Raises:
        RejectedUpload: 413 too large, 422 damaged, or of other axes.
    """
    tifffile = require("tifffile", "read TIFF of many bands")
    field = target(upload)
    try:
        with tifffile.TiffFile(io.BytesIO(upload.data)) as file:
            _check_bands(upload, file)
            series = file.series[0]
            axes, cube = str(series.axes), np.asarray(series.asarray())
    except (RejectedUpload, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever comes to their mind on broken files
        raise RejectedUpload(
            f"{upload.label}: cannot be decoded as TIFF ({type(error).__name__}). Save it uncompressed or deflated."
        ) from error
    return {field.name: _bands_last(upload, axes, cube)}


def _check_bands(upload: Upload, file: Any) -> None:
    pages = len(file.pages)
    if pages > upload.limits.members:
        raise too_large(upload, "pages", pages, upload.limits.members, "Send fewer bands.")
    shape, kind = tuple(int(side) for side in file.series[0].shape), file.series[0].dtype
    if kind is None or kind.kind not in "biuf":
        raise RejectedUpload(f"{upload.label}: holds values of type {kind}. Save it with integers or floats.")
    size = math.prod(shape) * kind.itemsize
    if size > upload.limits.array_bytes:
        raise too_large(upload, f"bytes (shape {list(shape)})", size, upload.limits.array_bytes, "Send a part of it.")


def _bands_last(upload: Upload, axes: str, cube: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[H, W, L] of an array whose axes have letters: Y and X, and one more for the bands."""
    if len(axes) != cube.ndim:
        raise RejectedUpload(f"{upload.label}: has axes {axes} of lengths {list(cube.shape)}. Save one cube.")
    letters = "".join(letter for letter, length in zip(axes, cube.shape, strict=True) if length > 1 or letter in "YX")
    cube = cube.reshape([length for letter, length in zip(axes, cube.shape, strict=True) if letter in letters])
    if not {"Y", "X"} <= set(letters) or cube.ndim not in (2, 3):
        raise RejectedUpload(
            f"{upload.label}: has axes {axes} of lengths {list(cube.shape)}, not height, width and bands. Save one cube."
        )
    if cube.ndim == 2:
        return cube[..., np.newaxis]
    band = next(place for place, letter in enumerate(letters) if letter not in "YX")
    return np.ascontiguousarray(np.moveaxis(cube, band, -1))
