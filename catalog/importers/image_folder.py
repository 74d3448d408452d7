"""Folders of pictures: PNG, JPEG, TIFF, WebP, BMP, and GIF with a single frame.

``image`` is [H, W, C] of uint8 or uint16, turned as its EXIF orientation says. TIFF may also hold int16, float32 and
float64, which stay as they are; its integers of 32 bits become those of 16 that hold them, int8 becomes int16.
Palettes become RGB (RGBA where they have transparency), CMYK and other colour spaces RGB, grey with alpha RGBA, one-bit
pictures 0 and 255. 16-bit pictures keep their 16 bits. Files of several frames or pages are refused.

Masks in a folder ``masks`` or ``labels`` (see :mod:`._folders`) become ``mask`` or ``labels`` [H, W], with the file's
own values: the grey level, the index into the palette, or 0 and 255 for one bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.fields import Field
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _folders, _metadata, _tiff
from sensorium.catalog.importers._files import head, identifiers, number, once, probe, unreadable, visible
from sensorium.platform.errors import MissingDependency, UnreadableFile
from sensorium.platform.optional import require

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_PIXELS", "SUFFIXES", "as_mask", "as_picture", "decode", "importer", "is_picture", "size"]

Array = npt.NDArray[Any]

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".webp", ".bmp", ".gif"))
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM", b"GIF87a", b"GIF89a")
_RESERVED = ("image", "mask", "labels")
MAX_PIXELS = 500e6
_SPLIT = "Split it into files of one picture each."
_EXPORT = "Export it anew from its source, or leave it out."

#: Pillow's mode -> the mode to convert to first; what is not here is taken as it is
_CONVERSIONS = {
    **dict.fromkeys(("LA", "La", "PA", "RGBa"), "RGBA"),
    **dict.fromkeys(("CMYK", "YCbCr", "LAB", "HSV", "RGBX"), "RGB"),
}
#: EXIF orientation -> what to do with rows and columns [H, W, ...]
_TURNS: dict[int, Callable[[Array], Array]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258
#: Pillow's own limit is a global of the process; it is lifted for the moment of opening, and ours is checked instead
_opening = threading.Lock()


def is_picture(path: Path) -> float:
    start = head(path, 16)
    return float(start.startswith(_MAGIC) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP"))


def size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture as its header says, before it is turned; None where it is no picture."""
    try:
        with path.open("rb") as stream, _open(stream) as image:
            width, height = image.size
    except Exception:  # noqa: BLE001 - decoders raise whatever comes to their mind on broken files
        return None
    return width, height


def _matches(source: Source) -> float:
    return probe(source, SUFFIXES, is_picture)


@once
def _pairs(source: Source) -> _folders.Pairs:
    return _folders.pair(source, visible(source, SUFFIXES))


@once
def _known(source: Source) -> _metadata.Known:
    return _metadata.of_files(source, _pairs(source).paths, _RESERVED)


def _plan(source: Source) -> Iterator[Item]:
    marks, scalars = _pairs(source).marks, _known(source).rows
    for path, name in identifiers(source, scalars).items():
        yield Item(name, (path, *_in_order(marks.get(path, {}))), scalars[path])


def _in_order(marks: Mapping[str, Path]) -> list[Path]:
    return [marks[kind] for kind in ("mask", "labels") if kind in marks]


def _fields(source: Source) -> tuple[Field, ...]:
    return _known(source).fields()


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    limit = number(options, "max_pixels", MAX_PIXELS)
    sample = {**item.scalars, "image": decode(item.paths[0], limit, as_picture)}
    for path in item.paths[1:]:
        sample[_folders.kind(path)] = decode(path, limit, as_mask)
    return sample


def decode(path: Path, limit: float, convert: Callable[[Image.Image, Path], Array]) -> Array:
    """Open, check the header, decode, ``convert`` to an array [H, W, ...] and turn it upright.

    Args:
        path: of the picture.
        limit: of height × width.
        convert: :func:`as_picture` or :func:`as_mask`.

    Raises:
        UnreadableFile: it cannot be decoded, or its header claims more than ``limit``.
    """
    header = _tiff.read_header(path)
    if header is not None and convert is as_picture and _is_measured(header):
        return _turned(_measured(path, header, limit), header.orientation)
    try:
        with path.open("rb") as stream, _open(stream) as image:
            _check_header(image, path, limit)
            array = convert(image, path)
            orientation = _orientation(image)  # after decoding: Pillow turns TIFF by itself then, and drops the mark
    except (UnreadableFile, MissingDependency):
        raise
    except Exception as error:  # decoders raise whatever comes to their mind on broken files
        raise unreadable(path, f"cannot be decoded ({type(error).__name__}: {_reason(error)})", _EXPORT) from error
    return _turned(array, orientation)


def _turned(array: Array, orientation: int) -> Array:
    turn = _TURNS.get(orientation)
    return np.ascontiguousarray(turn(array) if turn else array)


