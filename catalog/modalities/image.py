"""Pictures: photographs, micrographs, single bands, with a mask or class labels where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.fields import ArrayField
from sensorium.catalog.modalities import _drawing, _sheets
from sensorium.catalog.modalities._declare import PIXELS, mark_field
from sensorium.catalog.modalities._writing import with_suffix, write_npz
from sensorium.catalog.modality import Modality
from sensorium.platform.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FIELDS", "modality", "preview", "write"]

FIELDS = (
    ArrayField(
        "image",
        "H W C",
        dtypes=PIXELS,
        required=True,
        sizes={"C": (1, 3, 4)},
        codec="none",
        description="grey, RGB or RGBA; integers use their full range, floats [0, 1] or a physical unit (not enforced)",
    ),
    mark_field("mask", "H W", "the object, where not 0"),
    mark_field("labels", "H W", "class index per pixel", boolean=False),
)


def preview(axes: Axes, sample: Mapping[str, Any]) -> None:
    """Draw the picture, its mask as an outline and its labels as colours."""
    _drawing.picture(axes, sample["image"], sample.get("mask"), sample.get("labels"))


def write(sample: Mapping[str, Any], path: Path) -> Path:
    """Write ``image`` to ``path`` + ``.png``; TIFF for one float32 band, NPZ for what neither holds.

    ``mask`` and ``labels`` go into the folders ``masks/`` and ``labels/`` beside it under the same name, where the
    importer of image folders finds them; a boolean mask is written as 0 and 255.
    """
    for name, folder in (("mask", "masks"), ("labels", "labels")):
        values = sample.get(name)
        if values is not None:
            _write_picture(_as_written(np.asarray(values)), path.parent / folder / path.name, name)
    return _write_picture(np.asarray(sample["image"]), path, "image")


def _as_written(marks: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A mask [H, W] as [H, W, 1] in the smallest unsigned type that PNG has, unchanged where none holds it."""
    marks = marks[..., np.newaxis]
    if marks.dtype == bool:
        return marks.astype(np.uint8) * np.uint8(255)
    if marks.min() < 0 or marks.max() > 65535:
        return marks
    return marks.astype(np.uint8 if marks.max() <= 255 else np.uint16)


def _write_picture(image: npt.NDArray[Any], path: Path, name: str) -> Path:
    """Write ``image`` [H, W, C] in the first of PNG, TIFF and NPZ that keeps every value."""
    from PIL import Image

    flat = image[..., 0] if image.shape[2] == 1 else image
    if image.dtype == np.uint8 or (image.dtype == np.uint16 and flat.ndim == 2):
        target = with_suffix(path, ".png")
        Image.fromarray(np.ascontiguousarray(flat)).save(target)
    elif image.dtype == np.uint16:  # Pillow has no 16-bit colour
        cv2 = require("cv2", "write a colour picture with 16 bits per channel")
        order = [2, 1, 0, 3][: image.shape[2]]  # OpenCV's BGR(A)
        encoded = cv2.imencode(".png", np.ascontiguousarray(image[..., order]))[1]
        target = with_suffix(path, ".png")
        target.write_bytes(encoded.tobytes())
    elif image.dtype == np.float32 and flat.ndim == 2:
        target = with_suffix(path, ".tiff")
        Image.fromarray(np.ascontiguousarray(flat)).save(target)
    else:
        target = write_npz({name: image}, path)
    return target


modality = Modality(name="image", title="pictures", fields=FIELDS, preview=preview, sheet=_sheets.picture, export=write)
