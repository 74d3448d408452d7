"""What a sweep codes: samples of the catalog as RGB pictures of 8 bits, cut into tiles or frames where that is asked for.

A still is one picture. A video is its frames. The bands of a cube are treated as frames of grey, so that a codec that
predicts from frame to frame predicts from band to band.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sensorium.jobs.codecs import Picture
from sensorium.platform.errors import InvalidSample, InvalidSetting, UnreadableFile
from sensorium.platform.optional import require

__all__ = ["LAYOUTS", "WHOLE", "Extent", "pictures", "regions", "shape_of", "to_rgb8"]

#: by the dimensions of an array field: what its arrays are to a codec
LAYOUTS = {"H W C": "still", "H W": "still", "T H W C": "frames", "T H W": "frames", "H W L": "bands", "B": "stream"}


@dataclass(frozen=True)
class Extent:
    """The part of a sample that one cell codes.

    Attributes:
        region: (top, left, height, width) of a tile in pixels; None for whole pictures.
        first: the first frame or band.
        count: how many of them; 0 for a still.
    """

    region: tuple[int, int, int, int] | None = None
    first: int = 0
    count: int = 0

    @property
    def text(self) -> str:
        """For keys and rows, such as ``0,512,512,512`` or ``frames 8:16``; empty for a whole still."""
        parts = [] if self.region is None else [",".join(map(str, self.region))]
        if self.count:
            parts.append(f"frames {self.first}:{self.first + self.count}")
        return " ".join(parts)

    @classmethod
    def parse(cls, text: str) -> Extent:
        """The extent whose ``text`` this is.

        Raises:
            InvalidSetting: it is no such text.
        """
        match = re.fullmatch(r"(?:(\d+),(\d+),(\d+),(\d+))?\s?(?:frames (\d+):(\d+))?", text)
        if match is None:
            raise InvalidSetting(f"{text!r} is not the extent of a cell.")
        top, left, height, width, first, end = (int(part) if part else None for part in match.groups())
        region = None if top is None or left is None or height is None or width is None else (top, left, height, width)
        return cls(region) if first is None or end is None else cls(region, first, end - first)


#: a still as it is
WHOLE = Extent()


def shape_of(layout: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and number of frames (0 for a still) of an array; of an encoded stream all are 0: it must be read."""
    if layout == "stream":
        return 0, 0, 0
    if layout == "frames":
        return shape[1], shape[2], shape[0]
    return shape[0], shape[1], shape[2] if layout == "bands" else 0


def regions(height: int, width: int, tile: int) -> Iterator[tuple[int, int, int, int] | None]:
    """Tiles of ``tile`` pixels a side, those at the right and at the bottom smaller; None, once, for ``tile`` 0."""
    if not tile or (height <= tile and width <= tile):
        yield None
        return
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            yield top, left, min(tile, height - top), min(tile, width - left)


def pictures(array: np.ndarray, layout: str, extent: Extent) -> list[Picture]:
    """The pictures of an extent, converted once for all codecs.

    Bands are scaled to 8 bits together, from the least to the greatest value of the whole cube, so that their ratios stay.

    Raises:
        InvalidSample: no picture that can be coded.
        UnreadableFile: an encoded stream is damaged.
        InvalidSetting: the frames asked for are not there.
    """
    if layout == "stream":
        array = _decoded(array, extent)
        extent = Extent(extent.region, 0, len(array))
    if layout == "bands":
        array = np.moveaxis(_scaled(array), 2, 0)[..., np.newaxis]
    frames = [array] if layout == "still" else list(array[extent.first : extent.first + extent.count])
    if not frames or (layout != "still" and len(frames) < extent.count):
        raise InvalidSetting(f"frames {extent.first} to {extent.first + extent.count} of {len(array)} are asked for.")
    if extent.region is not None:
        top, left, height, width = extent.region
        frames = [frame[top : top + height, left : left + width] for frame in frames]
    return [Picture.of(to_rgb8(frame)) for frame in frames]


def _decoded(data: np.ndarray, extent: Extent) -> np.ndarray:
    """Frames [T, H, W, 3], RGB, uint8, of the file of a video."""
    av = require("av", "decode video")
    last = extent.first + extent.count
    found = []
    try:
        with av.open(io.BytesIO(data.tobytes())) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index >= last:
                    break
                if index >= extent.first:
                    found.append(frame.to_ndarray(format="rgb24"))
    except (av.FFmpegError, IndexError) as error:
        raise UnreadableFile(f"the video cannot be decoded: {error}.") from error
    if len(found) < extent.count:
        raise InvalidSetting(f"frames {extent.first} to {last} are asked for, and the video ends before.")
    return np.stack(found)


def _scaled(cube: np.ndarray) -> np.ndarray:
    """A cube [H, W, L] on 0 to 255."""
    low, high = float(np.nanmin(cube)), float(np.nanmax(cube))
    if not (np.isfinite(low) and np.isfinite(high)) or np.isnan(cube).any():
        raise InvalidSample("a cube to code must have finite values only. Mask or fill the others first.")
    span = max(high - low, np.finfo(np.float64).tiny)
    return np.rint((cube.astype(np.float64) - low) * (255 / span)).astype(np.uint8)


def to_rgb8(image: np.ndarray) -> np.ndarray:
    """An image of the catalog as codecs take it: [H, W, 3], RGB, uint8, contiguous.

    * samples: uint8 as they are; uint16 divided by 257 and rounded (65535 to 255); floating point, in [0, 1], times 255
      and rounded;
    * channels: grey ([H, W] or [H, W, 1]) is repeated; RGBA is laid over black, so that what no viewer would show does
      not cost bits.

    Raises:
        InvalidSample: anything else, and floating-point samples outside [0, 1].
    """
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.size == 0:
        raise InvalidSample(f"an image to code must be grey, RGB or RGBA and not empty; got shape {image.shape}.")
    samples = _to_8_bits(image)
    channels = samples.shape[2]
    if channels == 1:
        samples = np.repeat(samples, 3, axis=2)
    elif channels == 4:
        covered = samples[..., :3].astype(np.uint16) * samples[..., 3:]
        samples = ((covered + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(samples)


def _to_8_bits(samples: np.ndarray) -> np.ndarray:
    if samples.dtype == np.uint8:
        return samples
    if samples.dtype == np.uint16:
        return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if samples.dtype.kind == "f":
        if not (samples.min() >= 0 and samples.max() <= 1):  # so written, NaN is refused too
            raise InvalidSample(
                f"floating-point images must lie in [0, 1]; got {samples.min()} to {samples.max()}. Scale them first."
            )
        return np.rint(samples.astype(np.float64) * 255).astype(np.uint8)
    raise InvalidSample(
        f"an image to code must be uint8, uint16 or floating point; got {samples.dtype}. Convert it first."
    )