def _is_measured(header: _tiff.Header) -> bool:
    """Whether a TIFF file has values that Pillow refuses or misreads: signed, floats of other kinds, many bands."""
    return header.kind == 2 or (header.kind == 3 and (header.bits, header.bands) != (32, 1)) or header.bands > 4


def _measured(path: Path, header: _tiff.Header, limit: float) -> Array:
    """[H, W, C] of int16, uint16 or floats, as the file has them."""
    _check_size(path, header.width, header.height, limit)
    if header.bands not in (1, 3, 4):
        raise unreadable(path, f"has {header.bands} bands, not 1, 3 or 4", "Import it with --format geotiff.")
    with _tiff.opened(path) as scene:
        if len(scene.subdatasets) > 1:
            raise unreadable(path, f"holds {len(scene.subdatasets)} frames or pages (TIFF)", _SPLIT)
        array = scene.read().transpose(1, 2, 0)  # [C, H, W] -> [H, W, C]
    return array.astype(np.int16) if array.dtype == np.int8 else _plain(array, path)


def _open(stream: Any) -> Image.Image:
    from PIL import Image

    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(stream)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _reason(error: Exception) -> str:
    """What Pillow says, without the object it says it of (the file is named already)."""
    text = str(error)
    return "it is no picture of a known format" if text.startswith("cannot identify image file") else text


def _check_header(image: Image.Image, path: Path, limit: float) -> None:
    _check_size(path, *image.size, limit)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # the further pictures of an MPO are previews of the first
        raise unreadable(path, f"holds {frames} frames or pages ({image.format})", _SPLIT)


def _check_size(path: Path, width: int, height: int, limit: float) -> None:
    if width * height > limit:
        raise unreadable(
            path,
            f"its header claims {width} x {height} pixels, more than the limit of {limit / 1e6:g} megapixels",
            f"Tile it, or, if it is real, raise the limit with max_pixels={width * height}.",
        )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none."""
    return int(image.getexif().get(_ORIENTATION, 1))


def as_picture(image: Image.Image, path: Path) -> Array:
    """[H, W, C] of uint8, uint16 or float32."""
    if _is_deep_colour(image):
        return _deep_colour(path)
    mode = image.mode
    if mode == "P":
        mode = "RGBA" if "transparency" in image.info else "RGB"
    wanted = _CONVERSIONS.get(mode, mode)
    array = np.asarray(image if wanted == image.mode else image.convert(wanted))
    return _plain(array if array.ndim == 3 else array[..., np.newaxis], path)


def as_mask(image: Image.Image, path: Path) -> Array:
    """[H, W] of the grey levels or palette indices, uint8 or uint16."""
    if image.mode in ("LA", "PA"):
        image = image.getchannel(0)
    array = np.asarray(image)
    if array.ndim == 3 and image.mode in ("RGB", "RGBA"):
        if (array[..., :3] != array[..., :1]).any():
            raise unreadable(path, "is a mask in colour", "Save masks as grey or palette pictures.")
        array = array[..., 0]
    if array.ndim != 2 or array.dtype.kind == "f":
        raise unreadable(path, f"is a mask of mode {image.mode}", "Save masks as grey or palette pictures.")
    return _plain(array, path)


def _plain(array: Array, path: Path) -> Array:
    """``array`` in a dtype that pictures have: one bit as 0 and 255, 32-bit integers as the 16 bits that hold them."""
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iu" or array.dtype.itemsize == 1 or array.dtype == np.int16 or not array.size:
        return array
    low, high = int(array.min()), int(array.max())
    for kind in (np.uint16, np.int16):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    raise unreadable(path, "has integers of more than 16 bits", "Save it with 16 bits, or as 32-bit floats.")


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether the file has several channels of 16 bits, which Pillow cuts to 8 without a word."""
    if image.format == "PNG":
        return image.mode in ("LA", "RGB", "RGBA") and any(
            str(tile.args).endswith("16B") for tile in getattr(image, "tile", ())
        )
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, ())
    return isinstance(bits, tuple) and len(bits) > 1 and max(bits) > 8


def _deep_colour(path: Path) -> Array:
    cv2 = require("cv2", "read colour pictures with 16 bits per channel")
    array = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.ndim != 3 or array.dtype != np.uint16:
        raise unreadable(path, "its 16-bit colours cannot be decoded", "Save it as 16-bit PNG.")
    return np.asarray(array[..., [2, 1, 0, 3][: array.shape[2]]])  # OpenCV's BGR(A) -> RGB(A)


importer = Importer(
    name="image_folder",
    title="folder of pictures (PNG, JPEG, TIFF, WebP, BMP)",
    modality="image",
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "max_pixels": f"refuse pictures whose header claims more (default {MAX_PIXELS:.0f})",
        **_folders.MASK_OPTION,
        **_metadata.FILE_OPTIONS,
    },
)
